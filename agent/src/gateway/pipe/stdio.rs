//! Moves the bytes of one `/pipe`: body to stdin, stdout to the answer, each as the other side takes them.
//!
//! Always: (1) nothing is read of the body before the run was accepted and its first stage gave credit, so that a refusal
//! comes before `100 Continue`; (2) what is read and has no credit is one piece; (3) a client that is to send, and neither
//! sends nor takes anything for 30 s, ends the run, and nobody else's thinking does.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue};
use pipes_protocol::run::Part;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use crate::gateway::body::Incoming;
use crate::gateway::error::Error;
use crate::gateway::headers::PIPES_STATUS;
use crate::gateway::limits::SILENCE_MAX;
use crate::gateway::pipe::answer::Piece;
use crate::gateway::pipe::output::Output;
use crate::gateway::session::{Answer, Session};
use crate::gateway::socket::Peer;
use crate::workflow::runs::record::LOST;
use crate::workflow::runs::view::Run;

/// How often a client whose body nobody reads is looked after: it is to be missed within 2 s.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long a client that has closed its side, and was sent nothing since, is taken for one that reads: gone or not, it is to
/// be missed within 2 s.
const HALF_CLOSED_MAX: Duration = Duration::from_millis(750);

/// What the head of the answer is made of.
pub enum Head {
    /// The first byte is there.
    Begun {
        /// The run's ID.
        run: Option<String>,
    },
    /// It ended before.
    Over(Box<Run>),
}

/// The client's side of stdin.
pub struct Input {
    /// `None` once it has ended.
    body: Option<Incoming>,
    /// Read, and there is no credit for it yet.
    held: Bytes,
    credit: u64,
    /// The run was accepted: its first stage has asked for bytes.
    is_asked: bool,
}

impl Input {
    /// Of this body, or of one that went with the call.
    pub fn new(body: Option<Incoming>) -> Input {
        Input {
            body,
            held: Bytes::new(),
            credit: 0,
            is_asked: false,
        }
    }

    fn is_open(&self) -> bool {
        self.body.is_some()
    }

    /// Whether the client is to send more.
    fn is_wanted(&self) -> bool {
        self.body.is_some() && self.held.is_empty() && self.is_asked
    }

    /// The next bytes; `None`, once, at the end. Cancel safe.
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let next = match &mut self.body {
            Some(body) => body.next().await,
            None => std::future::pending().await,
        };
        if !matches!(next, Ok(Some(_))) {
            self.body = None;
        }
        next
    }
}

/// Moves the bytes.
pub struct Stdio {
    /// The call's.
    pub session: Session,
    /// What comes.
    pub input: Input,
    /// What goes.
    pub output: Output,
    /// Who waits for the head; `None` once it was told.
    pub to_handler: Option<oneshot::Sender<Result<Head, Error>>>,
    /// Where output goes.
    pub pieces: mpsc::Sender<Piece>,
    /// The run's ID, once it is known.
    pub run: Option<String>,
    /// The client.
    pub peer: Peer,
    /// When it is looked whether the client is still there, where nothing says so by itself.
    pub look_at: Instant,
    /// The client is told a status behind the body.
    pub takes_trailers: bool,
    /// The client takes the connection's end for the body's.
    pub ends_by_closing: bool,
}

/// What was said, on its own.
enum Said {
    Credit(u64),
    Output(Bytes),
    Begun(String),
    Over(Run),
    Nothing,
}

/// What happened.
enum Event {
    Said(Said),
    Input(Option<Bytes>),
    /// The client took something.
    Taken,
    Nothing,
}

impl Stdio {
    /// Runs to the end.
    pub async fn run(mut self) {
        match self.flow().await {
            Ok(run) => self.end(run).await,
            Err(error) => self.break_off(error),
        }
    }

    /// Until the run is over.
    async fn flow(&mut self) -> Result<Run, Error> {
        let mut moved = Instant::now();
        loop {
            self.feed();
            match self.next_event(moved).await? {
                Event::Input(Some(bytes)) => {
                    moved = Instant::now();
                    self.input.held = bytes;
                }
                Event::Input(None) => self.session.outgoing.keywords(vec![("eof", true.into())], false),
                Event::Taken => moved = Instant::now(),
                Event::Said(Said::Credit(bytes)) => {
                    if !std::mem::replace(&mut self.input.is_asked, true) {
                        moved = Instant::now();
                    }
                    self.input.credit += bytes;
                }
                Event::Said(Said::Output(bytes)) => {
                    self.output.push(bytes);
                    if let Some(to_handler) = self.to_handler.take() {
                        let run = self.run.take();
                        to_handler
                            .send(Ok(Head::Begun { run }))
                            .map_err(|_| Error::Gone)?;
                    }
                }
                Event::Said(Said::Begun(run)) => self.run = Some(run),
                Event::Said(Said::Over(run)) => return Ok(run),
                Event::Said(Said::Nothing) | Event::Nothing => {}
            }
        }
    }

