//! The log's writer: one thread that makes one frame and one sync of all that waits.
//!
//! Cost of an append: one encoding into the frame's buffer (kept between frames), a share of one write and one
//! fdatasync, no allocation of its own; each mebibyte is also written once as zeros. A failure of the disk is final:
//! fsync tells it once and may then lie.

use crate::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use openraft::entry::RaftEntry as _;
use openraft::storage::IOFlushed;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::index::{GROWTH, Index, Slot};
use super::record::{self, Record};
use crate::format::{self, Kind};
use crate::type_config::{Entry, LogId, TypeConfig, Vote};

/// A segment is followed by a new one when it has grown to this: small enough that purging gives space back in steps
/// and a torn tail is looked through quickly, large enough that new files are rare.
const SEGMENT_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// A segment grows by this many octets of zeros at a time, ahead of its frames. A frame is then written over blocks that
/// the file has, and its sync has no change of the file's size to commit, which costs as much again.
pub(super) const ROOM: u64 = 1024 * 1024;
/// A frame takes no further request when it has grown to this.
const FRAME_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The frame's buffer is given back when one large frame has left it bigger than this.
const BUFFER_KEPT_MAX: usize = 1024 * 1024;

fn segment_bytes_max() -> u64 {
    crate::limit!("segment_bytes", SEGMENT_BYTES_MAX)
}

fn frame_bytes_max() -> usize {
    crate::limit!("frame_bytes", FRAME_BYTES_MAX)
}

/// What is asked of the writer.
pub(super) enum Request {
    /// Write entries, the first of which has this number in the index, then call back. The permit is the share of memory
    /// they take while they wait.
    Append(Vec<Entry>, u32, IOFlushed<TypeConfig>, OwnedSemaphorePermit),
    /// Write a vote.
    Vote(Vote, Done),
    /// Write that entries were dropped at the end.
    Truncate(Option<LogId>, Done),
    /// Write that entries were dropped at the beginning, then remove the segments that held only such.
    Purge(LogId, Done),
    /// End.
    Close,
}

/// Who is told that it is done.
pub(super) type Done = oneshot::Sender<io::Result<()>>;

/// Where the log ends.
pub(super) struct End {
    pub(super) number: u32,
    pub(super) file: Arc<File>,
    pub(super) len: u64,
    /// The file's size: after the last frame it holds zeros.
    pub(super) size: u64,
    /// The number of the last frame.
    pub(super) sequence: u64,
    /// The committed place as the disk has it.
    pub(super) committed: Option<LogId>,
    /// The purge as the frames say it. The index in memory may be ahead, of entries too that wait to be written.
    pub(super) purged: Option<LogId>,
    /// The highest index that a segment before the last ever held, by segment.
    pub(super) closed: Vec<(u32, u64)>,
    /// The highest index that the last segment ever held.
    pub(super) highest: u64,
}

pub(super) struct Writer {
    dir: PathBuf,
    index: Arc<Index>,
    end: End,
    frame: Vec<u8>,
    /// Octets written since who bounds the log was told.
    grown: u64,
    failed: Option<String>,
}

/// What is to be done once the frame is on disk.
#[derive(Default)]
struct Afterwards {
    slots: Vec<(u64, u32, Slot)>,
    flushed: Vec<IOFlushed<TypeConfig>>,
    done: Vec<Done>,
    permits: Vec<OwnedSemaphorePermit>,
    purged: Option<LogId>,
    #[cfg(sim)]
    seen: Vec<crate::sim::Deed>,
}

