//! The callee's side: a procedure offered, and each of its calls.

use tokio::sync::mpsc;

use crate::client::command::Command;
use crate::client::delivery::{Chunk, Invoked};
use crate::client::error::CallError;
use crate::client::leaver::Guard;
use crate::payload::PayloadBuf;

/// A procedure offered by this session. Dropped, it is taken back.
pub struct Registration {
    pub(super) _guard: Guard,
    pub(super) invocations: mpsc::Receiver<Invoked>,
    /// Keeps the session while there is something to serve.
    pub(super) commands: mpsc::Sender<Command>,
}

impl Registration {
    /// The next call to the procedure; `None` when the session ended. Cancel safe. So many calls may wait for it as
    /// [`INVOCATIONS_MAX`](super::INVOCATIONS_MAX) says, others are refused.
    pub async fn next(&mut self) -> Option<Invocation> {
        let invoked = self.invocations.recv().await?;
        Some(Invocation {
            guard: invoked.guard,
            request: invoked.request,
            progress: invoked.progress,
            receive_progress: invoked.receive_progress,
            payload: invoked.payload,
            caller: invoked.caller,
            token: invoked.token,
            chunks: invoked.chunks,
            commands: self.commands.clone(),
        })
    }
}

/// One call to a procedure of ours. Dropped without an answer, its caller gets an error.
pub struct Invocation {
    guard: Guard,
    request: u64,
    /// More chunks follow.
    pub progress: bool,
    /// The caller takes progressive results.
    pub receive_progress: bool,
    /// The first chunk's payload.
    pub payload: PayloadBuf,
    /// The caller's session, if disclosed.
    pub caller: Option<u64>,
    /// The token that let the caller in, by its name; told to an agent's own session.
    pub token: Option<String>,
    chunks: mpsc::Receiver<Chunk>,
    commands: mpsc::Sender<Command>,
}

impl Invocation {
    /// What follows the first chunk; `None` when the session ended. Cancel safe. It waits for ever where nothing
    /// follows and nobody interrupts.
    pub async fn chunk(&mut self) -> Option<Chunk> {
        self.chunks.recv().await
    }

    /// A part of the answer; dropped where the caller takes no parts, as the protocol asks for.
    pub async fn answer_part(&mut self, payload: PayloadBuf) -> Result<(), CallError> {
        if !self.receive_progress {
            return Ok(());
        }
        self.send(payload, true).await
    }

    /// The final answer.
    pub async fn answer(mut self, payload: PayloadBuf) -> Result<(), CallError> {
        self.send(payload, false).await?;
        self.guard.done();
        Ok(())
    }

    /// The answer is an error.
    pub async fn fail(mut self, uri: &str, payload: PayloadBuf) -> Result<(), CallError> {
        let command = Command::Fail {
            request: self.request,
            uri: uri.to_owned(),
            payload,
        };
        self.commands.send(command).await.map_err(|_| CallError::Closed)?;
        self.guard.done();
        Ok(())
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
