//! Output that lies aside on disk while its client sends and does not read.
//!
//! Always: (1) the file has no name, so that it goes with its request however that ends; (2) no more is kept than a body
//! may have, and the disk keeps what bulk leaves free; (3) what is put in first comes out first.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Bytes;
use pipes_raft::Room;

use crate::gateway::error::Error;

/// Bytes that are read back at once.
const READ_MAX: u64 = 128 << 10;
/// Bytes that are written between two looks at how much of the disk is free.
const LOOK_EVERY: u64 = 16 << 20;

/// What lies aside.
pub struct Spool {
    folder: Arc<PathBuf>,
    file: Option<Arc<File>>,
    most: u64,
    workflow: String,
    written: u64,
    read: u64,
    /// How far it may grow before the disk is looked at again.
    looked_at: u64,
}

/// Empties the folder of what a former life left, and makes it.
pub fn empty(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// A file without a name.
fn nameless(folder: &Path) -> io::Result<File> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let path = folder.join(NEXT.fetch_add(1, Ordering::Relaxed).to_string());
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

impl Spool {
    /// Of one request of this workflow, in this folder; takes no room before there is something.
    pub fn new(folder: Arc<PathBuf>, most: u64, workflow: &str) -> Spool {
        Spool {
            folder,
            file: None,
            most,
            workflow: workflow.to_owned(),
            written: 0,
            read: 0,
            looked_at: 0,
        }
    }

    /// Whether nothing lies here.
    pub fn is_empty(&self) -> bool {
        self.read == self.written
    }

    /// Puts bytes behind those that lie here.
    pub async fn put(&mut self, parts: Vec<Bytes>) -> Result<(), Error> {
        let length: u64 = parts.iter().map(|part| part.len() as u64).sum();
        if self.written - self.read + length > self.most {
            return Err(Error::TooLarge {
                what: "the output that its client does not read",
                workflow: self.workflow.clone(),
                most: self.most,
            });
        }
        // Taken from its beginning where all that lay here was read.
        if self.is_empty() {
            (self.read, self.written, self.looked_at) = (0, 0, 0);
        }
        let is_to_look = self.written + length > self.looked_at;
        let (folder, file, at) = (self.folder.clone(), self.file.clone(), self.written);
        let written = tokio::task::spawn_blocking(move || {
            let file = file.map_or_else(|| nameless(&folder).map(Arc::new), Ok)?;
            if is_to_look {
                leave_room(&folder)?;
            }
            let mut at = at;
            for part in parts {
                file.write_all_at(&part, at)?;
                at += part.len() as u64;
            }
            io::Result::Ok(file)
        });
        self.file = Some(
            written
                .await
                .map_err(|_| stopping())?
                .map_err(|error| full(&error))?,
        );
        self.written += length;
        if is_to_look {
            self.looked_at = self.written + LOOK_EVERY;
        }
        Ok(())
    }

    /// Takes some of the first bytes; there must be any.
    pub async fn take(&mut self) -> Result<Bytes, Error> {
        let length = (self.written - self.read).min(READ_MAX);
        let Some(file) = self.file.clone() else {
            return Ok(Bytes::new());
        };
        let at = self.read;
        let bytes = tokio::task::spawn_blocking(move || {
            // READ_MAX at most.
            let mut bytes = vec![0; length as usize];
            file.read_exact_at(&mut bytes, at)?;
            io::Result::Ok(bytes)
        });
        let bytes = bytes
            .await
            .map_err(|_| stopping())?
            .map_err(|error| full(&error))?;
        self.read += length;
        Ok(bytes.into())
    }
}

fn stopping() -> Error {
    Error::Unavailable("the agent is stopping; ask another".into())
}

fn full(error: &io::Error) -> Error {
    Error::Unavailable(format!(
        "output that the client does not read cannot be kept here: {error}"
    ))
}

/// Refuses to fill a disk.
fn leave_room(folder: &Path) -> io::Result<()> {
    match Room::of(folder)?.takes(LOOK_EVERY) {
        true => Ok(()),
        false => Err(io::ErrorKind::StorageFull.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spool(most: u64) -> (tempfile::TempDir, Spool) {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("spool");
        empty(&at).unwrap();
        (folder, Spool::new(Arc::new(at), most, "w"))
    }

    #[tokio::test]
    async fn what_lies_aside_comes_back_in_order_and_has_no_name() {
        let (_folder, mut spool) = spool(1 << 20);
        let mut expected = Vec::new();
        let mut taken = Vec::new();
        for round in 0..10_u8 {
            let parts = vec![
                Bytes::from(vec![round; 50_000]),
                Bytes::from(vec![round + 100; 7]),
            ];
            expected.extend(parts.concat());
            spool.put(parts).await.unwrap();
            if round % 3 == 0 {
                taken.extend(spool.take().await.unwrap());
            }
        }
        assert_eq!(fs::read_dir(&*spool.folder).unwrap().count(), 0);
        while !spool.is_empty() {
            taken.extend(spool.take().await.unwrap());
        }
        assert_eq!(taken, expected);
    }

    #[tokio::test]
    async fn no_more_lies_aside_than_a_body_may_have() {
        let (_folder, mut spool) = spool(10);
        spool.put(vec![Bytes::from_static(b"12345678")]).await.unwrap();
        let refused = spool.put(vec![Bytes::from_static(b"123")]).await;
        assert!(matches!(refused, Err(Error::TooLarge { most: 10, .. })));
        spool.take().await.unwrap();
        spool.put(vec![Bytes::from_static(b"123")]).await.unwrap();
        assert_eq!(spool.take().await.unwrap(), "123");
    }

    #[test]
    fn what_a_former_life_left_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("spool");
        empty(&at).unwrap();
        fs::write(at.join("0"), "left").unwrap();
        empty(&at).unwrap();
        assert_eq!(fs::read_dir(&at).unwrap().count(), 0);
    }
}
