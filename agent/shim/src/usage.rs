//! How much an invocation's folder holds on disk: nobody else counts it, as no file system here has quotas for it.
//!
//! The folder is walked once a second, where that is asked for, on a thread of its own; and so are the descriptors of the
//! shim's processes, for files that have no name any more and take their place all the same. What was laid there before the
//! start does not count.
//!
//! Not seen: a file without a name that is mapped into memory and open nowhere.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pipes_folder::{Folder, Seen, Unseen};

use crate::background::{Background, Errand, Watched};

/// Time between two walks.
const EVERY: Duration = Duration::from_secs(1);
/// A walk that lasts longer is over with what it found: who makes files faster than they are counted has many.
const LASTS_MAX: Duration = Duration::from_secs(10);
/// What a file or folder counts at least, for the place it takes in its folder: else a million empty ones were nothing.
const ENTRY_MIN: u64 = 512;
/// Descriptors that are looked at in one walk.
const DESCRIPTORS_MAX: usize = 64 * 1024;
/// Walks that are begun anew where folders were moved while they were walked through.
const TRIES: usize = 3;
/// Files with several names, or none, that are remembered, so that they count once; further ones count for each name.
const LINKED_MAX: usize = 16 * 1024;

/// Tells the processes whose open files count.
pub type Processes = fn() -> Vec<libc::pid_t>;

/// A file, wherever it lies.
type FileId = (u64, u64);

/// The watch over one folder.
pub struct Usage {
    processes: Processes,
    due: Instant,
    walk: Option<Errand<u64>>,
    /// Found in the last walk that was finished.
    held: Option<u64>,
    /// Bytes of what was laid there.
    laid: Arc<HashMap<FileId, u64>>,
}

impl Usage {
    /// Begins a second from now: most invocations are over by then.
    pub fn new(processes: Processes) -> Usage {
        Usage {
            processes,
            due: Instant::now() + EVERY,
            walk: None,
            held: None,
            laid: Arc::default(),
        }
    }

    /// All that is in the folder now is not counted from now on, as far as it does not grow.
    pub fn spare(&mut self, folder: &Path) {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let laid = entries.filter_map(|entry| entry.metadata().ok());
        self.laid = Arc::new(
            laid.map(|laid| ((laid.dev(), laid.ino()), laid.blocks() * 512))
                .collect(),
        );
    }

    /// What the last walk found, in bytes; a walk that goes on is not over before it has found more than `max`.
    pub fn held(&self) -> Option<u64> {
        self.held
    }

    /// Takes what a walk has found, or begins one, if it is time and one `is_wanted`; it is over once it has found more than
    /// `max` bytes.
    pub fn watch(
        &mut self,
        folder: &Arc<Folder>,
        is_wanted: bool,
        max: u64,
        now: Instant,
        background: &Background,
    ) {
        if let Some(walk) = &self.walk {
            if let Some(found) = walk.done() {
                (self.due, self.held, self.walk) = (now + EVERY, found, None);
            }
        } else if now >= self.due {
            if is_wanted {
                let mut walk = Walk::new(folder.clone(), self.laid.clone());
                let processes = self.processes;
                self.walk = background.begin(move |watched| walk.run(max, &processes(), watched));
            } else {
                self.held = None;
            }
            self.due = now + EVERY;
        }
    }

    /// How long until it has to be looked at again, unless it is woken sooner.
    pub fn patience(&self) -> Duration {
        match self.walk {
            Some(_) => EVERY,
            None => self.due.saturating_duration_since(Instant::now()),
        }
    }

    /// Whether nobody knows yet what is held, and it is being found out.
    pub fn is_first(&self) -> bool {
        self.walk.is_some() && self.held.is_none()
    }
}

impl Drop for Usage {
    fn drop(&mut self) {
        if let Some(walk) = &self.walk {
            walk.stop();
        }
    }
}

/// One walk through a folder.
struct Walk {
    folder: Arc<Folder>,
    bytes: u64,
    linked: HashSet<FileId>,
    laid: Arc<HashMap<FileId, u64>>,
}

impl Walk {
    fn new(folder: Arc<Folder>, laid: Arc<HashMap<FileId, u64>>) -> Walk {
        Walk {
            folder,
            bytes: 0,
            linked: HashSet::new(),
            laid,
        }
    }

