//! A blob being written.
//!
//! It appears whole: written beside, fsynced, renamed, the folder fsynced. Bytes go through the hash as they are written.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::Digest as _;

use super::promised::{Promise, room_for};
use super::{Digest, Error};

/// How the names of those begin that are being written.
pub(super) const PREFIX: &str = ".draft-";
/// After so much of a blob its disk's room is looked at again.
const LOOK_EVERY: u64 = 16 << 20;
/// What is gathered before a thread for blocking work is asked to write it.
const GATHERED_MAX: usize = 256 * 1024;

/// A blob being written. Dropped before it is kept, it leaves nothing.
struct Draft {
    folder: PathBuf,
    path: PathBuf,
    file: File,
    hash: sha2::Sha256,
    promise: Promise,
    kept: bool,
}

/// A blob that is whole on the disk, and has no name yet. Dropped before it is placed, it leaves nothing.
pub struct Sealed {
    draft: Draft,
    digest: Digest,
}

/// A blob being written, from asynchronous code.
pub struct Writer {
    /// Away while a thread for blocking work has it; not there after an error.
    draft: Option<Draft>,
    gathered: Vec<u8>,
    /// Written since the disk's room was looked at.
    unlooked: u64,
}

impl Draft {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.hash.update(bytes);
        self.file.write_all(bytes).map_err(Error::disk(&self.path))?;
        self.promise.written(bytes.len() as u64);
        Ok(())
    }

    fn seal(mut self, expected: Option<Digest>) -> Result<Sealed, Error> {
        let found = Digest::from(<[u8; 32]>::from(self.hash.finalize_reset()));
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            return Err(Error::Mismatch { expected, found });
        }
        self.file
            .set_permissions(fs::Permissions::from_mode(0o555))
            .map_err(Error::disk(&self.path))?;
        self.file.sync_all().map_err(Error::disk(&self.path))?;
        Ok(Sealed {
            draft: self,
            digest: found,
        })
    }

    fn place(mut self, digest: Digest) -> Result<Digest, Error> {
        let path = self.folder.join(digest.hex());
        fs::rename(&self.path, &path).map_err(Error::disk(&path))?;
        self.kept = true;
        sync_folder(&self.folder)?;
        Ok(digest)
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

impl Drop for Writer {
    fn drop(&mut self) {
        // To remove a large file takes long.
        if let (Some(draft), Ok(runtime)) = (self.draft.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn_blocking(move || drop(draft));
        }
    }
}

/// A name that no blob has.
pub(super) fn path(folder: &Path) -> PathBuf {
    folder.join(format!("{PREFIX}{:016x}", rand::random::<u64>()))
}

impl Writer {
    /// Begins one in `folder`.
    pub(super) fn begin(folder: &Path, promise: Promise) -> Result<Writer, Error> {
        let path = path(folder);
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(Error::disk(&path))?;
        let draft = Draft {
            folder: folder.to_owned(),
            path,
            file,
            hash: sha2::Sha256::new(),
            promise,
            kept: false,
        };
        Ok(Writer {
            draft: Some(draft),
            gathered: Vec::new(),
            unlooked: 0,
        })
    }

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
        self.unlooked += gathered.len() as u64;
        // Its size was a guess, or others write as well.
        let looks = self.unlooked >= LOOK_EVERY;
        self.unlooked = if looks { 0 } else { self.unlooked };
        let written = tokio::task::spawn_blocking(move || {
            if looks {
                room_for(&draft.folder, 0, gathered.len() as u64)?;
            }
            draft.write(&gathered)?;
            Ok((draft, gathered))
        });
        let (draft, mut gathered) = written.await.unwrap_or(Err(Error::Stopping))?;
        gathered.clear();
        self.gathered = gathered;
        self.draft = Some(draft);
        Ok(())
    }

    /// Fsyncs what was written, whose digest is to be `expected`; it has no name yet.
    pub async fn seal(mut self, expected: Option<Digest>) -> Result<Sealed, Error> {
        self.spill().await?;
        let draft = self.draft.take().ok_or(Error::Stopping)?;
        let sealed = tokio::task::spawn_blocking(move || draft.seal(expected));
        sealed.await.unwrap_or(Err(Error::Stopping))
    }
}

impl Sealed {
    /// What it is.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Lays it under its digest.
    pub async fn place(self) -> Result<Digest, Error> {
        let placed = tokio::task::spawn_blocking(move || self.draft.place(self.digest));
        placed.await.unwrap_or(Err(Error::Stopping))
    }
}

/// Fsyncs a folder's names.
pub(super) fn sync_folder(path: &Path) -> Result<(), Error> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(Error::disk(path))
}
