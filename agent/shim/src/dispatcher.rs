//! Who a message is for: the stage call and the pipe call of each invocation, and pipe calls that came before their
//! stage call.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pipes_protocol::pipe::Opening;
use pipes_protocol::stage::{Order, Spec};
use pipes_protocol::{size, uris};
use pipes_wamp::error::uri as wamp_error;
use pipes_wamp::message::{EMPTY_MAP, Message, Payload};
use pipes_wamp::streaming::{Callee, Queue};

use crate::background::Background;
use crate::child::Spawner;
use crate::connection::Outbox;
use crate::disk::Disk;
use crate::invocation::{End, Invocation, Replica, Watched};
use crate::join::Joined;
use crate::processes::{self, Groups};
use crate::scratch::Scratch;
use crate::settings::Settings;

/// Pipe calls that wait for their stage call, for each slot: each is one reserved invocation's, or a former
/// attempt's that is being given up.
const WAITING_PER_SLOT: usize = 4;

/// All invocations of a replica, and the connection's sending half.
pub struct Dispatcher {
    outbox: Outbox,
    replica: Replica,
    /// Registration of the stage call; any other is the pipe call's.
    stage: u64,
    pipe: u64,
    invocations: Vec<Invocation>,
    waiting: Vec<WaitingPipe>,
    /// The last INVOCATION that was new. The router numbers them upwards, so that a chunk with a number
    /// up to this one, belonging to nobody, came late for a call that was answered.
    last_request: u64,
    last_call: u64,
    is_closing: bool,
}

/// A pipe call whose stage call has not come yet.
struct WaitingPipe {
    call: Callee,
    opening: Opening,
    has_ended: bool,
}

impl Dispatcher {
    /// Of a replica that has joined its router.
    pub fn new(settings: Settings, spawner: Spawner, joined: Joined) -> anyhow::Result<Dispatcher> {
        let scratch = Scratch::new(&settings)?;
        let groups = Groups::new(settings.cgroup.clone());
        let disk = Disk::new(settings.scratch.clone());
        Ok(Dispatcher {
            outbox: Outbox::new(joined.stream),
            replica: Replica {
                settings: Arc::new(settings),
                spawner,
                scratch,
                disk,
                groups,
                background: Background::new()?,
            },
            stage: joined.stage,
            pipe: joined.pipe,
            invocations: Vec::new(),
            waiting: Vec::new(),
            last_request: 0,
            // 1 and 2 were the registrations.
            last_call: 2,
            is_closing: false,
        })
    }

    /// Whether the connection has ended, and with it every invocation.
    pub fn is_done(&self) -> bool {
        self.is_closing && self.invocations.is_empty()
    }

    /// Whether the connection failed while something was sent.
    pub fn is_lost(&self) -> bool {
        self.outbox.is_lost()
    }

    /// The connection, and what to watch it for; a negative descriptor once it has ended, which is passed over.
    pub fn watch_connection(&self) -> (RawFd, i16) {
        let fd = if self.is_closing { -1 } else { self.outbox.watch() };
        let sending = if self.outbox.is_idle() { 0 } else { libc::POLLOUT };
        (fd, libc::POLLIN | sending)
    }

    /// What tells that something is done which was begun beside.
    pub fn watch_background(&self) -> RawFd {
        self.replica.background.watch()
    }

    /// Something is done that was begun beside.
    pub fn seen_background(&self) {
        self.replica.background.seen();
    }

    /// What to watch for the invocations: descriptor, events, whose it is, and what it is there.
    pub fn watch(&self, mut add: impl FnMut(RawFd, i16, usize, Watched)) {
        let can_send = self.outbox.is_idle();
        for (index, invocation) in self.invocations.iter().enumerate() {
            invocation.watch(can_send, |fd, events, what| add(fd, events, index, what));
        }
    }

    /// Something that was watched for an invocation is ready.
    pub fn ready(&mut self, index: usize, what: Watched, events: i16) {
        self.invocations[index].ready(what, events, &mut self.outbox);
    }

    /// Sends what the connection takes.
    pub fn flush(&mut self) {
        self.outbox.flush();
    }