impl Writer {
    pub(super) fn new(dir: PathBuf, index: Arc<Index>, end: End) -> Writer {
        Writer {
            dir,
            index,
            end,
            frame: Vec::new(),
            grown: 0,
            failed: None,
        }
    }

    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut is_open = true;
        while is_open && let Some(first) = requests.recv().await {
            let mut afterwards = Afterwards::default();
            self.begin();
            let mut next = Some(first);
            while let Some(request) = next.take() {
                if matches!(request, Request::Close) {
                    is_open = false;
                    break;
                }
                let outcome = self.take(request, &mut afterwards).await;
                self.note(outcome);
                if self.frame.len() < frame_bytes_max() {
                    next = requests.try_recv().ok();
                }
            }
            let outcome = self.commit(&mut afterwards).await;
            self.note(outcome);
            if self.failed.is_some() {
                self.index.end();
            }
            #[cfg(sim)]
            afterwards.show(&self.dir, self.failed.is_none());
            afterwards.tell(self.failed.as_deref());
        }
        self.index.end();
    }

    fn begin(&mut self) {
        self.frame.clear();
        self.frame.shrink_to(BUFFER_KEPT_MAX);
        format::begin_frame(&mut self.frame);
    }

    fn note(&mut self, outcome: io::Result<()>) {
        if let Err(error) = outcome
            && self.failed.is_none()
        {
            self.failed = Some(format!("{}: {error}", self.dir.display()));
        }
    }

    /// Encodes a request into the frame.
    async fn take(&mut self, request: Request, afterwards: &mut Afterwards) -> io::Result<()> {
        #[cfg(sim)]
        afterwards.see(&self.dir, &request);
        match request {
            Request::Append(entries, mut number, flushed, permit) => {
                afterwards.flushed.push(flushed);
                afterwards.permits.push(permit);
                for entry in &entries {
                    if self.frame.len() >= frame_bytes_max() {
                        self.commit(afterwards).await?;
                        self.begin();
                    }
                    let (offset, len) = Record::write_entry(entry, &mut self.frame)?;
                    let slot = Slot {
                        segment: 0,
                        offset: offset as u32,
                        len: len as u32,
                    };
                    afterwards.slots.push((entry.log_id().index, number, slot));
                    number = number.wrapping_add(1);
                }
                Ok(())
            }
            Request::Vote(vote, done) => {
                afterwards.done.push(done);
                Record::Vote(vote).write(&mut self.frame)
            }
            Request::Truncate(last, done) => {
                afterwards.done.push(done);
                Record::Truncate(last).write(&mut self.frame)
            }
            Request::Purge(upto, done) => {
                afterwards.done.push(done);
                afterwards.purged = afterwards.purged.max(Some(upto));
                Record::Purge(upto).write(&mut self.frame)
            }
            // The caller has looked for it.
            Request::Close => Ok(()),
        }
    }

    /// Writes the frame, syncs, and makes known where the entries lie.
    async fn commit(&mut self, afterwards: &mut Afterwards) -> io::Result<()> {
        if self.failed.is_some() || self.frame.len() == format::FRAME_HEAD_LEN {
            return Ok(());
        }
        let committed = self.index.lock().committed;
        if committed != self.end.committed
            && let Some(log_id) = committed
        {
            Record::Committed(log_id).write(&mut self.frame)?;
        }
        if self.end.len + self.frame.len() as u64 > segment_bytes_max() && !self.end.is_fresh() {
            self.rotate()?;
        }
        let sequence = self.end.sequence + 1;
        format::finish_frame(&mut self.frame, 0, sequence);
        self.end.file.write_all_at(&self.frame, self.end.len)?;
        self.grow();
        #[cfg(sim)]
        crate::sim::stall_at(&self.dir).await;
        #[cfg(sim)]
        let is_left_out = afterwards.is_sync_left_out();
        #[cfg(not(sim))]
        let is_left_out = false;
        if !is_left_out {
            self.end.file.sync_data()?;
        }
        let base = self.end.len;
        self.end.len += self.frame.len() as u64;
        self.end.sequence = sequence;
        self.end.committed = committed;
        self.end.purged = self.end.purged.max(afterwards.purged);

        let mut inner = self.index.lock();
        for (index, number, mut slot) in afterwards.slots.drain(..) {
            self.end.highest = self.end.highest.max(index);
            slot.segment = self.end.number;
            slot.offset += base as u32;
            inner.written(index, number, slot);
        }
        inner.reached = (self.end.number, self.end.len);
        inner.evict();
        drop(inner);
        self.index.tell();
        self.grown += self.frame.len() as u64;
        if self.grown >= crate::limit!("log_growth", GROWTH) {
            self.grown = 0;
            self.index.tell_grown();
        }
        match afterwards.purged {
            Some(upto) => self.remove_segments(upto),
            None => Ok(()),
        }
    }

    /// Makes room after a frame that made the file grow. The zeros become durable with the frame. A disk that has no
    /// place for them may have had it for the frame.
    fn grow(&mut self) {
        let end = self.end.len + self.frame.len() as u64;
        if end <= self.end.size {
            return;
        }
        let size = end.next_multiple_of(crate::limit!("room", ROOM));
        let zeros = vec![0; (size - end) as usize];
        let grown = self.end.file.write_all_at(&zeros, end);
        self.end.size = if grown.is_ok() { size } else { end };
    }

    /// Begins a new segment with the state so far.
    fn rotate(&mut self) -> io::Result<()> {
        let number = self.end.number + 1;
        let state = {
            let inner = self.index.lock();
            [
                inner.vote.map(Record::Vote),
                inner.committed.map(Record::Committed),
                if crate::mutant!(PurgedAhead) {
                    inner.purged
                } else {
                    self.end.purged
                }
                .map(Record::Purge),
            ]
        };
        let (file, len) = create(&self.dir, number, self.end.sequence + 1, &state)?;
        self.end.closed.push((self.end.number, self.end.highest));
        self.end.number = number;
        self.end.file = file.clone();
        (self.end.len, self.end.size) = (len, len);
        self.end.sequence += 1;
        self.end.highest = 0;
        self.index.lock().segments.insert(number, file);
        Ok(())
    }

    /// Removes the segments, oldest first, that hold nothing after `upto`.
    fn remove_segments(&mut self, upto: LogId) -> io::Result<()> {
        let keep = self
            .end
            .closed
            .iter()
            .position(|(_, highest)| *highest > upto.index);
        let removed: Vec<_> = self
            .end
            .closed
            .drain(..keep.unwrap_or(self.end.closed.len()))
            .collect();
        if removed.is_empty() {
            return Ok(());
        }
        for (number, _) in removed {
            self.index.lock().segments.remove(&number);
            crate::fs::remove_file(record::path(&self.dir, number))?;
        }
        File::open(&self.dir)?.sync_all()
    }
}

