//! Drives an attempt: reads its two sessions, writes what is queued, keeps the time.
//!
//! Always: (1) a session is read only while what it would be passed on to is nearly empty, so that no more than a
//! window lies here; (2) both sessions are written as soon as nothing more is to be read; (3) every phase but running
//! has an end by the clock.

use std::time::Duration;

use pipes_wamp::client::Reader;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::router::{Onto, Router};
use crate::workflow::coordinator::attempt::replies::Effect;
use crate::workflow::coordinator::attempt::{
    Attempt, CONNECT_MAX, KILL_MAX, Phase, RESERVE_MAX, STDERR_WINDOW, Stop,
};
use crate::workflow::coordinator::caller::{CallerIn, CallerOut, Input, Opening, STDOUT, UNASKED_MAX};
use crate::workflow::coordinator::outcome::Ended;
use crate::workflow::coordinator::publish::Shown;
use crate::workflow::coordinator::request::{Chunk, Request};
use crate::workflow::runs::registry::Order;

/// Queued bytes beyond which the other side is not read.
const QUEUED_MAX: usize = 256 << 10;
/// Most of a whole stdin that is put into one chunk.
const CHUNK_MAX: usize = 64 << 10;
/// Between SIGTERM and SIGKILL when the time ran out.
const TIMEOUT_GRACE: Duration = Duration::from_secs(5);
/// How long shims may take to clear what is left after the end.
const END_MAX: Duration = Duration::from_secs(10);
/// A day: stands for no limit.
const NEVER: Duration = Duration::from_secs(86_400);

/// What of the caller outlives an attempt.
pub struct Flow {
    /// Stdin given whole, and how much of it was sent.
    given: Vec<u8>,
    offset: usize,
    /// Stdin's end was said.
    eof: bool,
    /// Nobody reads the output.
    closed: bool,
    /// The caller takes output without giving credit.
    unasked: bool,
    /// Credit that the last stage has not been given yet.
    output_credit: u64,
    /// Output passed on since credit was last given back; used where the caller gives none.
    unreturned: u64,
    /// The same for each stage's standard error.
    stderr_unreturned: Vec<u64>,
    /// The caller is gone.
    pub gone: bool,
    /// When `--timeout` runs out.
    pub deadline: Option<Instant>,
    /// When SIGKILL follows SIGTERM.
    kill_at: Option<Instant>,
    /// Who ended the run.
    pub ended: Ended,
    /// Executables were told to start.
    pub went: bool,
    /// A lost run was begun once more, which happens once.
    pub was_retried: bool,
    /// Of the caller's credit, what the attempt under way was given.
    lent: u64,
}

impl Flow {
    /// The caller's state at the beginning.
    pub fn new(request: &mut Request, opening: Opening, stages: usize, started: Instant) -> Flow {
        Flow {
            given: request.stdin.take().unwrap_or_default(),
            offset: 0,
            eof: opening.eof,
            closed: opening.closed,
            unasked: request.credit.is_none(),
            output_credit: request.credit.unwrap_or(UNASKED_MAX),
            unreturned: 0,
            stderr_unreturned: vec![0; stages],
            gone: false,
            // Beyond what the clock can count, there is none.
            deadline: request
                .options
                .timeout
                .and_then(|timeout| started.checked_add(timeout)),
            kill_at: None,
            ended: Ended::Itself,
            went: false,
            was_retried: false,
            lent: 0,
        }
    }

    /// Keeps what a caller says while no attempt is under way.
    pub fn note(&mut self, chunk: &Chunk<'_>) {
        self.eof |= chunk.eof;
        self.closed |= chunk.closed;
        self.output_credit = self.output_credit.saturating_add(chunk.credit);
    }

    /// A new attempt begins: it may be offered stdin from its beginning, and has the caller's credit, of which the one
    /// before it used nothing.
    pub fn rewind(&mut self) {
        self.offset = 0;
        self.output_credit = self.output_credit.saturating_add(std::mem::take(&mut self.lent));
    }

    /// Gives the last stage the caller's credit, once its pipe is there.
    fn lend(&mut self, attempt: &mut Attempt<'_>) {
        if attempt.output.invocation.is_some() {
            let credit = std::mem::take(&mut self.output_credit);
            self.lent = self.lent.saturating_add(credit);
            attempt.credit_output(credit);
        }
    }
}

