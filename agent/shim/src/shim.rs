//! The loop: what came in, who it is for, and what to wait for next.

use std::io;
use std::time::Duration;

use pipes_wamp::message::{EMPTY_MAP, Message, Payload};

use crate::child::Spawner;
use crate::connection::{Frame, Inbox, Outbox};
use crate::invocation::{End, Invocation, Watched, Workshop};
use crate::join::Joined;
use crate::order::{self, Command, Order};
use crate::processes::{self, Groups};
use crate::report;
use crate::scratch::Scratch;
use crate::settings::Settings;
use crate::signals::Signals;

/// Pipe calls that wait for their stage call, for each slot: each is one reserved invocation's, or a former
/// attempt's that is being given up.
const WAITING_PER_SLOT: usize = 4;

/// A replica at work.
pub struct Shim {
    inbox: Inbox,
    signals: Signals,
    desk: Desk,
}

/// Everything but what messages are borrowed from.
struct Desk {
    outbox: Outbox,
    workshop: Workshop,
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
    request: u64,
    run: String,
    stage: u32,
    has_ended: bool,
}

impl Shim {
    /// A replica that has joined its router.
    pub fn new(
        settings: Settings,
        signals: Signals,
        spawner: Spawner,
        joined: Joined,
    ) -> anyhow::Result<Shim> {
        let scratch = Scratch::new(&settings)?;
        let groups = Groups::new(settings.cgroup.clone());
        let desk = Desk {
            outbox: Outbox::new(joined.stream.try_clone()?),
            workshop: Workshop {
                settings,
                spawner,
                scratch,
                groups,
            },
            stage: joined.stage,
            pipe: joined.pipe,
            invocations: Vec::new(),
            waiting: Vec::new(),
            last_request: 0,
            // 1 and 2 were the registrations.
            last_call: 2,
            is_closing: false,
        };
        Ok(Shim {
            inbox: Inbox::new(joined.stream),
            signals,
            desk,
        })
    }

    /// Serves until the connection ends, or a signal asks to stop; returns when nothing is left of any stage.
    pub fn serve(mut self) -> anyhow::Result<()> {
        let (mut polls, mut watched, mut turn) = (Vec::new(), Vec::new(), 0_usize);
        loop {
            self.desk.advance();
            if self.desk.is_closing && self.desk.invocations.is_empty() {
                break;
            }
            self.fill_polls(&mut polls, &mut watched);
            poll(&mut polls, self.desk.patience())?;
            if polls[0].revents != 0 {
                let seen = self.signals.take();
                if seen.child {
                    self.desk.reap();
                }
                if seen.stop {
                    self.desk.close();
                }
            }
            if polls[1].revents & libc::POLLOUT != 0 {
                self.desk.outbox.flush();
            }
            if polls[1].revents & !libc::POLLOUT != 0 {
                self.receive();
            }
            // The first one may fill the connection: each turn another is the first.
            turn = turn.wrapping_add(1);
            for step in 0..watched.len() {
                let at = turn.wrapping_add(step) % watched.len();
                let ((index, what), events) = (watched[at], polls[2 + at].revents);
                if events != 0 {
                    self.desk.invocations[index].ready(what, events, &mut self.desk.outbox);
                }
            }
        }
        self.desk.leave_nothing();
        Ok(())
    }

    fn fill_polls(&self, polls: &mut Vec<libc::pollfd>, watched: &mut Vec<(usize, Watched)>) {
        let desk = &self.desk;
        let entry = |fd, events| libc::pollfd {
            fd,
            events,
            revents: 0,
        };
        let can_send = desk.outbox.is_idle();
        polls.clear();
        watched.clear();
        polls.push(entry(self.signals.watch(), libc::POLLIN));
        let events = if can_send {
            libc::POLLIN
        } else {
            libc::POLLIN | libc::POLLOUT
        };
        // A negative descriptor is passed over.
        polls.push(entry(
            if desk.is_closing { -1 } else { desk.outbox.watch() },
            events,
        ));
        for (index, invocation) in desk.invocations.iter().enumerate() {
            invocation.watch(can_send, |fd, events, what| {
                polls.push(entry(fd, events));
                watched.push((index, what));
            });
        }
    }

