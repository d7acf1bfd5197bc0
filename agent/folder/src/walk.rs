//! A walk through a folder, however deep, that holds one descriptor and a few octets a level.
//!
//! ```text
//! 7/ a/ b/ f     in a/ at entry b: (id of a, place after b) is kept, b/ is opened, a/ closed
//!                at b/'s end:      `..` is opened, must be a, and is read on from that place
//! ```
//!
//! What is in it may be moved meanwhile: then `..` is another folder, and the walk says so and is over. A folder that cannot be
//! opened is said as well: who counts cannot know what it holds.

use std::ffi::CStr;
use std::io;
use std::mem::offset_of;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use crate::{Folder, system};

/// Octets of names read at once.
const BUFFER: usize = 32 << 10;

/// Levels that a walk goes down; what lies deeper is not seen.
const DEPTH_MAX: usize = 200_000;

/// What a walk has come to.
#[derive(Debug, Clone, Copy)]
pub struct Seen(libc::stat);

impl Seen {
    /// Its file system.
    pub fn dev(&self) -> u64 {
        self.0.st_dev
    }

    /// Its number there.
    pub fn ino(&self) -> u64 {
        self.0.st_ino
    }

    /// Its names.
    pub fn nlink(&self) -> u64 {
        #[expect(clippy::useless_conversion, reason = "it is a u32 on some machines")]
        u64::from(self.0.st_nlink)
    }

    /// What it takes, in units of 512 bytes.
    pub fn blocks(&self) -> u64 {
        self.0.st_blocks.unsigned_abs()
    }

    /// Whether it is a folder.
    pub fn is_dir(&self) -> bool {
        self.0.st_mode & libc::S_IFMT == libc::S_IFDIR
    }
}

/// Why not all was seen.
#[derive(Debug)]
pub enum Unseen {
    /// What was walked through was moved: another walk may see it.
    Moved,
    /// A folder cannot be looked into.
    Closed(io::Error),
}

/// A folder above the one that is read.
struct Level {
    id: system::Id,
    /// Where it is read on.
    place: libc::off64_t,
}

/// A walk.
pub struct Walk {
    folder: OwnedFd,
    above: Vec<Level>,
    buffer: Vec<u8>,
    begin: usize,
    end: usize,
}

impl Walk {
    /// Through this folder.
    pub fn new(folder: &Folder) -> io::Result<Walk> {
        Ok(Walk {
            folder: system::open_to_read(folder.folder.as_fd(), c".")?,
            above: Vec::new(),
            buffer: vec![0; BUFFER],
            begin: 0,
            end: 0,
        })
    }

