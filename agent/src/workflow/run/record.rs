//! The run as others see it: while it runs (`ps`), as its answer, and kept for `ps -a`.

use std::time::SystemTime;

use rmpv::Value;

use crate::keys;
use crate::workflow::report::{Run, RunStage, time};
use crate::workflow::run::attempt::Attempt;
use crate::workflow::run::outcome::Outcome;
use crate::workflow::run::plan::Plan;

/// Finished runs whose records are kept; the oldest goes when another comes.
pub const RECORDS_MAX: usize = 1_000;

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

/// Keeps it in the store and lets go of the oldest beyond the limit.
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
    // Keys sort by time: the first are the oldest. A few at a time, so that one run never pays for many.
    for old in kept.iter().take(kept.len().saturating_sub(RECORDS_MAX).min(4)) {
        store.delete(old.key.clone()).await?;
    }
    Ok(())
}
