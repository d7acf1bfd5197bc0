//! The log's files: one stream of records, cut into files that are named by where they begin in it.
//!
//! ```text
//! logs/00000000000003145728.log    the octets from position 3145728 on, up to 1 MiB; the oldest file goes
//! ```
//!
//! A position is given once, whatever is dropped, written or lost: a later life goes on behind the last file. Where a write
//! failed the next file begins behind what is missing. All of this blocks.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::record::{self, Entry};

/// All that is kept; the oldest file goes when it is full.
pub const KEPT_MAX: u64 = 10 << 20;
/// One file.
pub const FILE_MAX: u64 = 1 << 20;
/// Digits of a file's name: any position has its place in the order of names.
const DIGITS: usize = 20;

/// The files of a folder.
pub struct Files {
    folder: PathBuf,
    /// Where each file begins, and how long it is; the oldest first.
    kept: Mutex<VecDeque<(u64, u64)>>,
}

/// Writes at the end.
#[derive(Default)]
pub struct Writer {
    writing: Option<File>,
}

impl Files {
    /// The files in a folder, which is made where there is none, and the position behind them.
    pub fn open(folder: PathBuf) -> io::Result<(Files, u64)> {
        fs::create_dir_all(&folder)?;
        let mut kept: Vec<(u64, u64)> = Vec::new();
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let digits = name.to_str().and_then(|name| name.strip_suffix(".log"));
            match digits.map(|digits| (digits.len(), digits.parse())) {
                Some((DIGITS, Ok(begin))) if entry.metadata()?.len() > 0 => {
                    kept.push((begin, entry.metadata()?.len()));
                }
                // Empty, or of a version whose records were others.
                Some(_) => fs::remove_file(entry.path())?,
                None => {}
            }
        }
        kept.sort_unstable();
        for index in 1..kept.len() {
            // Half a record, whose write failed, may reach beyond the beginning of the next file.
            let room = kept[index].0 - kept[index - 1].0;
            kept[index - 1].1 = kept[index - 1].1.min(room);
        }
        let end = kept.last().map_or(0, |(begin, length)| begin + length);
        let kept = Mutex::new(kept.into());
        Ok((Files { folder, kept }, end))
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn path(&self, begin: u64) -> PathBuf {
        self.folder.join(format!("{begin:0DIGITS$}.log"))
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<(u64, u64)>> {
        // Plain numbers: whole at every moment, whoever panicked.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A disk that takes nothing, as long as this is held.
    #[cfg(test)]
    pub fn stand_still(&self) -> impl Drop {
        self.kept()
    }

    /// Writes records that begin at `position`; gives how many octets of old ones had to go for them. After an error the
    /// next file begins.
    pub fn write(&self, writer: &mut Writer, position: u64, records: &[Vec<u8>]) -> io::Result<u64> {
        let written = self.try_write(writer, position, records);
        if written.is_err()
            && let Some(file) = writer.writing.take()
        {
            self.cut(&file);
        }
        written
    }

    /// Leaves of the last file what is counted; one that has nothing goes. Where even that fails, half a record stays.
    fn cut(&self, file: &File) {
        let mut kept = self.kept();
        match kept.back().copied() {
            Some((begin, 0)) => {
                kept.pop_back();
                let _ = fs::remove_file(self.path(begin));
            }
            Some((_, length)) => drop(file.set_len(length)),
            None => {}
        }
    }

    fn try_write(&self, writer: &mut Writer, mut position: u64, records: &[Vec<u8>]) -> io::Result<u64> {
        let (mut gone, mut octets) = (0, Vec::new());
        let mut records = records.iter().peekable();
        while let Some(record) = records.peek() {
            // A former life's file may end in half a record, as one whose write failed: neither is written on.
            let length = self.kept().back().map_or(0, |(_, length)| *length);
            if writer.writing.is_none() || length + record.len() as u64 > FILE_MAX {
                writer.writing = Some(File::create(self.path(position))?);
                self.kept().push_back((position, 0));
                continue;
            }
            octets.clear();
            while let Some(record) = records.peek()
                && length + (octets.len() + record.len()) as u64 <= FILE_MAX
            {
                octets.extend_from_slice(record);
                records.next();
            }
            gone += self.make_room(octets.len() as u64)?;
            if let Some(file) = &mut writer.writing {
                file.write_all(&octets)?;
            }
            position += octets.len() as u64;
            if let Some((_, length)) = self.kept().back_mut() {
                *length += octets.len() as u64;
            }
        }
        Ok(gone)
    }

    fn make_room(&self, room: u64) -> io::Result<u64> {
        let mut gone = 0;
        loop {
            let oldest = {
                let mut kept = self.kept();
                let all: u64 = kept.iter().map(|(_, length)| length).sum();
                // The last one is being written.
                let is_full = all + room > KEPT_MAX && kept.len() > 1;
                is_full.then(|| kept.pop_front()).flatten()
            };
            let Some((begin, length)) = oldest else {
                return Ok(gone);
            };
            gone += length;
            fs::remove_file(self.path(begin))?;
        }
    }

    /// Reads the records between two positions, one after another with the position behind it, until `each` says that it
    /// is enough; gives the position up to which all was looked at.
    pub fn read(&self, from: u64, upto: u64, mut each: impl FnMut(&[u8], Entry) -> bool) -> u64 {
        let files: Vec<(u64, u64)> = self.kept().iter().copied().collect();
        for (begin, length) in files {
            let end = (begin + length).min(upto);
            let mut position = from.max(begin);
            if position >= end {
                continue;
            }
            // A file that was dropped meanwhile is one that is not there.
            let octets = self.octets(begin, position, end).unwrap_or_default();
            let mut rest = &octets[..];
            while let Some((run, entry, taken)) = record::decode(rest) {
                rest = &rest[taken..];
                position += taken as u64;
                if !each(run, entry) {
                    return position;
                }
            }
        }
        upto.max(from)
    }

    fn octets(&self, begin: u64, from: u64, upto: u64) -> io::Result<Vec<u8>> {
        let mut file = File::open(self.path(begin))?;
        file.seek(SeekFrom::Start(from - begin))?;
        let mut octets = Vec::with_capacity(usize::try_from(upto - from).unwrap_or(0));
        file.take(upto - from).read_to_end(&mut octets)?;
        Ok(octets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_takes_nothing_leaves_no_file_for_each_record_it_did_not_take() {
        let folder = tempfile::tempdir().unwrap();
        let (files, _) = Files::open(folder.path().to_owned()).unwrap();
        for position in 0..3 {
            fs::write(files.path(position), b"").unwrap();
            files.kept().push_back((position, 0));
            let mut writer = Writer {
                // It cannot be written.
                writing: Some(File::open(files.path(position)).unwrap()),
            };
            assert!(
                files
                    .write(&mut writer, position, &[b"a record".to_vec()])
                    .is_err()
            );
            assert!(writer.writing.is_none());
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(files.kept().is_empty());
    }
}
