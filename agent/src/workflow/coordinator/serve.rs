//! A run from its call to its answer: plan, attempts, record.

use std::sync::Arc;
use std::time::SystemTime;

use pipes_job::blobs::Used;
use pipes_protocol::run::{Loss, Part};
use pipes_protocol::uris;
use pipes_wamp::client::Connection;
use tokio::time::Instant;
use tracing::info;

use crate::workflow::coordinator::attempt::{Attempt, Stop};
use crate::workflow::coordinator::bridge::Bridge;
use crate::workflow::coordinator::context::Context;
use crate::workflow::coordinator::error::Error;
use crate::workflow::coordinator::event_loop::{Sides, drive, wait};
use crate::workflow::coordinator::outcome::{Ended, Outcome, judge, loss};
use crate::workflow::coordinator::plan::Plan;
use crate::workflow::coordinator::publish::{self, Publisher};
use crate::workflow::coordinator::retry::{FREED_MAX, MISHAP_PAUSE, Next, Retries};
use crate::workflow::coordinator::{caller, lookup};
use crate::workflow::placement::{Line, Need};
use crate::workflow::runs::view::Run;
use crate::workflow::supply::{Grant, Seat};
use pipes_router::{OwnSession, Role};

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
    // As long as the run lasts they are there.
    let _files = match named(&context, &plan).await {
        Ok(files) => files,
        Err(error) => return output.refuse(&error).await,
    };
    let started = SystemTime::now();
    let Some((guard, notices)) = context
        .registry
        .enter(publish::accepted(&plan, started), plan.options.job.as_deref())
    else {
        let busy = Error::Busy("busy: too many runs wait here already".into());
        return output.refuse(&busy).await;
    };
    if request.options.announce {
        output.part(&Part::Begun(&plan.id));
    }
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
        seat: context.supplies.seat(&plan.id),
        is_misuse: false,
        lost: None,
    };
    let result = attempts.run(&mut sides).await;
    let Attempts {
        publisher,
        seat,
        is_misuse,
        lost,
        ..
    } = attempts;
    // Others may have what it was offered.
    drop(seat);
    match result {
        Ok(run) => {
            match is_misuse {
                true => {
                    let why = run.message.clone().unwrap_or_default();
                    sides.output.refuse(&Error::Usage(why)).await;
                }
                false => sides.output.finish(&run, lost).await,
            }
            publisher.finish(run);
        }
        Err(error) => {
            sides.output.refuse(&error).await;
            publisher.refused(&error);
        }
    }
}

/// Names the run's files, before anything starts.
async fn named(context: &Context, plan: &Plan) -> Result<Vec<Used>, Error> {
    let mut files = Vec::with_capacity(plan.options.files.len());
    for file in &plan.options.files {
        let used = context.uses.uses(&file.digest).await;
        files.push(used.map_err(|error| match error {
            pipes_job::Error::BlobMissing(_) => Error::Unavailable(format!(
                "the bytes of {} are not on a majority of the servers; send them again",
                file.name
            )),
            error => Error::Unavailable(error.to_string()),
        })?);
    }
    Ok(files)
}

/// The attempts of one run.
struct Attempts<'c> {
    context: &'c Arc<Context>,
    plan: &'c Plan,
    started: SystemTime,
    publisher: Publisher<'c>,
    retries: Retries,
    /// Its place among the runs that want slots.
    seat: Seat,
    /// The caller broke the protocol, which ended the run.
    is_misuse: bool,
    /// Pipes failed it, and not the run itself.
    lost: Option<Loss>,
}

