//! What stages said on standard error, kept for `pipes logs` by the agent that coordinates their runs.
//!
//! ```text
//! run ── append ──> waiting ──> the writer's thread ──> files (`files.rs`)
//!          └── position ──> who follows the run ──> waits until it is written, and reads on from where it was
//! ```
//!
//! Every record has a *position*: where it begins in the stream of all that was ever accepted here. Whoever follows asks from
//! the position where the last answer ended, so nothing is told twice and a rotation takes nothing from it; what was
//! dropped shows in the records after it (`record.rs`).
//!
//! Always: (1) all files together hold at most [`KEPT_MAX`]; (2) what is dropped is counted; (3) a record that was cut off by a
//! crash ends its file, and is not shown; (4) an agent whose runs are silent writes nothing, and who follows them reads
//! nothing; (5) a run waits neither for the disk nor for a reader: what it says while `WAITING_MAX` waits is dropped.
//! A log, not a record: it is neither fsynced nor replicated. Failures of the disk are told once in the agent's own log.

mod files;
pub mod record;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, watch};
use tracing::warn;

pub use files::KEPT_MAX;
use files::{Files, Writer};
use record::{BYTES_MAX, RECORD_MAX, Said};

/// Octets of records that wait for the writer: a second of a disk that stands still, at what a run says in earnest.
const WAITING_MAX: usize = 4 << 20;
/// Bytes of entries in one answer: under a message's limit, and what a reader is told before it is asked again.
const ANSWER_MAX: usize = 1 << 20;
/// Questions that wait for a run to say more; one beyond is answered at once with what is there.
const WAITERS_MAX: usize = 256;
/// How long an answer waits for a disk that stands still; what is not written by then comes with the next.
const WRITTEN_MAX: Duration = Duration::from_secs(3);

/// What is wanted of a run's log.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// The run.
    pub run: String,
    /// Nothing before this position.
    pub from: u64,
    /// No more than these many last lines of what is there.
    pub tail: Option<usize>,
    /// Nothing older.
    pub since: Option<SystemTime>,
    /// One stage alone.
    pub stage: Option<u32>,
    /// If there is nothing: how long to wait for something.
    pub wait: Duration,
}

/// What there is; also as it travels between agents.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Records one after another, the oldest first ([`record::entries`]).
    #[serde(with = "serde_bytes")]
    pub records: Vec<u8>,
    /// Where to ask on from.
    pub next: u64,
    /// This is all that there is now.
    pub is_all: bool,
    /// The run says nothing more: it is over, or never was here.
    pub is_over: bool,
    /// How much each stage has said, of a run that is not over.
    pub said: Vec<(u32, Said)>,
}

/// The logs. A cheap handle.
#[derive(Clone)]
pub struct Logs(Arc<Owner>);

/// Ends the writer with the last handle, once it has written what waits.
struct Owner {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

struct Shared {
    files: Files,
    state: Mutex<State>,
    /// Told when something waits, or nothing will any more.
    wake: Condvar,
    /// The position up to which all is written, or given up.
    written: watch::Sender<u64>,
    waiters: Semaphore,
}

#[derive(Default)]
struct State {
    /// Records that wait for the writer, and their octets.
    waiting: Vec<Vec<u8>>,
    waiting_octets: usize,
    /// The position behind the last record that was accepted.
    end: u64,
    /// Runs that may say more.
    runs: BTreeMap<String, Live>,
    dropped: u64,
    has_failed: bool,
    is_closed: bool,
}

/// A run that may say more.
struct Live {
    /// How much each stage said, and whether the last of it was dropped.
    said: BTreeMap<u32, (Said, bool)>,
    /// The position behind its last record.
    end: watch::Sender<u64>,
}

/// A run's own end of the log; with it the run has said all.
pub struct RunLog {
    logs: Logs,
    run: String,
}

impl Logs {
    /// The logs in a folder, which is made where there is none. Blocks.
    pub fn open(folder: PathBuf) -> io::Result<Logs> {
        let (files, end) = Files::open(folder)?;
        let state = State {
            end,
            ..State::default()
        };
        let shared = Arc::new(Shared {
            files,
            state: Mutex::new(state),
            wake: Condvar::new(),
            written: watch::Sender::new(end),
            waiters: Semaphore::new(WAITERS_MAX),
        });
        let writing = shared.clone();
        let writer = std::thread::Builder::new()
            .name("logs".into())
            .spawn(move || writing.write_all(end))?;
        Ok(Logs(Arc::new(Owner {
            shared,
            writer: Some(writer),
        })))
    }

    /// Begins the log of a run.
    pub fn begin(&self, run: &str) -> RunLog {
        let mut state = self.0.shared.state();
        let live = Live {
            said: BTreeMap::new(),
            end: watch::Sender::new(state.end),
        };
        state.runs.insert(run.to_owned(), live);
        RunLog {
            logs: self.clone(),
            run: run.to_owned(),
        }
    }

    /// Answers once there is something, the run is over, or the question has waited long enough.
    pub async fn read(&self, question: Question) -> Answer {
        let shared = &self.0.shared;
        shared.more(&question).await;
        let (end, is_over, said) = {
            let state = shared.state();
            let live = state.runs.get(&question.run);
            let said = live.map(|live| live.said.iter().map(|(stage, (said, _))| (*stage, *said)));
            (state.end, live.is_none(), said.into_iter().flatten().collect())
        };
        let mut written = shared.written.subscribe();
        let reached = written.wait_for(|written| *written >= end);
        let _ = tokio::time::timeout(WRITTEN_MAX, reached).await;
        let upto = end.min(*shared.written.borrow());
        let reading = shared.clone();
        let found = tokio::task::spawn_blocking(move || reading.find(&question, upto)).await;
        let (records, next) = found.unwrap_or_default();
        let is_all = next >= end;
        Answer {
            records,
            next,
            is_all,
            is_over: is_over && is_all,
            said,
        }
    }

