//! How much of a disk is left free by what is bulk: what is left is the log's.

use std::io;
use std::path::Path;

/// A tenth of a disk stays free, and no more than this.
const KEPT_MAX: u64 = 2 << 30;

/// The room on a disk, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Free to everybody, the system's own reserve left out.
    pub free: u64,
    /// What bulk leaves of it.
    pub kept: u64,
}

impl Room {
    /// Of the disk that `folder` lies on.
    pub fn of(folder: &Path) -> io::Result<Room> {
        let disk = fs2::statvfs(folder)?;
        Ok(Room {
            free: disk.available_space(),
            kept: (disk.total_space() / 10).min(KEPT_MAX),
        })
    }

    /// Whether `size` more bytes of bulk leave enough.
    pub fn takes(self, size: u64) -> bool {
        self.free.saturating_sub(size) >= self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_no_longer_taken() {
        let room = Room { free: 30, kept: 10 };
        assert!(room.takes(20));
        assert!(!room.takes(21));
        assert!(!room.takes(u64::MAX));
    }

    #[test]
    fn a_large_disk_keeps_no_more_than_two_gigabytes() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Room::of(folder.path()).unwrap().kept <= 2 << 30);
        assert!(Room::of(&folder.path().join("none")).is_err());
    }
}