    /// Reads once, and handles every message that is whole.
    fn receive(&mut self) {
        let is_open = self.inbox.fill().unwrap_or(false);
        loop {
            match self.inbox.next() {
                Ok(Some(Frame::Message(bytes))) => match Message::parse(bytes) {
                    Ok(message) => self.desk.handle(message),
                    Err(error) => return self.desk.broken(&error),
                },
                Ok(Some(Frame::Ping(payload))) => self.desk.outbox.pong(payload),
                Ok(None) => break,
                Err(error) => return self.desk.broken(&error),
            }
        }
        if !is_open || self.desk.outbox.is_lost() {
            self.desk.close();
        }
    }
}

impl Desk {
    fn handle(&mut self, message: Message<'_>) {
        match message {
            Message::Invocation {
                request,
                registration,
                details,
                payload,
            } => {
                if request > self.last_request {
                    self.last_request = request;
                    self.begin(request, registration, payload, !details.progress);
                } else {
                    self.chunk(request, payload, !details.progress);
                }
            }
            Message::Interrupt { request, .. } => self.interrupt(request),
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
                let reason = pipes_wamp::error::uri::GOODBYE_AND_OUT;
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
    fn begin(&mut self, request: u64, registration: u64, payload: Payload<'_>, is_last: bool) {
        if registration == self.stage {
            self.begin_stage(request, payload);
        } else if registration == self.pipe {
            self.begin_pipe(request, payload, is_last);
        }
    }

    fn begin_stage(&mut self, request: u64, payload: Payload<'_>) {
        let taken = self.invocations.iter().filter(|one| one.takes_a_slot()).count();
        if taken >= self.workshop.settings.slots || self.is_closing {
            return report::error(
                &mut self.outbox,
                request,
                report::BUSY,
                "all slots of the replica are taken",
            );
        }
        self.last_call += 1;
        let call = self.last_call;
        let order = Order::parse(payload);
        let prepared = order.and_then(|order| {
            let name = (order.run.clone(), order.stage);
            let made = Invocation::prepare(order, request, call, &mut self.workshop, &mut self.outbox)?;
            Ok((made, name))
        });
        match prepared {
            Ok((mut invocation, (run, stage))) => {
                // The newest: an older one is a former attempt's.
                let position = self
                    .waiting
                    .iter()
                    .rposition(|pipe| pipe.run == run && pipe.stage == stage);
                if let Some(position) = position {
                    let pipe = self.waiting.remove(position);
                    invocation.join_pipe(pipe.request, pipe.has_ended, &mut self.outbox);
                }
                self.invocations.push(invocation);
            }
            Err(why) => report::error(&mut self.outbox, request, report::CANNOT_START, &why),
        }
    }

    fn begin_pipe(&mut self, request: u64, payload: Payload<'_>, has_ended: bool) {
        let Some((run, stage)) = order::parse_pipe(payload) else {
            let why = "a pipe call begins with a run, a stage and no bytes";
            return report::error(&mut self.outbox, request, report::BROKEN, why);
        };
        let stage_call = self
            .invocations
            .iter_mut()
            .rev()
            .find(|one| one.awaits(&run, stage));
        if let Some(invocation) = stage_call {
            return invocation.join_pipe(request, has_ended, &mut self.outbox);
        }
        if self.waiting.len() >= self.workshop.settings.slots * WAITING_PER_SLOT {
            let why = "too many pipes wait for their stages";
            return report::error(&mut self.outbox, request, report::BUSY, why);
        }
        self.waiting.push(WaitingPipe {
            request,
            run,
            stage,
            has_ended,
        });
    }

    /// A later chunk of a call.
    fn chunk(&mut self, request: u64, payload: Payload<'_>, is_last: bool) {
        if let Some(invocation) = self
            .invocations
            .iter_mut()
            .find(|one| one.pipe() == Some(request))
        {
            return invocation.pipe_chunk(payload, is_last);
        }
        if let Some(position) = self.invocations.iter().position(|one| one.request() == request) {
            // Without further chunks nobody could say that the run is over.
            let command = if is_last {
                Some(Command::End)
            } else {
                Command::parse(payload)
            };
            if let Some(command) = command {
                let mains = self.mains();
                self.invocations[position].command(command, &mains);
            }
            return;
        }
        if let Some(position) = self.waiting.iter().position(|pipe| pipe.request == request) {
            let has_bytes = pipes_wamp::payload::bytes_arg(payload).is_some_and(|bytes| !bytes.is_empty());
            if has_bytes {
                self.waiting.remove(position);
                report::error(
                    &mut self.outbox,
                    request,
                    report::BROKEN,
                    "bytes came without credit",
                );
            } else {
                self.waiting[position].has_ended |= is_last;
            }
        }
    }

    /// A call was given up.
    fn interrupt(&mut self, request: u64) {
        for invocation in &mut self.invocations {
            if invocation.request() == request {
                return invocation.end(End::Canceled);
            }
            if invocation.pipe() == Some(request) {
                return invocation.pipe_interrupted();
            }
        }
        if let Some(position) = self.waiting.iter().position(|pipe| pipe.request == request) {
            self.waiting.remove(position);
            report::error(
                &mut self.outbox,
                request,
                report::CANCELED,
                "the pipe was given up",
            );
        }
    }

    /// Reaps every child that has ended, orphans too.
    fn reap(&mut self) {
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
    fn advance(&mut self) {
        let mains = self.mains();
        for invocation in &mut self.invocations {
            invocation.advance(&mut self.workshop, &mut self.outbox, &mains);
        }
        self.outbox.flush();
        if self.invocations.iter().any(Invocation::is_over) {
            for invocation in self.invocations.extract_if(.., |one| one.is_over()) {
                if let Some(group) = invocation.into_group() {
                    self.workshop.groups.give_back(group);
                }
            }
            if self.invocations.is_empty() {
                // Whoever is left could not be told to be of any of them.
                processes::kill_all();
            }
        }
    }

    /// The processes started for invocations, as far as they live.
    fn mains(&self) -> Vec<libc::pid_t> {
        self.invocations.iter().filter_map(Invocation::main).collect()
    }

    fn patience(&self) -> Option<Duration> {
        self.invocations.iter().filter_map(Invocation::patience).min()
    }

    fn broken(&mut self, error: &pipes_wamp::Error) {
        eprintln!("pipes-shim: the agent broke the protocol: {error}");
        self.close();
    }

    /// The connection is gone: every invocation breaks.
    fn close(&mut self) {
        self.is_closing = true;
        self.outbox.give_up();
        for invocation in &mut self.invocations {
            invocation.end(End::Canceled);
        }
    }

    /// Ends what is left of all invocations, and removes what the replica has made.
    fn leave_nothing(&mut self) {
        while processes::kill_all() {
            // SAFETY: waits for children, all of which have been killed; new ones may appear as theirs end.
            unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) };
        }
        self.workshop.groups.remove_all();
        self.workshop.scratch.remove_all();
    }
}

/// Waits until something is ready, at most so long.
fn poll(polls: &mut [libc::pollfd], patience: Option<Duration>) -> io::Result<()> {
    let timeout = patience.map_or(-1, |time| {
        // Rounded up: a wait of less than a millisecond is no busy loop.
        libc::c_int::try_from(time.as_micros().div_ceil(1000)).unwrap_or(libc::c_int::MAX)
    });
    // SAFETY: the kernel writes `revents` of the entries of this slice.
    let count = unsafe { libc::poll(polls.as_mut_ptr(), polls.len() as libc::nfds_t, timeout) };
    if count < 0 {
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
        polls.iter_mut().for_each(|poll| poll.revents = 0);
    }
    Ok(())
}
