//! Reading the history: what a watch that is behind has missed, a piece at a time.

use super::{Inner, State};
use crate::mvcc::{self, Record, Revision, Scope};
use crate::{Error, Event};

/// Records looked through for a watcher before others may have the thread.
const HISTORY_RECORDS: usize = 4096;
/// Octets of events read for a watcher at once.
const HISTORY_BYTES: usize = 1024 * 1024;

/// A piece of history.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) events: Vec<Event>,
    /// All revisions below this one have been looked through.
    pub(super) next: i64,
}

impl State {
    /// The changes of a scope from revision `from` on, a piece of them.
    pub(super) fn history(&self, scope: &Scope, from: i64) -> Result<History, Error> {
        let (memtable, revision) = {
            let inner = self.read();
            inner.check_history(from)?;
            (inner.memtable()?, inner.database.revision)
        };
        let mut history = History {
            next: from.max(1),
            ..History::default()
        };
        let mut found = Vec::new();
        let (mut looked_at, mut bytes) = (0, 0);
        let mut is_all = true;
        for item in memtable.records(Revision::first_of(from), revision)? {
            let (place, record) = item?;
            let is_enough =
                looked_at >= crate::limit!("history_records", HISTORY_RECORDS) || bytes >= HISTORY_BYTES;
            // A revision is never split.
            if is_enough && place.main > history.next {
                history.next = place.main;
                is_all = false;
                break;
            }
            history.next = place.main;
            looked_at += 1;
            if scope.contains(&record.key) {
                bytes += record.value.len() + record.key.len();
                found.push((place, record));
            }
        }
        if is_all {
            history.next = history.next.max(revision + 1);
        }
        // Nothing is applied while this is held: what was before is looked up under it, and fetched without.
        let before: Vec<Option<Revision>> = {
            let inner = self.read();
            let before = |(place, record): &(Revision, Record)| inner.database.before(&record.key, *place);
            found.iter().map(before).collect()
        };
        for ((place, record), before) in found.into_iter().zip(before) {
            let prev = mvcc::previous(before, &*memtable)?;
            history.events.push(record.into_event(place.main, prev));
        }
        // A compaction meanwhile may have removed what this should have found.
        self.read().check_history(from)?;
        Ok(history)
    }
}

impl Inner {
    fn check_history(&self, from: i64) -> Result<(), Error> {
        match self.database.compacted {
            compacted if from < compacted => Err(Error::Compacted { revision: compacted }),
            _ => Ok(()),
        }
    }
}
