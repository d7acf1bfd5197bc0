//! What openraft is told of this group: its ids, members, entries and answers, and how they become bytes.

use bincode::Options as _;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Member;
use crate::command::{ApplyResult, Proposal};

openraft::declare_raft_types!(
    /// The group's configuration.
    pub(crate) TypeConfig:
        D = Proposal,
        R = ApplyResult,
        NodeId = u64,
        Node = Member,
        AsyncRuntime = Runtime,
);

/// What openraft runs on.
#[cfg(not(sim))]
pub(crate) type Runtime = openraft::impls::TokioRuntime;
#[cfg(sim)]
pub(crate) use crate::sim::Runtime;

/// A place in the log.
pub(crate) type LogId = openraft::alias::LogIdOf<TypeConfig>;
/// An entry of the log.
pub(crate) type Entry = openraft::alias::EntryOf<TypeConfig>;
/// A vote.
pub(crate) type Vote = openraft::alias::VoteOf<TypeConfig>;
/// The members as some entry made them.
pub(crate) type Membership = openraft::alias::StoredMembershipOf<TypeConfig>;
/// What a snapshot covers.
pub(crate) type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;

/// Most bytes of one encoded value, from the disk or a peer: a full batch of entries (at most 4 MiB, or one entry of
/// 2 MiB) with room to spare. More is taken for damage.
pub(crate) const ENCODED_BYTES_MAX: u64 = 16 * 1024 * 1024;

fn codec() -> impl bincode::Options {
    bincode::DefaultOptions::new()
        .with_fixint_encoding()
        .with_limit(ENCODED_BYTES_MAX)
}

/// Appends the bytes of `value` to `out`.
pub(crate) fn encode_into<T: Serialize>(value: &T, out: &mut Vec<u8>) -> bincode::Result<()> {
    codec().serialize_into(out, value)
}

/// The value in `bytes`, all of which must be used.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> bincode::Result<T> {
    codec().deserialize(bytes)
}
