//! A session with any one agent of the context.
//!
//! Servers are tried in their order; the next one joins in after 250 ms without an answer, or at once when one fails;
//! the first that lets us in wins. A dead agent costs that much and is not mentioned; only when none is left does the
//! error say which were tried, or who refused our key: that is no matter of reaching anybody.
//!
//! An agent that starts or stops lets clients in for a moment in which nobody takes their calls up. Such a call has done
//! nothing: it is made again at another agent, or at the same one until it has started or is gone.
//!
//! An agent may stall in the middle of a call, stopped or cut off. One that says nothing is asked whether it is there
//! (`liveness.rs`); one that does not answer that either counts as lost, and is named. One that is there has [`CALL_MAX`]
//! for a call.
//!
//! One call at a time, on the connection itself: no task, no queue. A run drives the connection's halves (`command/run/stdio`).

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pipes_protocol::uris;
use pipes_wamp::client::{self, Auth, Connection, Endpoint, Reader, Writer};
use pipes_wamp::error::uri;
use pipes_wamp::message::{CallOptions, Message, Payload};
use pipes_wamp::payload::PayloadBuf;
use ring::signature::Ed25519KeyPair;
use rmpv::Value;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::answer::{self, Pages};
use crate::context::{Contexts, Server, Target};
use crate::error::{self, Error};
use crate::liveness::{self, ASKED_AFTER, THERE_WITHIN};
use crate::output;
use crate::secured;

/// The operators' realm.
const REALM: &str = "pipes";

/// Without an answer for so long, the next server is tried as well.
const NEXT_AFTER: Duration = Duration::from_millis(250);

/// A server that has not let us in by then counts as not answering.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How long an agent that is there may take for the whole of a call: the longest has stages start within a minute, on one
/// server after another.
const CALL_MAX: Duration = Duration::from_secs(300);

/// The same of one that reads all that the cluster holds.
const CHECK_MAX: Duration = Duration::from_secs(24 * 3600);

/// Where a call is not taken up, it is made again elsewhere for so long.
const TAKEN_UP_WITHIN: Duration = Duration::from_millis(1_500);

/// Pause before it is, from the second time on: all agents were asked by then.
const AGAIN_AFTER: Duration = Duration::from_millis(50);

/// A joined session.
pub struct Client {
    reader: Reader,
    writer: Writer,
    agent: String,
    request: u64,
    elsewhere: Elsewhere,
}