    /// Queues what there is credit for, and credit for what left.
    fn feed(&mut self) {
        let (input, outgoing) = (&mut self.input, &mut self.session.outgoing);
        if input.credit > 0 && !input.held.is_empty() {
            let length = input
                .held
                .len()
                .min(usize::try_from(input.credit).unwrap_or(usize::MAX));
            outgoing.bytes(&input.held.split_to(length), false);
            input.credit -= length as u64;
        }
        if let Some(bytes) = self.output.credit() {
            outgoing.credit(bytes);
        }
    }

    async fn next_event(&mut self, moved: Instant) -> Result<Event, Error> {
        let Session { incoming, outgoing } = &mut self.session;
        let (input, output, pieces) = (&mut self.input, &mut self.output, &self.pieces);
        let is_wanted = input.is_wanted();
        // Nothing of the client's is read, so nothing says that it is gone.
        let (is_silent, look_at) = (!is_wanted, self.look_at);
        let aside = output.aside_at().filter(|_| input.is_open());
        let is_queued = outgoing.pending() > 0;
        let has_output = !output.is_empty();
        tokio::select! {
            biased;
            answer = incoming.next() => Ok(Event::Said(said(answer?))),
            permit = pieces.reserve(), if has_output => {
                let permit = permit.map_err(|_| Error::Gone)?;
                permit.send(Piece::Bytes(output.take().await?));
                Ok(Event::Taken)
            }
            written = outgoing.flush(), if is_queued => written.map(|()| Event::Nothing),
            bytes = input.next(), if is_wanted => bytes.map(Event::Input),
            () = pieces.closed() => Err(Error::Gone),
            () = until(aside) => output.put_aside().await.map(|()| Event::Nothing),
            () = sleep_until(moved + SILENCE_MAX), if is_wanted => Err(Error::Slow(SILENCE_MAX.as_secs())),
            () = sleep_until(look_at), if is_silent => {
                self.look_at = Instant::now() + LOOK_EVERY;
                match self.peer.is_gone(HALF_CLOSED_MAX) {
                    true => Err(Error::Gone),
                    false => Ok(Event::Nothing),
                }
            }
        }
    }

    /// The run is over: what it wrote is still to be taken, and then its end, if it is to have one. A client that sends all
    /// before it reads is let go on.
    async fn end(mut self, run: Run) {
        if let Some(to_handler) = self.to_handler.take() {
            // A client that is gone needs no answer.
            let _ = to_handler.send(Ok(Head::Over(Box::new(run))));
            return;
        }
        let status = run.exit.unwrap_or(LOST);
        let is_whole = status == 0 || (self.takes_trailers && !is_lost(&run));
        self.input.is_asked = true;
        loop {
            self.input.held = Bytes::new();
            let is_wanted = self.input.is_wanted();
            let taken = tokio::select! {
                permit = self.pieces.reserve() => {
                    let Ok(permit) = permit else {
                        return;
                    };
                    match (self.output.is_empty(), is_whole) {
                        (false, _) => self.output.take().await.map(|bytes| permit.send(Piece::Bytes(bytes))),
                        (true, false) => Err(failed(&run)),
                        (true, true) => {
                            permit.send(Piece::End(self.takes_trailers.then(|| trailers(status))));
                            return;
                        }
                    }
                }
                // Thrown away; an error ends it as well.
                _ = self.input.next(), if is_wanted => Ok(()),
            };
            if let Err(error) = taken {
                return self.break_off(error);
            }
        }
    }

    fn break_off(self, error: Error) {
        debug!(run = self.run, %error, "a streamed answer ends");
        match self.to_handler {
            // Where nobody waits any more, nobody needs it.
            Some(to_handler) => drop(to_handler.send(Err(error))),
            None if self.ends_by_closing => self.peer.reset_on_close(),
            None => {}
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn said(answer: Answer<'_>) -> Said {
    match answer {
        Answer::Part(payload) => match Part::parse(payload) {
            Some(Part::Credit(bytes)) => Said::Credit(bytes),
            Some(Part::Stdout(bytes)) if !bytes.is_empty() => Said::Output(Bytes::copy_from_slice(bytes)),
            Some(Part::Begun(run)) => Said::Begun(run.to_owned()),
            _ => Said::Nothing,
        },
        // What is no run is one that was lost.
        Answer::Over(payload) => Said::Over(payload.first_as().unwrap_or_default()),
        Answer::Nothing => Said::Nothing,
    }
}

fn trailers(status: i32) -> HeaderMap {
    HeaderMap::from_iter([(PIPES_STATUS, HeaderValue::from(status))])
}

/// Whether Pipes itself lost the run: a stage's own 125 has no sentence of ours.
fn is_lost(run: &Run) -> bool {
    run.exit.is_none() || (run.exit == Some(LOST) && run.message.is_some())
}

/// That a run did not succeed, in a sentence.
pub fn failed(run: &Run) -> Error {
    let stages = run
        .stages
        .iter()
        .filter_map(|stage| Some(format!("{} {}", stage.service, stage.status?)));
    let stages: Vec<String> = stages.collect();
    let why = match (&run.message, run.exit) {
        (Some(message), _) => message.clone(),
        (None, Some(status)) => format!("the run ended with status {status} ({})", stages.join(", ")),
        (None, None) => "the run was lost".into(),
    };
    Error::Failed {
        status: run.exit,
        run: (!run.id.is_empty()).then(|| run.id.clone()),
        why,
    }
}
