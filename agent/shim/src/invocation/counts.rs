//! How many bytes went through a stage so far, for those who watch a run.
//!
//! Looked at once a second, said the first time and where something changed. It has no timer of its own: a stage that moves
//! bytes wakes the shim, and one that moves none is woken once a second to look at its folder.

use std::time::{Duration, Instant};

/// The first look: before the coordinator first shows the run, which is a second after it took it.
const FIRST: Duration = Duration::from_millis(800);
/// Time between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// What was said last, and when to look again.
pub struct Counts {
    due: Instant,
    said: Option<(u64, u64)>,
}

impl Counts {
    /// Begins a while from now: most invocations are over by then.
    pub fn new(now: Instant) -> Counts {
        Counts {
            due: now + FIRST,
            said: None,
        }
    }

    /// Bytes in and out, where it is time to say them and they have changed; they are counted no sooner.
    pub fn news(&mut self, now: Instant, count: impl FnOnce() -> (u64, u64)) -> Option<(u64, u64)> {
        if now < self.due {
            return None;
        }
        self.due = now + EVERY;
        let counts = count();
        (self.said.replace(counts) != Some(counts)).then_some(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_said_once_a_second_while_they_change() {
        let begun = Instant::now();
        let mut counts = Counts::new(begun);
        let at = |seconds: f64| begun + Duration::from_secs_f64(seconds);
        assert_eq!(counts.news(at(0.7), || unreachable!("too soon")), None);
        assert_eq!(counts.news(at(1.0), || (3, 5)), Some((3, 5)));
        assert_eq!(counts.news(at(1.9), || unreachable!("too soon")), None);
        assert_eq!(counts.news(at(2.0), || (3, 5)), None, "nothing changed");
        assert_eq!(counts.news(at(3.0), || (3, 9)), Some((3, 9)));
    }

    #[test]
    fn that_nothing_went_through_is_said_too() {
        let begun = Instant::now();
        let mut counts = Counts::new(begun);
        let at = |seconds: f64| begun + Duration::from_secs_f64(seconds);
        assert_eq!(counts.news(at(1.0), || (0, 0)), Some((0, 0)));
        assert_eq!(counts.news(at(2.0), || (0, 0)), None, "nothing changed");
    }
}
