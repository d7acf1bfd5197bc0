//! Cgroups (version 2), one a stage, below the replica's own. Empty ones are kept for the next stage.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::processes::signal::send;

/// The cgroups of a replica.
pub struct Groups {
    parent: Option<PathBuf>,
    made: u64,
    free: Vec<Group>,
}

/// The cgroup of one stage.
pub struct Group {
    path: PathBuf,
    folder: OwnedFd,
    events: File,
    was_killed: Cell<bool>,
}

impl Groups {
    /// Below `parent`, or none.
    pub fn new(parent: Option<PathBuf>) -> Groups {
        Groups {
            parent,
            made: 0,
            free: Vec::new(),
        }
    }

    /// An empty one; `None` where the replica has none, or has lost it.
    pub fn take(&mut self) -> Option<Group> {
        if let Some(group) = self.free.pop() {
            return Some(group);
        }
        let parent = self.parent.as_ref()?;
        self.made += 1;
        Group::make(parent.join(format!("stage{}", self.made))).ok()
    }

    /// Takes one back. Only an empty one without folders in it can be used again, and none that was ever killed: a child
    /// that is born into such a group from outside is killed at once (seen on Linux 6.18).
    pub fn give_back(&mut self, group: Group) {
        if group.was_killed.get() || group.is_populated() || has_folders(&group.path) {
            remove(&group.path);
        } else {
            self.free.push(group);
        }
    }

    /// Removes those that nobody uses.
    pub fn remove_all(&mut self) {
        for group in self.free.drain(..) {
            remove(&group.path);
        }
    }
}

impl Group {
    fn make(path: PathBuf) -> io::Result<Group> {
        fs::create_dir(&path)?;
        let open = || {
            let folder = OwnedFd::from(File::open(&path)?);
            let events = File::open(path.join("cgroup.events"))?;
            Ok(Group {
                path: path.clone(),
                folder,
                events,
                was_killed: Cell::new(false),
            })
        };
        open().inspect_err(|_: &io::Error| remove(&path))
    }

    /// Its folder, for a process to be born in.
    pub fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// Reports POLLPRI when a process was born into the empty group or the last one ended, since [`Group::is_populated`] asked.
    pub fn watch(&self) -> RawFd {
        self.events.as_raw_fd()
    }

    /// Whether any process is alive in it or below.
    pub fn is_populated(&self) -> bool {
        let mut text = [0; 256];
        match self.events.read_at(&mut text, 0) {
            Ok(count) => text[..count]
                .split(|byte| *byte == b'\n')
                .any(|line| line == b"populated 1"),
            // The group is gone, and nobody can be in it.
            Err(_) => false,
        }
    }

    /// Holds all processes in it, then kills them, those included that are being made.
    pub fn kill(&self) {
        if !self.was_killed.replace(true) {
            // Kernels before 5.2 cannot hold, and kill without.
            let _ = self.write(c"cgroup.freeze");
        }
        if self.write(c"cgroup.kill").is_err() {
            // Before Linux 5.14. Whoever calls asks again until nobody is left.
            for pid in self.members() {
                send(pid, libc::SIGKILL);
            }
        }
    }

    /// The processes in it.
    pub fn members(&self) -> Vec<libc::pid_t> {
        let mut text = String::new();
        let read = self
            .open(c"cgroup.procs", libc::O_RDONLY)
            .and_then(|mut file| file.read_to_string(&mut text));
        if read.is_err() {
            return Vec::new();
        }
        // 0 is a process that our own process namespace does not show, and would be our own group to `kill`.
        text.lines()
            .filter_map(|line| line.parse().ok())
            .filter(|pid| *pid > 0)
            .collect()
    }

    fn write(&self, name: &std::ffi::CStr) -> io::Result<()> {
        self.open(name, libc::O_WRONLY)?.write_all(b"1")
    }

    fn open(&self, name: &std::ffi::CStr, flags: libc::c_int) -> io::Result<File> {
        // SAFETY: opens a file below a folder of ours.
        let fd = unsafe { libc::openat(self.folder.as_raw_fd(), name.as_ptr(), flags | libc::O_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it was just opened.
        Ok(unsafe { File::from_raw_fd(fd) })
    }
}

fn has_folders(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| std::os::unix::fs::MetadataExt::nlink(&metadata) > 2)
}

/// Removes a cgroup and those that a stage made in it. One that is still in use stays: the executor removes it with
/// the replica's.
fn remove(path: &Path) {
    if fs::remove_dir(path).is_ok() {
        return;
    }
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    let _ = fs::remove_dir(path);
}
