//! What the store keeps of runs, for `ps -a`: plain stages, whoever ran them.
//!
//! A run that lasts is kept while it is under way too, with its coordinator's id, so that one whose coordinator is lost
//! leaves something to be seen.

use pipes_raft::{Compare, Op, Txn};
use serde::{Deserialize, Serialize};

use crate::keys;
use crate::workflow::runs::view::Run;

/// Status when Pipes itself failed, or a server, link or shim was lost.
pub const LOST: i32 = 125;
/// Finished runs whose records are kept; the oldest goes when another comes.
pub const RECORDS_MAX: usize = 1_000;
/// How many go at once.
const AT_ONCE_MAX: usize = 4;
/// Older ones that are still under way and are passed over; where there are more, none goes until some have ended.
const UNDER_WAY_MAX: usize = 64;

/// A run as it lies in the store.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// What is known of it.
    #[serde(flatten)]
    pub run: Run,
    /// The node that coordinates it, while it is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coordinator: Option<u64>,
}

impl Record {
    /// The run, where its coordinator was lost; `server` is that node's name.
    pub fn lost(mut self, server: &str) -> Run {
        let why = format!("server {server}, which coordinated it, was lost or started anew");
        self.run.fail(LOST, why);
        self.run
    }
}

/// Keeps a run that is under way, unless it has ended meanwhile.
pub async fn write_running(store: &pipes_raft::Store, run: Run, coordinator: u64) -> anyhow::Result<()> {
    let key = keys::run(&run.id);
    let kept = Record {
        run,
        coordinator: Some(coordinator),
    };
    let put = Op::put(key.clone(), serde_json::to_vec(&kept)?);
    let txn = Txn {
        compares: vec![Compare::absent(key)],
        success: vec![put],
        ..Txn::default()
    };
    store.txn(txn).await?;
    Ok(())
}

/// Keeps one that is over in the store and lets go of the oldest beyond the limit.
pub async fn write(store: &pipes_raft::Store, run: &Run) -> anyhow::Result<()> {
    store
        .put(keys::run(&run.id), serde_json::to_vec(run)?, None)
        .await?;
    let mut range = pipes_raft::Range::prefix(keys::runs());
    range.keys_only = true;
    let kept = store
        .range(range, pipes_raft::Consistency::Serializable)
        .await?
        .kvs;
    let excess = kept.len().saturating_sub(RECORDS_MAX).min(AT_ONCE_MAX);
    if excess == 0 {
        return Ok(());
    }
    // Keys sort by time: the first are the oldest. A few at a time, so that one run never pays for many.
    let mut range = pipes_raft::Range::prefix(keys::runs());
    range.limit = excess + UNDER_WAY_MAX;
    let oldest = store
        .range(range, pipes_raft::Consistency::Serializable)
        .await?
        .kvs;
    let is_over =
        |value: &[u8]| serde_json::from_slice(value).is_ok_and(|kept: Record| kept.coordinator.is_none());
    for old in oldest.iter().filter(|kv| is_over(&kv.value)).take(excess) {
        store.delete(old.key.clone()).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
