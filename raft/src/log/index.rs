//! Where each entry lies, and the newest entries themselves; what the owner, the readers and the writer share.

use crate::fs::File;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use openraft::entry::RaftEntry as _;
use tokio::sync::watch;

use crate::type_config::{Entry, LogId, Vote};

/// Bytes of entries held in memory, for replication and applying: a second or so of writes at full speed. An older
/// entry is read from its file.
pub(super) const CACHE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Octets of entries after which whoever bounds the log looks at it.
pub(super) const GROWTH: u64 = 1024 * 1024;
/// What an entry takes in memory beside its own bytes, for the cache's account.
const ENTRY_OVERHEAD: usize = 96;

/// Where the entries lie; shared by the owner, the readers and the writer.
pub(super) struct Index {
    inner: Mutex<Inner>,
    /// Told whenever more is on disk, and at the end.
    written: Condvar,
    /// Told with each [`GROWTH`] or so that was written.
    grown: watch::Sender<()>,
}

/// What the index guards, for lines at a time.
#[derive(Default)]
pub(super) struct Inner {
    /// The index of the first slot.
    first: u64,
    pub(super) slots: VecDeque<Slot>,
    /// How many entries were added.
    added: u32,
    /// The newest entries, the last of them that of the last slot.
    cache: VecDeque<Entry>,
    pub(super) cache_bytes: usize,
    pub(super) segments: BTreeMap<u32, Arc<File>>,
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    pub(super) purged: Option<LogId>,
    pub(super) last: Option<LogId>,
    /// The last segment, and where its frames end that are on disk.
    pub(super) reached: (u32, u64),
    /// The writer has ended or failed: what is not on disk never will be.
    pub(super) is_over: bool,
}

/// Where an entry lies on disk. Segment 0 is "not yet"; then the offset is its number among all that were added, by
/// which an entry that was dropped is told from the one that took its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) segment: u32,
    pub(super) offset: u32,
    pub(super) len: u32,
}

impl Slot {
    fn waiting(number: u32) -> Slot {
        Slot {
            segment: 0,
            offset: number,
            len: 0,
        }
    }

    fn is_written(self) -> bool {
        self.segment != 0
    }
}

