//! One record of the log: what a stage said at once, and how much it had said before. Pure.
//!
//! ```text
//! length u32 | milliseconds since 1970 u64 | stage u32 | bytes before u64 | lines before u64 | length of run u8 | run | bytes
//! ```
//!
//! What came before is counted where the stage is heard, whether it was kept or not: so whoever reads two records of a
//! stage knows how much is missing between them, for whatever reason.

use std::io::Read;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Most bytes of one record: what a shim sends at once, and more; longer ones are split.
pub const BYTES_MAX: usize = 64 << 10;
const HEAD_LENGTH: usize = 33;
/// Most octets of a whole record.
pub const RECORD_MAX: usize = HEAD_LENGTH + u8::MAX as usize + BYTES_MAX;

/// How much was said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// Bytes.
    pub bytes: u64,
    /// Newlines among them.
    pub lines: u64,
}

impl Said {
    /// What these bytes are.
    pub fn of(bytes: &[u8]) -> Said {
        Said {
            bytes: bytes.len() as u64,
            lines: bytes.iter().filter(|byte| **byte == b'\n').count() as u64,
        }
    }

    /// With so much more.
    pub fn and(self, more: Said) -> Said {
        Said {
            bytes: self.bytes + more.bytes,
            lines: self.lines + more.lines,
        }
    }

    /// What is missing where so much was seen; nothing if that is all, or more.
    pub fn beyond(self, seen: Said) -> Option<Said> {
        let bytes = self.bytes.checked_sub(seen.bytes).filter(|bytes| *bytes > 0)?;
        let lines = self.lines.saturating_sub(seen.lines);
        Some(Said { bytes, lines })
    }
}

/// Something that a stage said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When it came, in milliseconds since 1970.
    pub at: u64,
    /// The stage's number, from 1.
    pub stage: u32,
    /// What the stage had said before.
    pub before: Said,
    /// What it said.
    pub bytes: Vec<u8>,
}

impl Entry {
    /// As a record of its run.
    pub fn encode(&self, run: &str) -> Vec<u8> {
        encode(self.at, run, self.stage, self.before, &self.bytes)
    }
}

/// The records that lie one after another.
pub fn entries(mut records: &[u8]) -> impl Iterator<Item = Entry> {
    std::iter::from_fn(move || {
        let (_, entry, taken) = decode(records)?;
        records = &records[taken..];
        Some(entry)
    })
}

/// A time as records have it.
pub fn milliseconds(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH);
    since.map_or(0, |since: Duration| since.as_millis() as u64)
}

/// A record of a run.
pub fn encode(at: u64, run: &str, stage: u32, before: Said, bytes: &[u8]) -> Vec<u8> {
    // A run's name has some thirty letters.
    let run = &run.as_bytes()[..run.len().min(u8::MAX as usize)];
    let length = HEAD_LENGTH + run.len() + bytes.len();
    let mut record = Vec::with_capacity(length);
    record.extend((length as u32).to_le_bytes());
    record.extend(at.to_le_bytes());
    record.extend(stage.to_le_bytes());
    record.extend(before.bytes.to_le_bytes());
    record.extend(before.lines.to_le_bytes());
    record.push(run.len() as u8);
    record.extend(run);
    record.extend(bytes);
    record
}

/// The run of the first record, the record, and how many octets it takes; `None` where there is no whole one.
pub fn decode(mut bytes: &[u8]) -> Option<(&[u8], Entry, usize)> {
    let whole = bytes;
    let length = u32::from_le_bytes(take(&mut bytes)?) as usize;
    let at = u64::from_le_bytes(take(&mut bytes)?);
    let stage = u32::from_le_bytes(take(&mut bytes)?);
    let before = Said {
        bytes: u64::from_le_bytes(take(&mut bytes)?),
        lines: u64::from_le_bytes(take(&mut bytes)?),
    };
    let [run_length] = take(&mut bytes)?;
    let (run, said) = whole
        .get(HEAD_LENGTH..length)?
        .split_at_checked(usize::from(run_length))?;
    let entry = Entry {
        at,
        stage,
        before,
        bytes: said.to_vec(),
    };
    Some((run, entry, length))
}

fn take<const LENGTH: usize>(bytes: &mut &[u8]) -> Option<[u8; LENGTH]> {
    let mut taken = [0; LENGTH];
    bytes.read_exact(&mut taken).ok()?;
    Some(taken)
}

/// Keeps the last `lines` lines, whichever entries they lie in.
pub fn cut_to_lines(entries: &mut Vec<Entry>, lines: usize) {
    let mut left = lines;
    let is_ended = entries.last().is_some_and(|entry| entry.bytes.ends_with(b"\n"));
    // A last line without its newline counts as one.
    let mut begins_line = !is_ended;
    if lines == 0 {
        return entries.clear();
    }
    for index in (0..entries.len()).rev() {
        let entry = &mut entries[index];
        for at in (0..entry.bytes.len()).rev() {
            if entry.bytes[at] != b'\n' {
                continue;
            }
            if begins_line {
                left -= 1;
            }
            begins_line = true;
            if left == 0 {
                entry.before = entry.before.and(Said::of(&entry.bytes[..=at]));
                entry.bytes.drain(..=at);
                let from = if entry.bytes.is_empty() { index + 1 } else { index };
                entries.drain(..from);
                return;
            }
        }
    }
}
