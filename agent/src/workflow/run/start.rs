//! A run from its call to its answer: plan, attempts, record.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::future::join_all;
use pipes_wamp::client::Connection;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tracing::info;

use crate::cluster::nodes::Nodes;
use crate::lifecycle::{Kind, Lifecycle};
use crate::router::{OwnSession, Role, Router};
use crate::workflow::placement;
use crate::workflow::report::Run;
use crate::workflow::run::attempt::{Attempt, Stop};
use crate::workflow::run::caller::{self, CallerIn, CallerOut, Input};
use crate::workflow::run::drive::{Flow, drive};
use crate::workflow::run::outcome::{self, Ended, Outcome};
use crate::workflow::run::plan::Plan;
use crate::workflow::run::registry::{Order, Registry};
use crate::workflow::run::shown::Shown;
use crate::workflow::run::{Error, lookup, record};
use crate::workflow::runs::stderr_log::Logs;

/// Attempts that may fail before their first go for other reasons than want of slots.
const MISHAPS_MAX: u32 = 8;
/// A run that found no slot asks again after this, should nobody tell it sooner.
const FREED_MAX: Duration = Duration::from_secs(1);
/// When only nodes are left that failed a moment ago, they are asked again after this: a replica that died is missed by
/// then.
const MISHAP_PAUSE: Duration = Duration::from_millis(100);
/// So long an attempt waits until the slots of the one before it are free.
const RELEASE_MAX: Duration = Duration::from_millis(500);
/// Refusals after which a run asks its nodes one after another and keeps what it has (`design`: one order cannot
/// deadlock).
const REFUSALS_BEFORE_ORDER: u32 = 5;

/// What a coordinator works with.
pub struct Context {
    /// This cluster and node, and the nodes that are reached.
    pub nodes: Nodes,
    /// Where records lie.
    pub store: pipes_raft::Store,
    /// Gives sessions.
    pub router: Router,
    /// Runs of this agent.
    pub registry: Registry,
    /// What stages said on standard error, kept for `logs`.
    pub logs: Logs,
    /// Where work goes on that the answer does not wait for.
    pub lifecycle: Lifecycle,
    /// Sends calls to nodes beside the runs.
    pub calls: pipes_wamp::client::Session,
}

/// Serves one call of `pipes.run.start`, on a session of its own.
pub async fn serve(context: Arc<Context>, own: OwnSession) {
    let begun = Instant::now();
    // A caller that is gone, or whose request was refused already, needs nothing more.
    let Ok((mut input, mut output, mut request, opening)) = caller::accept(own).await else {
        return;
    };
    let plan = match lookup::plan(&context, &request).await {
        Ok(plan) => plan,
        Err(error) => return output.refuse(&error).await,
    };
    let started = SystemTime::now();
    let run = record::begun(&plan, started);
    let Some((guard, mut orders)) = context.registry.enter(run) else {
        let busy = Error::Unavailable("busy: too many runs wait here already".into());
        return output.refuse(&busy).await;
    };
    let mut flow = Flow::new(&mut request, opening, plan.stages.len(), begun);
    let mut attempts = Attempts {
        context: &context,
        plan: &plan,
        started,
        shown: Shown::new(&context, &plan, guard, started),
        asked: BTreeSet::new(),
    };
    let result = attempts
        .run(&mut input, &mut output, &mut orders, &mut flow)
        .await;
    let Attempts { asked, shown, .. } = attempts;
    match result {
        Ok(run) => {
            output.finish(record::value(&run)).await;
            shown.finish(run);
        }
        Err(error) => {
            output.refuse(&error).await;
            shown.refused(&error);
        }
    }
    // Whether it is done is nobody's to wait for.
    drop(release(&context, &plan, asked, u64::MAX));
}

/// The attempts of one run.
struct Attempts<'c> {
    context: &'c Arc<Context>,
    plan: &'c Plan,
    started: SystemTime,
    shown: Shown<'c>,
    /// Nodes that may hold reservations.
    asked: BTreeSet<u64>,
}

