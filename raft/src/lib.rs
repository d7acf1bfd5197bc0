//! The replicated store of Pipes: a Raft group whose state machine is a multi-version key-value store with etcd's
//! semantics. What it promises: an acknowledged write is on the disks of a majority; a linearizable read sees every
//! write acknowledged before it began; a watch tells every change once and in order; a lease ends by itself.
//!
//! ```text
//!  Store, Watch ── core ─┬─ replica ── openraft ─┬─ log      segments of frames, one sync for many     (log/, format)
//!  (any node)            │  (this node's)        ├─ machine  state (sled), rebuilt from snapshot + log (state, disk)
//!                        │                       └─ network  Transport: the mesh carries bytes         (network, rpc)
//!                        └─ forward, ask: the leader's replica, over the Transport
//! ```
//!
//! `mvcc` is the store itself and pure; `duty` is what a leader does beside; `member` is how nodes come and go.
//! A node alone, which needs no transport:
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//! use pipes_raft::{Class, Error, Node, Options, Peer, Transport, TransportError};
//!
//! struct Nobody;
//!
//! #[async_trait::async_trait]
//! impl Transport for Nobody {
//!     async fn call(&self, _: &Peer, _: Class, _: Vec<u8>, _: Duration) -> Result<Vec<u8>, TransportError> {
//!         Err(TransportError::NotSent("there is nobody".into()))
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Error> {
//! let folder = tempfile::tempdir().unwrap();
//! let node = Node::open(Options::new(folder.path(), "example"), None, Arc::new(Nobody)).await?;
//! node.initialize("127.0.0.1:7071".parse().unwrap()).await?;
//! let store = node.store();
//! let revision = store.put("greeting", "hello", None).await?;
//! assert_eq!(store.get("greeting").await?.unwrap().mod_revision, revision);
//! let mut watch = store.watch("greeting", None, revision);
//! assert_eq!(watch.next().await?.kv.value, b"hello");
//! node.shutdown().await;
//! # Ok(())
//! # }
//! ```

mod client;
mod command;
mod consensus;
mod error;
mod format;
mod log;
mod mvcc;
mod node;
mod options;
mod replica;
mod request;
mod rpc;
mod snapshot;
mod state;
mod type_config;

pub use client::{Store, Watch};
pub use error::{Error, Fault};
pub use node::Node;
pub use options::{Member, Options, Status};
pub use request::{
    Compare, CompareOp, Consistency, Event, EventKind, KeyValue, OPERATIONS_MAX, Op, OpResult,
    REQUEST_BYTES_MAX, Range, RangeResult, Target, Txn, TxnResult, prefix_end,
};
pub use rpc::{Class, Peer, Transport, TransportError};
