//! A session with any one agent of the context.
//!
//! Servers are tried in their order; the next one joins in after 250 ms without an answer, or at once when one fails;
//! the first that lets us in wins. A dead agent costs that much and is not mentioned; only when none is left does the
//! error say which were tried, or who refused our key: that is no matter of reaching anybody.
//!
//! One call at a time, on the connection itself: no task, no queue. A run drives the connection's halves (`command/run/stdio`).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use pipes_wamp::client::{self, Auth, Connection, Endpoint, Reader, Writer};
use pipes_wamp::error::uri;
use pipes_wamp::message::{CallOptions, Message, Payload};
use pipes_wamp::payload::PayloadBuf;
use ring::signature::Ed25519KeyPair;
use rmpv::Value;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::context::{Contexts, Server, Target};
use crate::error::{self, Error};

/// The operators' realm.
const REALM: &str = "pipes";

/// Without an answer for so long, the next server is tried as well.
const NEXT_AFTER: Duration = Duration::from_millis(250);

/// A server that has not let us in by then counts as not answering.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A joined session.
pub struct Client {
    reader: Reader,
    writer: Writer,
    agent: String,
    request: u64,
}

/// What comes back from a call.
pub enum Answer {
    /// A part of it.
    Progress(PayloadBuf),
    /// The last of it.
    Done(PayloadBuf),
}

/// Runs a command's future on this thread alone: starting further ones would cost more than most commands take.
pub fn block_on<T>(command: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::Local(format!("cannot start: {}", error::plain(&error))))?;
    let result = runtime.block_on(command);
    // A name that is still being looked up, say, is not waited for.
    runtime.shutdown_background();
    result
}

/// Calls one procedure of the context in use and gives back its only argument.
pub fn call_once(uri: &'static str, kwargs: Vec<(&str, Value)>) -> Result<Value, Error> {
    block_on(async {
        Client::connect(&Contexts::open()?.target()?)
            .await?
            .call(uri, kwargs)
            .await
    })
}

impl Client {
    /// Joins at the first server that answers.
    pub async fn connect(target: &Target) -> Result<Client, Error> {
        let auth = auth(target)?;
        let mut attempts = JoinSet::new();
        let mut tried = Vec::new();
        let mut refused_by = None;
        let mut servers = target.servers.iter();
        let mut waiting = 0;
        loop {
            if let Some(server) = servers.next() {
                attempts.spawn(join(server.clone(), auth.clone()));
                waiting += 1;
            }
            let is_last = servers.len() == 0;
            tokio::select! {
                Some(ended) = attempts.join_next() => {
                    waiting -= 1;
                    match ended {
                        Ok((server, Ok(connection))) => return Ok(Client::of(server, connection)),
                        Ok((server, Err(pipes_wamp::Error::Refused { reason, .. }))) if reason == uri::AUTHENTICATION_FAILED => {
                            refused_by = Some(server);
                        }
                        Ok((server, Err(error))) => tried.push(format!("{server} ({})", reason_of(&error))),
                        Err(error) => tried.push(error.to_string()),
                    }
                    if is_last && waiting == 0 {
                        return Err(match refused_by {
                            Some(server) => key_refused(target, &server),
                            None => unreachable(target, &tried),
                        });
                    }
                }
                () = sleep(NEXT_AFTER), if !is_last => {}
            }
        }
    }

    fn of(server: Server, connection: Connection) -> Client {
        let (reader, writer) = connection.split();
        Client {
            reader,
            writer,
            agent: server.to_string(),
            request: 0,
        }
    }

    /// Both directions, the agent's address for messages, and the id of the next call.
    pub fn split(self) -> (Reader, Writer, String, u64) {
        (self.reader, self.writer, self.agent, self.request + 1)
    }

    /// Calls a procedure with keyword arguments and gives back the only argument of its answer.
    pub async fn call(&mut self, uri: &str, kwargs: Vec<(&str, Value)>) -> Result<Value, Error> {
        let options = CallOptions::default();
        let request = self
            .send(uri, options, PayloadBuf::of_kwargs(kwargs).as_payload())
            .await?;
        loop {
            if let Answer::Done(payload) = self.answer(request).await? {
                return first(&payload);
            }
        }
    }

