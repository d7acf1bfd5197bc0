//! What one transaction may read, judged alike on every member.
//!
//! A transaction of a few octets can name a range of gigabytes, a hundred times over, and one that writes is done by every
//! member where heartbeats wait for it. So what it reads is counted while it is read, its comparisons and what its
//! deletions answer too, and before anything is written: the record that is one too many is the last that is read.
//!
//! An entry from before reads were bounded is done all the same, whatever it reads: others have done it. Nobody waits for
//! its answer any more, so that nothing is read for one.

use super::revision::Record;
use crate::{Error, KEY_VALUE_BYTES, TXN_KEYS_MAX, TXN_READ_BYTES_MAX};

/// What is left of what a transaction may read.
#[derive(Debug)]
pub(crate) struct Reads {
    bytes: usize,
    keys: usize,
    is_answered: bool,
}

impl Reads {
    /// A transaction's.
    pub(crate) fn of_txn() -> Reads {
        Reads {
            bytes: TXN_READ_BYTES_MAX,
            keys: TXN_KEYS_MAX,
            is_answered: true,
        }
    }

    /// A single range's, which is answered in as many parts as it takes.
    pub(crate) fn of_range() -> Reads {
        Reads {
            bytes: usize::MAX,
            keys: usize::MAX,
            is_answered: true,
        }
    }

    /// Those of an entry from before reads were bounded.
    pub(super) fn of_former_txn() -> Reads {
        Reads {
            is_answered: false,
            ..Reads::of_range()
        }
    }

    /// Whether anybody waits for what is read.
    pub(super) fn is_answered(&self) -> bool {
        self.is_answered
    }

    /// A key of the index is passed over.
    pub(super) fn key(&mut self) -> Result<(), Error> {
        self.keys = self.keys.checked_sub(1).ok_or(Error::ReadsTooMuch)?;
        Ok(())
    }

    /// A record was read.
    pub(crate) fn record(&mut self, record: &Record) -> Result<(), Error> {
        let bytes = KEY_VALUE_BYTES + record.key.len() + record.value.len();
        self.bytes = self.bytes.checked_sub(bytes).ok_or(Error::ReadsTooMuch)?;
        Ok(())
    }
}
