//! What lies on one host's disk: inodes, each as the process sees it and as a power loss would find it.
//!
//! A name belongs to its folder and not to its file: a file whose content was synced is gone after a power loss if
//! nobody synced the folder since it was made, and a rename that was not synced may be undone.

use std::collections::BTreeMap;
use std::io;

pub(crate) type Ino = u64;

/// The folder at the top of a host's disk.
pub(crate) const ROOT: Ino = 1;

pub(crate) enum Inode {
    Folder(Folder),
    File(FileNode),
    /// What sled keeps in a folder; see [`crate::sled`].
    Map(MapNode),
}

#[derive(Default)]
pub(crate) struct Folder {
    pub(crate) entries: BTreeMap<String, Ino>,
    /// The entries as synced.
    pub(crate) durable: BTreeMap<String, Ino>,
    /// What happened since the last sync, in order: file systems keep the order of changes to one folder.
    pub(crate) pending: Vec<Named>,
}

/// A change of a folder's names.
#[derive(Debug, Clone)]
pub(crate) enum Named {
    Linked(String, Ino),
    Unlinked(String),
    Renamed(String, String),
}

impl Folder {
    pub(crate) fn change(&mut self, change: Named) {
        apply_name(&mut self.entries, &change);
        self.pending.push(change);
    }

    pub(crate) fn sync(&mut self) {
        self.pending.clear();
        self.durable = self.entries.clone();
    }
}

pub(crate) fn apply_name(entries: &mut BTreeMap<String, Ino>, change: &Named) {
    match change {
        Named::Linked(name, ino) => {
            entries.insert(name.clone(), *ino);
        }
        Named::Unlinked(name) => {
            entries.remove(name);
        }
        Named::Renamed(from, to) => {
            if let Some(ino) = entries.remove(from) {
                entries.insert(to.clone(), ino);
            }
        }
    }
}

#[derive(Default)]
pub(crate) struct FileNode {
    pub(crate) bytes: Vec<u8>,
    /// The content as synced.
    pub(crate) durable: Vec<u8>,
    pub(crate) pending: Vec<Write>,
    /// The handle that holds the lock.
    pub(crate) locked_by: Option<u64>,
}

/// A change of a file's content.
#[derive(Debug, Clone)]
pub(crate) enum Write {
    At(usize, Vec<u8>),
    Len(usize),
}

impl FileNode {
    pub(crate) fn write(&mut self, write: Write) {
        apply_write(&mut self.bytes, &write);
        self.pending.push(write);
    }

    pub(crate) fn sync(&mut self) {
        for write in self.pending.drain(..) {
            apply_write(&mut self.durable, &write);
        }
    }
}

pub(crate) fn apply_write(bytes: &mut Vec<u8>, write: &Write) {
    match write {
        Write::At(offset, data) => {
            let end = offset + data.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[*offset..end].copy_from_slice(data);
        }
        Write::Len(len) => bytes.resize(*len, 0),
    }
}

/// One change of a map: a key and its new value, or none.
pub(crate) type Change = (Vec<u8>, Option<Vec<u8>>);

#[derive(Default)]
pub(crate) struct MapNode {
    pub(crate) map: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The map before `batches`.
    pub(crate) base: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The newest batches, of which a power loss takes a suffix.
    pub(crate) batches: std::collections::VecDeque<Vec<Change>>,
    pub(crate) damage: Damage,
}

/// What a power loss did to a map.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Damage {
    #[default]
    None,
    /// It does not open.
    Opening,
    /// Opening it panics.
    OpeningPanics,
    /// Reading beyond so many values fails.
    Reading(u64),
    /// Reading beyond so many values panics.
    ReadingPanics(u64),
}

/// Batches that a power loss may take at most, the whole map apart.
const BATCHES_MAX: usize = 32;

impl MapNode {
    pub(crate) fn apply(&mut self, batch: Vec<Change>) {
        apply_batch(&mut self.map, &batch);
        self.batches.push_back(batch);
        while self.batches.len() > BATCHES_MAX
            && let Some(oldest) = self.batches.pop_front()
        {
            apply_batch(&mut self.base, &oldest);
        }
    }

    /// Forgets all but the oldest `kept` batches.
    pub(crate) fn cut(&mut self, kept: usize) {
        self.batches.truncate(kept);
        self.map = self.base.clone();
        for batch in &self.batches {
            apply_batch(&mut self.map, batch);
        }
    }
}

fn apply_batch(map: &mut BTreeMap<Vec<u8>, Vec<u8>>, batch: &[Change]) {
    for (key, value) in batch {
        match value {
            Some(value) => map.insert(key.clone(), value.clone()),
            None => map.remove(key),
        };
    }
}

/// All inodes of a host.
pub(crate) struct Inodes {
    pub(crate) all: BTreeMap<Ino, Inode>,
    next: Ino,
}

impl Default for Inodes {
    fn default() -> Inodes {
        Inodes {
            all: BTreeMap::from([(ROOT, Inode::Folder(Folder::default()))]),
            next: ROOT + 1,
        }
    }
}

impl Inodes {
    pub(crate) fn add(&mut self, inode: Inode) -> Ino {
        let ino = self.next;
        self.next += 1;
        self.all.insert(ino, inode);
        ino
    }

    /// Finds what lies under `names`, from the top.
    pub(crate) fn find(&self, names: &[String]) -> io::Result<Ino> {
        names.iter().try_fold(ROOT, |at, name| {
            let found = self.folder(at)?.entries.get(name);
            found.copied().ok_or_else(|| io::ErrorKind::NotFound.into())
        })
    }

    pub(crate) fn folder(&self, ino: Ino) -> io::Result<&Folder> {
        match self.all.get(&ino) {
            Some(Inode::Folder(folder)) => Ok(folder),
            Some(_) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(crate) fn folder_mut(&mut self, ino: Ino) -> io::Result<&mut Folder> {
        match self.all.get_mut(&ino) {
            Some(Inode::Folder(folder)) => Ok(folder),
            Some(_) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(crate) fn file_mut(&mut self, ino: Ino) -> io::Result<&mut FileNode> {
        match self.all.get_mut(&ino) {
            Some(Inode::File(file)) => Ok(file),
            Some(_) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(crate) fn map_mut(&mut self, ino: Ino) -> io::Result<&mut MapNode> {
        match self.all.get_mut(&ino) {
            Some(Inode::Map(map)) => Ok(map),
            Some(_) | None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Octets in all files.
    pub(crate) fn size(&self) -> u64 {
        let sizes = self.all.values().map(|inode| match inode {
            Inode::File(file) => file.bytes.len() as u64,
            Inode::Folder(_) | Inode::Map(_) => 0,
        });
        sizes.sum()
    }
}
