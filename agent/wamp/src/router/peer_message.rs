//! What two shards say to each other about a call. How it lies on the wire is the link's business.

use crate::message::{CancelMode, Payload};

/// One message about a call between two shards. `flow` is the call's number on the link, given by the caller's shard and
/// never used twice on it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Crossing<'a> {
    /// A call begins. The caller's shard has checked that it may.
    Call {
        /// The call's number.
        flow: u64,
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
        flow: u64,
        /// More chunks follow.
        progress: bool,
        /// Arguments.
        payload: Payload<'a>,
    },
    /// The callee's answer, or a part of it.
    Result {
        /// The call's number.
        flow: u64,
        /// More follow.
        progress: bool,
        /// Arguments.
        payload: Payload<'a>,
    },
    /// The call ends with an error.
    Error {
        /// The call's number.
        flow: u64,
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
        flow: u64,
        /// How.
        mode: CancelMode,
    },
}

impl Crossing<'_> {
    /// The call's number on the link.
    pub fn flow(&self) -> u64 {
        match *self {
            Crossing::Call { flow, .. }
            | Crossing::Chunk { flow, .. }
            | Crossing::Result { flow, .. }
            | Crossing::Error { flow, .. }
            | Crossing::Cancel { flow, .. } => flow,
        }
    }

    /// What it carries.
    pub fn payload(&self) -> Payload<'_> {
        match *self {
            Crossing::Call { payload, .. }
            | Crossing::Chunk { payload, .. }
            | Crossing::Result { payload, .. }
            | Crossing::Error { payload, .. } => payload,
            Crossing::Cancel { .. } => Payload::EMPTY,
        }
    }
}