    /// Finds out how many bytes there are, up to a little more than `max`; what cannot be looked into is more than that.
    fn run(&mut self, max: u64, processes: &[libc::pid_t], watched: &Watched) -> u64 {
        let until = Instant::now() + LASTS_MAX;
        let mut largest = 0;
        for _ in 0..TRIES {
            self.count_unnamed(processes);
            let is_over = self.try_run(max, watched, until);
            largest = self.bytes.max(largest);
            if is_over {
                break;
            }
            (self.bytes, self.linked) = (0, HashSet::new());
        }
        largest
    }

    /// Counts files that were in the folder, have no name any more, and are open in one of these processes.
    fn count_unnamed(&mut self, processes: &[libc::pid_t]) {
        // As the kernel shows it, without links on the way.
        let Ok(folder) = fs::canonicalize(self.folder.path()) else {
            return;
        };
        let of_process = |pid: &libc::pid_t| fs::read_dir(format!("/proc/{pid}/fd"));
        let descriptors = processes.iter().filter_map(|pid| of_process(pid).ok());
        for descriptor in descriptors.flatten().flatten().take(DESCRIPTORS_MAX) {
            let path = descriptor.path();
            // Where it was, and that it is deleted.
            let was = fs::read_link(&path);
            if !was.is_ok_and(|was| was.starts_with(&folder)) {
                continue;
            }
            // Followed: the file's own.
            let Ok(metadata) = fs::metadata(&path) else {
                continue;
            };
            let is_new = metadata.is_file() && metadata.nlink() == 0 && self.linked.len() < LINKED_MAX;
            if is_new && self.linked.insert((metadata.dev(), metadata.ino())) {
                self.bytes += metadata.blocks() * 512;
            }
        }
    }

    /// One try; false where what was walked through was moved meanwhile.
    fn try_run(&mut self, max: u64, watched: &Watched, until: Instant) -> bool {
        // Closed even to us.
        let Ok(mut walk) = pipes_folder::Walk::new(&self.folder) else {
            self.bytes = max.saturating_add(1);
            return true;
        };
        while self.bytes <= max && !watched.is_unwanted() && Instant::now() < until {
            match walk.step() {
                Some(Ok(seen)) => self.count(&seen),
                Some(Err(Unseen::Moved)) => return false,
                Some(Err(Unseen::Closed(_))) => self.bytes = max.saturating_add(1),
                None => break,
            }
        }
        true
    }

