//! Whether an agent that says nothing is there: it is asked (PING), and lost when it does not answer.
//!
//! ```text
//! something came   3 s of silence: ask   7 s more: lost; as long as the question itself is not taken, 60 s
//! ```
//!
//! Time in which this process itself did not run, or did not read, says nothing of the agent.

use std::time::Duration;

use tokio::time::Instant;

/// An agent that has said nothing for so long is asked whether it is there.
pub const ASKED_AFTER: Duration = Duration::from_secs(3);

/// One that does not say so by then is given up: a machine under load takes less.
pub const THERE_WITHIN: Duration = Duration::from_secs(7);

/// One that takes nothing, not even the question, may have no room for what comes before it. After so long it is given up too.
const TAKES_WITHIN: Duration = Duration::from_secs(60);

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
    /// Since when it owes an answer.
    asked: Option<Instant>,
}

impl Liveness {
    /// It has just been there.
    pub fn new(now: Instant) -> Liveness {
        Liveness {
            heard: 0,
            due: now + ASKED_AFTER,
            asked: None,
        }
    }

    /// When to look.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Looks, with the octets that have come so far; `is_read`: what comes is read. `is_taken`: it has taken what it was
    /// sent.
    pub fn look(&mut self, heard: u64, is_read: bool, is_taken: bool, now: Instant) -> Look {
        let is_late = now.saturating_duration_since(self.due) > LATE_MAX;
        let is_there = std::mem::replace(&mut self.heard, heard) != heard || is_late || !is_read;
        match self.asked {
            _ if is_there => {
                (self.due, self.asked) = (now + ASKED_AFTER, None);
                Look::There
            }
            None => {
                (self.due, self.asked) = (now + THERE_WITHIN, Some(now));
                Look::Ask
            }
            Some(asked) if !is_taken && now.saturating_duration_since(asked) < TAKES_WITHIN => {
                self.due = now + THERE_WITHIN;
                Look::There
            }
            Some(_) => Look::Lost,
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
        assert_eq!(liveness.look(7, true, true, at), Look::There, "it said something");
        let at = liveness.due();
        assert_eq!(liveness.look(7, true, true, at), Look::Ask);
        assert_eq!(liveness.due(), at + THERE_WITHIN);
        let at = liveness.due();
        assert_eq!(liveness.look(9, true, true, at), Look::There, "it answered");
        let at = liveness.due();
        assert_eq!(liveness.look(9, true, true, at), Look::Ask);
        assert_eq!(liveness.look(9, true, true, liveness.due()), Look::Lost);
    }

    #[test]
    fn time_in_which_nobody_could_hear_it_does_not_count() {
        let mut liveness = Liveness::new(Instant::now());
        liveness.look(1, true, true, liveness.due());
        assert_eq!(liveness.look(1, true, true, liveness.due()), Look::Ask);
        let late = liveness.due() + 2 * LATE_MAX;
        assert_eq!(
            liveness.look(1, true, true, late),
            Look::There,
            "this process was stopped"
        );
        assert_eq!(liveness.look(1, true, true, liveness.due()), Look::Ask);
        assert_eq!(
            liveness.look(1, false, true, liveness.due()),
            Look::There,
            "it was not read"
        );
    }

    #[test]
    fn one_that_cannot_take_the_question_has_longer() {
        let mut liveness = Liveness::new(Instant::now());
        liveness.look(1, true, true, liveness.due());
        assert_eq!(liveness.look(1, true, false, liveness.due()), Look::Ask);
        let asked = liveness.due() - THERE_WITHIN;
        while liveness.due() - asked < TAKES_WITHIN {
            assert_eq!(liveness.look(1, true, false, liveness.due()), Look::There);
        }
        assert_eq!(liveness.look(1, true, false, liveness.due()), Look::Lost);
    }
}
