//! One invocation: a stage of a run, from its call to its answer.
//!
//! ```text
//! Waiting --go--> Starting --> Running --------end, break--------> Ending --nobody left--> Cleaning --> Over
//!    \                \-------------------- cannot start -----------/
//!     \------------------------- end, break -----------------------/
//! ```
//!
//! *Waiting*: pipes, folder and cgroup are there, the next stage is called, files are laid; bytes may come already. *Running*: the executable was
//! started; its exit changes nothing here but what is reported, since descendants may go on. *Ending*: everything is being
//! killed; no pipe is read, written or closed until nobody is left. *Cleaning*: the folder is being removed.
//!
//! Always: (1) an end of output is sent only in Running, after `read` returned 0, and not where Pipes ends the run; (2) pipes
//! are closed only by their own ends or after Ending; (3) the stage call and the received pipe call are each answered once.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use std::{fmt, io};

use pipes_flow::{self as flow, Source};
use pipes_folder::Folder;
use pipes_protocol::pipe::Opening;
use pipes_protocol::stage::{Exit, Order, Report, Spec};
use pipes_protocol::uris;
use pipes_wamp::error::uri as wamp_error;
use pipes_wamp::message::Payload;
use pipes_wamp::streaming::Callee;

use crate::connection::Outbox;
use crate::processes::{Group, Tree};
use crate::scratch::Clearing;
use crate::usage::Usage;

mod counts;
mod exit;
mod folder;
mod input;
mod laying;
mod output;
mod reports;
mod start;
mod stderr;

use counts::Counts;
use input::Input;
use laying::Laying;
use output::Output;
pub use start::Replica;
use stderr::Stderr;

/// How long an executable may be open for writing: whoever forked while it was written executes within that.
const BUSY_MAX: Duration = Duration::from_secs(5);

/// Signals kept for a stage that has not started yet.
const SIGNALS_MAX: usize = 16;

/// A stage of a run.
pub struct Invocation {
    spec: Spec,
    /// The stage call.
    call: Callee,
    phase: Phase,
    main: Main,
    input: Input,
    output: Output,
    stderr: Stderr,
    /// The child's ends of its pipes, until it has them.
    ends: Option<[OwnedFd; 3]>,
    processes: Tree,
    /// Everything is to be killed, now and as often as something new appears.
    is_killing: bool,
    /// Pipes ends the whole run.
    is_abandoned: bool,
    folder: PathBuf,
    /// The same, by its descriptor.
    made: Arc<Folder>,
    usage: Usage,
    counts: Counts,
    laying: Option<Laying>,
    early_signals: Vec<i32>,
    is_exit_reported: bool,
}

enum Phase {
    Waiting,
    Starting { until: Instant },
    Running,
    Ending(End),
    Cleaning(End, Clearing),
    Over,
}

/// The process that the shim started.
enum Main {
    None,
    Alive(libc::pid_t),
    Exited(Exit),
}

/// Why an invocation ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The coordinator said that the run is over.
    Asked,
    /// The coordinator gave the stage call up, or is gone.
    Canceled,
    /// A pipe broke.
    Broken(String),
    /// It took more than it may have.
    OverLimit(String),
    /// The executable could not be started.
    CannotStart(String),
}

/// What the shim watches for an invocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watched {
    /// The stage's stdin.
    Input,
    /// Its stdout.
    Output,
    /// Its stderr.
    Stderr,
    /// Whether any process is left.
    Processes,
}

