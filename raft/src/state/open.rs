//! Opening the state, putting a snapshot in its place, and the folders in which the two lie.
//!
//! ```text
//! state.3/           the sled in use; a snapshot that is installed makes the next number
//! state.2.bad        one that did not open or check, set aside
//! ```

use std::path::Path;
use std::sync::{Arc, RwLock};

use tokio::sync::watch;

use super::memtable::Buffer;
use super::sled::Disk;
use super::{Inner, State};
use crate::Error;
use crate::mvcc::{Changes, Database, Watchers};
use crate::snapshot::meta::{Header, Meta};
use crate::snapshot::{Snapshot, Snapshots};

impl State {
    /// Opens the state in `dir`; one that does not open or check is set aside and made from the newest snapshot.
    pub(crate) fn open(dir: &Path, snapshots: &Snapshots) -> Result<State, Error> {
        let told = |error: std::io::Error| crate::format::disk(dir, &error);
        std::fs::create_dir_all(dir).map_err(told)?;
        let newest = snapshots.newest();
        let covered = newest.as_ref().and_then(|snapshot| snapshot.meta.last_log_id);
        let mut numbers = numbers(dir)?;
        let mut loaded = None;
        while let Some(number) = numbers.pop() {
            let path = dir.join(format!("state.{number}"));
            if loaded.is_some() {
                remove_dir(&path);
                continue;
            }
            match load(&path) {
                Ok((disk, meta, database)) if meta.applied >= covered => {
                    loaded = Some((disk, meta, database));
                }
                // Older than the snapshot, which has it all. It is closed before it goes.
                Ok(older) => {
                    drop(older);
                    remove_dir(&path);
                }
                Err(error) => {
                    tracing::error!(%error, "the state is set aside and made anew from the snapshot and the log");
                    set_aside(dir, &path)?;
                }
            }
        }
        let (disk, meta, database) = match (loaded, newest) {
            (Some(loaded), _) => loaded,
            (None, Some(snapshot)) => fill(dir, &snapshot)?,
            (None, None) => create(dir)?,
        };
        let mut inner = Inner {
            database,
            disk: Some(Arc::new(Buffer::new(disk)?)),
            meta,
            watchers: Watchers::default(),
        };
        inner.forget()?;
        let (progress, _) = watch::channel(inner.progress());
        Ok(State {
            dir: dir.to_path_buf(),
            inner: RwLock::new(inner),
            progress,
        })
    }

    /// Puts a snapshot in the place of the state. Watchers go on from its history.
    pub(crate) fn install(&self, snapshot: &Snapshot) -> Result<(), Error> {
        let (disk, meta, database) = fill(&self.dir, snapshot)?;
        let disk = Arc::new(Buffer::new(disk)?);
        let mut inner = self.write();
        // Nothing is opened again once the store has ended.
        inner.disk()?;
        let before = inner.disk.replace(disk);
        inner.meta = meta;
        inner.database = database;
        inner.forget()?;
        inner.watchers.clear();
        let progress = inner.progress();
        drop(inner);
        self.note(progress);
        if let Some(before) = before {
            let dir = before.dir().to_path_buf();
            drop(before);
            remove_dir(&dir);
        }
        Ok(())
    }
}

impl Inner {
    /// Finds again what the last compaction made unreachable and a restart forgot to remove.
    fn forget(&mut self) -> Result<(), Error> {
        let cut = self.database.keys.compact(self.database.compacted);
        self.disk()?.forget(cut);
        Ok(())
    }
}

fn load(path: &Path) -> Result<(Disk, Meta, Database), Error> {
    let disk = Disk::open(path)?;
    let (meta, database) = disk.load()?;
    Ok((disk, meta, database))
}

/// Makes an empty sled that says so, in a way that lasts: one that holds nothing at all has lost it.
fn create(dir: &Path) -> Result<(Disk, Meta, Database), Error> {
    let disk = Disk::open(&dir.join(next_name(dir)?))?;
    let meta = Meta {
        revision: Database::default().revision,
        ..Meta::default()
    };
    disk.store(&Changes::default(), &meta)?;
    disk.flush()?;
    Ok((disk, meta, Database::default()))
}

/// Keeps a state that cannot be used for whoever wants to look at it: the last such one.
fn set_aside(dir: &Path, path: &Path) -> Result<(), Error> {
    let told = |error: std::io::Error| crate::format::disk(path, &error);
    for file in std::fs::read_dir(dir).map_err(told)? {
        let older = file.map_err(told)?.path();
        if older.extension().is_some_and(|extension| extension == "bad") {
            remove_dir(&older);
        }
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".bad");
    std::fs::rename(path, name).map_err(told)
}

/// Makes a new sled from a snapshot.
fn fill(dir: &Path, snapshot: &Snapshot) -> Result<(Disk, Meta, Database), Error> {
    let disk = Disk::open(&dir.join(next_name(dir)?))?;
    let mut contents = snapshot.read()?;
    let Header { meta, leases } = contents.header.clone();
    disk.fill(meta, &leases, &mut contents)?;
    let (meta, database) = disk.load()?;
    Ok((disk, meta, database))
}

/// The numbers of the states in `dir`, in order.
fn numbers(dir: &Path) -> Result<Vec<u64>, Error> {
    let told = |error: std::io::Error| crate::format::disk(dir, &error);
    let mut numbers = Vec::new();
    for file in std::fs::read_dir(dir).map_err(told)? {
        let name = file.map_err(told)?.file_name();
        numbers.extend(
            name.to_str()
                .and_then(|name| name.strip_prefix("state.")?.parse::<u64>().ok()),
        );
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn next_name(dir: &Path) -> Result<String, Error> {
    let mut number = numbers(dir)?.last().map_or(1, |last| last + 1);
    while dir.join(format!("state.{number}.bad")).exists() {
        number += 1;
    }
    Ok(format!("state.{number}"))
}

fn remove_dir(path: &Path) {
    if let Err(error) = std::fs::remove_dir_all(path) {
        tracing::warn!(%error, folder = %path.display(), "an old state could not be removed");
    }
}
