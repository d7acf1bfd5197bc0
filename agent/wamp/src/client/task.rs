//! The task behind a session: commands in, messages out, and back.
//!
//! What a consumer has no room for is held, one item at most, and the connection is not read meanwhile; commands and
//! writing go on, so that two sides that wait for each other's answers do not wait for ever.

use std::collections::HashMap;

use tokio::sync::{mpsc, oneshot};

use crate::client::connection::{Connection, Writer};
use crate::client::session::{Answer, CallError, CallOptions, Chunk, Invocation, WAITING_MAX};
use crate::message::{self, CancelMode, Message, kind};
use crate::payload::PayloadBuf;

/// Bytes queued for the socket beyond which no command is taken.
const QUEUED_MAX: usize = 1 << 20;

/// A registration under way: where its invocations go, and who waits for it.
type Registering = (mpsc::Sender<Invocation>, oneshot::Sender<Result<(), CallError>>);
type Answers = mpsc::Sender<Result<Answer, CallError>>;

/// What handles ask of the task.
pub(super) enum Command {
    Call {
        uri: String,
        payload: PayloadBuf,
        options: CallOptions,
        answers: Answers,
        number: oneshot::Sender<u64>,
    },
    Chunk {
        request: u64,
        uri: String,
        payload: PayloadBuf,
        options: CallOptions,
    },
    Cancel {
        request: u64,
        mode: CancelMode,
    },
    Register {
        uri: String,
        invocations: mpsc::Sender<Invocation>,
        done: oneshot::Sender<Result<(), CallError>>,
    },
    Yield {
        request: u64,
        payload: PayloadBuf,
        progress: bool,
    },
    Fail {
        request: u64,
        uri: String,
        payload: PayloadBuf,
    },
}

/// An item that waits for room in its consumer's queue.
enum Held {
    Answer(Answers, Result<Answer, CallError>),
    Chunk(mpsc::Sender<Chunk>, Chunk),
    Invocation(mpsc::Sender<Invocation>, Box<Invocation>),
}

impl Held {
    /// Waits for room and delivers. A consumer that is gone needs nothing.
    async fn deliver(slot: &mut Option<Held>) {
        match slot {
            Some(Held::Answer(queue, _)) => drop(queue.clone().reserve().await.map(drop)),
            Some(Held::Chunk(queue, _)) => drop(queue.clone().reserve().await.map(drop)),
            Some(Held::Invocation(queue, _)) => drop(queue.clone().reserve().await.map(drop)),
            None => return std::future::pending().await,
        }
        *slot = slot.take().and_then(Held::try_now);
    }

    fn try_now(self) -> Option<Held> {
        use mpsc::error::TrySendError::Full;
        match self {
            Held::Answer(queue, item) => match queue.try_send(item) {
                Err(Full(item)) => Some(Held::Answer(queue, item)),
                _ => None,
            },
            Held::Chunk(queue, item) => match queue.try_send(item) {
                Err(Full(item)) => Some(Held::Chunk(queue, item)),
                _ => None,
            },
            Held::Invocation(queue, item) => match queue.try_send(*item) {
                Err(Full(item)) => Some(Held::Invocation(queue, Box::new(item))),
                _ => None,
            },
        }
    }
}

/// Runs until the connection ends or every handle is gone.
pub(super) async fn run(
    connection: Connection,
    mut commands: mpsc::Receiver<Command>,
    handle: mpsc::WeakSender<Command>,
) {
    let (mut reader, writer) = connection.split();
    let mut state = State::new(writer, handle);
    let mut held: Option<Held> = None;
    loop {
        tokio::select! {
            biased;
            () = Held::deliver(&mut held), if held.is_some() => {}
            message = reader.next(), if held.is_none() => match message {
                Ok(Some(message)) => held = state.receive(message).and_then(Held::try_now),
                Ok(None) | Err(_) => break,
            },
            command = commands.recv(), if state.writer.pending() < QUEUED_MAX => match command {
                Some(command) => state.obey(command),
                None => break,
            },
            written = state.writer.flush(), if state.writer.pending() > 0 => if written.is_err() {
                break;
            },
        }
    }
    // What was queued goes out if it can; then all queues are dropped, which tells everybody.
    let _ = tokio::time::timeout(std::time::Duration::from_secs(1), state.writer.close()).await;
}

struct State {
    writer: Writer,
    handle: mpsc::WeakSender<Command>,
    last_request: u64,
    calls: HashMap<u64, Answers>,
    registering: HashMap<u64, Registering>,
    registrations: HashMap<u64, mpsc::Sender<Invocation>>,
    invocations: HashMap<u64, mpsc::Sender<Chunk>>,
}