    /// Answers a PING.
    pub fn pong(&mut self, payload: &[u8]) {
        self.outbox.pong(payload);
    }

    /// One message of the agent.
    pub fn handle(&mut self, message: Message<'_>) {
        match message {
            Message::Invocation {
                request,
                registration,
                details,
                payload,
            } => {
                if request > self.last_request {
                    self.last_request = request;
                    self.begin(Callee { request }, registration, payload, !details.progress);
                } else {
                    self.chunk(Callee { request }, payload, !details.progress);
                }
            }
            Message::Interrupt { request, .. } => self.interrupt(Callee { request }),
            Message::Result {
                request,
                progress,
                payload,
            } => {
                if let Some(invocation) = self.invocations.iter_mut().find(|one| one.next_call() == request) {
                    invocation.next_result(progress, payload, &mut self.outbox);
                }
            }
            Message::Error { request, error, .. } => {
                if let Some(invocation) = self.invocations.iter_mut().find(|one| one.next_call() == request) {
                    invocation.next_failed(error);
                }
            }
            Message::Goodbye { .. } => {
                let reason = wamp_error::GOODBYE_AND_OUT;
                self.outbox.queue(&Message::Goodbye {
                    details: EMPTY_MAP,
                    reason,
                });
                self.outbox.flush();
                self.close();
            }
            Message::Abort { .. } => self.close(),
            _ => {}
        }
    }

    /// The first chunk of a call.
    fn begin(&mut self, call: Callee, registration: u64, payload: Payload<'_>, is_last: bool) {
        if registration == self.stage {
            self.begin_stage(call, payload);
        } else if registration == self.pipe {
            self.begin_pipe(call, payload, is_last);
        }
    }

    fn begin_stage(&mut self, call: Callee, payload: Payload<'_>) {
        let taken = self.invocations.iter().filter(|one| one.takes_a_slot()).count();
        if taken >= self.replica.settings.slots || self.is_closing {
            let why = "all slots of the replica are taken";
            return call.fail(&mut self.outbox, uris::error::BUSY, why);
        }
        self.last_call += 1;
        let next_call = self.last_call;
        let prepared = Spec::parse(payload)
            .and_then(|spec| Invocation::prepare(spec, call, next_call, &mut self.replica, &mut self.outbox));
        match prepared {
            Ok(mut invocation) => {
                // The newest: an older one is a former attempt's.
                let position = self
                    .waiting
                    .iter()
                    .rposition(|pipe| invocation.is_fed_by(&pipe.opening));
                if let Some(position) = position {
                    let pipe = self.waiting.remove(position);
                    invocation.join_pipe(pipe.call, pipe.has_ended, &mut self.outbox);
                }
                self.invocations.push(invocation);
            }
            Err(why) => call.fail(&mut self.outbox, uris::error::CANNOT_START, &why),
        }
    }

    fn begin_pipe(&mut self, call: Callee, payload: Payload<'_>, has_ended: bool) {
        let Some(opening) = Opening::parse(payload) else {
            let why = "a pipe call begins with a run, a stage and no bytes";
            return call.fail(&mut self.outbox, uris::error::BROKEN, why);
        };
        let stage_call = self.invocations.iter_mut().rev().find(|one| one.awaits(&opening));
        if let Some(invocation) = stage_call {
            return invocation.join_pipe(call, has_ended, &mut self.outbox);
        }
        if self.waiting.len() >= self.replica.settings.slots * WAITING_PER_SLOT {
            let why = "too many pipes wait for their stages";
            return call.fail(&mut self.outbox, uris::error::BUSY, why);
        }
        self.waiting.push(WaitingPipe {
            call,
            opening,
            has_ended,
        });
    }

