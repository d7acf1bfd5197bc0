//! What stages said on standard error, kept for `pipes logs` by the agent that coordinates their runs.
//!
//! ```text
//! logs/00000007.log   record record record ...    up to 1 MiB, then the next file; the oldest of eleven goes
//! record              length u32 | milliseconds since 1970 u64 | stage u32 | length of run u8 | run | bytes
//! ```
//!
//! Always: (1) all files together hold at most [`KEPT_MAX`]; (2) what is dropped is counted; (3) a record that was cut off
//! by a crash ends its file, and is not shown; (4) an agent whose runs are silent writes nothing.
//! A log, not a record: it is neither fsynced nor replicated. Failures of the disk are told once in the agent's own log.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tracing::warn;

/// All that is kept; the oldest file goes when it is full.
pub const KEPT_MAX: u64 = 10 << 20;
/// One file.
const FILE_MAX: u64 = 1 << 20;
/// Most bytes of one record: what a shim sends at once, and more; longer ones are split.
const RECORD_MAX: usize = 64 << 10;
const HEAD_LENGTH: usize = 17;

/// Something that a stage said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When it came.
    pub at: SystemTime,
    /// The stage's number, from 1.
    pub stage: u32,
    /// What it said.
    pub bytes: Vec<u8>,
}

/// What is wanted of a run's log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// No more than these many last lines of what is there.
    pub tail: Option<usize>,
    /// Nothing older.
    pub since: Option<SystemTime>,
    /// One stage alone.
    pub stage: Option<u32>,
    /// Without these many first entries, which whoever follows has seen.
    pub skip: usize,
}

/// The logs. A cheap handle.
#[derive(Clone)]
pub struct Logs(Arc<Inner>);

struct Inner {
    folder: PathBuf,
    state: Mutex<State>,
}

struct State {
    /// Numbers and lengths of the files, the oldest first.
    files: VecDeque<(u64, u64)>,
    writing: Option<File>,
    dropped: u64,
    has_failed: bool,
}

impl Logs {
    /// The logs in a folder, which is made where there is none. Blocks.
    pub fn open(folder: PathBuf) -> io::Result<Logs> {
        fs::create_dir_all(&folder)?;
        let mut files: Vec<(u64, u64)> = Vec::new();
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let number = name
                .to_str()
                .and_then(|name| name.strip_suffix(".log")?.parse().ok());
            if let Some(number) = number {
                files.push((number, entry.metadata()?.len()));
            }
        }
        files.sort_unstable();
        let state = State {
            files: files.into(),
            writing: None,
            dropped: 0,
            has_failed: false,
        };
        let inner = Inner {
            folder,
            state: Mutex::new(state),
        };
        Ok(Logs(Arc::new(inner)))
    }

    /// Keeps what a stage said. Never fails: a log that cannot be written must not end a run.
    pub fn append(&self, run: &str, stage: u32, bytes: &[u8]) {
        self.append_at(SystemTime::now(), run, stage, bytes);
    }

    fn append_at(&self, at: SystemTime, run: &str, stage: u32, bytes: &[u8]) {
        let mut state = self.state();
        for part in bytes.chunks(RECORD_MAX) {
            let record = encode(at, run, stage, part);
            if let Err(error) = state.write(&self.0.folder, &record) {
                state.dropped += part.len() as u64;
                state.writing = None;
                if !std::mem::replace(&mut state.has_failed, true) {
                    warn!(folder = %self.0.folder.display(), "what stages say cannot be kept: {error}");
                }
            }
        }
    }

    /// What is there of a run, the oldest first. Blocks.
    pub fn read(&self, run: &str, filter: &Filter) -> Vec<Entry> {
        let files: Vec<u64> = self.state().files.iter().map(|(number, _)| *number).collect();
        let mut found = Vec::new();
        for number in files {
            // A file that was dropped meanwhile is one that is not there.
            let bytes = fs::read(path(&self.0.folder, number)).unwrap_or_default();
            let mut rest = &bytes[..];
            while let Some((record_run, entry, after)) = decode(rest) {
                let wanted = record_run == run.as_bytes()
                    && filter.stage.is_none_or(|stage| stage == entry.stage)
                    && filter.since.is_none_or(|since| entry.at >= since);
                if wanted {
                    found.push(entry);
                }
                rest = after;
            }
        }
        if let Some(lines) = filter.tail {
            cut_to_lines(&mut found, lines);
        }
        found.drain(..filter.skip.min(found.len()));
        found
    }

    /// Bytes that were let go, since the agent started: the oldest for want of room, or what the disk refused.
    pub fn dropped(&self) -> u64 {
        self.state().dropped
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Counters and a file: whole at every moment, whoever panicked.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn write(&mut self, folder: &Path, record: &[u8]) -> io::Result<()> {
        let is_full = self
            .files
            .back()
            .is_none_or(|(_, length)| length + record.len() as u64 > FILE_MAX);
        // A former life's file may end in half a record: it is never written on.
        if is_full || self.writing.is_none() {
            let number = self.files.back().map_or(1, |(number, _)| number + 1);
            self.writing = Some(File::create(path(folder, number))?);
            self.files.push_back((number, 0));
        }
        let kept: u64 = self.files.iter().map(|(_, length)| length).sum();
        if kept + record.len() as u64 > KEPT_MAX
            && let Some((number, length)) = self.files.pop_front()
        {
            self.dropped += length;
            fs::remove_file(path(folder, number))?;
        }
        if let (Some(file), Some((_, length))) = (&mut self.writing, self.files.back_mut()) {
            file.write_all(record)?;
            *length += record.len() as u64;
        }
        Ok(())
    }
}

fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:08}.log"))
}

fn encode(at: SystemTime, run: &str, stage: u32, bytes: &[u8]) -> Vec<u8> {
    // A run's name has some thirty letters.
    let run = &run.as_bytes()[..run.len().min(u8::MAX as usize)];
    let milliseconds = at
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64);
    let length = HEAD_LENGTH + run.len() + bytes.len();
    let mut record = Vec::with_capacity(length);
    record.extend((length as u32).to_le_bytes());
    record.extend(milliseconds.to_le_bytes());
    record.extend(stage.to_le_bytes());
    record.push(run.len() as u8);
    record.extend(run);
    record.extend(bytes);
    record
}

/// The first record, and what follows it; `None` where there is no whole one.
fn decode(mut bytes: &[u8]) -> Option<(&[u8], Entry, &[u8])> {
    let whole = bytes;
    let mut length = [0; 4];
    let mut milliseconds = [0; 8];
    let mut stage = [0; 4];
    let mut run_length = [0; 1];
    bytes.read_exact(&mut length).ok()?;
    bytes.read_exact(&mut milliseconds).ok()?;
    bytes.read_exact(&mut stage).ok()?;
    bytes.read_exact(&mut run_length).ok()?;
    let record = whole.get(HEAD_LENGTH..u32::from_le_bytes(length) as usize)?;
    let (run, said) = record.split_at_checked(run_length[0] as usize)?;
    let entry = Entry {
        at: UNIX_EPOCH + Duration::from_millis(u64::from_le_bytes(milliseconds)),
        stage: u32::from_le_bytes(stage),
        bytes: said.to_vec(),
    };
    Some((run, entry, &whole[HEAD_LENGTH + record.len()..]))
}

/// Keeps the last `lines` lines, whichever entries they lie in.
fn cut_to_lines(entries: &mut Vec<Entry>, lines: usize) {
    let mut left = lines;
    let is_ended = entries.last().is_some_and(|entry| entry.bytes.ends_with(b"\n"));
    // A last line without its newline counts as one.
    let mut begins_line = !is_ended;
    if lines == 0 {
        return entries.clear();
    }
    for index in (0..entries.len()).rev() {
        let bytes = &mut entries[index].bytes;
        for at in (0..bytes.len()).rev() {
            if bytes[at] != b'\n' {
                continue;
            }
            if begins_line {
                left -= 1;
            }
            begins_line = true;
            if left == 0 {
                bytes.drain(..=at);
                let from = if bytes.is_empty() { index + 1 } else { index };
                entries.drain(..from);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