    /// The next that is in it; after an error there is nothing more.
    pub fn step(&mut self) -> Option<Result<Seen, Unseen>> {
        loop {
            if self.begin == self.end {
                match self.fill() {
                    Ok(0) => match self.ascend()? {
                        Ok(()) => continue,
                        Err(unseen) => return Some(Err(unseen)),
                    },
                    Ok(_) => {}
                    Err(error) => return Some(Err(Unseen::Closed(error))),
                }
            }
            match self.take() {
                Ok(Some(seen)) => return Some(Ok(seen)),
                Ok(None) => {}
                Err(error) => return Some(Err(Unseen::Closed(error))),
            }
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        let (fd, buffer) = (self.folder.as_raw_fd(), &mut self.buffer);
        // SAFETY: the kernel writes no more than the buffer's length into it.
        let count = unsafe { libc::syscall(libc::SYS_getdents64, fd, buffer.as_mut_ptr(), buffer.len()) };
        match usize::try_from(count) {
            Ok(count) => {
                (self.begin, self.end) = (0, count);
                Ok(count)
            }
            // Removed while it was read.
            Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::NotFound => Ok(0),
            Err(_) => Err(io::Error::last_os_error()),
        }
    }

    /// Takes the next entry of the buffer, and goes into it where it is a folder.
    fn take(&mut self) -> io::Result<Option<Seen>> {
        let (place, name, length) = entry(&self.buffer[self.begin..self.end])?;
        let name = name.to_owned();
        self.begin += length;
        if matches!(name.to_bytes(), b"." | b"..") {
            return Ok(None);
        }
        let seen = match system::stat(self.folder.as_fd(), &name) {
            Ok(stat) => Seen(stat),
            // Gone by now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if seen.is_dir() {
            match system::open_to_read(self.folder.as_fd(), &name) {
                Ok(below) => self.descend(below, place)?,
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                    ) =>
                {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Some(seen))
    }

    fn descend(&mut self, below: OwnedFd, place: libc::off64_t) -> io::Result<()> {
        if self.above.len() >= DEPTH_MAX {
            return Err(io::Error::other("it is too deep"));
        }
        let id = system::id(&self.folder)?;
        self.above.push(Level { id, place });
        self.folder = below;
        (self.begin, self.end) = (0, 0);
        Ok(())
    }

    /// Goes on in the folder above; nothing where there is none.
    fn ascend(&mut self) -> Option<Result<(), Unseen>> {
        let Level { id, place } = self.above.pop()?;
        let up = system::open_to_read(self.folder.as_fd(), c"..");
        let up = match up.and_then(|up| Ok((system::id(&up)?, up))) {
            Ok((found, up)) if found == id => up,
            Ok(_) | Err(_) => return Some(Err(Unseen::Moved)),
        };
        // SAFETY: the descriptor is open, and lseek64 takes numbers.
        let placed = unsafe { libc::lseek64(up.as_raw_fd(), place, libc::SEEK_SET) };
        self.folder = up;
        (self.begin, self.end) = (0, 0);
        Some(match placed {
            -1 => Err(Unseen::Closed(io::Error::last_os_error())),
            _ => Ok(()),
        })
    }
}

/// The first entry as the kernel writes it: where the next is, its name, its length.
fn entry(bytes: &[u8]) -> io::Result<(libc::off64_t, &CStr, usize)> {
    const PLACE: usize = offset_of!(libc::dirent64, d_off);
    const LENGTH: usize = offset_of!(libc::dirent64, d_reclen);
    const NAME: usize = offset_of!(libc::dirent64, d_name);
    let torn = || io::Error::from(io::ErrorKind::InvalidData);
    let place = bytes
        .get(PLACE..)
        .and_then(<[u8]>::first_chunk)
        .ok_or_else(torn)?;
    let length = bytes
        .get(LENGTH..)
        .and_then(<[u8]>::first_chunk)
        .ok_or_else(torn)?;
    let length = usize::from(u16::from_ne_bytes(*length));
    let name = bytes.get(NAME..length).ok_or_else(torn)?;
    let name = CStr::from_bytes_until_nul(name).map_err(|_| torn())?;
    Ok((libc::off64_t::from_ne_bytes(*place), name, length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn count(folder: &Folder) -> Result<usize, Unseen> {
        let mut walk = Walk::new(folder).unwrap();
        let mut count = 0;
        while let Some(seen) = walk.step() {
            seen?;
            count += 1;
        }
        Ok(count)
    }

    #[test]
    fn all_is_seen_once_and_links_are_not_followed() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("1");
        let folder = Folder::make(&path, 0o700).unwrap();
        for number in 0..500 {
            fs::create_dir_all(path.join(format!("{number}/a/b"))).unwrap();
            fs::write(path.join(format!("{number}/a/b/file")), "x").unwrap();
        }
        symlink("/", path.join("root")).unwrap();
        assert_eq!(count(&folder).unwrap(), 500 * 4 + 1);
    }

    #[test]
    fn what_lies_beyond_every_path_is_seen() {
        let base = tempfile::tempdir().unwrap();
        let folder = Folder::make(&base.path().join("1"), 0o700).unwrap();
        let name = std::ffi::CString::new("n".repeat(200)).unwrap();
        let mut at = folder.folder.try_clone().unwrap();
        for _ in 0..5_000 {
            system::make_folder(at.as_fd(), &name, 0o700).unwrap();
            at = system::open_folder(at.as_fd(), &name).unwrap();
        }
        fs::write(
            format!("/proc/self/fd/{}/hidden", at.as_raw_fd()),
            vec![1; 1 << 20],
        )
        .unwrap();
        let mut walk = Walk::new(&folder).unwrap();
        let mut blocks = 0;
        while let Some(seen) = walk.step() {
            let seen = seen.unwrap();
            blocks += if seen.is_dir() { 0 } else { seen.blocks() };
        }
        assert!(blocks * 512 >= 1 << 20);
        crate::remove(folder.path()).unwrap();
    }

    #[test]
    fn what_is_moved_while_it_is_walked_through_is_noticed() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("1");
        let folder = Folder::make(&path, 0o700).unwrap();
        fs::create_dir_all(path.join("a/b/c")).unwrap();
        fs::create_dir(path.join("z")).unwrap();
        let mut walk = Walk::new(&folder).unwrap();
        let mut has_moved = false;
        let unseen = loop {
            match walk.step() {
                // Inside b by then.
                Some(Ok(_)) if walk.above.len() == 2 && !has_moved => {
                    fs::rename(path.join("a/b"), path.join("z/b")).unwrap();
                    has_moved = true;
                }
                Some(Ok(_)) => {}
                Some(Err(unseen)) => break unseen,
                None => panic!("it was not noticed"),
            }
        };
        assert!(matches!(unseen, Unseen::Moved));
    }
}
