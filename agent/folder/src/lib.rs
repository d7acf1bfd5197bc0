//! Folders that stages write into: what is in one is hostile, and goes all the same.
//!
//! A path to such a folder may lead elsewhere by the time it is used, since a stage of the same user can put a link in its
//! place; what is in it may be nested deeper than a path can be long, a stack or the descriptors of a process go. So a folder
//! is opened when it is made, and all that is done to it later is done from that descriptor, a level at a time:
//!
//! ```text
//! 7/ a/ b/ c/ f     the descriptor is that of 7
//!    a/ is opened:  its files are unlinked, its folders (b) moved up to 7/.1     now 7/ a/ and 7/.1/ c/ f
//!    a/ is empty:   removed                                                      7/.1/ c/ f
//!    .1/ is opened: c moved up to 7/.2, .1 removed                               7/.2/ f   ... 7/
//! ```
//!
//! Always: (1) no path is followed that a stage could have changed; (2) two descriptors and a listing are open at once,
//! however deep it is, and nothing is remembered of what was seen; (3) a removal goes on in steps, and what cannot be removed
//! is said, with why.

mod removal;
mod system;
mod walk;

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

pub use removal::{Progress, Removal};
pub use walk::{Seen, Unseen, Walk};

/// A folder, by its descriptor.
#[derive(Debug)]
pub struct Folder {
    /// It itself.
    folder: OwnedFd,
    /// Where it was made, and as what.
    parent: OwnedFd,
    name: CString,
    path: PathBuf,
}

impl Folder {
    /// Makes it, with these permissions; its parent is trusted.
    pub fn make(path: &Path, mode: libc::mode_t) -> io::Result<Folder> {
        let (parent, name) = place(path)?;
        system::make_folder(parent.as_fd(), &name, mode)?;
        Folder::at(parent, name, path)
    }

    /// Opens one that is there; a link in its place is none.
    pub fn open(path: &Path) -> io::Result<Folder> {
        let (parent, name) = place(path)?;
        Folder::at(parent, name, path)
    }

    fn at(parent: OwnedFd, name: CString, path: &Path) -> io::Result<Folder> {
        let folder = system::open_folder(parent.as_fd(), &name)?;
        Ok(Folder {
            folder,
            parent,
            name,
            path: path.to_owned(),
        })
    }

    /// Where it was made; what is there by now may be something else.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it if it is empty and still there, which takes no time.
    pub fn remove_empty(&self) -> io::Result<()> {
        if !system::is_same(self.parent.as_fd(), &self.name, self.folder.as_fd())? {
            return Err(io::Error::other("something else lies in its place"));
        }
        system::remove_folder(self.parent.as_fd(), &self.name)
    }
}

/// Removes a folder and all that is in it, on this thread, however long it takes.
pub fn remove(path: &Path) -> io::Result<()> {
    let mut removal = Removal::new(Folder::open(path)?.into());
    loop {
        match removal.step() {
            Progress::Goes => {}
            Progress::Gone => return Ok(()),
            Progress::Stays(why) => return Err(why),
        }
    }
}

/// The folder that something lies in, and its name there.
fn place(path: &Path) -> io::Result<(OwnedFd, CString)> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let parent = if parent.as_os_str().is_empty() {
        Path::new(".")
    } else {
        parent
    };
    Ok((system::open_path(parent)?, system::c_name(name)?))
}
