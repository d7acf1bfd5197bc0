//! The memtable: what is applied and not yet in sled.
//!
//! sled writes to the disk with every batch it is given, and so takes the log's place there. It may be behind: what
//! it lacks is in the log. So applied changes wait in memory, where they are found as if they were in sled, and one
//! thread, the only one that writes to sled, flushes many at once: [`PATIENCE`] after the first, or when there are
//! many.
//!
//! ```text
//! apply ── put ──> Recent { active, flushing } <── record ── readers      what it does not find is in sled
//!   └──── wake ──> Flusher ── active, then flushing, then gone ──> sled <── records ── histories, snapshots
//!                  Flusher <── flush ─────────────────────────────────────────┘ (first)
//! ```
//!
//! Always: (1) a record is found from the moment it was put until it is unreachable; (2) what is flushed at once is
//! whole: up to an applied index, with that index; (3) with nothing put, nothing is written; (4) no record is removed
//! while somebody holds [`Memtable::pin`], nor before the compaction that forgot it is flushed: what is applied again
//! after a kill must meet the state it met before; (5) after a failure nothing is flushed any more: what would follow
//! has a gap before it.
//!
//! Who waits for whom: `recent` guards plain data for lines, and nobody waits while holding it. Who holds the pin may
//! wait for the flusher; the flusher never waits for the pin.

use std::collections::VecDeque;
#[cfg(not(sim))]
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::panics::guarded;
use super::sled::{Sled, Stored, remove_dir};
use crate::Error;
use crate::log::Synced;
use crate::mvcc::{Changes, Record, Records, Revision};
use crate::snapshot::meta::Meta;

/// Time that changes wait for others before they are flushed: what a restart after a kill has to apply again.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes of records that wait no longer.
const URGENT_BYTES: usize = 2 * 1024 * 1024;
/// Bytes of records at which applying waits for sled.
const FULL_BYTES: usize = 8 * 1024 * 1024;
/// What a record takes in memory beside its key and value.
const RECORD_OVERHEAD: usize = 128;
/// Unreachable records removed after each flush.
const REMOVED_AT_ONCE: usize = 16 * 1024;
/// Of these, in one batch.
const REMOVED_IN_BATCH: usize = 1024;
/// Requests that wait for the flusher. Readers beyond wait in line; a wake-up that finds no place is not missed, since
/// after each request the flusher looks at what waits.
const REQUESTS_MAX: usize = 64;

/// What is applied, found in memory or in sled.
pub(super) struct Memtable {
    sled: Arc<Sled>,
    recent: Arc<RwLock<Recent>>,
    pinned: Arc<Mutex<()>>,
    requests: SyncSender<Request>,
    thread: Option<JoinHandle<()>>,
    /// Another has taken its place.
    is_replaced: AtomicBool,
    #[cfg(sim)]
    flusher: Option<Arc<Mutex<Flusher>>>,
}

/// What is not in sled yet.
#[derive(Default)]
struct Recent {
    /// What waits to be flushed.
    active: Changes,
    /// How far the log is applied with what is active; none if nothing is.
    meta: Option<Meta>,
    /// Bytes of what is active.
    bytes: usize,
    /// What is being flushed: it is found here until it is in sled.
    flushing: Arc<Changes>,
    /// Why nothing is flushed any more.
    failed: Option<Error>,
}

/// What is asked of the flusher.
enum Request {
    /// Look at what waits.
    Wake,
    /// Flush all that was put before this.
    Flush(Done),
    /// The same; hand it to the kernel, and end.
    Close(Done),
    /// The same as to flush; copy what lies in the files, and say what should.
    #[cfg(not(sim))]
    Copy(PathBuf, SyncSender<Result<Stored, Error>>),
    /// End.
    End,
}

/// Who is told that it is done.
type Done = SyncSender<Result<(), Error>>;

/// The one thread that writes to sled.
struct Flusher {
    sled: Arc<Sled>,
    recent: Arc<RwLock<Recent>>,
    pinned: Arc<Mutex<()>>,
    stored: Stored,
    /// Records that what is in sled cannot reach.
    unreachable: VecDeque<Revision>,
    synced: Synced,
}

