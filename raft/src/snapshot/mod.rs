//! Snapshots: the whole state at one revision, with the history since the compaction, in one file.
//!
//! ```text
//! head | frame 1: meta, leases | frames 2..: records in the order of their revisions | last frame: empty
//! ```
//!
//! A snapshot is written beside, synced, renamed, and the folder synced; so one that has its name is whole, and it is
//! checked nevertheless before it counts. The newest one is kept, and whatever it is being read for keeps it open.
//!
//! Records never change, so a snapshot at revision R may be written while later ones are applied: the meta and the
//! leases are copied when R is fixed, and compaction waits (`state/memtable.rs`).

pub(crate) mod meta;
pub(crate) mod receive;

use crate::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use self::meta::Header;
use crate::Error;
use crate::format::{self, FILE_HEAD_LEN, FRAME_HEAD_LEN, FrameReader, Kind, ReadFrame};
use crate::mvcc::{Record, Revision};
use crate::type_config::{self, LogId, SnapshotMeta};

/// A frame is written when it has grown to this.
const FRAME_BYTES: usize = 256 * 1024;
/// So many octets are made durable at once: the log shares the disk, and would wait for as long as hundreds of mebibytes
/// take.
const SYNCED_EVERY: usize = 8 * 1024 * 1024;
/// The name of a snapshot that is being written or received.
const PART: &str = "part";

/// A whole snapshot, open for reading.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(crate) meta: SnapshotMeta,
    pub(crate) file: Arc<File>,
    pub(crate) len: u64,
    /// Where it lies; it may have been followed by another and be gone.
    path: PathBuf,
}

/// The folder of snapshots, with the newest whole one.
pub(crate) struct Snapshots {
    dir: PathBuf,
    newest: Mutex<Option<Snapshot>>,
    /// Held while one is built: they have one name until they are whole.
    building: Mutex<()>,
}

impl Snapshots {
    /// Opens the folder, removes what was left half-written, and finds the newest snapshot that is whole.
    pub(crate) fn open(dir: &Path) -> Result<Snapshots, Error> {
        let io_error = |error: std::io::Error| format::disk(dir, &error);
        crate::fs::create_dir_all(dir).map_err(io_error)?;
        let mut paths = Vec::new();
        for file in crate::fs::read_dir(dir).map_err(io_error)? {
            let path = file.map_err(io_error)?.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some(PART) => crate::fs::remove_file(&path).map_err(io_error)?,
                Some("snap") => paths.push(path),
                _ => {}
            }
        }
        // One that got its name just before a kill: the log may be purged up to it from now on.
        format::sync_dir(dir)?;
        // Names begin with the applied index in twenty digits: the newest sorts last.
        paths.sort_unstable();
        let mut newest = None;
        while let Some(path) = paths.pop() {
            match Snapshot::open(&path) {
                Ok(snapshot) => {
                    newest = Some(snapshot);
                    // A kill may have come between a snapshot and the removal of the one before.
                    for older in paths.drain(..) {
                        crate::fs::remove_file(older).map_err(io_error)?;
                    }
                }
                Err(error) => tracing::error!(%error, "a snapshot is passed over"),
            }
        }
        Ok(Snapshots {
            dir: dir.to_path_buf(),
            newest: Mutex::new(newest),
            building: Mutex::default(),
        })
    }

    /// The newest whole snapshot.
    pub(crate) fn newest(&self) -> Option<Snapshot> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Passes a snapshot over that ends before `purged`, where the log begins: a newer one is gone, and who is given this
    /// one could not go on from it. openraft then has one made of the state.
    pub(crate) fn pass_over_before(&self, purged: Option<LogId>) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(older) = newest.take_if(|newest| newest.meta.last_log_id < purged) {
            let file = older.path.display();
            tracing::error!(%file, "the snapshot ends before the log begins, and is passed over");
        }
    }

    /// Writes a snapshot.
    pub(crate) fn write(
        &self,
        header: &Header,
        records: &mut dyn Iterator<Item = Result<(Revision, Record), Error>>,
    ) -> Result<Snapshot, Error> {
        // A state that was replaced may still be read for one, which knows nothing of this.
        let _building = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.dir.join(format!("building.{PART}"));
        let file = File::create(&path).map_err(|error| format::disk(&path, &error))?;
        write_file(file, header, records, &path)?;
        self.keep(&path)
    }

    /// A file for a snapshot that a peer sends; `name` tells senders apart. One that is being installed under this name
    /// is left alone: the peer sends again, under another.
    pub(crate) fn receive(&self, name: &str) -> Result<(File, PathBuf), Error> {
        let path = self.dir.join(format!("{name}.{PART}"));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path);
        Ok((file.map_err(|error| format::disk(&path, &error))?, path))
    }

    /// Checks the file, gives it its name, makes it the newest and removes the others. An older one than the newest
    /// is not taken.
    pub(crate) fn keep(&self, part: &Path) -> Result<Snapshot, Error> {
        let io_error = |error: std::io::Error| format::disk(part, &error);
        let mut snapshot = Snapshot::open(part)?;
        if !crate::mutant!(SnapshotUnsynced) {
            snapshot.file.sync_all().map_err(io_error)?;
        }
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(newest) = newest.as_ref()
            && newest.meta.last_log_id > snapshot.meta.last_log_id
        {
            crate::fs::remove_file(part).map_err(io_error)?;
            return Ok(newest.clone());
        }
        let index = snapshot.meta.last_log_id.map_or(0, |log_id| log_id.index);
        let path = self.dir.join(format!("{index:020}.snap"));
        if crate::mutant!(PurgedBeforeSnapshot) {
            *newest = Some(snapshot.clone());
            return Ok(snapshot);
        }
        crate::fs::rename(part, &path).map_err(io_error)?;
        format::sync_dir(&self.dir)?;
        snapshot.path = path;
        #[cfg(sim)]
        crate::sim::tell_kept(&snapshot.path, snapshot.meta.last_log_id.as_ref());
        *newest = Some(snapshot.clone());
        drop(newest);
        if let Err(error) = self.remove_others(&snapshot.path) {
            tracing::warn!(%error, "old snapshots could not be removed");
        }
        Ok(snapshot)
    }

    /// Removes all whole snapshots but the one at `kept`, those that were passed over too.
    fn remove_others(&self, kept: &Path) -> Result<(), Error> {
        let io_error = |error: std::io::Error| format::disk(&self.dir, &error);
        for file in crate::fs::read_dir(&self.dir).map_err(io_error)? {
            let path = file.map_err(io_error)?.path();
            let is_snapshot = path.extension().is_some_and(|extension| extension == "snap");
            // Names begin with the applied index: another thread may have made a later one.
            if is_snapshot
                && *path < *kept
                && let Err(error) = crate::fs::remove_file(&path)
            {
                tracing::warn!(%error, file = %path.display(), "an old snapshot could not be removed");
            }
        }
        Ok(())
    }
}

