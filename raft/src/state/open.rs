//! Opening the state, putting a snapshot in its place, and the folders in which the two lie.
//!
//! ```text
//! state.3/           the sled in use; a snapshot that is installed makes the next number
//! state.copy/        a copy that is being read against what was stored
//! state.2.bad        one that did not open, check or read to its end, set aside until the next is sound
//! ```

use std::path::Path;
use std::sync::{Arc, Mutex, RwLock};

use tokio::sync::watch;

use super::digests::Digests;
use super::memtable::Memtable;
use super::sled::{Sled, Stored, remove_dir};
use super::{Inner, State};
use crate::clock::Clock;
use crate::log::Synced;
use crate::mvcc::{CHAIN, Changes, Database, Digest, Watchers};
use crate::snapshot::meta::{Header, Meta};
use crate::snapshot::{Snapshot, Snapshots};

use crate::{Error, format};

/// The folder of a copy that is read while the state is in use.
pub(super) const COPY: &str = "state.copy";

/// Removes what is left of a copy.
pub(super) fn remove_copy(dir: &Path) -> Result<(), Error> {
    let copy = dir.join(COPY);
    match crate::fs::exists(&copy).map_err(|error| format::disk(&copy, &error))? {
        true => crate::fs::remove_dir_all(&copy).map_err(|error| format::disk(&copy, &error)),
        false => Ok(()),
    }
}

impl State {
    /// Opens the state in `dir`; one that does not open or check is set aside and made from the newest snapshot.
    pub(crate) fn open(
        dir: &Path,
        snapshots: &Snapshots,
        synced: Synced,
        clock: Arc<Clock>,
    ) -> Result<State, Error> {
        let io_error = |error: std::io::Error| format::disk(dir, &error);
        crate::fs::create_dir_all(dir).map_err(io_error)?;
        remove_copy(dir)?;
        let newest = snapshots.newest();
        let covered = newest.as_ref().and_then(|snapshot| snapshot.meta.last_log_id);
        let mut numbers = numbers(dir)?;
        let mut loaded = None;
        let mut is_any_bad = false;
        while let Some(number) = numbers.pop() {
            let path = dir.join(format!("state.{number}"));
            if loaded.is_some() {
                remove_dir(&path);
                continue;
            }
            let opened = Sled::open(&path);
            if let Err(error @ Error::Disk(_)) = opened {
                // A full disk has no room for another one either.
                return Err(error);
            }
            match opened.and_then(load) {
                Ok(found) if found.stored.meta.applied >= covered => loaded = Some(found),
                // Older than the snapshot, which has it all. It is closed before it goes.
                Ok(older) => {
                    drop(older);
                    remove_dir(&path);
                }
                Err(error) => {
                    tracing::error!(%error, "the state is set aside and made anew from the snapshot and the log");
                    set_aside(dir, &path)?;
                    is_any_bad = true;
                }
            }
        }
        if loaded.is_some() && !is_any_bad {
            remove_set_aside(dir)?;
        }
        let loaded = match (loaded, newest) {
            (Some(loaded), _) => loaded,
            (None, Some(snapshot)) => fill(dir, &snapshot)?,
            (None, None) => create(dir)?,
        };
        let (memtable, meta, database) = loaded.start(synced.clone())?;
        let inner = Inner {
            database,
            memtable: Some(memtable),
            meta,
            watchers: Watchers::default(),
            #[cfg(debug_assertions)]
            differently: super::differently::Differently::default(),
        };
        #[cfg(sim)]
        crate::sim::tell(dir, inner.seen(false));
        let (progress, _) = watch::channel(inner.progress());
        clock.reach(inner.meta.clock_ms);
        Ok(State {
            dir: dir.to_path_buf(),
            synced,
            digests: Mutex::new(digests_of(&inner.meta)),
            inner: RwLock::new(inner),
            clock,
            progress,
        })
    }

    /// Puts a snapshot in the place of the state. Watchers go on from its history.
    pub(crate) fn install(&self, snapshot: &Snapshot) -> Result<(), Error> {
        let (memtable, meta, database) = fill(&self.dir, snapshot)?.start(self.synced.clone())?;
        let mut inner = self.write();
        // Nothing is opened again once the store has ended.
        inner.memtable()?;
        let before = inner.memtable.replace(memtable);
        inner.meta = meta;
        inner.database = database;
        inner.watchers.clear();
        #[cfg(sim)]
        crate::sim::tell(&self.dir, inner.seen(true));
        let progress = inner.progress();
        *self.digests() = digests_of(&inner.meta);
        self.clock.reach(inner.meta.clock_ms);
        drop(inner);
        self.note(progress);
        if let Some(before) = before {
            // Somebody may still read it, or write a snapshot of it.
            before.remove_once_unused();
        }
        Ok(())
    }
}

/// What is known of the digests of a state that was opened: that of the last entry.
fn digests_of(meta: &Meta) -> Digests {
    let mut digests = Digests::default();
    if let Some(applied) = meta.applied {
        digests.push(applied.index, meta.digest);
    }
    digests
}

