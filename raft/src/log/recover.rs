//! Opening the log: reads every segment up to its room, rebuilds the index, cuts a torn tail off, refuses damage.

use crate::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use openraft::LogIdOptionExt as _;
use openraft::entry::RaftEntry as _;

use super::index::{Inner, Slot};
use super::record::{self, Record};
use super::tail::{Place, Tail};
use super::writer::{self, End};
use crate::Error;
use crate::format::{self, FILE_HEAD_LEN, FRAME_HEAD_LEN, FrameReader, Kind, ReadFrame};

/// What was found.
pub(super) struct Recovered {
    pub(super) inner: Inner,
    pub(super) end: End,
}

/// How far the reading has come.
struct Reading<'a> {
    dir: &'a Path,
    inner: Inner,
    /// The number of the last frame read.
    sequence: Option<u64>,
}

/// A segment as it was read.
struct Segment {
    file: Arc<File>,
    /// Where its frames end.
    len: u64,
    /// Where its room ends.
    size: u64,
    /// The highest index it ever held.
    highest: u64,
}

/// Reads the log in `dir`. An empty one is made for a node that is new, and for no other: with an empty log a node
/// could vote away what it had acknowledged.
pub(super) fn recover(dir: &Path, is_new: bool) -> Result<Recovered, Error> {
    if is_new {
        crate::fs::create_dir_all(dir).map_err(|error| format::disk(dir, &error))?;
    }
    let numbers = segments(dir, is_new)?;
    let (&last, closed) = numbers.split_last().unwrap_or((&1, &[]));
    let mut reading = Reading {
        dir,
        inner: Inner::default(),
        sequence: None,
    };
    let mut highest = Vec::with_capacity(closed.len());
    for &number in closed {
        highest.push((number, reading.segment(number, false)?.highest));
    }
    let segment = reading.segment(last, true)?;
    // The names too: a segment may have been made just before a kill.
    format::sync_dir(dir)?;
    reading.inner.reached = (last, segment.len);
    reading.inner.bound_committed();
    if let Some(gap) = reading.inner.gap() {
        return Err(Error::Corrupt(format!(
            "{}: its entries from {} to {} are lost",
            dir.display(),
            gap.start,
            gap.end - 1
        )));
    }
    let end = End {
        number: last,
        file: segment.file,
        len: segment.len,
        size: segment.size,
        sequence: reading.sequence.unwrap_or(0),
        committed: reading.inner.committed,
        purged: reading.inner.purged,
        closed: highest,
        highest: segment.highest,
    };
    Ok(Recovered {
        inner: reading.inner,
        end,
    })
}

/// The numbers of the segments, of which none is missing and the last is whole; the first is made where there is none.
fn segments(dir: &Path, is_new: bool) -> Result<Vec<u32>, Error> {
    let has_log = crate::fs::exists(dir).map_err(|error| format::disk(dir, &error))?;
    let mut numbers = if has_log {
        record::numbers(dir)?
    } else {
        Vec::new()
    };
    if let Some(&last) = numbers.last()
        && remove_unborn(dir, last)?
    {
        numbers.pop();
    }
    if numbers.is_empty() && !is_new {
        return Err(Error::Corrupt(format!(
            "{}: the log of this node is gone, and with it what it acknowledged and for whom it voted",
            dir.display()
        )));
    }
    if numbers.is_empty() {
        writer::create(dir, 1, 1, &[]).map_err(|error| format::disk(dir, &error))?;
        numbers.push(1);
    }
    for pair in numbers.windows(2) {
        let expected = pair[0] + 1;
        if pair[1] != expected {
            let path = record::path(dir, expected);
            return Err(Error::Corrupt(format!(
                "{}: this segment of the log is missing",
                path.display()
            )));
        }
    }
    Ok(numbers)
}

/// Removes the last segment if its creation was interrupted: it holds no whole frame and nothing that was synced.
fn remove_unborn(dir: &Path, number: u32) -> Result<bool, Error> {
    let path = record::path(dir, number);
    let io_error = |error: std::io::Error| format::disk(&path, &error);
    if is_born(&path)? {
        return Ok(false);
    }
    tracing::warn!(file = %path.display(), "a segment whose creation was interrupted is removed");
    crate::fs::remove_file(&path).map_err(io_error)?;
    format::sync_dir(dir)?;
    Ok(true)
}

/// Whether a segment holds a whole frame: its first, or one after that. The head of a first one whose body is not there may
/// have been written by whoever was interrupted.
fn is_born(path: &Path) -> Result<bool, Error> {
    let io_error = |error: std::io::Error| format::disk(path, &error);
    let bytes = crate::fs::read(path).map_err(io_error)?;
    let body = bytes.get(FILE_HEAD_LEN..).unwrap_or_default();
    let first = FrameReader::new(body, 0)
        .next()
        .map_err(io_error)
        .map(|frame| matches!(frame, ReadFrame::Whole(..)))?;
    let after_first = body.get(FRAME_HEAD_LEN..).unwrap_or_default();
    Ok(first || format::holds_later_frame(after_first, 0))
}

