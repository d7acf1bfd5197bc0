//! One attempt at a run: reserve, connect, go, carry, end. A state machine over messages of realm `pipes.stages`.
//!
//! ```text
//! prepare (all nodes at once)  ->  reserved, replicas
//! stage calls, stdin's pipe call  ->  every stage ready: each hop was proved by its first credit
//! go  ->  bytes, exits, closes
//! end (all exited and closed)  ->  what is left of each stage is killed, counts come back
//! ```
//!
//! Always: (1) nothing runs before every stage is ready; (2) stdin is neither taken nor ended before go, so that an
//! attempt that failed before can be made anew, unseen; (3) after go, anything lost ends the attempt for good: all
//! stages are killed, nothing is run again; (4) only an end of input that was said is passed on as one.
//! Not here: sockets and time (`event_loop.rs`), the choice of nodes (`placement.rs`), what comes of it (`outcome.rs`).

pub mod replies;
pub mod stage;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use pipes_wamp::client::Writer;
use pipes_wamp::message::{CallOptions, CancelMode, Message, Payload};
use pipes_wamp::payload::{self, PayloadBuf};
use rmpv::Value;

use crate::router::Own;
use crate::workflow::coordinator::attempt::stage::Stage;
use crate::workflow::coordinator::plan::Plan;
use crate::workflow::runs::signal::Signal;

/// Standard error that one stage may have under way, as the shim assumes.
pub const STDERR_WINDOW: u64 = 64 << 10;

/// How far an attempt has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nodes are asked for replicas.
    Reserving,
    /// Stage calls and pipe calls are made.
    Connecting,
    /// The executables run.
    Running,
    /// All have ended; what is left is being cleared.
    Ending,
    /// Something was lost or refused; stages are being killed.
    Failing,
    /// Nothing more will come.
    Over,
}

/// Why an attempt ended before its stages did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// Nodes have no slot; said before anything ran.
    Full,
    /// A node did not answer, or a replica did not get ready.
    Unavailable {
        /// The node to avoid, where it is known.
        node: Option<u64>,
        /// What is known.
        why: String,
    },
    /// A stage's executable cannot be started.
    CannotStart {
        /// From 0.
        stage: usize,
        /// The system's reason.
        why: String,
    },
    /// A server, link or shim was lost after go.
    Lost,
    /// The caller cancelled or is gone.
    Gone,
    /// A signal before go.
    Signalled(i32),
    /// The caller broke the protocol.
    Usage(String),
}

/// What a request of ours was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    /// Our own registration, where the last stage's output comes.
    Register,
    /// Reserving on a node.
    Prepare(u64),
    /// A stage's life.
    Stage(usize),
    /// The pipe to the first stage.
    Stdin,
    /// Said once, the answer is of no interest.
    Said,
}

/// One attempt.
pub struct Attempt<'p> {
    pub(super) plan: &'p Plan,
    /// Tells this attempt's URIs from a former one's.
    pub(super) number: u32,
    /// Nodes are asked one after another, and wait for their slots.
    pub(super) ordered: bool,
    /// How far it has come.
    pub phase: Phase,
    /// The executables were told to start.
    pub has_started: bool,
    /// The stages, in the line's order.
    pub stages: Vec<Stage>,
    /// Why it stopped, if it did.
    pub stop: Option<Stop>,
    /// Nodes still to be asked, in order.
    pub(super) to_ask: Vec<u64>,
    /// Nodes asked that have not said a word yet.
    pub(super) silent: Vec<u64>,
    pub(super) calls: HashMap<u64, Call>,
    last_request: u64,
    /// The id of the session that all this is said on.
    session: u64,
    /// Messages to the shard.
    pub writer: Writer,
    /// The pipe to the first stage.
    pub stdin: Stdin,
    /// The pipe from the last stage.
    pub output: Output,
    /// Nodes that may hold reservations of this run.
    pub asked: Vec<u64>,
}

/// The coordinator's end of the first stage's stdin.
#[derive(Debug, Default)]
pub struct Stdin {
    pub(super) request: u64,
    /// Bytes the first stage still takes, of what passes here.
    pub credit: u64,
    /// The caller's bytes go past: what comes here all the same would be out of order.
    pub spliced: bool,
    /// Nobody reads any more, or the end was sent.
    pub done: bool,
    /// Bytes sent from here.
    pub sent: u64,
}

/// The coordinator's end of the last stage's stdout.
#[derive(Debug, Default)]
pub struct Output {
    /// The invocation that carries it, once it came.
    pub invocation: Option<u64>,
    /// Ended: said by the last stage, or by us because nobody reads.
    pub done: bool,
    /// The end was said, and is answered when the caller took everything.
    pub ending: bool,
    /// Bytes received here.
    pub received: u64,
}

