//! What of a disk's room was promised to blobs that are being written, and how many of these there are.
//!
//! The room that is free says nothing of the bytes that are still to come: begun together, blobs would each be told that
//! they fit.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pipes_raft::Room;

use super::Error;

/// Blobs that may be written at once: each has a descriptor, and clients, links and stages need theirs.
const WRITTEN_MAX: usize = 2_048;

/// All promises of one disk. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub(super) struct Promised(Arc<Mutex<Sum>>);

#[derive(Debug, Default)]
struct Sum {
    blobs: usize,
    bytes: u64,
}

/// Room for what is still to come of one blob. Given back with it.
pub(super) struct Promise {
    promised: Promised,
    left: u64,
}

impl Promised {
    /// Promises room for `size` bytes in `folder`.
    pub(super) fn promise(&self, folder: &Path, size: u64) -> Result<Promise, Error> {
        let room = Room::of(folder).map_err(Error::disk(folder))?;
        let mut sum = self.sum();
        if sum.blobs >= WRITTEN_MAX {
            return Err(Error::Busy { most: WRITTEN_MAX });
        }
        let bytes = sum.bytes.saturating_add(size);
        if !room.takes(bytes) {
            return Err(no_room(folder, room, sum.bytes));
        }
        (sum.blobs, sum.bytes) = (sum.blobs + 1, bytes);
        Ok(Promise {
            promised: self.clone(),
            left: size,
        })
    }

    /// Refuses where `size` bytes beside all that was promised would take the disk's last part.
    pub(super) fn room_for(&self, folder: &Path, size: u64) -> Result<(), Error> {
        let promised = self.sum().bytes;
        room_for(folder, promised, size)
    }

    fn sum(&self) -> MutexGuard<'_, Sum> {
        // Plain data: a panic elsewhere leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Promise {
    /// So many bytes have come, and are no longer free on the disk.
    pub(super) fn written(&mut self, bytes: u64) {
        let come = bytes.min(self.left);
        self.left -= come;
        self.promised.sum().bytes -= come;
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        let mut sum = self.promised.sum();
        sum.blobs -= 1;
        sum.bytes -= self.left;
    }
}

/// Refuses where `size` more bytes, beside those promised, would take the disk's last part.
pub(super) fn room_for(folder: &Path, promised: u64, size: u64) -> Result<(), Error> {
    let room = Room::of(folder).map_err(Error::disk(folder))?;
    match room.takes(promised.saturating_add(size)) {
        true => Ok(()),
        false => Err(no_room(folder, room, promised)),
    }
}

fn no_room(folder: &Path, room: Room, promised: u64) -> Error {
    Error::NoRoom {
        path: folder.to_owned(),
        free: room.free.saturating_sub(promised),
        least: room.kept,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_promised_to_one_is_not_promised_to_another() {
        let folder = tempfile::tempdir().unwrap();
        let promised = Promised::default();
        let room = Room::of(folder.path()).unwrap();
        // Others write on this disk too: all but a third of what is free.
        let most = room.free.saturating_sub(room.kept) / 3 * 2;
        let mut first = promised.promise(folder.path(), most).unwrap();
        assert!(matches!(
            promised.promise(folder.path(), most),
            Err(Error::NoRoom { .. })
        ));
        assert!(promised.room_for(folder.path(), most).is_err());
        // As if they had been deleted again.
        first.written(most);
        let second = promised.promise(folder.path(), most).unwrap();
        drop((first, second));
        let sum = promised.sum();
        assert_eq!((sum.blobs, sum.bytes), (0, 0));
    }

    #[test]
    fn only_so_many_are_written_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let promised = Promised::default();
        let mut all: Vec<Promise> = (0..WRITTEN_MAX)
            .map(|_| promised.promise(folder.path(), 0).unwrap())
            .collect();
        assert!(matches!(
            promised.promise(folder.path(), 0),
            Err(Error::Busy { .. })
        ));
        all.pop();
        assert!(promised.promise(folder.path(), 0).is_ok());
    }
}
