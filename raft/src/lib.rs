//! The replicated store of Pipes: a Raft group whose state machine is a multi-version key-value store.

mod command;
mod core;
mod disk;
mod duty;
mod error;
mod format;
mod forward;
mod group;
mod identity;
mod log;
mod machine;
mod member;
mod mvcc;
mod network;
mod node;
mod receive;
mod replica;
mod request;
mod rpc;
mod snapshot;
mod state;
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
