//! A run as seen from here: the CLI's own stdin, stdout and stderr on one side, one call on the other.
//!
//! ```text
//! stdin  --read against credit-->  CALL pipes.run.start [bytes]      signals, eof, closed, credit as keywords
//! stdout <--------------written--  RESULT [1, bytes]                 stderr  [2, bytes]    credit  [0]    counts  [3]
//! ```
//!
//! One loop, no task, no channel: a chunk goes from the connection's buffer to stdout in one write, and from stdin into
//! the connection's buffer in one read and one copy.
//!
//! Always: (1) stdin is read only against credit, and its end is never waited for; (2) the connection is always read
//! while there is room for what it brings, so that signals and credit arrive however slow stdout is; what waits for
//! stdout is at most the credit given; (3) only end of file on stdin is told as the end of the input: what cannot be
//! read is a break; (4) when the reader of stdout or of stderr is gone the agent
//! is told which, and the run goes on, as in a shell; (5) a descriptor that cannot be used is the stages' to meet: they
//! are given the like of it. What stderr does not take for another reason, as on a full disk, is dropped: no news can
//! reach a stage by its pipe but SIGPIPE, which would end what in a shell goes on; (6) an agent that does not say that it is
//! there is lost, and is not waited for.

mod call;
mod descriptor;
mod input;
mod output;
mod signals;

use std::io;
use std::time::Duration;

use pipes_wamp::client::{Reader, Writer};
use pipes_wamp::message::Message;
use rmpv::Value;
use tokio::time::{Instant, Interval, interval, sleep_until, timeout};

use crate::client::Client;
use crate::error::{self, Error};
use crate::liveness::{self, Liveness, Look};
use crate::output::run_progress::{RunProgress, Stream};
use crate::output::spinner;
use call::{Incoming, Outgoing};
pub use call::{Request, WINDOW};
pub use input::Input;
use output::Output;
pub use signals::Signals;

/// Bytes for stderr that may wait here; beyond, the connection is not read until some were written.
const STDERR_WAITING_MAX: usize = 256 << 10;

/// Bytes on their way to the agent that may wait here; beyond, stdin is not read.
const SENDING_MAX: usize = 512 << 10;

/// One read of stdin takes up to this.
const CHUNK_MAX: usize = 256 << 10;

/// A run that ended.
pub struct Ended {
    /// The run, or why there was none.
    pub run: Result<Value, Error>,
    /// The signal to die of where the run did: the user's own Ctrl-C, or one that was repeated until nothing else helped.
    pub dies_of: Option<i32>,
    /// Nobody reads stdout, or stderr, any more.
    pub is_reader_gone: bool,
    /// Bytes of stdout came that nobody was there to read.
    pub has_lost_output: bool,
    /// A signal was passed on, which may be what ended the stages.
    pub was_signalled: bool,
}

impl Ended {
    /// One that its user waits for no longer, and dies of this signal.
    pub fn given_up(signal: i32) -> Ended {
        Ended {
            run: Ok(Value::Nil),
            dies_of: Some(signal),
            is_reader_gone: false,
            has_lost_output: false,
            was_signalled: true,
        }
    }
}

/// What is on its way.
struct Pump {
    outgoing: Outgoing,
    stdout: Output,
    stderr: Output,
    progress: Option<RunProgress>,
    buffer: Vec<u8>,
    /// Bytes the agent takes from stdin.
    credit: u64,
    /// Bytes of stdin sent.
    sent: u64,
    /// Output taken since credit was last given back.
    owed: u64,
    /// Whether the agent is there.
    liveness: Liveness,
}

/// What happened first.
enum Event {
    Nothing,
    Final(Value),
    Signal(signals::Order),
}