/// A sled as it was opened: what it says of itself, and the index of what is in it.
struct Loaded {
    sled: Sled,
    stored: Stored,
    database: Database,
}

impl Loaded {
    /// Begins to collect changes for it. What the last compaction made unreachable and a restart forgot to remove is
    /// found again.
    fn start(mut self, synced: Synced) -> Result<(Arc<Memtable>, Meta, Database), Error> {
        let unreachable = self.database.keys.compact(self.database.compacted);
        let meta = self.stored.meta.clone();
        let memtable = Memtable::start(self.sled, self.stored, unreachable, synced)?;
        Ok((Arc::new(memtable), meta, self.database))
    }
}

/// Reads it all. sled panics on some damage, while it opens and while it is read: that is an error like any other.
fn load(sled: Sled) -> Result<Loaded, Error> {
    match sled.load() {
        Ok((stored, database)) => Ok(Loaded {
            sled,
            stored,
            database,
        }),
        Err(error) => {
            sled.give_up();
            Err(error)
        }
    }
}

/// Makes an empty sled that says so, in a way that lasts: one that holds nothing at all has lost it.
fn create(dir: &Path) -> Result<Loaded, Error> {
    let sled = Sled::open(&dir.join(next_name(dir)?))?;
    let (mut stored, database) = (Stored::default(), Database::default());
    let meta = Meta {
        revision: database.revision,
        digest: Some(Digest::beginning(CHAIN)),
        ..Meta::default()
    };
    sled.store(&mut stored, &Changes::default(), meta)?;
    sled.flush()?;
    Ok(Loaded {
        sled,
        stored,
        database,
    })
}

/// Keeps a state that cannot be used until there is a sound one in its place: the last such one.
fn set_aside(dir: &Path, path: &Path) -> Result<(), Error> {
    let io_error = |error: std::io::Error| format::disk(path, &error);
    remove_set_aside(dir)?;
    let mut name = path.as_os_str().to_owned();
    name.push(".bad");
    crate::fs::rename(path, name).map_err(io_error)
}

/// Removes what was set aside: whatever was made in its place has been read to its end, or is in a snapshot.
pub(super) fn remove_set_aside(dir: &Path) -> Result<(), Error> {
    let io_error = |error: std::io::Error| format::disk(dir, &error);
    for file in crate::fs::read_dir(dir).map_err(io_error)? {
        let path = file.map_err(io_error)?.path();
        if path.extension().is_some_and(|extension| extension == "bad") {
            remove_dir(&path);
        }
    }
    Ok(())
}

/// Makes a new sled from a snapshot.
fn fill(dir: &Path, snapshot: &Snapshot) -> Result<Loaded, Error> {
    let sled = Sled::open(&dir.join(next_name(dir)?))?;
    let mut contents = snapshot.read()?;
    let Header { meta, leases } = contents.header.clone();
    sled.fill(meta, &leases, &mut contents)?;
    load(sled)
}

/// The numbers of the states in `dir`, in order.
fn numbers(dir: &Path) -> Result<Vec<u64>, Error> {
    let io_error = |error: std::io::Error| format::disk(dir, &error);
    let mut numbers = Vec::new();
    for file in crate::fs::read_dir(dir).map_err(io_error)? {
        let name = file.map_err(io_error)?.file_name();
        numbers.extend(
            name.to_str()
                .and_then(|name| name.strip_prefix("state.")?.parse::<u64>().ok()),
        );
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn next_name(dir: &Path) -> Result<String, Error> {
    let io_error = |error: std::io::Error| format::disk(dir, &error);
    let mut number = numbers(dir)?.last().map_or(1, |last| last + 1);
    while crate::fs::exists(dir.join(format!("state.{number}.bad"))).map_err(io_error)? {
        number += 1;
    }
    Ok(format!("state.{number}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::sled::tests::UNREADABLE;

    fn open(dir: &Path) -> State {
        let snapshots = Snapshots::open(&dir.join("snapshots")).unwrap();
        State::open(dir, &snapshots, Synced::all(), Arc::default()).unwrap()
    }

    #[test]
    fn a_state_that_sled_panics_at_while_it_is_read_is_set_aside_until_the_next_is_sound() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        open(dir).stop();
        std::fs::write(dir.join("state.1").join(UNREADABLE), "").unwrap();
        let set_aside = dir.join("state.1.bad");
        open(dir).stop();
        assert!(set_aside.exists() && dir.join("state.2").exists());
        open(dir).stop();
        assert!(!set_aside.exists() && dir.join("state.2").exists());
    }

    #[test]
    fn a_state_that_was_set_aside_goes_once_a_snapshot_has_the_one_in_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        std::fs::create_dir(dir.join("state.1.bad")).unwrap();
        let snapshots = Snapshots::open(&dir.join("snapshots")).unwrap();
        let state = State::open(dir, &snapshots, Synced::all(), Arc::default()).unwrap();
        assert!(dir.join("state.1.bad").exists());
        state.snapshot(&snapshots).unwrap();
        assert!(!dir.join("state.1.bad").exists());
        state.stop();
    }
}
