//! The blobs of this node on disk.
//!
//! ```text
//! blobs/e3b0c44298fc1c14...      a blob, named by its digest, 0555: executables are run from here
//! blobs/.draft-0123456789abcdef  one being written; whatever of these an agent finds at its start is removed
//! ```
//!
//! A blob appears whole: written beside, fsynced, renamed, the folder fsynced. Bytes go through the hash as they are
//! written; nothing reads them again but the daily check.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::Digest as _;

use super::{Digest, Error};

/// Below a tenth of the disk free, at most this much, no blob is taken: what is left is the store's.
const KEPT_FREE_MAX: u64 = 2 * 1024 * 1024 * 1024;

/// What is gathered before a thread for blocking work is asked to write it.
const GATHERED_MAX: usize = 256 * 1024;

/// What one read of the check takes.
const CHECK_READ: usize = 256 * 1024;

const DRAFT: &str = ".draft-";

/// The folder of the blobs. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
}

/// A blob being written. Dropped before it is kept, it leaves nothing.
struct Draft {
    folder: PathBuf,
    path: PathBuf,
    file: File,
    hash: sha2::Sha256,
    kept: bool,
}

/// A blob being written, from asynchronous code.
pub struct Writer {
    /// Away while a thread for blocking work has it; not there after an error.
    draft: Option<Draft>,
    gathered: Vec<u8>,
}

impl Store {
    /// Opens the folder, makes it where it is not there, and removes what was not finished in a former life.
    pub fn open(folder: PathBuf) -> Result<Store, Error> {
        fs::create_dir_all(&folder).map_err(Error::disk(&folder))?;
        for entry in fs::read_dir(&folder).map_err(Error::disk(&folder))? {
            let entry = entry.map_err(Error::disk(&folder))?;
            if entry.file_name().to_string_lossy().starts_with(DRAFT) {
                fs::remove_file(entry.path()).map_err(Error::disk(&entry.path()))?;
            }
        }
        Ok(Store { folder })
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(digest.hex())
    }

    /// Where a blob lies, if it is here.
    pub fn find(&self, digest: &Digest) -> Option<PathBuf> {
        let path = self.path(digest);
        path.is_file().then_some(path)
    }

    /// Whether a blob is here for good: one that another has just renamed may not be in the folder's own fsync yet.
    pub async fn confirm(&self, digest: &Digest) -> Result<bool, Error> {
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

    /// Begins a blob of about `size` bytes.
    pub fn begin(&self, size: u64) -> Result<Writer, Error> {
        self.room_for(size)?;
        let path = self.folder.join(format!("{DRAFT}{:016x}", rand::random::<u64>()));
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(Error::disk(&path))?;
        let draft = Draft {
            folder: self.folder.clone(),
            path,
            file,
            hash: sha2::Sha256::new(),
            kept: false,
        };
        Ok(Writer {
            draft: Some(draft),
            gathered: Vec::new(),
        })
    }

    fn room_for(&self, size: u64) -> Result<(), Error> {
        let (all, free) = space(&self.folder).map_err(Error::disk(&self.folder))?;
        let least = (all / 10).min(KEPT_FREE_MAX);
        if free.saturating_sub(size) < least {
            return Err(Error::NoRoom {
                path: self.folder.clone(),
                free,
                least,
            });
        }
        Ok(())
    }

    /// Reads a blob against its digest; one that is not what its name says is removed. `false`: it is not here any more.
    pub fn check(&self, digest: &Digest) -> Result<bool, Error> {
        let path = self.path(digest);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(Error::disk(&path)(error)),
        };
        let mut hash = sha2::Sha256::new();
        let mut buffer = vec![0; CHECK_READ];
        loop {
            match file.read(&mut buffer).map_err(Error::disk(&path))? {
                0 => break,
                length => hash.update(&buffer[..length]),
            }
        }
        if Digest::from(<[u8; 32]>::from(hash.finalize())) == *digest {
            return Ok(true);
        }
        fs::remove_file(&path).map_err(Error::disk(&path))?;
        Ok(false)
    }
}

