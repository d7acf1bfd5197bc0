//! Where the blocks of records lie: files that are only appended to, beside sled, which knows the place of each block.
//!
//! ```text
//! state.3/db         sled: revision 1 -> blocks.1, octets 0 to 410; revision 65 -> blocks.1, octets 410 to 16900; ...
//! state.3/blocks.1   a block | a block | one that compaction took records out of, and wrote anew | ...
//! state.3/blocks.2
//! ```
//!
//! In sled itself they would stay in memory: its cache looks at what it holds only after some sixteen thousand accesses,
//! whatever that is, and a page with a large value is written anew with each neighbour. Here the system's cache has
//! them, and an agent's memory does not grow with what is stored.
//!
//! A file whose blocks are all superseded is removed; one of which less than half is left has its blocks written anew at
//! the end. So they take at most twice what is in them, and a file.
//!
//! Always: (1) what was written never changes; (2) one thread alone writes; (3) a file is removed only when sled knows,
//! on the disk, that its blocks lie elsewhere: a reader that finds it gone asks sled again.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::fs::{File, OpenOptions};
use crate::{Error, format};

/// A file is followed by another when it has grown to this: small enough that space comes back in steps, large enough
/// that they are few.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// What their names begin with.
const PREFIX: &str = "blocks.";

/// Where a block lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    file: u32,
    offset: u32,
    len: u32,
}

impl Place {
    /// The number of the file it lies in.
    pub(super) fn file(self) -> u32 {
        self.file
    }
}

/// The files of one folder.
pub(super) struct BlockFiles {
    dir: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Octets of each file, and of those the ones in blocks that are not superseded.
    sizes: BTreeMap<u32, Size>,
    /// The last one, once something was written.
    open: Option<(u32, Arc<File>)>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Size {
    all: u64,
    live: u64,
}

impl BlockFiles {
    /// Those that lie in `dir`. What of them is needed is told by [`BlockFiles::found`].
    pub(super) fn open(dir: &Path) -> Result<BlockFiles, Error> {
        let io_error = |error: io::Error| format::disk(dir, &error);
        let mut inner = Inner::default();
        for file in crate::fs::read_dir(dir).map_err(io_error)? {
            let file = file.map_err(io_error)?;
            if let Some(number) = number(&file.path()) {
                let all = crate::fs::metadata(file.path()).map_err(io_error)?.len();
                inner.sizes.insert(number, Size { all, live: 0 });
            }
        }
        Ok(BlockFiles {
            dir: dir.to_path_buf(),
            inner: Mutex::new(inner),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, number: u32) -> PathBuf {
        self.dir.join(format!("{PREFIX}{number}"))
    }

    /// Writes a block; gives where it lies.
    pub(super) fn append(&self, block: &[u8]) -> Result<Place, Error> {
        let mut inner = self.lock();
        let last = inner.sizes.last_key_value();
        let number = match last.map(|(number, size)| (*number, size.all)) {
            Some((number, all)) if all < crate::limit!("block_file_bytes", FILE_BYTES_MAX) => number,
            Some((number, _)) => number + 1,
            None => 1,
        };
        let path = self.path(number);
        let io_error = |error: io::Error| format::disk(&path, &error);
        let file = match &inner.open {
            Some((open, file)) if *open == number => file.clone(),
            _ => {
                let opened = OpenOptions::new()
                    .read(true)
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .open(&path);
                let file = Arc::new(opened.map_err(io_error)?);
                inner.open = Some((number, file.clone()));
                file
            }
        };
        let size = inner.sizes.entry(number).or_default();
        let place = Place {
            file: number,
            offset: size.all as u32,
            len: block.len() as u32,
        };
        // One that fails half-way leaves octets that nobody looks at.
        file.write_all_at(block, size.all).map_err(io_error)?;
        size.all += block.len() as u64;
        size.live += block.len() as u64;
        Ok(place)
    }

    /// The block at a place; nothing if its file is gone: then it lies elsewhere by now, or nowhere.
    pub(super) fn read(&self, place: Place) -> Result<Option<Vec<u8>>, Error> {
        let path = self.path(place.file);
        let io_error = |error: io::Error| format::disk(&path, &error);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error(error)),
        };
        let mut block = vec![0; place.len as usize];
        match file.read_exact_at(&mut block, u64::from(place.offset)) {
            Ok(()) => Ok(Some(block)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(format::corrupt(
                &path,
                u64::from(place.offset),
                "a block is cut short",
            )),
            Err(error) => Err(io_error(error)),
        }
    }

    /// Takes note of a block that sled knows, when it is opened.
    pub(super) fn found(&self, place: Place) {
        self.lock().sizes.entry(place.file).or_default().live += u64::from(place.len);
    }

    /// Takes note that a block is superseded.
    pub(super) fn supersede(&self, place: Place) {
        if let Some(size) = self.lock().sizes.get_mut(&place.file) {
            size.live = size.live.saturating_sub(u64::from(place.len));
        }
    }

    /// A full file of which less than half is left, the emptiest first.
    pub(super) fn sparse(&self) -> Option<u32> {
        let inner = self.lock();
        let last = inner.sizes.last_key_value().map(|(number, _)| *number);
        let full = inner.sizes.iter().filter(|(number, _)| Some(**number) != last);
        let sparse = full.filter(|(_, size)| size.live * 2 < size.all);
        sparse
            .min_by_key(|(_, size)| size.live)
            .map(|(number, _)| *number)
    }

    /// Whether nothing of a file is left.
    pub(super) fn is_empty(&self, number: u32) -> bool {
        self.lock().sizes.get(&number).is_none_or(|size| size.live == 0)
    }

    /// Removes a file in which nothing is left.
    pub(super) fn remove(&self, number: u32) -> Result<(), Error> {
        let path = self.path(number);
        crate::fs::remove_file(&path).map_err(|error| format::disk(&path, &error))?;
        self.lock().sizes.remove(&number);
        Ok(())
    }
}

/// The number of a file, if it is one of these.
pub(super) fn number(path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.strip_prefix(PREFIX)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_sparse_once_less_than_half_of_it_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let files = BlockFiles::open(dir.path()).unwrap();
        let block = vec![7; 4 * 1024 * 1024];
        let places: Vec<Place> = (0..5).map(|_| files.append(&block).unwrap()).collect();
        assert_eq!(
            places.iter().map(|place| place.file()).collect::<Vec<_>>(),
            [1, 1, 1, 1, 2]
        );
        files.supersede(places[0]);
        files.supersede(places[1]);
        files.supersede(places[4]);
        assert_eq!(
            files.sparse(),
            None,
            "half is left, and the last one is written to"
        );
        files.supersede(places[2]);
        assert_eq!(files.sparse(), Some(1));
        assert_eq!(files.read(places[3]).unwrap(), Some(block));
        files.remove(1).unwrap();
        assert_eq!(files.read(places[3]).unwrap(), None);
    }

    #[test]
    fn what_is_written_after_a_restart_lies_behind_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let first = BlockFiles::open(dir.path()).unwrap().append(b"first").unwrap();
        let files = BlockFiles::open(dir.path()).unwrap();
        let second = files.append(b"second").unwrap();
        assert_eq!(files.read(first).unwrap().as_deref(), Some(&b"first"[..]));
        assert_eq!(files.read(second).unwrap().as_deref(), Some(&b"second"[..]));
        std::fs::write(dir.path().join("blocks.1"), "firstsec").unwrap();
        assert!(matches!(files.read(second), Err(Error::Corrupt(_))));
    }
}
