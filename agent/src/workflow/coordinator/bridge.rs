//! What passes between a run's caller and its attempts: stdin, output, credit, signals, and the order to end. Pure: an
//! event goes in, what is to be done outside of the attempt comes out.
//!
//! ```text
//! caller's chunk   stdin -> attempt      signal -> attempt       credit -> kept, lent to the attempt
//! attempt's reply  credit for stdin -> what was given whole, then the caller          bytes -> the caller
//! all was taken    credit for output (of a caller that gives none) and for stderr -> attempt
//! ```
//!
//! Always: (1) no byte of stdin is offered before the start, so that another attempt may have it; (2) stdin is asked
//! of the caller only against the first stage's credit; (3) an attempt that comes after another has the caller's whole
//! credit, of which the other one used nothing.

use tokio::time::Instant;

use pipes_protocol::stage::STDERR_WINDOW;
use pipes_wamp::message::Message;

use crate::workflow::coordinator::attempt::replies::Effect;
use crate::workflow::coordinator::attempt::{Attempt, Phase, Stop};
use crate::workflow::coordinator::deadlines::{Deadlines, Due};
use crate::workflow::coordinator::outcome::{Ended, Outcome};
use crate::workflow::coordinator::request::{Chunk, Request, Stream};
use crate::workflow::runs::record::LOST;
use crate::workflow::runs::registry::Notice;
use crate::workflow::runs::signal::Signal;

/// Output queued for a caller that takes everything, beyond which its stages get no more credit.
const UNASKED_MAX: u64 = 1 << 20;
/// Most of a whole stdin that is put into one chunk.
const CHUNK_MAX: usize = 64 << 10;

/// What of the caller outlives an attempt.
pub struct Bridge {
    stdin: Stdin,
    output: Output,
    /// Bytes of each stage's standard error passed on since credit was last given back.
    stderr_unreturned: Vec<u64>,
    /// Bytes may go past us, where nothing is to be known of them here: whether a run may be repeated depends on what was
    /// read and written.
    may_splice: bool,
    is_caller_gone: bool,
    /// Nobody reads the stages' standard errors.
    is_stderr_closed: bool,
    /// A signal that came with the request.
    early_signal: Option<Signal>,
    /// What the run comes to where somebody ended it: no other attempt follows.
    cancelled: Option<Outcome>,
    /// The run's limits in time, and who ended it.
    pub deadlines: Deadlines,
}

/// The caller's stdin.
struct Stdin {
    /// What was given whole.
    given: Vec<u8>,
    /// How much of it was sent.
    sent: usize,
    /// Its end was said.
    is_over: bool,
    /// Bytes that the caller may send and has not.
    held: u64,
    /// Those of them that it was told in a former attempt, and is not told again.
    carried: u64,
    /// Bytes came that no attempt could have: none after it has a whole stdin.
    is_incomplete: bool,
}

impl Stdin {
    /// Of so much credit, what the caller is to be told: what it holds already is not told twice.
    fn tell(&mut self, credit: u64) -> u64 {
        let known = self.carried.min(credit);
        self.carried -= known;
        self.held += credit - known;
        credit - known
    }
}

/// The caller's credit for output.
struct Output {
    /// Nobody reads it.
    is_closed: bool,
    /// All is taken, without credit.
    is_unasked: bool,
    /// What the last stage has not been given yet.
    credit: u64,
    /// What the attempt under way was given.
    lent: u64,
    /// Bytes passed on since credit was last given back, where the caller gives none.
    unreturned: u64,
}

/// What may happen while an attempt is under way.
pub enum Event<'e> {
    /// A message came to the attempt.
    Reply(Message<'e>),
    /// The attempt's session is gone: the router is going down, no answer will come any more.
    RepliesEnded,
    /// The caller said something.
    Caller(Chunk<'e>),
    /// The caller said what it may not.
    CallerMisuse(String),
    /// The caller cancelled, or is gone.
    CallerGone,
    /// Somebody else did.
    Notice(Notice),
    /// A deadline has passed.
    Deadline,
    /// What was queued has been written; or what came is of no interest.
    Nothing,
}

/// What an event asks of the world around the attempt.
#[derive(Debug, PartialEq)]
pub enum Action<'e> {
    /// Nothing.
    None,
    /// Bytes of the last stage's output, for the caller.
    Stdout(&'e [u8]),
    /// Bytes of a stage's standard error, for the caller and the log; the stage from 0.
    Stderr(usize, Vec<u8>),
    /// The caller may send so many bytes more.
    StdinCredit(u64),
    /// The stages were told to start.
    Start(Start),
    /// A stage came further, which others may be shown in time.
    Progress,
}

/// What is done once the stages were told to start.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// Our call that the caller's stdin may go past us to.
    pub stdin: Option<u64>,
    /// The invocation whose output may go past us to the caller.
    pub stdout: Option<u64>,
    /// The caller may send so many bytes.
    pub stdin_credit: u64,
}

