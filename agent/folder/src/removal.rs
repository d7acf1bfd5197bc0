//! A folder being removed, step by step.

use std::ffi::CString;
use std::fs::{FileType, ReadDir};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::{Folder, system};

/// Entries removed in one step: about a millisecond.
const STEP: usize = 64;

/// Who makes things faster than they are removed is not removed after so long.
const LASTS_MAX: Duration = Duration::from_secs(300);

/// How far a removal is.
#[derive(Debug)]
pub enum Progress {
    /// There is more to do.
    Goes,
    /// It is gone.
    Gone,
    /// Some of it stays.
    Stays(io::Error),
}

/// A folder in the one that is removed, being emptied.
struct Below {
    folder: OwnedFd,
    name: CString,
    entries: ReadDir,
}

/// A folder on its way out.
pub struct Removal {
    folder: Arc<Folder>,
    begun: Option<Instant>,
    /// What is still to be looked at of it, in this pass.
    entries: Option<ReadDir>,
    below: Option<Below>,
    /// Folders that were moved up, which numbers their names.
    moved: u64,
    /// Something was removed or moved in this pass: another may find more.
    is_of_use: bool,
    /// Why something stays.
    why: Option<io::Error>,
}

impl Removal {
    /// Of this folder.
    pub fn new(folder: Arc<Folder>) -> Removal {
        Removal {
            folder,
            begun: None,
            entries: None,
            below: None,
            moved: 0,
            is_of_use: true,
            why: None,
        }
    }

    /// Goes on for about a millisecond.
    pub fn step(&mut self) -> Progress {
        let now = Instant::now();
        let begun = *self.begun.get_or_insert(now);
        if now.duration_since(begun) > LASTS_MAX {
            return Progress::Stays(io::Error::other("it is filled as fast as it is emptied"));
        }
        for _ in 0..STEP {
            if let Some(below) = self.below.take() {
                self.below = self.go_on(below);
                continue;
            }
            match self.entries.as_mut().map(Iterator::next) {
                Some(Some(Ok(entry))) => {
                    let kind = entry.file_type().ok();
                    if let Ok(name) = system::c_name(&entry.file_name()) {
                        self.take(name, kind);
                    }
                }
                Some(Some(Err(error))) => (self.entries, self.why) = (None, Some(error)),
                Some(None) => self.entries = None,
                None if self.is_of_use => self.begin_pass(),
                None => return self.end(),
            }
        }
        Progress::Goes
    }

    fn begin_pass(&mut self) {
        (self.is_of_use, self.why) = (false, None);
        let folder = self.folder.folder.as_fd();
        let opened = system::unlock(folder).and_then(|()| system::list(folder));
        match opened {
            Ok(entries) => self.entries = Some(entries),
            Err(error) => self.why = Some(error),
        }
    }

    /// Removes what is in the folder itself; begins with one that is a folder.
    fn take(&mut self, name: CString, kind: Option<FileType>) {
        let folder = Arc::clone(&self.folder);
        let at = folder.folder.as_fd();
        if !is_folder(kind) {
            match system::unlink(at, &name) {
                Err(error) if is_of_a_folder(&error) => {}
                removed => return self.note(removed),
            }
        }
        let opened = system::open_folder(at, &name).and_then(|folder| {
            system::unlock(folder.as_fd())?;
            let entries = system::list(folder.as_fd())?;
            Ok((folder, entries))
        });
        match opened {
            Ok((folder, entries)) => {
                self.below = Some(Below {
                    folder,
                    name,
                    entries,
                })
            }
            Err(error) => self.note(Err(error)),
        }
    }

    /// Takes the next of what is in a folder below; gives that back while there is more.
    fn go_on(&mut self, mut below: Below) -> Option<Below> {
        let folder = Arc::clone(&self.folder);
        let at = folder.folder.as_fd();
        match below.entries.next() {
            Some(Ok(entry)) => {
                let kind = entry.file_type().ok();
                if let Ok(name) = system::c_name(&entry.file_name()) {
                    self.take_below(at, &below, &name, kind);
                }
                Some(below)
            }
            Some(Err(error)) => {
                self.note(Err(error));
                None
            }
            None => {
                let removed = system::remove_folder(at, &below.name);
                self.note(removed);
                None
            }
        }
    }

    fn take_below(&mut self, at: BorrowedFd<'_>, below: &Below, name: &CString, kind: Option<FileType>) {
        let from = below.folder.as_fd();
        if !is_folder(kind) {
            match system::unlink(from, name) {
                Err(error) if is_of_a_folder(&error) => {}
                removed => return self.note(removed),
            }
        }
        // Whose parent changes is written to: it must be open to its own user.
        let opened = system::open_folder(from, name).and_then(|inner| system::unlock(inner.as_fd()));
        if let Err(error) = opened {
            return self.note(Err(error));
        }
        self.moved += 1;
        let moved = CString::new(format!(".{}", self.moved))
            .map_err(io::Error::from)
            .and_then(|new_name| system::move_to(from, name, at, &new_name));
        match moved {
            // Something has the name: the next number will do, in the next pass.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists || is_of_a_file(&error) => {
                self.is_of_use = true;
            }
            moved => self.note(moved),
        }
    }

    fn note(&mut self, removed: io::Result<()>) {
        match removed {
            Ok(()) => self.is_of_use = true,
            // Gone already is as good; what is not empty was filled meanwhile, or holds what stays.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.why = Some(error),
        }
    }

    fn end(&mut self) -> Progress {
        match self.folder.remove_empty() {
            Ok(()) => Progress::Gone,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Progress::Gone,
            Err(error) => Progress::Stays(self.why.take().unwrap_or(error)),
        }
    }
}

fn is_folder(kind: Option<FileType>) -> bool {
    kind.is_some_and(|kind| kind.is_dir())
}

/// Whether this is how Linux refuses to unlink a folder.
fn is_of_a_folder(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::IsADirectory
}

/// Whether this is how it refuses to put a folder in the place of something else.
fn is_of_a_file(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotADirectory | io::ErrorKind::DirectoryNotEmpty
    )
}

#[cfg(test)]
mod tests;
