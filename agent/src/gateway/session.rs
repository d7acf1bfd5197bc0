//! The gateway's way to the procedures: one session in realm `pipes` for each request, as any program's.
//!
//! ```text
//! ask      CALL {workflow: ..}                            -> RESULT                      jobs, one after another
//! begin    CALL {line: .., credit: n}  CALL [bytes] ...   -> RESULT progress ... RESULT  a run, an input, a result
//! ```
//!
//! A session for each request means that a client who does not read, or does not send, stops its own request and nobody
//! else's; and that what it began ends with it.
//!
//! Always: (1) one call at a time; (2) what comes for a former one is dropped; (3) a session that is dropped gives its call
//! up.

use pipes_protocol::run::Part;
use pipes_protocol::uris;
use pipes_router::{Role, Router};
use pipes_wamp::client::{Connection, Reader, Writer};
use pipes_wamp::message::{CallOptions, Message, Payload};
use pipes_wamp::payload::{self, PayloadBuf};
use rmpv::Value;

use crate::gateway::error::Error;

/// A session, by its halves.
pub struct Session {
    /// What is answered.
    pub incoming: Incoming,
    /// What is said.
    pub outgoing: Outgoing,
}

/// Reads what the call under way is answered.
pub struct Incoming {
    reader: Reader,
    request: u64,
}

/// Says chunks of the call under way. Whoever queues looks at what is pending.
pub struct Outgoing {
    writer: Writer,
    request: u64,
    procedure: &'static str,
}

/// What is answered.
#[derive(Debug)]
pub enum Answer<'a> {
    /// A part of it.
    Part(Payload<'a>),
    /// The last of it.
    Over(Payload<'a>),
    /// Something else, or of a former call.
    Nothing,
}

fn gone() -> Error {
    Error::Unavailable("the agent is stopping; ask another".into())
}

impl Session {
    /// A new one.
    pub fn open(router: &Router) -> Result<Session, Error> {
        let own = router
            .attach(uris::REALM_OPERATORS, Role::Agent)
            .map_err(|error| Error::Unavailable(format!("the router gives no session: {error}")))?;
        let (reader, writer) = Connection::welcomed(own.stream).split();
        Ok(Session {
            incoming: Incoming { reader, request: 0 },
            outgoing: Outgoing {
                writer,
                request: 0,
                procedure: "",
            },
        })
    }

    /// Begins a call; `is_whole`: no chunk follows.
    pub fn begin(&mut self, procedure: &'static str, kwargs: Vec<(&str, Value)>, is_whole: bool) {
        self.incoming.request += 1;
        self.outgoing.request += 1;
        self.outgoing.procedure = procedure;
        self.outgoing.keywords(kwargs, is_whole);
    }

    /// Calls and waits for the one answer.
    pub async fn ask(&mut self, procedure: &'static str, kwargs: Vec<(&str, Value)>) -> Result<Value, Error> {
        self.begin(procedure, kwargs, true);
        self.outgoing.flush().await?;
        loop {
            if let Answer::Over(payload) = self.incoming.next().await? {
                return Ok(first(payload));
            }
        }
    }
}

/// The first argument of an answer.
pub fn first(payload: Payload<'_>) -> Value {
    let args = payload.args().unwrap_or_default();
    args.into_iter().next().unwrap_or(Value::Nil)
}

impl Incoming {
    /// The next of the answer. Cancel safe.
    pub async fn next(&mut self) -> Result<Answer<'_>, Error> {
        let own = self.request;
        match self.reader.next().await {
            Ok(Some(Message::Result { request, .. } | Message::Error { request, .. })) if request != own => {
                Ok(Answer::Nothing)
            }
            Ok(Some(Message::Result {
                progress: true,
                payload,
                ..
            })) => Ok(Answer::Part(payload)),
            Ok(Some(Message::Result { payload, .. })) => Ok(Answer::Over(payload)),
            Ok(Some(Message::Error { error, payload, .. })) => Err(Error::answered(error, payload)),
            Ok(Some(Message::Goodbye { .. } | Message::Abort { .. }) | None) | Err(_) => Err(gone()),
            Ok(Some(_)) => Ok(Answer::Nothing),
        }
    }
}

impl Outgoing {
    /// Bytes, as the arguments `[bytes]`; `is_last`: no chunk follows.
    pub fn bytes(&mut self, bytes: &[u8], is_last: bool) {
        let mut head = Vec::with_capacity(8);
        payload::write_bytes_arg_head(&mut head, bytes.len());
        let message = self.chunk(Payload { parts: 1, bytes: &[] }, is_last);
        self.writer.queue_parts(&message, &[&head, bytes]);
    }

    /// A chunk of keywords.
    pub fn keywords(&mut self, pairs: Vec<(&str, Value)>, is_last: bool) {
        let payload = PayloadBuf::of_kwargs(pairs);
        let message = self.chunk(payload.as_payload(), is_last);
        self.writer.queue(&message);
    }

    /// So many bytes more are welcome.
    pub fn credit(&mut self, bytes: u64) {
        self.keywords(vec![("credit", bytes.into())], false);
    }

    /// Bytes that wait to be written.
    pub fn pending(&self) -> usize {
        self.writer.pending()
    }

    /// Hands what is queued to the router. Cancel safe.
    pub async fn flush(&mut self) -> Result<(), Error> {
        self.writer.flush().await.map_err(|_| gone())
    }

    fn chunk<'a>(&self, payload: Payload<'a>, is_last: bool) -> Message<'a> {
        Message::Call {
            request: self.request,
            options: CallOptions {
                progress: !is_last,
                receive_progress: true,
                ..CallOptions::default()
            },
            procedure: self.procedure,
            payload,
        }
    }
}

/// Credit that a part gives: `[0] {credit: n}`.
pub fn credit_of(payload: Payload<'_>) -> Option<u64> {
    match Part::parse(payload) {
        Some(Part::Credit(bytes)) => Some(bytes),
        _ => None,
    }
}