impl Draft {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.hash.update(bytes);
        self.file.write_all(bytes).map_err(Error::disk(&self.path))
    }

    fn keep(mut self, expected: Option<Digest>) -> Result<Digest, Error> {
        let found = Digest::from(<[u8; 32]>::from(self.hash.finalize_reset()));
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            return Err(Error::Mismatch { expected, found });
        }
        let path = self.folder.join(found.hex());
        self.file
            .set_permissions(fs::Permissions::from_mode(0o555))
            .map_err(Error::disk(&self.path))?;
        self.file.sync_all().map_err(Error::disk(&self.path))?;
        fs::rename(&self.path, &path).map_err(Error::disk(&path))?;
        self.kept = true;
        sync_folder(&self.folder)?;
        Ok(found)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.kept {
            // What stays is removed at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Writer {
    /// Adds bytes at the end.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= GATHERED_MAX {
            self.spill().await
        } else {
            Ok(())
        }
    }

    async fn spill(&mut self) -> Result<(), Error> {
        let mut draft = self.draft.take().ok_or(Error::Stopping)?;
        let gathered = std::mem::take(&mut self.gathered);
        let written = tokio::task::spawn_blocking(move || {
            draft.write(&gathered)?;
            Ok((draft, gathered))
        });
        let (draft, mut gathered) = written.await.unwrap_or(Err(Error::Stopping))?;
        gathered.clear();
        self.gathered = gathered;
        self.draft = Some(draft);
        Ok(())
    }

    /// Keeps what was written, fsynced, under its digest, which is to be `expected`.
    pub async fn keep(mut self, expected: Option<Digest>) -> Result<Digest, Error> {
        self.spill().await?;
        let draft = self.draft.take().ok_or(Error::Stopping)?;
        let kept = tokio::task::spawn_blocking(move || draft.keep(expected));
        kept.await.unwrap_or(Err(Error::Stopping))
    }
}

fn sync_folder(path: &Path) -> Result<(), Error> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(Error::disk(path))
}

/// All and free bytes of the disk that `folder` lies on.
fn space(folder: &Path) -> io::Result<(u64, u64)> {
    use std::os::unix::ffi::OsStrExt;
    let folder = std::ffi::CString::new(folder.as_os_str().as_bytes())?;
    let mut stat = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `folder` is a C string and `stat` has room for what is written; it is read only after success.
    let stat = unsafe {
        if libc::statvfs(folder.as_ptr(), stat.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        stat.assume_init()
    };
    Ok((stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("blobs")).unwrap();
        (folder, store)
    }

    async fn put(store: &Store, bytes: &[u8]) -> Digest {
        let mut writer = store.begin(bytes.len() as u64).unwrap();
        for chunk in bytes.chunks(100_000) {
            writer.write(chunk).await.unwrap();
        }
        writer.keep(None).await.unwrap()
    }

    #[tokio::test]
    async fn a_blob_lies_whole_and_executable_under_its_digest() {
        let (_folder, store) = store();
        let bytes = vec![7; 700_001];
        let digest = put(&store, &bytes).await;
        assert_eq!(digest, Digest::of(&bytes));
        let path = store.find(&digest).unwrap();
        assert_eq!(fs::read(&path).unwrap(), bytes);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o555);
        assert_eq!(store.digests().unwrap(), [digest]);
        assert_eq!(put(&store, &bytes).await, digest);
    }

    #[tokio::test]
    async fn what_is_not_its_digest_is_not_kept_and_leaves_nothing() {
        let (_folder, store) = store();
        let mut writer = store.begin(0).unwrap();
        writer.write(b"one").await.unwrap();
        let refused = writer.keep(Some(Digest::of(b"two"))).await.unwrap_err();
        assert!(matches!(refused, Error::Mismatch { .. }));
        drop(store.begin(0).unwrap());
        assert_eq!(fs::read_dir(&store.folder).unwrap().count(), 0);
    }

    #[test]
    fn what_was_not_finished_is_gone_after_a_restart() {
        let (_folder, store) = store();
        std::mem::forget(store.begin(0).unwrap());
        assert_eq!(fs::read_dir(&store.folder).unwrap().count(), 1);
        let reopened = Store::open(store.folder.clone()).unwrap();
        assert_eq!(fs::read_dir(&reopened.folder).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_blob_that_rotted_is_removed_by_the_check() {
        let (_folder, store) = store();
        let digest = put(&store, b"good").await;
        assert!(store.check(&digest).unwrap());
        let path = store.find(&digest).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, b"bad").unwrap();
        assert!(!store.check(&digest).unwrap());
        assert_eq!(store.find(&digest), None);
    }

    #[test]
    fn a_disk_without_room_refuses() {
        let (_folder, store) = store();
        assert!(matches!(store.begin(u64::MAX), Err(Error::NoRoom { .. })));
    }
}