    /// A later chunk of a call.
    fn chunk(&mut self, call: Callee, payload: Payload<'_>, is_last: bool) {
        if let Some(invocation) = self.invocations.iter_mut().find(|one| one.pipe() == Some(call)) {
            return invocation.pipe_chunk(payload, is_last);
        }
        if let Some(position) = self.invocations.iter().position(|one| one.call() == call) {
            // Without further chunks nobody could say that the run is over.
            let order = if is_last {
                Some(Order::End)
            } else {
                Order::parse(payload)
            };
            if let Some(order) = order {
                let mains = self.mains();
                self.invocations[position].order(order, &mains);
            }
            return;
        }
        if let Some(position) = self.waiting.iter().position(|pipe| pipe.call == call) {
            let has_bytes = pipes_wamp::payload::bytes_arg(payload).is_some_and(|bytes| !bytes.is_empty());
            if has_bytes {
                self.waiting.remove(position);
                let why = "bytes came without credit";
                call.fail(&mut self.outbox, uris::error::BROKEN, why);
            } else {
                self.waiting[position].has_ended |= is_last;
            }
        }
    }

    /// A call was given up.
    fn interrupt(&mut self, call: Callee) {
        for invocation in &mut self.invocations {
            if invocation.call() == call {
                return invocation.end(End::Canceled);
            }
            if invocation.pipe() == Some(call) {
                return invocation.pipe_interrupted();
            }
        }
        if let Some(position) = self.waiting.iter().position(|pipe| pipe.call == call) {
            self.waiting.remove(position);
            call.fail(&mut self.outbox, wamp_error::CANCELED, "the pipe was given up");
        }
    }

    /// Reaps every child that has ended, orphans too.
    pub fn reap(&mut self) {
        loop {
            let mut status = 0;
            // SAFETY: writes one int.
            let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) };
            if pid <= 0 {
                return;
            }
            if let Some(invocation) = self.invocations.iter_mut().find(|one| one.main() == Some(pid)) {
                invocation.exited(status);
            }
        }
    }

    /// Lets every invocation do what it can, and forgets those that are over.
    pub fn advance(&mut self) {
        let mains = self.mains();
        for invocation in &mut self.invocations {
            invocation.advance(&mut self.replica, &mut self.outbox, &mains);
        }
        self.outbox.flush();
        if self.invocations.iter().any(Invocation::is_over) {
            for invocation in self.invocations.extract_if(.., |one| one.is_over()) {
                if let Some(group) = invocation.into_group() {
                    self.replica.groups.give_back(group);
                }
            }
            if self.invocations.is_empty() {
                // Whoever is left could not be told to be of any of them.
                processes::kill_all();
            }
        }
        self.free_the_disk();
    }

    /// Ends the invocation that holds the most of a disk that is nearly full, once it is known which one that is; or the
    /// largest of those that are known, where that takes too long.
    fn free_the_disk(&mut self) {
        let is_unknown = self.invocations.iter().any(Invocation::is_looked_through);
        if is_unknown && !self.replica.disk.is_overdue(Instant::now()) {
            return;
        }
        let largest = self.invocations.iter_mut().max_by_key(|one| one.held());
        let held = largest.as_ref().and_then(|one| one.held());
        // One that ends already still holds it: nobody else has to end until it is gone.
        if self.replica.disk.has_to_free(held)
            && let Some(largest) = largest.filter(|one| one.takes_a_slot())
        {
            let held = size::shown(held.unwrap_or(0));
            let why = format!("its scratch directory held {held} when its disk was nearly full");
            largest.end(End::OverLimit(why));
        }
    }

    /// The processes started for invocations, as far as they live.
    fn mains(&self) -> Vec<libc::pid_t> {
        self.invocations.iter().filter_map(Invocation::main).collect()
    }

    /// How long the loop may sleep at most.
    pub fn patience(&self) -> Option<Duration> {
        self.invocations.iter().filter_map(Invocation::patience).min()
    }

    /// The agent sent what is no message.
    pub fn broken(&mut self, error: &pipes_wamp::Error) {
        eprintln!("pipes-shim: the agent broke the protocol: {error}");
        self.close();
    }

    /// The connection is gone: every invocation breaks.
    pub fn close(&mut self) {
        self.is_closing = true;
        self.outbox.give_up();
        for invocation in &mut self.invocations {
            invocation.end(End::Canceled);
        }
    }

    /// Ends what is left of all invocations, and removes what the replica has made.
    pub fn leave_nothing(&mut self) {
        while processes::kill_all() {
            // SAFETY: waits for children, all of which have been killed; new ones may appear as theirs end.
            unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) };
        }
        self.replica.groups.remove_all();
        self.replica.scratch.remove_all();
    }
}
