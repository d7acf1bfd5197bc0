//! Blocks: how records lie in sled, many to a value, in the order of their revisions.
//!
//! sled takes some 500 octets of memory and a new page for every value it is given, whatever its size; a block of
//! records costs it as much as one record would.
//!
//! ```text
//! record: revision (12 octets) | octets u32 | bincode      a block: records, one after another
//! ```
//!
//! A block is found by its first revision, and keeps that name when compaction takes records out of it.

use crate::format::u32_at;
use crate::mvcc::{Record, Revision};
use crate::type_config;

/// A block takes no further record when it has this many ...
pub(super) const RECORDS_MAX: usize = 64;
/// ... or this many octets: what is read and checked to find one record.
pub(super) const BYTES_MAX: usize = 16 * 1024;

const HEAD_LEN: usize = 16;

/// Appends a record to a block; gives its checksum.
pub(super) fn push(block: &mut Vec<u8>, revision: Revision, record: &Record) -> bincode::Result<u64> {
    let start = block.len();
    block.extend_from_slice(&revision.to_bytes());
    block.extend_from_slice(&[0; 4]);
    type_config::encode_into(record, block)?;
    let len = (block.len() - start - HEAD_LEN) as u32;
    block[start + 12..start + HEAD_LEN].copy_from_slice(&len.to_le_bytes());
    Ok(u64::from(crc32fast::hash(&block[start..])))
}

/// A record as it lies in its block.
pub(super) struct Encoded<'a> {
    pub(super) revision: Revision,
    /// Head and body.
    pub(super) bytes: &'a [u8],
}

impl Encoded<'_> {
    /// The record itself.
    pub(super) fn record(&self) -> Option<Record> {
        type_config::decode(self.bytes.get(HEAD_LEN..)?).ok()
    }

    /// What it adds to the sum by which lost records are missed.
    pub(super) fn checksum(&self) -> u64 {
        u64::from(crc32fast::hash(self.bytes))
    }
}

/// The records of a block; nothing in the place of one that is cut short.
pub(super) fn records(mut block: &[u8]) -> impl Iterator<Item = Option<Encoded<'_>>> {
    std::iter::from_fn(move || {
        if block.is_empty() {
            return None;
        }
        let Some((head, body_len)) = block
            .get(..HEAD_LEN)
            .map(|head| (head, u32_at(head, 12) as usize))
        else {
            block = &[];
            return Some(None);
        };
        let revision = Revision::from_bytes(&head[..12]);
        let bytes = block.get(..HEAD_LEN + body_len);
        let (Some(revision), Some(bytes)) = (revision, bytes) else {
            block = &[];
            return Some(None);
        };
        block = &block[bytes.len()..];
        Some(Some(Encoded { revision, bytes }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_back_as_they_were_pushed_and_a_cut_is_seen() {
        let mut block = Vec::new();
        let mut checksums = Vec::new();
        for main in 2..5 {
            let record = Record {
                key: vec![b'k'],
                value: vec![0; main as usize],
                create: 2,
                version: main - 1,
                lease: 0,
            };
            checksums.push(push(&mut block, Revision::first_of(main), &record).unwrap());
        }
        let encoded: Vec<_> = records(&block).map(Option::unwrap).collect();
        assert_eq!(
            encoded
                .iter()
                .map(|encoded| encoded.revision.main)
                .collect::<Vec<_>>(),
            [2, 3, 4]
        );
        assert_eq!(
            encoded.iter().map(Encoded::checksum).collect::<Vec<_>>(),
            checksums
        );
        assert_eq!(encoded[2].record().unwrap().value.len(), 4);
        assert!(records(&block[..block.len() - 1]).any(|encoded| encoded.is_none()));
        assert!(records(&block[..5]).any(|encoded| encoded.is_none()));
    }
}
