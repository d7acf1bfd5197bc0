//! The disk that working folders lie on: a tenth of it, or 2 GiB where that is less, stays free of them.
//!
//! ```text
//! free: more than twice that   nobody is looked at
//!       less                   each replica finds out what its invocations hold, and writes the largest number beside them
//!       less than that         who holds the most of all ends; then the others see, once its folder is gone
//! ```
//!
//! Replicas of a node share a folder, each with one of its own in it; so they compare without asking anybody.
//!
//! Always: (1) one whose end would not mend it stays, whoever filled the disk; (2) while the largest is being cleared away it
//! still counts, and nobody else ends.

use std::ffi::{CString, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// So long a disk may be nearly full before it is known of all invocations what they hold: where some begin all the time,
/// there is always one of which it is not.
const UNKNOWN_MAX: Duration = Duration::from_secs(5);
/// Free bytes that are enough on any disk.
const RESERVE_MAX: u64 = 2 << 30;
/// What holds less than this part of what is to stay free is no reason for the want of it.
const MATTERS: u64 = 16;
/// Where a replica writes how much its largest invocation holds.
const HELD: &str = "held";
const HELD_NEW: &str = "held.new";

/// How much of a disk is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// Enough.
    Plenty,
    /// Not much more than what is to stay free.
    Scarce,
    /// Less than that.
    Low,
}

/// The disk of a replica's folders.
pub struct Disk {
    /// The replica's folder, beside those of others.
    folder: PathBuf,
    due: Instant,
    room: Room,
    /// Since when it has been nearly full, if it is.
    low_since: Option<Instant>,
    reserve: u64,
    /// What stands beside the others' numbers.
    written: Option<u64>,
    /// The disk did not take it, since the last look.
    is_refused: bool,
    /// Since the last look.
    is_compared: bool,
}

impl Disk {
    /// The one that this folder of a replica is on.
    pub fn new(folder: PathBuf) -> Disk {
        Disk {
            folder,
            due: Instant::now(),
            room: Room::Plenty,
            low_since: None,
            reserve: 0,
            written: None,
            is_refused: false,
            is_compared: false,
        }
    }

    /// How much is free, looked at once a second.
    pub fn look(&mut self, now: Instant) -> Room {
        if now >= self.due {
            self.due = now + EVERY;
            // Where it was not scarce before, nobody knows yet what each holds.
            self.is_compared = self.room == Room::Plenty;
            self.is_refused = false;
            // A disk that cannot be asked has room until somebody finds out.
            let (total, free) = sizes(&self.folder).unwrap_or((0, 0));
            self.reserve = reserve(total);
            self.note(room(total, free), now);
        }
        self.room
    }

    fn note(&mut self, room: Room, now: Instant) {
        self.room = room;
        let since = self.low_since.unwrap_or(now);
        self.low_since = (room == Room::Low).then_some(since);
    }

    /// Whether it has been nearly full for so long that what is not known of some invocations is waited for no longer.
    pub fn is_overdue(&self, now: Instant) -> bool {
        self.low_since
            .is_some_and(|since| now.duration_since(since) >= UNKNOWN_MAX)
    }

    /// The largest invocation of this replica holds so much, if any holds something; whether it has to end, as the disk has too
    /// little free and no other holds more. Once after each look.
    pub fn has_to_free(&mut self, held: Option<u64>) -> bool {
        let held = held.filter(|_| self.room != Room::Plenty);
        self.write(held);
        let is_due = self.room == Room::Low && !std::mem::replace(&mut self.is_compared, true);
        let least = self.reserve / MATTERS;
        let own = self.folder.file_name().map(OsString::from);
        held.is_some_and(|held| {
            let is_larger = |other: (u64, Option<OsString>)| other > (held, own.clone());
            is_due && held >= least && !self.others().any(is_larger)
        })
    }

    /// What the largest invocation of each replica holds, as far as they say, and its folder's name: of two that hold the
    /// same one is the larger.
    fn others(&self) -> impl Iterator<Item = (u64, Option<OsString>)> {
        let beside = self.folder.parent().and_then(|all| fs::read_dir(all).ok());
        let beside = beside.into_iter().flatten().flatten();
        beside.filter_map(|entry| {
            let held = fs::read_to_string(entry.path().join(HELD)).ok()?.parse().ok()?;
            Some((held, Some(entry.file_name())))
        })
    }

