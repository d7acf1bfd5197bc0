//! The run as others see it: while it runs (`ps`), as its answer, and kept for `ps -a`.
//!
//! A run that lasts is kept while it is under way too, with its coordinator's id, so that one whose coordinator is lost
//! leaves something to be seen.

use std::time::SystemTime;

use pipes_raft::{Compare, Op, Txn};
use rmpv::Value;
use serde::{Deserialize, Serialize};

use crate::keys;
use crate::workflow::coordinator::attempt::Attempt;
use crate::workflow::coordinator::error::Error;
use crate::workflow::coordinator::outcome::{self, Outcome};
use crate::workflow::coordinator::plan::Plan;
use crate::workflow::runs::view::{Run, RunStage, time};

/// Finished runs whose records are kept; the oldest goes when another comes.
pub const RECORDS_MAX: usize = 1_000;
/// How many go at once.
const AT_ONCE_MAX: usize = 4;
/// Older ones that are still under way and are passed over; where there are more, none goes until some have ended.
const UNDER_WAY_MAX: usize = 64;

/// A run as it lies in the store.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Kept {
    /// What is known of it.
    #[serde(flatten)]
    pub run: Run,
    /// The node that coordinates it, while it is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coordinator: Option<u64>,
}

impl Kept {
    /// The run, where its coordinator was lost; `server` is that node's name.
    pub fn lost(mut self, server: &str) -> Run {
        let why = format!("server {server}, which coordinated it, was lost or started anew");
        fail(&mut self.run, status::LOST, why);
        self.run
    }
}

/// A run that was accepted and is not placed yet.
pub fn begun(plan: &Plan, started: SystemTime) -> Run {
    let stages = plan
        .stages
        .iter()
        .enumerate()
        .map(|(index, planned)| RunStage {
            stage: index as u32 + 1,
            service: planned.service.clone(),
            args: planned
                .args
                .iter()
                .map(|arg| String::from_utf8_lossy(arg).into_owned())
                .collect(),
            ..RunStage::default()
        })
        .collect();
    Run {
        id: plan.id.clone(),
        line: plan.line.clone(),
        state: "waiting".into(),
        started: Some(time(started)),
        stages,
        ..Run::default()
    }
}

/// A run that is placed.
pub fn running(plan: &Plan, attempt: &Attempt<'_>, started: SystemTime, went: bool) -> Run {
    let mut run = begun(plan, started);
    run.state = if went { "running" } else { "waiting" }.into();
    fill(&mut run, attempt);
    for (shown, stage) in run.stages.iter_mut().zip(&attempt.stages) {
        let counts = stage.counts.unzip();
        shown.bytes_in = shown.bytes_in.or(counts.0);
        shown.bytes_out = shown.bytes_out.or(counts.1);
    }
    run
}

/// A run that was accepted and could not take place.
pub fn refused(plan: &Plan, started: SystemTime, error: &Error) -> Run {
    let mut run = begun(plan, started);
    fail(&mut run, status::LOST, error.to_string());
    run.finished = Some(time(SystemTime::now()));
    run
}

fn fail(run: &mut Run, status: i32, why: String) {
    run.state = "failed".into();
    run.status = Some(status);
    run.exit = Some(status);
    run.reason = Some(why.clone());
    run.message = Some(why);
}

/// A run that is over.
pub fn finished(plan: &Plan, attempt: &Attempt<'_>, started: SystemTime, outcome: Outcome) -> Run {
    let mut run = begun(plan, started);
    fill(&mut run, attempt);
    run.state = outcome.state.into();
    run.status = Some(outcome.exit);
    run.exit = Some(outcome.exit);
    run.reason = outcome.message.clone();
    run.message = outcome.message;
    run.finished = Some(time(SystemTime::now()));
    run
}

fn fill(run: &mut Run, attempt: &Attempt<'_>) {
    for (shown, stage) in run.stages.iter_mut().zip(&attempt.stages) {
        shown.node = Some(stage.node_name.clone());
        shown.started = stage.started.map(time);
        shown.finished = stage.exit.map(|exit| time(exit.at));
        shown.status = stage.exit.map(|exit| exit.status);
        shown.signal = stage.exit.and_then(|exit| exit.signal);
        shown.bytes_in = stage.ended.map(|(bytes_in, _)| bytes_in);
        shown.bytes_out = stage.ended.map(|(_, bytes_out)| bytes_out).or(stage.closed);
    }
}

/// As it travels in WAMP.
pub fn value(run: &Run) -> Value {
    // Text, numbers and lists only: nothing in it can fail to encode, or to be read again.
    let bytes = rmp_serde::to_vec_named(run).unwrap_or_default();
    rmpv::decode::read_value(&mut &bytes[..]).unwrap_or(Value::Nil)
}

/// Keeps a run that is under way, unless it has ended meanwhile.
pub async fn write_running(store: &pipes_raft::Store, run: Run, coordinator: u64) -> anyhow::Result<()> {
    let key = keys::run(&run.id);
    let kept = Kept {
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
        |value: &[u8]| serde_json::from_slice(value).is_ok_and(|kept: Kept| kept.coordinator.is_none());
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
        let kept = Kept {
            run: run.clone(),
            coordinator: Some(3),
        };
        let json = serde_json::to_vec(&kept).unwrap();
        let read: Kept = serde_json::from_slice(&json).unwrap();
        assert_eq!((read.run, read.coordinator), (run.clone(), Some(3)));
        // An agent of an older version reads it too.
        assert_eq!(serde_json::from_slice::<Run>(&json).unwrap(), run);
        let ended = serde_json::to_vec(&run).unwrap();
        assert_eq!(serde_json::from_slice::<Kept>(&ended).unwrap().coordinator, None);
    }
}