/// Whether a log lies in `dir`.
pub(super) fn is_there(dir: &Path) -> Result<bool, Error> {
    if !crate::fs::exists(dir).map_err(|error| format::disk(dir, &error))? {
        return Ok(false);
    }
    match *record::numbers(dir)? {
        [] => Ok(false),
        [only] => is_born(&record::path(dir, only)),
        _ => Ok(true),
    }
}

impl Reading<'_> {
    /// Reads a segment, does again what its frames say, and acts on what follows them.
    fn segment(&mut self, number: u32, is_last: bool) -> Result<Segment, Error> {
        let path = record::path(self.dir, number);
        let io_error = |error: io::Error| format::disk(&path, &error);
        let opened = OpenOptions::new().read(true).write(true).open(&path);
        let file = Arc::new(opened.map_err(io_error)?);
        let mut size = file.metadata().map_err(io_error)?.len();
        let mut reader = BufReader::new(&*file);
        let mut head = Vec::new();
        let read = reader.by_ref().take(FILE_HEAD_LEN as u64).read_to_end(&mut head);
        read.map_err(io_error)?;
        Kind::Log.check(&head, &path)?;

        let mut frames = FrameReader::new(reader, FILE_HEAD_LEN as u64);
        let mut highest = 0;
        // Where the last whole frame begins, the file's head with its first.
        let mut last_frame = 0;
        let mut len = loop {
            match frames.next().map_err(io_error)? {
                ReadFrame::Whole(head, offset, body) => {
                    let before = self.sequence.replace(head.sequence);
                    let start = offset - FRAME_HEAD_LEN as u64;
                    last_frame = if start == FILE_HEAD_LEN as u64 { 0 } else { start };
                    if before.is_some_and(|before| head.sequence != before + 1) {
                        return Err(format::corrupt(&path, offset, "a frame is missing before it"));
                    }
                    highest = highest.max(self.replay(number, offset, body, &path)?);
                }
                ReadFrame::End => break size,
                ReadFrame::Broken(offset) => break offset,
            }
        };
        let mut rest = vec![0; (size - len) as usize];
        file.read_exact_at(&mut rest, len).map_err(io_error)?;
        let place = Place {
            is_after_frame: len > FILE_HEAD_LEN as u64,
            sequence: self.sequence.unwrap_or(0),
            is_last,
        };
        if is_last && !crate::mutant!(OpenedUnsynced) {
            rewrite(&file, last_frame..len).map_err(io_error)?;
        }
        match Tail::of(&rest, &place) {
            Tail::Room => {}
            Tail::Torn => {
                if crate::mutant!(TailUncut) {
                    len = size;
                } else {
                    cut(&file, &path, len)?;
                    size = len;
                }
            }
            Tail::Damage => {
                let why = "entries that were acknowledged cannot be read any more";
                return Err(format::corrupt(&path, len, why));
            }
        }
        self.inner.segments.insert(number, file.clone());
        Ok(Segment {
            file,
            len,
            size,
            highest,
        })
    }

    /// Does again what a frame's records say; gives the highest index of an entry among them.
    fn replay(&mut self, number: u32, offset: u64, body: &[u8], path: &Path) -> Result<u64, Error> {
        let inner = &mut self.inner;
        let mut at = 0;
        let mut highest = 0;
        while at < body.len() {
            let place = offset + at as u64;
            let (record, range) = Record::read(body, at).map_err(|why| format::corrupt(path, place, &why))?;
            at = range.end;
            match record {
                Record::Entry(entry) => {
                    let index = entry.index();
                    if !inner.slots.is_empty() && index != inner.end() {
                        return Err(format::corrupt(path, place, "an entry is missing before it"));
                    }
                    let slot = Slot {
                        segment: number,
                        offset: (offset + range.start as u64) as u32,
                        len: range.len() as u32,
                    };
                    inner.push(entry, slot);
                    highest = highest.max(index);
                }
                Record::Vote(vote) => inner.vote = Some(vote),
                Record::Committed(id) => inner.committed = Some(id),
                Record::Truncate(last) => inner.truncate(last.next_index(), last),
                Record::Purge(upto) => inner.purge(upto),
            }
        }
        Ok(highest)
    }
}

/// Makes durable what lies in the last segment. What a process that was killed had written is there, and maybe not on
/// disk; nor is it if its sync failed, after which the system takes it for clean. Whoever reads it here answers for it.
/// All before the last frame was synced before that was written.
fn rewrite(file: &File, frame: Range<u64>) -> io::Result<()> {
    let mut bytes = vec![0; (frame.end - frame.start) as usize];
    file.read_exact_at(&mut bytes, frame.start)?;
    file.write_all_at(&bytes, frame.start)?;
    file.sync_all()
}

/// Cuts the file at `offset`, for good.
fn cut(file: &File, path: &Path, offset: u64) -> Result<(), Error> {
    tracing::warn!(file = %path.display(), offset, "a torn tail, never synced, is cut off");
    let cut = file.set_len(offset).and_then(|()| file.sync_all());
    cut.map_err(|error| format::disk(path, &error))
}
