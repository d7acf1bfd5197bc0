//! The disks of all hosts, as the world handles them: power, faults, damage.
//!
//! Always: (1) a host that is off does nothing more, whatever its destructors try; (2) what a handle of a process that
//! ended does is an error; (3) the same operations in the same order give the same disk.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path};
use std::time::Duration;

use crate::Chance;
pub use crate::crash::{Loss, Lost};
use crate::inode::{Folder, Ino, Inode, Inodes, Write};

/// What goes wrong on a host's disk, each in times of a thousand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// A write fails.
    pub write_error: u64,
    /// A sync fails, and what it should have synced is lost.
    pub sync_error: u64,
    /// A read fails.
    pub read_error: u64,
    /// A write takes only a part.
    pub short_write: u64,
    /// An operation that may wait is held up ...
    pub stall: u64,
    /// ... by up to so many milliseconds.
    pub stall_ms_max: u64,
    /// Octets that there is room for; none is no bound.
    pub capacity: Option<u64>,
}

/// What happened on a disk since its host was added.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Files and folders synced.
    pub syncs: u64,
    /// Writes taken.
    pub writes: u64,
    /// Errors given.
    pub errors: u64,
    /// What crashes took.
    pub lost: Lost,
}

pub(crate) struct Disk {
    pub(crate) inodes: Inodes,
    pub(crate) generation: u64,
    pub(crate) is_off: bool,
    pub(crate) faults: Faults,
    pub(crate) chance: Chance,
    pub(crate) counts: Counts,
    /// So many operations from now on the process ends so.
    armed: Option<(u64, Loss)>,
}

thread_local! {
    static DISKS: RefCell<BTreeMap<String, Disk>> = const { RefCell::new(BTreeMap::new()) };
}

/// Removes all disks.
pub fn clear() {
    DISKS.with_borrow_mut(BTreeMap::clear);
}

/// Adds a host with an empty disk.
pub fn add(host: &str, chance: Chance) {
    let disk = Disk {
        inodes: Inodes::default(),
        generation: 0,
        is_off: true,
        faults: Faults::default(),
        chance,
        counts: Counts::default(),
        armed: None,
    };
    DISKS.with_borrow_mut(|disks| disks.insert(host.to_owned(), disk));
}

/// Does something with the disk of `host`; a host that was never added is an error.
pub(crate) fn with<T>(host: &str, work: impl FnOnce(&mut Disk) -> io::Result<T>) -> io::Result<T> {
    DISKS.with_borrow_mut(|disks| match disks.get_mut(host) {
        Some(disk) => work(disk),
        None => Err(io::Error::other(format!("there is no host {host}"))),
    })
}

fn of<T: Default>(host: &str, work: impl FnOnce(&mut Disk) -> T) -> T {
    with(host, |disk| Ok(work(disk))).unwrap_or_default()
}

/// The host of a path and the names below.
pub(crate) fn split(path: &Path) -> io::Result<(String, Vec<String>)> {
    let mut names = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
        _ => None,
    });
    match names.next() {
        Some(host) => Ok((host, names.collect())),
        None => Err(io::Error::other("a path without a host")),
    }
}

/// The host of a path.
pub fn host(path: &Path) -> String {
    split(path).map(|(host, _)| host).unwrap_or_default()
}

/// Ends the host's process at once.
pub fn stop(host: &str, loss: Loss) -> Lost {
    of(host, |disk| disk.stop(loss))
}

/// Ends the host's process after so many more operations on its disk, within the last of them.
pub fn arm(host: &str, operations: u64, loss: Loss) {
    of(host, |disk| disk.armed = Some((operations, loss)));
}

/// Lets the process go on.
pub fn disarm(host: &str) {
    of(host, |disk| disk.armed = None);
}

/// Whether the host's process was ended.
pub fn is_off(host: &str) -> bool {
    of(host, |disk| disk.is_off)
}

/// Lets a process of the host begin.
pub fn start(host: &str) {
    of(host, |disk| {
        disk.generation += 1;
        disk.is_off = false;
        disk.armed = None;
    });
}

