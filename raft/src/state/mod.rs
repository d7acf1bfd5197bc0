//! The state: what `mvcc` decided, kept in sled, rebuilt from snapshot and log where sled fails.
//!
//! ```text
//! state.3/           the sled in use; a snapshot that is installed makes the next number
//! state.2.bad        one that did not open or check, set aside
//! ```
//!
//! Always: (1) the applied index is stored in the batch of what was applied; (2) who holds the lock sees no revision
//! whose records cannot be found; (3) events reach watchers in the order of revisions, each once.
//!
//! Readers take the lock for the index only and fetch records without it: records never change. Compaction removes
//! records later, and never while a snapshot is being written (`buffer.rs`).

mod block;
mod memtable;
pub(crate) mod sled;

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use openraft::EntryPayload;
use tokio::sync::{mpsc, watch};

use crate::command::Answer;
use crate::mvcc::{Changes, Database, Overlay, Revision, Scope, Watchers};
use crate::snapshot::{Header, Snapshot, Snapshots};
use crate::state::memtable::Buffer;
use crate::state::sled::{Disk, Meta};
use crate::type_config::{Entry, LogId, Membership};
use crate::{Error, Event, Range, RangeResult, Txn, TxnResult};

/// Transactions that may wait for a watcher. One that falls further behind reads the rest from disk.
const WATCH_QUEUE: usize = 256;
/// Records looked through for a watcher before others may have the thread.
const HISTORY_RECORDS: usize = 4096;
/// Octets of events read for a watcher at once.
const HISTORY_BYTES: usize = 1024 * 1024;

/// The state of this node.
pub(crate) struct State {
    dir: PathBuf,
    inner: RwLock<Inner>,
    progress: watch::Sender<Progress>,
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
    disk: Option<Arc<Buffer>>,
    meta: Meta,
    watchers: Watchers<mpsc::Sender<Told>>,
}

/// What a watcher is told at once: the events of one revision that concern it.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) revision: i64,
    pub(crate) events: Vec<Arc<Event>>,
}

/// A piece of history.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) events: Vec<Event>,
    /// All revisions below this one have been looked through.
    pub(crate) next: i64,
    /// Whether that is all there is.
    pub(crate) is_all: bool,
}

impl State {
    /// Opens the state in `dir`; one that does not open or check is set aside and made from the newest snapshot.
    pub(crate) fn open(dir: &Path, snapshots: &Snapshots) -> Result<State, Error> {
        let told = |error: std::io::Error| crate::format::disk(dir, &error);
        std::fs::create_dir_all(dir).map_err(told)?;
        let newest = snapshots.newest();
        let covered = newest.as_ref().and_then(|snapshot| snapshot.meta.last_log_id);
        let mut numbers = numbers(dir)?;
        let mut loaded = None;
        while let Some(number) = numbers.pop() {
            let path = dir.join(format!("state.{number}"));
            if loaded.is_some() {
                remove_dir(&path);
                continue;
            }
            match load(&path) {
                Ok((disk, meta, database)) if meta.applied >= covered => {
                    loaded = Some((disk, meta, database));
                }
                // Older than the snapshot, which has it all. It is closed before it goes.
                Ok(older) => {
                    drop(older);
                    remove_dir(&path);
                }
                Err(error) => {
                    tracing::error!(%error, "the state is set aside and made anew from the snapshot and the log");
                    set_aside(dir, &path)?;
                }
            }
        }
        let (disk, meta, database) = match (loaded, newest) {
            (Some(loaded), _) => loaded,
            (None, Some(snapshot)) => fill(dir, &snapshot)?,
            (None, None) => create(dir)?,
        };
        let mut inner = Inner {
            database,
            disk: Some(Arc::new(Buffer::new(disk)?)),
            meta,
            watchers: Watchers::default(),
        };
        inner.forget()?;
        let (progress, _) = watch::channel(inner.progress());
        Ok(State {
            dir: dir.to_path_buf(),
            inner: RwLock::new(inner),
            progress,
        })
    }

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

    /// How far this node has come, as it goes on.
    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Applies committed entries, all in one batch.
    pub(crate) fn apply(&self, entries: &[Entry]) -> Result<Vec<Answer>, Error> {
        let mut guard = self.write();
        let inner = &mut *guard;
        let disk = inner.disk()?;
        let mut changes = Changes::default();
        let mut answers = Vec::with_capacity(entries.len());
        for entry in entries {
            answers.push(match &entry.payload {
                EntryPayload::Blank => Answer::Nothing,
                EntryPayload::Membership(members) => {
                    inner.meta.membership = Membership::new(Some(entry.log_id), members.clone());
                    Answer::Nothing
                }
                EntryPayload::Normal(proposal) => {
                    let command = proposal.command()?;
                    inner
                        .database
                        .apply(command, entry.log_id.index, &*disk, &mut changes)?
                }
            });
            inner.meta.applied = Some(entry.log_id);
        }
        inner.meta.revision = inner.database.revision;
        inner.meta.compacted = inner.database.compacted;
        inner.tell(&changes, &disk)?;
        disk.put(changes, inner.meta.clone())?;
        let progress = inner.progress();
        drop(guard);
        self.note(progress);
        Ok(answers)
    }

