//! What a keeper is going to look at, and when. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Digests of one kind that wait; where there are more, a walk finds the others.
const WAITING_MAX: usize = 10_000;
/// Rests between two tries to fetch, the first and the longest.
const REST: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));

/// One look at a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// When.
    pub due: Duration,
    /// Whatever rendezvous hashing says: whoever it names has had its time.
    pub is_anybodys: bool,
}

/// What waits.
#[derive(Debug, Default)]
pub struct Agenda {
    unnamed: Queue<bool>,
    /// Each with the rest after it has failed.
    missing: Queue<Duration>,
    has_overflowed: bool,
}

impl Agenda {
    /// Nothing may name it any more. Of two looks at one digest the earlier stays.
    pub fn unnamed(&mut self, digest: &str, look: Look) {
        self.has_overflowed |= !self.unnamed.push(digest, look.due, look.is_anybodys);
    }

    /// It is named, and does not lie here.
    pub fn missing(&mut self, digest: &str, now: Duration) {
        self.has_overflowed |= !self.missing.push(digest, now, REST.0);
    }

    /// It could not be fetched: it is tried again later.
    pub fn missing_still(&mut self, digest: &str, now: Duration, rest: Duration) {
        let next = (rest * 2).min(REST.1);
        self.has_overflowed |= !self.missing.push(digest, now + rest, next);
    }

    /// Takes one that is due to be looked at.
    pub fn next_unnamed(&mut self, now: Duration) -> Option<(String, Look)> {
        let (digest, due, is_anybodys) = self.unnamed.pop(now)?;
        Some((digest, Look { due, is_anybodys }))
    }

    /// Takes one that is due to be fetched, with the rest after a failure.
    pub fn next_missing(&mut self, now: Duration) -> Option<(String, Duration)> {
        let (digest, _, rest) = self.missing.pop(now)?;
        Some((digest, rest))
    }

    /// When the next look is due.
    pub fn unnamed_due(&self) -> Option<Duration> {
        self.unnamed.due()
    }

    /// When the next fetch is due.
    pub fn missing_due(&self) -> Option<Duration> {
        self.missing.due()
    }

    /// Whether some found no place since this was asked.
    pub fn take_overflow(&mut self) -> bool {
        std::mem::take(&mut self.has_overflowed)
    }
}

/// Digests, each once, in the order in which they are due.
#[derive(Debug)]
struct Queue<T> {
    order: BTreeSet<(Duration, String)>,
    waiting: BTreeMap<String, (Duration, T)>,
}

impl<T> Default for Queue<T> {
    fn default() -> Queue<T> {
        Queue {
            order: BTreeSet::new(),
            waiting: BTreeMap::new(),
        }
    }
}

impl<T> Queue<T> {
    /// Adds one, unless it is there and due earlier; false where there is no room.
    fn push(&mut self, digest: &str, due: Duration, with: T) -> bool {
        match self.waiting.get(digest) {
            Some((there, _)) if *there <= due => return true,
            Some((there, _)) => drop(self.order.remove(&(*there, digest.to_owned()))),
            None if self.waiting.len() >= WAITING_MAX => return false,
            None => {}
        }
        self.order.insert((due, digest.to_owned()));
        self.waiting.insert(digest.to_owned(), (due, with));
        true
    }

    fn pop(&mut self, now: Duration) -> Option<(String, Duration, T)> {
        self.due().filter(|due| *due <= now)?;
        let (_, digest) = self.order.pop_first()?;
        let (due, with) = self.waiting.remove(&digest)?;
        Some((digest, due, with))
    }

    fn due(&self) -> Option<Duration> {
        self.order.first().map(|(due, _)| *due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(seconds: u64) -> Look {
        Look {
            due: Duration::from_secs(seconds),
            is_anybodys: seconds > 5,
        }
    }

    #[test]
    fn what_is_due_is_looked_at_once_and_the_earliest_first() {
        let mut agenda = Agenda::default();
        agenda.unnamed("b", look(2));
        agenda.unnamed("a", look(3));
        agenda.unnamed("a", look(9));
        assert_eq!(agenda.unnamed_due(), Some(Duration::from_secs(2)));
        assert_eq!(agenda.next_unnamed(Duration::from_secs(1)), None);
        let now = Duration::from_secs(10);
        assert_eq!(agenda.next_unnamed(now), Some(("b".into(), look(2))));
        assert_eq!(agenda.next_unnamed(now), Some(("a".into(), look(3))));
        assert_eq!(agenda.next_unnamed(now), None);
    }

    #[test]
    fn what_cannot_be_fetched_is_tried_after_growing_rests() {
        let mut agenda = Agenda::default();
        let mut now = Duration::ZERO;
        agenda.missing("a", now);
        let mut rests = Vec::new();
        for _ in 0..12 {
            let (digest, rest) = agenda.next_missing(now).unwrap();
            agenda.missing_still(&digest, now, rest);
            assert_eq!(agenda.next_missing(now), None);
            rests.push(rest);
            now = agenda.missing_due().unwrap();
        }
        assert!(rests.is_sorted());
        assert_eq!((rests[0], rests[11]), REST);
    }

    #[test]
    fn what_finds_no_place_is_told() {
        let mut agenda = Agenda::default();
        for number in 0..=WAITING_MAX {
            agenda.unnamed(&number.to_string(), look(1));
        }
        assert!(agenda.take_overflow());
        assert!(!agenda.take_overflow());
    }
}
