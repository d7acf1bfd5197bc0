//! A map in the shape of sled's: what the store keeps in sled in earnest, it keeps here.
//!
//! A kill loses nothing. A power loss takes the newest batches, or all, or leaves a map that fails or panics when it
//! is opened or read, as sled's own files may after one. `flush` promises nothing: sled's does not sync either.

use std::io;
use std::ops::{Bound, Deref, RangeBounds};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk;
use crate::inode::{Change, Damage, Ino, Inode, MapNode};

/// What panics of this map begin with: they are meant.
pub const PANIC: &str = "sled (simulated)";
/// The name of the map's inode in its folder.
const NAME: &str = "db";

/// What went wrong.
#[derive(Debug)]
pub enum Error {
    /// The disk.
    Io(io::Error),
    /// Damage that was seen.
    Corruption,
}

/// Of this module.
pub type Result<T> = std::result::Result<T, Error>;

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Io(error) => write!(f, "IO error: {error}"),
            Error::Corruption => write!(f, "corruption (simulated)"),
        }
    }
}

impl std::error::Error for Error {}

/// Octets of a key or a value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct IVec(Arc<[u8]>);

impl Deref for IVec {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for IVec {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for IVec {
    fn from(octets: &[u8]) -> IVec {
        IVec(octets.into())
    }
}

impl<const N: usize> From<&[u8; N]> for IVec {
    fn from(octets: &[u8; N]) -> IVec {
        IVec(octets.as_slice().into())
    }
}

impl From<Vec<u8>> for IVec {
    fn from(octets: Vec<u8>) -> IVec {
        IVec(octets.into())
    }
}

/// Changes that are made at once.
#[derive(Debug, Default)]
pub struct Batch(Vec<Change>);

impl Batch {
    /// Sets a value.
    pub fn insert(&mut self, key: impl Into<IVec>, value: impl Into<IVec>) {
        self.0.push((key.into().to_vec(), Some(value.into().to_vec())));
    }

    /// Takes a key away.
    pub fn remove(&mut self, key: impl Into<IVec>) {
        self.0.push((key.into().to_vec(), None));
    }
}

/// How a map is opened; nothing but the path matters here.
#[derive(Debug, Default)]
pub struct Config {
    path: PathBuf,
}

impl Config {
    /// The default.
    pub fn new() -> Config {
        Config::default()
    }

    /// Where it lies.
    pub fn path(self, path: impl AsRef<Path>) -> Config {
        Config {
            path: path.as_ref().to_path_buf(),
        }
    }

    /// Of no meaning here.
    pub fn cache_capacity(self, _: u64) -> Config {
        self
    }

    /// Of no meaning here.
    pub fn flush_every_ms(self, _: Option<u64>) -> Config {
        self
    }

    /// Opens it, or makes it.
    pub fn open(&self) -> Result<Db> {
        crate::fs::create_dir_all(&self.path).map_err(Error::Io)?;
        let (host, mut names) = disk::split(&self.path).map_err(Error::Io)?;
        names.push(NAME.to_owned());
        let opened = disk::with(&host, |disk| {
            disk.check()?;
            disk.fail(disk.faults.read_error)?;
            let ino = match disk.inodes.find(&names) {
                Ok(ino) => ino,
                Err(_) => {
                    disk.operate()?;
                    let ino = disk.inodes.add(Inode::Map(MapNode::default()));
                    let (folder, name) = disk.parent(&names)?;
                    // sled syncs its own folder.
                    folder.change(crate::inode::Named::Linked(name.to_owned(), ino));
                    folder.sync();
                    ino
                }
            };
            let damage = disk.inodes.map_mut(ino)?.damage;
            let db = Db {
                host: host.clone(),
                ino,
                generation: disk.generation,
            };
            Ok((db, damage))
        });
        match opened.map_err(Error::Io)? {
            (_, Damage::Opening) => Err(Error::Corruption),
            (_, Damage::OpeningPanics) => panic!("{PANIC}: it cannot be opened"),
            (db, _) => Ok(db),
        }
    }
}

/// An open map.
#[derive(Debug, Clone)]
pub struct Db {
    host: String,
    ino: Ino,
    generation: u64,
}

impl Db {
    fn with<T>(&self, work: impl FnOnce(&mut disk::Disk, Ino) -> io::Result<T>) -> Result<T> {
        let done = disk::with(&self.host, |disk| match disk.generation == self.generation {
            true => work(disk, self.ino),
            false => Err(io::Error::other("this process has ended (simulated)")),
        });
        done.map_err(Error::Io)
    }

