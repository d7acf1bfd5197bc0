//! What two nodes say to each other about a call. How it lies on the wire is the link's business.

use crate::message::{CancelMode, Payload};

/// One message about a call between two nodes. `number` is the call's on the link, given by the caller's node and
/// never used twice on it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PeerMessage<'a> {
    /// A call begins. The caller's node has checked that it may.
    Call {
        /// The call's number.
        number: u64,
        /// Realm of the procedure.
        realm: &'a str,
        /// What is called.
        procedure: &'a str,
        /// More chunks follow.
        progress: bool,
        /// Progressive results are welcome.
        receive_progress: bool,
        /// The caller's session, if disclosed.
        caller: Option<u64>,
        /// What the callee may call meanwhile.
        grant: Option<&'a str>,
        /// Arguments.
        payload: Payload<'a>,
    },
    /// A further chunk of it.
    Chunk {
        /// The call's number.
        number: u64,
        /// More chunks follow.
        progress: bool,
        /// Arguments.
        payload: Payload<'a>,
    },
    /// The callee's answer, or a part of it.
    Result {
        /// The call's number.
        number: u64,
        /// More follow.
        progress: bool,
        /// Arguments.
        payload: Payload<'a>,
    },
    /// The call ends with an error.
    Error {
        /// The call's number.
        number: u64,
        /// Undecoded MessagePack.
        details: &'a [u8],
        /// URI of the error.
        error: &'a str,
        /// Arguments.
        payload: Payload<'a>,
    },
    /// The caller gives it up, or has left.
    Cancel {
        /// The call's number.
        number: u64,
        /// How.
        mode: CancelMode,
    },
}

impl PeerMessage<'_> {
    /// The call's number on the link.
    pub fn number(&self) -> u64 {
        match *self {
            PeerMessage::Call { number, .. }
            | PeerMessage::Chunk { number, .. }
            | PeerMessage::Result { number, .. }
            | PeerMessage::Error { number, .. }
            | PeerMessage::Cancel { number, .. } => number,
        }
    }

    /// What it carries.
    pub fn payload(&self) -> Payload<'_> {
        match *self {
            PeerMessage::Call { payload, .. }
            | PeerMessage::Chunk { payload, .. }
            | PeerMessage::Result { payload, .. }
            | PeerMessage::Error { payload, .. } => payload,
            PeerMessage::Cancel { .. } => Payload::EMPTY,
        }
    }
}
