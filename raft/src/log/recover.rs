//! Opening the log: reads every segment up to its room, rebuilds the index, cuts a torn tail off, refuses damage.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use openraft::LogIdOptionExt as _;

use super::record::{self, Record};
use super::writer::{self, Tail};
use super::{Inner, Slot, log_id};
use crate::Error;
use crate::format::{self, FILE_HEAD_LEN, FrameReader, Kind, Read1};

/// What was found.
pub(super) struct Recovered {
    pub(super) inner: Inner,
    pub(super) tail: Tail,
}

/// A segment as it was read.
struct ReadSegment {
    file: Arc<File>,
    len: u64,
    size: u64,
    sequence: Option<u64>,
    highest: u64,
}

/// Reads the log in `dir`, making an empty one if there is none.
pub(super) fn recover(dir: &Path) -> Result<Recovered, Error> {
    std::fs::create_dir_all(dir).map_err(|error| format::disk(dir, &error))?;
    let mut inner = Inner::default();
    let mut numbers = record::numbers(dir)?;
    if let Some(&last) = numbers.last()
        && remove_unborn(dir, last)?
    {
        numbers.pop();
    }
    let mut closed = Vec::new();
    let mut tail: Option<(u32, ReadSegment)> = None;
    let mut sequence = None;
    for (at, &number) in numbers.iter().enumerate() {
        if let Some((before, read)) = tail.take() {
            if number != before + 1 {
                let path = record::path(dir, before + 1);
                return Err(Error::Corrupt(format!(
                    "{}: this segment of the log is missing",
                    path.display()
                )));
            }
            closed.push((before, read.highest));
        }
        let is_last = at + 1 == numbers.len();
        let read = read_segment(dir, number, sequence, is_last, &mut inner)?;
        inner.segments.insert(number, read.file.clone());
        sequence = read.sequence;
        tail = Some((number, read));
    }
    let committed = inner.committed;
    let tail = match tail {
        Some((number, read)) => Tail {
            number,
            file: read.file,
            len: read.len,
            size: read.size,
            sequence: read.sequence.unwrap_or(0),
            committed,
            closed,
            highest: read.highest,
        },
        None => {
            let (file, len) = writer::create(dir, 1, 1, &[]).map_err(|error| format::disk(dir, &error))?;
            inner.segments.insert(1, file.clone());
            Tail {
                number: 1,
                file,
                len,
                size: len,
                sequence: 1,
                committed,
                closed,
                highest: 0,
            }
        }
    };
    Ok(Recovered { inner, tail })
}

/// Removes the last segment if its creation was interrupted: it holds no whole frame and nothing that was synced.
fn remove_unborn(dir: &Path, number: u32) -> Result<bool, Error> {
    let path = record::path(dir, number);
    let told = |error: std::io::Error| format::disk(&path, &error);
    let bytes = std::fs::read(&path).map_err(told)?;
    let body = bytes.get(FILE_HEAD_LEN..).unwrap_or_default();
    let is_born = matches!(FrameReader::new(body, 0).next().map_err(told)?, Read1::Frame(..))
        || format::holds_later_frame(&bytes, 0);
    if is_born {
        return Ok(false);
    }
    tracing::warn!(file = %path.display(), "a segment whose creation was interrupted is removed");
    std::fs::remove_file(&path).map_err(told)?;
    format::sync_dir(dir)?;
    Ok(true)
}

fn read_segment(
    dir: &Path,
    number: u32,
    mut sequence: Option<u64>,
    is_last: bool,
    inner: &mut Inner,
) -> Result<ReadSegment, Error> {
    let path = record::path(dir, number);
    let told = |error: std::io::Error| format::disk(&path, &error);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .map_err(told)?;
    let file_len = file.metadata().map_err(told)?.len();
    let mut reader = BufReader::new(&file);
    let mut head = Vec::new();
    reader
        .by_ref()
        .take(FILE_HEAD_LEN as u64)
        .read_to_end(&mut head)
        .map_err(told)?;
    Kind::Log.check(&head, &path)?;

    let mut frames = FrameReader::new(reader, FILE_HEAD_LEN as u64);
    let mut highest = 0;
    let (len, size) = loop {
        match frames.next().map_err(told)? {
            Read1::Frame(head, offset, body) => {
                if sequence.is_some_and(|sequence| head.sequence != sequence + 1) {
                    return Err(format::corrupt(&path, offset, "a frame is missing before it"));
                }
                sequence = Some(head.sequence);
                highest = highest.max(replay(inner, number, offset, body, &path)?);
            }
            Read1::End => break (file_len, file_len),
            Read1::Broken(offset) => {
                let mut rest = vec![0; (file_len - offset) as usize];
                file.read_exact_at(&mut rest, offset).map_err(told)?;
                // Room: no frame was written there, or none of it arrived. A segment's first frame was synced with its name.
                if offset > FILE_HEAD_LEN as u64 && rest.iter().all(|octet| *octet == 0) {
                    break (offset, file_len);
                }
                let is_torn = is_last && !format::holds_later_frame(&rest, sequence.unwrap_or(0) + 1);
                if !is_torn {
                    return Err(format::corrupt(
                        &path,
                        offset,
                        "entries that were acknowledged cannot be read any more",
                    ));
                }
                cut(&file, &path, offset)?;
                break (offset, offset);
            }
        }
    };
    Ok(ReadSegment {
        file: Arc::new(file),
        len,
        size,
        sequence,
        highest,
    })
}

/// Cuts the file at `offset`, for good.
fn cut(file: &File, path: &Path, offset: u64) -> Result<(), Error> {
    tracing::warn!(file = %path.display(), offset, "a torn tail, never synced, is cut off");
    let cut = file.set_len(offset).and_then(|()| file.sync_all());
    cut.map_err(|error| format::disk(path, &error))
}

/// Does again what a frame's records say; gives the highest index of an entry among them.
fn replay(inner: &mut Inner, number: u32, offset: u64, body: &[u8], path: &Path) -> Result<u64, Error> {
    let mut at = 0;
    let mut highest = 0;
    while at < body.len() {
        let place = offset + at as u64;
        let (record, range) = Record::read(body, at).map_err(|why| format::corrupt(path, place, &why))?;
        at = range.end;
        match record {
            Record::Entry(entry) => {
                let id = log_id(&entry);
                if !inner.slots.is_empty() && id.index != inner.end() {
                    return Err(format::corrupt(path, place, "an entry is missing before it"));
                }
                let offset = (offset + range.start as u64) as u32;
                let slot = Slot {
                    segment: number,
                    offset,
                    len: range.len() as u32,
                };
                inner.push(id, slot, Some(entry));
                highest = highest.max(id.index);
            }
            Record::Vote(vote) => inner.vote = Some(vote),
            Record::Committed(id) => inner.committed = Some(id),
            Record::Truncate(last) => inner.truncate(last.next_index(), last),
            Record::Purge(upto) => inner.purge(upto),
        }
    }
    Ok(highest)
}
