//! The log and the vote on disk, one fdatasync for many entries.
//!
//! The log is a row of segment files of frames ([`crate::format`]). One thread writes: it takes all that waits,
//! makes one frame of it, writes it, syncs once, and only then says so to everybody whose entries were in it.
//!
//! ```text
//! log/00000001.seg    head | frame 1: state | frame 2: entries 1-40 | frame 3: entries 41-97, committed 40 | ...
//! log/00000002.seg    head | frame 9: state | ... | zeros
//! ```
//!
//! A segment begins with the state so far (vote, committed, purged), so that the ones before it can be removed whole
//! once all their entries are purged. In memory there are twelve octets an entry (where it lies) and the last
//! entries themselves, up to [`CACHE_BYTES_MAX`].
//!
//! Always: (1) what was answered has been synced; (2) indexes in the log are consecutive; (3) what is not on disk yet
//! is in the cache; (4) a segment is removed only after the purge that allows it was synced, and oldest first.
//!
//! Why not the crate `raft-log`: it takes a record whose length was damaged for a torn tail and drops all that
//! follows in silence, and it can share a sync only by waiting before each one.

mod record;
mod recover;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use openraft::entry::RaftEntry as _;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::Error;
use crate::type_config::{Entry, LogId, Vote};
pub(crate) use record::read_entry;
pub(crate) use writer::Request;
use writer::Writer;

/// Bytes of entries held in memory, for replication and applying: a second or so of writes at full speed. An older
/// entry is read from its file.
const CACHE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What an entry takes in memory beside its own bytes, for the cache's account.
const ENTRY_OVERHEAD: usize = 96;
/// Bytes of entries that may wait for the disk, in KiB; appends beyond wait in line.
pub(crate) const WAITING_KIB_MAX: usize = 16 * 1024;
/// Requests that may wait for the writer; it takes all at once, so this bounds memory and nothing else.
const REQUESTS_MAX: usize = 1024;

/// The log. One owner appends; readers share what lies beneath.
pub(crate) struct Log {
    pub(crate) index: Arc<Index>,
    requests: mpsc::Sender<Request>,
    pub(crate) waiting: Arc<Semaphore>,
}

/// Reads entries.
#[derive(Clone)]
pub(crate) struct Reader {
    pub(crate) index: Arc<Index>,
}

/// Ends the writer's thread.
pub(crate) struct Closer {
    requests: mpsc::Sender<Request>,
    thread: JoinHandle<()>,
}

/// Where the entries lie; shared by the owner, the readers and the writer.
pub(crate) struct Index {
    inner: Mutex<Inner>,
}

#[derive(Default)]
pub(crate) struct Inner {
    /// The index of the first slot.
    first: u64,
    slots: VecDeque<Slot>,
    /// The newest entries, the last of them that of the last slot.
    cache: VecDeque<Entry>,
    cache_bytes: usize,
    segments: BTreeMap<u32, Arc<File>>,
    pub(crate) vote: Option<Vote>,
    pub(crate) committed: Option<LogId>,
    pub(crate) purged: Option<LogId>,
    pub(crate) last: Option<LogId>,
}

/// Where an entry lies on disk; segment 0 is "not yet".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    segment: u32,
    pub(crate) offset: u32,
    pub(crate) len: u32,
}

pub(crate) const NOT_WRITTEN: Slot = Slot {
    segment: 0,
    offset: 0,
    len: 0,
};

impl Log {
    /// Opens the log in `dir`, making it if it is not there; the second says whether it holds anything.
    pub(crate) fn open(dir: &Path) -> Result<(Log, Closer), Error> {
        let recovered = recover::recover(dir)?;
        let index = Arc::new(Index {
            inner: Mutex::new(recovered.inner),
        });
        let (requests, received) = mpsc::channel(REQUESTS_MAX);
        let writer = Writer::new(dir.to_path_buf(), index.clone(), recovered.tail);
        let thread = std::thread::Builder::new()
            .name("raft-log".into())
            .spawn(move || writer.run(received))
            .map_err(|error| crate::format::disk(dir, &error))?;
        let closer = Closer {
            requests: requests.clone(),
            thread,
        };
        let waiting = Arc::new(Semaphore::new(WAITING_KIB_MAX));
        Ok((
            Log {
                index,
                requests,
                waiting,
            },
            closer,
        ))
    }