impl Snapshot {
    /// Opens a snapshot and checks every frame of it.
    pub(crate) fn open(path: &Path) -> Result<Snapshot, Error> {
        let io_error = |error: std::io::Error| format::disk(path, &error);
        let file = File::open(path).map_err(io_error)?;
        let len = file.metadata().map_err(io_error)?.len();
        let mut snapshot = Snapshot {
            meta: SnapshotMeta::default(),
            file: Arc::new(file),
            len,
            path: path.to_path_buf(),
        };
        snapshot.check()?;
        let meta = snapshot.read()?.header.meta;
        let (last_log_id, last_membership) = (meta.applied, meta.membership);
        snapshot.meta = SnapshotMeta {
            last_log_id,
            last_membership,
        };
        Ok(snapshot)
    }

    /// Reads it to its end.
    pub(crate) fn check(&self) -> Result<(), Error> {
        for record in self.read()? {
            record?;
        }
        Ok(())
    }

    /// Reads what is in it, from its beginning.
    pub(crate) fn read(&self) -> Result<Contents, Error> {
        let io_error = |error: std::io::Error| format::disk(&self.path, &error);
        let at = ReadAt {
            file: self.file.clone(),
            offset: 0,
        };
        let mut reader = BufReader::new(at);
        let mut head = [0; FILE_HEAD_LEN];
        reader.read_exact(&mut head).map_err(io_error)?;
        let layout = Kind::Snapshot.check(&head, &self.path)?;
        let mut frames = FrameReader::new(reader, FILE_HEAD_LEN as u64);
        let damaged = |offset| format::corrupt(&self.path, offset, "the snapshot does not check");
        let header = match frames.next().map_err(io_error)? {
            ReadFrame::Whole(_, offset, body) => Header::decode(layout, body).map_err(|_| damaged(offset))?,
            ReadFrame::Broken(offset) => return Err(damaged(offset)),
            ReadFrame::End => return Err(damaged(0)),
        };
        Ok(Contents {
            header,
            frames,
            batch: Vec::new().into_iter(),
            is_over: false,
            path: self.path.clone(),
        })
    }

    /// Fills `buffer` from `offset`; gives how much there was.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Error> {
        let mut at = ReadAt {
            file: self.file.clone(),
            offset,
        };
        let mut filled = 0;
        while filled < buffer.len() {
            match at.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) => return Err(format::disk(&self.path, &error)),
            }
        }
        Ok(filled)
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Reads a shared file without moving its cursor.
struct ReadAt {
    file: Arc<File>,
    offset: u64,
}

