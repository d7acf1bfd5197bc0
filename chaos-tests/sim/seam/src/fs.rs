//! Files, in the shape of `std::fs`: what the store calls in earnest, it calls here.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::disk::{self, Disk};
use crate::inode::{FileNode, Folder, Ino, Inode, Named, Write as Change};

static HANDLES: AtomicU64 = AtomicU64::new(1);

/// An open file or folder. It goes with the inode, whatever becomes of the name.
#[derive(Debug)]
pub struct File {
    host: String,
    ino: Ino,
    generation: u64,
    handle: u64,
    cursor: AtomicU64,
}

/// What is known of a file.
#[derive(Debug, Clone, Copy)]
pub struct Metadata {
    len: u64,
    is_dir: bool,
}

impl Metadata {
    /// Its octets.
    #[expect(clippy::len_without_is_empty, reason = "as std's")]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it is a folder.
    pub fn is_dir(&self) -> bool {
        self.is_dir
    }
}

/// How a file is opened.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    write: bool,
    create: bool,
    create_new: bool,
    truncate: bool,
}

impl OpenOptions {
    /// None of them.
    pub fn new() -> OpenOptions {
        OpenOptions {
            write: false,
            create: false,
            create_new: false,
            truncate: false,
        }
    }

    /// For reading, which is always so.
    pub fn read(&mut self, _: bool) -> &mut OpenOptions {
        self
    }

    /// For writing.
    pub fn write(&mut self, write: bool) -> &mut OpenOptions {
        self.write = write;
        self
    }

    /// Made if it is not there.
    pub fn create(&mut self, create: bool) -> &mut OpenOptions {
        self.create = create;
        self
    }

    /// Made, and must not be there.
    pub fn create_new(&mut self, create_new: bool) -> &mut OpenOptions {
        self.create_new = create_new;
        self
    }

    /// Emptied.
    pub fn truncate(&mut self, truncate: bool) -> &mut OpenOptions {
        self.truncate = truncate;
        self
    }

    /// Opens it.
    pub fn open(&self, path: impl AsRef<Path>) -> io::Result<File> {
        let (host, names) = disk::split(path.as_ref())?;
        disk::with(&host, |disk| {
            disk.check()?;
            disk.fail(disk.faults.read_error)?;
            let found = disk.inodes.find(&names);
            let ino = match found {
                Ok(_) if self.create_new => return Err(io::ErrorKind::AlreadyExists.into()),
                Ok(ino) => ino,
                Err(error) if error.kind() == io::ErrorKind::NotFound && (self.create || self.create_new) => {
                    make(disk, &names, Inode::File(FileNode::default()))?
                }
                Err(error) => return Err(error),
            };
            if self.truncate {
                disk.operate()?;
                disk.inodes.file_mut(ino)?.write(Change::Len(0));
            }
            Ok(File {
                generation: disk.generation,
                host: host.clone(),
                ino,
                handle: HANDLES.fetch_add(1, Ordering::Relaxed),
                cursor: AtomicU64::new(0),
            })
        })
    }
}

fn make(disk: &mut Disk, names: &[String], inode: Inode) -> io::Result<Ino> {
    disk.operate()?;
    disk.parent(names)?;
    let ino = disk.inodes.add(inode);
    let (parent, name) = disk.parent(names)?;
    parent.change(Named::Linked(name.to_owned(), ino));
    Ok(ino)
}

impl File {
    /// Opens for reading; a folder too, to sync it.
    pub fn open(path: impl AsRef<Path>) -> io::Result<File> {
        OpenOptions::new().open(path)
    }

    /// Makes it or empties it.
    pub fn create(path: impl AsRef<Path>) -> io::Result<File> {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)
    }

    fn with<T>(&self, work: impl FnOnce(&mut Disk) -> io::Result<T>) -> io::Result<T> {
        disk::with(&self.host, |disk| match disk.generation == self.generation {
            true => work(disk),
            false => Err(io::Error::other("this process has ended (simulated)")),
        })
    }

    /// Makes its content, or a folder's names, durable.
    pub fn sync_all(&self) -> io::Result<()> {
        self.with(|disk| disk.sync(self.ino))
    }

    /// The same: the size counts as content.
    pub fn sync_data(&self) -> io::Result<()> {
        self.sync_all()
    }

    /// Cuts it or lengthens it with zeros.
    pub fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(|disk| {
            disk.operate()?;
            disk.fail(disk.faults.write_error)?;
            disk.inodes.file_mut(self.ino)?.write(Change::Len(len as usize));
            Ok(())
        })
    }

    /// What is known of it.
    pub fn metadata(&self) -> io::Result<Metadata> {
        self.with(|disk| known(disk, self.ino))
    }

    /// Locks it, if no other handle has.
    pub fn try_lock(&self) -> io::Result<()> {
        self.with(|disk| {
            let file = disk.inodes.file_mut(self.ino)?;
            match file.locked_by {
                Some(other) if other != self.handle => Err(io::ErrorKind::WouldBlock.into()),
                _ => {
                    file.locked_by = Some(self.handle);
                    Ok(())
                }
            }
        })
    }

    fn moved<T>(&self, done: io::Result<T>, count: impl Fn(&T) -> u64) -> io::Result<T> {
        let done = done?;
        self.cursor.fetch_add(count(&done), Ordering::Relaxed);
        Ok(done)
    }
}