/// Whom to ask where a call is not taken up.
#[derive(Clone)]
pub struct Elsewhere {
    target: Target,
    /// When that was first so.
    since: Option<Instant>,
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

/// The whole of a listing of the context in use.
pub fn list_once(uri: &'static str) -> Result<Value, Error> {
    block_on(async {
        Client::connect(&Contexts::open()?.target()?)
            .await?
            .list(uri, Vec::new())
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
                        Ok((server, Ok(connection))) => return Ok(Client::of(target, server, connection)),
                        Ok((server, Err(pipes_wamp::Error::Refused { reason, .. }))) if reason == uri::AUTHENTICATION_FAILED => {
                            refused_by = Some(server);
                        }
                        Ok((server, Err(error))) => {
                            if secured::is_strange(&error) {
                                output::warn(&[format!("at {server} is a stranger: {}", reason_of(&error))]);
                            }
                            tried.push(format!("{server} ({})", reason_of(&error)));
                        }
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

    fn of(target: &Target, server: Server, connection: Connection) -> Client {
        let (reader, writer) = connection.split();
        let agent = server.to_string();
        let mut target = target.clone();
        target.servers.retain(|other| *other != server);
        target.servers.push(server);
        Client {
            reader,
            writer,
            agent,
            request: 0,
            elsewhere: Elsewhere { target, since: None },
        }
    }

    /// Whom to ask where a call is not taken up here.
    pub fn elsewhere(&self) -> Elsewhere {
        self.elsewhere.clone()
    }

    /// Both directions, the agent's address for messages, and the id of the next call.
    pub fn split(self) -> (Reader, Writer, String, u64) {
        (self.reader, self.writer, self.agent, self.request + 1)
    }

    /// Calls a procedure with keyword arguments and gives back the only argument of its answer; what the agent could not
    /// learn for it is said.
    pub async fn call(&mut self, uri: &str, kwargs: Vec<(&str, Value)>) -> Result<Value, Error> {
        let answer = self.answered(uri, kwargs).await?;
        output::warn(&answer::unknown(&answer));
        answer::first(&answer)
    }

    /// Calls a procedure that lists, page by page, and gives back all in one list; what could not be learnt for it is said
    /// once.
    pub async fn list(&mut self, uri: &str, kwargs: Vec<(&str, Value)>) -> Result<Value, Error> {
        let mut pages = Pages::default();
        loop {
            let mut asked = kwargs.clone();
            asked.extend(pages.after.clone().map(|after| (uris::AFTER, after)));
            let answer = self.answered(uri, asked).await?;
            if !pages.take(&answer)? {
                output::warn(&pages.unknown);
                return Ok(Value::Array(pages.objects));
            }
        }
    }

    async fn answered(&mut self, uri: &str, kwargs: Vec<(&str, Value)>) -> Result<PayloadBuf, Error> {
        let payload = PayloadBuf::of_kwargs(kwargs);
        loop {
            match self.call_here(uri, payload.as_payload()).await {
                Err(error) if was_not_taken_up(&error) || was_only_reading(uri, &error) => {
                    *self = self.elsewhere().join(error).await?;
                }
                Err(error) => return Err(error),
                Ok(answer) => {
                    self.elsewhere.since = None;
                    return Ok(answer);
                }
            }
        }
    }

    async fn call_here(&mut self, uri: &str, payload: Payload<'_>) -> Result<PayloadBuf, Error> {
        let limit = if uri == uris::CLUSTER_CHECK {
            CHECK_MAX
        } else {
            CALL_MAX
        };
        let whole = async {
            let request = self.send(uri, CallOptions::default(), payload).await?;
            loop {
                if let Answer::Done(payload) = self.answer(request).await? {
                    return Ok(payload);
                }
            }
        };
        match timeout(limit, whole).await {
            Ok(answered) => answered,
            Err(_) => Err(self.lost(format!("it did not answer within {} s", limit.as_secs()))),
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
        self.flush().await
    }

    /// Writes what is queued, as long as the agent takes some of it.
    async fn flush(&mut self) -> Result<(), Error> {
        loop {
            let before = self.writer.pending();
            match timeout(THERE_WITHIN, self.writer.flush()).await {
                Ok(written) => return written.map_err(|error| self.lost(error.to_string())),
                Err(_) if self.writer.pending() < before => {}
                Err(_) => return Err(self.lost(format!("it took nothing for {} s", THERE_WITHIN.as_secs()))),
            }
        }
    }

    /// Waits for a message, or for the connection's end, as long as the agent shows that it is there.
    async fn wait(&mut self) -> Result<(), Error> {
        let mut is_asked = false;
        loop {
            let heard = self.reader.heard();
            let limit = if is_asked { THERE_WITHIN } else { ASKED_AFTER };
            match timeout(limit, self.reader.wait()).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => return Err(self.lost(error.to_string())),
                Err(_) if self.reader.heard() > heard => is_asked = false,
                Err(_) if is_asked => return Err(self.lost(liveness::silence())),
                Err(_) => {
                    self.writer.queue_ping();
                    self.flush().await?;
                    is_asked = true;
                }
            }
        }
    }

    /// The next that comes back for `request`.
    pub async fn answer(&mut self, request: u64) -> Result<Answer, Error> {
        loop {
            self.wait().await?;
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

impl Elsewhere {
    /// Joins another agent after a call that came to nothing; `error`, why it did, once this was tried long enough.
    pub async fn join(self, error: Error) -> Result<Client, Error> {
        let since = self.since.unwrap_or_else(Instant::now);
        if since.elapsed() > TAKEN_UP_WITHIN {
            return Err(error);
        }
        if self.since.is_some() {
            sleep(AGAIN_AFTER).await;
        }
        let mut client = Client::connect(&self.target).await?;
        client.elsewhere.since = Some(since);
        Ok(client)
    }
}

/// Whether an error says that nobody took the call up: it has done nothing.
pub fn was_not_taken_up(error: &Error) -> bool {
    matches!(
        error.uri(),
        Some(uri::NO_SUCH_PROCEDURE | uri::NO_AVAILABLE_CALLEE)
    )
}

/// Whether the agent went away in a call that only reads, or gave it up: another may answer it.
fn was_only_reading(procedure: &str, error: &Error) -> bool {
    const READS: [&str; 13] = [
        uris::RUN_LIST,
        uris::RUN_GET,
        uris::JOB_GET,
        uris::JOB_LIST,
        uris::WORKFLOW_LIST,
        uris::WORKFLOW_GET,
        uris::SERVICE_LIST,
        uris::SERVICE_GET,
        uris::BLOB_HAS,
        uris::NODE_LIST,
        uris::CLUSTER_STATUS,
        uris::CLUSTER_CHECK,
        uris::TOKEN_LIST,
    ];
    let is_left = matches!(error, Error::Lost { .. }) || error.uri() == Some(uri::CANCELED);
    is_left && READS.contains(&procedure)
}

async fn join(server: Server, auth: Auth) -> (Server, Result<Connection, pipes_wamp::Error>) {
    let joining = async {
        match &server {
            Server::Near { socket, .. } => {
                client::connect(&Endpoint::Unix(socket.clone()), REALM, &auth).await
            }
            Server::Far { address, authority } => {
                let (stream, channel) = secured::connect(*address, authority).await?;
                client::join(stream, REALM, &auth.over(channel)).await
            }
        }
    };
    let joined = timeout(ANSWER_WITHIN, joining).await;
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
        // No socket, or one of an agent that was killed.
        pipes_wamp::Error::Io(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            "it does not run".to_owned()
        }
        pipes_wamp::Error::Io(error) => secured::in_words(error).unwrap_or_else(|| error::plain(error)),
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
        channel: None,
    })
}
