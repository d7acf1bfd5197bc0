//! Users' sessions that hold much and move nothing. While the room of users' realms is used up they end, so that there is
//! room again for those who go on.
//!
//! ```text
//! used up -> a look every 5 s: who holds much is noted -> the next look: who has not moved ends
//! room    -> nobody looks, and nobody ends who only does not read
//! ```

use std::time::{Duration, Instant};

/// How often sessions are looked at.
const LOOKED_EVERY: Duration = Duration::from_secs(5);
/// So much has to leave from look to look, or a message that was begun has to be there: a very slow line's worth.
const MOVES_AT_LEAST: u64 = 64 << 10;

/// When it is looked next, and how often it was.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    next: Option<Instant>,
    number: u64,
}

impl Looks {
    /// When the next is due.
    pub fn next(&self) -> Option<Instant> {
        self.next
    }

    /// The number of the one that is due; a first is a while after room is short.
    pub fn due(&mut self, is_short: bool, now: Instant) -> Option<u64> {
        if !is_short {
            self.next = None;
            return None;
        }
        let is_due = *self.next.get_or_insert(now + LOOKED_EVERY) <= now;
        if is_due {
            self.next = Some(now + LOOKED_EVERY);
            self.number += 1;
        }
        is_due.then_some(self.number)
    }
}

/// What has moved of a connection that holds much, as a look found it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moved {
    /// Which look.
    pub look: u64,
    /// Octets written to it.
    pub written: u64,
    /// Messages that it sent.
    pub messages: u64,
}

impl Moved {
    /// Whether too little has moved since the look before this.
    pub fn is_stuck_since(&self, before: &Moved) -> bool {
        let is_next = self.look == before.look + 1;
        is_next && self.messages == before.messages && self.written - before.written < MOVES_AT_LEAST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_taken_while_room_is_short() {
        let (mut looks, begun) = (Looks::default(), Instant::now());
        let at = |seconds| begun + Duration::from_secs(seconds);
        let due: Vec<_> = [
            (0, false),
            (1, true),
            (5, true),
            (6, true),
            (10, true),
            (11, true),
            (12, false),
            (16, true),
        ]
        .into_iter()
        .filter(|(second, is_short)| looks.due(*is_short, at(*second)).is_some())
        .map(|(second, _)| second)
        .collect();
        assert_eq!((due, looks.next()), (vec![6, 11], Some(at(21))));
    }

    #[test]
    fn who_moves_slowly_is_not_stuck() {
        let moved = |look, written, messages| Moved {
            look,
            written,
            messages,
        };
        let before = moved(3, 100, 7);
        assert!(moved(4, 99 + MOVES_AT_LEAST, 7).is_stuck_since(&before));
        assert!(!moved(4, 100 + MOVES_AT_LEAST, 7).is_stuck_since(&before));
        assert!(!moved(4, 100, 8).is_stuck_since(&before));
        assert!(!moved(5, 100, 7).is_stuck_since(&before), "that was long ago");
    }
}
