//! The replicated store of Pipes: a Raft group whose state machine is a multi-version key-value store with etcd's
//! semantics. What it promises: an acknowledged write is on the disks of a majority; a linearizable read sees every
//! write acknowledged before it began; a watch tells every change once and in order; a lease ends by itself; its clock
//! (`clock.rs`), by which ages are counted, goes on whatever becomes of wall clocks and leaders.
//!
//! # What happens to a put
//!
//! 1. `client/mod.rs`: [`Store::put`] makes a transaction of it, encodes it once (`command.rs`), and takes its share
//!    of what may be in flight.
//! 2. `client/peers.rs` knows who leads. Is it another node, `client/forward.rs` sends it there with whatever else
//!    waits, as a message (`rpc/`) over the [`Transport`].
//! 3. `node/mod.rs` of the leader decodes it; `replica/mod.rs` proposes it to openraft, which gives it an index.
//! 4. `consensus/log_store.rs` appends it to `log/`: one frame, one sync for all that wait. Meanwhile
//!    `consensus/network.rs` sends it to the followers, who do the same.
//! 5. A majority has it on disk: it is committed. On every member `consensus/state_machine.rs` hands it to
//!    `state/apply.rs`, where `mvcc/` decides: it gets the store's next revision.
//! 6. From now on `state/memtable.rs` finds it, `state/sled.rs` stores it in time, and who watches is notified
//!    (`state/watch.rs`).
//! 7. The leader answers; `client/mod.rs` waits until this node's own replica has it too, and gives the revision.
//!
//! # What happens to a linearizable read
//!
//! 1. `client/mod.rs`: [`Store::range`] has the leader asked (`client/routing.rs`) for its read index.
//! 2. There `replica/mod.rs` makes sure that it still leads: openraft asks a quorum. It answers with what is committed.
//! 3. Back here `replica/mod.rs` waits until that is applied (`Progress` of `state/mod.rs`).
//! 4. `replica/reads.rs` gives it a thread that may wait; there `state/read.rs` asks the index in memory which records the
//!    range is (`mvcc/database.rs`, `mvcc/keyspace.rs`).
//! 5. `state/memtable.rs` fetches them: the newest from memory, the others from `state/sled.rs`, each out of its
//!    block (`state/block.rs`).
//!
//! A serializable read begins at 4. A node without a replica has the leader do 2 to 5, or any member 4 and 5.
//!
//! # What happens where replicas differ
//!
//! 1. `state/apply.rs` carries a digest on with each entry (`mvcc/digest.rs`); `state/digests.rs` keeps the last ones.
//! 2. `consensus/network.rs` sends the leader's newest with each append and heartbeat; `consensus/agreement.rs` compares.
//! 3. Where two differ, `replica/examine.rs` asks all voters whose is the majority's, on each member for itself.
//! 4. `node/place.rs` takes out the replica that is not of the majority; `node/sick.rs` keeps it out until it is reset.
//!
//! # What happens where the disk refuses something
//!
//! 1. `log/writer.rs` or `state/memtable.rs` fails for good; openraft ends.
//! 2. `node/place.rs` sees that, says why, goes on as a handle, and closes what is left of the replica.
//! 3. It opens the files anew after a rest, as after a kill; where `replica/damage.rs` refuses them, the node is sick.
//!
//! # Who uses whom
//!
//! ```text
//! node ─> client ─> replica ─> consensus ─┬─> log ─────────────────────────┐
//!                                         └─> state ─> snapshot ─┬─> rpc ──┼─> type_config ─> command ─> request,
//!                                                                └─> mvcc ─┘   format, options           error
//! ```
//!
//! A folder uses those to its right, never one to its left, and no two files use each other: `node` becomes a member
//! and spawns, `client` is what [`Store`] and [`Watch`] do, `replica` is openraft over this node's files with what a
//! leader does beside (`leader_tasks.rs`), `consensus` is openraft's three traits; `mvcc` is the store itself, and
//! pure.
//!
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
mod clock;
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
#[cfg(not(sim))]
mod room;
mod rpc;
#[cfg(sim)]
pub mod sim;
mod snapshot;
mod state;
mod task;
mod type_config;

// What lies on disk is reached through this name: a simulation has a disk of its own.
#[cfg(sim)]
use pipes_sim_seam::fs;
#[cfg(not(sim))]
use std::fs;

/// A limit that a simulation draws small, so that its edges are met often.
macro_rules! limit {
    ($name:literal, $earnest:expr) => {{
        #[cfg(not(sim))]
        let limit = $earnest;
        #[cfg(sim)]
        let limit = pipes_sim_seam::limit($name, $earnest as u64) as _;
        limit
    }};
}
use limit;

/// Whether a simulation wants this mistake to be made; never in earnest.
macro_rules! mutant {
    ($name:ident) => {{
        #[cfg(not(sim))]
        let is_wanted = false;
        #[cfg(sim)]
        let is_wanted = crate::sim::is_mutant(crate::sim::Mutant::$name);
        is_wanted
    }};
}
use mutant;

pub use client::{Store, Watch};
pub use error::{Error, Fault};
#[cfg(sim)]
pub use node::Held;
pub use node::{Node, id_in, set_aside};
pub use options::{Content, Member, Options, Status};
pub use request::{
    Compare, CompareOp, Consistency, Event, EventKind, KEY_VALUE_BYTES, KeyValue, OPERATIONS_MAX, Op,
    OpResult, REQUEST_BYTES_MAX, Range, RangeResult, TXN_KEYS_MAX, TXN_READ_BYTES_MAX, Target, Txn,
    TxnResult, prefix_end,
};
#[cfg(not(sim))]
pub use room::Room;
pub use rpc::{Class, Peer, Transport, TransportError};
