//! The caller's side of a run: one session of its own in realm `pipes`.
//!
//! The session's first message is the invocation of `pipes.run.start`; from then on chunks come in (stdin, signals,
//! credit) and parts of the answer go out (`pipes_protocol::run`).
//! A session for each run means that a caller who does not read stops its own run and nobody else's.
//!
//! Always: (1) no more output is queued than the caller gave credit for; (2) one final answer, the run or an error.

use pipes_protocol::run::{Loss, Part};
use pipes_wamp::client::{Connection, Reader, Writer};
use pipes_wamp::message::{InvocationDetails, Message, Payload};
use pipes_wamp::payload::PayloadBuf;
use pipes_wamp::streaming::Callee;

use crate::workflow::coordinator::error::Error;
use crate::workflow::coordinator::request::{Chunk, Request};
use crate::workflow::runs::view::Run;
use pipes_router::{Own, OwnSession};

/// What a caller sends.
pub struct CallerIn {
    reader: Reader,
}

/// What a caller gets.
pub struct CallerOut {
    writer: Writer,
    callee: Callee,
    /// The session that the invocation came to.
    session: u64,
    /// Whether it asked for progressive results; without, output has nowhere to go.
    takes_progress: bool,
}

/// What came from the caller.
pub enum Input<'a> {
    /// A chunk of the call.
    Chunk(Chunk<'a>),
    /// What a caller may not say, in a sentence. It may have held bytes: going on would lose them in silence.
    Misuse(String),
    /// The caller cancelled, or is gone.
    Gone,
    /// Nothing of interest.
    Nothing,
}

/// Takes over a session whose first message is the invocation; answers with the request.
pub async fn accept(own: OwnSession) -> Result<(CallerIn, CallerOut, Request), Error> {
    let (mut reader, writer) = Connection::welcomed(own.stream).split();
    let message = reader.next().await.map_err(|_| Error::Gone)?;
    let Some(Message::Invocation {
        request,
        details,
        payload,
        ..
    }) = message
    else {
        return Err(Error::Gone);
    };
    let mut out = CallerOut {
        writer,
        callee: Callee { request },
        session: own.id,
        takes_progress: details.receive_progress,
    };
    match Request::parse(payload, &details) {
        Ok(parsed) => Ok((CallerIn { reader }, out, parsed)),
        Err(error) => {
            out.refuse(&error).await;
            Err(error)
        }
    }
}

impl CallerIn {
    /// The next input. Cancel safe.
    pub async fn next(&mut self) -> Input<'_> {
        match self.reader.next().await {
            Ok(Some(Message::Invocation { details, payload, .. })) => chunk(details, payload),
            Ok(Some(Message::Interrupt { .. })) | Ok(None) | Err(_) => Input::Gone,
            Ok(Some(_)) => Input::Nothing,
        }
    }
}

impl CallerOut {
    /// The invocation, for the router.
    pub fn call(&self) -> Own {
        Own {
            session: self.session,
            request: self.callee.request,
        }
    }

    /// Bytes queued and not yet handed to the router.
    pub fn pending(&self) -> usize {
        self.writer.pending()
    }

    /// Hands what is queued to the router. Cancel safe.
    pub async fn flush(&mut self) -> Result<(), Error> {
        self.writer.flush().await.map_err(|_| Error::Gone)
    }

    /// Queues a part of the answer.
    pub fn part(&mut self, part: &Part<'_>) {
        if self.takes_progress {
            self.callee.part(&mut self.writer, part.encode().as_payload());
        }
    }

    /// The final answer: the run, and whether Pipes failed it.
    pub async fn finish(&mut self, run: &Run, loss: Option<Loss>) {
        // Text, numbers and lists: nothing in it can fail to encode.
        let mut payload = PayloadBuf::of(run).unwrap_or_default();
        if let Some(loss) = loss {
            loss.add_to(&mut payload);
        }
        self.callee.result(&mut self.writer, payload.as_payload());
        // A caller that is gone needs no answer; its session ends with this one.
        let _ = self.writer.flush().await;
    }

    /// The final answer: why there is no run.
    pub async fn refuse(&mut self, error: &Error) {
        let payload = PayloadBuf::of_values(error.arguments(), None);
        self.callee
            .error(&mut self.writer, error.uri(), payload.as_payload());
        let _ = self.writer.flush().await;
    }
}

fn chunk<'a>(details: InvocationDetails<'a>, payload: Payload<'a>) -> Input<'a> {
    match Chunk::parse(payload, details.progress) {
        Ok(chunk) => Input::Chunk(chunk),
        Err(error) => Input::Misuse(error.to_string()),
    }
}