impl<'p> Attempt<'p> {
    /// An attempt on a session of its own, placed on `nodes`, one for each stage.
    pub fn new(
        plan: &'p Plan,
        number: u32,
        ordered: bool,
        nodes: Vec<(u64, String)>,
        session: u64,
        writer: Writer,
    ) -> Attempt<'p> {
        let stages: Vec<Stage> = nodes
            .into_iter()
            .map(|(node, node_name)| Stage {
                node,
                node_name,
                ..Stage::default()
            })
            .collect();
        let mut to_ask: Vec<u64> = stages.iter().map(|stage| stage.node).collect();
        to_ask.sort_unstable();
        to_ask.dedup();
        Attempt {
            plan,
            number,
            ordered,
            phase: Phase::Reserving,
            has_started: false,
            stages,
            stop: None,
            to_ask,
            silent: Vec::new(),
            calls: HashMap::new(),
            last_request: 0,
            session,
            writer,
            stdin: Stdin::default(),
            output: Output::default(),
            asked: Vec::new(),
        }
    }

    /// Registers where the output comes and asks the nodes.
    pub fn begin(&mut self) {
        let procedure = self.output_uri();
        let request = self.request(Call::Register);
        self.writer.queue(&Message::Register {
            request,
            options: Default::default(),
            procedure: &procedure,
        });
        self.ask();
    }

    /// Asks all nodes that were not asked yet; only the first of them where they are asked in order.
    pub(super) fn ask(&mut self) {
        let count = if self.ordered { 1 } else { self.to_ask.len() };
        let nodes: Vec<u64> = self.to_ask.drain(..count.min(self.to_ask.len())).collect();
        for node in nodes {
            let uri = format!("pipes.node.{node}.executor.prepare");
            let body = self
                .plan
                .prepare(&self.stages, node, self.number.into(), self.ordered);
            let options = CallOptions {
                receive_progress: true,
                ..CallOptions::default()
            };
            self.call(
                Call::Prepare(node),
                &uri,
                options,
                PayloadBuf::of_values(vec![body], None).as_payload(),
            );
            self.silent.push(node);
            self.asked.push(node);
        }
    }

    /// All replicas are reserved: makes the stage calls and the pipe to the first stage.
    pub(super) fn connect(&mut self) {
        self.phase = Phase::Connecting;
        for index in 0..self.stages.len() {
            let next = match self.stages.get(index + 1) {
                Some(next) => format!("pipes.node.{}.replica.{}.pipe", next.node, next.replica),
                None => self.output_uri(),
            };
            let stage = &self.stages[index];
            let uri = format!("pipes.node.{}.replica.{}.stage", stage.node, stage.replica);
            let body = PayloadBuf::of_values(vec![self.plan.stage(index, stage, &next)], None);
            let options = CallOptions {
                progress: true,
                receive_progress: true,
                grant: Some(&next),
                ..CallOptions::default()
            };
            self.stages[index].call = self.call(Call::Stage(index), &uri, options, body.as_payload());
        }
        let uri = self.first_pipe();
        let first = vec![self.plan.id.as_str().into(), 1.into(), Value::Binary(Vec::new())];
        let body = PayloadBuf::of_values(first, None);
        self.stdin.request = self.call(Call::Stdin, &uri, streaming(), body.as_payload());
    }

    /// Every hop is proved: the executables start.
    pub(super) fn start(&mut self) {
        self.phase = Phase::Running;
        self.has_started = true;
        for node in self.nodes() {
            let uri = format!("pipes.node.{node}.executor.keep");
            let body = PayloadBuf::of_values(vec![self.plan.run_map()], None);
            self.call(Call::Said, &uri, CallOptions::default(), body.as_payload());
        }
        self.tell_all(&["go".into()]);
    }

    /// Sends a signal to every stage that still runs.
    pub fn signal(&mut self, signal: Signal) {
        match (self.phase, signal) {
            (Phase::Reserving | Phase::Connecting, signal) => self.stop(Stop::Signalled(signal.number())),
            (Phase::Running, Signal::Kill) => self.tell_all(&["kill".into()]),
            (Phase::Running, Signal::Group(number)) => self.tell_all(&["signal".into(), number.into()]),
            _ => {}
        }
    }

    /// Passes stdin on. Beyond the credit it is refused, as a caller that ignores credit would fill our memory.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.phase != Phase::Running || self.stdin.done || bytes.is_empty() {
            return;
        }
        let length = bytes.len() as u64;
        if length > self.stdin.credit {
            return self.stop(Stop::Usage("more stdin came than there was credit for".into()));
        }
        self.stdin.credit -= length;
        self.stdin.sent += length;
        self.pipe_chunk(bytes, true);
    }

    /// The end of stdin was said.
    pub fn end_of_input(&mut self) {
        if self.phase == Phase::Running && !self.stdin.done {
            self.pipe_chunk(&[], false);
            self.stdin.done = true;
        }
    }

    fn pipe_chunk(&mut self, bytes: &[u8], progress: bool) {
        let uri = self.first_pipe();
        let options = CallOptions {
            progress,
            receive_progress: true,
            ..CallOptions::default()
        };
        let mut body = Vec::with_capacity(bytes.len() + 16);
        payload::write_bytes_arg(&mut body, bytes);
        let payload = Payload {
            parts: 1,
            bytes: &body,
        };
        let request = self.stdin.request;
        self.writer.queue(&Message::Call {
            request,
            options,
            procedure: &uri,
            payload,
        });
    }

    /// Lets the last stage send more.
    pub fn credit_output(&mut self, bytes: u64) {
        if let (Some(request), false, true) = (self.output.invocation, self.output.done, bytes > 0) {
            let payload = PayloadBuf::of_values(vec![bytes.into()], None);
            self.writer.queue(&Message::Yield {
                request,
                progress: true,
                payload: payload.as_payload(),
            });
        }
    }

    /// Everything was taken, or nobody reads any more: the last stage's pipe ends.
    pub fn close_output(&mut self) {
        if let (Some(request), false) = (self.output.invocation, self.output.done) {
            self.writer.queue(&Message::Yield {
                request,
                progress: false,
                payload: Payload::EMPTY,
            });
            self.output.done = true;
        }
    }

    /// Gives a stage's standard error more room. Not once it was told the end: a chunk after a call's last one breaks
    /// the protocol, and the session with it.
    pub fn credit_stderr(&mut self, stage: usize, bytes: u64) {
        if self.phase == Phase::Running && !self.stages[stage].over() {
            self.tell(stage, &["credit".into(), bytes.into()], true);
        }
    }

    /// Ends the attempt: kills what was called, and waits for the answers.
    pub fn stop(&mut self, stop: Stop) {
        if matches!(self.phase, Phase::Failing | Phase::Over) {
            return;
        }
        self.stop = Some(stop);
        self.phase = Phase::Failing;
        let calls: Vec<u64> = self
            .stages
            .iter()
            .filter(|s| s.call != 0 && !s.over())
            .map(|s| s.call)
            .collect();
        for request in calls {
            self.writer.queue(&Message::Cancel {
                request,
                mode: CancelMode::Kill,
            });
        }
        self.advance();
    }

    /// Moves on when all that a phase waits for has come.
    pub(super) fn advance(&mut self) {
        match self.phase {
            Phase::Running if self.stages.iter().all(|s| s.exit.is_some() && s.closed.is_some()) => {
                self.phase = Phase::Ending;
                for stage in 0..self.stages.len() {
                    self.tell(stage, &["end".into()], false);
                }
            }
            Phase::Ending if self.stages.iter().all(Stage::over) => self.phase = Phase::Over,
            Phase::Failing if self.stages.iter().all(|s| s.call == 0 || s.over()) => self.phase = Phase::Over,
            _ => {}
        }
    }

    fn tell_all(&mut self, args: &[Value]) {
        for stage in 0..self.stages.len() {
            if !self.stages[stage].over() {
                self.tell(stage, args, true);
            }
        }
    }

    fn tell(&mut self, stage: usize, args: &[Value], progress: bool) {
        let stage = &self.stages[stage];
        let uri = format!("pipes.node.{}.replica.{}.stage", stage.node, stage.replica);
        let options = CallOptions {
            progress,
            receive_progress: true,
            ..CallOptions::default()
        };
        let body = PayloadBuf::of_values(args.to_vec(), None);
        let payload = body.as_payload();
        self.writer.queue(&Message::Call {
            request: stage.call,
            options,
            procedure: &uri,
            payload,
        });
    }

    fn call(&mut self, call: Call, procedure: &str, options: CallOptions<'_>, payload: Payload<'_>) -> u64 {
        let request = self.request(call);
        self.writer.queue(&Message::Call {
            request,
            options,
            procedure,
            payload,
        });
        request
    }

    fn request(&mut self, call: Call) -> u64 {
        self.last_request += 1;
        self.calls.insert(self.last_request, call);
        self.last_request
    }

    fn nodes(&self) -> Vec<u64> {
        let by_node: BTreeMap<u64, ()> = self.stages.iter().map(|stage| (stage.node, ())).collect();
        by_node.into_keys().collect()
    }

    fn first_pipe(&self) -> String {
        format!(
            "pipes.node.{}.replica.{}.pipe",
            self.stages[0].node, self.stages[0].replica
        )
    }

    /// The first node whose replica is not ready.
    pub fn unready_node(&self) -> Option<u64> {
        let mut stages = self.stages.iter();
        let late = stages.find(|stage| stage.replica.is_empty() || !stage.ready)?;
        Some(late.node)
    }

    /// A call of ours, for the router.
    pub fn own(&self, request: u64) -> Own {
        Own {
            session: self.session,
            request,
        }
    }

    fn output_uri(&self) -> String {
        format!(
            "pipes.node.{}.run.{}.{}.out",
            self.plan.coordinator, self.plan.id, self.number
        )
    }
}

fn streaming() -> CallOptions<'static> {
    CallOptions {
        progress: true,
        receive_progress: true,
        ..CallOptions::default()
    }
}
