//! How long to rest before another try: doubling from 50 ms, with a little chance, so that many do not try in step.

use std::time::Duration;

/// The first rest.
const REST_MIN: Duration = Duration::from_millis(50);

/// The longest, unless said otherwise: what is back is found within a second.
const REST_MAX: Duration = Duration::from_secs(1);

/// Rests that grow.
#[derive(Clone, Debug)]
pub struct Backoff {
    next: Duration,
    max: Duration,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff::up_to(REST_MAX)
    }
}

impl Backoff {
    /// Rests of at most `max`.
    pub fn up_to(max: Duration) -> Backoff {
        Backoff {
            next: REST_MIN.min(max),
            max,
        }
    }

    /// How long to rest now: between half and all of what it has grown to.
    pub fn step(&mut self) -> Duration {
        let rest = self.next.mul_f64(0.5 + 0.5 * rand::random::<f64>());
        self.next = (self.next * 2).min(self.max);
        rest
    }

    /// Rests. Dropped before its end, it has grown all the same.
    pub async fn rest(&mut self) {
        tokio::time::sleep(self.step()).await;
    }

    /// Begins anew: a try succeeded.
    pub fn reset(&mut self) {
        self.next = REST_MIN.min(self.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_grow_to_their_limit_and_begin_anew() {
        let mut backoff = Backoff::default();
        let rests: Vec<_> = (0..20).map(|_| backoff.step()).collect();
        assert!(rests[0] <= REST_MIN && rests[19] >= REST_MAX / 2);
        assert!(rests.iter().all(|rest| *rest <= REST_MAX));
        backoff.reset();
        assert!(backoff.step() <= REST_MIN);
    }
}