fn known(disk: &mut Disk, ino: Ino) -> io::Result<Metadata> {
    disk.check()?;
    match disk.inodes.all.get(&ino) {
        Some(Inode::File(file)) => Ok(Metadata {
            len: file.bytes.len() as u64,
            is_dir: false,
        }),
        Some(_) => Ok(Metadata { len: 0, is_dir: true }),
        None => Err(io::ErrorKind::NotFound.into()),
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // Of a process that ended, all locks are gone already.
        let _ = self.with(|disk| {
            let file = disk.inodes.file_mut(self.ino)?;
            if file.locked_by == Some(self.handle) {
                file.locked_by = None;
            }
            Ok(())
        });
    }
}

impl FileExt for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|disk| {
            disk.check()?;
            disk.fail(disk.faults.read_error)?;
            let file = disk.inodes.file_mut(self.ino)?;
            let rest = file.bytes.get(offset as usize..).unwrap_or_default();
            let len = rest.len().min(buffer.len());
            buffer[..len].copy_from_slice(&rest[..len]);
            Ok(len)
        })
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<usize> {
        self.with(|disk| disk.write(self.ino, offset as usize, data))
    }
}

impl Read for &File {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.read_at(buffer, self.cursor.load(Ordering::Relaxed));
        self.moved(read, |read| *read as u64)
    }
}

impl Read for File {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }
}

impl Write for File {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let written = self.write_at(data, self.cursor.load(Ordering::Relaxed));
        self.moved(written, |written| *written as u64)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for File {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let from = match to {
            SeekFrom::Start(_) => 0,
            SeekFrom::End(_) => self.metadata()?.len,
            SeekFrom::Current(_) => self.cursor.load(Ordering::Relaxed),
        };
        let at = match to {
            SeekFrom::Start(at) => at,
            SeekFrom::End(by) | SeekFrom::Current(by) => from.saturating_add_signed(by),
        };
        self.cursor.store(at, Ordering::Relaxed);
        Ok(at)
    }
}

/// An entry of a folder.
#[derive(Debug)]
pub struct DirEntry {
    path: PathBuf,
}

impl DirEntry {
    /// Its path.
    pub fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// Its name.
    pub fn file_name(&self) -> std::ffi::OsString {
        self.path.file_name().unwrap_or_default().to_owned()
    }
}

/// The entries of a folder, in the order of their names.
pub fn read_dir(path: impl AsRef<Path>) -> io::Result<impl Iterator<Item = io::Result<DirEntry>>> {
    let path = path.as_ref();
    let (host, names) = disk::split(path)?;
    let found: Vec<String> = disk::with(&host, |disk| {
        disk.check()?;
        disk.fail(disk.faults.read_error)?;
        let folder = disk.inodes.folder(disk.inodes.find(&names)?)?;
        Ok(folder.entries.keys().cloned().collect())
    })?;
    let path = path.to_path_buf();
    Ok(found.into_iter().map(move |name| {
        Ok(DirEntry {
            path: path.join(name),
        })
    }))
}

/// Makes a folder and those above it.
pub fn create_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    let (host, names) = disk::split(path.as_ref())?;
    disk::with(&host, |disk| {
        disk.check()?;
        for len in 1..=names.len() {
            match disk.inodes.find(&names[..len]) {
                Ok(ino) => drop(disk.inodes.folder(ino)?),
                Err(_) => drop(make(disk, &names[..len], Inode::Folder(Folder::default()))?),
            }
        }
        Ok(())
    })
}

/// Removes a file's name.
pub fn remove_file(path: impl AsRef<Path>) -> io::Result<()> {
    let (host, names) = disk::split(path.as_ref())?;
    disk::with(&host, |disk| {
        disk.operate()?;
        let ino = disk.inodes.find(&names)?;
        disk.inodes.file_mut(ino)?;
        let (parent, name) = disk.parent(&names)?;
        parent.change(Named::Unlinked(name.to_owned()));
        Ok(())
    })
}

/// Removes a folder with all in it.
pub fn remove_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    let (host, names) = disk::split(path.as_ref())?;
    disk::with(&host, |disk| {
        disk.operate()?;
        let ino = disk.inodes.find(&names)?;
        disk.inodes.folder(ino)?;
        let (parent, name) = disk.parent(&names)?;
        parent.change(Named::Unlinked(name.to_owned()));
        Ok(())
    })
}

/// Renames within a folder; what had the new name is gone.
pub fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    let (host, from) = disk::split(from.as_ref())?;
    let (_, to) = disk::split(to.as_ref())?;
    disk::with(&host, |disk| {
        disk.operate()?;
        disk.inodes.find(&from)?;
        if from[..from.len() - 1] != to[..to.len() - 1] {
            return Err(io::Error::other("renamed into another folder: not simulated"));
        }
        let (parent, name) = disk.parent(&from)?;
        parent.change(Named::Renamed(name.to_owned(), to[to.len() - 1].clone()));
        Ok(())
    })
}

/// All octets of a file.
pub fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Makes a file of these octets.
pub fn write(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> io::Result<()> {
    File::create(path)?.write_all_at(bytes.as_ref(), 0)
}

/// Whether something lies there.
pub fn exists(path: impl AsRef<Path>) -> io::Result<bool> {
    match metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// What is known of a file.
pub fn metadata(path: impl AsRef<Path>) -> io::Result<Metadata> {
    let (host, names) = disk::split(path.as_ref())?;
    disk::with(&host, |disk| {
        let ino = disk.inodes.find(&names)?;
        known(disk, ino)
    })
}

#[cfg(test)]
mod tests;
