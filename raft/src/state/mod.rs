//! The state: what `mvcc` decided, kept in sled, rebuilt from snapshot and log where sled fails.
//!
//! ```text
//! open.rs     opens it, or makes it anew         memtable.rs  what sled does not have yet
//! apply.rs    entries in, results out            sled.rs      the rest, in blocks of records (block.rs), each of which
//!                                                                 lies in a file (block_files.rs)
//! watch.rs    events as they are applied         history.rs   events of before
//! panics.rs   sled's panics as errors            digests.rs   what was applied, summed up
//! content.rs  what is there, summed up            read.rs      ranges and transactions that only read
//! ```
//!
//! Always: (0) sled is given only what this node's log has synced: a state ahead of the log proves that the log lost
//! its tail; (1) the applied index is stored in the batch of what was applied; (2) who holds the lock sees no revision
//! whose records cannot be found; (3) events reach watchers in the order of revisions, each once.
//!
//! Readers take the lock for the index only and fetch records without it: records never change. Compaction removes
//! records later, and never while a snapshot is being written (`memtable.rs`).

mod apply;
mod block;
mod block_files;
mod content;
#[cfg(debug_assertions)]
mod differently;
mod digests;
mod history;
mod memtable;
mod open;
mod panics;
mod read;
mod sled;
pub(crate) mod watch;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::mpsc;

use self::digests::Digests;
use self::memtable::Memtable;
use crate::Error;
use crate::clock::Clock;
use crate::log::Synced;
use crate::mvcc::{Database, Digest, Notification, Revision, Watchers};
use crate::snapshot::meta::{Header, Meta};
use crate::snapshot::{Snapshot, Snapshots};
use crate::type_config::{LogId, Membership};

/// The state of this node.
pub(crate) struct State {
    dir: PathBuf,
    synced: Synced,
    inner: RwLock<Inner>,
    /// Apart from the rest: a heartbeat waits for no batch that is being applied.
    digests: Mutex<Digests>,
    /// The node's reading of the store's clock, which never falls behind what is applied.
    clock: Arc<Clock>,
    progress: tokio::sync::watch::Sender<Progress>,
}

/// How far this node has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// One more than the index of the last entry applied; 0 before any.
    pub(crate) applied_end: u64,
    /// The store's revision.
    pub(crate) revision: i64,
    /// The store has ended.
    pub(crate) is_stopped: bool,
}

struct Inner {
    database: Database,
    /// None once the store has ended.
    memtable: Option<Arc<Memtable>>,
    meta: Meta,
    watchers: Watchers<mpsc::Sender<Notification>>,
    #[cfg(debug_assertions)]
    differently: differently::Differently,
}

impl State {
    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last entry applied, and the members as of then.
    pub(crate) fn applied(&self) -> (Option<LogId>, Membership) {
        let inner = self.read();
        (inner.meta.applied, inner.meta.membership.clone())
    }

    /// Has puts to these keys write other values here: for tests.
    #[cfg(debug_assertions)]
    pub(crate) fn apply_differently(&self, puts: Vec<(Vec<u8>, Vec<u8>)>) {
        self.write().differently = differently::Differently(puts);
    }

    /// The node's reading of the store's clock.
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    fn digests(&self) -> MutexGuard<'_, Digests> {
        self.digests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The index of the last entry applied here, and the digest of all up to it, where a chain has begun.
    pub(crate) fn newest_digest(&self) -> Option<(u64, Digest)> {
        self.digests().newest()
    }

    /// The digest of all up to the entry `index`, while that is known here.
    pub(crate) fn digest_at(&self, index: u64) -> Option<Digest> {
        self.digests().at(index)
    }

    /// How far this node has come, as it goes on.
    pub(crate) fn progress(&self) -> tokio::sync::watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    fn note(&self, progress: Progress) {
        self.progress.send_modify(|known| {
            known.applied_end = progress.applied_end;
            known.revision = progress.revision;
        });
    }

    /// The leases with their terms in milliseconds.
    pub(crate) fn leases(&self) -> Vec<(i64, u64)> {
        self.read().database.leases.terms().collect()
    }

    /// The term of a lease in milliseconds.
    pub(crate) fn lease_term(&self, id: i64) -> Option<u64> {
        self.read().database.leases.term(id)
    }

    /// The store's revision and the compacted one.
    pub(crate) fn revisions(&self) -> (i64, i64) {
        let inner = self.read();
        (inner.database.revision, inner.database.compacted)
    }

    /// The revision to compact at, where the records since the last compaction have more than `most` octets, and by a tenth:
    /// a store at full speed does not compact at each tick.
    pub(crate) fn beyond(&self, most: u64) -> Option<i64> {
        let inner = self.read();
        let (written, compacted) = (&inner.database.written, inner.database.compacted);
        let is_beyond = written.since(compacted) > most + most / 10;
        let revision = written.leaving(most).filter(|_| is_beyond)?;
        (revision > compacted).then_some(revision)
    }

    /// Writes a snapshot of what is applied now.
    pub(crate) fn snapshot(&self, snapshots: &Snapshots) -> Result<Snapshot, Error> {
        let memtable = self.read().memtable()?;
        let _pin = memtable.pin();
        let header = {
            let inner = self.read();
            if !Arc::ptr_eq(&inner.memtable()?, &memtable) {
                // Another state took its place while this waited for the pin.
                drop(inner);
                return self.snapshot(snapshots);
            }
            let leases = inner.database.leases.terms().collect();
            Header {
                meta: inner.meta.clone(),
                leases,
            }
        };
        let records = memtable.records(Revision::first_of(0), header.meta.revision)?;
        // Whoever stops the store waits for this one.
        let mut records = records.map(|record| match self.progress.borrow().is_stopped {
            true => Err(Error::Stopped),
            false => record,
        });
        let snapshot = snapshots.write(&header, &mut records)?;
        // All that is here has been read to its end.
        if let Err(error) = open::remove_set_aside(&self.dir) {
            tracing::warn!(%error, "a state that was set aside could not be removed");
        }
        Ok(snapshot)
    }

    /// Ends the watches, waits for a snapshot that is being written, lets the kernel have what sled holds, and closes
    /// it.
    pub(crate) fn stop(&self) {
        self.progress.send_modify(|progress| progress.is_stopped = true);
        let memtable = {
            let mut inner = self.write();
            inner.watchers.clear();
            inner.memtable.take()
        };
        let Some(memtable) = memtable else { return };
        let _pin = memtable.pin();
        if let Err(error) = memtable.close() {
            tracing::warn!(%error, "the state was not flushed; the log has it");
        }
    }
}

impl Inner {
    fn memtable(&self) -> Result<Arc<Memtable>, Error> {
        self.memtable.clone().ok_or(Error::Stopped)
    }

    #[cfg(sim)]
    fn seen(&self, is_installed: bool) -> crate::sim::Deed {
        crate::sim::Deed::StateSet {
            applied: self.meta.applied.as_ref().map(crate::sim::place),
            revision: self.database.revision,
            is_installed,
        }
    }

    fn progress(&self) -> Progress {
        let applied_end = self.meta.applied.map_or(0, |log_id| log_id.index + 1);
        Progress {
            applied_end,
            revision: self.database.revision,
            is_stopped: false,
        }
    }
}

#[cfg(test)]
mod tests;
