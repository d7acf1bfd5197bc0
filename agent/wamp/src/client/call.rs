//! A call under way: its answers as they come, chunks of its own, giving it up.

use tokio::sync::mpsc;

use crate::client::command::{CallOptions, Command};
use crate::client::delivery::Answer;
use crate::client::error::CallError;
use crate::client::leaver::Guard;
use crate::message::CancelMode;
use crate::payload::PayloadBuf;

/// A call under way. Dropped before its end, it is cancelled.
pub struct Call {
    pub(super) guard: Guard,
    pub(super) request: u64,
    pub(super) uri: String,
    pub(super) options: CallOptions,
    pub(super) answers: mpsc::Receiver<Result<Answer, CallError>>,
    pub(super) commands: mpsc::Sender<Command>,
}

impl Call {
    /// The next part of the answer; after the last one `Err(Closed)`. Cancel safe.
    pub async fn next(&mut self) -> Result<Answer, CallError> {
        let answer = self.answers.recv().await.unwrap_or(Err(CallError::Closed));
        if !matches!(&answer, Ok(Answer { progress: true, .. })) {
            self.guard.done();
        }
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

    /// Sends a further chunk of a progressive call; waits while the connection takes no more. A chunk for a call that is
    /// over is dropped.
    pub async fn send(&mut self, payload: PayloadBuf, progress: bool) -> Result<(), CallError> {
        // After the first chunk no option but `progress` counts.
        let options = CallOptions {
            progress,
            receive_progress: self.options.receive_progress,
            ..CallOptions::default()
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