    fn write(&mut self, held: Option<u64>) {
        if self.written == held || self.is_refused {
            return;
        }
        // A full disk may refuse it: then others judge by what we said last until the next look.
        match write(&self.folder, held) {
            Ok(()) => self.written = held,
            Err(_) => self.is_refused = true,
        }
    }
}

/// Writes the number, whole at every moment.
fn write(folder: &Path, held: Option<u64>) -> io::Result<()> {
    let path = folder.join(HELD);
    let Some(held) = held else {
        return match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
    };
    let new = folder.join(HELD_NEW);
    fs::write(&new, held.to_string())?;
    fs::rename(new, path)
}

/// How much of a disk is to stay free, in bytes.
fn reserve(total: u64) -> u64 {
    (total / 10).min(RESERVE_MAX)
}

fn room(total: u64, free: u64) -> Room {
    let reserve = reserve(total);
    if free < reserve {
        Room::Low
    } else if free < 2 * reserve {
        Room::Scarce
    } else {
        Room::Plenty
    }
}

/// Bytes of a folder's disk, and those of them that are free to all.
fn sizes(folder: &Path) -> Option<(u64, u64)> {
    let path = CString::new(folder.as_os_str().as_bytes()).ok()?;
    // SAFETY: numbers alone, for which zeros are valid.
    let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path is a C string, and the kernel writes one structure.
    if unsafe { libc::statvfs(path.as_ptr(), &mut stat) } < 0 {
        return None;
    }
    let block = stat.f_frsize as u64;
    Some((stat.f_blocks as u64 * block, stat.f_bavail as u64 * block))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn a_tenth_stays_free_or_two_gibibytes_where_that_is_less() {
        assert_eq!(room(10 * GIB, GIB - 1), Room::Low);
        assert_eq!(room(10 * GIB, GIB), Room::Scarce);
        assert_eq!(room(10 * GIB, 2 * GIB), Room::Plenty);
        assert_eq!(room(1000 * GIB, 2 * GIB - 1), Room::Low);
        assert_eq!(room(1000 * GIB, 4 * GIB), Room::Plenty);
        assert_eq!(room(0, 0), Room::Plenty, "one that cannot be asked");
    }

    fn low(folder: PathBuf) -> Disk {
        fs::create_dir(&folder).unwrap();
        let mut disk = Disk::new(folder);
        (disk.room, disk.reserve) = (Room::Low, GIB);
        disk
    }

    #[test]
    fn of_all_replicas_the_largest_ends_and_no_small_one() {
        let base = tempfile::tempdir().unwrap();
        let (mut one, mut two) = (low(base.path().join("a")), low(base.path().join("b")));
        let asked = |disk: &mut Disk, held: u64| {
            disk.is_compared = false;
            disk.has_to_free(Some(held))
        };
        assert!(!asked(&mut one, 1000), "its end would mend nothing");
        assert!(asked(&mut two, 3 * GIB));
        assert!(!two.has_to_free(Some(3 * GIB)), "once after each look");
        assert!(!asked(&mut one, 2 * GIB), "another is the larger one");
        assert!(!two.has_to_free(None), "it is gone");
        assert!(asked(&mut one, 2 * GIB));
        one.room = Room::Scarce;
        assert!(!asked(&mut one, 2 * GIB));
    }

    #[test]
    fn what_is_not_known_is_waited_for_so_long_as_the_disk_is_nearly_full_and_no_longer() {
        let base = tempfile::tempdir().unwrap();
        let (mut disk, now) = (Disk::new(base.path().to_owned()), Instant::now());
        disk.note(Room::Low, now);
        disk.note(Room::Low, now + UNKNOWN_MAX / 2);
        assert!(!disk.is_overdue(now + UNKNOWN_MAX / 2));
        assert!(disk.is_overdue(now + UNKNOWN_MAX));
        disk.note(Room::Scarce, now + UNKNOWN_MAX);
        disk.note(Room::Low, now + UNKNOWN_MAX);
        assert!(!disk.is_overdue(now + UNKNOWN_MAX));
    }

    #[test]
    fn the_disk_of_a_folder_can_be_asked() {
        let base = tempfile::tempdir().unwrap();
        let (total, free) = sizes(base.path()).unwrap();
        assert!(total >= free && total > 0);
    }
}