impl Records for Memtable {
    fn record(&self, revision: Revision) -> Result<Option<Record>, Error> {
        match self.recent(revision) {
            Some(record) => Ok(Some(record)),
            // What has left the memory in between is in sled by then.
            None => self.sled.record(revision),
        }
    }
}

impl Memtable {
    /// The record written at `revision`, if it has not left the memory.
    pub(super) fn recent(&self, revision: Revision) -> Option<Record> {
        let recent = read(&self.recent);
        let found = recent.active.records.get(&revision);
        found.or_else(|| recent.flushing.records.get(&revision)).cloned()
    }

    /// Begins to collect for `sled`, in which lies what `stored` says; the `unreachable` records are removed in time.
    pub(super) fn start(
        sled: Sled,
        stored: Stored,
        unreachable: Vec<Revision>,
        synced: Synced,
    ) -> Result<Memtable, Error> {
        let (memtable, flusher, requests) = Memtable::with_flusher(sled, stored, unreachable, synced);
        memtable.run(flusher, requests)
    }

    /// Gives the flusher its thread.
    #[cfg(not(sim))]
    fn run(mut self, flusher: Flusher, requests: Receiver<Request>) -> Result<Memtable, Error> {
        let thread = std::thread::Builder::new()
            .name("raft-state".into())
            .spawn(move || flusher.run(&requests));
        let thread = thread.map_err(|error| Error::Disk(format!("no thread for the state: {error}")))?;
        self.thread = Some(thread);
        Ok(self)
    }

    fn with_flusher(
        sled: Sled,
        stored: Stored,
        unreachable: Vec<Revision>,
        synced: Synced,
    ) -> (Memtable, Flusher, Receiver<Request>) {
        let (requests, received) = sync_channel(REQUESTS_MAX);
        let memtable = Memtable {
            sled: Arc::new(sled),
            recent: Arc::default(),
            pinned: Arc::default(),
            requests,
            thread: None,
            is_replaced: AtomicBool::new(false),
            #[cfg(sim)]
            flusher: None,
        };
        let flusher = Flusher {
            sled: memtable.sled.clone(),
            recent: memtable.recent.clone(),
            pinned: memtable.pinned.clone(),
            stored,
            unreachable: unreachable.into(),
            synced,
        };
        (memtable, flusher, received)
    }

    /// Adds changes, with which the log is applied as far as `meta` says. Waits for nobody.
    pub(super) fn put(&self, changes: Changes, meta: Meta) -> Result<(), Error> {
        let bytes: usize = changes.records.values().map(record_bytes).sum();
        let mut recent = write(&self.recent);
        let is_first = recent.meta.is_none();
        recent.active.records.extend(changes.records);
        recent.active.leases.extend(changes.leases);
        recent.active.unreachable.extend(changes.unreachable);
        recent.meta = Some(meta);
        // Only now: what the index in memory names already must be found.
        recent.check()?;
        let before = recent.bytes;
        recent.bytes += bytes;
        let becomes_urgent = before < URGENT_BYTES && recent.bytes >= URGENT_BYTES;
        drop(recent);
        if is_first || becomes_urgent {
            let _ = self.requests.try_send(Request::Wake);
        }
        Ok(())
    }

    /// Waits while more waits for sled than there is room for.
    pub(super) async fn room(self: Arc<Memtable>) {
        if read(&self.recent).bytes >= FULL_BYTES {
            // A failure is told to who puts next.
            let _ = crate::task::blocking(move || self.flush()).await;
        }
    }

