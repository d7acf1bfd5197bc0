//! The mesh: what agents say to one another, over mutual TLS.
//!
//! A connection has one class for all its life; the classes are apart so that a heartbeat never waits behind a gigabyte:
//!
//! | class | carries | lives |
//! |---|---|---|
//! | Raft | Raft's calls and forwarded writes, many at once, in pieces | on the store's runtime; dialled at the first call, kept |
//! | Router | one link between two agents' routers; the smaller id dials | taken apart after the handshake and given to the router |
//! | Bulk | blobs and large answers, one at a time | dialled on demand, closed when idle |
//!
//! ```text
//! TCP, bound to the agent's own address -> TLS 1.3, both certificates -> Hello -> HelloAnswer -> frames of the class
//! ```
//!
//! Always: (1) no octet of a class is read before both sides proved that they are of one cluster, and the listener that
//! the dialler is on the list of its nodes (`admitted.rs`), which ends with that; (2) nothing a peer sends
//! makes this agent hold more than a named limit; (3) what is wrong on a connection ends that connection alone.
//! Not here: what a Raft call means (`pipes_raft`), a link's frames (`router`), where a blob lies (`blob`).

pub mod admitted;
pub mod bulk;
pub mod class;
pub mod dial;
mod error;
pub mod frame;
pub mod handshake;
pub mod identity;
pub mod link;
pub mod listener;
pub mod pieces;
pub mod raft_rpc;
pub mod tls;

pub use admitted::Admitted;
pub use class::Class;
pub use dial::Dialer;
pub use error::Error;
pub use identity::Local;
