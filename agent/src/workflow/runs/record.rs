//! What the store keeps of runs, for `ps -a`: plain stages, whoever ran them.
//!
//! A run that lasts is kept while it is under way too, with its coordinator's id, so that one whose coordinator is lost
//! leaves something to be seen.

use pipes_raft::{Consistency, Op, Range, Txn};
use serde::{Deserialize, Serialize};

use crate::cluster::nodes;
use crate::keys;
use crate::workflow::runs::view::Run;

/// Status when Pipes itself failed, or a server, link or shim was lost.
pub const LOST: i32 = 125;
/// Finished runs whose records are kept; so many, and a few that go together with the next one.
pub const RECORDS_MAX: usize = 1_000;
/// So many beyond the limit go together, and are looked for when so many runs have ended here: each time costs a
/// transaction, which not every run is to pay for.
pub const TOGETHER: usize = 16;
/// How many go at once: as many as may have come since, together.
const AT_ONCE_MAX: usize = 8 * TOGETHER;
/// Records looked at in one piece; those that are still under way are passed over.
const PAGE: usize = 64;

/// A run as it lies in the store.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// What is known of it.
    #[serde(flatten)]
    pub run: Run,
    /// The node that coordinates it, while it is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coordinator: Option<u64>,
    /// The node that keeps what its stages said on standard error, once it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs_at: Option<u64>,
}

impl Record {
    /// The run, where its coordinator was lost; `server` is that node's name.
    pub fn lost(mut self, server: &str) -> Run {
        let why = format!("server {server}, which coordinated it, was lost or started anew");
        self.run.fail(LOST, why);
        self.run
    }

    /// The run as its record has it, which is all that is known where its coordinator, of this name, is silent.
    pub fn as_recorded(mut self, silent: Option<String>) -> Run {
        if let Some(server) = silent {
            self.run.reason = Some(format!(
                "{server}, which coordinates it, does not answer: this is what was recorded when it began"
            ));
        }
        self.run
    }
}

/// Lets go of the oldest beyond the limit; `is_known` tells a run that its coordinator, this node `own`, has under way.
pub async fn prune(
    store: &pipes_raft::Store,
    own: u64,
    is_known: impl Fn(&str) -> bool,
) -> Result<(), pipes_raft::Error> {
    let all = Range {
        count_only: true,
        ..Range::prefix(keys::runs())
    };
    let count = store.range(all, Consistency::Serializable).await?.count;
    let excess = excess(count);
    if excess > 0 {
        let present = nodes::present(store).await?;
        let is_lost = |kept: &Record| match kept.coordinator {
            Some(node) if node == own => !is_known(&kept.run.id),
            Some(node) => !present.contains(&node),
            None => true,
        };
        forget(store, excess, is_lost).await?;
    }
    Ok(())
}

/// How many of so many records go now.
fn excess(count: usize) -> usize {
    let beyond = count.saturating_sub(RECORDS_MAX);
    if beyond < TOGETHER {
        0
    } else {
        beyond.min(AT_ONCE_MAX)
    }
}

/// Lets go of the oldest that `may_go`, a few at a time, so that one run never pays for many.
async fn forget(
    store: &pipes_raft::Store,
    mut excess: usize,
    may_go: impl Fn(&Record) -> bool,
) -> Result<(), pipes_raft::Error> {
    // Keys sort by time: the first are the oldest.
    let mut page = Range::prefix(keys::runs());
    page.limit = PAGE;
    loop {
        let found = store.range(page.clone(), Consistency::Serializable).await?;
        let old = found
            .kvs
            .iter()
            .filter(|kv| match serde_json::from_slice(&kv.value) {
                Ok(kept) => may_go(&kept),
                // Of a later version, perhaps: it says nothing that keeps it.
                Err(_) => true,
            });
        let gone: Vec<Op> = old.take(excess).map(|kv| Op::delete(kv.key.clone())).collect();
        excess -= gone.len();
        if !gone.is_empty() {
            let txn = Txn {
                success: gone,
                ..Txn::default()
            };
            store.txn(txn).await?;
        }
        let last = found.kvs.last().filter(|_| found.more && excess > 0);
        let Some(last) = last else { return Ok(()) };
        page.key = [last.key.as_slice(), &[0]].concat();
    }
}

#[cfg(test)]
mod tests {
    use pipes_raft::Op;

    use super::*;
    use crate::alone;

    #[test]
    fn a_run_under_way_is_kept_with_its_coordinator_and_any_other_is_a_run() {
        let run = Run {
            id: "r1".into(),
            state: "running".into(),
            ..Run::default()
        };
        let kept = Record {
            run: run.clone(),
            coordinator: Some(3),
            logs_at: Some(3),
        };
        let json = serde_json::to_vec(&kept).unwrap();
        let read: Record = serde_json::from_slice(&json).unwrap();
        assert_eq!((read.run, read.coordinator), (run.clone(), Some(3)));
        // An agent of an older version reads it too.
        assert_eq!(serde_json::from_slice::<Run>(&json).unwrap(), run);
        let ended = serde_json::to_vec(&run).unwrap();
        assert_eq!(
            serde_json::from_slice::<Record>(&ended).unwrap().coordinator,
            None
        );
    }

    #[test]
    fn records_beyond_the_limit_go_a_few_together_and_never_many() {
        assert_eq!(excess(RECORDS_MAX + TOGETHER - 1), 0);
        assert_eq!(excess(RECORDS_MAX + TOGETHER), TOGETHER);
        assert_eq!(excess(2 * RECORDS_MAX), AT_ONCE_MAX);
        assert_eq!(excess(0), 0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_oldest_go_behind_many_that_are_under_way_and_lost_ones_with_them() {
        let folder = tempfile::tempdir().unwrap();
        let node = alone::node(folder.path()).await;
        let store = node.store();
        let id = |number: usize| format!("r{number:03}");
        let mut records = Vec::new();
        // The first hundred are under way, every tenth of them on a node that is gone; ten have ended after them.
        for number in 0..110 {
            let run = Run {
                id: id(number),
                ..Run::default()
            };
            let coordinator = (number < 100).then_some(if number % 10 == 0 { 9 } else { 1 });
            let kept = Record {
                run,
                coordinator,
                logs_at: coordinator,
            };
            records.push(Op::put(
                keys::run(&id(number)),
                serde_json::to_vec(&kept).unwrap(),
            ));
        }
        let txn = Txn {
            success: records,
            ..Txn::default()
        };
        store.txn(txn).await.unwrap();
        forget(&store, 12, |kept| kept.coordinator != Some(1))
            .await
            .unwrap();
        let left = store.prefix(keys::runs()).await.unwrap();
        let is_left = |number| left.iter().any(|kv| kv.key == keys::run(&id(number)));
        let gone: Vec<usize> = (0..110).filter(|number| !is_left(*number)).collect();
        assert_eq!(gone, [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 101]);
        node.shutdown().await;
    }
}
