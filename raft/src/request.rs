//! What is asked of the store and what it answers: ranges, transactions, events.
//!
//! These are etcd's requests in Rust's words. They travel in bincode between nodes and in the log, and as MessagePack
//! through the agent's internal procedures, so names of fields and order of variants are part of the protocol:
//! an enum only ever grows at its end.
//!
//! A range is `[key, end)`; without `end` it is the one key; the end `\0` means all keys from `key` on.

use serde::{Deserialize, Serialize};

/// Most operations a transaction may hold, its branches together, as in etcd: more is `too many operations`.
pub const OPERATIONS_MAX: usize = 128;
/// Most bytes a request may have, as in etcd: one log entry must never stall the disk or a link for long.
pub const REQUEST_BYTES_MAX: usize = 1_572_864;
/// Most octets of keys and values that a transaction may read, each key with [`KEY_VALUE_BYTES`] beside; its comparisons
/// and what its deletions answer count too. Half of what a message may be, between nodes and to a client; and what every
/// member holds at most of one that writes, while it applies it. Of more, nothing is done. A [`Range`] by itself has no
/// such bound.
pub const TXN_READ_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Most keys that the comparisons and ranges of a transaction may pass over, those deleted and not yet compacted too, and
/// those that are only counted: some tenths of a second, in which no heartbeat is answered.
pub const TXN_KEYS_MAX: usize = 1_000_000;
/// What a key with its value counts for beside their octets: its numbers, and their names in a client's message.
pub const KEY_VALUE_BYTES: usize = 128;

/// Reads keys, now or at an older revision.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The first key.
    #[serde(with = "serde_bytes")]
    pub key: Vec<u8>,
    /// The key after the last one; `None` reads `key` alone, `\0` all from `key` on.
    #[serde(with = "serde_bytes", default)]
    pub end: Option<Vec<u8>>,
    /// The revision to read at; 0 is now.
    #[serde(default)]
    pub revision: i64,
    /// Most keys to answer; 0 is all. `more` and `count` are as if there were no limit.
    #[serde(default)]
    pub limit: usize,
    /// Leaves the values out.
    #[serde(default)]
    pub keys_only: bool,
    /// Answers `count` alone.
    #[serde(default)]
    pub count_only: bool,
}

impl Range {
    /// One key, now.
    pub fn key(key: impl Into<Vec<u8>>) -> Range {
        Range {
            key: key.into(),
            ..Range::default()
        }
    }

    /// All keys that begin with `prefix`, now.
    pub fn prefix(prefix: impl Into<Vec<u8>>) -> Range {
        let key = prefix.into();
        let end = Some(prefix_end(&key));
        Range {
            key,
            end,
            ..Range::default()
        }
    }
}

/// The end of the range of all keys that begin with `prefix`: its last byte below 255 raised, or `\0` for "all".
pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    match prefix.iter().rposition(|byte| *byte < u8::MAX) {
        Some(at) => {
            let mut end = prefix[..=at].to_vec();
            end[at] += 1;
            end
        }
        None => vec![0],
    }
}

/// Whether a read must see every write that was acknowledged before it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Consistency {
    /// It must: the leader confirms itself with a quorum first.
    Linearizable,
    /// It need not: what this node has applied will do.
    Serializable,
}

/// A key with its value and its history in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyValue {
    /// The key.
    #[serde(with = "serde_bytes")]
    pub key: Vec<u8>,
    /// The value; empty where only keys were asked for.
    #[serde(with = "serde_bytes")]
    pub value: Vec<u8>,
    /// The revision that created it, after its last deletion.
    pub create_revision: i64,
    /// The revision that wrote this value.
    pub mod_revision: i64,
    /// How often it was written since its creation; 1 at the creation.
    pub version: i64,
    /// The lease it hangs on; 0 is none.
    pub lease: i64,
}

impl KeyValue {
    /// What it counts for in an answer.
    pub(crate) fn size(&self) -> usize {
        KEY_VALUE_BYTES + self.key.len() + self.value.len()
    }
}

/// The answer to a [`Range`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeResult {
    /// The store's revision when it was read.
    pub revision: i64,
    /// The keys, in order.
    pub kvs: Vec<KeyValue>,
    /// Whether the limit cut some off.
    pub more: bool,
    /// How many keys there are, without the limit.
    pub count: usize,
}

/// What a comparison looks at, and what it compares with. A key that is not there has 0 in every number; a
/// comparison of its value is false, whatever the operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// The value.
    Value(#[serde(with = "serde_bytes")] Vec<u8>),
    /// How often it was written since its creation.
    Version(i64),
    /// The revision that created it.
    Create(i64),
    /// The revision that wrote it last.
    Mod(i64),
    /// The lease it hangs on.
    Lease(i64),
}

