//! What a connection is for; it is apart from the others so that a heartbeat never waits behind a gigabyte.

use serde::{Deserialize, Serialize};

/// What a connection is for, all its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Class {
    /// Raft's calls and forwarded writes.
    Raft,
    /// A link between two agents' routers.
    Router,
    /// Blobs and large answers.
    Bulk,
}

impl Class {
    /// All of them, in order.
    pub const ALL: [Class; 3] = [Class::Raft, Class::Router, Class::Bulk];

    /// Its name in TLS (ALPN): the listener knows by it, before the handshake, on which runtime to go on.
    pub fn protocol(self) -> &'static [u8] {
        match self {
            Class::Raft => b"pipes-raft",
            Class::Router => b"pipes-router",
            Class::Bulk => b"pipes-bulk",
        }
    }
}