    /// Waits while more is applied than could be stored.
    pub(crate) async fn room(&self) {
        let disk = self.read().disk.clone();
        if let Some(disk) = disk {
            disk.room().await;
        }
    }

    fn note(&self, progress: Progress) {
        self.progress.send_modify(|known| {
            known.applied_end = progress.applied_end;
            known.revision = progress.revision;
        });
    }

    /// Reads what is applied here.
    pub(crate) fn range(&self, range: &Range) -> Result<RangeResult, Error> {
        let (selection, disk) = {
            let inner = self.read();
            (inner.database.select(range)?, inner.disk()?)
        };
        selection.fetch(&*disk)
    }

    /// Does a transaction that only reads.
    pub(crate) fn read_txn(&self, txn: &Txn) -> Result<TxnResult, Error> {
        let inner = self.read();
        inner.database.read_txn(txn, &*inner.disk()?)
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

    /// The changes of a scope from revision `from` on, a piece of them.
    pub(crate) fn history(&self, scope: &Scope, from: i64) -> Result<History, Error> {
        let (disk, revision) = {
            let inner = self.read();
            inner.check_history(from)?;
            (inner.disk()?, inner.database.revision)
        };
        let mut history = History {
            next: from.max(1),
            ..History::default()
        };
        let mut found = Vec::new();
        let (mut looked_at, mut bytes) = (0, 0);
        let mut is_all = true;
        for item in disk.records(Revision::first_of(from), revision)? {
            let (place, record) = item?;
            let is_enough = looked_at >= HISTORY_RECORDS || bytes >= HISTORY_BYTES;
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
        history.is_all = is_all;
        let inner = self.read();
        for (place, record) in found {
            let prev = inner.database.previous(&record.key, place, &*disk)?;
            history.events.push(record.into_event(place.main, prev));
        }
        // A compaction meanwhile may have removed what this should have found.
        inner.check_history(from)?;
        Ok(history)
    }

    /// Subscribes to the changes of a scope after revision `after`, if that is where the store is or has yet to come.
    pub(crate) fn subscribe(&self, scope: &Scope, after: i64) -> Result<Option<Subscription>, Error> {
        let mut inner = self.write();
        if self.progress.borrow().is_stopped {
            return Err(Error::Stopped);
        }
        if inner.database.revision > after {
            return Ok(None);
        }
        let (told, queue) = mpsc::channel(WATCH_QUEUE);
        let id = inner.watchers.add(scope.clone(), told);
        Ok(Some(Subscription { id, queue }))
    }

    /// Ends a subscription.
    pub(crate) fn unsubscribe(&self, id: u64) {
        self.write().watchers.remove(id);
    }

    /// Writes a snapshot of what is applied now.
    pub(crate) fn snapshot(&self, snapshots: &Snapshots) -> Result<Snapshot, Error> {
        let disk = self.read().disk()?;
        let _held = disk.hold();
        let header = {
            let inner = self.read();
            let leases = inner.database.leases.terms().collect();
            Header {
                meta: inner.meta.clone(),
                leases,
            }
        };
        let records = disk.records(Revision::first_of(0), header.meta.revision)?;
        // Whoever stops the store waits for this one.
        let mut records = records.map(|record| match self.progress.borrow().is_stopped {
            true => Err(Error::Stopped),
            false => record,
        });
        snapshots.write(&header, &mut records)
    }

    /// Puts a snapshot in the place of the state. Watchers go on from its history.
    pub(crate) fn install(&self, snapshot: &Snapshot) -> Result<(), Error> {
        let (disk, meta, database) = fill(&self.dir, snapshot)?;
        let disk = Arc::new(Buffer::new(disk)?);
        let mut inner = self.write();
        // Nothing is opened again once the store has ended.
        inner.disk()?;
        let before = inner.disk.replace(disk);
        inner.meta = meta;
        inner.database = database;
        inner.forget()?;
        inner.watchers.clear();
        let progress = inner.progress();
        drop(inner);
        self.note(progress);
        if let Some(before) = before {
            let dir = before.dir().to_path_buf();
            drop(before);
            remove_dir(&dir);
        }
        Ok(())
    }

    /// Ends the watches, waits for a snapshot that is being written, lets the kernel have what sled holds, and closes
    /// it.
    pub(crate) fn stop(&self) {
        self.progress.send_modify(|progress| progress.is_stopped = true);
        let disk = {
            let mut inner = self.write();
            inner.watchers.clear();
            inner.disk.take()
        };
        let Some(disk) = disk else { return };
        let _held = disk.hold();
        if let Err(error) = disk.close() {
            tracing::warn!(%error, "the state was not flushed; the log has it");
        }
    }
}

/// A subscription: its queue ends when its watcher fell behind or the state was replaced.
pub(crate) struct Subscription {
    pub(crate) id: u64,
    pub(crate) queue: mpsc::Receiver<Told>,
}

impl Inner {
    fn disk(&self) -> Result<Arc<Buffer>, Error> {
        self.disk.clone().ok_or(Error::Stopped)
    }

    fn progress(&self) -> Progress {
        let applied_end = self.meta.applied.map_or(0, |log_id| log_id.index + 1);
        Progress {
            applied_end,
            revision: self.database.revision,
            is_stopped: false,
        }
    }

    fn check_history(&self, from: i64) -> Result<(), Error> {
        match self.database.compacted {
            compacted if from < compacted => Err(Error::Compacted { revision: compacted }),
            _ => Ok(()),
        }
    }

    /// Finds again what the last compaction made unreachable and a restart forgot to remove.
    fn forget(&mut self) -> Result<(), Error> {
        let cut = self.database.keys.compact(self.database.compacted);
        self.disk()?.forget(cut);
        Ok(())
    }

    /// Tells the watchers what was written. One whose queue is full is let go: it reads on from the disk.
    fn tell(&mut self, changes: &Changes, base: &Buffer) -> Result<(), Error> {
        if self.watchers.is_empty() {
            return Ok(());
        }
        let found = Overlay { changes, base };
        let mut ids = Vec::new();
        let mut told: Vec<(u64, Told)> = Vec::new();
        let mut records = changes.records.iter().peekable();
        while let Some((place, record)) = records.next() {
            self.watchers.concerned(&record.key, &mut ids);
            if !ids.is_empty() {
                let prev = self.database.previous(&record.key, *place, &found)?;
                let event = Arc::new(record.clone().into_event(place.main, prev));
                for id in &ids {
                    match told.iter_mut().find(|(other, _)| other == id) {
                        Some((_, told)) => told.events.push(event.clone()),
                        None => told.push((
                            *id,
                            Told {
                                revision: place.main,
                                events: vec![event.clone()],
                            },
                        )),
                    }
                }
            }
            let is_last = records.peek().is_none_or(|(next, _)| next.main != place.main);
            if is_last {
                for (id, told) in told.drain(..) {
                    if self
                        .watchers
                        .owner(id)
                        .is_some_and(|owner| owner.try_send(told).is_err())
                    {
                        self.watchers.remove(id);
                    }
                }
            }
        }
        Ok(())
    }
}

fn load(path: &Path) -> Result<(Disk, Meta, Database), Error> {
    let disk = Disk::open(path)?;
    let (meta, database) = disk.load()?;
    Ok((disk, meta, database))
}

/// Makes an empty sled that says so, in a way that lasts: one that holds nothing at all has lost it.
fn create(dir: &Path) -> Result<(Disk, Meta, Database), Error> {
    let disk = Disk::open(&dir.join(next_name(dir)?))?;
    let meta = Meta {
        revision: Database::default().revision,
        ..Meta::default()
    };
    disk.store(&Changes::default(), &meta)?;
    disk.flush()?;
    Ok((disk, meta, Database::default()))
}

/// Keeps a state that cannot be used for whoever wants to look at it: the last such one.
fn set_aside(dir: &Path, path: &Path) -> Result<(), Error> {
    let told = |error: std::io::Error| crate::format::disk(path, &error);
    for file in std::fs::read_dir(dir).map_err(told)? {
        let older = file.map_err(told)?.path();
        if older.extension().is_some_and(|extension| extension == "bad") {
            remove_dir(&older);
        }
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".bad");
    std::fs::rename(path, name).map_err(told)
}

/// Makes a new sled from a snapshot.
fn fill(dir: &Path, snapshot: &Snapshot) -> Result<(Disk, Meta, Database), Error> {
    let disk = Disk::open(&dir.join(next_name(dir)?))?;
    let mut contents = snapshot.read()?;
    let Header { meta, leases } = contents.header.clone();
    disk.fill(meta, &leases, &mut contents)?;
    let (meta, database) = disk.load()?;
    Ok((disk, meta, database))
}

/// The numbers of the states in `dir`, in order.
fn numbers(dir: &Path) -> Result<Vec<u64>, Error> {
    let told = |error: std::io::Error| crate::format::disk(dir, &error);
    let mut numbers = Vec::new();
    for file in std::fs::read_dir(dir).map_err(told)? {
        let name = file.map_err(told)?.file_name();
        numbers.extend(
            name.to_str()
                .and_then(|name| name.strip_prefix("state.")?.parse::<u64>().ok()),
        );
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn next_name(dir: &Path) -> Result<String, Error> {
    let mut number = numbers(dir)?.last().map_or(1, |last| last + 1);
    while dir.join(format!("state.{number}.bad")).exists() {
        number += 1;
    }
    Ok(format!("state.{number}"))
}

fn remove_dir(path: &Path) {
    if let Err(error) = std::fs::remove_dir_all(path) {
        tracing::warn!(%error, folder = %path.display(), "an old state could not be removed");
    }
}