impl Invocation {
    /// Makes everything ready for the start, and calls the next stage. The error is one sentence.
    pub fn prepare(
        spec: Spec,
        call: Callee,
        next_call: u64,
        replica: &mut Replica,
        outbox: &mut Outbox,
    ) -> Result<Invocation, String> {
        let made = replica
            .scratch
            .make()
            .map_err(|error| format!("no working folder: {error}"))?;
        let folder = made.path().to_owned();
        let make = || -> io::Result<_> {
            let (stdin, to_stdin) = flow::pipe::new()?;
            let (from_stdout, stdout) = flow::pipe::new()?;
            let (from_stderr, stderr) = flow::pipe::new()?;
            let window = spec
                .window
                .and_then(|window| usize::try_from(window).ok())
                .unwrap_or(usize::MAX);
            let input = Input::new(to_stdin, replica.settings.window.min(window))?;
            let output = Output::new(Source::new(from_stdout)?, next_call, spec.next.clone());
            let stderr_end = Stderr::new(Source::new(from_stderr)?);
            Ok((input, output, stderr_end, [stdin, stdout, stderr]))
        };
        let (input, output, stderr, ends) = make().map_err(|error| {
            // Nothing lies in it yet.
            let _ = made.remove_empty();
            error.to_string()
        })?;
        let laying = Laying::of(&spec);
        let opening = Opening {
            run: spec.run.clone(),
            stage: spec.stage + 1,
        };
        output.open(outbox, &opening);
        Ok(Invocation {
            call,
            phase: Phase::Waiting,
            main: Main::None,
            input,
            output,
            stderr,
            ends: Some(ends),
            processes: Tree::new(&spec, replica.groups.take()),
            is_killing: false,
            is_abandoned: false,
            folder,
            made,
            usage: Usage::new(crate::processes::descendants),
            counts: Counts::new(Instant::now()),
            laying,
            early_signals: Vec::new(),
            is_exit_reported: false,
            spec,
        })
    }

    /// The stage call.
    pub fn call(&self) -> Callee {
        self.call
    }

    /// The pipe call that feeds it.
    pub fn pipe(&self) -> Option<Callee> {
        self.input.call()
    }

    /// The pipe call that it makes.
    pub fn next_call(&self) -> u64 {
        self.output.call()
    }

    /// Whether a pipe call may join it: it has none, or one that brought nothing before the start, which then belongs to
    /// an attempt that was given up.
    pub fn awaits(&self, opening: &Opening) -> bool {
        let is_free = match self.phase {
            Phase::Waiting => self.input.is_untouched(),
            _ => self.input.call().is_none(),
        };
        self.takes_a_slot() && self.is_fed_by(opening) && is_free
    }

    /// Whether a pipe call that begins so is for this stage of this run.
    pub fn is_fed_by(&self, opening: &Opening) -> bool {
        self.spec.stage == opening.stage && self.spec.run == opening.run
    }

    /// Whether it counts against the slots: one that ends gives its slot to the next.
    pub fn takes_a_slot(&self) -> bool {
        matches!(
            self.phase,
            Phase::Waiting | Phase::Starting { .. } | Phase::Running
        )
    }

    /// The process that was started, while it has not been reaped.
    pub fn main(&self) -> Option<libc::pid_t> {
        match self.main {
            Main::Alive(pid) => Some(pid),
            _ => None,
        }
    }

    /// Whether it has answered all and left nothing.
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    /// Its cgroup, once it is over.
    pub fn into_group(self) -> Option<Group> {
        self.processes.into_group()
    }

    /// Joins the pipe call that feeds it; `has_ended`: there will be no bytes.
    pub fn join_pipe(&mut self, call: Callee, has_ended: bool, outbox: &mut Outbox) {
        self.input.join(call, outbox);
        if has_ended {
            self.pipe_chunk(Payload::EMPTY, true);
        }
    }

    /// Bytes for the stage.
    pub fn pipe_chunk(&mut self, payload: Payload<'_>, is_last: bool) {
        if !self.takes_a_slot() {
            return;
        }
        if let Err(why) = self.input.chunk(payload, is_last) {
            self.end(End::Broken(why));
        }
    }

    /// The pipe call that feeds it was given up: a break, whatever came by it.
    pub fn pipe_interrupted(&mut self) {
        if self.input.is_answered() || self.is_abandoned {
            // It crossed the final answer: nothing was lost. Or the stage before ended first of a run that is to end.
            return;
        }
        self.end(End::Broken("the pipe from the stage before broke".into()));
    }

