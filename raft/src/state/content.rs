//! Whether what was stored is still what it was, which no digest of what was applied tells: all keys at one revision
//! summed up, and the files read anew, past what sled has in memory.

#[cfg(not(sim))]
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::State;
#[cfg(not(sim))]
use super::memtable::Memtable;
#[cfg(not(sim))]
use super::sled::Sled;
use crate::mvcc::{ContentDigest, Reads, Records as _};
use crate::{Content, Error, Range};

impl State {
    /// Sums up all keys at `revision`. Nothing is removed meanwhile; nobody but a snapshot waits for it.
    pub(crate) fn content(&self, revision: i64) -> Result<Content, Error> {
        let memtable = self.read().memtable()?;
        let _pin = memtable.pin();
        let all = Range {
            key: vec![0],
            end: Some(vec![0]),
            revision,
            ..Range::default()
        };
        let selection = {
            let inner = self.read();
            if !Arc::ptr_eq(&inner.memtable()?, &memtable) {
                return Err(Error::Refused("a snapshot was installed meanwhile".into()));
            }
            inner.database.select(&all, &mut Reads::of_range())?
        };
        let mut digest = ContentDigest::default();
        for revision in &selection.found {
            if self.progress.borrow().is_stopped {
                return Err(Error::Stopped);
            }
            let record = memtable.record(*revision)?;
            let record = record.ok_or_else(|| {
                let dir = self.dir.display();
                Error::Corrupt(format!("{dir}: the record of revision {} is lost", revision.main))
            })?;
            digest.key(*revision, &record);
        }
        Ok(Content {
            keys: selection.found.len() as u64,
            digest: format!("{:032x}", digest.finish()),
        })
    }

    /// Reads a copy of the state's files. What is applied waits while they are copied.
    #[cfg(not(sim))]
    pub(crate) fn verify(&self) -> Result<(), Error> {
        let memtable = self.read().memtable()?;
        let copy = Copy::new(&self.dir)?;
        room_for(&memtable)?;
        let stored = memtable.copy(&copy.0)?;
        let wrong = |why: String| Error::Corrupt(format!("{}: {why}", memtable.dir().display()));
        let sled = match Sled::open(&copy.0) {
            Ok(sled) => sled,
            Err(Error::Corrupt(why)) => return Err(wrong(why)),
            Err(error) => return Err(error),
        };
        match sled.load() {
            Ok((found, _)) if found == stored => Ok(()),
            Ok(_) => Err(wrong("less lies there than was stored".into())),
            Err(error) => {
                sled.give_up();
                match error {
                    Error::Corrupt(why) => Err(wrong(why)),
                    error => Err(error),
                }
            }
        }
    }
}

/// An error where a copy would not leave enough of the disk.
#[cfg(not(sim))]
fn room_for(memtable: &Memtable) -> Result<(), Error> {
    let dir = memtable.dir();
    let io_error = |error: std::io::Error| crate::format::disk(dir, &error);
    let size = memtable.size()?;
    if !crate::room::Room::of(dir).map_err(io_error)?.takes(size) {
        return Err(Error::Disk(format!(
            "{}: the disk has no room for a copy of {size} octets to be checked",
            dir.display()
        )));
    }
    Ok(())
}

/// A folder for a copy, removed with this.
#[cfg(not(sim))]
struct Copy(PathBuf);

#[cfg(not(sim))]
impl Copy {
    fn new(dir: &Path) -> Result<Copy, Error> {
        let folder = dir.join(super::open::COPY);
        super::open::remove_copy(dir)?;
        Ok(Copy(folder))
    }
}

#[cfg(not(sim))]
impl Drop for Copy {
    fn drop(&mut self) {
        super::sled::remove_dir(&self.0);
    }
}