/// Says what goes wrong from now on.
pub fn set_faults(host: &str, faults: Faults) {
    of(host, |disk| disk.faults = faults);
}

/// What goes wrong.
pub fn faults(host: &str) -> Faults {
    of(host, |disk| disk.faults)
}

/// Octets in the host's files.
pub fn size(host: &str) -> u64 {
    of(host, |disk| disk.inodes.size())
}

/// What happened so far.
pub fn counts(host: &str) -> Counts {
    of(host, |disk| disk.counts)
}

/// How long the next operation on `path` is held up.
pub fn stall(path: &Path) -> Duration {
    of(&host(path), |disk| {
        let faults = disk.faults;
        let is_held_up = faults.stall > 0 && disk.chance.is(faults.stall);
        match is_held_up {
            true => Duration::from_millis(disk.chance.below(faults.stall_ms_max + 1)),
            false => Duration::ZERO,
        }
    })
}

/// Whether all in the folder, names and content, would outlast a power loss.
pub fn is_synced(dir: &Path) -> bool {
    let Ok((host, names)) = split(dir) else {
        return false;
    };
    let looked = with(&host, |disk| {
        let folder = disk.inodes.folder(disk.inodes.find(&names)?)?;
        let is_file_synced = |ino: &Ino| match disk.inodes.all.get(ino) {
            Some(Inode::File(file)) => file.pending.is_empty(),
            _ => true,
        };
        Ok(folder.pending.is_empty() && folder.entries.values().all(is_file_synced))
    });
    looked.unwrap_or(false)
}

/// Whether a file, its name and its content, would outlast a power loss; one that is gone already need not.
pub fn is_file_synced(path: &Path) -> bool {
    let Ok((host, names)) = split(path) else {
        return false;
    };
    let looked = with(&host, |disk| {
        let Ok(ino) = disk.inodes.find(&names) else {
            return Ok(true);
        };
        let (folder, name) = disk.parent(&names)?;
        let is_named = folder.durable.get(name) == Some(&ino);
        Ok(is_named && disk.inodes.file_mut(ino)?.pending.is_empty())
    });
    looked.unwrap_or(false)
}

/// The files of a host with their sizes.
pub fn files(host: &str) -> Vec<(String, u64)> {
    let mut files = Vec::new();
    of(host, |disk| {
        let mut folders = vec![(format!("/{host}"), crate::inode::ROOT)];
        while let Some((path, ino)) = folders.pop() {
            let Ok(folder) = disk.inodes.folder(ino) else {
                continue;
            };
            for (name, ino) in &folder.entries {
                let path = format!("{path}/{name}");
                match disk.inodes.all.get(ino) {
                    Some(Inode::Folder(_)) => folders.push((path, *ino)),
                    Some(Inode::File(file)) => files.push((path, file.bytes.len() as u64)),
                    Some(Inode::Map(_)) | None => {}
                }
            }
        }
    });
    files.sort();
    files
}

/// What is in a file; nothing if there is none.
pub fn content(path: &Path) -> Vec<u8> {
    let Ok((host, names)) = split(path) else {
        return Vec::new();
    };
    let read = with(&host, |disk| {
        let ino = disk.inodes.find(&names)?;
        Ok(disk.inodes.file_mut(ino)?.bytes.clone())
    });
    read.unwrap_or_default()
}

/// Changes one octet of a file for good.
pub fn flip(path: &Path, offset: u64, mask: u8) {
    let Ok((host, names)) = split(path) else { return };
    let _ = with(&host, |disk| {
        let ino = disk.inodes.find(&names)?;
        let file = disk.inodes.file_mut(ino)?;
        for bytes in [&mut file.bytes, &mut file.durable] {
            if let Some(octet) = bytes.get_mut(offset as usize) {
                *octet ^= mask;
            }
        }
        Ok(())
    });
}

/// Empties the host's disk.
pub fn wipe(host: &str) {
    of(host, |disk| disk.inodes = Inodes::default());
}

