//! The folder of an invocation: empty at its start but for the run's files, gone after it.
//!
//! Below PIPES_SCRATCH each replica has a folder of its own: one a running invocation, and `bin` with a link to the executable
//! under the service's name, so that `ps`, `$0` and error messages show that name and not a digest.
//! Nearly always it is empty again in the end; else its removal may take long, and has a thread of its own. It is known by
//! its descriptor (`pipes_folder`): the stage may have put something else where it was.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pipes_folder::{Folder, Progress, Removal};

use crate::background::{self, Background, Errand};
use crate::settings::Settings;

/// The folders of a replica.
pub struct Scratch {
    root: PathBuf,
    folder: Arc<Folder>,
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
            folder: Folder::open(&root)?.into(),
            root,
            made: 0,
            executable,
        })
    }

    /// Makes a folder for one invocation.
    pub fn make(&mut self) -> io::Result<Arc<Folder>> {
        loop {
            self.made += 1;
            let path = self.root.join(self.made.to_string());
            match Folder::make(&path, 0o700) {
                Ok(folder) => return Ok(folder.into()),
                // Left by a former life of this replica.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Removes the replica's folder with all that is in it.
    pub fn remove_all(&self) {
        remove(self.folder.clone());
    }
}

/// The folder of an invocation on its way out: an empty one goes at once, any other beside the others' bytes, which even one
/// large file in it would hold up.
pub enum Clearing {
    /// It is gone, or what is left of it cannot be removed.
    Done,
    /// It waits for a thread.
    Waits(Arc<Folder>),
    /// It is being removed.
    Removes(Errand<()>),
}

impl Clearing {
    /// Of this folder.
    pub fn begin(folder: Arc<Folder>) -> Clearing {
        match folder.remove_empty() {
            Ok(()) => Clearing::Done,
            Err(_) => Clearing::Waits(folder),
        }
    }

    /// Goes on; whether it is done.
    pub fn advance(&mut self, background: &Background) -> bool {
        if let Clearing::Waits(folder) = self {
            let folder = folder.clone();
            if let Some(errand) = background.begin(move |_| remove(folder)) {
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

/// Removes a folder with all that is in it. What cannot be removed stays: the executor removes it with the replica's.
fn remove(folder: Arc<Folder>) {
    let mut removal = Removal::new(folder);
    while matches!(removal.step(), Progress::Goes) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_folder_that_a_stage_has_put_a_link_in_the_place_of_is_emptied_and_no_other() {
        let base = tempfile::tempdir().unwrap();
        let (path, elsewhere) = (base.path().join("1"), base.path().join("elsewhere"));
        let folder = Arc::new(Folder::make(&path, 0o700).unwrap());
        fs::create_dir(&elsewhere).unwrap();
        fs::write(elsewhere.join("precious"), "x").unwrap();
        fs::create_dir_all(path.join("a/b")).unwrap();
        fs::set_permissions(path.join("a"), fs::Permissions::from_mode(0o000)).unwrap();
        fs::rename(&path, base.path().join("moved")).unwrap();
        symlink(&elsewhere, &path).unwrap();
        assert!(matches!(Clearing::begin(folder.clone()), Clearing::Waits(_)));
        remove(folder);
        assert!(elsewhere.join("precious").exists());
        assert_eq!(fs::read_dir(base.path().join("moved")).unwrap().count(), 0);
    }
}