impl Attempts<'_> {
    async fn run(
        &mut self,
        input: &mut CallerIn,
        output: &mut CallerOut,
        orders: &mut mpsc::Receiver<Order>,
        flow: &mut Flow,
    ) -> Result<Run, Error> {
        let (mut number, mut refusals, mut mishaps) = (0_u32, 0, 0);
        let mut avoid = BTreeSet::new();
        loop {
            number += 1;
            let nodes = match self.place(&avoid) {
                // Too few are left without those that failed: they may do by now.
                Err(_) if !avoid.is_empty() => {
                    avoid.clear();
                    self.place(&avoid)?
                }
                placed => placed?,
            };
            let own = self.context.router.attach("pipes.stages", Role::Agent);
            let own =
                own.map_err(|error| Error::Unavailable(format!("the router gives no session: {error}")))?;
            let (mut reader, writer) = Connection::welcomed(own.stream).split();
            let ordered = refusals >= REFUSALS_BEFORE_ORDER;
            let mut attempt = Attempt::new(self.plan, number, ordered, nodes, own.id, writer);
            self.shown.update(&attempt, flow.went);
            let shown = &mut self.shown;
            drive(&mut attempt, &mut reader, input, output, orders, flow, shown).await;
            self.asked.extend(attempt.asked.iter().copied());
            match attempt.stop.clone() {
                Some(Stop::Full) => {
                    refusals += 1;
                    self.give_back(number.into()).await;
                    if let Some(outcome) = wait(FREED_MAX, input, orders, flow).await {
                        return Ok(record::finished(self.plan, &attempt, self.started, outcome));
                    }
                }
                Some(Stop::Unavailable { node, why }) if mishaps < MISHAPS_MAX => {
                    info!(run = %self.plan.id, node, why, "placed anew");
                    mishaps += 1;
                    if node != 0 {
                        avoid.insert(node);
                    }
                    self.give_back(number.into()).await;
                    if self.place(&avoid).is_err()
                        && let Some(outcome) = wait(MISHAP_PAUSE, input, orders, flow).await
                    {
                        return Ok(record::finished(self.plan, &attempt, self.started, outcome));
                    }
                }
                Some(Stop::Lost) if self.may_retry(&attempt, flow) => {
                    flow.went = false;
                    flow.was_retried = true;
                    self.give_back(number.into()).await;
                }
                _ => {
                    let outcome = outcome::judge(self.plan, &attempt, flow.ended, flow.was_retried);
                    return Ok(record::finished(self.plan, &attempt, self.started, outcome));
                }
            }
            flow.rewind();
        }
    }

    fn place(&self, avoid: &BTreeSet<u64>) -> Result<Vec<(u64, String)>, Error> {
        let names: Vec<&str> = self
            .plan
            .stages
            .iter()
            .map(|stage| stage.service.as_str())
            .collect();
        let nodes = self.context.nodes.reached();
        let wanted = &self.plan.options.place;
        placement::place(&names, &nodes, wanted, avoid, self.plan.coordinator)
            .map_err(|error| Error::Unavailable(error.to_string()))
    }

    /// Once more, and only while nothing of the first time was seen or used up: a line that loses its servers might run for
    /// ever.
    fn may_retry(&self, attempt: &Attempt<'_>, flow: &Flow) -> bool {
        self.plan.options.retry
            && !flow.was_retried
            && attempt.stdin.sent == 0
            && attempt.output.received == 0
            && flow.ended == Ended::Itself
    }

    /// Ends the reservations of the attempts so far, before others are made.
    async fn give_back(&mut self, attempt: u64) {
        let released = release(self.context, self.plan, std::mem::take(&mut self.asked), attempt);
        // A node that is late is not waited for: it still hears of it, and knows a later attempt from this one.
        let _ = timeout(RELEASE_MAX, released).await;
    }
}

/// Waits so long, or until a slot is free; an outcome when the run ended meanwhile.
async fn wait(
    longest: Duration,
    input: &mut CallerIn,
    orders: &mut mpsc::Receiver<Order>,
    flow: &mut Flow,
) -> Option<Outcome> {
    let cancelled = |exit| {
        Some(Outcome {
            state: "cancelled",
            exit,
            message: None,
        })
    };
    let again = Instant::now() + longest;
    loop {
        let until = flow.deadline.map_or(again, |deadline| deadline.min(again));
        tokio::select! {
            order = orders.recv() => match order {
                Some(Order::Stop { .. }) | None => return cancelled(128 + libc::SIGTERM),
                Some(Order::Freed) => return None,
            },
            received = input.next() => match received {
                Input::Gone => {
                    flow.gone = true;
                    return cancelled(outcome::status::LOST);
                }
                Input::Chunk(chunk) => {
                    if let Some(signal) = chunk.signal {
                        return cancelled(128 + signal.number());
                    }
                    flow.note(&chunk);
                }
                Input::Nothing => {}
            },
            () = tokio::time::sleep_until(until) => {
                let timed_out = flow.deadline.is_some_and(|deadline| deadline <= Instant::now());
                return timed_out.then(|| Outcome {
                    state: "failed",
                    exit: outcome::status::TIMEOUT,
                    message: Some("the timeout ran out while the run waited for a free slot".into()),
                });
            }
        }
    }
}

/// Ends what nodes hold for the attempts of a run up to this one; it goes on where nobody waits for it.
fn release(context: &Arc<Context>, plan: &Plan, asked: BTreeSet<u64>, attempt: u64) -> oneshot::Receiver<()> {
    let (done, is_done) = oneshot::channel();
    let (own, plan) = (context.clone(), plan.clone());
    context
        .lifecycle
        .spawn(Kind::Work, "release of a run", async move {
            join_all(
                asked
                    .into_iter()
                    .map(|node| release_at(&own, &plan, node, attempt)),
            )
            .await;
            // Whoever made it may not wait any more.
            let _ = done.send(());
            Ok(())
        });
    is_done
}

async fn release_at(context: &Context, plan: &Plan, node: u64, attempt: u64) {
    let uri = format!("pipes.node.{node}.executor.release");
    // Its answer says nothing; a node that is gone has nothing to release.
    let _ = context
        .calls
        .call_once(&uri, vec![plan.release(attempt)], None)
        .await;
}
