//! What a session's task delivers to handles: answers to calls, invocations, and chunks of these.
//!
//! What its consumer has no room for is held, one item at most, and the connection is not read meanwhile.

use tokio::sync::mpsc;

use crate::client::error::CallError;
use crate::client::leaver::Guard;
use crate::payload::PayloadBuf;

/// Progressive results or chunks that wait for their consumer; with one more the connection is not read.
pub(super) const WAITING_MAX: usize = 64;
/// Calls that wait for one procedure; further ones are refused with `wamp.error.no_available_callee`. As many as an
/// agent may be asked at once when hundreds of runs begin together.
pub const INVOCATIONS_MAX: usize = 1024;

/// A part of a call's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// More follows.
    pub progress: bool,
    /// Its arguments.
    pub payload: PayloadBuf,
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

/// A call to a procedure of ours.
pub(super) struct Invoked {
    /// Dropped without an answer, its caller gets an error.
    pub(super) guard: Guard,
    pub(super) request: u64,
    pub(super) progress: bool,
    pub(super) receive_progress: bool,
    pub(super) payload: PayloadBuf,
    pub(super) caller: Option<u64>,
    pub(super) token: Option<String>,
    pub(super) chunks: mpsc::Receiver<Chunk>,
}

/// Where a call's answers go.
pub(super) type Answers = mpsc::Sender<Result<Answer, CallError>>;

/// An item that waits for room in its consumer's queue.
pub(super) enum Held {
    Answer(Answers, Result<Answer, CallError>),
    Chunk(mpsc::Sender<Chunk>, Chunk),
}

impl Held {
    /// Waits for room and delivers. A consumer that is gone needs nothing.
    pub(super) async fn deliver(slot: &mut Option<Held>) {
        match slot {
            Some(Held::Answer(queue, _)) => drop(queue.clone().reserve().await.map(drop)),
            Some(Held::Chunk(queue, _)) => drop(queue.clone().reserve().await.map(drop)),
            None => return std::future::pending().await,
        }
        *slot = slot.take().and_then(Held::try_now);
    }

    /// Delivers if there is room, or gives the item back.
    pub(super) fn try_now(self) -> Option<Held> {
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
        }
    }
}
