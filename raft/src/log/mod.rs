//! The log and the vote on disk, one fdatasync for many entries.
//!
//! An *entry* is a command and its place, (term, index): the term of the leader that proposed it, and its number in
//! the log. What a majority holds on disk is *committed* and will be applied by every member; what is not may be
//! dropped again by the next leader. Each line below is one frame, written and synced at once:
//!
//! ```text
//! asked                        frame                                    the log then holds
//! vote for node 1 in term 1    2: vote 1                                nothing
//! append, append               3: entries (1,1) (1,2)                   (1,1) (1,2)
//! append                       4: entry (1,3), committed (1,2)          (1,1) (1,2) (1,3)
//! truncate after (1,2)         5: truncate (1,2)                        (1,1) (1,2)            node 2 leads now
//! append                       6: entry (2,3)                           (1,1) (1,2) (2,3)
//! purge up to (1,2)            7: purge (1,2), committed (2,3)          (2,3)                  a snapshot has the rest
//! ```
//!
//! One thread writes (`writer.rs`): it takes all that waits, makes one frame of it, writes it, syncs once, and only
//! then says so to everybody whose entries were in it. The frames lie in a row of segment files (`format.rs`,
//! `record.rs`), and opening reads them all (`recover.rs`):
//!
//! ```text
//! log/00000001.seg    head | frame 1: state | frame 2: entries 1-40 | frame 3: entries 41-97, committed 40 | ...
//! log/00000002.seg    head | frame 9: state | ... | zeros
//! ```
//!
//! A segment begins with the state so far (vote, committed, purged), so that the ones before it can be removed whole
//! once all their entries are purged. In memory (`index.rs`) there are twelve octets an entry, where it lies, and the
//! newest entries themselves.
//!
//! Always: (1) what was answered has been synced; (2) indexes in the log are consecutive; (3) what is not on disk yet
//! is in the cache; (4) a segment is removed only after the purge that allows it was synced, and oldest first.
//!
//! Not here: which entries to append, commit or drop (openraft, by way of `consensus/log_store.rs`). Why not the
//! crate `raft-log`: it takes a record whose length was damaged for a torn tail and drops all that follows in
//! silence, and it can share a sync only by waiting before each one.

mod index;
mod length;
mod record;
mod recover;
mod synced;
mod tail;
mod verify;
mod writer;

#[cfg(test)]
mod tests;

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use openraft::LogIdOptionExt as _;
use openraft::storage::IOFlushed;
use tokio::sync::{Semaphore, mpsc, oneshot};

use self::index::{Found, Index, entry_bytes};
pub(crate) use self::length::Length;
use self::record::read_entry;
pub(crate) use self::synced::Synced;
use self::writer::{Done, Request, Writer};
use crate::type_config::{Entry, LogId, TypeConfig, Vote};
use crate::{Error, format};

/// Bytes of entries that may wait for the disk, in KiB; appends beyond wait in line.
const WAITING_KIB_MAX: usize = 16 * 1024;
/// Requests that may wait for the writer; it takes all at once, so this bounds memory and nothing else.
const REQUESTS_MAX: usize = 1024;

/// The log. One owner appends; readers share what lies beneath.
pub(crate) struct Log {
    index: Arc<Index>,
    requests: mpsc::Sender<Request>,
    waiting: Arc<Semaphore>,
}

/// Reads entries.
#[derive(Clone)]
pub(crate) struct Reader {
    index: Arc<Index>,
}

/// Ends the writer's thread.
pub(crate) struct Closer {
    requests: mpsc::Sender<Request>,
    thread: Thread,
}

#[cfg(not(sim))]
type Thread = std::thread::JoinHandle<()>;
/// A simulation has one thread for all.
#[cfg(sim)]
type Thread = tokio::task::JoinHandle<()>;

#[cfg(not(sim))]
fn start(writer: Writer, requests: mpsc::Receiver<Request>) -> io::Result<Thread> {
    std::thread::Builder::new()
        .name("raft-log".into())
        .spawn(move || futures::executor::block_on(writer.run(requests)))
}

#[cfg(sim)]
fn start(writer: Writer, requests: mpsc::Receiver<Request>) -> io::Result<Thread> {
    Ok(crate::task::spawn(writer.run(requests)))
}

impl Log {
    /// Opens the log in `dir`; `is_new` says that nothing needs to lie there yet.
    pub(crate) fn open(dir: &Path, is_new: bool) -> Result<(Log, Closer), Error> {
        let recovered = recover::recover(dir, is_new)?;
        #[cfg(sim)]
        crate::sim::tell(dir, recovered.inner.seen(crate::sim::is_synced(dir)));
        let index = Arc::new(Index::new(recovered.inner));
        let (requests, received) = mpsc::channel(REQUESTS_MAX);
        let writer = Writer::new(dir.to_path_buf(), index.clone(), recovered.end);
        let thread = start(writer, received).map_err(|error| format::disk(dir, &error))?;
        let closer = Closer {
            requests: requests.clone(),
            thread,
        };
        let log = Log {
            index,
            requests,
            waiting: Arc::new(Semaphore::new(WAITING_KIB_MAX)),
        };
        Ok((log, closer))
    }

    /// Whether a log lies in `dir`: a node that has one never finds less than its first frame.
    pub(crate) fn is_there(dir: &Path) -> Result<bool, Error> {
        recover::is_there(dir)
    }

