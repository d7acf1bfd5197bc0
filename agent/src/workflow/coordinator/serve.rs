//! A run from its call to its answer: plan, attempts, record.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::future::join_all;
use pipes_protocol::reservation::{self, Abort};
use pipes_protocol::uris;
use pipes_wamp::client::{CallOptions, Connection};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tracing::info;

use crate::lifecycle::Kind;
use crate::workflow::coordinator::attempt::Attempt;
use crate::workflow::coordinator::bridge::Bridge;
use crate::workflow::coordinator::context::Context;
use crate::workflow::coordinator::error::Error;
use crate::workflow::coordinator::event_loop::{Sides, drive, wait};
use crate::workflow::coordinator::outcome::{Ended, judge};
use crate::workflow::coordinator::plan::Plan;
use crate::workflow::coordinator::publish::{self, Publisher};
use crate::workflow::coordinator::retry::{Next, Retries};
use crate::workflow::coordinator::{caller, lookup};
use crate::workflow::placement;
use crate::workflow::runs::view::Run;
use pipes_router::{OwnSession, Role};

/// So long an attempt waits until the slots of the one before it are free.
const ABORT_MAX: Duration = Duration::from_millis(500);

/// Serves one call of `pipes.run.start`, on a session of its own.
pub async fn serve(context: Arc<Context>, own: OwnSession) {
    let begun = Instant::now();
    // A caller that is gone, or whose request was refused already, needs nothing more.
    let Ok((input, mut output, request)) = caller::accept(own).await else {
        return;
    };
    let plan = match lookup::plan(&context, &request).await {
        Ok(plan) => plan,
        Err(error) => return output.refuse(&error).await,
    };
    let started = SystemTime::now();
    let Some((guard, notices)) = context.registry.enter(publish::accepted(&plan, started)) else {
        let busy = Error::Unavailable("busy: too many runs wait here already".into());
        return output.refuse(&busy).await;
    };
    let mut sides = Sides {
        router: context.router.clone(),
        input,
        output,
        notices,
        bridge: Bridge::new(request, plan.stages.len(), begun),
    };
    let mut attempts = Attempts {
        context: &context,
        plan: &plan,
        started,
        publisher: Publisher::new(&context, &plan, guard, started),
        retries: Retries::default(),
        asked: BTreeSet::new(),
    };
    let result = attempts.run(&mut sides).await;
    let Attempts { asked, publisher, .. } = attempts;
    match result {
        Ok(run) => {
            sides.output.finish(&run).await;
            publisher.finish(run);
        }
        Err(error) => {
            sides.output.refuse(&error).await;
            publisher.refused(&error);
        }
    }
    // Whether it is done is nobody's to wait for.
    drop(abort(&context, &plan, asked, u64::MAX));
}

/// The attempts of one run.
struct Attempts<'c> {
    context: &'c Arc<Context>,
    plan: &'c Plan,
    started: SystemTime,
    publisher: Publisher<'c>,
    retries: Retries,
    /// Nodes that may hold reservations.
    asked: BTreeSet<u64>,
}

impl Attempts<'_> {
    /// One after another, until one is the last or somebody ends the run between two of them.
    async fn run(&mut self, sides: &mut Sides) -> Result<Run, Error> {
        let mut number = 0;
        loop {
            number += 1;
            let nodes = self.place()?;
            let own = self.context.router.attach(uris::REALM_STAGES, Role::Agent);
            let own =
                own.map_err(|error| Error::Unavailable(format!("the router gives no session: {error}")))?;
            let (mut replies, writer) = Connection::welcomed(own.stream).split();
            let in_turn = self.retries.asks_in_turn();
            let mut attempt = Attempt::new(self.plan, number, in_turn, nodes, own.id, writer);
            self.publisher.update(&attempt);
            drive(&mut attempt, &mut replies, sides, &mut self.publisher).await;
            self.asked.extend(&attempt.asked);
            let ended = sides.bridge.deadlines.ended();
            let next = self
                .retries
                .after(attempt.stop.as_ref(), self.may_repeat(&attempt, ended));
            if next != Next::Over {
                self.abort_reservations(number.into()).await;
            }
            let cancelled = sides.bridge.cancelled();
            let outcome = match next {
                Next::Over => Some(judge(self.plan, &attempt, ended, self.retries.was_repeated())),
                _ if cancelled.is_some() => cancelled,
                Next::Again => None,
                Next::WhenFreed(longest) => wait(longest, sides).await,
                Next::Elsewhere(pause) => {
                    info!(run = %self.plan.id, why = ?attempt.stop, "placed anew");
                    match self.place_without_avoided() {
                        Ok(_) => None,
                        Err(_) => wait(pause, sides).await,
                    }
                }
            };
            if let Some(outcome) = outcome {
                return Ok(publish::over(self.plan, &attempt, self.started, outcome));
            }
            sides.bridge.rewind();
        }
    }

    /// A node for each stage; where too few are left without those that failed, they may do by now.
    fn place(&mut self) -> Result<Vec<(u64, String)>, Error> {
        let placed = self.place_without_avoided();
        if placed.is_err() && !self.retries.avoided().is_empty() {
            self.retries.forgive();
            return self.place_without_avoided();
        }
        placed
    }

    fn place_without_avoided(&self) -> Result<Vec<(u64, String)>, Error> {
        let names: Vec<&str> = self
            .plan
            .stages
            .iter()
            .map(|stage| stage.service.as_str())
            .collect();
        let nodes = self.context.nodes.reached();
        let wanted = &self.plan.options.place;
        placement::place(
            &names,
            &nodes,
            wanted,
            self.retries.avoided(),
            self.plan.coordinator,
        )
        .map_err(|error| Error::Unavailable(error.to_string()))
    }

    /// Only while nothing of the first time was seen or used up.
    fn may_repeat(&self, attempt: &Attempt<'_>, ended: Ended) -> bool {
        self.plan.options.retry
            && attempt.stdin.sent == 0
            && attempt.output.received == 0
            && ended == Ended::Itself
    }

    /// Ends the reservations of the attempts so far, before others are made.
    async fn abort_reservations(&mut self, attempt: u64) {
        let aborted = abort(self.context, self.plan, std::mem::take(&mut self.asked), attempt);
        // A node that is late is not waited for: it still hears of it, and knows a later attempt from this one.
        let _ = timeout(ABORT_MAX, aborted).await;
    }
}

/// Ends what nodes hold for the attempts of a run up to this one; it goes on where nobody waits for it.
fn abort(context: &Arc<Context>, plan: &Plan, asked: BTreeSet<u64>, attempt: u64) -> oneshot::Receiver<()> {
    let (done, is_done) = oneshot::channel();
    let (own, plan) = (context.clone(), plan.clone());
    context
        .lifecycle
        .spawn(Kind::Work, "end of reservations", async move {
            join_all(asked.into_iter().map(|node| abort_at(&own, &plan, node, attempt))).await;
            // Whoever made it may not wait any more.
            let _ = done.send(());
            Ok(())
        });
    is_done
}

async fn abort_at(context: &Context, plan: &Plan, node: u64, attempt: u64) {
    let uri = uris::of_node(node, uris::node::EXECUTOR_ABORT);
    let run = plan.id.clone();
    let abort = reservation::encode(&Abort { run, attempt });
    // Its answer says nothing; a node that is gone has nothing reserved.
    if let Ok(mut call) = context.calls.call(&uri, abort, CallOptions::default()).await {
        let _ = call.result().await;
    }
}