    /// An order of the coordinator.
    pub fn order(&mut self, order: Order, mains: &[libc::pid_t]) {
        match order {
            Order::Start if matches!(self.phase, Phase::Waiting) => {
                self.phase = Phase::Starting {
                    until: Instant::now() + BUSY_MAX,
                };
            }
            Order::Start => {}
            Order::Signal(number) => self.signal(number, mains),
            Order::Abandon { gives_end } => {
                self.is_abandoned = true;
                if !gives_end {
                    self.output.give_no_end();
                }
            }
            Order::Kill => self.is_killing = true,
            Order::Credit(count) => self.stderr.source.grant(count),
            Order::CloseStderr => self.stderr.source.close(),
            Order::End => self.end(End::Asked),
        }
    }

    fn signal(&mut self, number: i32, mains: &[libc::pid_t]) {
        match self.main {
            Main::None if self.early_signals.len() < SIGNALS_MAX => self.early_signals.push(number),
            Main::None => {}
            Main::Alive(_) | Main::Exited(_) => self.processes.signal(number, mains),
        }
    }

    /// An answer to the call to the next stage, or a part of one.
    pub fn next_result(&mut self, progress: bool, payload: Payload<'_>, outbox: &mut Outbox) {
        if self.output.result(progress, payload) && self.laying.is_none() {
            self.report(outbox, &Report::Ready);
        }
    }

    /// The call to the next stage failed.
    pub fn next_failed(&mut self, error: &str) {
        self.output.failed();
        self.end(End::Broken(format!("the pipe to the next stage broke: {error}")));
    }

    /// The process that was started has ended.
    pub fn exited(&mut self, wait_status: i32) {
        self.processes.main_is_reaped();
        self.main = Main::Exited(exit::exit(wait_status));
        self.stderr.process_has_ended();
    }

    /// Ends it. What came first stands, except that a call given up or a break overrules an orderly end.
    pub fn end(&mut self, end: End) {
        match &mut self.phase {
            Phase::Ending(before) if *before == End::Asked => *before = end,
            Phase::Ending(_) | Phase::Cleaning(..) | Phase::Over => {}
            Phase::Waiting | Phase::Starting { .. } | Phase::Running => self.phase = Phase::Ending(end),
        }
    }

    /// Does what has become possible.
    pub fn advance(&mut self, replica: &mut Replica, outbox: &mut Outbox, mains: &[libc::pid_t]) {
        self.lay(replica, outbox);
        if let Phase::Starting { until } = self.phase {
            self.start(until, replica, outbox, mains);
        }
        if matches!(
            self.phase,
            Phase::Waiting | Phase::Starting { .. } | Phase::Running
        ) {
            self.input.advance(outbox);
            self.report_ends(outbox);
            if matches!(self.phase, Phase::Running) {
                let now = Instant::now();
                self.report_counts(outbox, now);
                self.watch_folder(replica, now);
            }
            if self.is_killing {
                self.processes.kill(mains);
            }
        }
        if matches!(self.phase, Phase::Ending(_)) {
            let is_reaped = !matches!(self.main, Main::Alive(_));
            if !self.processes.kill(mains) && is_reaped && self.laying.is_none() {
                self.finish(outbox);
            }
        }
        if let Phase::Cleaning(end, clearing) = &mut self.phase
            && clearing.advance(&replica.background)
        {
            if *end == End::Asked {
                self.answer(outbox);
            }
            self.phase = Phase::Over;
        }
    }

    /// Starts the executable, or notes that it cannot be.
    fn start(&mut self, until: Instant, replica: &mut Replica, outbox: &mut Outbox, mains: &[libc::pid_t]) {
        let (Some(ends), None) = (&self.ends, &self.laying) else {
            return;
        };
        if !self.spec.files.is_empty() {
            self.usage.spare(&self.folder);
        }
        let pipes = [ends[0].as_fd(), ends[1].as_fd(), ends[2].as_fd()];
        match replica.start(&self.spec, &self.folder, pipes, self.processes.group()) {
            Ok(pid) => {
                self.ends = None;
                self.main = Main::Alive(pid);
                self.processes.begin(pid);
                self.phase = Phase::Running;
                self.report(outbox, &Report::Started(SystemTime::now()));
                for number in std::mem::take(&mut self.early_signals) {
                    self.signal(number, mains);
                }
            }
            Err(start::Error::Busy) if Instant::now() < until => {}
            Err(error) => self.end(End::CannotStart(error.to_string())),
        }
    }