impl Attempts<'_> {
    /// One after another, until one is the last or somebody ends the run between two of them. An attempt's session ends
    /// with it, and with that all that nodes hold for it.
    async fn run(&mut self, sides: &mut Sides) -> Result<Run, Error> {
        let mut number = 0;
        loop {
            let grant = match self.place(sides).await? {
                Ok(grant) => grant,
                Err(outcome) => return Ok(publish::unplaced(self.plan, self.started, outcome)),
            };
            number += 1;
            let own = self.context.router.attach(uris::REALM_STAGES, Role::Agent);
            let own =
                own.map_err(|error| Error::Unavailable(format!("the router gives no session: {error}")))?;
            let (mut replies, writer) = Connection::welcomed(own.stream).split();
            let mut attempt = Attempt::new(self.plan, number, grant.nodes.clone(), own.id, writer);
            attempt.start_number = self.retries.start_number();
            attempt.in_turn = grant.in_turn;
            attempt.grant = Some(grant);
            self.publisher.update(&attempt);
            drive(&mut attempt, &mut replies, sides, &mut self.publisher).await;
            self.learn(&attempt);
            let ended = sides.bridge.deadlines.ended();
            let may_repeat = self.may_repeat(&attempt, ended);
            let has_all_stdin = sides.bridge.has_all_stdin();
            let next = self
                .retries
                .after(attempt.stop.as_ref(), may_repeat, has_all_stdin);
            let cancelled = sides.bridge.cancelled();
            let has_rest = next == Next::WhenFreed && attempt.in_turn && !attempt.refused_by.is_empty();
            let outcome = match next {
                Next::Over => Some(judge(self.plan, &attempt, ended, self.retries.was_repeated())),
                _ if cancelled.is_some() => cancelled,
                // It ran out while this attempt failed: none follows.
                _ if ended == Ended::Timeout => {
                    Some(judge(self.plan, &attempt, ended, self.retries.was_repeated()))
                }
                Next::Incomplete => Some(Outcome::incomplete()),
                Next::Again | Next::WhenFreed => None,
                Next::Elsewhere => {
                    info!(run = %self.plan.id, why = ?attempt.stop, "placed anew");
                    None
                }
            };
            let over = outcome.map(|outcome| {
                self.is_misuse = outcome.is_misuse;
                self.lost = loss(&attempt, ended);
                publish::over(self.plan, &attempt, self.started, outcome)
            });
            // Its session ends, and with that all that nodes hold for it, before others may have what it was given.
            let grant = attempt.grant.take();
            drop((attempt, replies));
            drop(grant);
            if let Some(over) = over {
                return Ok(over);
            }
            sides.bridge.rewind();
            if has_rest && let Some(outcome) = wait(FREED_MAX, sides, &mut self.publisher).await {
                return Ok(publish::unplaced(self.plan, self.started, outcome));
            }
        }
    }

    /// A node for each stage, as soon as there are slots; or what the run comes to while it waits for them.
    async fn place(&mut self, sides: &mut Sides) -> Result<Result<Grant, Outcome>, Error> {
        loop {
            let pause = match self.seat.place(self.line()) {
                Ok(Some(grant)) => return Ok(Ok(grant)),
                Ok(None) => FREED_MAX,
                // Too few are left without those that failed.
                Err(_) if !self.retries.avoided().is_empty() => MISHAP_PAUSE,
                Err(error) => return Err(Error::Unavailable(error.to_string())),
            };
            if let Some(outcome) = wait(pause, sides, &mut self.publisher).await {
                return Ok(Err(outcome));
            }
            // Those that failed a while ago may do by now.
            self.retries.forgive();
        }
    }

    fn line(&self) -> Line {
        let options = &self.plan.options;
        let needs = self.plan.stages.iter().map(|stage| Need {
            kind: stage.kind.clone(),
            fresh: options.fresh,
        });
        Line {
            needs: needs.collect(),
            wanted: options.place.clone(),
            avoid: self.retries.avoided().clone(),
            in_turn: self.retries.asks_in_turn(),
        }
    }

    /// Notes of which nodes others need not be told the same.
    fn learn(&self, attempt: &Attempt<'_>) {
        for node in &attempt.refused_by {
            let there = attempt.stages.iter().zip(&self.plan.stages);
            let there = there.filter(|(stage, _)| stage.node == *node);
            self.seat
                .refused(*node, there.map(|(_, planned)| planned.kind.service.clone()));
        }
        if let Some(Stop::Unavailable { node: Some(node), .. }) = attempt.stop
            && attempt.silent.contains(&node)
        {
            self.seat.silent(node);
        }
    }

    /// Only while nothing of the first time was seen or used up.
    fn may_repeat(&self, attempt: &Attempt<'_>, ended: Ended) -> bool {
        self.plan.options.retry
            && attempt.stdin.sent == 0
            && attempt.output.received == 0
            && ended == Ended::Itself
    }
}
