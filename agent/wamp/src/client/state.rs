//! What a session has under way, and what each command and message makes of it. No socket is waited for here.

use std::collections::HashMap;

use tokio::sync::{mpsc, oneshot};

use crate::client::command::{CallOptions, Command};
use crate::client::connection::Writer;
use crate::client::delivery::{Answer, Answers, Chunk, Held, Invoked, WAITING_MAX};
use crate::client::error::CallError;
use crate::client::leaver::{Leaver, Left};
use crate::error::{Error, uri};
use crate::id::Sequence;
use crate::message::{self, CancelMode, Message, Payload, kind};
use crate::payload::PayloadBuf;

/// A registration under way: where its invocations go, and who waits for it.
type Registering = (mpsc::Sender<Invoked>, oneshot::Sender<Result<u64, CallError>>);

/// A call under way.
struct Calling {
    answers: Answers,
    /// Nobody waits for its answer, and the router knows.
    given_up: bool,
}

pub(super) struct State {
    writer: Writer,
    leaver: Leaver,
    requests: Sequence,
    calls: HashMap<u64, Calling>,
    registering: HashMap<u64, Registering>,
    registrations: HashMap<u64, mpsc::Sender<Invoked>>,
    invocations: HashMap<u64, mpsc::Sender<Chunk>>,
    /// The latest invocation: a chunk with this number or a lower one begins nothing new.
    last_invocation: u64,
}

impl State {
    pub(super) fn new(writer: Writer, leaver: Leaver) -> State {
        State {
            writer,
            leaver,
            requests: Sequence::default(),
            calls: HashMap::new(),
            registering: HashMap::new(),
            registrations: HashMap::new(),
            invocations: HashMap::new(),
            last_invocation: 0,
        }
    }

    /// Bytes queued for the socket.
    pub(super) fn pending(&self) -> usize {
        self.writer.pending()
    }

    /// Writes what is queued. Cancel safe.
    pub(super) async fn flush(&mut self) -> Result<(), Error> {
        self.writer.flush().await
    }

    /// Drops all that is under way.
    pub(super) fn into_writer(self) -> Writer {
        self.writer
    }

    pub(super) fn obey(&mut self, command: Command) {
        match command {
            Command::Call {
                uri,
                payload,
                options,
                answers,
                number,
            } => self.begin_call(&uri, &payload, &options, answers, number),
            Command::Chunk {
                request,
                uri,
                payload,
                options,
            } if self.calls.contains_key(&request) => {
                if let Err(error) = self.call(request, &uri, &payload, &options) {
                    self.abandon(request, error);
                }
            }
            // The call is over: chunks that still come for it are of no use.
            Command::Chunk { .. } => {}
            Command::Cancel { request, mode } if self.calls.contains_key(&request) => {
                self.writer.queue(&Message::Cancel { request, mode });
            }
            Command::Cancel { .. } => {}
            Command::Register {
                uri,
                invocations,
                done,
            } => {
                let request = self.requests.next_id();
                self.registering.insert(request, (invocations, done));
                let options = Default::default();
                self.writer.queue(&Message::Register {
                    request,
                    options,
                    procedure: &uri,
                });
            }
            Command::Yield {
                request,
                payload,
                progress,
            } => {
                if !progress {
                    self.invocations.remove(&request);
                }
                let payload = payload.as_payload();
                if self
                    .writer
                    .try_queue(&Message::Yield {
                        request,
                        progress,
                        payload,
                    })
                    .is_err()
                {
                    self.fail(request, uri::PAYLOAD_SIZE_EXCEEDED, Payload::EMPTY);
                }
            }
            Command::Fail {
                request,
                uri,
                payload,
            } => self.fail(request, &uri, payload.as_payload()),
            // The loop sees to it.
            Command::Stop => {}
        }
    }

    /// A handle was dropped before its end.
    pub(super) fn leave(&mut self, left: Left) {
        match left {
            Left::Call(request) => self.give_up(request),
            Left::Invocation(request) => self.fail(request, uri::CANCELED, Payload::EMPTY),
            Left::Registration(registration) => self.unregister(registration),
        }
    }

    fn begin_call(
        &mut self,
        uri: &str,
        payload: &PayloadBuf,
        options: &CallOptions,
        answers: Answers,
        number: oneshot::Sender<Result<u64, CallError>>,
    ) {
        let before = self.requests.clone();
        let request = self.requests.next_id();
        if let Err(error) = self.call(request, uri, payload, options) {
            // The number was not used: the router counts on there being no gap.
            self.requests = before;
            let _ = number.send(Err(error));
            return;
        }
        self.calls.insert(
            request,
            Calling {
                answers,
                given_up: false,
            },
        );
        if number.send(Ok(request)).is_err() {
            self.give_up(request);
        }
    }