    /// Begins a call whose chunks or answers are several.
    pub async fn send(
        &mut self,
        uri: &str,
        options: CallOptions<'_>,
        payload: Payload<'_>,
    ) -> Result<u64, Error> {
        self.request += 1;
        self.chunk(self.request, uri, options, payload).await?;
        Ok(self.request)
    }

    /// A further chunk of a call.
    pub async fn chunk(
        &mut self,
        request: u64,
        uri: &str,
        options: CallOptions<'_>,
        payload: Payload<'_>,
    ) -> Result<(), Error> {
        self.writer.queue(&Message::Call {
            request,
            options,
            procedure: uri,
            payload,
        });
        match self.writer.flush().await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.lost(error.to_string())),
        }
    }

    /// The next that comes back for `request`.
    pub async fn answer(&mut self, request: u64) -> Result<Answer, Error> {
        loop {
            let why = match self.reader.next().await {
                Ok(Some(Message::Result {
                    request: of,
                    progress,
                    payload,
                })) if of == request => {
                    let payload = PayloadBuf::from(payload);
                    return Ok(if progress {
                        Answer::Progress(payload)
                    } else {
                        Answer::Done(payload)
                    });
                }
                Ok(Some(Message::Error {
                    request: of,
                    error,
                    payload,
                    ..
                })) if of == request => {
                    return Err(Error::refused(error, &payload.into()));
                }
                Ok(Some(Message::Goodbye { reason, .. } | Message::Abort { reason, .. })) => {
                    reason.to_owned()
                }
                Ok(Some(_)) => continue,
                Ok(None) => "it closed the connection".into(),
                Err(error) => error.to_string(),
            };
            return Err(self.lost(why));
        }
    }

    fn lost(&self, why: String) -> Error {
        Error::Lost {
            agent: self.agent.clone(),
            why,
        }
    }
}

/// The only argument of an answer; nil where there is none.
pub fn first(payload: &PayloadBuf) -> Result<Value, Error> {
    let arguments = payload.as_payload().args();
    let arguments =
        arguments.map_err(|error| Error::Local(format!("the agent's answer cannot be read: {error}")))?;
    Ok(arguments.into_iter().next().unwrap_or(Value::Nil))
}

/// The elements of an answer that is a list.
pub fn list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(list) => list,
        _ => Vec::new(),
    }
}

async fn join(server: Server, auth: Auth) -> (Server, Result<Connection, pipes_wamp::Error>) {
    let endpoint = match &server {
        Server::Tcp(address) => Endpoint::Tcp(*address),
        Server::Unix(path) => Endpoint::Unix(path.clone()),
    };
    let joined = timeout(ANSWER_WITHIN, client::connect(&endpoint, REALM, &auth)).await;
    let late = || {
        io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no answer in {} s", ANSWER_WITHIN.as_secs()),
        )
    };
    (server, joined.unwrap_or_else(|_| Err(late().into())))
}

fn reason_of(error: &pipes_wamp::Error) -> String {
    match error {
        pipes_wamp::Error::Io(error) => error::plain(error),
        other => other.to_string(),
    }
}

fn key_refused(target: &Target, server: &Server) -> Error {
    let is_elsewhere = std::env::var_os("PIPES_AGENT").is_some_and(|agent| !agent.is_empty());
    Error::KeyRefused {
        agent: server.to_string(),
        context: target.name.clone(),
        hint: if is_elsewhere {
            ", or unset PIPES_AGENT"
        } else {
            ""
        },
    }
}

fn unreachable(target: &Target, tried: &[String]) -> Error {
    let hint = target
        .local
        .as_ref()
        .map(|name| format!("; start them with: pipes cluster start {name}"));
    Error::Unreachable {
        context: target.name.clone(),
        tried: tried.join(", "),
        hint: hint.unwrap_or_default(),
    }
}

fn auth(target: &Target) -> Result<Auth, Error> {
    let Some((authid, seed)) = &target.operator else {
        return Ok(Auth::Anonymous);
    };
    let unusable = || Error::Local(format!("the key of {} is not 64 hexadecimal digits", target.name));
    let mut bytes = [0; 32];
    hex::decode_to_slice(seed, &mut bytes).map_err(|_| unusable())?;
    let key = Ed25519KeyPair::from_seed_unchecked(&bytes).map_err(|_| unusable())?;
    Ok(Auth::Cryptosign {
        authid: authid.clone(),
        key: Arc::new(key),
    })
}