impl Bridge {
    /// Of a run that was called at `begun`.
    pub fn new(request: Request, stages: usize, begun: Instant) -> Bridge {
        Bridge {
            stdin: Stdin {
                given: request.stdin.unwrap_or_default(),
                sent: 0,
                is_over: request.eof,
                held: 0,
                carried: 0,
                is_incomplete: false,
            },
            output: Output {
                is_closed: request.closed == Some(Stream::Stdout),
                is_unasked: request.credit.is_none(),
                credit: request.credit.unwrap_or(UNASKED_MAX),
                lent: 0,
                unreturned: 0,
            },
            stderr_unreturned: vec![0; stages],
            may_splice: request.takes_progress && !request.options.retry,
            is_caller_gone: false,
            is_stderr_closed: request.closed == Some(Stream::Stderr),
            early_signal: request.signal,
            cancelled: None,
            deadlines: Deadlines::new(begun, request.options.timeout),
        }
    }

    /// Whether the caller is gone: nothing more is to be read of it.
    pub fn is_caller_gone(&self) -> bool {
        self.is_caller_gone
    }

    /// What the run comes to instead of another attempt: somebody ended it, while this one was failing perhaps.
    pub fn cancelled(&self) -> Option<Outcome> {
        self.cancelled.clone()
    }

    /// Whether another attempt would have all of stdin.
    pub fn has_all_stdin(&self) -> bool {
        !self.stdin.is_incomplete
    }

    /// A signal that came with the request, before anything was begun.
    pub fn early_signal(&self) -> Option<Signal> {
        self.early_signal
    }

    fn cancel(&mut self, outcome: Outcome) {
        self.cancelled.get_or_insert(outcome);
    }

    /// The caller said what it may not: there is no telling what else it means.
    fn misuse(&mut self, attempt: &mut Attempt<'_>, why: String) {
        self.cancel(Outcome::misuse(why.clone()));
        attempt.stop(Stop::Usage(why));
    }

    /// An attempt begins.
    pub fn begin(&mut self, attempt: &mut Attempt<'_>) {
        if let Some(signal) = self.early_signal.take() {
            self.signal(attempt, signal);
        }
    }

    fn signal(&mut self, attempt: &mut Attempt<'_>, signal: Signal) {
        self.cancel(Outcome::cancelled(128 + signal.number()));
        attempt.signal(signal);
    }

    /// Takes an event to the attempt, and says what else it asks for.
    pub fn on<'e>(&mut self, attempt: &mut Attempt<'_>, event: Event<'e>, now: Instant) -> Action<'e> {
        match event {
            Event::Reply(message) => {
                let effect = attempt.receive(message);
                return self.pass_on(attempt, effect);
            }
            Event::RepliesEnded => {
                attempt.stop(Stop::Lost);
                attempt.phase = Phase::Over;
            }
            Event::Caller(chunk) => self.chunk(attempt, chunk),
            Event::CallerMisuse(why) => self.misuse(attempt, why),
            Event::CallerGone => {
                self.is_caller_gone = true;
                self.cancel(Outcome::cancelled(LOST));
                attempt.stop(Stop::Gone);
            }
            Event::Notice(Notice::Stop { grace }) => {
                self.cancel(Outcome::cancelled(128 + libc::SIGTERM));
                self.deadlines.terminate(Ended::Stopped, now, grace);
                attempt.terminate();
            }
            Event::Deadline => self.deadline(attempt, now),
            Event::Notice(Notice::Freed) => attempt.freed(),
            Event::Nothing => {}
        }
        Action::None
    }

    /// All that was queued for the caller has been taken: who sent it may go on.
    pub fn taken(&mut self, attempt: &mut Attempt<'_>) {
        let bytes = std::mem::take(&mut self.output.unreturned);
        if self.output.is_unasked {
            attempt.credit_output(bytes);
        }
        for (stage, unreturned) in self.stderr_unreturned.iter_mut().enumerate() {
            // Given back in halves of the window, not for each line.
            if *unreturned >= STDERR_WINDOW / 2 {
                attempt.credit_stderr(stage, std::mem::take(unreturned));
            }
        }
        if attempt.output.ending {
            attempt.close_output();
        }
    }

    /// Keeps what a caller says while no attempt is under way.
    pub fn note(&mut self, chunk: &Chunk<'_>) {
        self.stdin.is_over |= chunk.eof;
        self.stdin.is_incomplete |= chunk.stdin.is_some_and(|bytes| !bytes.is_empty());
        self.note_closed(chunk.closed);
        self.output.credit = self.output.credit.saturating_add(chunk.credit);
    }

    /// Another attempt begins: it may be offered stdin from its beginning, and has the caller's credit.
    pub fn rewind(&mut self) {
        self.stdin.sent = 0;
        self.stdin.carried = self.stdin.held;
        let lent = std::mem::take(&mut self.output.lent);
        self.output.credit = self.output.credit.saturating_add(lent);
    }

