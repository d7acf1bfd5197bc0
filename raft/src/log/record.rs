//! What a frame of the log holds: records, one after another.
//!
//! ```text
//! kind u8 | octets u32 | crc u32 | body
//! ```
//!
//! Each record has a checksum of its own beside its frame's, so that one entry can be read without its frame.

use crate::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::format::u32_at;
use crate::type_config::{self, Entry, LogId, Vote};

/// Octets before a record's body.
pub(super) const RECORD_HEAD_LEN: usize = 9;

/// What the log remembers.
#[derive(Debug, Clone)]
pub(super) enum Record {
    /// An entry was appended.
    Entry(Entry),
    /// A vote was given.
    Vote(Vote),
    /// Entries up to here are known to be committed.
    Committed(LogId),
    /// Entries after this one, or all, were dropped.
    Truncate(Option<LogId>),
    /// Entries up to this one were dropped.
    Purge(LogId),
}

const ENTRY: u8 = 1;
const VOTE: u8 = 2;
const COMMITTED: u8 = 3;
const TRUNCATE: u8 = 4;
const PURGE: u8 = 5;

impl Record {
    /// Appends an entry's record; gives where its body begins in `out` and how long it is.
    pub(super) fn write_entry(entry: &Entry, out: &mut Vec<u8>) -> std::io::Result<(usize, usize)> {
        write(ENTRY, entry, out)
    }

    /// Appends the record to `out`.
    pub(super) fn write(&self, out: &mut Vec<u8>) -> std::io::Result<()> {
        match self {
            Record::Entry(entry) => write(ENTRY, entry, out)?,
            Record::Vote(vote) => write(VOTE, vote, out)?,
            Record::Committed(log_id) => write(COMMITTED, log_id, out)?,
            Record::Truncate(log_id) => write(TRUNCATE, log_id, out)?,
            Record::Purge(log_id) => write(PURGE, log_id, out)?,
        };
        Ok(())
    }

    /// Reads the record at `at` of a frame's body; gives it, where its own body lies, and where the next begins.
    pub(super) fn read(bytes: &[u8], at: usize) -> Result<(Record, std::ops::Range<usize>), String> {
        let head = bytes
            .get(at..at + RECORD_HEAD_LEN)
            .ok_or("a record is cut short")?;
        let start = at + RECORD_HEAD_LEN;
        let end = start + u32_at(head, 1) as usize;
        let body = bytes.get(start..end).ok_or("a record is cut short")?;
        if crc32fast::hash(body) != u32_at(head, 5) {
            return Err("a record does not check".into());
        }
        let unreadable = |error: bincode::Error| format!("a record cannot be read: {error}");
        let record = match head[0] {
            ENTRY => Record::Entry(type_config::decode(body).map_err(unreadable)?),
            VOTE => Record::Vote(type_config::decode(body).map_err(unreadable)?),
            COMMITTED => Record::Committed(type_config::decode(body).map_err(unreadable)?),
            TRUNCATE => Record::Truncate(type_config::decode(body).map_err(unreadable)?),
            PURGE => Record::Purge(type_config::decode(body).map_err(unreadable)?),
            kind => return Err(format!("a record of the unknown kind {kind}")),
        };
        Ok((record, start..end))
    }
}

fn write<T: serde::Serialize>(kind: u8, value: &T, out: &mut Vec<u8>) -> std::io::Result<(usize, usize)> {
    let head = out.len();
    out.resize(head + RECORD_HEAD_LEN, 0);
    let start = out.len();
    type_config::encode_into(value, out).map_err(std::io::Error::other)?;
    let len = out.len() - start;
    let crc = crc32fast::hash(&out[start..]);
    out[head] = kind;
    out[head + 1..head + 5].copy_from_slice(&(len as u32).to_le_bytes());
    out[head + 5..head + 9].copy_from_slice(&crc.to_le_bytes());
    Ok((start, len))
}

/// Reads the entry whose record's body lies at `offset` of the file.
pub(crate) fn read_entry(file: &File, offset: u32, len: u32) -> std::io::Result<Entry> {
    let mut bytes = vec![0; RECORD_HEAD_LEN + len as usize];
    file.read_exact_at(&mut bytes, u64::from(offset) - RECORD_HEAD_LEN as u64)?;
    match Record::read(&bytes, 0) {
        Ok((Record::Entry(entry), _)) => Ok(entry),
        Ok(_) => Err(std::io::Error::other(
            "damaged log: no entry lies where one was written",
        )),
        Err(why) => Err(std::io::Error::other(format!("damaged log: {why}"))),
    }
}

/// The file of segment `number`.
pub(super) fn path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:08}.seg"))
}

/// The numbers of the segments in `dir`, in order.
pub(super) fn numbers(dir: &Path) -> Result<Vec<u32>, Error> {
    let io_error = |error: std::io::Error| crate::format::disk(dir, &error);
    let mut numbers = Vec::new();
    for file in crate::fs::read_dir(dir).map_err(io_error)? {
        let name = file.map_err(io_error)?.file_name();
        numbers.extend(
            name.to_str()
                .and_then(|name| name.strip_suffix(".seg")?.parse::<u32>().ok()),
        );
    }
    numbers.sort_unstable();
    Ok(numbers)
}
