//! Compaction: forgetting what nobody may read any more.
//!
//! After a compaction at revision C, every revision from C on reads as before. So of each key the last write up to C
//! stays, unless that is a deletion older than C: a deletion at C itself stays, since a watch from C must tell it.
//!
//! ```text
//! compact at 4:   a: (2,v1) (3,v2) (4,v0) (5,v1)  ->  (4,v0) (5,v1)
//! compact at 5:                                   ->  (5,v1)
//! ```

use super::database::Database;
use super::keyspace::{History, Keyspace};
use super::revision::Revision;
use crate::Error;

impl Database {
    /// Forgets the history before `revision`; gives the records that nobody can reach any more.
    pub(crate) fn compact(&mut self, revision: i64) -> Result<Vec<Revision>, Error> {
        if revision <= self.compacted {
            return Err(Error::Compacted {
                revision: self.compacted,
            });
        }
        if revision > self.revision {
            return Err(Error::FutureRevision);
        }
        self.compacted = revision;
        self.written.forget(revision);
        Ok(self.keys.compact(revision))
    }
}

impl Keyspace {
    /// Cuts every history back to what is reachable from `at` on; gives what was cut.
    pub(crate) fn compact(&mut self, at: i64) -> Vec<Revision> {
        let mut cut = Vec::new();
        self.retain(|history| compact_history(history, at, &mut cut));
        cut.sort_unstable();
        cut
    }
}

fn compact_history(history: &mut History, at: i64, cut: &mut Vec<Revision>) {
    let after = history.written.partition_point(|written| written.main <= at);
    let Some(last) = after.checked_sub(1) else { return };
    let kept = history.written[last];
    let is_spent = kept.version == 0 && kept.main < at;
    let from = if is_spent { after } else { last };
    if from == 0 {
        return;
    }
    let back = (kept.version as usize).saturating_sub(1);
    let create = if back > last {
        history.first_create
    } else {
        history.written[last - back].main
    };
    cut.extend(history.written.drain(..from).map(|written| written.revision()));
    history.written.shrink_to_fit();
    history.first_create = if is_spent {
        history.written.first().map_or(0, |next| next.main)
    } else {
        create
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_from_the_compacted_revision_on_stays_the_same() {
        let build = || {
            let mut keys = Keyspace::default();
            keys.put(b"a", Revision::first_of(2));
            keys.put(b"a", Revision::first_of(3));
            keys.delete(b"a", Revision::first_of(4));
            keys.put(b"a", Revision::first_of(5));
            keys.put(b"a", Revision::first_of(6));
            keys
        };
        for at in 2..=6 {
            let (whole, mut cut) = (build(), build());
            cut.compact(at);
            for main in at..=7 {
                assert_eq!(
                    whole.at(b"a", main),
                    cut.at(b"a", main),
                    "compacted at {at}, read at {main}"
                );
            }
        }
        let mut keys = build();
        assert_eq!(keys.compact(4), [Revision::first_of(2), Revision::first_of(3)]);
        assert_eq!(keys.compact(6), [Revision::first_of(4), Revision::first_of(5)]);
        assert_eq!(keys.put(b"a", Revision::first_of(7)), (5, 3));
    }
}
