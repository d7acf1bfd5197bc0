//! A session with calls and registrations as values; one task drives its connection.
//!
//! Always: (1) every queue is bounded, and a full one stops the reading of the connection: who shares a session among
//! slow consumers slows all of them; (2) a call that is dropped before its end is cancelled; (3) the task ends with the
//! connection or with the last handle, and every call then ends with [`CallError::Closed`].

use std::sync::Arc;

use rmpv::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::client::connection::Connection;
use crate::client::task::{self, Command};
use crate::message::CancelMode;
use crate::payload::PayloadBuf;

/// Commands that may wait for the task: callers beyond wait with them.
const COMMANDS_MAX: usize = 256;
/// Progressive results, chunks or invocations that wait for their consumer.
pub(super) const WAITING_MAX: usize = 64;

/// A joined session. A cheap handle; the last one closes it.
#[derive(Clone)]
pub struct Session {
    commands: mpsc::Sender<Command>,
    task: Arc<JoinHandle<()>>,
}

/// Options of a call.
#[derive(Debug, Clone, Default)]
pub struct CallOptions {
    /// More chunks follow.
    pub progress: bool,
    /// Progressive results are welcome.
    pub receive_progress: bool,
    /// Milliseconds until the dealer gives the call up; 0: never.
    pub timeout_ms: u64,
    /// A procedure that the callee may call meanwhile (agents alone).
    pub grant: Option<String>,
}

/// Why a call has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The callee or the router answered with an error.
    #[error("{uri}{}", sentence(.payload))]
    Answered {
        /// The error's URI.
        uri: String,
        /// Its arguments.
        payload: PayloadBuf,
    },
    /// The session ended first.
    #[error("the session ended")]
    Closed,
}

fn sentence(payload: &PayloadBuf) -> String {
    let args = payload.as_payload().args().unwrap_or_default();
    args.first()
        .and_then(|value| value.as_str().map(|text| format!(": {text}")))
        .unwrap_or_default()
}

/// A part of a call's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// More follows.
    pub progress: bool,
    /// Its arguments.
    pub payload: PayloadBuf,
}

/// A call under way.
pub struct Call {
    pub(super) request: u64,
    uri: String,
    options: CallOptions,
    answers: mpsc::Receiver<Result<Answer, CallError>>,
    commands: mpsc::Sender<Command>,
    done: bool,
}

/// A procedure offered by this session.
pub struct Registration {
    invocations: mpsc::Receiver<Invocation>,
}

/// One call to a procedure of ours.
pub struct Invocation {
    pub(super) request: u64,
    /// More chunks follow.
    pub progress: bool,
    /// The caller takes progressive results.
    pub receive_progress: bool,
    /// The first chunk's payload.
    pub payload: PayloadBuf,
    pub(super) chunks: mpsc::Receiver<Chunk>,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) done: bool,
}

/// What follows an invocation's first chunk.
#[derive(Debug, PartialEq, Eq)]
pub enum Chunk {
    /// A further chunk.
    More {
        /// More follow.
        progress: bool,
        /// Its arguments.
        payload: PayloadBuf,
    },
    /// The answer is no longer wanted.
    Interrupted,
}

impl Session {
    /// Drives a joined connection in a task of its own.
    pub fn start(connection: Connection) -> Session {
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        let weak = commands.downgrade();
        let task = tokio::spawn(task::run(connection, receiver, weak));
        Session {
            commands,
            task: Arc::new(task),
        }
    }

    /// Begins a call.
    pub async fn call(
        &self,
        uri: &str,
        payload: PayloadBuf,
        options: CallOptions,
    ) -> Result<Call, CallError> {
        let (sender, answers) = mpsc::channel(WAITING_MAX);
        // The task gives the number, in the order in which calls go out (request ids rise by one).
        let (numbered, number) = oneshot::channel();
        let command = Command::Call {
            uri: uri.to_owned(),
            payload,
            options: options.clone(),
            answers: sender,
            number: numbered,
        };
        self.commands.send(command).await.map_err(|_| CallError::Closed)?;
        let request = number.await.map_err(|_| CallError::Closed)?;
        let commands = self.commands.clone();
        Ok(Call {
            request,
            uri: uri.to_owned(),
            options,
            answers,
            commands,
            done: false,
        })
    }