    /// The records from `from` up to and with revision `upto`, in order; those that wait are flushed first.
    #[cfg(not(sim))]
    pub(super) fn records(
        &self,
        from: Revision,
        upto: i64,
    ) -> Result<impl Iterator<Item = Result<(Revision, Record), Error>> + '_, Error> {
        if !read(&self.recent).is_flushed() {
            self.flush()?;
        }
        self.sled.records(from, upto)
    }

    /// Keeps all records in place while the guard lives.
    pub(super) fn pin(&self) -> MutexGuard<'_, ()> {
        self.pinned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Flushes all that was put before this call.
    fn flush(&self) -> Result<(), Error> {
        self.ask(Request::Flush)
    }

    /// Flushes what waits and hands it to the kernel; nothing can be read in order any more.
    pub(super) fn close(&self) -> Result<(), Error> {
        self.ask(Request::Close)
    }

    /// Octets of the files it lies in.
    #[cfg(not(sim))]
    pub(super) fn size(&self) -> Result<u64, Error> {
        self.sled.size()
    }

    /// Removes its files with the last that holds it.
    pub(super) fn remove_once_unused(&self) {
        self.is_replaced.store(true, Ordering::Relaxed);
    }

    /// The folder it lies in.
    pub(super) fn dir(&self) -> &std::path::Path {
        self.sled.dir()
    }

    /// Copies the files of what is stored to the folder `to`; gives what should be in them.
    #[cfg(not(sim))]
    pub(super) fn copy(&self, to: &Path) -> Result<Stored, Error> {
        let (done, answer) = sync_channel(1);
        let sent = self.requests.send(Request::Copy(to.to_path_buf(), done));
        sent.map_err(|_| Error::Stopped)?;
        answer.recv().unwrap_or(Err(Error::Stopped))
    }

    #[cfg(not(sim))]
    fn ask(&self, request: fn(Done) -> Request) -> Result<(), Error> {
        let (done, answer) = sync_channel(1);
        let sent = self.requests.send(request(done));
        sent.map_err(|_| Error::Stopped)?;
        answer.recv().unwrap_or(Err(Error::Stopped))
    }
}

impl Drop for Memtable {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // It may have ended; one that panicked has said so.
            let _ = self.requests.send(Request::End);
            let _ = thread.join();
        }
        if self.is_replaced.load(Ordering::Relaxed) {
            remove_dir(self.dir());
        }
    }
}

impl Recent {
    fn check(&self) -> Result<(), Error> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Whether every record is in sled.
    fn is_flushed(&self) -> bool {
        self.meta.is_none() && self.flushing.records.is_empty() && self.failed.is_none()
    }

    /// Whether there is something that can be flushed.
    fn waits(&self) -> bool {
        self.meta.is_some() && self.failed.is_none()
    }
}

impl Flusher {
    fn run(mut self, requests: &Receiver<Request>) {
        let mut due: Option<Instant> = None;
        while let Some(request) = next(requests, due) {
            let is_wake = matches!(request, Request::Wake);
            match request {
                Request::Wake => {}
                // Who does not wait any more need not be told.
                Request::Flush(done) => drop(done.send(self.flush())),
                Request::Close(done) => {
                    let _ = done.send(self.close());
                    return;
                }
                #[cfg(not(sim))]
                Request::Copy(to, done) => drop(done.send(self.copy(&to))),
                Request::End => return,
            }
            let (waits, bytes) = {
                let recent = read(&self.recent);
                (recent.waits(), recent.bytes)
            };
            // What was put may be flushed already, by one who asked for it; what it made unreachable is still there.
            if waits || (is_wake && !self.unreachable.is_empty()) {
                due = due.or_else(|| Some(Instant::now() + PATIENCE));
            }
            let is_urgent = waits && bytes >= URGENT_BYTES;
            if is_urgent || due.is_some_and(|due| due <= Instant::now()) {
                due = None;
                if let Err(error) = self.flush().and_then(|()| self.remove()) {
                    tracing::error!(%error, "the state cannot be stored");
                }
            }
        }
    }

    /// Brings what is active into sled, once the log has it on disk. It is taken first: more is applied meanwhile, which
    /// the log may have to wait for in turn.
    fn flush(&mut self) -> Result<(), Error> {
        #[cfg(sim)]
        if !self.is_due()? {
            return Ok(());
        }
        let Some((flushing, meta)) = self.take()? else {
            return Ok(());
        };
        #[cfg(not(sim))]
        if let Err(error) = self.synced.wait(meta.applied) {
            write(&self.recent).failed = Some(error.clone());
            return Err(error);
        }
        self.store(&flushing, meta)
    }

