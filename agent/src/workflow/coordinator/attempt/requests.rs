//! What an attempt says: to nodes, to shims, and to the pipes at both ends of the line.

use pipes_protocol::descriptor::{Descriptor, Descriptors};
use pipes_protocol::pipe;
use pipes_protocol::reservation::{self, Prepare, Wanted};
use pipes_protocol::stage::{Order, Spec};
use pipes_protocol::uris::{self, Offered};
use pipes_wamp::message::{CallOptions, Message, Payload};
use pipes_wamp::streaming::{self, Callee, Caller};
use serde_bytes::ByteBuf;

use crate::workflow::coordinator::attempt::{Attempt, Call, Phase, Stop};
use crate::workflow::runs::signal::Signal;

/// The variable that tells a stage which job it works for.
const JOB: &str = "PIPES_JOB";

impl Attempt<'_> {
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

    /// Asks all nodes that were not asked yet; only the first of them where they are asked in turn.
    pub(super) fn ask(&mut self) {
        let count = if self.in_turn { 1 } else { self.to_ask.len() };
        let nodes: Vec<u64> = self.to_ask.drain(..count.min(self.to_ask.len())).collect();
        for node in nodes {
            let uri = uris::of_node(node, uris::node::EXECUTOR_PREPARE);
            let prepare = reservation::encode(&self.prepare(node));
            let options = streaming::options(false);
            self.call(Call::Prepare(node), &uri, options, prepare.as_payload());
            self.silent.push(node);
            self.asked += 1;
        }
    }

    fn prepare(&self, node: u64) -> Prepare {
        let placed = self.stages.iter().zip(&self.plan.stages).zip(1..);
        let here = placed.filter(|((stage, _), _)| stage.node == node);
        let stages = here.map(|((_, planned), number)| Wanted {
            stage: number,
            kind: planned.kind.clone(),
            fresh: self.plan.options.fresh,
        });
        let files = self.plan.options.files.iter();
        Prepare {
            stages: stages.collect(),
            files: files.map(|file| file.digest.clone()).collect(),
            wait: self.in_turn,
        }
    }

    /// All replicas are reserved: makes the stage calls and the pipe to the first stage.
    pub(super) fn connect(&mut self) {
        self.phase = Phase::Connecting;
        for index in 0..self.stages.len() {
            let next = match self.stages.get(index + 1) {
                Some(next) => uris::of_replica(next.node, &next.replica, Offered::Pipe),
                None => self.output_uri(),
            };
            let uri = self.stage_uri(index);
            let spec = self.spec(index, next.clone()).encode();
            let options = CallOptions {
                grant: Some(&next),
                ..streaming::options(false)
            };
            self.stages[index].call = self.call(Call::Stage(index), &uri, options, spec.as_payload());
        }
        let uri = self.first_pipe();
        let opening = pipe::Opening {
            run: self.plan.id.clone(),
            stage: 1,
        };
        let options = streaming::options(false);
        self.stdin.request = self.call(Call::Stdin, &uri, options, opening.encode().as_payload());
    }

    /// What the shim of a stage is to start; `next` is the procedure of the pipe after it.
    fn spec(&self, index: usize, next: String) -> Spec {
        let (planned, placed) = (&self.plan.stages[index], &self.stages[index]);
        let options = &self.plan.options;
        let pair = |name: &str, value: &[u8]| (ByteBuf::from(name.as_bytes()), ByteBuf::from(value));
        let given = options.env.iter().chain(&planned.env);
        let given = given.map(|(name, value)| pair(name, value));
        // Last, so that nothing given takes its place.
        let env = given.chain(options.job.iter().map(|id| pair(JOB, id.as_bytes())));
        Spec {
            run: self.plan.id.clone(),
            stage: index as u32 + 1,
            args: planned.args.iter().cloned().map(ByteBuf::from).collect(),
            env: env.collect(),
            files: options.files.clone(),
            next,
            attempt: match options.job {
                Some(_) => u64::from(options.attempt),
                None => self.start_number,
            },
            window: placed.window,
            descriptors: self.descriptors(index),
            scratch: options.scratch,
        }
    }

    /// The ends of a line have the caller's descriptors, and a pipe between two stages is none of them.
    fn descriptors(&self, index: usize) -> Descriptors {
        let [stdin, stdout, stderr] = self.plan.descriptors;
        let of_end = |is_end: bool, descriptor| if is_end { descriptor } else { Descriptor::Pipe };
        let is_last = index + 1 == self.stages.len();
        [of_end(index == 0, stdin), of_end(is_last, stdout), stderr]
    }

    /// Every hop is proved: the executables start.
    pub(super) fn start(&mut self) {
        self.phase = Phase::Running;
        self.has_started = true;
        self.order_all(Order::Start);
    }

    /// Sends a signal to every stage that still runs.
    pub fn signal(&mut self, signal: Signal) {
        match (self.phase, signal) {
            (Phase::Reserving | Phase::Connecting, signal) => self.stop(Stop::Signalled(signal.number())),
            (Phase::Running, Signal::Kill) => {
                self.abandon();
                self.order_all(Order::Kill);
            }
            (Phase::Running, Signal::Group(number)) => self.order_all(Order::Signal(number)),
            _ => {}
        }
    }

    /// The run's time is over: SIGTERM to every stage that still runs, and none's end is an end for the next one.
    pub fn terminate(&mut self) {
        match self.phase {
            Phase::Reserving | Phase::Connecting => self.stop(Stop::Signalled(libc::SIGTERM)),
            Phase::Running => {
                self.abandon();
                self.order_all(Order::Signal(libc::SIGTERM));
            }
            Phase::Ending | Phase::Failing | Phase::Freeing | Phase::Over => {}
        }
    }

    /// No stage that is ended from now on gives the next one an end of input.
    fn abandon(&mut self) {
        for stage in 0..self.stages.len() {
            let gives_end = stage + 1 == self.stages.len();
            if !self.stages[stage].is_over() {
                self.order(stage, Order::Abandon { gives_end });
            }
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
        self.pipe_chunk(bytes, false);
    }

    /// The end of stdin was said.
    pub fn end_of_input(&mut self) {
        if self.phase == Phase::Running && !self.stdin.done {
            self.pipe_chunk(&[], true);
            self.stdin.done = true;
        }
    }

    fn pipe_chunk(&mut self, bytes: &[u8], is_last: bool) {
        let pipe = Caller {
            request: self.stdin.request,
            procedure: &self.first_pipe(),
        };
        self.writer
            .queue_bytes(bytes, |payload| pipe.chunk_message(payload, is_last));
    }

    /// Lets the last stage send more.
    pub fn credit_output(&mut self, bytes: u64) {
        if let (Some(request), false, true) = (self.output.invocation, self.output.done, bytes > 0) {
            Callee { request }.credit(&mut self.writer, bytes);
        }
    }

    /// Everything was taken, or nobody reads any more: the last stage's pipe ends.
    pub fn close_output(&mut self) {
        if let (Some(request), false) = (self.output.invocation, self.output.done) {
            Callee { request }.result(&mut self.writer, Payload::EMPTY);
            self.output.done = true;
        }
    }

    /// Nobody reads the stages' standard errors any more, or will.
    pub fn close_stderr(&mut self) {
        if matches!(self.phase, Phase::Connecting | Phase::Running) {
            self.order_all(Order::CloseStderr);
        }
    }

    /// Gives a stage's standard error more room. Not once it was told the end: a chunk after a call's last one breaks
    /// the protocol, and the session with it.
    pub fn credit_stderr(&mut self, stage: usize, bytes: u64) {
        if self.phase == Phase::Running && !self.stages[stage].is_over() {
            self.order(stage, Order::Credit(bytes));
        }
    }

    fn order_all(&mut self, order: Order) {
        for stage in 0..self.stages.len() {
            if !self.stages[stage].is_over() {
                self.order(stage, order);
            }
        }
    }

    /// Tells a stage's shim what to do; nothing comes after the end.
    pub(super) fn order(&mut self, stage: usize, order: Order) {
        let shim = Caller {
            request: self.stages[stage].call,
            procedure: &self.stage_uri(stage),
        };
        let is_last = order == Order::End;
        shim.chunk(&mut self.writer, order.encode().as_payload(), is_last);
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

    fn stage_uri(&self, index: usize) -> String {
        let stage = &self.stages[index];
        uris::of_replica(stage.node, &stage.replica, Offered::Stage)
    }

    fn first_pipe(&self) -> String {
        uris::of_replica(self.stages[0].node, &self.stages[0].replica, Offered::Pipe)
    }

    /// Where the last stage sends the output of this attempt.
    fn output_uri(&self) -> String {
        uris::output_of_run(self.plan.coordinator, &self.plan.id, self.number)
    }
}
