//! The blobs of this node on disk.
//!
//! ```text
//! blobs/e3b0c44298fc1c14...      a blob, named by its digest, 0555: executables are run from here
//! blobs/.draft-0123456789abcdef  one being written (`draft.rs`); what of these an agent finds at its start is removed
//! ```
//!
//! A file is read against its digest again before it is first used, whenever it changed since then by what the
//! kernel says of it, and once a day: a damaged or short one is removed, and fetched anew by whoever wants it.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::Digest as _;
use tokio::sync::Notify;

use super::draft::{self, Writer, sync_folder};
use super::promised::Promised;
use super::{Digest, Error};

/// What one read of the check takes.
const CHECK_READ: usize = 256 * 1024;

/// The kernel counts a file's times in ticks: one that changed so lately may change again and seem the same.
const TICK_MAX: Duration = Duration::from_millis(50);

/// So many blobs are read against their digests at once.
const READERS: usize = 8;

/// The folder of the blobs. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
    /// What is still to come of those that are written.
    promised: Promised,
    /// What was read against its digest, as it was then: at most as many as there are files.
    checked: Arc<Mutex<HashMap<Digest, Stamp>>>,
    /// Held while a blob is read against its digest, a few for all blobs: two would read the same, and one remove what
    /// was fetched for the other.
    reading: [Arc<tokio::sync::Mutex<()>>; READERS],
    /// Those that were damaged and are not here any more, until somebody asks; at most as many as there were files.
    lost: Arc<Lost>,
}

#[derive(Debug, Default)]
struct Lost {
    digests: Mutex<BTreeSet<Digest>>,
    notify: Notify,
}

/// By what a file that was written is told from what it was: device, inode, size, and the times of the last change of its
/// bytes and of itself, which nobody can put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(file: &Metadata) -> Stamp {
        Stamp {
            file: (file.dev(), file.ino()),
            size: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }

    /// Whether the clock has moved on since the last change.
    fn is_settled(&self) -> bool {
        let (seconds, nanos) = self.changed;
        let changed = u64::try_from(seconds).ok().zip(u32::try_from(nanos).ok());
        let changed = changed.map(|(seconds, nanos)| UNIX_EPOCH + Duration::new(seconds, nanos));
        let passed = changed.and_then(|changed| SystemTime::now().duration_since(changed).ok());
        passed.is_some_and(|passed| passed > TICK_MAX)
    }
}

impl Store {
    /// Opens the folder, makes it where it is not there, and removes what was not finished in a former life.
    pub fn open(folder: PathBuf) -> Result<Store, Error> {
        fs::create_dir_all(&folder).map_err(Error::disk(&folder))?;
        if let Some(above) = folder.parent() {
            // It may have been made just now, or just before a kill: without its name all in it would be gone.
            sync_folder(above)?;
        }
        for entry in fs::read_dir(&folder).map_err(Error::disk(&folder))? {
            let entry = entry.map_err(Error::disk(&folder))?;
            if entry.file_name().to_string_lossy().starts_with(draft::PREFIX) {
                fs::remove_file(entry.path()).map_err(Error::disk(&entry.path()))?;
            }
        }
        Ok(Store {
            folder,
            promised: Promised::default(),
            checked: Arc::default(),
            reading: Default::default(),
            lost: Arc::default(),
        })
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(digest.hex())
    }

    /// Where a blob lies, if it is here.
    pub fn find(&self, digest: &Digest) -> Option<PathBuf> {
        let path = self.path(digest);
        path.is_file().then_some(path)
    }