    /// Whether the log has on disk what is active. A simulation has one thread for all, and cannot wait for it.
    #[cfg(sim)]
    fn is_due(&self) -> Result<bool, Error> {
        let recent = read(&self.recent);
        recent.check()?;
        let applied = recent.meta.as_ref().and_then(|meta| meta.applied);
        self.synced.has(applied)
    }

    /// Takes what is active, which is found while it is flushed.
    fn take(&self) -> Result<Option<(Arc<Changes>, Meta)>, Error> {
        let mut recent = write(&self.recent);
        recent.check()?;
        let Some(meta) = recent.meta.take() else {
            return Ok(None);
        };
        recent.flushing = Arc::new(std::mem::take(&mut recent.active));
        recent.bytes = 0;
        Ok(Some((recent.flushing.clone(), meta)))
    }

    fn store(&mut self, flushing: &Changes, meta: Meta) -> Result<(), Error> {
        // The kernel has it then, and a process that is killed has no less in its state than it stored a second before:
        // so a log that lost its tail meanwhile is told by it.
        self.attempt(|sled, stored| sled.store(stored, flushing, meta).and_then(|()| sled.flush()))?;
        write(&self.recent).flushing = Arc::default();
        self.unreachable.extend(&flushing.unreachable);
        Ok(())
    }

    /// Removes some of what nobody can reach.
    fn remove(&mut self) -> Result<(), Error> {
        let pinned = self.pinned.clone();
        let Ok(_pin) = pinned.try_lock() else {
            return Ok(());
        };
        let mut left = self.unreachable.len().min(REMOVED_AT_ONCE);
        while left > 0 {
            let count = left.min(REMOVED_IN_BATCH);
            let revisions: Vec<Revision> = self.unreachable.drain(..count).collect();
            self.attempt(|sled, stored| sled.remove(stored, &revisions))?;
            left -= count;
        }
        let mut may_be_more = true;
        while may_be_more {
            self.attempt(|sled, _| sled.collect().map(|more| may_be_more = more))?;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), Error> {
        self.flush()?;
        self.sled.flush()
    }

    /// Copies the files to the folder `to`, while nobody writes to them.
    #[cfg(not(sim))]
    fn copy(&mut self, to: &Path) -> Result<Stored, Error> {
        self.flush()?;
        self.attempt(|sled, _| sled.flush())?;
        self.sled.copy(to)?;
        Ok(self.stored.clone())
    }

    /// Does what may fail for good with the disk. sled panics on some damage: that is an error like any other here.
    fn attempt(&mut self, work: impl FnOnce(&Sled, &mut Stored) -> Result<(), Error>) -> Result<(), Error> {
        let (sled, stored) = (&self.sled, &mut self.stored);
        let outcome = guarded(sled.dir(), || work(sled, stored));
        if let Err(error) = &outcome {
            write(&self.recent).failed = Some(error.clone());
        }
        outcome
    }
}

/// The next request; a wake-up once it is time to flush; nothing once nobody can ask any more.
fn next(requests: &Receiver<Request>, due: Option<Instant>) -> Option<Request> {
    let Some(due) = due else {
        return requests.recv().ok();
    };
    match requests.recv_timeout(due.saturating_duration_since(Instant::now())) {
        Ok(request) => Some(request),
        Err(RecvTimeoutError::Timeout) => Some(Request::Wake),
        Err(RecvTimeoutError::Disconnected) => None,
    }
}

fn read(recent: &RwLock<Recent>) -> RwLockReadGuard<'_, Recent> {
    recent.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(recent: &RwLock<Recent>) -> RwLockWriteGuard<'_, Recent> {
    recent.write().unwrap_or_else(PoisonError::into_inner)
}

fn record_bytes(record: &Record) -> usize {
    record.key.len() + record.value.len() + RECORD_OVERHEAD
}

#[cfg(sim)]
mod simulated;
#[cfg(test)]
mod tests;
