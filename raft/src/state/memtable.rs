//! What is applied and not yet in sled.
//!
//! sled writes to the disk with every batch it is given, and so takes the log's place there. It may be behind: what
//! it lacks is in the log. So applied changes wait in memory, where they are found as if they were stored, and a
//! thread gives sled many at once: [`PATIENCE`] after the first, or when there are many.
//!
//! Always: (1) a record is found from the moment it was put until it is unreachable; (2) what is stored at once is
//! whole: up to an applied index, with that index; (3) with nothing put, nothing is written; (4) no record is removed
//! while somebody holds [`Buffer::hold`], nor before the compaction that forgot it is stored: what is applied again
//! after a kill must meet the state it met before; (5) after a failure nothing is stored any more: what would follow
//! has a gap before it.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::Notify;

use super::sled::Disk;
use crate::Error;
use crate::mvcc::{Changes, Record, Records, Revision};
use crate::snapshot::meta::Meta;

/// Time that changes wait for others before they are stored: what a restart after a kill has to apply again.
const PATIENCE: Duration = Duration::from_secs(1);
/// Octets of records that wait no longer.
const URGENT_BYTES: usize = 2 * 1024 * 1024;
/// Octets of records at which applying waits for sled.
const FULL_BYTES: usize = 8 * 1024 * 1024;
/// What a record takes in memory beside its key and value.
const RECORD_OVERHEAD: usize = 128;
/// Unreachable records removed after each storing.
const REMOVED_AT_ONCE: usize = 16 * 1024;
/// Of these, in one batch.
const REMOVED_IN_BATCH: usize = 1024;

/// A sled with changes that wait for it.
pub(crate) struct Buffer {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    disk: Disk,
    waiting: RwLock<Waiting>,
    /// Held while something is stored.
    storing: Mutex<()>,
    /// Held by who reads all records: nothing is removed meanwhile.
    held: Mutex<()>,
    signal: Mutex<Signal>,
    changed: Condvar,
    stored: Notify,
}

#[derive(Default)]
struct Waiting {
    fresh: Changes,
    /// How far the log is applied with what is fresh; none if nothing is.
    meta: Option<Meta>,
    bytes: usize,
    /// What is being stored.
    leaving: Arc<Changes>,
    /// Records that what is stored cannot reach.
    unreachable: VecDeque<Revision>,
    failed: Option<Error>,
}

#[derive(Default)]
struct Signal {
    is_dirty: bool,
    is_urgent: bool,
    is_over: bool,
}

impl Records for Buffer {
    fn record(&self, revision: Revision) -> Result<Option<Record>, Error> {
        {
            let waiting = self.shared.read();
            let found = waiting.fresh.records.get(&revision);
            if let Some(record) = found.or_else(|| waiting.leaving.records.get(&revision)) {
                return Ok(Some(record.clone()));
            }
        }
        // What has left the memory in between is in sled by then.
        self.shared.disk.record(revision)
    }
}

