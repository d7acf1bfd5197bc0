//! How much an invocation's folder holds on disk: nobody else counts it, as no file system here has quotas for it.
//!
//! The folder is walked once a second, where that is asked for, and in steps, since other invocations wait meanwhile. What
//! was laid there before the start does not count.

use std::collections::HashMap;
use std::fs::{self, ReadDir};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Time between two walks.
const EVERY: Duration = Duration::from_secs(1);
/// What a file or folder counts at least, for the place it takes in its folder: else a million empty ones were nothing.
const ENTRY_MIN: u64 = 512;
/// Folders that may wait to be looked into, as their names take our memory; what lies in further ones does not count.
const AHEAD_MAX: usize = 16 * 1024;
/// Entries looked at in one step: about a millisecond.
const STEP: usize = 64;

/// The watch over one folder.
pub struct Usage {
    due: Instant,
    open: Option<ReadDir>,
    ahead: Vec<PathBuf>,
    /// Found so far in this walk.
    bytes: u64,
    /// Found in the last walk that was finished.
    held: Option<u64>,
    /// Bytes of what was laid there, by inode.
    laid: HashMap<u64, u64>,
}

impl Usage {
    /// Begins a second from now: most invocations are over by then.
    pub fn new() -> Usage {
        Usage {
            due: Instant::now() + EVERY,
            open: None,
            ahead: Vec::new(),
            bytes: 0,
            held: None,
            laid: HashMap::new(),
        }
    }

    /// All that is in the folder now is not counted from now on, as far as it does not grow.
    pub fn spare(&mut self, folder: &Path) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if let Ok(metadata) = entry.metadata() {
                self.laid.insert(metadata.ino(), metadata.blocks() * 512);
            }
        }
    }

    /// What the last walk found, in bytes; a walk that goes on is not over before it has found more than `max`.
    pub fn held(&self) -> Option<u64> {
        self.held
    }

    /// Goes on with the walk, or begins one, if it is time and one `is_wanted`; it is over once it has found more than `max`
    /// bytes.
    pub fn walk(&mut self, folder: &Path, is_wanted: bool, max: u64, now: Instant) {
        if !self.is_walking() {
            if now < self.due {
                return;
            }
            if !is_wanted {
                (self.due, self.held) = (now + EVERY, None);
                return;
            }
            self.bytes = 0;
            self.ahead.push(folder.to_owned());
        }
        for _ in 0..STEP {
            match self.open.as_mut().map(Iterator::next) {
                Some(Some(Ok(entry))) => {
                    // What is gone by now, or closed even to us, holds nothing that we could count.
                    let Ok(metadata) = entry.metadata() else { continue };
                    let laid = self.laid.get(&metadata.ino()).copied();
                    let bytes = (metadata.blocks() * 512).max(ENTRY_MIN);
                    self.bytes += laid.map_or(bytes, |laid| bytes.saturating_sub(laid));
                    if metadata.is_dir() && self.ahead.len() < AHEAD_MAX {
                        self.ahead.push(entry.path());
                    }
                    if self.bytes > max {
                        self.open = None;
                        self.ahead.clear();
                        break;
                    }
                }
                Some(Some(Err(_)) | None) => self.open = None,
                None => match self.ahead.pop() {
                    Some(path) => self.open = fs::read_dir(path).ok(),
                    None => break,
                },
            }
        }
        if !self.is_walking() {
            (self.due, self.held) = (now + EVERY, Some(self.bytes));
        }
    }

    /// How long until it has to go on.
    pub fn patience(&self) -> Duration {
        if self.is_walking() {
            return Duration::ZERO;
        }
        self.due.saturating_duration_since(Instant::now())
    }

    /// Whether a walk is under way.
    pub fn is_walking(&self) -> bool {
        self.open.is_some() || !self.ahead.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(usage: &mut Usage, folder: &Path, max: u64) -> u64 {
        usage.due = Instant::now();
        loop {
            usage.walk(folder, true, max, Instant::now());
            if let Some(held) = usage.held().filter(|_| !usage.is_walking()) {
                assert!(!usage.patience().is_zero(), "it walks again at once");
                return held;
            }
        }
    }

    fn is_over(folder: &Path, max: u64) -> bool {
        held(&mut Usage::new(), folder, max) > max
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
        assert!(!is_over(&base.path().join("gone"), 0));
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
        for number in 0..AHEAD_MAX + 2 {
            fs::create_dir_all(folders.join(number.to_string())).unwrap();
        }
        assert!(!is_over(&folders, u64::MAX));
    }

    #[test]
    fn what_was_laid_there_does_not_count_unless_it_grows() {
        let folder = tempfile::tempdir().unwrap();
        let laid = folder.path().join("laid");
        fs::write(&laid, vec![1; 1_000_000]).unwrap();
        let mut usage = Usage::new();
        usage.spare(folder.path());
        assert!(held(&mut usage, folder.path(), u64::MAX) < 10_000);
        fs::write(folder.path().join("own"), vec![1; 300_000]).unwrap();
        fs::write(&laid, vec![1; 2_000_000]).unwrap();
        let held = held(&mut usage, folder.path(), u64::MAX);
        assert!((1_250_000..1_400_000).contains(&held), "{held}");
    }

    #[test]
    fn nothing_is_walked_that_nobody_asks_for() {
        let folder = tempfile::tempdir().unwrap();
        let mut usage = Usage::new();
        usage.due = Instant::now();
        usage.walk(folder.path(), false, 0, Instant::now());
        assert_eq!(usage.held(), None);
        assert!(!usage.patience().is_zero());
    }
}
