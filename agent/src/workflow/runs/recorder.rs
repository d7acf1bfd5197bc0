//! Writes the records of this agent's runs, several together: while one transaction is under way, and a moment after it,
//! the next one gathers.
//!
//! Always: (1) nobody waits for a record, and a run alone is recorded at once; (2) a run leaves the registry after its end
//! is on record; (3) what a run's end says is written after what was said while it was under way, or instead of it. What
//! gathers is bounded by the registry: each run has one entry here at most, and is in the registry as long.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pipes_raft::{Compare, Fault, OPERATIONS_MAX, Op, Store, Txn};
use tokio::time::sleep;
use tracing::{debug, warn};

use crate::keys;
use crate::lifecycle::{Kind, Lifecycle};
use crate::workflow::runs::record::{self, Record};
use crate::workflow::runs::registry::{Guard, Registry};
use crate::workflow::runs::view::Run;

/// Between two tries: a store without a leader has one again before long.
const TRY_EVERY: Duration = Duration::from_secs(1);
/// Between two transactions, where runs end one after another: the store's writes are everybody's, and until its end is on
/// record a run is known here.
const GATHERED_FOR: Duration = Duration::from_millis(50);
/// Octets of records in one transaction, one record at least: it shares the log with everybody's writes.
const TOGETHER_BYTES_MAX: usize = 256 * 1024;
/// Octets of a record with its stages' arguments, which its line says as well: a line of control characters is written
/// with six octets for each, and a record is to be less than the store takes.
const WHOLE_BYTES_MAX: usize = 512 * 1024;

/// A cheap handle.
#[derive(Clone)]
pub struct Recorder {
    own: u64,
    store: Store,
    registry: Registry,
    lifecycle: Lifecycle,
    waiting: Arc<Mutex<Waiting>>,
}

struct Waiting {
    by_id: BTreeMap<String, Entry>,
    /// A task writes them.
    is_written: bool,
    /// Runs that ended here since old records were let go.
    since_pruned: usize,
}

/// What is to be recorded of a run.
struct Entry {
    /// The record, as it lies in the store.
    value: Vec<u8>,
    /// Of one that is over: its place in the registry.
    guard: Option<Guard>,
}

impl Recorder {
    /// Of this node's runs.
    pub fn new(own: u64, store: Store, registry: Registry, lifecycle: Lifecycle) -> Recorder {
        Recorder {
            own,
            store,
            registry,
            lifecycle,
            waiting: Arc::new(Mutex::new(Waiting {
                by_id: BTreeMap::new(),
                is_written: false,
                // How many there are already is not known.
                since_pruned: record::TOGETHER,
            })),
        }
    }

    /// Records a run that is under way, so that one whose coordinator is lost leaves something to be seen.
    pub fn under_way(&self, run: Run) {
        let record = Record {
            run,
            coordinator: Some(self.own),
            logs_at: None,
        };
        self.add(&record, None);
    }

    /// Records how a run ended, and lets it leave the registry.
    pub fn over(&self, run: Run, guard: Guard) {
        let record = Record {
            run,
            coordinator: None,
            logs_at: Some(self.own),
        };
        self.add(&record, Some(guard));
    }

    fn add(&self, record: &Record, guard: Option<Guard>) {
        let value = match encode(record) {
            Ok(value) => value,
            Err(error) => return warn!(run = record.run.id, %error, "cannot be recorded"),
        };
        let mut waiting = self.lock();
        let entry = Entry { value, guard };
        waiting.by_id.insert(record.run.id.clone(), entry);
        if !std::mem::replace(&mut waiting.is_written, true) {
            let written = self.clone().write_all();
            self.lifecycle.spawn(Kind::Work, "records of runs", written);
        }
    }

    /// Until none waits.
    async fn write_all(self) -> anyhow::Result<()> {
        let stopping = self.lifecycle.stopping();
        while let Some(entries) = self.next() {
            match self.write(&entries).await {
                Ok(()) => {
                    let ended = entries.values().filter(|entry| entry.guard.is_some()).count();
                    // Their runs leave the registry.
                    drop(entries);
                    self.prune(ended).await;
                    stopping.run_until_cancelled(sleep(GATHERED_FOR)).await;
                }
                Err(error) if error.fault() == Fault::Caller => {
                    // It would be refused each time, and hold up all that come behind it.
                    let runs: Vec<String> = entries.into_keys().collect();
                    warn!(?runs, %error, "these runs cannot be recorded");
                }
                Err(error) => {
                    self.put_back(entries);
                    if stopping.run_until_cancelled(sleep(TRY_EVERY)).await.is_none() {
                        self.lock().is_written = false;
                        return Err(error.into());
                    }
                }
            }
        }
        Ok(())
    }

    /// So many as go together; with none the task is over.
    fn next(&self) -> Option<BTreeMap<String, Entry>> {
        let mut waiting = self.lock();
        let mut together = BTreeMap::new();
        let mut bytes = 0;
        while together.len() < OPERATIONS_MAX
            && let Some(first) = waiting.by_id.first_entry()
        {
            bytes += first.get().value.len();
            if bytes > TOGETHER_BYTES_MAX && !together.is_empty() {
                break;
            }
            let (id, entry) = first.remove_entry();
            together.insert(id, entry);
        }
        waiting.is_written = !together.is_empty();
        waiting.is_written.then_some(together)
    }