    fn pass_on<'e>(&mut self, attempt: &mut Attempt<'_>, effect: Effect<'e>) -> Action<'e> {
        match effect {
            Effect::None => Action::None,
            Effect::Progress => Action::Progress,
            Effect::Stdout(bytes) => {
                self.output.unreturned += bytes.len() as u64;
                Action::Stdout(bytes)
            }
            Effect::Stderr(stage, bytes) => {
                self.stderr_unreturned[stage] += bytes.len() as u64;
                Action::Stderr(stage, bytes)
            }
            Effect::OutputOpened => {
                self.lend(attempt);
                self.close(attempt);
                Action::None
            }
            Effect::Started => Action::Start(self.start(attempt)),
            Effect::StdinCredit(credit) if attempt.phase == Phase::Running => {
                let left = self.offer_stdin(attempt, credit);
                match self.stdin.tell(left) {
                    0 => Action::None,
                    left => Action::StdinCredit(left),
                }
            }
            // Held until the start: stdin that was taken could not be given to another attempt.
            Effect::StdinCredit(_) => Action::None,
        }
    }

    fn start(&mut self, attempt: &mut Attempt<'_>) -> Start {
        let is_open = self.stdin.given.is_empty() && !self.stdin.is_over;
        attempt.stdin.spliced = self.may_splice && is_open;
        let may_splice_output = self.may_splice && !self.output.is_unasked;
        Start {
            stdin: attempt.stdin.spliced.then_some(attempt.stdin.request),
            stdout: attempt
                .output
                .invocation
                .filter(|_| may_splice_output && !self.output.is_closed),
            stdin_credit: {
                let left = self.offer_stdin(attempt, attempt.stdin.credit);
                self.stdin.tell(left)
            },
        }
    }

    /// Uses credit of the first stage for what was given whole; says what is left for the caller.
    fn offer_stdin(&mut self, attempt: &mut Attempt<'_>, credit: u64) -> u64 {
        let Stdin {
            given, sent, is_over, ..
        } = &mut self.stdin;
        let mut left = credit;
        if *sent < given.len() {
            while *sent < given.len() && attempt.stdin.credit > 0 && !attempt.stdin.done {
                let rest = &given[*sent..];
                let length = rest.len().min(CHUNK_MAX).min(attempt.stdin.credit as usize);
                attempt.feed(&rest[..length]);
                *sent += length;
            }
            left = attempt.stdin.credit;
        }
        let is_sent = *sent == given.len();
        if *is_over && is_sent {
            attempt.end_of_input();
        }
        if *is_over || !is_sent { 0 } else { left }
    }

    fn chunk(&mut self, attempt: &mut Attempt<'_>, chunk: Chunk<'_>) {
        if let Some(bytes) = chunk.stdin {
            let early = matches!(attempt.phase, Phase::Reserving | Phase::Connecting);
            // What goes past us comes here with the last chunk alone.
            let strayed = attempt.stdin.spliced && !chunk.eof;
            if early && self.stdin.held > 0 && !bytes.is_empty() {
                // Against the credit of an attempt that failed: this one cannot have them all.
                self.stdin.is_incomplete = true;
                return attempt.stop(Stop::Incomplete);
            }
            self.stdin.held = self.stdin.held.saturating_sub(bytes.len() as u64);
            self.stdin.is_incomplete |= !bytes.is_empty() && attempt.phase != Phase::Running;
            if !bytes.is_empty() && (early || strayed || self.stdin.is_over) {
                let why = "stdin came before credit for it, or after its end";
                return self.misuse(attempt, why.into());
            }
            attempt.feed(bytes);
        }
        self.output.credit = self.output.credit.saturating_add(chunk.credit);
        self.lend(attempt);
        if let Some(signal) = chunk.signal {
            self.signal(attempt, signal);
        }
        if chunk.eof && !self.stdin.is_over {
            self.stdin.is_over = true;
            if attempt.phase == Phase::Running {
                self.offer_stdin(attempt, 0);
            }
        }
        if chunk.closed.is_some() {
            self.note_closed(chunk.closed);
            self.close(attempt);
        }
    }

    fn note_closed(&mut self, closed: Option<Stream>) {
        self.output.is_closed |= closed == Some(Stream::Stdout);
        self.is_stderr_closed |= closed == Some(Stream::Stderr);
    }

    /// Ends the pipes that nobody reads. Before the start too, so that a stage meets it at its first write.
    fn close(&self, attempt: &mut Attempt<'_>) {
        if self.output.is_closed {
            attempt.close_output();
        }
        if self.is_stderr_closed {
            attempt.close_stderr();
        }
    }

    /// Gives the last stage the caller's credit, once its pipe is there.
    fn lend(&mut self, attempt: &mut Attempt<'_>) {
        if attempt.output.invocation.is_some() {
            let credit = std::mem::take(&mut self.output.credit);
            self.output.lent = self.output.lent.saturating_add(credit);
            attempt.credit_output(credit);
        }
    }

    fn deadline(&mut self, attempt: &mut Attempt<'_>, now: Instant) {
        match self.deadlines.due(attempt, now) {
            None => {}
            Some(Due::Kill) => attempt.signal(Signal::Kill),
            Some(Due::Terminate) => attempt.terminate(),
            Some(Due::Unavailable { node, why }) => {
                let why = why.into();
                attempt.stop(Stop::Unavailable { node, why });
            }
            Some(Due::Over) => attempt.phase = Phase::Over,
        }
    }
}

#[cfg(test)]
mod tests;
