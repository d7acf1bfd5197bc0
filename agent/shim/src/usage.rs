//! How much an invocation's folder holds on disk: nobody else counts it, as no file system here has quotas for it.
//!
//! The folder is walked once a second, in steps, since other invocations wait meanwhile.

use std::fs::{self, ReadDir};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Bytes that one invocation's folder may hold, and one file of it may have.
pub const SCRATCH_MAX: u64 = 1 << 30;
/// Time between two walks.
const EVERY: Duration = Duration::from_secs(1);
/// What a file or folder counts at least, for the place it takes in its folder: else a million empty ones were nothing.
const ENTRY_MIN: u64 = 512;
/// Folders that may wait to be looked into; who makes more is not waited for, as their names take our memory.
const AHEAD_MAX: usize = 16 * 1024;
/// Entries looked at in one step: about a millisecond.
const STEP: usize = 64;

/// The watch over one folder.
pub struct Usage {
    due: Instant,
    open: Option<ReadDir>,
    ahead: Vec<PathBuf>,
    bytes: u64,
}

impl Usage {
    /// Begins a second from now: most invocations are over by then.
    pub fn new() -> Usage {
        Usage {
            due: Instant::now() + EVERY,
            open: None,
            ahead: Vec::new(),
            bytes: 0,
        }
    }

    /// Goes on with the walk, if it is time for one; true once it has found more than `max` bytes,
    /// or more folders than it can remember.
    pub fn is_over(&mut self, folder: &Path, max: u64) -> bool {
        if !self.is_walking() {
            if Instant::now() < self.due {
                return false;
            }
            self.bytes = 0;
            self.ahead.push(folder.to_owned());
        }
        for _ in 0..STEP {
            match self.open.as_mut().map(Iterator::next) {
                Some(Some(Ok(entry))) => {
                    // What is gone by now, or closed even to us, holds nothing that we could count.
                    let Ok(metadata) = entry.metadata() else { continue };
                    self.bytes += (metadata.blocks() * 512).max(ENTRY_MIN);
                    if metadata.is_dir() {
                        self.ahead.push(entry.path());
                    }
                    if self.bytes > max || self.ahead.len() > AHEAD_MAX {
                        return true;
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
            self.due = Instant::now() + EVERY;
        }
        false
    }

    /// How long until it has to go on.
    pub fn patience(&self) -> Duration {
        if self.is_walking() {
            return Duration::ZERO;
        }
        self.due.saturating_duration_since(Instant::now())
    }

    fn is_walking(&self) -> bool {
        self.open.is_some() || !self.ahead.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(folder: &Path, max: u64) -> bool {
        let mut usage = Usage::new();
        usage.due = Instant::now();
        loop {
            if usage.is_over(folder, max) {
                return true;
            }
            if !usage.is_walking() {
                assert!(!usage.patience().is_zero(), "it walks again at once");
                return false;
            }
        }
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
        assert!(walk(&folder, 500_000));
        assert!(!walk(&folder, 2_000_000));
        assert!(!walk(&base.path().join("gone"), 0));
    }

    #[test]
    fn empty_files_count_and_folders_without_end_are_not_remembered() {
        let base = tempfile::tempdir().unwrap();
        let (files, folders) = (base.path().join("files"), base.path().join("folders"));
        fs::create_dir(&files).unwrap();
        for number in 0..300 {
            fs::write(files.join(number.to_string()), "").unwrap();
        }
        assert!(walk(&files, 100_000));
        for number in 0..AHEAD_MAX + 2 {
            fs::create_dir_all(folders.join(number.to_string())).unwrap();
        }
        assert!(walk(&folders, u64::MAX));
    }
}
