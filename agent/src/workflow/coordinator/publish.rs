//! What others see of a run while it is on: its place in the registry, its caller's progress, its log and its record.
//!
//! ```text
//! accepted  registry: waiting      started  registry: running
//! after 25 ms                                  the record, so that it is not forgotten with its coordinator
//! five times a second, when something changed  registry: times, statuses and bytes of its stages
//! once a second, when something changed        caller: [3, [[in, out], ...]]
//! over      the record as it ended, then out of the registry
//! ```
//!
//! Always: (1) nothing of it is waited for, by bytes least of all: a caller that has not taken what it was sent is told
//! nothing, and its next counts are newer; (2) a run that is over in 25 ms, as most are, writes nothing before its end;
//! (3) a run leaves the registry after its end is on record, so that a record that says *running* and is in no registry
//! is one whose coordinator was lost.

use std::time::{Duration, SystemTime};

use pipes_protocol::run::Part;
use tokio::time::Instant;

use crate::workflow::coordinator::attempt::{Attempt, Phase};
use crate::workflow::coordinator::caller::CallerOut;
use crate::workflow::coordinator::context::Context;
use crate::workflow::coordinator::error::Error;
use crate::workflow::coordinator::outcome::Outcome;
use crate::workflow::coordinator::plan::Plan;
use crate::workflow::runs::record::LOST;
use crate::workflow::runs::registry::Guard;
use crate::workflow::runs::stderr_log::RunLog;
use crate::workflow::runs::view::{Run, RunStage, time};

/// How old a run becomes before it is recorded: one that is killed sooner with its coordinator is nowhere to be seen, and
/// one that is over sooner costs one write.
const RECORD_AFTER: Duration = Duration::from_millis(25);
/// Between two showings of how far it came, and from a change to its showing: what all stages say at about the same time
/// is shown together.
const SHOW_EVERY: Duration = Duration::from_millis(200);
/// Between two tellings of its bytes to its caller.
const EVERY: Duration = Duration::from_secs(1);

/// Publishes a run.
pub struct Publisher<'c> {
    context: &'c Context,
    plan: &'c Plan,
    guard: Guard,
    log: RunLog,
    started: SystemTime,
    /// When it is recorded; `None` once it is.
    record: Option<Instant>,
    /// What others are shown.
    shown: Pace,
    /// What its caller is told.
    told: Pace,
}

/// When to show what has changed.
struct Pace {
    every: Duration,
    due: Instant,
    /// Something has changed since it was shown.
    is_behind: bool,
}

impl Pace {
    fn new(every: Duration) -> Pace {
        Pace {
            every,
            due: Instant::now() + every,
            is_behind: false,
        }
    }

    /// Something has changed.
    fn note(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.is_behind, true) {
            self.due = self.due.max(now + SHOW_EVERY);
        }
    }

    fn due(&self) -> Option<Instant> {
        self.is_behind.then_some(self.due)
    }

    /// Whether it is to be shown now.
    fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.is_behind && now >= self.due;
        if is_due {
            self.due = now + self.every;
            self.is_behind = false;
        }
        is_due
    }
}

impl<'c> Publisher<'c> {
    /// Of a run that entered the registry.
    pub fn new(context: &'c Context, plan: &'c Plan, guard: Guard, started: SystemTime) -> Publisher<'c> {
        Publisher {
            context,
            plan,
            guard,
            log: context.logs.begin(plan.shown_as()),
            started,
            // Of a job, the job's own record is the only one.
            record: plan.options.job.is_none().then(|| Instant::now() + RECORD_AFTER),
            shown: Pace::new(SHOW_EVERY),
            told: Pace::new(EVERY),
        }
    }

    /// An attempt begins, or starts its stages.
    pub fn update(&self, attempt: &Attempt<'_>) {
        self.guard.update(under_way(self.plan, attempt, self.started));
    }

    /// A stage, from 1, wrote to its standard error: kept for `logs`.
    pub fn keep_stderr(&self, stage: u32, bytes: &[u8]) {
        self.log.append(stage, bytes);
    }

    /// A stage came further, which is to be shown in time.
    pub fn note_progress(&mut self) {
        let now = Instant::now();
        self.shown.note(now);
        self.told.note(now);
    }

    /// When to show it, if there is anything to show.
    pub fn due(&self) -> Option<Instant> {
        [self.record, self.shown.due(), self.told.due()]
            .into_iter()
            .flatten()
            .min()
    }

    /// When it is to be recorded, if it is not yet.
    pub fn record_due(&self) -> Option<Instant> {
        self.record
    }

    /// Records a run that waits for slots, if it is time to.
    pub fn show_waiting(&mut self) {
        if self.record.is_some_and(|due| Instant::now() >= due) {
            self.record = None;
            self.context.recorder.under_way(accepted(self.plan, self.started));
        }
    }

    /// Shows how far the attempt has come, if it is time to.
    pub fn show(&mut self, attempt: &Attempt<'_>, output: &mut CallerOut) {
        let now = Instant::now();
        if self.due().is_none_or(|due| now < due) {
            return;
        }
        let run = under_way(self.plan, attempt, self.started);
        if self.record.is_some_and(|due| now >= due) {
            self.record = None;
            self.context.recorder.under_way(run.clone());
        }
        if self.shown.is_due(now) {
            self.guard.update(run);
        }
        if self.told.is_due(now) && attempt.phase == Phase::Running && output.pending() == 0 {
            let counts = attempt
                .stages
                .iter()
                .map(|stage| stage.counts.unwrap_or_default());
            output.part(&Part::Counts(counts.collect()));
        }
    }

    /// It was accepted and yet did not take place: told in its record, if it has one.
    pub fn refused(self, error: &Error) {
        if self.record.is_none() && self.plan.options.job.is_none() {
            let mut run = accepted(self.plan, self.started);
            run.fail(LOST, error.to_string());
            run.finished = Some(time(SystemTime::now()));
            self.finish(run);
        }
    }

    /// Has written how it ended, beside the answer; it leaves the registry after that.
    pub fn finish(self, run: Run) {
        if self.plan.options.job.is_none() {
            self.guard.update(run.clone());
            self.context.recorder.over(run, self.guard);
        }
    }
}

/// A run that was accepted and is not placed yet.
pub fn accepted(plan: &Plan, started: SystemTime) -> Run {
    let stages = plan.stages.iter().enumerate().map(|(index, planned)| RunStage {
        stage: index as u32 + 1,
        service: planned.kind.service.clone(),
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
        workflow: plan.options.workflow.clone(),
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
    ended(placed(plan, attempt, started), outcome)
}

/// A run that ended before there were slots for it.
pub fn unplaced(plan: &Plan, started: SystemTime, outcome: Outcome) -> Run {
    ended(accepted(plan, started), outcome)
}

fn ended(run: Run, outcome: Outcome) -> Run {
    Run {
        state: outcome.state.into(),
        status: Some(outcome.exit),
        exit: Some(outcome.exit),
        reason: outcome.message.clone(),
        message: outcome.message,
        finished: Some(time(SystemTime::now())),
        ..run
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
