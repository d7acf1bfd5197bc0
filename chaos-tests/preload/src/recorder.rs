//! Which files are recorded, and into which journal.

use std::collections::HashMap;
use std::ffi::{OsString, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::record::{Name, Record};
use crate::system;

/// What this process records.
pub(crate) struct Recorder {
    nodes: PathBuf,
    journals: PathBuf,
    device: u64,
    state: Mutex<State>,
}

/// What the lock guards: it is held from a record until its change is made.
#[derive(Default)]
pub(crate) struct State {
    journals: HashMap<OsString, c_int>,
    /// The files that were opened here, by inode.
    files: HashMap<u64, PathBuf>,
}

/// A path below a node's folder, or the folder itself.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) node: OsString,
    pub(crate) path: PathBuf,
}

/// The recorder, where this process is one that is recorded.
pub(crate) fn recorder() -> Option<&'static Recorder> {
    static RECORDER: OnceLock<Option<Recorder>> = OnceLock::new();
    RECORDER.get_or_init(Recorder::new).as_ref()
}

impl Recorder {
    fn new() -> Option<Recorder> {
        let folder = |name| std::env::var_os(name).map(PathBuf::from);
        let (nodes, journals) = (folder("PIPES_PRELOAD_NODES")?, folder("PIPES_PRELOAD_JOURNALS")?);
        let own = system::read_link(Path::new("/proc/self/exe"))?;
        let is_meant =
            std::env::var_os("PIPES_PRELOAD_PROGRAM").is_none_or(|name| own.file_name() == Some(&name));
        // Inodes are told apart on one file system only, and what is kept is linked into the journal's folder.
        let device = system::stat_path(&journals)?.st_dev;
        is_meant.then(|| Recorder {
            nodes,
            journals,
            device,
            state: Mutex::default(),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a path lies, if it is below a node's folder.
    pub(crate) fn place(&self, folder: c_int, path: *const c_char) -> Option<Place> {
        let place = self.place_of(system::absolute(folder, path)?)?;
        let is_below = place.path.parent() != Some(&self.nodes);
        is_below.then_some(place)
    }

    pub(crate) fn place_of(&self, path: PathBuf) -> Option<Place> {
        let below = path.strip_prefix(&self.nodes).ok()?;
        let node = below.components().next()?.as_os_str().to_owned();
        Some(Place { node, path })
    }

    /// A descriptor's file, if it is a regular one that was opened here. What comes from elsewhere costs no lock, which
    /// a child between fork and exec may not take.
    pub(crate) fn file(&self, descriptor: c_int) -> Option<(libc::stat, Place)> {
        let stat = system::stat(descriptor)?;
        if !system::is(&stat, libc::S_IFREG) || stat.st_dev != self.device {
            return None;
        }
        let path = self.lock().files.get(&stat.st_ino)?.clone();
        Some((stat, self.place_of(path)?))
    }

    /// A descriptor's folder, if it is a node's.
    pub(crate) fn folder(&self, descriptor: c_int) -> Option<(libc::stat, Place)> {
        let stat = system::stat(descriptor)?;
        if !system::is(&stat, libc::S_IFDIR) || stat.st_dev != self.device {
            return None;
        }
        Some((stat, self.place_of(system::path_of(descriptor)?)?))
    }

    /// A node's folder.
    pub(crate) fn folder_of(&self, node: &OsString) -> PathBuf {
        self.nodes.join(node)
    }

    /// The folder of a node's journal.
    pub(crate) fn journals(&self, node: &Path) -> PathBuf {
        self.journals.join(node)
    }

    /// Where a file is kept when its last name goes.
    pub(crate) fn kept(&self, place: &Place, inode: u64) -> PathBuf {
        self.journals(Path::new(&place.node))
            .join("kept")
            .join(inode.to_string())
    }
}

impl State {
    /// Adds a record to the node's journal. Without its record no change may be made: the process ends.
    pub(crate) fn append(&mut self, recorder: &Recorder, node: &OsString, record: &Record) {
        let journal = self.journal(recorder, node);
        if !system::write_all(journal, &record.encode()) {
            give_up("a journal cannot be written");
        }
    }

    /// The place of the next record.
    pub(crate) fn end(&mut self, recorder: &Recorder, node: &OsString) -> u64 {
        let journal = self.journal(recorder, node);
        system::stat(journal).map_or(0, |stat| stat.st_size as u64)
    }

    fn journal(&mut self, recorder: &Recorder, node: &OsString) -> c_int {
        if let Some(journal) = self.journals.get(node) {
            return *journal;
        }
        let folder = recorder.journals(Path::new(node));
        system::make_folder(&folder);
        system::make_folder(&folder.join("kept"));
        let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_APPEND;
        let Some(journal) = system::open(&folder.join("journal"), flags) else {
            give_up("a journal cannot be opened");
        };
        self.journals.insert(node.clone(), journal);
        journal
    }

    /// A file was opened.
    pub(crate) fn opened(&mut self, inode: u64, path: PathBuf) {
        self.files.insert(inode, path);
    }

    /// A file or a folder has another name.
    pub(crate) fn renamed(&mut self, from: &Path, to: &Path) {
        for path in self.files.values_mut() {
            if let Ok(below) = path.strip_prefix(from) {
                // Joining an empty path would add a slash.
                *path = if below.as_os_str().is_empty() {
                    to.to_owned()
                } else {
                    to.join(below)
                };
            }
        }
    }
}

impl Place {
    /// The name as it is in its folder now.
    pub(crate) fn name(&self) -> Option<Name> {
        Some(Name {
            folder: system::stat_path(self.path.parent()?)?.st_ino,
            name: self.path.file_name()?.as_bytes().to_vec(),
            before: system::stat_path(&self.path).map_or(0, |stat| stat.st_ino),
        })
    }
}

pub(crate) fn give_up(why: &str) -> ! {
    system::write_all(2, format!("pipes-preload: {why}\n").as_bytes());
    // SAFETY: ends the process, and takes nothing.
    unsafe { libc::abort() }
}
