//! What comes back to an attempt: answers of nodes and shims, the last stage's output.

use pipes_wamp::message::{Message, Payload};
use rmpv::Value;

use crate::workflow::coordinator::attempt::stage::{Event, Stage};
use crate::workflow::coordinator::attempt::{Attempt, Call, Phase, Stop};

/// What the driver must pass to the caller.
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
                if !progress {
                    self.reserved(node, payload);
                }
                Effect::None
            }
            Call::Stage(stage) if progress => self.stage_event(stage, payload),
            Call::Stage(stage) => {
                self.stages[stage].end(payload);
                Effect::None
            }
            Call::Stdin if progress => {
                let credit = payload
                    .args()
                    .ok()
                    .and_then(|args| args.first()?.as_u64())
                    .unwrap_or(0);
                self.stdin.credit += credit;
                Effect::StdinCredit(credit)
            }
            Call::Stdin => {
                self.stdin.done = true;
                Effect::None
            }
            Call::Register | Call::Said => Effect::None,
        }
    }

    /// The stage of this number, from 1, if it was placed on that node.
    fn stage_on(&mut self, node: u64, number: usize) -> Option<&mut Stage> {
        let stage = self.stages.get_mut(number.checked_sub(1)?)?;
        (stage.node == node).then_some(stage)
    }

    /// A node has the replicas: notes them, and connects when it was the last.
    fn reserved(&mut self, node: u64, payload: Payload<'_>) {
        if self.phase != Phase::Reserving {
            return;
        }
        let answer = Reserved::parse(payload);
        for (number, replica) in answer.replicas {
            if let Some(stage) = self.stage_on(node, number) {
                stage.replica = replica;
                stage.files = answer.files.clone();
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
        match Event::parse(payload) {
            Some(Event::Ready) => {
                stage.ready = true;
                if self.phase == Phase::Connecting && self.stages.iter().all(|stage| stage.ready) {
                    self.start();
                    return Effect::Started;
                }
                return Effect::None;
            }
            Some(Event::Stderr(bytes)) => return Effect::Stderr(index, bytes),
            Some(Event::Started(at)) => stage.started = Some(at),
            Some(Event::Counts(bytes_in, bytes_out)) => stage.counts = Some((bytes_in, bytes_out)),
            Some(Event::Exited(exit)) => stage.exit = Some(exit),
            Some(Event::Closed(bytes)) => stage.closed = Some(bytes),
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
        match pipes_wamp::payload::bytes_arg(payload) {
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
        let why = payload
            .args()
            .ok()
            .and_then(|args| {
                args.iter()
                    .rev()
                    .find_map(|value| value.as_str().map(str::to_owned))
            })
            .unwrap_or_default();
        match call {
            Call::Prepare(node) => self.prepare_failed(node, error, why, payload),
            Call::Stage(stage) => {
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
            Call::Said => {}
        }
        Effect::None
    }

    fn prepare_failed(&mut self, node: u64, error: &str, why: String, payload: Payload<'_>) {
        let stop = match error {
            "pipes.error.full" => Stop::Full,
            "pipes.error.cannot_start" => {
                let args = payload.args().unwrap_or_default();
                let stage = args.first().and_then(|value| value.as_u64()).unwrap_or(1) as usize;
                Stop::CannotStart {
                    stage: stage.saturating_sub(1),
                    why,
                }
            }
            _ => Stop::Unavailable {
                node: Some(node),
                why: if why.is_empty() { error.to_owned() } else { why },
            },
        };
        self.stop(stop);
    }

    fn stage_failed(&mut self, stage: usize, error: &str, why: String) {
        match (self.phase, error) {
            (Phase::Failing, "pipes.error.cannot_start") | (Phase::Running, "pipes.error.cannot_start") => {
                let already = matches!(self.stop, Some(Stop::CannotStart { .. }));
                if self.phase == Phase::Running {
                    self.stop(Stop::CannotStart { stage, why });
                } else if !already && self.stop == Some(Stop::Lost) {
                    // Its neighbours broke because it never started: it is the reason.
                    self.stop = Some(Stop::CannotStart { stage, why });
                }
            }
            (Phase::Reserving | Phase::Connecting, _) => {
                let node = Some(self.stages[stage].node);
                self.stop(Stop::Unavailable {
                    node,
                    why: error.to_owned(),
                });
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
            Phase::Ending | Phase::Failing | Phase::Over => {}
        }
    }
}

/// A node's answer: `{replicas: [[stage, id], ...], files: [[digest, path], ...], windows: [[stage, bytes], ...]}`.
#[derive(Default)]
struct Reserved {
    replicas: Vec<(usize, String)>,
    files: Vec<(String, String)>,
    windows: Vec<(usize, u64)>,
}

impl Reserved {
    fn parse(payload: Payload<'_>) -> Reserved {
        let mut answer = Reserved::default();
        let Some(Value::Map(entries)) = payload.args().ok().and_then(|args| args.into_iter().next()) else {
            return answer;
        };
        for (key, value) in entries {
            for pair in value.as_array().into_iter().flatten().filter_map(Value::as_array) {
                let [first, second] = pair.as_slice() else {
                    continue;
                };
                let number = first.as_u64().and_then(|number| usize::try_from(number).ok());
                let (digest, text) = (first.as_str(), second.as_str().map(str::to_owned));
                match key.as_str() {
                    Some("replicas") => answer.replicas.extend(number.zip(text)),
                    Some("files") => answer.files.extend(digest.map(str::to_owned).zip(text)),
                    Some("windows") => answer.windows.extend(number.zip(second.as_u64())),
                    _ => {}
                }
            }
        }
        answer
    }
}