impl Disk {
    fn stop(&mut self, loss: Loss) -> Lost {
        self.generation += 1;
        self.is_off = true;
        self.armed = None;
        let mut lost = Lost::default();
        if loss == Loss::Killed {
            for inode in self.inodes.all.values_mut() {
                if let Inode::File(file) = inode {
                    file.locked_by = None;
                }
            }
        } else {
            lost = crate::crash::lose_power(&mut self.inodes, loss, &mut self.chance);
        }
        let all = &mut self.counts.lost;
        all.files += lost.files;
        all.torn += lost.torn;
        all.names += lost.names;
        all.maps += lost.maps;
        lost
    }

    /// Whether the process may do anything; counts an operation that changes the disk.
    pub(crate) fn operate(&mut self) -> io::Result<()> {
        self.check()?;
        if let Some((left, loss)) = self.armed {
            match left {
                0 => {
                    self.stop(loss);
                    return self.check();
                }
                _ => self.armed = Some((left - 1, loss)),
            }
        }
        Ok(())
    }

    /// Whether the process may do anything.
    pub(crate) fn check(&self) -> io::Result<()> {
        match self.is_off {
            true => Err(io::Error::other("this process has ended (simulated)")),
            false => Ok(()),
        }
    }

    /// Fails so many times of a thousand, as a broken disk does.
    pub(crate) fn fail(&mut self, per_mille: u64) -> io::Result<()> {
        if per_mille > 0 && self.chance.is(per_mille) {
            self.counts.errors += 1;
            return Err(io::Error::from_raw_os_error(EIO));
        }
        Ok(())
    }

    pub(crate) fn write(&mut self, ino: Ino, offset: usize, data: &[u8]) -> io::Result<usize> {
        // Torn apart by a kill within it: the beginning is there.
        let before = self.generation;
        let operated = self.operate();
        if operated.is_err() {
            if self.generation != before && data.len() > 1 {
                let part = self.chance.below(data.len() as u64) as usize;
                if let Ok(file) = self.inodes.file_mut(ino) {
                    file.write(Write::At(offset, data[..part].to_vec()));
                }
            }
            operated?;
        }
        self.fail(self.faults.write_error)?;
        let mut len = data.len();
        if len > 1 && self.faults.short_write > 0 && self.chance.is(self.faults.short_write) {
            len = self.chance.between(1, len as u64 - 1) as usize;
        }
        if let Some(capacity) = self.faults.capacity {
            let grown = (offset + len).saturating_sub(self.inodes.file_mut(ino)?.bytes.len()) as u64;
            let room = capacity.saturating_sub(self.inodes.size());
            if grown > room {
                self.counts.errors += 1;
                return Err(io::Error::from_raw_os_error(ENOSPC));
            }
        }
        self.counts.writes += 1;
        let file = self.inodes.file_mut(ino)?;
        file.write(Write::At(offset, data[..len].to_vec()));
        Ok(len)
    }

    pub(crate) fn sync(&mut self, ino: Ino) -> io::Result<()> {
        self.operate()?;
        self.counts.syncs += 1;
        let failed = self.fail(self.faults.sync_error);
        match self.inodes.all.get_mut(&ino) {
            // What could not be written back is taken for clean from now on, as in Linux.
            Some(Inode::File(file)) if failed.is_err() => file.pending.clear(),
            Some(Inode::File(file)) => file.sync(),
            Some(Inode::Folder(folder)) if failed.is_ok() => folder.sync(),
            Some(_) | None => {}
        }
        failed
    }

    /// The folder that holds the last of `names`, and that name.
    pub(crate) fn parent<'n>(&mut self, names: &'n [String]) -> io::Result<(&mut Folder, &'n str)> {
        let (name, above) = names.split_last().ok_or(io::ErrorKind::InvalidInput)?;
        let ino = self.inodes.find(above)?;
        Ok((self.inodes.folder_mut(ino)?, name))
    }
}

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