impl Buffer {
    /// Begins to buffer for `disk`.
    pub(crate) fn new(disk: Disk) -> Result<Buffer, Error> {
        let shared = Arc::new(Shared {
            disk,
            waiting: RwLock::default(),
            storing: Mutex::default(),
            held: Mutex::default(),
            signal: Mutex::default(),
            changed: Condvar::new(),
            stored: Notify::new(),
        });
        let own = shared.clone();
        let thread = std::thread::Builder::new()
            .name("raft-state".into())
            .spawn(move || own.run());
        let thread = thread.map_err(|error| Error::Disk(format!("no thread for the state: {error}")))?;
        Ok(Buffer {
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Adds changes, with which the log is applied as far as `meta` says.
    pub(crate) fn put(&self, changes: Changes, meta: Meta) -> Result<(), Error> {
        let bytes: usize = changes.records.values().map(record_bytes).sum();
        let mut waiting = self.shared.write();
        let is_first = waiting.meta.is_none();
        waiting.fresh.records.extend(changes.records);
        waiting.fresh.leases.extend(changes.leases);
        waiting.fresh.unreachable.extend(changes.unreachable);
        waiting.meta = Some(meta);
        // Only now: what the index in memory names already must be found.
        waiting.check()?;
        waiting.bytes += bytes;
        let is_urgent = waiting.bytes >= URGENT_BYTES;
        drop(waiting);
        if is_first || is_urgent {
            self.shared.signal(|signal| {
                signal.is_dirty = true;
                signal.is_urgent |= is_urgent;
            });
        }
        Ok(())
    }

    /// Notes records that what is stored cannot reach; they are removed with a later storing.
    pub(crate) fn forget(&self, revisions: Vec<Revision>) {
        self.shared.write().unreachable.extend(revisions);
    }

    /// Waits while more waits for sled than there is room for.
    pub(crate) async fn room(&self) {
        loop {
            let stored = self.shared.stored.notified();
            let is_full = {
                let waiting = self.shared.read();
                waiting.bytes >= FULL_BYTES && waiting.failed.is_none()
            };
            if !is_full {
                return;
            }
            stored.await;
        }
    }

    /// The records from `from` up to and with revision `upto`, in order; those that wait are stored first.
    pub(crate) fn records(
        &self,
        from: Revision,
        upto: i64,
    ) -> Result<impl Iterator<Item = Result<(Revision, Record), Error>> + '_, Error> {
        self.shared.store()?;
        self.shared.disk.records(from, upto)
    }

    /// Keeps all records in place while the guard lives.
    pub(crate) fn hold(&self) -> MutexGuard<'_, ()> {
        self.shared.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores what waits and hands it to the kernel.
    pub(crate) fn close(&self) -> Result<(), Error> {
        self.stop();
        self.shared.store()?;
        self.shared.disk.flush()
    }

    /// The folder it lies in.
    pub(crate) fn dir(&self) -> &std::path::Path {
        self.shared.disk.dir()
    }

    fn stop(&self) {
        self.shared.signal(|signal| signal.is_over = true);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Waiting {
    fn check(&self) -> Result<(), Error> {
        self.failed.clone().map_or(Ok(()), Err)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn read(&self) -> RwLockReadGuard<'_, Waiting> {
        self.waiting.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Waiting> {
        self.waiting.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn signal(&self, change: impl FnOnce(&mut Signal)) {
        change(&mut self.signal.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    /// Stores when it is time, until it is over.
    fn run(&self) {
        loop {
            let signal = self.signal.lock().unwrap_or_else(PoisonError::into_inner);
            let idle = |signal: &mut Signal| !signal.is_dirty && !signal.is_over;
            let signal = self
                .changed
                .wait_while(signal, idle)
                .unwrap_or_else(PoisonError::into_inner);
            let patient = |signal: &mut Signal| !signal.is_urgent && !signal.is_over;
            let waited = self.changed.wait_timeout_while(signal, PATIENCE, patient);
            let (mut signal, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if signal.is_over {
                return;
            }
            *signal = Signal::default();
            drop(signal);
            if let Err(error) = self.store().and_then(|()| self.remove()) {
                tracing::error!(%error, "the state cannot be stored");
            }
        }
    }

    /// Does what may fail for good with the disk. sled panics on some damage: that is an error like any other here.
    fn attempt(&self, work: impl FnOnce(&Disk) -> Result<(), Error>) -> Result<(), Error> {
        let done = std::panic::catch_unwind(AssertUnwindSafe(|| work(&self.disk)));
        let panicked = || Error::Disk(format!("{}: sled panicked", self.disk.dir().display()));
        let outcome = done.unwrap_or_else(|_| Err(panicked()));
        if let Err(error) = &outcome {
            self.write().failed = Some(error.clone());
        }
        outcome
    }

    /// Stores all that was put before this call. Whoever waits for room looks again, whoever stored and however it
    /// ended: at the end of all it is [`Buffer::close`], and the thread is gone.
    fn store(&self) -> Result<(), Error> {
        let outcome = self.store_waiting();
        self.stored.notify_waiters();
        outcome
    }

    fn store_waiting(&self) -> Result<(), Error> {
        let _storing = self.storing.lock().unwrap_or_else(PoisonError::into_inner);
        let (leaving, meta) = {
            let mut waiting = self.write();
            waiting.check()?;
            let Some(meta) = waiting.meta.take() else {
                return Ok(());
            };
            waiting.leaving = Arc::new(std::mem::take(&mut waiting.fresh));
            waiting.bytes = 0;
            (waiting.leaving.clone(), meta)
        };
        self.attempt(|disk| disk.store(&leaving, &meta))?;
        let mut waiting = self.write();
        waiting.leaving = Arc::default();
        waiting.unreachable.extend(&leaving.unreachable);
        Ok(())
    }

    /// Removes some of what nobody can reach.
    fn remove(&self) -> Result<(), Error> {
        let Ok(_held) = self.held.try_lock() else {
            return Ok(());
        };
        let _storing = self.storing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut removed = 0;
        while removed < REMOVED_AT_ONCE {
            let revisions: Vec<Revision> = {
                let mut waiting = self.write();
                waiting.check()?;
                let count = waiting.unreachable.len().min(REMOVED_IN_BATCH);
                waiting.unreachable.drain(..count).collect()
            };
            if revisions.is_empty() {
                return Ok(());
            }
            removed += revisions.len();
            self.attempt(|disk| disk.remove(&revisions))?;
        }
        Ok(())
    }
}

fn record_bytes(record: &Record) -> usize {
    record.key.len() + record.value.len() + RECORD_OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(main: i64) -> (Revision, Record) {
        let record = Record {
            key: b"k".to_vec(),
            value: vec![7; 100],
            create: 2,
            version: main - 1,
            lease: 0,
        };
        (Revision::first_of(main), record)
    }

    fn changes(mains: std::ops::Range<i64>) -> (Changes, Meta) {
        let meta = Meta {
            revision: mains.end - 1,
            ..Meta::default()
        };
        (
            Changes {
                records: mains.map(record).collect(),
                ..Changes::default()
            },
            meta,
        )
    }

    #[test]
    fn a_record_is_found_before_and_after_it_is_stored() {
        let dir = tempfile::tempdir().unwrap();
        let buffer = Buffer::new(Disk::open(dir.path()).unwrap()).unwrap();
        let (first, meta) = changes(2..300);
        buffer.put(first, meta).unwrap();
        assert_eq!(
            buffer.record(Revision::first_of(250)).unwrap(),
            Some(record(250).1)
        );
        assert_eq!(buffer.records(Revision::first_of(100), 199).unwrap().count(), 100);
        assert_eq!(
            buffer.shared.disk.record(Revision::first_of(250)).unwrap(),
            Some(record(250).1)
        );
        assert_eq!(buffer.record(Revision::first_of(300)).unwrap(), None);
    }

    #[test]
    fn what_nobody_can_reach_is_removed_but_not_while_it_is_held() {
        let dir = tempfile::tempdir().unwrap();
        let buffer = Buffer::new(Disk::open(dir.path()).unwrap()).unwrap();
        let (first, meta) = changes(2..300);
        buffer.put(first, meta).unwrap();
        buffer.forget((2..200).map(Revision::first_of).collect());
        buffer.shared.store().unwrap();
        let held = buffer.hold();
        buffer.shared.remove().unwrap();
        assert!(buffer.record(Revision::first_of(150)).unwrap().is_some());
        drop(held);
        buffer.shared.remove().unwrap();
        assert_eq!(buffer.record(Revision::first_of(150)).unwrap(), None);
        assert!(buffer.record(Revision::first_of(200)).unwrap().is_some());
        // What is left still adds up.
        buffer.close().unwrap();
        drop(buffer);
        let (meta, _) = Disk::open(dir.path()).unwrap().load().unwrap();
        assert_eq!(meta.revision, 299);
    }

    #[test]
    fn no_record_is_removed_before_the_compaction_that_forgot_it_is_stored() {
        let dir = tempfile::tempdir().unwrap();
        let buffer = Buffer::new(Disk::open(dir.path()).unwrap()).unwrap();
        let (first, meta) = changes(2..50);
        buffer.put(first, meta).unwrap();
        buffer.shared.store().unwrap();
        let (mut second, mut meta) = changes(50..100);
        second.unreachable = (2..99).map(Revision::first_of).collect();
        meta.compacted = 99;
        buffer.put(second, meta).unwrap();
        // As when they are put between a storing and the removing after it.
        buffer.shared.remove().unwrap();
        assert_eq!(
            buffer.shared.disk.record(Revision::first_of(49)).unwrap(),
            Some(record(49).1),
            "a kill would leave a state of revision 49 without its key"
        );
        buffer.shared.store().unwrap();
        buffer.shared.remove().unwrap();
        assert_eq!(buffer.record(Revision::first_of(49)).unwrap(), None);
        assert_eq!(
            buffer.record(Revision::first_of(98)).unwrap(),
            None,
            "one that was put and forgotten at once"
        );
        assert!(buffer.record(Revision::first_of(99)).unwrap().is_some());
    }

    #[test]
    fn after_a_failure_nothing_is_stored_and_all_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let buffer = Buffer::new(Disk::open(dir.path()).unwrap()).unwrap();
        let (first, meta) = changes(2..50);
        buffer.put(first, meta).unwrap();
        buffer.shared.store().unwrap();
        let full = Error::Disk("full".into());
        assert_eq!(
            buffer.shared.attempt(|_| Err(full.clone())),
            Err(full.clone()),
            "as a storing that fails"
        );
        let (second, meta) = changes(50..100);
        assert_eq!(buffer.put(second, meta), Err(full.clone()));
        assert_eq!(buffer.record(Revision::first_of(70)).unwrap(), Some(record(70).1));
        assert_eq!(buffer.close(), Err(full));
        drop(buffer);
        let (meta, _) = Disk::open(dir.path()).unwrap().load().unwrap();
        assert_eq!(meta.revision, 49);
    }

    #[test]
    fn a_panic_of_sled_is_an_error_that_stays() {
        let dir = tempfile::tempdir().unwrap();
        let buffer = Buffer::new(Disk::open(dir.path()).unwrap()).unwrap();
        let panicked = buffer.shared.attempt(|_| panic!("damage"));
        assert!(matches!(panicked, Err(Error::Disk(_))), "{panicked:?}");
        let (first, meta) = changes(2..50);
        assert_eq!(buffer.put(first, meta), panicked);
    }

    #[test]
    fn records_that_were_stored_without_their_meta_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path()).unwrap();
        let (first, meta) = changes(2..50);
        disk.store(&first, &meta).unwrap();
        let (second, _) = changes(50..150);
        // As an interrupted storing leaves it: the records, and the meta of before.
        disk.store_records_alone(&second).unwrap();
        drop(disk);
        let disk = Disk::open(dir.path()).unwrap();
        let (meta, database) = disk.load().unwrap();
        assert_eq!((meta.revision, database.revision), (49, 49));
        assert_eq!(disk.record(Revision::first_of(120)).unwrap(), None);
    }
}
