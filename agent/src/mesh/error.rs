//! What can go wrong between two agents, and whose fault it is.

use std::net::SocketAddr;

/// Why a connection could not be made, or ended. Another try may succeed unless the variant says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing is reached at the address.
    #[error("cannot connect to {address}: {source}")]
    Unreachable {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(#[from] std::io::Error),
    /// The peer closed the connection, or its process ended.
    #[error("the peer is gone")]
    Gone,
    /// The peer takes longer than it may.
    #[error("no answer within {0:?}")]
    TimedOut(std::time::Duration),
    /// One side does not take the other's certificate; the operator's to mend.
    #[error("{0}")]
    Certificate(String),
    /// The peer turned us away; the operator's to mend, mostly.
    #[error("turned away: {0}")]
    Refused(String),
    /// We turned the peer away.
    #[error("{0}")]
    Foreign(String),
    /// The peer's frame is longer than any may be: a fault of the peer.
    #[error("a frame of {length} bytes, more than the {limit} that one may have")]
    TooLong {
        /// What its head says, in bytes.
        length: usize,
        /// What was allowed, in bytes.
        limit: usize,
    },
    /// The peer's frame does not decode: a fault of the peer.
    #[error("a frame that is none of this protocol: {0}")]
    Malformed(String),
}

impl Error {
    /// An I/O error of a TLS stream, with what TLS says of certificates in words.
    pub fn of_tls(error: std::io::Error) -> Error {
        let inner = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner {
            Some(tls) => Error::Certificate(pipes_membership::in_words(tls)),
            None if error.kind() == std::io::ErrorKind::UnexpectedEof => Error::Gone,
            None => Error::Broken(error),
        }
    }
}
