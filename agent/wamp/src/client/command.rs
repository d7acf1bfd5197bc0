//! What handles ask of a session's task.

use tokio::sync::{mpsc, oneshot};

use crate::client::delivery::{Answers, Invoked};
use crate::client::error::CallError;
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

/// One request of a handle.
pub(super) enum Command {
    Call {
        uri: String,
        payload: PayloadBuf,
        options: CallOptions,
        answers: Answers,
        number: oneshot::Sender<Result<u64, CallError>>,
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
        invocations: mpsc::Sender<Invoked>,
        done: oneshot::Sender<Result<u64, CallError>>,
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
    Stop,
}
