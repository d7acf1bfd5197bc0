//! How much was written since when, for whoever bounds the history: which revision to compact at, so that the records
//! after it have at most so many octets.
//!
//! ```text
//! revision   2    3     4 ...  900     noted:  (2, 100 kB)  (3, 200 kB)  ...
//! octets   100k  100k  100k    100k    at most 1 MB after it: compact at 890
//! ```
//!
//! Every member counts for itself, from what lies there when it is opened; nothing of it is written.

use std::collections::VecDeque;

/// Octets between two revisions that are noted: what the answer may be off by.
const STEP: u64 = 64 * 1024;
/// What a record takes beside its key and value, where it lies.
const RECORD_OVERHEAD: u64 = 56;

/// The octets of records, by revision.
#[derive(Debug, Default)]
pub(crate) struct Written {
    all: u64,
    /// Revisions, each with the octets of all up to it.
    noted: VecDeque<(i64, u64)>,
}

impl Written {
    /// A record was written at a revision that is none before.
    pub(crate) fn add(&mut self, revision: i64, key: &[u8], value: &[u8]) {
        self.all += (key.len() + value.len()) as u64 + RECORD_OVERHEAD;
        match self.noted.back_mut() {
            Some((noted, all)) if *noted == revision => *all = self.all,
            Some((_, all)) if *all + STEP > self.all => {}
            _ => self.noted.push_back((revision, self.all)),
        }
    }

    /// What was written up to a revision is of no interest any more.
    pub(crate) fn forget(&mut self, compacted: i64) {
        while self
            .noted
            .get(1)
            .is_some_and(|(revision, _)| *revision <= compacted)
        {
            self.noted.pop_front();
        }
    }

    /// Octets of the records after `compacted`.
    pub(crate) fn since(&self, compacted: i64) -> u64 {
        let after = self.noted.partition_point(|(revision, _)| *revision <= compacted);
        let before = after.checked_sub(1).and_then(|at| self.noted.get(at));
        self.all - before.map_or(0, |(_, all)| *all)
    }

    /// The lowest revision noted after which there are at most `most` octets.
    pub(crate) fn leaving(&self, most: u64) -> Option<i64> {
        let at = self.noted.partition_point(|(_, all)| self.all - all > most);
        self.noted.get(at).map(|(revision, _)| *revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: u64 = 100_000 + 1 + RECORD_OVERHEAD;

    fn written(revisions: std::ops::RangeInclusive<i64>) -> Written {
        let mut written = Written::default();
        for revision in revisions {
            written.add(revision, b"k", &[0; 100_000]);
        }
        written
    }

    #[test]
    fn what_lies_after_a_revision_is_counted() {
        let mut written = written(2..=101);
        assert_eq!(written.since(0), 100 * LARGE);
        assert_eq!(written.since(51), 50 * LARGE);
        assert_eq!(written.leaving(10 * LARGE), Some(91));
        assert_eq!(written.leaving(0), Some(101));
        written.forget(91);
        assert_eq!(written.since(91), 10 * LARGE);
        assert_eq!(written.leaving(u64::MAX), Some(91));
    }

    #[test]
    fn small_records_are_noted_together() {
        let mut written = Written::default();
        for revision in 2..100_002 {
            written.add(revision, b"key", b"value");
        }
        assert!(written.noted.len() < 150, "{} are noted", written.noted.len());
        let half = written.since(50_001);
        let each = 8 + RECORD_OVERHEAD;
        assert!((50_000 * each..50_000 * each + STEP).contains(&half), "{half}");
        let cut = written.leaving(half).unwrap();
        assert!((49_000..52_000).contains(&cut), "{cut}");
    }
}
