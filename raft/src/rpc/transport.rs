//! The seam to the mesh: how a node's requests reach its peers.
//!
//! The store hands over whole requests as bytes and takes whole answers as bytes; what is in them is known here
//! alone (`message.rs`). The other side gives what arrives to [`crate::Node::serve`].

use std::net::SocketAddr;
use std::time::Duration;

use crate::Member;

/// Whom a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its node id; 0 where only its address is known.
    pub id: u64,
    /// Where its mesh listens.
    pub address: SocketAddr,
}

impl Peer {
    /// The peer that a member is; nothing where its address cannot be read.
    pub(crate) fn of(id: u64, member: &Member) -> Option<Peer> {
        let address = member.address.parse().ok()?;
        Some(Peer { id, address })
    }
}

/// Which of the connections to a peer a request takes, so that the large never holds up the urgent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Raft's own: heartbeats, votes, entries. Small and urgent.
    Raft,
    /// Clients' requests that another node answers.
    Forward,
    /// Pieces of snapshots.
    Bulk,
}

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// It surely did not reach the peer: it may be sent again.
    #[error("not sent: {0}")]
    NotSent(String),
    /// It may have reached the peer.
    #[error("no answer: {0}")]
    Unknown(String),
}

/// Carries requests to peers.
#[async_trait::async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Sends `request` to `to` and gives its answer, or says within `timeout` that there is none.
    async fn call(
        &self,
        to: &Peer,
        class: Class,
        request: Vec<u8>,
        timeout: Duration,
    ) -> Result<Vec<u8>, TransportError>;
}