/// How a comparison compares: the key's own on the left, the given on the right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CompareOp {
    /// Both are equal.
    Equal,
    /// They differ.
    NotEqual,
    /// The key's own is greater.
    Greater,
    /// The key's own is less.
    Less,
}

/// A condition of a transaction; with `end` it must hold for every key of the range.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compare {
    /// The first key.
    #[serde(with = "serde_bytes")]
    pub key: Vec<u8>,
    /// The key after the last one; `None` is `key` alone.
    #[serde(with = "serde_bytes", default)]
    pub end: Option<Vec<u8>>,
    /// What is compared with what.
    pub target: Target,
    /// How.
    pub op: CompareOp,
}

impl Compare {
    /// A condition on one key.
    pub fn key(key: impl Into<Vec<u8>>, op: CompareOp, target: Target) -> Compare {
        Compare {
            key: key.into(),
            end: None,
            target,
            op,
        }
    }

    /// The key exists.
    pub fn exists(key: impl Into<Vec<u8>>) -> Compare {
        Compare::key(key, CompareOp::Greater, Target::Create(0))
    }

    /// The key does not exist.
    pub fn absent(key: impl Into<Vec<u8>>) -> Compare {
        Compare::key(key, CompareOp::Equal, Target::Create(0))
    }
}

/// One operation of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Writes a key.
    Put {
        /// The key.
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
        /// Its new value.
        #[serde(with = "serde_bytes")]
        value: Vec<u8>,
        /// The lease it shall hang on; it must exist.
        #[serde(default)]
        lease: Option<i64>,
    },
    /// Deletes a key or a range of keys.
    Delete {
        /// The first key.
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
        /// The key after the last one; `None` is `key` alone.
        #[serde(with = "serde_bytes", default)]
        end: Option<Vec<u8>>,
        /// Whether to answer what was deleted.
        #[serde(default)]
        prev: bool,
    },
    /// Reads, seeing what the transaction wrote before it.
    Range(Range),
    /// A transaction within, with the same revision.
    Txn(Txn),
}

impl Op {
    /// Writes a key without a lease.
    pub fn put(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Op {
        Op::Put {
            key: key.into(),
            value: value.into(),
            lease: None,
        }
    }

    /// Deletes one key.
    pub fn delete(key: impl Into<Vec<u8>>) -> Op {
        Op::Delete {
            key: key.into(),
            end: None,
            prev: false,
        }
    }
}

/// A transaction: where all comparisons hold, `success` is done, else `failure`; all of it in one revision.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Txn {
    /// The conditions; none holds always.
    #[serde(default)]
    pub compares: Vec<Compare>,
    /// What is done where they hold.
    #[serde(default)]
    pub success: Vec<Op>,
    /// What is done where one does not.
    #[serde(default)]
    pub failure: Vec<Op>,
}

/// The answer to one operation, in the order of the operations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum OpResult {
    /// A put was done.
    Put,
    /// A deletion was done.
    Delete {
        /// How many keys were deleted.
        deleted: usize,
        /// What they were, where that was asked for.
        prev: Vec<KeyValue>,
    },
    /// What was read.
    Range(RangeResult),
    /// What the inner transaction did.
    Txn(TxnResult),
}

/// The answer to a [`Txn`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxnResult {
    /// Whether all comparisons held.
    pub succeeded: bool,
    /// The store's revision after it; its own if it wrote anything.
    pub revision: i64,
    /// What the operations of the branch taken answered.
    pub responses: Vec<OpResult>,
}

impl TxnResult {
    /// What its keys and values count for.
    pub(crate) fn size(&self) -> usize {
        let of = |kvs: &[KeyValue]| kvs.iter().map(KeyValue::size).sum();
        let sizes = self.responses.iter().map(|response| match response {
            OpResult::Put => 0,
            OpResult::Delete { prev, .. } => of(prev),
            OpResult::Range(found) => of(&found.kvs),
            OpResult::Txn(inner) => inner.size(),
        });
        sizes.sum()
    }
}

/// What happened to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// It was written.
    Put,
    /// It was deleted.
    Delete,
}

/// A change of a key, as a watch tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The key as it is now; of a deleted one, only the key and the revision of its deletion (`mod_revision`).
    pub kv: KeyValue,
    /// The key as it was, where it was there and is not compacted.
    pub prev: Option<KeyValue>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_where_its_last_byte_is_raised() {
        assert_eq!(prefix_end(b"ab"), b"ac");
        assert_eq!(prefix_end(&[b'a', 255]), b"b");
        assert_eq!(prefix_end(&[255, 255]), [0]);
        assert_eq!(prefix_end(b""), [0]);
    }
}