    /// Reads with `work`, as far as the map is sound.
    fn reading<T>(&self, work: impl FnOnce(&MapNode) -> T) -> Result<T> {
        let read = self.with(|disk, ino| {
            disk.check()?;
            disk.fail(disk.faults.read_error)?;
            let map = disk.inodes.map_mut(ino)?;
            let damage = match &mut map.damage {
                Damage::Reading(left) | Damage::ReadingPanics(left) if *left > 0 => {
                    *left -= 1;
                    Damage::None
                }
                damage => *damage,
            };
            Ok((work(map), damage))
        })?;
        match read {
            (_, Damage::Reading(_)) => Err(Error::Corruption),
            (_, Damage::ReadingPanics(_)) => panic!("{PANIC}: it cannot be read"),
            (found, _) => Ok(found),
        }
    }

    /// The value of a key.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<IVec>> {
        self.reading(|map| map.map.get(key.as_ref()).map(|value| value.as_slice().into()))
    }

    /// All whose keys begin so.
    pub fn scan_prefix(&self, prefix: impl AsRef<[u8]>) -> Iter {
        let prefix = prefix.as_ref();
        let mut end = prefix.to_vec();
        let high = match end.last_mut() {
            Some(last) if *last < u8::MAX => {
                *last += 1;
                Bound::Excluded(end)
            }
            _ => Bound::Unbounded,
        };
        self.iterate(Bound::Included(prefix.to_vec()), high)
    }

    /// All of a range of keys.
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Iter {
        let owned = |bound: Bound<&K>| match bound {
            Bound::Included(key) => Bound::Included(key.as_ref().to_vec()),
            Bound::Excluded(key) => Bound::Excluded(key.as_ref().to_vec()),
            Bound::Unbounded => Bound::Unbounded,
        };
        self.iterate(owned(range.start_bound()), owned(range.end_bound()))
    }

    fn iterate(&self, low: Bound<Vec<u8>>, high: Bound<Vec<u8>>) -> Iter {
        Iter {
            db: self.clone(),
            low,
            high,
        }
    }

    /// Sets a value.
    pub fn insert(&self, key: impl AsRef<[u8]>, value: impl Into<IVec>) -> Result<Option<IVec>> {
        let mut batch = Batch::default();
        batch.insert(key.as_ref(), value);
        self.apply_batch(batch).map(|()| None)
    }

    /// Takes a key away.
    pub fn remove(&self, key: impl AsRef<[u8]>) -> Result<Option<IVec>> {
        let mut batch = Batch::default();
        batch.remove(key.as_ref());
        self.apply_batch(batch).map(|()| None)
    }

    /// Makes changes at once.
    pub fn apply_batch(&self, batch: Batch) -> Result<()> {
        self.with(|disk, ino| {
            disk.operate()?;
            disk.fail(disk.faults.write_error)?;
            disk.inodes.map_mut(ino)?.apply(batch.0);
            Ok(())
        })
    }

    /// Hands what is held back to the system.
    pub fn flush(&self) -> Result<usize> {
        self.with(|disk, _| disk.operate().map(|()| 0))
    }
}

/// Keys and values in order, read one by one.
#[derive(Debug)]
pub struct Iter {
    db: Db,
    low: Bound<Vec<u8>>,
    high: Bound<Vec<u8>>,
}

type Item = Result<(IVec, IVec)>;

impl Iter {
    fn step(&mut self, is_back: bool) -> Option<Item> {
        // std's map panics where the ends have crossed.
        if let (Bound::Included(low) | Bound::Excluded(low), Bound::Included(high) | Bound::Excluded(high)) =
            (&self.low, &self.high)
            && (low > high
                || low == high
                    && !(matches!(self.low, Bound::Included(_)) && matches!(self.high, Bound::Included(_))))
        {
            return None;
        }
        let (low, high) = (self.low.clone(), self.high.clone());
        let found = self.db.reading(|map| {
            let mut range = map.map.range((low, high));
            let found = if is_back { range.next_back() } else { range.next() };
            found.map(|(key, value)| (IVec::from(key.as_slice()), IVec::from(value.as_slice())))
        });
        match found.transpose()? {
            Ok((key, value)) => {
                let end = Bound::Excluded(key.to_vec());
                if is_back {
                    self.high = end;
                } else {
                    self.low = end;
                }
                Some(Ok((key, value)))
            }
            Err(error) => {
                // Nothing follows an error.
                (self.low, self.high) = (Bound::Excluded(Vec::new()), Bound::Excluded(Vec::new()));
                Some(Err(error))
            }
        }
    }
}

impl Iterator for Iter {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        self.step(false)
    }
}

impl DoubleEndedIterator for Iter {
    fn next_back(&mut self) -> Option<Item> {
        self.step(true)
    }
}
