//! The caller's side of a run: one session of its own in realm `pipes`.
//!
//! The session's first message is the invocation of `pipes.run.start`; from then on chunks come in (stdin, signals,
//! credit) and progressive results go out: `[1, bytes]` stdout, `[2, bytes]` stderr with `stage`, `[0]` with `credit`,
//! `[3, [[in, out], ...]]` the bytes of each stage so far.
//! A session for each run means that a caller who does not read stops its own run and nobody else's.
//!
//! Always: (1) no more output is queued than the caller gave credit for; (2) one final answer, the run or an error.

use pipes_wamp::client::{Connection, Reader, Writer};
use pipes_wamp::message::{InvocationDetails, Message, Payload};
use pipes_wamp::payload::{self, PayloadBuf};
use rmpv::Value;

use crate::router::{Own, OwnSession};
use crate::workflow::coordinator::error::Error;
use crate::workflow::coordinator::request::{Chunk, Request};

/// What a chunk of the output begins with.
pub const STDOUT: u8 = 1;

/// What a caller sends.
pub struct CallerIn {
    reader: Reader,
}

/// What a caller gets.
pub struct CallerOut {
    writer: Writer,
    /// The invocation, and the session it came to.
    call: Own,
    /// Whether it asked for progressive results; without, output has nowhere to go.
    takes_progress: bool,
}

/// What came from the caller.
pub enum Input<'a> {
    /// A chunk of the call.
    Chunk(Chunk<'a>),
    /// The caller cancelled, or is gone.
    Gone,
    /// Nothing of interest.
    Nothing,
}

/// Takes over a session whose first message is the invocation; answers with the request.
pub async fn accept(own: OwnSession) -> Result<(CallerIn, CallerOut, Request), Error> {
    let (mut reader, writer) = Connection::welcomed(own.stream).split();
    let message = reader.next().await.map_err(Error::session)?;
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
        call: Own {
            session: own.id,
            request,
        },
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
        self.call
    }

    /// Bytes queued and not yet handed to the router.
    pub fn pending(&self) -> usize {
        self.writer.pending()
    }

    /// Hands what is queued to the router. Cancel safe.
    pub async fn flush(&mut self) -> Result<(), Error> {
        self.writer.flush().await.map_err(Error::session)
    }

    /// Queues bytes of the last stage's output.
    pub fn stdout(&mut self, bytes: &[u8]) {
        if self.takes_progress {
            self.progress(|out| payload::write_tagged_bytes(out, STDOUT, bytes), 1);
        }
    }

    /// Queues what a stage, from 0, wrote to its standard error.
    pub fn stderr(&mut self, stage: usize, bytes: &[u8]) {
        if self.takes_progress {
            let kwargs = Value::Map(vec![("stage".into(), (stage as u64 + 1).into())]);
            let payload = PayloadBuf::of_values(vec![2.into(), Value::Binary(bytes.to_vec())], Some(kwargs));
            self.yield_(true, payload.as_payload());
        }
    }

    /// Lets the caller send more of its stdin.
    pub fn stdin_credit(&mut self, bytes: u64) {
        if self.takes_progress && bytes > 0 {
            let kwargs = Value::Map(vec![("credit".into(), bytes.into())]);
            let payload = PayloadBuf::of_values(vec![0.into()], Some(kwargs));
            self.yield_(true, payload.as_payload());
        }
    }

    /// Queues the bytes in and out of each stage so far.
    pub fn counts(&mut self, stages: impl Iterator<Item = (u64, u64)>) {
        if self.takes_progress {
            let pairs =
                stages.map(|(bytes_in, bytes_out)| Value::Array(vec![bytes_in.into(), bytes_out.into()]));
            let payload = PayloadBuf::of_values(vec![3.into(), Value::Array(pairs.collect())], None);
            self.yield_(true, payload.as_payload());
        }
    }

    /// The final answer: the run.
    pub async fn finish(&mut self, run: Value) {
        let payload = PayloadBuf::of_values(vec![run], None);
        self.yield_(false, payload.as_payload());
        // A caller that is gone needs no answer; its session ends with this one.
        let _ = self.writer.flush().await;
    }

    /// The final answer: why there is no run.
    pub async fn refuse(&mut self, error: &Error) {
        let payload = PayloadBuf::of_values(error.arguments(), None);
        self.writer.queue(&Message::Error {
            kind: pipes_wamp::message::kind::INVOCATION,
            request: self.call.request,
            details: pipes_wamp::message::EMPTY_MAP,
            error: error.uri(),
            payload: payload.as_payload(),
        });
        let _ = self.writer.flush().await;
    }

    fn progress(&mut self, write: impl FnOnce(&mut Vec<u8>), parts: u8) {
        let mut bytes = Vec::new();
        write(&mut bytes);
        self.yield_(true, Payload { parts, bytes: &bytes });
    }

    fn yield_(&mut self, progress: bool, payload: Payload<'_>) {
        self.writer.queue(&Message::Yield {
            request: self.call.request,
            progress,
            payload,
        });
    }
}

fn chunk<'a>(details: InvocationDetails<'a>, payload: Payload<'a>) -> Input<'a> {
    match Chunk::parse(payload, details.progress) {
        Ok(chunk) => Input::Chunk(chunk),
        // A chunk that cannot be read may have held bytes: going on would lose them in silence.
        Err(_) => Input::Gone,
    }
}