/// Runs an attempt to its end.
pub async fn drive(
    attempt: &mut Attempt<'_>,
    reader: &mut Reader,
    input: &mut CallerIn,
    output: &mut CallerOut,
    orders: &mut mpsc::Receiver<Order>,
    flow: &mut Flow,
    shown: &mut Shown<'_>,
) {
    attempt.begin();
    let begun = Instant::now();
    let mut phase = (attempt.phase, begun);
    while attempt.phase != Phase::Over {
        if phase.0 != attempt.phase {
            phase = (attempt.phase, Instant::now());
        }
        if output.pending() == 0 {
            flow.drained(attempt);
        }
        shown.show(attempt, flow.went, output);
        let deadline = flow.next_deadline(attempt, phase, shown.due());
        tokio::select! {
            biased;
            message = reader.next(), if output.pending() < QUEUED_MAX => match message {
                Ok(Some(message)) => {
                    let effect = attempt.receive(message);
                    shown.hear(&effect);
                    let went = effect == Effect::Went;
                    if went {
                        flow.lead_past(attempt, output, shown.router());
                    }
                    flow.apply(attempt, output, effect);
                    if went {
                        shown.update(attempt, true);
                    }
                }
                // The shard is going down: no answer will come any more.
                Ok(None) | Err(_) => {
                    attempt.stop(Stop::Lost);
                    attempt.phase = Phase::Over;
                }
            },
            received = input.next(), if !flow.gone && attempt.writer.pending() < QUEUED_MAX => match received {
                Input::Chunk(chunk) => flow.chunk(attempt, output, chunk),
                Input::Gone => {
                    flow.gone = true;
                    attempt.stop(Stop::Gone);
                }
                Input::Nothing => {}
            },
            written = attempt.writer.flush(), if attempt.writer.pending() > 0 => if written.is_err() {
                attempt.stop(Stop::Lost);
                attempt.phase = Phase::Over;
            },
            written = output.flush(), if output.pending() > 0 && !flow.gone => if written.is_err() {
                flow.gone = true;
                attempt.stop(Stop::Gone);
            },
            Some(order) = orders.recv() => if let Order::Stop { grace } = order {
                flow.terminate(attempt, Ended::Stopped, grace);
            },
            () = sleep_until(deadline) => flow.time(attempt, phase),
        }
    }
}

impl Flow {
    /// Lets the caller's stdin and the last stage's stdout go past us from the start, where nothing is to be known of them
    /// here: whether a run may be made again depends on what was read and written.
    fn lead_past(&self, attempt: &mut Attempt<'_>, output: &CallerOut, router: &Router) {
        let Some(call) = output.call().filter(|_| !attempt.plan.options.retry) else {
            return;
        };
        if self.given.is_empty() && !self.eof {
            router.lead_on(call, Onto::Call(attempt.own(attempt.stdin.request)));
            attempt.stdin.led = true;
        }
        if let Some(invocation) = attempt.output.invocation.filter(|_| !self.unasked) {
            router.lead_on(attempt.own(invocation), Onto::Answer(call, STDOUT));
        }
    }

    fn apply(&mut self, attempt: &mut Attempt<'_>, output: &mut CallerOut, effect: Effect<'_>) {
        match effect {
            Effect::None | Effect::Progress => {}
            Effect::Stdout(bytes) => {
                output.stdout(bytes);
                self.unreturned += bytes.len() as u64;
            }
            Effect::Stderr(stage, bytes) => {
                output.stderr(stage as u32 + 1, &bytes);
                self.stderr_unreturned[stage] += bytes.len() as u64;
            }
            Effect::OutputOpened => {
                self.lend(attempt);
                if self.closed {
                    attempt.close_output();
                }
            }
            Effect::Went => {
                self.went = true;
                self.offer_stdin(attempt, output, attempt.stdin.credit);
            }
            Effect::StdinCredit(credit) if attempt.phase == Phase::Running => {
                self.offer_stdin(attempt, output, credit);
            }
            // Held until go: stdin that was taken could not be given to another attempt.
            Effect::StdinCredit(_) => {}
        }
    }

    /// Uses credit of the first stage: for what was given whole, then for the caller.
    fn offer_stdin(&mut self, attempt: &mut Attempt<'_>, output: &mut CallerOut, credit: u64) {
        if self.offset < self.given.len() {
            while self.offset < self.given.len() && attempt.stdin.credit > 0 && !attempt.stdin.done {
                let rest = &self.given[self.offset..];
                let length = rest.len().min(CHUNK_MAX).min(attempt.stdin.credit as usize);
                attempt.feed(&rest[..length]);
                self.offset += length;
            }
            if self.offset == self.given.len() && !self.eof {
                output.stdin_credit(attempt.stdin.credit);
            }
        } else if !self.eof && credit > 0 {
            output.stdin_credit(credit);
        }
        if self.eof && self.offset == self.given.len() {
            attempt.end_of_input();
        }
    }