/// Carries a run from its request to its end.
pub async fn carry(
    client: Client,
    mut request: Request,
    mut input: Input,
    progress: Option<RunProgress>,
    signals: &mut Signals,
) -> Result<Ended, Error> {
    let (mut reader, mut writer, agent, call) = client.split();
    let outgoing = Outgoing::new(call);
    let stdout = Output::open(libc::STDOUT_FILENO);
    let stderr = Output::open(libc::STDERR_FILENO);
    request.descriptors = [input.standing(), stdout.standing(), stderr.standing()];
    outgoing.begin(&mut writer, &request, !input.is_open());
    let mut pump = Pump {
        outgoing,
        stdout,
        stderr,
        buffer: Vec::new(),
        progress,
        credit: 0,
        sent: 0,
        owed: 0,
        liveness: Liveness::new(Instant::now()),
    };
    let mut clock = pump.progress.as_ref().map(|_| interval(spinner::EVERY));
    let run = loop {
        pump.tell_ends(&mut writer);
        match pump
            .step(
                &mut reader,
                &mut writer,
                &mut input,
                signals,
                clock.as_mut(),
                &agent,
            )
            .await
        {
            Ok(Event::Nothing) => {}
            Ok(Event::Final(run)) => break Ok(run),
            Ok(Event::Signal(signals::Order::Pass(name))) => pump.outgoing.signal(&mut writer, name),
            Ok(Event::Signal(signals::Order::Die(signal))) => {
                return Ok(Ended::given_up(signal));
            }
            Err(error) => break Err(error),
        }
    };
    if let Some(progress) = &mut pump.progress {
        progress.hide();
    }
    pump.drain(signals).await?;
    Ok(Ended {
        run,
        dies_of: signals.dies_of(),
        is_reader_gone: pump.stdout.is_gone() || pump.stderr.is_gone(),
        has_lost_output: pump.stdout.has_lost(),
        was_signalled: signals.came(),
    })
}

impl Pump {
    /// Waits for whatever comes first, and does what is to be done about it.
    async fn step(
        &mut self,
        reader: &mut Reader,
        writer: &mut Writer,
        input: &mut Input,
        signals: &mut Signals,
        clock: Option<&mut Interval>,
        agent: &str,
    ) -> Result<Event, Error> {
        let wants_stdin = self.credit > 0 && input.is_open() && writer.pending() < SENDING_MAX;
        let has_room = self.stderr.waiting() < STDERR_WAITING_MAX;
        let room = usize::try_from(self.credit).unwrap_or(CHUNK_MAX).min(CHUNK_MAX);
        if wants_stdin && self.buffer.len() < CHUNK_MAX {
            self.buffer.resize(CHUNK_MAX, 0);
        }
        let stdin_room = if wants_stdin {
            &mut self.buffer[..room]
        } else {
            &mut [][..]
        };
        tokio::select! {
            received = reader.next(), if has_room => {
                let mut received = received;
                loop {
                    let message = received.map_err(|error| lost(agent, error.to_string()))?;
                    let message = message.ok_or_else(|| lost(agent, "it closed the connection".into()))?;
                    if let Some(run) = self.receive(writer, &message, agent)? {
                        return Ok(Event::Final(run));
                    }
                    if !reader.is_ready() || self.stderr.waiting() >= STDERR_WAITING_MAX {
                        return Ok(Event::Nothing);
                    }
                    received = reader.next().await;
                }
            }
            flushed = writer.flush(), if writer.pending() > 0 => {
                flushed.map_err(|error| lost(agent, error.to_string()))?;
            }
            read = input.read(stdin_room), if wants_stdin => self.read(writer, input, read)?,
            written = self.stdout.wait() => {
                let written = written.map_err(|error| cannot("write to standard output", &error))?;
                self.took(writer, written);
            }
            written = self.stderr.wait() => self.stderr.forgive(written),
            order = signals.next() => return Ok(Event::Signal(order)),
            () = sleep_until(self.liveness.due()) => self.look(reader, writer, has_room, agent).await?,
            () = tick(clock) => {
                let is_writing = self.stdout.waiting() > 0 || self.stderr.waiting() > 0;
                self.progress.iter_mut().for_each(|progress| progress.tick(is_writing));
            }
        }
        Ok(Event::Nothing)
    }

    /// Looks whether the agent is there.
    async fn look(
        &mut self,
        reader: &mut Reader,
        writer: &mut Writer,
        is_read: bool,
        agent: &str,
    ) -> Result<(), Error> {
        if is_read {
            // What lies in the socket has come; an error is there to be read again.
            let _ = timeout(Duration::ZERO, reader.wait()).await;
        }
        let is_taken = writer.pending() == 0;
        match self
            .liveness
            .look(reader.heard(), is_read, is_taken, Instant::now())
        {
            Look::There => {}
            Look::Ask => writer.queue_ping(),
            Look::Lost => return Err(lost(agent, liveness::silence())),
        }
        Ok(())
    }

