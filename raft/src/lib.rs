//! The replicated store of Pipes: a Raft group whose state machine is a multi-version key-value store.

mod error;
mod node;
mod request;
mod store;
mod transport;
mod watch;

pub use error::{Error, Fault};
pub use node::{Member, Node, Options, Status};
pub use request::{
    Compare, CompareOp, Consistency, Event, EventKind, KeyValue, OPERATIONS_MAX, Op, OpResult,
    REQUEST_BYTES_MAX, Range, RangeResult, Target, Txn, TxnResult, prefix_end,
};
pub use store::Store;
pub use transport::{Class, Peer, Transport, TransportError};
pub use watch::Watch;