    /// Where a blob lies that is what its name says, read against it unless it was since it was last written; one that is
    /// not is removed.
    pub async fn sound(&self, digest: &Digest) -> Result<Option<PathBuf>, Error> {
        let path = self.path(digest);
        let is_known = match fs::metadata(&path) {
            Ok(file) => self.checked().get(digest) == Some(&Stamp::of(&file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::disk(&path)(error)),
        };
        if is_known {
            return Ok(Some(path));
        }
        // Not on a thread for blocking work, of which there are few: a large blob is read for long, and many may want it.
        let reading = self.reading(digest).clone().lock_owned().await;
        let (store, digest) = (self.clone(), *digest);
        let checked = tokio::task::spawn_blocking(move || {
            let _reading = reading;
            store.check_unless_known(&digest)
        });
        let is_sound = checked.await.unwrap_or(Err(Error::Stopping))?;
        Ok(is_sound.then_some(path))
    }

    fn checked(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, Stamp>> {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a blob is here for good: one that another has just renamed may not be in the folder's own fsync yet.
    pub async fn confirm(&self, digest: &Digest) -> Result<bool, Error> {
        if self.sound(digest).await?.is_none() {
            return Ok(false);
        }
        let (folder, path) = (self.folder.clone(), self.path(digest));
        let confirmed = tokio::task::spawn_blocking(move || {
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                Err(error) => return Err(Error::disk(&path)(error)),
            };
            file.sync_all().map_err(Error::disk(&path))?;
            sync_folder(&folder)?;
            Ok(true)
        });
        confirmed.await.unwrap_or(Err(Error::Stopping))
    }

    /// All blobs that are here.
    pub fn digests(&self) -> Result<Vec<Digest>, Error> {
        let entries = fs::read_dir(&self.folder).map_err(Error::disk(&self.folder))?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Ok(names
            .filter_map(|name| format!("sha256:{name}").parse().ok())
            .collect())
    }

    /// Names of the blobs that are here and whose names begin so, in order.
    pub fn beginning(&self, digests: &str) -> Result<Vec<String>, Error> {
        let digits = digests.strip_prefix("sha256:").unwrap_or_default();
        let entries = fs::read_dir(&self.folder).map_err(Error::disk(&self.folder))?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let names = names.filter(|name| name.starts_with(digits) && !name.starts_with(draft::PREFIX));
        let mut listed: Vec<String> = names.map(|name| format!("sha256:{name}")).collect();
        listed.retain(|name| name.parse::<Digest>().is_ok());
        listed.sort_unstable();
        Ok(listed)
    }

    /// Begins a blob of about `size` bytes, for which there is room as long as it is written.
    pub fn begin(&self, size: u64) -> Result<Writer, Error> {
        Writer::begin(&self.folder, self.promised.promise(&self.folder, size)?)
    }

    /// Waits until blobs that were damaged have been removed, and gives them.
    pub async fn lost(&self) -> BTreeSet<Digest> {
        self.lost.notify.notified().await;
        let mut lost = self.lost.digests.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *lost)
    }

    fn is_lost(&self, digest: &Digest) {
        let mut lost = self.lost.digests.lock().unwrap_or_else(PoisonError::into_inner);
        lost.insert(*digest);
        self.lost.notify.notify_one();
    }

    /// Takes a blob away: done when this returns. Its bytes are let go beside, which takes long where there are many; what
    /// a crash leaves of them is removed at the next start, and one that it brings back is found by whoever looks for what
    /// nobody names.
    pub fn remove(&self, digest: &Digest) -> Result<(), Error> {
        let (path, aside) = (self.path(digest), draft::path(&self.folder));
        match fs::rename(&path, &aside) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            renamed => renamed.map_err(Error::disk(&path))?,
        }
        self.checked().remove(digest);
        let let_go = move || {
            // What stays is removed at the next start.
            let _ = fs::remove_file(aside);
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(let_go)),
            Err(_) => let_go(),
        }
        Ok(())
    }

    /// Refuses where a blob of `size` bytes would take the last part of the disk.
    pub fn room_for(&self, size: u64) -> Result<(), Error> {
        self.promised.room_for(&self.folder, size)
    }

    /// Reads a blob against its digest, unless somebody else just did. The caller holds [`Store::reading`].
    fn check_unless_known(&self, digest: &Digest) -> Result<bool, Error> {
        let known = fs::metadata(self.path(digest)).ok().map(|file| Stamp::of(&file));
        match known.is_some() && self.checked().get(digest).copied() == known {
            true => Ok(true),
            false => self.read_against(digest),
        }
    }

    fn reading(&self, digest: &Digest) -> &Arc<tokio::sync::Mutex<()>> {
        &self.reading[usize::from(digest.bytes()[0]) % READERS]
    }

    /// Reads a blob against its digest; one that is not what its name says is removed. `false`: it is not here any more.
    /// For a thread that may block.
    pub fn check(&self, digest: &Digest) -> Result<bool, Error> {
        let _reading = self.reading(digest).blocking_lock();
        self.read_against(digest)
    }

    fn read_against(&self, digest: &Digest) -> Result<bool, Error> {
        let path = self.path(digest);
        self.checked().remove(digest);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(Error::disk(&path)(error)),
        };
        // What is written while it is read changes this.
        let stamp = Stamp::of(&file.metadata().map_err(Error::disk(&path))?);
        let mut hash = sha2::Sha256::new();
        let mut buffer = vec![0; CHECK_READ];
        loop {
            match file.read(&mut buffer).map_err(Error::disk(&path))? {
                0 => break,
                length => hash.update(&buffer[..length]),
            }
        }
        if Digest::from(<[u8; 32]>::from(hash.finalize())) == *digest {
            if stamp.is_settled() {
                self.checked().insert(*digest, stamp);
            }
            return Ok(true);
        }
        // One that was fetched meanwhile has another inode.
        if fs::metadata(&path).is_ok_and(|file| Stamp::of(&file).file == stamp.file) {
            tracing::error!(file = %path.display(), "a blob is not what its name says, and is removed");
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::disk(&path)(error));
                }
                _ => self.is_lost(digest),
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests;