impl Read for ReadAt {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

/// What is in a snapshot: the header, then the records one by one.
pub(crate) struct Contents {
    pub(crate) header: Header,
    frames: FrameReader<BufReader<ReadAt>>,
    batch: std::vec::IntoIter<(Revision, Record)>,
    is_over: bool,
    path: PathBuf,
}

impl Iterator for Contents {
    type Item = Result<(Revision, Record), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(record) = self.batch.next() {
                return Some(Ok(record));
            }
            if self.is_over {
                return None;
            }
            let damaged = |offset| format::corrupt(&self.path, offset, "the snapshot does not check");
            let batch = match self.frames.next() {
                Ok(ReadFrame::Whole(_, _, [])) => {
                    self.is_over = true;
                    return None;
                }
                Ok(ReadFrame::Whole(_, offset, body)) => decode_batch(body).ok_or_else(|| damaged(offset)),
                Ok(ReadFrame::Broken(offset)) => Err(damaged(offset)),
                Ok(ReadFrame::End) => Err(damaged(u64::MAX)),
                Err(error) => Err(format::disk(&self.path, &error)),
            };
            match batch {
                Ok(batch) => self.batch = batch.into_iter(),
                Err(error) => {
                    self.is_over = true;
                    return Some(Err(error));
                }
            }
        }
    }
}

fn decode_batch(mut body: &[u8]) -> Option<Vec<(Revision, Record)>> {
    let mut batch = Vec::new();
    while !body.is_empty() {
        let len = format::u32_at(body.get(..4)?, 0) as usize;
        batch.push(type_config::decode(body.get(4..4 + len)?).ok()?);
        body = &body[4 + len..];
    }
    Some(batch)
}

fn write_file(
    file: File,
    header: &Header,
    records: &mut dyn Iterator<Item = Result<(Revision, Record), Error>>,
    path: &Path,
) -> Result<(), Error> {
    let io_error = |error: std::io::Error| format::disk(path, &error);
    let encoded = |error: bincode::Error| Error::Corrupt(error.to_string());
    let mut file = BufWriter::new(file);
    file.write_all(&Kind::Snapshot.head()).map_err(io_error)?;
    let (mut sequence, mut unsynced) = (1, 0);
    let mut frame = Vec::new();
    format::begin_frame(&mut frame);
    type_config::encode_into(header, &mut frame).map_err(encoded)?;
    let mut flush = |frame: &mut Vec<u8>, file: &mut BufWriter<File>| {
        format::finish_frame(frame, 0, sequence);
        sequence += 1;
        let mut written = file.write_all(frame);
        unsynced += frame.len();
        if unsynced >= SYNCED_EVERY {
            unsynced = 0;
            written = written
                .and_then(|()| file.flush())
                .and_then(|()| file.get_ref().sync_data());
        }
        frame.clear();
        format::begin_frame(frame);
        written.map_err(io_error)
    };
    flush(&mut frame, &mut file)?;
    for record in records {
        let at = frame.len();
        frame.extend_from_slice(&[0; 4]);
        type_config::encode_into(&record?, &mut frame).map_err(encoded)?;
        let len = (frame.len() - at - 4) as u32;
        frame[at..at + 4].copy_from_slice(&len.to_le_bytes());
        if frame.len() >= crate::limit!("snapshot_frame_bytes", FRAME_BYTES) {
            flush(&mut frame, &mut file)?;
        }
    }
    if frame.len() > FRAME_HEAD_LEN {
        flush(&mut frame, &mut file)?;
    }
    flush(&mut frame, &mut file)?;
    let mut file = file.into_inner().map_err(|error| io_error(error.into_error()))?;
    file.flush().map_err(io_error)?;
    file.rewind().map_err(io_error)?;
    if crate::mutant!(SnapshotUnsynced) {
        return Ok(());
    }
    file.sync_all().map_err(io_error)
}

#[cfg(test)]
mod tests {
    use openraft::vote::RaftLeaderId as _;

    use super::meta::Meta;
    use super::*;
    use crate::type_config::TypeConfig;

    type LeaderId = openraft::alias::LeaderIdOf<TypeConfig>;

    fn header(index: u64) -> Header {
        let meta = Meta {
            applied: Some(LogId::new(LeaderId::new(1, 1).to_committed(), index)),
            ..Meta::default()
        };
        Header {
            meta,
            leases: Vec::new(),
        }
    }

    #[test]
    fn of_the_snapshots_that_a_kill_left_the_newest_whole_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::open(dir.path()).unwrap();
        let mut kept = Vec::new();
        for index in [10, 20, 30] {
            let snapshot = snapshots.write(&header(index), &mut std::iter::empty()).unwrap();
            kept.push((snapshot.path.clone(), crate::fs::read(&snapshot.path).unwrap()));
        }
        for (path, bytes) in &kept {
            crate::fs::write(path, bytes).unwrap();
        }
        crate::fs::write(&kept[2].0, &kept[2].1[..20]).unwrap();
        let opened = Snapshots::open(dir.path()).unwrap();
        assert_eq!(opened.newest().unwrap().path, kept[1].0);
        assert!(!kept[0].0.exists());
    }
}
