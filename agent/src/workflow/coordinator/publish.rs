//! What others see of a run while it is on: its place in the registry, its caller's progress, its log and its record.
//!
//! ```text
//! accepted  registry: waiting      started  registry: running
//! after 1 s, and from then on once a second at most, when something has changed:
//!           registry: times, statuses and bytes of its stages      caller: [3, [[in, out], ...]]      once: the record
//! over      the record as it ended, then out of the registry
//! ```
//!
//! Always: (1) nothing of it is waited for, by bytes least of all: a caller that has not taken what it was sent is told
//! nothing, and its next counts are newer; (2) a run that is over in a second writes nothing before its end; (3) a run
//! leaves the registry after its end is on record, so that a record that says *running* and is in no registry is one
//! whose coordinator was lost.

use std::time::{Duration, SystemTime};

use pipes_protocol::run::Part;
use tokio::time::{Instant, sleep};

use crate::lifecycle::Kind;
use crate::workflow::coordinator::attempt::{Attempt, Phase};
use crate::workflow::coordinator::caller::CallerOut;
use crate::workflow::coordinator::context::Context;
use crate::workflow::coordinator::error::Error;
use crate::workflow::coordinator::outcome::Outcome;
use crate::workflow::coordinator::plan::Plan;
use crate::workflow::runs::record::{self, LOST};
use crate::workflow::runs::registry::Guard;
use crate::workflow::runs::view::{Run, RunStage, time};

/// How old a run becomes before it is recorded, and the time between two showings of how far it came.
const EVERY: Duration = Duration::from_secs(1);

/// Publishes a run.
pub struct Publisher<'c> {
    context: &'c Context,
    plan: &'c Plan,
    guard: Guard,
    started: SystemTime,
    due: Instant,
    /// Something has changed since it was shown.
    is_behind: bool,
    is_recorded: bool,
}

impl<'c> Publisher<'c> {
    /// Of a run that entered the registry.
    pub fn new(context: &'c Context, plan: &'c Plan, guard: Guard, started: SystemTime) -> Publisher<'c> {
        Publisher {
            context,
            plan,
            guard,
            started,
            due: Instant::now() + EVERY,
            is_behind: false,
            is_recorded: false,
        }
    }

    /// An attempt begins, or starts its stages.
    pub fn update(&self, attempt: &Attempt<'_>) {
        self.guard.update(under_way(self.plan, attempt, self.started));
    }

    /// A stage, from 1, wrote to its standard error: kept for `logs`.
    pub fn keep_stderr(&self, stage: u32, bytes: &[u8]) {
        self.context.logs.append(&self.plan.id, stage, bytes);
    }

    /// A stage came further, which is to be shown in time.
    pub fn note_progress(&mut self) {
        self.is_behind = true;
    }

    /// When to show it, if there is anything to show.
    pub fn due(&self) -> Option<Instant> {
        (self.is_behind || !self.is_recorded).then_some(self.due)
    }

    /// Shows how far the attempt has come, if it is time to.
    pub fn show(&mut self, attempt: &Attempt<'_>, output: &mut CallerOut) {
        if self.due().is_none_or(|due| Instant::now() < due) {
            return;
        }
        self.due = Instant::now() + EVERY;
        self.is_behind = false;
        let run = under_way(self.plan, attempt, self.started);
        if !std::mem::replace(&mut self.is_recorded, true) {
            self.record(run.clone());
        }
        self.guard.update(run);
        if attempt.phase == Phase::Running && output.pending() == 0 {
            let counts = attempt
                .stages
                .iter()
                .map(|stage| stage.counts.unwrap_or_default());
            output.part(&Part::Counts(counts.collect()));
        }
    }

    /// Writes that it is under way, beside the run.
    fn record(&self, run: Run) {
        let (store, coordinator) = (self.context.store.clone(), self.plan.coordinator);
        self.context
            .lifecycle
            .spawn(Kind::Work, "record of a run under way", async move {
                record::write_running(&store, run, coordinator).await
            });
    }

    /// It was accepted and yet did not take place: told in its record, if it has one.
    pub fn refused(self, error: &Error) {
        if self.is_recorded {
            let mut run = accepted(self.plan, self.started);
            run.fail(LOST, error.to_string());
            run.finished = Some(time(SystemTime::now()));
            self.finish(run);
        }
    }

    /// Writes how it ended, beside the answer, and leaves the registry after that.
    pub fn finish(self, run: Run) {
        let (store, guard) = (self.context.store.clone(), self.guard);
        guard.update(run.clone());
        let stopping = self.context.lifecycle.stopping();
        self.context
            .lifecycle
            .spawn(Kind::Work, "record of a run", async move {
                // A store without a leader has one again before long; until then the run is known here.
                while let Err(error) = record::write(&store, &run).await {
                    if stopping.run_until_cancelled(sleep(EVERY)).await.is_none() {
                        return Err(error);
                    }
                }
                drop(guard);
                Ok(())
            });
    }
}

/// A run that was accepted and is not placed yet.
pub fn accepted(plan: &Plan, started: SystemTime) -> Run {
    let stages = plan.stages.iter().enumerate().map(|(index, planned)| RunStage {
        stage: index as u32 + 1,
        service: planned.service.clone(),
        args: planned
            .args
            .iter()
            .map(|arg| String::from_utf8_lossy(arg).into_owned())
            .collect(),
        ..RunStage::default()
    });
    Run {
        id: plan.id.clone(),
        line: plan.line.clone(),
        state: "waiting".into(),
        started: Some(time(started)),
        stages: stages.collect(),
        ..Run::default()
    }
}

/// A run that is placed.
pub fn under_way(plan: &Plan, attempt: &Attempt<'_>, started: SystemTime) -> Run {
    let mut run = placed(plan, attempt, started);
    if attempt.has_started {
        run.state = "running".into();
    }
    for (shown, stage) in run.stages.iter_mut().zip(&attempt.stages) {
        let counts = stage.counts.unzip();
        shown.bytes_in = shown.bytes_in.or(counts.0);
        shown.bytes_out = shown.bytes_out.or(counts.1);
    }
    run
}

/// A run that is over.
pub fn over(plan: &Plan, attempt: &Attempt<'_>, started: SystemTime, outcome: Outcome) -> Run {
    Run {
        state: outcome.state.into(),
        status: Some(outcome.exit),
        exit: Some(outcome.exit),
        reason: outcome.message.clone(),
        message: outcome.message,
        finished: Some(time(SystemTime::now())),
        ..placed(plan, attempt, started)
    }
}

fn placed(plan: &Plan, attempt: &Attempt<'_>, started: SystemTime) -> Run {
    let mut run = accepted(plan, started);
    for (shown, stage) in run.stages.iter_mut().zip(&attempt.stages) {
        shown.node = Some(stage.node_name.clone());
        shown.started = stage.started.map(time);
        shown.finished = stage.exit.map(|exit| time(exit.at));
        shown.status = stage.exit.map(|exit| exit.status);
        shown.signal = stage.exit.and_then(|exit| exit.signal);
        shown.bytes_in = stage.ended.map(|(bytes_in, _)| bytes_in);
        shown.bytes_out = stage.ended.map(|(_, bytes_out)| bytes_out).or(stage.closed);
    }
    run
}