    /// Whether it holds a vote or an entry, or ever held one.
    pub(crate) fn is_empty(&self) -> bool {
        let inner = self.index.lock();
        inner.vote.is_none() && inner.last.is_none()
    }

    /// The last entry that was purged.
    pub(crate) fn purged(&self) -> Option<LogId> {
        self.index.lock().purged
    }

    /// A reader of its entries.
    pub(crate) fn reader(&self) -> Reader {
        Reader {
            index: self.index.clone(),
        }
    }

    pub(crate) async fn send(&self, request: Request) -> std::io::Result<()> {
        self.requests
            .send(request)
            .await
            .map_err(|_| std::io::Error::other("the log's writer has ended"))
    }

    /// Sends a request made with the sender of its answer, and waits for that.
    pub(crate) async fn finish(
        &self,
        make: impl FnOnce(oneshot::Sender<std::io::Result<()>>) -> Request,
    ) -> std::io::Result<()> {
        let (done, answer) = oneshot::channel();
        self.send(make(done)).await?;
        answer
            .await
            .unwrap_or_else(|_| Err(std::io::Error::other("the log's writer has ended")))
    }
}

impl Closer {
    /// Lets the writer finish what was asked of it, and waits for its end.
    pub(crate) async fn close(self) {
        let _ = self.requests.send(Request::Close).await;
        let _ = tokio::task::spawn_blocking(move || self.thread.join()).await;
    }
}

impl Index {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here panics half-way: what a panicking thread left is whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn end(&self) -> u64 {
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

    /// Adds an entry; `slot` says where it lies, `cached` whether to keep it.
    pub(crate) fn push(&mut self, log_id: LogId, slot: Slot, cached: Option<Entry>) {
        let index = log_id.index;
        if self.slots.is_empty() {
            self.first = index;
        }
        debug_assert_eq!(index, self.end(), "indexes in the log are consecutive");
        self.slots.push_back(slot);
        self.last = Some(log_id);
        if let Some(entry) = cached {
            self.cache_bytes += entry_bytes(&entry);
            self.cache.push_back(entry);
            self.evict();
        }
    }

    /// Lets the oldest entries of the cache go while it is too large, but none that is not on disk.
    fn evict(&mut self) {
        while self.cache_bytes > CACHE_BYTES_MAX {
            let oldest = self.cache_first();
            if self.slot(oldest).is_none_or(|slot| *slot == NOT_WRITTEN) {
                break;
            }
            if let Some(entry) = self.cache.pop_front() {
                self.cache_bytes -= entry_bytes(&entry);
            }
        }
    }

    /// Drops all entries from index `from` on, if there are any; `last` is what comes before.
    pub(crate) fn truncate(&mut self, from: u64, last: Option<LogId>) {
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
    pub(crate) fn purge(&mut self, upto: LogId) {
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
    pub(crate) fn find(&self, range: Range<u64>) -> Vec<Found> {
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
pub(crate) enum Found {
    Cached(Entry),
    OnDisk(Arc<File>, Slot),
}

/// What an entry takes in memory.
pub(crate) fn entry_bytes(entry: &Entry) -> usize {
    let body = match &entry.payload {
        openraft::EntryPayload::Normal(proposal) => proposal.bytes().len(),
        openraft::EntryPayload::Blank | openraft::EntryPayload::Membership(_) => 0,
    };
    body + ENTRY_OVERHEAD
}

/// The place of an entry.
pub(crate) fn log_id(entry: &Entry) -> LogId {
    entry.log_id()
}