    /// One message from the agent; the run when it was the last.
    fn receive(
        &mut self,
        writer: &mut Writer,
        message: &Message<'_>,
        agent: &str,
    ) -> Result<Option<Value>, Error> {
        match call::parse(message)? {
            Incoming::Stdout(bytes) => {
                self.make_room(Stream::Stdout, bytes);
                let written = self.stdout.write(bytes);
                let written = written.map_err(|error| cannot("write to standard output", &error))?;
                self.took(writer, written);
            }
            Incoming::Stderr(bytes) => {
                self.make_room(Stream::Stderr, bytes);
                let written = self.stderr.write(bytes);
                self.stderr.forgive(written);
            }
            Incoming::Credit(bytes) => self.credit += bytes,
            Incoming::Counts(stages) => self
                .progress
                .iter_mut()
                .for_each(|progress| progress.told(&stages)),
            Incoming::Run(run) => return Ok(Some(run)),
            Incoming::Ended(reason) => return Err(lost(agent, reason.to_owned())),
            Incoming::Nothing => {}
        }
        Ok(None)
    }

    fn make_room(&mut self, stream: Stream, bytes: &[u8]) {
        self.progress
            .iter_mut()
            .for_each(|progress| progress.make_room(stream, bytes));
    }

    /// Stdin gave bytes, or ended.
    fn read(&mut self, writer: &mut Writer, input: &mut Input, read: io::Result<usize>) -> Result<(), Error> {
        let mut count = read.map_err(|error| cannot("read standard input", &error))?;
        loop {
            if count == 0 {
                input.close();
                self.outgoing.eof(writer);
                return Ok(());
            }
            self.outgoing.stdin(writer, &self.buffer[..count]);
            self.credit -= count as u64;
            self.sent += count as u64;
            input.flowed(self.sent);
            // What is there already goes along, above all the end.
            if self.credit == 0 || writer.pending() >= SENDING_MAX {
                return Ok(());
            }
            let room = usize::try_from(self.credit).unwrap_or(CHUNK_MAX).min(CHUNK_MAX);
            match input.try_read(&mut self.buffer[..room]) {
                Ok(Some(more)) => count = more,
                Ok(None) => return Ok(()),
                Err(error) => return Err(cannot("read standard input", &error)),
            }
        }
    }

    /// Output left this process, or has no place to go: either way the agent may send more.
    fn took(&mut self, writer: &mut Writer, written: usize) {
        self.owed += written as u64;
        if self.owed >= WINDOW / 2 {
            self.outgoing.credit(writer, self.owed);
            self.owed = 0;
        }
    }

    /// Says once whose reader is gone.
    fn tell_ends(&mut self, writer: &mut Writer) {
        for (output, number) in [
            (&mut self.stdout, libc::STDOUT_FILENO),
            (&mut self.stderr, libc::STDERR_FILENO),
        ] {
            if output.is_newly_gone() {
                self.outgoing.closed(writer, number);
            }
        }
    }

    /// The run is over: writes what still waits, unless the user does not want to wait for it.
    async fn drain(&mut self, signals: &mut Signals) -> Result<(), Error> {
        while self.stdout.waiting() > 0 || self.stderr.waiting() > 0 {
            tokio::select! {
                written = self.stdout.wait(), if self.stdout.waiting() > 0 => {
                    written.map_err(|error| cannot("write to standard output", &error))?;
                }
                written = self.stderr.wait(), if self.stderr.waiting() > 0 => self.stderr.forgive(written),
                _ = signals.next() => return Ok(()),
            }
        }
        Ok(())
    }
}

async fn tick(clock: Option<&mut Interval>) {
    match clock {
        Some(clock) => drop(clock.tick().await),
        None => std::future::pending().await,
    }
}

fn lost(agent: &str, why: String) -> Error {
    Error::Lost {
        agent: agent.to_owned(),
        why,
    }
}

fn cannot(what: &str, error: &io::Error) -> Error {
    Error::Local(format!("cannot {what}: {}", error::plain(error)))
}
