//! The time in which the loop ran: by it others are judged.
//!
//! ```text
//! asleep until 4.0 s at the latest, awake at 11.2 s   ->   7.2 s in which this process got no processor
//! ```
//!
//! What others have sent meanwhile waits in the sockets, and was neither read nor answered: who would be judged by that time
//! is alive, and it is we who stood still. So it does not count.
//!
//! Not here: the time limits of calls, which are the caller's and counted by everybody's clock.

use std::time::{Duration, Instant};

/// A reading that comes so much later than it should says that the loop stood still: far more than a turn takes, far less
/// than anybody's patience.
const LATE: Duration = Duration::from_millis(250);

/// A year: stands for no limit.
const NEVER: Duration = Duration::from_secs(365 * 86_400);

/// The loop's clock.
#[derive(Debug)]
pub(crate) struct Clock {
    /// When the next reading is due at the latest.
    due: Instant,
    /// How long the loop stood still in all.
    stood: Duration,
}

impl Clock {
    /// One that begins to run.
    pub fn new(now: Instant) -> Clock {
        Clock {
            due: now,
            stood: Duration::ZERO,
        }
    }

    /// What it shows, at this moment of everybody's clock.
    pub fn read(&mut self, now: Instant) -> Instant {
        let late = now.saturating_duration_since(self.due);
        if late > LATE {
            self.stood += late;
        }
        self.due = now;
        now - self.stood
    }

    /// The loop will sleep for so long at the latest; `None`: as long as nobody is to be judged.
    pub fn sleep(&mut self, now: Instant, limit: Option<Duration>) {
        self.read(now);
        self.due = now + limit.unwrap_or(NEVER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_in_which_the_loop_stood_still_does_not_count() {
        let begun = Instant::now();
        let at = |milliseconds: u64| begun + Duration::from_millis(milliseconds);
        let mut clock = Clock::new(begun);
        clock.sleep(at(10), Some(Duration::from_secs(1)));
        assert_eq!(clock.read(at(1_020)), at(1_020), "it slept as long as it wanted");
        clock.sleep(at(1_030), Some(Duration::from_secs(1)));
        assert_eq!(clock.read(at(12_030)), at(2_030), "stopped while it slept");
        assert_eq!(
            clock.read(at(16_030)),
            at(2_030),
            "stopped in the middle of a turn"
        );
        clock.sleep(at(16_040), None);
        assert_eq!(
            clock.read(at(99_040)),
            at(85_040),
            "nobody to be judged: it may sleep"
        );
    }

    #[test]
    fn a_busy_turn_is_no_standstill() {
        let begun = Instant::now();
        let mut clock = Clock::new(begun);
        for turn in 1..100 {
            let now = begun + Duration::from_millis(200) * turn;
            assert_eq!(clock.read(now), now);
        }
    }
}