    /// Nobody is left: answers whoever waits, then closes the pipes.
    fn finish(&mut self, outbox: &mut Outbox) {
        let Phase::Ending(end) = std::mem::replace(&mut self.phase, Phase::Over) else {
            return;
        };
        match &end {
            End::Asked => {
                self.stderr.drain(outbox, self.call);
                if let Main::Exited(exit) = &self.main
                    && !self.is_exit_reported
                {
                    self.report(outbox, &Report::Exited(*exit));
                }
            }
            End::Canceled => self
                .call
                .fail(outbox, wamp_error::CANCELED, "the stage call was given up"),
            End::Broken(why) => self.call.fail(outbox, uris::error::BROKEN, why),
            End::OverLimit(why) => self.call.fail(outbox, uris::error::OVER_LIMIT, why),
            End::CannotStart(why) => self.call.fail(outbox, uris::error::CANNOT_START, why),
        }
        self.input.close(outbox);
        self.output.close(outbox);
        self.stderr.source.close();
        self.ends = None;
        self.phase = Phase::Cleaning(end, Clearing::begin(self.made.clone()));
    }

    /// What to watch: descriptor, events, and what it is. Output and stderr only when `can_send`.
    pub fn watch(&self, can_send: bool, mut add: impl FnMut(i32, i16, Watched)) {
        match self.phase {
            Phase::Waiting | Phase::Starting { .. } | Phase::Running => {
                if let Some((fd, events)) = self.input.watch() {
                    add(fd, events, Watched::Input);
                }
                let sources = [
                    (&self.output.source, Watched::Output),
                    (&self.stderr.source, Watched::Stderr),
                ];
                for (source, watched) in sources {
                    if let Some(fd) = source.watch().filter(|_| can_send && self.ends.is_none()) {
                        add(fd, libc::POLLIN, watched);
                    }
                }
            }
            Phase::Ending(_) => {
                if let Some(fd) = self.processes.watch() {
                    add(fd, libc::POLLPRI, Watched::Processes);
                }
            }
            Phase::Cleaning(..) | Phase::Over => {}
        }
    }

    /// How long the shim may sleep on its account at most.
    pub fn patience(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Waiting if !self.is_killing => {
                let laying = self.laying.as_ref().map(Laying::patience);
                self.input.patience().into_iter().chain(laying).min()
            }
            Phase::Running if !self.is_killing => {
                let usage = self.usage.patience();
                Some(self.input.patience().map_or(usage, |input| input.min(usage)))
            }
            // Whoever has the executable open for writing is about to execute something else.
            Phase::Starting { .. } => Some(Duration::from_millis(2)),
            Phase::Cleaning(_, clearing) => clearing.patience(),
            Phase::Over => Some(Duration::ZERO),
            // Deaths are told by SIGCHLD; this is for a process that was born while others were killed.
            Phase::Waiting | Phase::Running | Phase::Ending(_) => Some(Duration::from_millis(50)),
        }
    }

    /// Something that was watched is ready.
    pub fn ready(&mut self, watched: Watched, events: i16, outbox: &mut Outbox) {
        if !self.takes_a_slot() {
            return;
        }
        let result = match watched {
            Watched::Input => self.input.ready(events),
            Watched::Output if outbox.is_idle() => self.output.read(outbox),
            Watched::Stderr if outbox.is_idle() => self.stderr.read(outbox, self.call),
            Watched::Output | Watched::Stderr | Watched::Processes => Ok(()),
        };
        if let Err(why) = result {
            self.end(End::Broken(why));
        }
    }
}

impl fmt::Debug for Invocation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "stage {} of {}", self.spec.stage, self.spec.run)
    }
}