    /// Calls and waits for the one answer.
    pub async fn call_once(
        &self,
        uri: &str,
        args: Vec<Value>,
        kwargs: Option<Value>,
    ) -> Result<PayloadBuf, CallError> {
        let mut call = self
            .call(uri, PayloadBuf::of_values(args, kwargs), CallOptions::default())
            .await?;
        call.result().await
    }

    /// Offers a procedure.
    pub async fn register(&self, uri: &str) -> Result<Registration, CallError> {
        let (sender, invocations) = mpsc::channel(WAITING_MAX);
        let (done, registered) = oneshot::channel();
        let command = Command::Register {
            uri: uri.to_owned(),
            invocations: sender,
            done,
        };
        self.commands.send(command).await.map_err(|_| CallError::Closed)?;
        registered.await.map_err(|_| CallError::Closed)??;
        Ok(Registration { invocations })
    }

    /// Whether the connection is gone.
    pub fn is_closed(&self) -> bool {
        self.task.is_finished() || self.commands.is_closed()
    }

    /// Waits until the connection is gone.
    pub async fn closed(&self) {
        self.commands.closed().await;
    }
}

impl Call {
    /// The next part of the answer; after the last one `Err(Closed)`.
    pub async fn next(&mut self) -> Result<Answer, CallError> {
        let answer = self.answers.recv().await.unwrap_or(Err(CallError::Closed));
        self.done |= !matches!(&answer, Ok(Answer { progress: true, .. }));
        answer
    }

    /// The final answer; progressive ones before it are dropped.
    pub async fn result(&mut self) -> Result<PayloadBuf, CallError> {
        loop {
            let answer = self.next().await?;
            if !answer.progress {
                return Ok(answer.payload);
            }
        }
    }

    /// Sends a further chunk of a progressive call.
    pub async fn send(&mut self, payload: PayloadBuf, progress: bool) -> Result<(), CallError> {
        let options = CallOptions {
            progress,
            grant: None,
            timeout_ms: 0,
            ..self.options.clone()
        };
        let command = Command::Chunk {
            request: self.request,
            uri: self.uri.clone(),
            payload,
            options,
        };
        self.commands.send(command).await.map_err(|_| CallError::Closed)
    }

    /// Gives the call up; its answer, by the mode, still comes by [`Call::next`].
    pub async fn cancel(&mut self, mode: CancelMode) -> Result<(), CallError> {
        let command = Command::Cancel {
            request: self.request,
            mode,
        };
        self.commands.send(command).await.map_err(|_| CallError::Closed)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.done {
            let command = Command::Cancel {
                request: self.request,
                mode: CancelMode::KillNoWait,
            };
            // With a full queue the task finds the receiver gone at the next answer, and cancels then.
            let _ = self.commands.try_send(command);
        }
    }
}

impl Registration {
    /// The next call to the procedure; `None` when the session ended.
    pub async fn next(&mut self) -> Option<Invocation> {
        self.invocations.recv().await
    }
}

impl Invocation {
    /// What follows the first chunk; `None` when the session ended.
    pub async fn chunk(&mut self) -> Option<Chunk> {
        self.chunks.recv().await
    }

    /// A part of the answer.
    pub async fn answer_part(&mut self, payload: PayloadBuf) -> Result<(), CallError> {
        self.send(payload, true).await
    }

    /// The final answer.
    pub async fn answer(mut self, payload: PayloadBuf) -> Result<(), CallError> {
        self.done = true;
        self.send(payload, false).await
    }

    /// The answer is an error.
    pub async fn fail(mut self, uri: &str, payload: PayloadBuf) -> Result<(), CallError> {
        self.done = true;
        let command = Command::Fail {
            request: self.request,
            uri: uri.to_owned(),
            payload,
        };
        self.commands.send(command).await.map_err(|_| CallError::Closed)
    }

    async fn send(&mut self, payload: PayloadBuf, progress: bool) -> Result<(), CallError> {
        let command = Command::Yield {
            request: self.request,
            payload,
            progress,
        };
        self.commands.send(command).await.map_err(|_| CallError::Closed)
    }
}

impl Drop for Invocation {
    fn drop(&mut self) {
        if !self.done {
            // Whoever dropped it will not answer: the caller must not wait for ever.
            let payload = PayloadBuf::default();
            let uri = crate::error::uri::CANCELED.to_owned();
            let _ = self.commands.try_send(Command::Fail {
                request: self.request,
                uri,
                payload,
            });
        }
    }
}