    fn count(&mut self, metadata: &Seen) {
        if !metadata.is_dir() && metadata.nlink() > 1 {
            let file = (metadata.dev(), metadata.ino());
            if self.linked.contains(&file) {
                // Its other name takes place in its folder all the same.
                self.bytes += ENTRY_MIN;
                return;
            }
            if self.linked.len() < LINKED_MAX {
                self.linked.insert(file);
            }
        }
        let laid = self.laid.get(&(metadata.dev(), metadata.ino())).copied();
        let bytes = (metadata.blocks() * 512).max(ENTRY_MIN);
        self.bytes += laid.map_or(bytes, |laid| bytes.saturating_sub(laid));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(usage: &mut Usage, folder: &Path, max: u64) -> u64 {
        let background = Background::new().unwrap();
        usage.due = Instant::now();
        let folder = &Arc::new(Folder::open(folder).unwrap());
        usage.watch(folder, true, max, Instant::now(), &background);
        while usage.walk.is_some() {
            std::thread::yield_now();
            usage.watch(folder, true, max, Instant::now(), &background);
        }
        assert!(!usage.patience().is_zero(), "it walks again at once");
        usage.held().unwrap()
    }

    fn is_over(folder: &Path, max: u64) -> bool {
        held(&mut Usage::new(Vec::new), folder, max) > max
    }

    #[test]
    fn all_that_lies_below_counts_and_what_links_lead_to_does_not() {
        let base = tempfile::tempdir().unwrap();
        let (folder, elsewhere) = (base.path().join("f"), base.path().join("e"));
        fs::create_dir_all(folder.join("a/b")).unwrap();
        for number in 0..100 {
            fs::write(folder.join("a/b").join(number.to_string()), [1; 5000]).unwrap();
        }
        fs::write(&elsewhere, vec![1; 4_000_000]).unwrap();
        std::os::unix::fs::symlink(&elsewhere, folder.join("link")).unwrap();
        assert!(is_over(&folder, 500_000));
        assert!(!is_over(&folder, 2_000_000));
    }

    #[test]
    fn what_a_path_cannot_reach_counts_and_what_is_moved_is_no_end_of_it() {
        let base = tempfile::tempdir().unwrap();
        let mut path = base.path().join("f");
        fs::create_dir(&path).unwrap();
        let top = path.clone();
        let name = "n".repeat(200);
        // As far as a path goes, then moved below another as long.
        for _ in 0..15 {
            path.push(&name);
            fs::create_dir(&path).unwrap();
        }
        fs::write(path.join("hidden"), vec![1; 1_000_000]).unwrap();
        let mut other = base.path().join("g");
        fs::create_dir(&other).unwrap();
        let first = other.clone();
        for _ in 0..15 {
            other.push(&name);
            fs::create_dir(&other).unwrap();
        }
        fs::rename(&top, other.join("f")).unwrap();
        assert!(is_over(&first, 900_000));
        pipes_folder::remove(&first).unwrap();
    }

    #[test]
    fn empty_files_count_and_folders_without_end_are_no_fault() {
        let base = tempfile::tempdir().unwrap();
        let (files, folders) = (base.path().join("files"), base.path().join("folders"));
        fs::create_dir(&files).unwrap();
        for number in 0..300 {
            fs::write(files.join(number.to_string()), "").unwrap();
        }
        assert!(is_over(&files, 100_000));
        for number in 0..20_000 {
            fs::create_dir_all(folders.join(number.to_string())).unwrap();
        }
        assert!(!is_over(&folders, u64::MAX));
    }

    #[test]
    fn what_was_laid_there_does_not_count_unless_it_grows() {
        let folder = tempfile::tempdir().unwrap();
        let laid = folder.path().join("laid");
        fs::write(&laid, vec![1; 1_000_000]).unwrap();
        let mut usage = Usage::new(Vec::new);
        usage.spare(folder.path());
        assert!(held(&mut usage, folder.path(), u64::MAX) < 10_000);
        fs::write(folder.path().join("own"), vec![1; 300_000]).unwrap();
        fs::write(&laid, vec![1; 2_000_000]).unwrap();
        let held = held(&mut usage, folder.path(), u64::MAX);
        assert!((1_250_000..1_400_000).contains(&held), "{held}");
    }

    #[test]
    fn a_file_with_many_names_counts_once() {
        let folder = tempfile::tempdir().unwrap();
        let first = folder.path().join("first");
        fs::write(&first, vec![1; 1_000_000]).unwrap();
        for number in 0..100 {
            fs::hard_link(&first, folder.path().join(number.to_string())).unwrap();
        }
        let held = held(&mut Usage::new(Vec::new), folder.path(), u64::MAX);
        assert!((1_000_000..1_200_000).contains(&held), "{held}");
    }

    #[test]
    fn nothing_is_walked_that_nobody_asks_for() {
        let folder = tempfile::tempdir().unwrap();
        let mut usage = Usage::new(Vec::new);
        usage.due = Instant::now();
        let background = Background::new().unwrap();
        let folder = Arc::new(Folder::open(folder.path()).unwrap());
        usage.watch(&folder, false, 0, Instant::now(), &background);
        assert!(usage.walk.is_none() && usage.held().is_none());
        assert!(!usage.patience().is_zero());
    }

    #[test]
    fn a_file_without_a_name_counts_as_long_as_it_is_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::write(&path, vec![1; 1_000_000]).unwrap();
        let open = [fs::File::open(&path).unwrap(), fs::File::open(&path).unwrap()];
        fs::remove_dir_all(folder.path().join("a")).unwrap();
        let own = || vec![std::process::id() as libc::pid_t];
        let mut usage = Usage::new(own);
        let counted = held(&mut usage, folder.path(), u64::MAX);
        assert!((1_000_000..1_100_000).contains(&counted), "once: {counted}");
        drop(open);
        assert!(held(&mut usage, folder.path(), u64::MAX) < 10_000);
    }
}