    /// Octets that were let go, since the agent started: the oldest for want of room, or what the disk did not take.
    pub fn dropped(&self) -> u64 {
        self.0.shared.state().dropped
    }
}

impl RunLog {
    /// Keeps what a stage said. Neither fails nor waits: a log that cannot be written must not end a run or hold it up.
    pub fn append(&self, stage: u32, bytes: &[u8]) {
        self.append_at(SystemTime::now(), stage, bytes);
    }

    fn append_at(&self, at: SystemTime, stage: u32, bytes: &[u8]) {
        let mut state = self.logs.0.shared.state();
        for part in bytes.chunks(BYTES_MAX) {
            state.accept(record::milliseconds(at), &self.run, stage, part);
        }
        drop(state);
        self.logs.0.shared.wake.notify_one();
    }
}

impl Drop for RunLog {
    fn drop(&mut self) {
        let mut state = self.logs.0.shared.state();
        let Some(live) = state.runs.get(&self.run) else {
            return;
        };
        // Where the last thing was dropped nothing after it would show that.
        let behind: Vec<u32> = live
            .said
            .iter()
            .filter_map(|(stage, (_, is_behind))| is_behind.then_some(*stage))
            .collect();
        for stage in behind {
            state.accept(record::milliseconds(SystemTime::now()), &self.run, stage, &[]);
        }
        state.runs.remove(&self.run);
        drop(state);
        self.logs.0.shared.wake.notify_one();
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.state().is_closed = true;
        self.shared.wake.notify_one();
        if let Some(writer) = self.writer.take() {
            // One that panicked has said so.
            let _ = writer.join();
        }
    }
}

impl State {
    /// Takes in what a stage said, or drops it where too much waits; an empty record, of which each stage has at most one, is
    /// always taken.
    fn accept(&mut self, at: u64, run: &str, stage: u32, bytes: &[u8]) {
        let Some(live) = self.runs.get_mut(run) else {
            return;
        };
        let (said, is_behind) = live.said.entry(stage).or_default();
        let before = *said;
        *said = said.and(Said::of(bytes));
        *is_behind = !bytes.is_empty() && self.waiting_octets + RECORD_MAX > WAITING_MAX;
        if *is_behind {
            self.dropped += bytes.len() as u64;
            return;
        }
        let record = record::encode(at, run, stage, before, bytes);
        self.waiting_octets += record.len();
        self.end += record.len() as u64;
        self.waiting.push(record);
        live.end.send_replace(self.end);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Counters and whole records: right at every moment, whoever panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a run has said more than was asked for already, is over, or it has waited long enough.
    async fn more(&self, question: &Question) {
        let end = {
            let state = self.state();
            state.runs.get(&question.run).map(|live| live.end.subscribe())
        };
        if let (Some(mut end), Ok(_waiter)) = (end, self.waiters.try_acquire()) {
            // An error: it is over.
            let more = end.wait_for(|end| *end > question.from);
            let _ = tokio::time::timeout(question.wait, more).await;
        }
    }

    /// The records of a run, and the position up to which they were looked for. Blocks.
    fn find(&self, question: &Question, upto: u64) -> (Vec<u8>, u64) {
        let since = question.since.map_or(0, record::milliseconds);
        // Of the last lines all must be seen to know which they are.
        let mut room = match question.tail {
            Some(_) => usize::MAX,
            None => ANSWER_MAX,
        };
        let mut entries = Vec::new();
        let next = self.files.read(question.from, upto, |run, entry| {
            let is_wanted = run == question.run.as_bytes()
                && question.stage.is_none_or(|stage| stage == entry.stage)
                && entry.at >= since;
            if is_wanted {
                room = room.saturating_sub(entry.bytes.len());
                entries.push(entry);
            }
            room > 0
        });
        if let Some(lines) = question.tail {
            record::cut_to_lines(&mut entries, lines);
        }
        let records = entries.iter().flat_map(|entry| entry.encode(&question.run));
        (records.collect(), next)
    }

    /// The writer's thread: writes what waits, from `position` on, until the last handle is gone.
    fn write_all(&self, mut position: u64) {
        let mut writer = Writer::default();
        loop {
            let records = {
                let state = self.state();
                let waiting = |state: &mut State| state.waiting.is_empty() && !state.is_closed;
                let woken = self.wake.wait_while(state, waiting);
                let mut state = woken.unwrap_or_else(PoisonError::into_inner);
                if state.waiting.is_empty() {
                    return;
                }
                std::mem::take(&mut state.waiting)
            };
            let octets: usize = records.iter().map(Vec::len).sum();
            let written = self.files.write(&mut writer, position, &records);
            position += octets as u64;
            let mut state = self.state();
            state.waiting_octets -= octets;
            match written {
                Ok(gone) => state.dropped += gone,
                Err(error) => {
                    state.dropped += octets as u64;
                    if !std::mem::replace(&mut state.has_failed, true) {
                        let folder = self.files.folder().display();
                        warn!(%folder, "what stages say cannot be kept: {error}");
                    }
                }
            }
            drop(state);
            self.written.send_replace(position);
        }
    }
}

#[cfg(test)]
mod tests;