    fn chunk(&mut self, attempt: &mut Attempt<'_>, output: &mut CallerOut, chunk: Chunk<'_>) {
        if let Some(bytes) = chunk.stdin {
            let early = matches!(attempt.phase, Phase::Reserving | Phase::Connecting);
            // What goes past us comes here with the last chunk alone.
            let strayed = attempt.stdin.led && !chunk.eof;
            if !bytes.is_empty() && (early || strayed || self.eof) {
                return attempt.stop(Stop::Usage(
                    "stdin came before credit for it, or after its end".into(),
                ));
            }
            attempt.feed(bytes);
        }
        self.output_credit = self.output_credit.saturating_add(chunk.credit);
        self.lend(attempt);
        if let Some(signal) = chunk.signal {
            attempt.signal(signal);
        }
        if chunk.eof && !self.eof {
            self.eof = true;
            if attempt.phase == Phase::Running {
                self.offer_stdin(attempt, output, 0);
            }
        }
        if chunk.closed {
            self.closed = true;
            attempt.close_output();
        }
    }

    /// All that was queued has been taken: its senders may go on.
    fn drained(&mut self, attempt: &mut Attempt<'_>) {
        if self.unreturned > 0 {
            let bytes = std::mem::take(&mut self.unreturned);
            if self.unasked {
                attempt.credit_output(bytes);
            }
        }
        for stage in 0..self.stderr_unreturned.len() {
            // Given back in halves of the window, not for each line.
            if self.stderr_unreturned[stage] >= STDERR_WINDOW / 2 {
                attempt.credit_stderr(stage, std::mem::take(&mut self.stderr_unreturned[stage]));
            }
        }
        if attempt.output.ending {
            attempt.close_output();
        }
    }

    fn terminate(&mut self, attempt: &mut Attempt<'_>, ended: Ended, grace: Duration) {
        if self.ended == Ended::Itself {
            self.ended = ended;
        }
        self.kill_at = Instant::now().checked_add(grace);
        attempt.signal(crate::workflow::runs::signal::Signal::Group(libc::SIGTERM));
    }

    /// `due`: when others are to be shown something.
    fn next_deadline(
        &self,
        attempt: &Attempt<'_>,
        (phase, since): (Phase, Instant),
        due: Option<Instant>,
    ) -> Instant {
        let of_phase = match phase {
            Phase::Reserving if !attempt.silent.is_empty() => since + RESERVE_MAX,
            Phase::Reserving if attempt.ordered => since + NEVER,
            Phase::Reserving | Phase::Connecting => since + CONNECT_MAX,
            Phase::Ending => since + END_MAX,
            Phase::Failing => since + KILL_MAX,
            Phase::Running | Phase::Over => since + NEVER,
        };
        let timeout = self.deadline.filter(|_| self.ended == Ended::Itself);
        [timeout, self.kill_at, due]
            .into_iter()
            .flatten()
            .fold(of_phase, Instant::min)
    }

    fn time(&mut self, attempt: &mut Attempt<'_>, (phase, since): (Phase, Instant)) {
        let now = Instant::now();
        if self.kill_at.is_some_and(|at| at <= now) {
            self.kill_at = None;
            return attempt.signal(crate::workflow::runs::signal::Signal::Kill);
        }
        if self.ended == Ended::Itself && self.deadline.is_some_and(|at| at <= now) {
            return self.terminate(attempt, Ended::Timeout, TIMEOUT_GRACE);
        }
        match phase {
            Phase::Reserving if !attempt.silent.is_empty() && now >= since + RESERVE_MAX => {
                let node = attempt.silent[0];
                attempt.stop(Stop::Unavailable {
                    node,
                    why: "a node did not answer in 500 ms".into(),
                });
            }
            Phase::Reserving | Phase::Connecting if !attempt.ordered && now >= since + CONNECT_MAX => {
                let late = attempt
                    .stages
                    .iter()
                    .find(|stage| stage.replica.is_empty() || !stage.ready);
                let node = late.map_or(0, |stage| stage.node);
                attempt.stop(Stop::Unavailable {
                    node,
                    why: "a replica was not ready in 10 s".into(),
                });
            }
            Phase::Ending if now >= since + END_MAX => attempt.phase = Phase::Over,
            Phase::Failing if now >= since + KILL_MAX => attempt.phase = Phase::Over,
            _ => {}
        }
    }
}
