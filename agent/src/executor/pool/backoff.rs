//! When a replica that did not start, or did not live, is tried again. Pure.
//!
//! ```text
//! fails at 0 s       why, again at 1 s        lives for 60 s, then ends    again at once
//! fails at 1 s       again at 3 s             lives for 5 s, then ends     counts as one that failed
//! fails at 3 s ...   again at 7 s, 15 s, ... then every 60 s
//! lives since 8 s    at 68 s forgotten: what comes then fails for the first time
//! ```
//!
//! Always: (1) the first rest is 1 s, each further one twice as long, none over 60 s; (2) as long as anything failed, one is
//! tried at a time.

use std::time::Duration;

use tokio::time::Instant;

/// The first rest.
const REST_MIN: Duration = Duration::from_secs(1);
/// The longest: what is repaired is found within a minute.
const REST_MAX: Duration = Duration::from_secs(60);
/// A replica that lived for so long was a good one, whatever ended it.
pub(super) const STEADY: Duration = Duration::from_secs(60);
/// Bytes of a reason that are kept: it goes to every node each second.
const WHY_MAX: usize = 200;

/// What failed, and when it is tried again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Backoff {
    /// Failures, one after another.
    failures: u32,
    why: String,
    /// When the last one was.
    last: Option<Instant>,
    next: Option<Instant>,
}

impl Backoff {
    /// A replica did not start, or ended.
    pub(super) fn failed(&mut self, now: Instant, why: &str) {
        // More doublings than that end at the longest rest anyway.
        let doublings = self.failures.min(16);
        self.failures = self.failures.saturating_add(1);
        self.last = Some(now);
        self.next = Some(now + (REST_MIN * (1 << doublings)).min(REST_MAX));
        why[..why.floor_char_boundary(WHY_MAX)].clone_into(&mut self.why);
    }

    /// A replica that had been ready for so long ended by itself.
    pub(super) fn ended(&mut self, now: Instant, lived: Duration, why: &str) {
        match lived < STEADY {
            true => self.failed(now, why),
            false => *self = Backoff::default(),
        }
    }

    /// A replica has been ready since then: one that came after the last failure, and has lived for long, was worth the
    /// tries before it.
    pub(super) fn lives(&mut self, now: Instant, ready_since: Instant) {
        let is_later = self.last.is_some_and(|last| ready_since >= last);
        if is_later && now.saturating_duration_since(ready_since) >= STEADY {
            *self = Backoff::default();
        }
    }

    /// How many may be tried now beside `starting` others.
    pub(super) fn may_start(&self, now: Instant, starting: u32) -> u32 {
        match self.next {
            None => u32::MAX,
            Some(next) if next <= now => 1_u32.saturating_sub(starting),
            Some(_) => 0,
        }
    }

    /// How often, why, and when it is tried again; `None` where nothing failed.
    pub(super) fn told(&self) -> Option<(u32, &str, Instant)> {
        let next = self.next?;
        Some((self.failures, &self.why, next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_double_from_a_second_to_a_minute() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        assert_eq!(backoff.may_start(now, 0), u32::MAX);
        let rests = [1, 2, 4, 8, 16, 32, 60, 60];
        for (count, rest) in rests.into_iter().enumerate() {
            backoff.failed(now, "no room");
            let (failures, why, next) = backoff.told().unwrap();
            assert_eq!((failures as usize, why), (count + 1, "no room"));
            assert_eq!(next, now + Duration::from_secs(rest));
        }
        (0..100).for_each(|_| backoff.failed(now, "no room"));
        assert_eq!(backoff.told().unwrap().2, now + REST_MAX);
    }

    #[test]
    fn one_is_tried_at_a_time_as_long_as_anything_failed() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        backoff.failed(now, "no room");
        assert_eq!(backoff.may_start(now, 0), 0);
        let next = now + REST_MIN;
        assert_eq!((backoff.may_start(next, 0), backoff.may_start(next, 1)), (1, 0));
    }

    #[test]
    fn only_one_that_ends_soon_has_failed() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        backoff.ended(now, Duration::from_secs(59), "killed");
        assert_eq!(backoff.told().map(|told| told.0), Some(1));
        backoff.ended(now, STEADY, "killed");
        assert_eq!(backoff.told(), None);
    }

    #[test]
    fn failures_are_forgotten_when_one_that_came_after_them_has_lived() {
        let begun = Instant::now();
        let failed = begun + Duration::from_secs(5);
        let mut backoff = Backoff::default();
        backoff.failed(failed, "no room");
        backoff.lives(begun + 10 * STEADY, begun);
        assert!(backoff.told().is_some(), "that one lived before");
        let ready = failed + REST_MIN;
        backoff.lives(ready + STEADY - Duration::from_millis(1), ready);
        assert!(backoff.told().is_some(), "not for long");
        backoff.lives(ready + STEADY, ready);
        assert_eq!(backoff, Backoff::default());
    }

    #[test]
    fn a_long_reason_is_cut_between_letters() {
        let mut backoff = Backoff::default();
        backoff.failed(Instant::now(), &"ä".repeat(500));
        assert_eq!(backoff.told().unwrap().1, "ä".repeat(WHY_MAX / 2));
    }
}
