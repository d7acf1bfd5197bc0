//! A call under way: its answers as they come, chunks of its own, giving it up.

use tokio::sync::mpsc;

use crate::client::session::CallError;
use crate::client::task::{Command, Leaver, Left};
use crate::message::CancelMode;
use crate::payload::PayloadBuf;

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

/// A part of a call's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// More follows.
    pub progress: bool,
    /// Its arguments.
    pub payload: PayloadBuf,
}

/// A call under way. Dropped before its end, it is cancelled.
pub struct Call {
    pub(super) request: u64,
    pub(super) uri: String,
    pub(super) options: CallOptions,
    pub(super) answers: mpsc::Receiver<Result<Answer, CallError>>,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) leaver: Leaver,
    pub(super) done: bool,
}

impl Call {
    /// The next part of the answer; after the last one `Err(Closed)`. Cancel safe.
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

impl Drop for Call {
    fn drop(&mut self) {
        if !self.done {
            self.leaver.leave(Left::Call(self.request));
        }
    }
}
