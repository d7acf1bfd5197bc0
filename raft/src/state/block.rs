//! Chunks: how records lie in sled, many to a value, in the order of their revisions.
//!
//! sled takes some 500 octets of memory and a new page for every value it is given, whatever its size; a chunk of
//! records costs it as much as one record would.
//!
//! ```text
//! record: revision (12 octets) | octets u32 | bincode      a chunk: records, one after another
//! ```
//!
//! A chunk is found by its first revision, and keeps that name when compaction takes records out of it.

use crate::format::u32_at;
use crate::mvcc::{Record, Revision};
use crate::type_config;

/// A chunk takes no further record when it has this many ...
pub(crate) const RECORDS_MAX: usize = 64;
/// ... or this many octets: what is read and checked to find one record.
pub(crate) const BYTES_MAX: usize = 16 * 1024;

const HEAD_LEN: usize = 16;

/// Appends a record to a chunk; gives its weight.
pub(crate) fn push(chunk: &mut Vec<u8>, revision: Revision, record: &Record) -> bincode::Result<u64> {
    let start = chunk.len();
    chunk.extend_from_slice(&revision.to_bytes());
    chunk.extend_from_slice(&[0; 4]);
    type_config::encode_into(record, chunk)?;
    let len = (chunk.len() - start - HEAD_LEN) as u32;
    chunk[start + 12..start + HEAD_LEN].copy_from_slice(&len.to_le_bytes());
    Ok(u64::from(crc32fast::hash(&chunk[start..])))
}

/// A record as it lies in its chunk.
pub(crate) struct Lying<'a> {
    pub(crate) revision: Revision,
    /// Head and body.
    pub(crate) bytes: &'a [u8],
}

impl Lying<'_> {
    /// The record itself.
    pub(crate) fn record(&self) -> Option<Record> {
        type_config::decode(self.bytes.get(HEAD_LEN..)?).ok()
    }

    /// What it adds to the sum by which lost records are missed.
    pub(crate) fn weight(&self) -> u64 {
        u64::from(crc32fast::hash(self.bytes))
    }
}

/// The records of a chunk; nothing in the place of one that is cut short.
pub(crate) fn records(mut chunk: &[u8]) -> impl Iterator<Item = Option<Lying<'_>>> {
    std::iter::from_fn(move || {
        if chunk.is_empty() {
            return None;
        }
        let Some((head, body_len)) = chunk
            .get(..HEAD_LEN)
            .map(|head| (head, u32_at(head, 12) as usize))
        else {
            chunk = &[];
            return Some(None);
        };
        let revision = Revision::from_bytes(&head[..12]);
        let bytes = chunk.get(..HEAD_LEN + body_len);
        let (Some(revision), Some(bytes)) = (revision, bytes) else {
            chunk = &[];
            return Some(None);
        };
        chunk = &chunk[bytes.len()..];
        Some(Some(Lying { revision, bytes }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_back_as_they_were_pushed_and_a_cut_is_seen() {
        let mut chunk = Vec::new();
        let mut weights = Vec::new();
        for main in 2..5 {
            let record = Record {
                key: vec![b'k'],
                value: vec![0; main as usize],
                create: 2,
                version: main - 1,
                lease: 0,
            };
            weights.push(push(&mut chunk, Revision::first_of(main), &record).unwrap());
        }
        let lying: Vec<_> = records(&chunk).map(Option::unwrap).collect();
        assert_eq!(
            lying.iter().map(|lying| lying.revision.main).collect::<Vec<_>>(),
            [2, 3, 4]
        );
        assert_eq!(lying.iter().map(Lying::weight).collect::<Vec<_>>(), weights);
        assert_eq!(lying[2].record().unwrap().value.len(), 4);
        assert!(records(&chunk[..chunk.len() - 1]).any(|lying| lying.is_none()));
        assert!(records(&chunk[..5]).any(|lying| lying.is_none()));
    }
}