    /// Queues a call or a chunk of one, unless it is longer than the router takes.
    fn call(
        &mut self,
        request: u64,
        uri: &str,
        payload: &PayloadBuf,
        options: &CallOptions,
    ) -> Result<(), CallError> {
        let options = message::CallOptions {
            progress: options.progress,
            receive_progress: options.receive_progress,
            timeout_ms: options.timeout_ms,
            disclose_me: false,
            grant: options.grant.as_deref(),
        };
        let payload = payload.as_payload();
        let message = Message::Call {
            request,
            options,
            procedure: uri,
            payload,
        };
        self.writer
            .try_queue(&message)
            .map_err(|error| CallError::Answered {
                uri: uri::PAYLOAD_SIZE_EXCEEDED.to_owned(),
                payload: PayloadBuf::of_values(vec![error.to_string().into()], None),
            })
    }

    /// Gives a call up that lacks a chunk.
    fn abandon(&mut self, request: u64, error: CallError) {
        self.give_up(request);
        if let Some(calling) = self.calls.remove(&request) {
            // Where answers wait already, the end of their queue says that there is no result.
            let _ = calling.answers.try_send(Err(error));
        }
    }

    /// Cancels a call that nobody waits for, once.
    fn give_up(&mut self, request: u64) {
        if let Some(calling) = self.calls.get_mut(&request)
            && !std::mem::replace(&mut calling.given_up, true)
        {
            self.writer.queue(&Message::Cancel {
                request,
                mode: CancelMode::KillNoWait,
            });
        }
    }

    fn fail(&mut self, request: u64, error: &str, payload: Payload<'_>) {
        self.invocations.remove(&request);
        let (kind, details) = (kind::INVOCATION, message::EMPTY_MAP);
        let whole = Message::Error {
            kind,
            request,
            details,
            error,
            payload,
        };
        if self.writer.try_queue(&whole).is_err() {
            self.writer.queue(&Message::Error {
                kind,
                request,
                details,
                error,
                payload: Payload::EMPTY,
            });
        }
    }

    fn unregister(&mut self, registration: u64) {
        self.registrations.remove(&registration);
        let request = self.requests.next_id();
        self.writer.queue(&Message::Unregister {
            request,
            registration,
        });
    }

    /// Takes a message in; what it brings is to be delivered.
    pub(super) fn receive(&mut self, message: Message<'_>) -> Option<Held> {
        match message {
            Message::Result {
                request,
                progress,
                payload,
            } => {
                let answer = Answer {
                    progress,
                    payload: payload.into(),
                };
                self.answered(request, progress, Ok(answer))
            }
            Message::Error {
                kind: kind::REGISTER,
                request,
                error,
                payload,
                ..
            } => {
                let (_, done) = self.registering.remove(&request)?;
                // Whoever gave up waiting needs no answer.
                let _ = done.send(Err(answered(error, payload)));
                None
            }
            Message::Error {
                kind: kind::CALL | kind::CANCEL,
                request,
                error,
                payload,
                ..
            } => self.answered(request, false, Err(answered(error, payload))),
            Message::Registered {
                request,
                registration,
            } => {
                let (invocations, done) = self.registering.remove(&request)?;
                self.registrations.insert(registration, invocations);
                if done.send(Ok(registration)).is_err() {
                    self.unregister(registration);
                }
                None
            }
            Message::Invocation {
                request,
                registration,
                details,
                payload,
            } => self.invocation(request, registration, details, payload),
            Message::Interrupt { request, .. } => Some(Held::Chunk(
                self.invocations.remove(&request)?,
                Chunk::Interrupted,
            )),
            _ => None,
        }
    }

    fn answered(&mut self, request: u64, progress: bool, answer: Result<Answer, CallError>) -> Option<Held> {
        let answers = if progress {
            self.calls.get(&request)?.answers.clone()
        } else {
            self.calls.remove(&request)?.answers
        };
        if answers.is_closed() {
            self.give_up(request);
            return None;
        }
        Some(Held::Answer(answers, answer))
    }

    fn invocation(
        &mut self,
        request: u64,
        registration: u64,
        details: message::InvocationDetails<'_>,
        payload: Payload<'_>,
    ) -> Option<Held> {
        if request <= self.last_invocation {
            // A chunk; without an invocation, one that crossed with our final answer.
            let chunks = self.invocations.get(&request)?.clone();
            let chunk = Chunk::More {
                progress: details.progress,
                payload: payload.into(),
            };
            return Some(Held::Chunk(chunks, chunk));
        }
        self.last_invocation = request;
        let (sender, chunks) = mpsc::channel(WAITING_MAX);
        let invoked = Invoked {
            guard: self.leaver.guard(Left::Invocation(request)),
            request,
            progress: details.progress,
            receive_progress: details.receive_progress,
            payload: payload.into(),
            caller: details.caller,
            token: details.token.map(str::to_owned),
            chunks,
        };
        let refused = match self.registrations.get(&registration) {
            Some(queue) => queue.try_send(invoked).err().map(|error| error.into_inner()),
            None => Some(invoked),
        };
        match refused {
            None => drop(self.invocations.insert(request, sender)),
            Some(mut invoked) => {
                // Answered here, and not by its being dropped.
                invoked.guard.done();
                self.fail(request, uri::NO_AVAILABLE_CALLEE, Payload::EMPTY);
            }
        }
        None
    }
}

fn answered(error: &str, payload: Payload<'_>) -> CallError {
    CallError::Answered {
        uri: error.to_owned(),
        payload: payload.into(),
    }
}