impl End {
    /// Whether the segment holds no more than its first frame.
    fn is_fresh(&self) -> bool {
        self.highest == 0
    }
}

#[cfg(sim)]
impl Afterwards {
    fn see(&mut self, dir: &std::path::Path, request: &Request) {
        use crate::sim::{self, Deed};
        let is_synced = false;
        if let Request::Truncate(last, _) = request {
            let last = last.as_ref().map(sim::place);
            sim::tell(dir, Deed::Truncating { last });
        }
        self.seen.push(match request {
            Request::Append(entries, ..) => Deed::Appended {
                entries: entries
                    .iter()
                    .map(|entry| (sim::place(&entry.log_id()), sim::content(entry)))
                    .collect(),
                is_synced,
            },
            Request::Vote(vote, _) => Deed::VoteKept {
                vote: sim::vote(vote),
                is_synced,
            },
            Request::Truncate(last, _) => Deed::Truncated {
                last: last.as_ref().map(sim::place),
                is_synced,
            },
            Request::Purge(upto, _) => Deed::Purged {
                upto: sim::place(upto),
            },
            Request::Close => return,
        });
    }

    /// Whether a mistake is wanted that leaves the sync of this frame out.
    fn is_sync_left_out(&self) -> bool {
        use crate::sim::Deed;
        let is_append = |deed: &Deed| matches!(deed, Deed::Appended { .. });
        let is_vote = |deed: &Deed| matches!(deed, Deed::VoteKept { .. });
        let is_truncate = |deed: &Deed| matches!(deed, Deed::Truncated { .. });
        let all = |kind: fn(&Deed) -> bool| self.seen.iter().all(kind);
        (crate::mutant!(AppendUnsynced) && all(is_append))
            || (crate::mutant!(VoteUnsynced) && all(is_vote))
            || (crate::mutant!(TruncateUnsynced) && all(is_truncate))
    }

    /// Says what whoever waits is about to be told is done.
    fn show(&mut self, dir: &std::path::Path, is_done: bool) {
        use crate::sim::{self, Deed};
        let synced = sim::is_synced(dir);
        for mut deed in self.seen.drain(..) {
            if let Deed::Appended { is_synced, .. }
            | Deed::VoteKept { is_synced, .. }
            | Deed::Truncated { is_synced, .. } = &mut deed
            {
                *is_synced = synced;
            }
            if is_done {
                sim::tell(dir, deed);
            }
        }
    }
}

impl Afterwards {
    fn tell(self, failed: Option<&str>) {
        let copy = || failed.map_or(Ok(()), |why| Err(io::Error::other(why)));
        for flushed in self.flushed {
            flushed.io_completed(copy());
        }
        for done in self.done {
            // Who does not wait any more need not be told.
            let _ = done.send(copy());
        }
    }
}

/// Makes a segment file whose first frame holds `state`, durable with its name.
pub(super) fn create(
    dir: &std::path::Path,
    number: u32,
    sequence: u64,
    state: &[Option<Record>],
) -> io::Result<(Arc<File>, u64)> {
    let mut bytes = Kind::Log.head().to_vec();
    let start = format::begin_frame(&mut bytes);
    for record in state.iter().flatten() {
        record.write(&mut bytes)?;
    }
    format::finish_frame(&mut bytes, start, sequence);
    let path = record::path(dir, number);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)?;
    file.write_all_at(&bytes, 0)?;
    file.sync_all()?;
    if !crate::mutant!(FolderUnsynced) {
        File::open(dir)?.sync_all()?;
    }
    Ok((Arc::new(file), bytes.len() as u64))
}

#[cfg(test)]
mod tests;
