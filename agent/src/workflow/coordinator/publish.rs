//! What others see of a run while it is on: its place in the registry, its caller's progress, its log and its record.
//!
//! ```text
//! accepted  registry: waiting      go  registry: running
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

use tokio::time::{Instant, sleep};

use crate::lifecycle::Kind;
use crate::router::Router;
use crate::workflow::coordinator::attempt::replies::Effect;
use crate::workflow::coordinator::attempt::{Attempt, Phase};
use crate::workflow::coordinator::caller::CallerOut;
use crate::workflow::coordinator::error::Error;
use crate::workflow::coordinator::plan::Plan;
use crate::workflow::coordinator::serve::Context;
use crate::workflow::runs::record;
use crate::workflow::runs::registry::Guard;
use crate::workflow::runs::view::Run;

/// How old a run becomes before it is recorded, and the time between two showings of how far it came.
const EVERY: Duration = Duration::from_secs(1);

/// A run's showing.
pub struct Shown<'c> {
    context: &'c Context,
    plan: &'c Plan,
    guard: Guard,
    started: SystemTime,
    due: Instant,
    /// Something has changed since it was shown.
    is_behind: bool,
    is_recorded: bool,
}

impl<'c> Shown<'c> {
    /// Of a run that entered the registry.
    pub fn new(context: &'c Context, plan: &'c Plan, guard: Guard, started: SystemTime) -> Shown<'c> {
        Shown {
            context,
            plan,
            guard,
            started,
            due: Instant::now() + EVERY,
            is_behind: false,
            is_recorded: false,
        }
    }

    /// Lets bytes go past us.
    pub fn router(&self) -> &'c Router {
        &self.context.router
    }

    /// An attempt begins, or goes.
    pub fn update(&self, attempt: &Attempt<'_>, went: bool) {
        self.guard
            .update(record::running(self.plan, attempt, self.started, went));
    }

    /// Something was said to the attempt: kept for `logs`, or to be shown in time.
    pub fn hear(&mut self, effect: &Effect<'_>) {
        match effect {
            Effect::Stderr(stage, bytes) => {
                self.context.logs.append(&self.plan.id, *stage as u32 + 1, bytes);
            }
            Effect::Progress => self.is_behind = true,
            _ => {}
        }
    }

    /// When to show it, if there is anything to show.
    pub fn due(&self) -> Option<Instant> {
        (self.is_behind || !self.is_recorded).then_some(self.due)
    }

    /// Shows how far the attempt has come, if it is time to.
    pub fn show(&mut self, attempt: &Attempt<'_>, went: bool, output: &mut CallerOut) {
        if self.due().is_none_or(|due| Instant::now() < due) {
            return;
        }
        self.due = Instant::now() + EVERY;
        self.is_behind = false;
        let run = record::running(self.plan, attempt, self.started, went);
        if !std::mem::replace(&mut self.is_recorded, true) {
            self.record(run.clone());
        }
        self.guard.update(run);
        if attempt.phase == Phase::Running && output.pending() == 0 {
            output.counts(
                attempt
                    .stages
                    .iter()
                    .map(|stage| stage.counts.unwrap_or_default()),
            );
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
            let run = record::refused(self.plan, self.started, error);
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