    /// What could not be written waits again, unless there is news of it.
    fn put_back(&self, entries: BTreeMap<String, Entry>) {
        let mut waiting = self.lock();
        for (id, entry) in entries {
            waiting.by_id.entry(id).or_insert(entry);
        }
    }

    async fn write(&self, entries: &BTreeMap<String, Entry>) -> Result<(), pipes_raft::Error> {
        let writes = entries.iter().map(|(id, entry)| {
            let put = Op::put(keys::run(id), entry.value.clone());
            match entry.guard {
                Some(_) => put,
                // Where a try of which nothing is known comes late, its end may be there already.
                None => Op::Txn(Txn {
                    compares: vec![Compare::absent(keys::run(id))],
                    success: vec![put],
                    ..Txn::default()
                }),
            }
        });
        let txn = Txn {
            success: writes.collect(),
            ..Txn::default()
        };
        self.store.txn(txn).await.map(drop)
    }

    /// Lets go of the oldest records, each time when so many more were written that some may have to go.
    async fn prune(&self, ended: usize) {
        {
            let mut waiting = self.lock();
            waiting.since_pruned += ended;
            if waiting.since_pruned < record::TOGETHER {
                return;
            }
            waiting.since_pruned = 0;
        }
        let is_known = |id: &str| self.registry.knows(id);
        if let Err(error) = record::prune(&self.store, self.own, is_known).await {
            // The next ones that are written try again.
            debug!(%error, "old records of runs stay");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Plain data: a panic elsewhere leaves it whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A record as it lies in the store.
fn encode(record: &Record) -> serde_json::Result<Vec<u8>> {
    let whole = serde_json::to_vec(record)?;
    if whole.len() <= WHOLE_BYTES_MAX {
        return Ok(whole);
    }
    let mut shortened = record.clone();
    shortened
        .run
        .stages
        .iter_mut()
        .for_each(|stage| stage.args.clear());
    serde_json::to_vec(&shortened)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alone;
    use crate::workflow::runs::view::RunStage;

    /// A recorder over a store of one node.
    struct World {
        _folder: tempfile::TempDir,
        node: pipes_raft::Node,
        store: Store,
        registry: Registry,
        lifecycle: Lifecycle,
        recorder: Recorder,
    }

    impl World {
        async fn new() -> World {
            let folder = tempfile::tempdir().unwrap();
            let node = alone::node(folder.path()).await;
            let (store, registry, lifecycle) = (node.store(), Registry::default(), Lifecycle::new());
            let recorder = Recorder::new(1, store.clone(), registry.clone(), lifecycle.clone());
            World {
                _folder: folder,
                node,
                store,
                registry,
                lifecycle,
                recorder,
            }
        }

        /// All records, once everything that waits was written.
        async fn kept(&self) -> Vec<pipes_raft::KeyValue> {
            assert!(self.lifecycle.stop(Duration::from_secs(20)).await);
            self.store.prefix(keys::runs()).await.unwrap()
        }
    }

    fn run(id: &str, state: &str) -> Run {
        Run {
            id: id.into(),
            state: state.into(),
            ..Run::default()
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_longest_line_is_recorded_and_one_that_cannot_be_holds_up_no_other() {
        let world = World::new().await;
        let of_octets = |id: &str, octets: usize| {
            let text = "\u{1}".repeat(octets);
            let mut run = run(id, "succeeded");
            run.stages.push(RunStage {
                args: vec![text.clone()],
                ..RunStage::default()
            });
            Run { line: text, ..run }
        };
        for run in [
            of_octets("r1", 400_000),
            of_octets("r2", 131_072),
            run("r3", "succeeded"),
        ] {
            let (guard, _) = world.registry.enter(run.clone(), None).unwrap();
            world.recorder.over(run, guard);
        }
        let kept = world.kept().await;
        let kept: Vec<&[u8]> = kept.iter().map(|kv| &kv.key[..]).collect();
        assert_eq!(kept, [keys::run("r2"), keys::run("r3")]);
        assert!(["r1", "r2", "r3"].iter().all(|id| !world.registry.knows(id)));
        world.node.shutdown().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn one_under_way_does_not_hide_how_it_ended() {
        let world = World::new().await;
        let ended = serde_json::to_vec(&run("r1", "succeeded")).unwrap();
        let put = world.store.put(keys::run("r1"), ended.clone(), None);
        put.await.unwrap();
        world.recorder.under_way(run("r1", "running"));
        let kept = world.kept().await;
        assert_eq!(kept[0].value, ended);
        world.node.shutdown().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn many_that_end_at_once_are_recorded_together_and_leave_the_registry() {
        let world = World::new().await;
        for number in 0..300 {
            let id = format!("r{number:03}");
            let (guard, _) = world.registry.enter(run(&id, "waiting"), None).unwrap();
            world.recorder.under_way(run(&id, "running"));
            world.recorder.over(run(&id, "succeeded"), guard);
        }
        let kept = world.kept().await;
        let have_left = !world.registry.knows("r000") && !world.registry.knows("r299");
        assert!(have_left && kept.len() == 300, "{}", kept.len());
        let mut revisions: Vec<i64> = kept.iter().map(|kv| kv.mod_revision).collect();
        for kv in &kept {
            let record: Record = serde_json::from_slice(&kv.value).unwrap();
            assert_eq!(
                (record.run.state.as_str(), record.logs_at),
                ("succeeded", Some(1))
            );
        }
        revisions.sort_unstable();
        revisions.dedup();
        assert!(revisions.len() < 30, "{} transactions", revisions.len());
        world.node.shutdown().await;
    }
}