    /// Whether the log in `dir` holds, or ever held, a vote or an entry.
    pub(crate) fn was_used(dir: &Path) -> Result<bool, Error> {
        let inner = recover::recover(dir, false)?.inner;
        Ok(inner.vote.is_some() || inner.last.is_some())
    }

    /// Whether it holds neither a vote nor an entry, and never held one.
    pub(crate) fn is_empty(&self) -> bool {
        let inner = self.index.lock();
        inner.vote.is_none() && inner.last.is_none()
    }

    /// The last entry, purged or not.
    pub(crate) fn last(&self) -> Option<LogId> {
        self.index.lock().last
    }

    /// The last entry that was purged.
    pub(crate) fn purged(&self) -> Option<LogId> {
        self.index.lock().purged
    }

    /// The last entry known to be committed.
    pub(crate) fn committed(&self) -> Option<LogId> {
        self.index.lock().committed
    }

    /// Tells how long it is.
    pub(crate) fn length(&self) -> Length {
        Length::new(self.index.clone())
    }

    /// Tells which entries are on disk.
    pub(crate) fn synced(&self) -> Synced {
        Synced::new(self.index.clone())
    }

    /// A reader of its entries.
    pub(crate) fn reader(&self) -> Reader {
        Reader {
            index: self.index.clone(),
        }
    }

    /// Appends entries; they can be read at once, and `flushed` is called when they are on disk.
    pub(crate) async fn append(&self, entries: Vec<Entry>, flushed: IOFlushed<TypeConfig>) -> io::Result<()> {
        let bytes: usize = entries.iter().map(entry_bytes).sum();
        let share = (bytes / 1024 + 1).min(WAITING_KIB_MAX) as u32;
        let room = self.waiting.clone().acquire_many_owned(share).await;
        let room = room.map_err(io::Error::other)?;
        #[cfg(sim)]
        crate::sim::tell_members(&entries);
        let number = {
            let mut index = self.index.lock();
            index.check_next(&entries)?;
            index.extend(&entries)
        };
        self.send(Request::Append(entries, number, flushed, room)).await
    }

    /// Writes a vote; it is on disk when this returns.
    pub(crate) async fn save_vote(&self, vote: Vote) -> io::Result<()> {
        self.index.lock().vote = Some(vote);
        self.finish(|done| Request::Vote(vote, done)).await
    }

    /// Notes what is committed. It is written with the next frame: it only spares work after a restart, and is not
    /// worth a sync.
    pub(crate) fn note_committed(&self, committed: Option<LogId>) {
        self.index.lock().committed = committed;
    }

    /// Drops all entries after `last`, for good when this returns.
    pub(crate) async fn truncate(&self, last: Option<LogId>) -> io::Result<()> {
        self.index.lock().truncate(last.next_index(), last);
        self.finish(|done| Request::Truncate(last, done)).await
    }

    /// Drops all entries up to `upto`, for good when this returns.
    pub(crate) async fn purge(&self, upto: LogId) -> io::Result<()> {
        self.index.lock().purge(upto);
        self.finish(|done| Request::Purge(upto, done)).await
    }

    async fn send(&self, request: Request) -> io::Result<()> {
        self.requests.send(request).await.map_err(|_| ended())
    }

    /// Sends a request made with the sender of its answer, and waits for that.
    async fn finish(&self, make: impl FnOnce(Done) -> Request) -> io::Result<()> {
        let (done, answer) = oneshot::channel();
        self.send(make(done)).await?;
        answer.await.unwrap_or_else(|_| Err(ended()))
    }
}

fn ended() -> io::Error {
    io::Error::other("the log's writer has ended")
}

impl Reader {
    /// The entries of a range, as far as they are there; of them as many as have `bytes_max`, but at least one. What is
    /// not in memory is read on a thread that may wait for the disk: heartbeats run on the caller's.
    pub(crate) async fn read(&self, range: Range<u64>, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let found = self.index.lock().find(range);
        let is_cached = |found: &Found| matches!(found, Found::Cached(_));
        if found.iter().all(is_cached) {
            return take(found, bytes_max);
        }
        let read = crate::task::blocking(move || {
            take(found, bytes_max).map_err(|error| Error::Disk(error.to_string()))
        });
        read.await.map_err(io::Error::other)
    }

    /// The vote.
    pub(crate) fn vote(&self) -> Option<Vote> {
        self.index.lock().vote
    }
}

/// As many of these as have `bytes_max`, but at least one.
fn take(found: Vec<Found>, bytes_max: usize) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::with_capacity(found.len());
    let mut bytes = 0;
    for found in found {
        let entry = match found {
            Found::Cached(entry) => entry,
            Found::OnDisk(file, slot) => read_entry(&file, slot.offset, slot.len)?,
        };
        bytes += entry_bytes(&entry);
        if bytes > bytes_max && !entries.is_empty() {
            break;
        }
        entries.push(entry);
    }
    Ok(entries)
}

impl Closer {
    /// Lets the writer finish what was asked of it, and waits for its end.
    pub(crate) async fn close(self) {
        let _ = self.requests.send(Request::Close).await;
        #[cfg(not(sim))]
        let _ = crate::task::blocking(move || Ok(self.thread.join())).await;
        #[cfg(sim)]
        let _ = self.thread.await;
    }
}
