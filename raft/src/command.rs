//! What goes through the log, and what applying it answers.
//!
//! A command is encoded once, where it is proposed, and stays bytes through the log, the links and the disk of every
//! member until it is applied: [`Proposal`]. The leader writes the time of the store's clock into it (`clock.rs`).
//!
//! ```text
//! layout 2: 2 | milliseconds u64 | bincode          layout 1, from before there was a clock: 1 | bincode
//! ```

use std::fmt;
use std::sync::Arc;

use bincode::Options as _;
use serde::{Deserialize, Serialize};

use crate::{Error, Txn, TxnResult};

/// The version of the layout of a [`Proposal`], in front of each.
const COMMAND_VERSION: u8 = 2;
/// The one whose commands have no time.
const VERSION_WITHOUT_TIME: u8 = 1;
/// Where the time ends.
const HEAD_LEN: usize = 9;

/// Most bytes a command may have when it is read back: [`crate::REQUEST_BYTES_MAX`] and room for the framing of 128
/// operations.
const COMMAND_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// A change of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Command {
    /// A transaction of a log from before a transaction's reads were bounded: it is done whatever it reads. No more is
    /// proposed.
    FormerTxn(Txn),
    /// A new lease.
    Grant {
        /// Its id; 0 lets the store choose.
        id: i64,
        /// How long it lives unrenewed, in milliseconds.
        ttl_ms: u64,
    },
    /// The end of a lease, by its owner.
    Revoke {
        /// Its id.
        id: i64,
    },
    /// The end of leases that were not renewed, by the leader; those that are gone already are passed over.
    Expire {
        /// Their ids.
        ids: Vec<i64>,
    },
    /// Forgets the history before a revision.
    Compact {
        /// The revision.
        revision: i64,
    },
    /// Makes a node id: the index of this very entry.
    Allocate {
        /// The name of the node it is for; for whoever reads the log.
        name: String,
    },
    /// Begins a chain of digests (`mvcc/digest.rs`): in a store that has none yet, or another one.
    BeginChain {
        /// Its number.
        chain: u32,
    },
    /// A transaction, refused by every member where it reads too much (`mvcc/reads.rs`).
    Txn(Txn),
}

/// What applying an entry answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ApplyResult {
    /// The entry was none of ours.
    Nothing,
    /// A transaction was done.
    Txn(TxnResult),
    /// A lease was made, an id was given.
    Id(i64),
    /// It was done; the store's revision after it.
    Done(i64),
    /// It was refused, by every member alike.
    Failed(Error),
}

impl ApplyResult {
    /// What the keys and values in it count for.
    pub(crate) fn size(&self) -> usize {
        match self {
            ApplyResult::Txn(result) => result.size(),
            ApplyResult::Nothing | ApplyResult::Id(_) | ApplyResult::Done(_) | ApplyResult::Failed(_) => 0,
        }
    }
}

/// An encoded [`Command`].
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Proposal(Arc<[u8]>);

impl Proposal {
    /// Encodes a command.
    pub(crate) fn new(command: &Command) -> Result<Proposal, Error> {
        let mut bytes = vec![0; HEAD_LEN];
        bytes[0] = COMMAND_VERSION;
        codec()
            .serialize_into(&mut bytes, command)
            .map_err(|_| Error::RequestTooLarge)?;
        if bytes.len() > crate::REQUEST_BYTES_MAX {
            return Err(Error::RequestTooLarge);
        }
        Ok(Proposal(bytes.into()))
    }

    /// Takes bytes as they are.
    #[cfg(test)]
    pub(crate) fn from_bytes(bytes: &[u8]) -> Proposal {
        Proposal(bytes.into())
    }

    /// The same, proposed at this time of the store's clock.
    pub(crate) fn at(mut self, now_ms: u64) -> Proposal {
        if self.has_time() {
            Arc::make_mut(&mut self.0)[1..HEAD_LEN].copy_from_slice(&now_ms.to_le_bytes());
        }
        self
    }