impl Index {
    pub(super) fn new(inner: Inner) -> Index {
        Index {
            inner: Mutex::new(inner),
            written: Condvar::new(),
            grown: watch::Sender::new(()),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here panics half-way: what a panicking thread left is whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells who waits that more is on disk.
    pub(super) fn tell(&self) {
        self.written.notify_all();
    }

    /// Tells who waits that the log has grown.
    pub(super) fn tell_grown(&self) {
        self.grown.send_replace(());
    }

    /// Notices of growth from now on.
    pub(super) fn growth(&self) -> watch::Receiver<()> {
        self.grown.subscribe()
    }

    /// From now on what is not on disk never will be.
    pub(super) fn end(&self) {
        self.lock().is_over = true;
        self.tell();
    }

    /// Waits until an entry is on disk or was purged; whether that will ever be.
    #[cfg(not(sim))]
    pub(super) fn wait_until_written(&self, index: u64) -> bool {
        let waits = |inner: &mut Inner| inner.is_written(index) == Some(false);
        let waited = self.written.wait_while(self.lock(), waits);
        let inner = waited.unwrap_or_else(PoisonError::into_inner);
        inner.is_written(index).is_some()
    }
}

impl Inner {
    #[cfg(sim)]
    pub(super) fn seen(&self, is_synced: bool) -> crate::sim::Deed {
        crate::sim::Deed::LogOpened {
            vote: self.vote.as_ref().map(crate::sim::vote),
            last: self.last.as_ref().map(crate::sim::place),
            purged: self.purged.as_ref().map(crate::sim::place),
            is_synced,
        }
    }

    pub(super) fn end(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    /// Where the cache begins.
    fn cache_first(&self) -> u64 {
        self.end() - self.cache.len() as u64
    }

    fn slot(&mut self, index: u64) -> Option<&mut Slot> {
        self.slots
            .get_mut(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }

    /// An error where entries are not the next ones: a log with a hole or a place given twice would be read as sound.
    pub(super) fn check_next(&self, entries: &[Entry]) -> std::io::Result<()> {
        // Where a log begins that never held any is for whoever writes it to say.
        let is_new = self.slots.is_empty() && self.purged.is_none();
        let begin = entries.first().filter(|_| is_new).map(|first| first.index());
        for (entry, expected) in entries.iter().zip(begin.unwrap_or_else(|| self.end())..) {
            if entry.index() != expected {
                return Err(std::io::Error::other(format!(
                    "entry {} was to be appended where entry {expected} is the next",
                    entry.index()
                )));
            }
        }
        Ok(())
    }

    /// Adds entries that are yet to be written; gives the number of the first.
    pub(super) fn extend(&mut self, entries: &[Entry]) -> u32 {
        let first = self.added;
        for entry in entries {
            self.push(entry.clone(), Slot::waiting(self.added));
            self.added = self.added.wrapping_add(1);
        }
        first
    }

    /// Notes where an entry was written, unless it was dropped meanwhile: its index may be another's by now.
    pub(super) fn written(&mut self, index: u64, number: u32, slot: Slot) {
        if let Some(known) = self.slot(index)
            && *known == Slot::waiting(number)
        {
            *known = slot;
        }
    }

    /// Adds an entry; `slot` says where it lies.
    pub(super) fn push(&mut self, entry: Entry, slot: Slot) {
        let log_id = entry.log_id();
        let index = log_id.index;
        if self.slots.is_empty() {
            self.first = index;
        }
        debug_assert_eq!(index, self.end(), "indexes in the log are consecutive");
        self.slots.push_back(slot);
        self.last = Some(log_id);
        self.cache_bytes += entry_bytes(&entry);
        self.cache.push_back(entry);
        self.evict();
    }

    /// The entries between the purge and the first one that are not there.
    pub(super) fn gap(&self) -> Option<Range<u64>> {
        // A group's first entry is 0; a node may have been given all before 1 otherwise.
        let begin = self.purged.map_or(1, |purged| purged.index + 1);
        (!self.slots.is_empty() && self.first > begin).then_some(begin..self.first)
    }

    /// What is committed is noted with whatever frame comes next, also with one whose entries end before it: it is a
    /// hint, and says no more than there are entries.
    pub(super) fn bound_committed(&mut self) {
        if self.committed > self.last && !crate::mutant!(CommittedAhead) {
            self.committed = self.last;
        }
    }

    /// Whether an entry is on disk or was purged; nothing once it never will be.
    pub(super) fn is_written(&self, index: u64) -> Option<bool> {
        let place = index.checked_sub(self.first);
        let slot = place.map(|place| self.slots.get(place as usize));
        match slot {
            None => Some(true),
            Some(Some(slot)) if slot.is_written() => Some(true),
            Some(_) => (!self.is_over).then_some(false),
        }
    }

    /// Octets of the entries after index `after` up to and with `upto`, as far as they are on disk.
    pub(super) fn octets(&self, after: u64, upto: u64) -> u64 {
        let place = |index: u64| (index.saturating_sub(self.first) as usize).min(self.slots.len());
        let (begin, end) = (place(after + 1), place(upto + 1));
        let slots = self.slots.range(begin.min(end)..end);
        slots
            .filter(|slot| slot.is_written())
            .map(|slot| u64::from(slot.len))
            .sum()
    }

    /// The index after which the entries up to and with `upto` have at most `most` octets.
    pub(super) fn leaving(&self, most: u64, upto: u64) -> u64 {
        let (mut index, mut octets) = (upto, 0);
        while index > self.first {
            octets += self.octets(index - 1, index);
            if octets > most {
                break;
            }
            index -= 1;
        }
        index
    }

    /// Where the last entry of each segment ends that has any; of the last segment, where its frames end: a vote may be
    /// the last of them.
    pub(super) fn ends(&self) -> BTreeMap<u32, u64> {
        let mut ends = BTreeMap::new();
        for slot in self.slots.iter().filter(|slot| slot.is_written()) {
            ends.insert(slot.segment, u64::from(slot.offset) + u64::from(slot.len));
        }
        ends.insert(self.reached.0, self.reached.1);
        ends
    }

    /// Lets the oldest entries of the cache go while it is too large, but none that is not on disk.
    pub(super) fn evict(&mut self) {
        let most: usize = crate::limit!("cache_bytes", CACHE_BYTES_MAX);
        while self.cache_bytes > most {
            let oldest = self.cache_first();
            if self.slot(oldest).is_none_or(|slot| !slot.is_written()) {
                break;
            }
            if let Some(entry) = self.cache.pop_front() {
                self.cache_bytes -= entry_bytes(&entry);
            }
        }
    }

    /// Drops all entries from index `from` on, if there are any; `last` is what comes before.
    pub(super) fn truncate(&mut self, from: u64, last: Option<LogId>) {
        if from >= self.end() {
            return;
        }
        while self.end() > from && self.slots.pop_back().is_some() {
            if let Some(entry) = self.cache.pop_back() {
                self.cache_bytes -= entry_bytes(&entry);
            }
        }
        self.last = last.or(self.purged);
    }

    /// Drops all entries up to `upto`.
    pub(super) fn purge(&mut self, upto: LogId) {
        if self.purged.is_some_and(|purged| purged >= upto) {
            return;
        }
        while self.first <= upto.index && !self.slots.is_empty() {
            if self.cache.len() == self.slots.len()
                && let Some(entry) = self.cache.pop_front()
            {
                self.cache_bytes -= entry_bytes(&entry);
            }
            self.slots.pop_front();
            self.first += 1;
        }
        if self.slots.is_empty() {
            self.first = upto.index + 1;
            self.last = Some(upto);
        }
        self.purged = Some(upto);
    }

    /// The entries of a range, as far as they are there, each in memory or where it lies.
    pub(super) fn find(&self, range: Range<u64>) -> Vec<Found> {
        let start = range.start.max(self.first);
        let end = range.end.min(self.end());
        let cache_first = self.cache_first();
        let mut found = Vec::with_capacity(end.saturating_sub(start) as usize);
        for index in start..end {
            if index >= cache_first {
                found.push(Found::Cached(self.cache[(index - cache_first) as usize].clone()));
                continue;
            }
            let slot = self.slots[(index - self.first) as usize];
            match self.segments.get(&slot.segment) {
                Some(file) => found.push(Found::OnDisk(file.clone(), slot)),
                None => break,
            }
        }
        found
    }
}

/// An entry, in memory or where it lies.
pub(super) enum Found {
    Cached(Entry),
    OnDisk(Arc<File>, Slot),
}

/// What an entry takes in memory.
pub(super) fn entry_bytes(entry: &Entry) -> usize {
    let body = match &entry.payload {
        openraft::EntryPayload::Normal(proposal) => proposal.bytes().len(),
        openraft::EntryPayload::Blank | openraft::EntryPayload::Membership(_) => 0,
    };
    body + ENTRY_OVERHEAD
}

#[cfg(test)]
mod tests {
    use openraft::vote::RaftLeaderId as _;

    use super::*;
    use crate::type_config::TypeConfig;

    fn entry(term: u64, index: u64) -> Entry {
        type LeaderId = openraft::alias::LeaderIdOf<TypeConfig>;
        Entry {
            log_id: LogId::new(LeaderId::new(term, 1).to_committed(), index),
            payload: openraft::EntryPayload::Blank,
        }
    }

    #[test]
    fn octets_are_those_of_the_entries_between() {
        let mut inner = Inner::default();
        for index in 1..=4 {
            let slot = Slot {
                segment: 1,
                offset: 0,
                len: 100,
            };
            inner.push(entry(1, index), slot);
        }
        let waiting = inner.extend(&[entry(1, 5)]);
        assert_eq!(
            (inner.octets(0, 5), inner.octets(1, 3), inner.octets(3, 1)),
            (400, 200, 0)
        );
        assert_eq!((inner.octets(9, 99), waiting), (0, 0));
        assert_eq!(inner.leaving(250, 4), 2);
        assert_eq!(inner.leaving(50, 4), 4);
        inner.purge(entry(1, 2).log_id);
        assert_eq!((inner.octets(0, 4), inner.leaving(1000, 4)), (200, 3));
    }

    #[test]
    fn an_entry_that_took_the_index_of_a_dropped_one_does_not_lie_where_that_was_written() {
        let mut inner = Inner::default();
        let slot = |offset| Slot {
            segment: 1,
            offset,
            len: 9,
        };
        let dropped = inner.extend(&[entry(1, 1), entry(1, 2)]) + 1;
        inner.truncate(2, Some(entry(1, 1).log_id));
        let later = inner.extend(&[entry(2, 2)]);
        // The frames of the two are written apart.
        inner.written(2, dropped, slot(100));
        assert!(!inner.slots[1].is_written(), "the later one is in no file yet");
        inner.written(2, later, slot(200));
        assert_eq!(inner.slots[1], slot(200));
    }
}