impl State {
    fn new(writer: Writer, handle: mpsc::WeakSender<Command>) -> State {
        State {
            writer,
            handle,
            last_request: 0,
            calls: HashMap::new(),
            registering: HashMap::new(),
            registrations: HashMap::new(),
            invocations: HashMap::new(),
        }
    }

    fn next_request(&mut self) -> u64 {
        self.last_request += 1;
        self.last_request
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Call {
                uri,
                payload,
                options,
                answers,
                number,
            } => {
                let request = self.next_request();
                self.calls.insert(request, answers);
                self.call(request, &uri, &payload, &options);
                if number.send(request).is_err() {
                    self.cancel(request, CancelMode::KillNoWait);
                }
            }
            Command::Chunk {
                request,
                uri,
                payload,
                options,
            } if self.calls.contains_key(&request) => {
                self.call(request, &uri, &payload, &options);
            }
            // The call is over: chunks that still come for it are of no use (rule 15).
            Command::Chunk { .. } => {}
            Command::Cancel { request, mode } => self.cancel(request, mode),
            Command::Register {
                uri,
                invocations,
                done,
            } => {
                let request = self.next_request();
                self.registering.insert(request, (invocations, done));
                self.writer.queue(&Message::Register {
                    request,
                    options: Default::default(),
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
                self.writer.queue(&Message::Yield {
                    request,
                    progress,
                    payload: payload.as_payload(),
                });
            }
            Command::Fail {
                request,
                uri,
                payload,
            } => {
                self.invocations.remove(&request);
                self.writer.queue(&Message::Error {
                    kind: kind::INVOCATION,
                    request,
                    details: message::EMPTY_MAP,
                    error: &uri,
                    payload: payload.as_payload(),
                });
            }
        }
    }

    fn call(&mut self, request: u64, uri: &str, payload: &PayloadBuf, options: &CallOptions) {
        let options = message::CallOptions {
            progress: options.progress,
            receive_progress: options.receive_progress,
            timeout_ms: options.timeout_ms,
            disclose_me: false,
            grant: options.grant.as_deref(),
        };
        self.writer.queue(&Message::Call {
            request,
            options,
            procedure: uri,
            payload: payload.as_payload(),
        });
    }

    fn cancel(&mut self, request: u64, mode: CancelMode) {
        if self.calls.contains_key(&request) {
            self.writer.queue(&Message::Cancel { request, mode });
        }
    }

    fn receive(&mut self, message: Message<'_>) -> Option<Held> {
        match message {
            Message::Result {
                request,
                progress,
                payload,
            } => {
                let answers = if progress {
                    self.calls.get(&request).cloned()?
                } else {
                    self.calls.remove(&request)?
                };
                if answers.is_closed() {
                    self.cancel(request, CancelMode::KillNoWait);
                    return None;
                }
                Some(Held::Answer(
                    answers,
                    Ok(Answer {
                        progress,
                        payload: payload.into(),
                    }),
                ))
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
                let _ = done.send(Err(CallError::Answered {
                    uri: error.to_owned(),
                    payload: payload.into(),
                }));
                None
            }
            Message::Error {
                request,
                error,
                payload,
                ..
            } => {
                let answers = self.calls.remove(&request)?;
                let error = CallError::Answered {
                    uri: error.to_owned(),
                    payload: payload.into(),
                };
                Some(Held::Answer(answers, Err(error)))
            }
            Message::Registered {
                request,
                registration,
            } => {
                let (invocations, done) = self.registering.remove(&request)?;
                self.registrations.insert(registration, invocations);
                let _ = done.send(Ok(()));
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

    fn invocation(
        &mut self,
        request: u64,
        registration: u64,
        details: message::InvocationDetails<'_>,
        payload: message::Payload<'_>,
    ) -> Option<Held> {
        if let Some(chunks) = self.invocations.get(&request) {
            let chunk = Chunk::More {
                progress: details.progress,
                payload: payload.into(),
            };
            return Some(Held::Chunk(chunks.clone(), chunk));
        }
        let queue = self.registrations.get(&registration)?.clone();
        let (sender, chunks) = mpsc::channel(WAITING_MAX);
        let commands = self.handle.upgrade()?;
        self.invocations.insert(request, sender);
        let invocation = Invocation {
            request,
            progress: details.progress,
            receive_progress: details.receive_progress,
            payload: payload.into(),
            chunks,
            commands,
            done: false,
        };
        Some(Held::Invocation(queue, Box::new(invocation)))
    }
}