    /// When it was proposed, in milliseconds of the store's clock; 0 for one from before there was a clock.
    pub(crate) fn time_ms(&self) -> u64 {
        let time = self.0.get(1..HEAD_LEN).filter(|_| self.has_time());
        let octets = time.and_then(|octets| octets.try_into().ok());
        octets.map_or(0, u64::from_le_bytes)
    }

    fn has_time(&self) -> bool {
        self.0.first() == Some(&COMMAND_VERSION) && self.0.len() >= HEAD_LEN
    }

    /// The command in it.
    pub(crate) fn command(&self) -> Result<Command, Error> {
        let corrupt = |why: String| Error::Corrupt(format!("a log entry cannot be read: {why}"));
        let body = match self.0.first() {
            Some(&VERSION_WITHOUT_TIME) => self.0.get(1..),
            Some(&COMMAND_VERSION) => self.0.get(HEAD_LEN..),
            Some(version) => {
                let why = format!("it has layout {version}, newer than this program");
                return Err(corrupt(why));
            }
            None => None,
        };
        let body = body.ok_or_else(|| corrupt("it is cut short".into()))?;
        codec()
            .deserialize(body)
            .map_err(|error| corrupt(error.to_string()))
    }

    /// Its bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

fn codec() -> impl bincode::Options {
    bincode::DefaultOptions::new()
        .with_fixint_encoding()
        .with_limit(COMMAND_BYTES_MAX)
}

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "command of {} bytes", self.0.len())
    }
}

impl Serialize for Proposal {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Proposal {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Proposal, D::Error> {
        let bytes = serde_bytes::ByteBuf::deserialize(deserializer)?;
        Ok(Proposal(bytes.into_vec().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Op;

    #[test]
    fn a_command_is_read_back_as_it_was_proposed() {
        let txn = Txn {
            success: vec![Op::put("a", "1")],
            ..Txn::default()
        };
        let proposal = Proposal::new(&Command::Txn(txn.clone())).unwrap();
        assert_eq!(proposal.command().unwrap(), Command::Txn(txn));
    }

    #[test]
    fn the_leader_writes_the_time_and_nothing_else() {
        let command = Command::Revoke { id: 7 };
        let proposal = Proposal::new(&command).unwrap();
        let kept = proposal.clone();
        let dated = proposal.at(1234);
        assert_eq!((dated.time_ms(), kept.time_ms()), (1234, 0));
        assert_eq!(dated.command().unwrap(), command);
        assert_eq!(dated.at(1235).command().unwrap(), command);
    }

    #[test]
    fn a_command_from_before_there_was_a_clock_is_read_without_a_time() {
        let command = Command::Revoke { id: 7 };
        let mut bytes = vec![VERSION_WITHOUT_TIME];
        codec().serialize_into(&mut bytes, &command).unwrap();
        let proposal = Proposal::from_bytes(&bytes).at(99);
        assert_eq!((proposal.time_ms(), proposal.bytes()), (0, bytes.as_slice()));
        assert_eq!(proposal.command().unwrap(), command);
    }

    #[test]
    fn a_command_of_a_newer_layout_is_refused_and_not_misread() {
        let error = Proposal::from_bytes(&[9, 0, 0, 0, 0]).command().unwrap_err();
        assert!(error.to_string().contains("layout 9"), "{error}");
        assert!(Proposal::from_bytes(&[]).command().is_err());
        assert!(Proposal::from_bytes(&[COMMAND_VERSION, 1, 2]).command().is_err());
    }

    #[test]
    fn a_command_that_is_too_large_is_refused_before_it_is_proposed() {
        let txn = Txn {
            success: vec![Op::put("a", vec![0; 2_000_000])],
            ..Txn::default()
        };
        assert_eq!(
            Proposal::new(&Command::Txn(txn)).unwrap_err(),
            Error::RequestTooLarge
        );
    }
}
