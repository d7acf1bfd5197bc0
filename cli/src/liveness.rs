//! Whether an agent that says nothing is there: it is asked (PING), and lost when it does not answer.
//!
//! ```text
//! something came   3 s of silence: ask   7 s more: lost
//! ```
//!
//! Time in which this process itself did not run, or did not read, says nothing of the agent.

use std::time::Duration;

use tokio::time::Instant;

/// An agent that has said nothing for so long is asked whether it is there.
pub const ASKED_AFTER: Duration = Duration::from_secs(3);

/// One that does not say so by then is given up: a machine under load takes less.
pub const THERE_WITHIN: Duration = Duration::from_secs(7);

/// Who looks so much later than it wanted to was stopped, or had no processor.
const LATE_MAX: Duration = Duration::from_secs(1);

/// What is to be done about an agent.
#[derive(Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing: it is there.
    There,
    /// Ask it.
    Ask,
    /// Give it up.
    Lost,
}

/// What is known of an agent whose messages come by themselves.
pub struct Liveness {
    /// Octets that had come from it at the last look.
    heard: u64,
    due: Instant,
    is_asked: bool,
}

impl Liveness {
    /// It has just been there.
    pub fn new(now: Instant) -> Liveness {
        Liveness {
            heard: 0,
            due: now + ASKED_AFTER,
            is_asked: false,
        }
    }

    /// When to look.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Looks, with the octets that have come so far; `is_read`: what comes is read.
    pub fn look(&mut self, heard: u64, is_read: bool, now: Instant) -> Look {
        let is_late = now.saturating_duration_since(self.due) > LATE_MAX;
        let is_there = std::mem::replace(&mut self.heard, heard) != heard || is_late || !is_read;
        match (is_there, self.is_asked) {
            (true, _) => {
                (self.due, self.is_asked) = (now + ASKED_AFTER, false);
                Look::There
            }
            (false, false) => {
                (self.due, self.is_asked) = (now + THERE_WITHIN, true);
                Look::Ask
            }
            (false, true) => Look::Lost,
        }
    }
}

/// What is said of one that is lost.
pub fn silence() -> String {
    format!(
        "it has said nothing for {} s",
        (ASKED_AFTER + THERE_WITHIN).as_secs()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_does_not_say_that_it_is_there_is_lost() {
        let mut liveness = Liveness::new(Instant::now());
        let at = liveness.due();
        assert_eq!(liveness.look(7, true, at), Look::There, "it said something");
        let at = liveness.due();
        assert_eq!(liveness.look(7, true, at), Look::Ask);
        assert_eq!(liveness.due(), at + THERE_WITHIN);
        let at = liveness.due();
        assert_eq!(liveness.look(9, true, at), Look::There, "it answered");
        let at = liveness.due();
        assert_eq!(liveness.look(9, true, at), Look::Ask);
        assert_eq!(liveness.look(9, true, liveness.due()), Look::Lost);
    }

    #[test]
    fn time_in_which_nobody_could_hear_it_does_not_count() {
        let mut liveness = Liveness::new(Instant::now());
        liveness.look(1, true, liveness.due());
        assert_eq!(liveness.look(1, true, liveness.due()), Look::Ask);
        let late = liveness.due() + 2 * LATE_MAX;
        assert_eq!(
            liveness.look(1, true, late),
            Look::There,
            "this process was stopped"
        );
        assert_eq!(liveness.look(1, true, liveness.due()), Look::Ask);
        assert_eq!(
            liveness.look(1, false, liveness.due()),
            Look::There,
            "it was not read"
        );
    }
}
