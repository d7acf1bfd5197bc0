//! A revision, and what was written at it.

use serde::{Deserialize, Serialize};

use crate::{Event, EventKind, KeyValue};

/// The place of one write: the transaction's revision, and which of its writes it is, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Revision {
    /// The transaction's revision.
    pub(crate) main: i64,
    /// The number of the write within it.
    pub(crate) sub: u32,
}

impl Revision {
    /// The first place of a transaction's revision.
    pub(crate) fn first_of(main: i64) -> Revision {
        Revision { main, sub: 0 }
    }

    /// Twelve bytes that sort as the revision does.
    pub(crate) fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&self.main.to_be_bytes());
        bytes[8..].copy_from_slice(&self.sub.to_be_bytes());
        bytes
    }

    /// Back from [`Revision::to_bytes`].
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Revision> {
        let main = i64::from_be_bytes(bytes.get(..8)?.try_into().ok()?);
        let sub = u32::from_be_bytes(bytes.get(8..12)?.try_into().ok()?);
        (bytes.len() == 12).then_some(Revision { main, sub })
    }
}

/// What one write wrote; it never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The key.
    #[serde(with = "serde_bytes")]
    pub(crate) key: Vec<u8>,
    /// The value; empty for a deletion.
    #[serde(with = "serde_bytes")]
    pub(crate) value: Vec<u8>,
    /// The revision that created the key; 0 for a deletion.
    pub(crate) create: i64,
    /// Its version; 0 for a deletion.
    pub(crate) version: i64,
    /// The lease it hangs on; 0 is none.
    pub(crate) lease: i64,
}

impl Record {
    /// A deletion of `key`.
    pub(crate) fn deletion(key: Vec<u8>) -> Record {
        Record {
            key,
            value: Vec::new(),
            create: 0,
            version: 0,
            lease: 0,
        }
    }

    /// Whether it is a deletion.
    pub(crate) fn is_deletion(&self) -> bool {
        self.version == 0
    }

    /// The key and value as clients see them, written at `revision`.
    pub(crate) fn into_key_value(self, revision: i64) -> KeyValue {
        KeyValue {
            key: self.key,
            value: self.value,
            create_revision: self.create,
            mod_revision: revision,
            version: self.version,
            lease: self.lease,
        }
    }

    /// The change as watches tell it.
    pub(crate) fn into_event(self, revision: i64, prev: Option<KeyValue>) -> Event {
        let kind = if self.is_deletion() {
            EventKind::Delete
        } else {
            EventKind::Put
        };
        Event {
            kind,
            kv: self.into_key_value(revision),
            prev,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_revisions_sort_as_revisions_do() {
        let revisions = [(1, 0), (1, 1), (2, 0), (255, 7), (256, 0), (i64::MAX, u32::MAX)]
            .map(|(main, sub)| Revision { main, sub });
        for pair in revisions.windows(2) {
            assert!(pair[0].to_bytes() < pair[1].to_bytes());
        }
        assert_eq!(Revision::from_bytes(&revisions[3].to_bytes()), Some(revisions[3]));
        assert_eq!(Revision::from_bytes(&[0; 11]), None);
    }
}
