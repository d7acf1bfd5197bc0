//! What comes back to an attempt: answers of nodes and shims, the last stage's output.

use pipes_protocol::reservation::{PrepareError, Progress, Reserved};
use pipes_protocol::stage::Report;
use pipes_protocol::uris;
use pipes_wamp::message::{Message, Payload};
use pipes_wamp::{payload, streaming};

use crate::workflow::coordinator::attempt::stage::Stage;
use crate::workflow::coordinator::attempt::{Attempt, Call, Phase, Stop};

/// What a reply means to the run.
#[derive(Debug, PartialEq)]
pub enum Effect<'a> {
    /// Nothing.
    None,
    /// Bytes of the last stage's output.
    Stdout(&'a [u8]),
    /// Bytes of a stage's standard error; the stage from 0.
    Stderr(usize, Vec<u8>),
    /// The first stage takes so many bytes more.
    StdinCredit(u64),
    /// The last stage's pipe is there and wants its first credit.
    OutputOpened,
    /// The executables have been told to start.
    Started,
    /// A stage came further, which is nothing to act upon.
    Progress,
}

impl Attempt<'_> {
    /// Takes one message of the attempt's session.
    pub fn receive<'m>(&mut self, message: Message<'m>) -> Effect<'m> {
        let effect = match message {
            Message::Result {
                request,
                progress,
                payload,
            } => self.result(request, progress, payload),
            Message::Error {
                request,
                error,
                payload,
                ..
            } => self.error(request, error, payload),
            Message::Invocation {
                request,
                details,
                payload,
                ..
            } => self.output_chunk(request, details.progress, payload),
            Message::Interrupt { request, .. } => {
                if self.output.invocation == Some(request) && !self.output.done {
                    self.output.done = true;
                    self.lost();
                }
                Effect::None
            }
            _ => Effect::None,
        };
        self.advance();
        effect
    }

    fn result<'m>(&mut self, request: u64, progress: bool, payload: Payload<'m>) -> Effect<'m> {
        let Some(call) = self.calls.get(&request).copied() else {
            return Effect::None;
        };
        if !progress {
            self.calls.remove(&request);
        }
        match call {
            Call::Prepare(node) => {
                self.silent.retain(|silent| *silent != node);
                match Progress::parse(payload) {
                    _ if !progress => self.unreserved(node, "it ended the reservation".into()),
                    Some(Progress::Ready(reserved)) => self.reserved(node, reserved),
                    Some(Progress::Reserved) => {
                        self.grant.iter().for_each(|grant| grant.reserved(node));
                    }
                    Some(Progress::Waiting) | None => {}
                }
                Effect::None
            }
            Call::Stage(stage) if progress => self.stage_event(stage, payload),
            Call::Stage(stage) => {
                self.stages[stage].end(payload);
                Effect::None
            }
            Call::Stdin if progress => {
                let credit = streaming::credit_of(payload).unwrap_or(0);
                self.stdin.credit += credit;
                Effect::StdinCredit(credit)
            }
            Call::Stdin => {
                self.stdin.done = true;
                Effect::None
            }
            Call::Register => Effect::None,
        }
    }

    /// The stage of this number, from 1, if it was placed on that node.
    fn stage_on(&mut self, node: u64, number: u32) -> Option<&mut Stage> {
        let stage = self.stages.get_mut((number as usize).checked_sub(1)?)?;
        (stage.node == node).then_some(stage)
    }

    /// A node has the replicas: notes them, and connects when it was the last.
    fn reserved(&mut self, node: u64, answer: Reserved) {
        if self.phase != Phase::Reserving {
            return;
        }
        for (number, replica) in answer.replicas {
            if let Some(stage) = self.stage_on(node, number) {
                stage.replica = replica;
            }
        }
        for (number, bytes) in answer.windows {
            if let Some(stage) = self.stage_on(node, number) {
                stage.window = Some(bytes);
            }
        }
        if self
            .stages
            .iter()
            .any(|stage| stage.node == node && stage.replica.is_empty())
        {
            let why = "it answered without naming a replica for each stage".into();
            let node = Some(node);
            return self.stop(Stop::Unavailable { node, why });
        }
        if self.stages.iter().all(|stage| !stage.replica.is_empty()) {
            self.connect();
        } else {
            self.ask();
        }
    }

    fn stage_event<'m>(&mut self, index: usize, payload: Payload<'m>) -> Effect<'m> {
        let stage = &mut self.stages[index];
        match Report::parse(payload) {
            Some(Report::Laying) => {
                self.laid += 1;
                return Effect::None;
            }
            Some(Report::Ready) => {
                stage.ready = true;
                if self.phase == Phase::Connecting && self.stages.iter().all(|stage| stage.ready) {
                    self.start();
                    return Effect::Started;
                }
                return Effect::None;
            }
            Some(Report::Stderr(bytes)) => return Effect::Stderr(index, bytes),
            Some(Report::Started(at)) => stage.started = Some(at),
            Some(Report::Counts(bytes_in, bytes_out)) => stage.counts = Some((bytes_in, bytes_out)),
            Some(Report::Exited(exit)) => stage.exit = Some(exit),
            Some(Report::Closed(bytes)) => stage.closed = Some(bytes),
            None => return Effect::None,
        }
        Effect::Progress
    }

    fn output_chunk<'m>(&mut self, request: u64, progress: bool, payload: Payload<'m>) -> Effect<'m> {
        match self.output.invocation {
            None => {
                self.output.invocation = Some(request);
                return Effect::OutputOpened;
            }
            Some(known) if known != request || self.output.done => return Effect::None,
            Some(_) => {}
        }
        self.output.ending |= !progress;
        match payload::bytes_arg(payload) {
            Some(bytes) if !bytes.is_empty() => {
                self.output.received += bytes.len() as u64;
                Effect::Stdout(bytes)
            }
            Some(_) => Effect::None,
            None => {
                self.lost();
                Effect::None
            }
        }
    }

    fn error<'m>(&mut self, request: u64, error: &str, payload: Payload<'m>) -> Effect<'m> {
        let Some(call) = self.calls.remove(&request) else {
            return Effect::None;
        };
        match call {
            Call::Prepare(node) => self.prepare_failed(node, PrepareError::parse(error, payload)),
            Call::Stage(stage) => {
                let why = payload.sentence();
                self.stages[stage].error = Some((error.to_owned(), why.clone()));
                self.stage_failed(stage, error, why);
            }
            Call::Stdin => {
                self.stdin.done = true;
                // The first stage's own call tells what happened; here only that its pipe is gone.
                self.lost();
            }
            Call::Register => {
                self.stop(Stop::Unavailable {
                    node: Some(self.plan.coordinator),
                    why: error.to_owned(),
                });
            }
        }
        Effect::None
    }

    fn prepare_failed(&mut self, node: u64, error: PrepareError) {
        // When it failed, silence is what made it fail.
        if !matches!(self.phase, Phase::Failing | Phase::Freeing) {
            self.silent.retain(|silent| *silent != node);
        }
        match error {
            PrepareError::Full if self.phase == Phase::Reserving => {
                self.refused_by.push(node);
                self.stop(Stop::Full);
            }
            PrepareError::CannotStart { stage, why } if self.phase == Phase::Reserving => {
                self.stop(Stop::CannotStart {
                    stage: (stage as usize).saturating_sub(1),
                    why,
                });
            }
            error => self.unreserved(node, error.to_string()),
        }
    }

    /// A node has nothing for the run any more.
    fn unreserved(&mut self, node: u64, why: String) {
        match self.phase {
            Phase::Reserving | Phase::Connecting => {
                let node = Some(node);
                self.stop(Stop::Unavailable { node, why });
            }
            // Its stages' own calls tell what happened.
            _ => self.lost(),
        }
    }

    fn stage_failed(&mut self, stage: usize, error: &str, why: String) {
        match (self.phase, error) {
            (Phase::Failing | Phase::Running, uris::error::CANNOT_START) => {
                let already = matches!(self.stop, Some(Stop::CannotStart { .. }));
                if self.phase == Phase::Running {
                    self.stop(Stop::CannotStart { stage, why });
                } else if !already && self.stop == Some(Stop::Lost) {
                    // Its neighbours broke because it never started: it is the reason.
                    self.stop = Some(Stop::CannotStart { stage, why });
                }
            }
            (Phase::Running, uris::error::OVER_LIMIT) => self.stop(Stop::OverLimit { stage, why }),
            (Phase::Failing, uris::error::OVER_LIMIT) if self.stop == Some(Stop::Lost) => {
                // Its neighbours broke because it was ended.
                self.stop = Some(Stop::OverLimit { stage, why });
            }
            (Phase::Reserving | Phase::Connecting, _) => {
                let node = Some(self.stages[stage].node);
                let why = if why.is_empty() { error.to_owned() } else { why };
                self.stop(Stop::Unavailable { node, why });
            }
            // All has exited and been passed on: who is lost now takes nothing with it.
            (Phase::Ending, _) => {}
            _ => self.lost(),
        }
    }

    /// Something that carries bytes is gone.
    pub(super) fn lost(&mut self) {
        match self.phase {
            Phase::Reserving | Phase::Connecting => {
                // Which node it was is told by the stage call's own error, which follows; none is avoided for this.
                self.stop(Stop::Unavailable {
                    node: None,
                    why: "a hop broke before the start".into(),
                });
            }
            Phase::Running => self.stop(Stop::Lost),
            Phase::Ending | Phase::Failing | Phase::Freeing | Phase::Over => {}
        }
    }
}
