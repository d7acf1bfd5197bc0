//! The folder of an invocation: empty at its start but for the run's files, gone after it.
//!
//! Below PIPES_SCRATCH each replica has a folder of its own: one a running invocation, and `bin` with a link to the executable
//! under the service's name, so that `ps`, `$0` and error messages show that name and not a digest.
//! Nearly always it is empty again in the end; else its removal may take long, and has a thread of its own.

use std::fs::{self, DirBuilder, ReadDir};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::Duration;

use crate::background::{self, Background, Errand};
use crate::settings::Settings;

/// Entries removed in one step: about a millisecond.
const STEP: usize = 64;

/// The folders of a replica.
pub struct Scratch {
    root: PathBuf,
    made: u64,
    /// The executable under its service's name.
    pub executable: PathBuf,
}

impl Scratch {
    /// Makes the replica's folder.
    pub fn new(settings: &Settings) -> io::Result<Scratch> {
        let root = settings.scratch.join(&settings.replica);
        let bin = root.join("bin");
        fs::create_dir_all(&bin)?;
        let executable = bin.join(&settings.service);
        match symlink(&settings.executable, &executable) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        Ok(Scratch {
            root,
            made: 0,
            executable,
        })
    }

    /// Makes a folder for one invocation.
    pub fn make(&mut self) -> io::Result<PathBuf> {
        loop {
            self.made += 1;
            let path = self.root.join(self.made.to_string());
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(path),
                // Left by a former life of this replica.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Removes the replica's folder with all that is in it.
    pub fn remove_all(&self) {
        let mut removal = Removal::new(self.root.clone());
        while !removal.step() {}
    }
}

/// The folder of an invocation on its way out: an empty one goes at once, any other beside the others' bytes, which even one
/// large file in it would hold up.
pub enum Clearing {
    /// It is gone, or what is left of it cannot be removed.
    Done,
    /// It waits for a thread.
    Waits(PathBuf),
    /// It is being removed.
    Removes(Errand<()>),
}

impl Clearing {
    /// Of this folder.
    pub fn begin(folder: PathBuf) -> Clearing {
        match fs::remove_dir(&folder) {
            Ok(()) => Clearing::Done,
            Err(_) => Clearing::Waits(folder),
        }
    }

    /// Goes on; whether it is done.
    pub fn advance(&mut self, background: &Background) -> bool {
        if let Clearing::Waits(folder) = self {
            let mut removal = Removal::new(folder.clone());
            if let Some(errand) = background.begin(move |_| while !removal.step() {}) {
                *self = Clearing::Removes(errand);
            }
        }
        match self {
            Clearing::Done => true,
            Clearing::Waits(_) => false,
            Clearing::Removes(errand) => errand.done().is_some(),
        }
    }

    /// How long it may be left alone; nothing where it is woken.
    pub fn patience(&self) -> Option<Duration> {
        matches!(self, Clearing::Waits(_)).then_some(background::AGAIN)
    }
}

/// A folder being removed.
pub struct Removal {
    path: PathBuf,
    open: Vec<(PathBuf, ReadDir)>,
    begun: bool,
}

impl Removal {
    /// Of this folder.
    pub fn new(path: PathBuf) -> Removal {
        Removal {
            path,
            open: Vec::new(),
            begun: false,
        }
    }

    /// Goes on for a while; true when it is done. What cannot be removed stays: the executor removes it with the replica's.
    pub fn step(&mut self) -> bool {
        if !self.begun {
            self.begun = true;
            if fs::remove_dir(&self.path).is_ok() {
                return true;
            }
            self.enter(self.path.clone());
        }
        for _ in 0..STEP {
            let Some((folder, entries)) = self.open.last_mut() else {
                return true;
            };
            match entries.next() {
                Some(Ok(entry)) if entry.file_type().is_ok_and(|kind| kind.is_dir()) => {
                    let path = entry.path();
                    self.enter(path);
                }
                Some(Ok(entry)) => drop(fs::remove_file(entry.path())),
                Some(Err(_)) | None => {
                    let _ = fs::remove_dir(folder);
                    self.open.pop();
                }
            }
        }
        self.open.is_empty()
    }

    fn enter(&mut self, path: PathBuf) {
        // A stage may have closed a folder even to itself.
        let _ = fs::set_permissions(&path, fs::Permissions::from_mode(0o700));
        if let Ok(entries) = fs::read_dir(&path) {
            self.open.push((path, entries));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deep_and_wide_folder_is_removed_in_steps() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("scratch");
        let deep = path.join("a/b/c");
        fs::create_dir_all(&deep).unwrap();
        for number in 0..200 {
            fs::write(deep.join(number.to_string()), "x").unwrap();
        }
        symlink("/", path.join("root")).unwrap();
        fs::set_permissions(&deep, fs::Permissions::from_mode(0o500)).unwrap();
        let mut removal = Removal::new(path.clone());
        assert!(!removal.step());
        while !removal.step() {}
        assert!(!path.exists());
    }
}
