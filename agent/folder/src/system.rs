//! The calls of the system that work from a folder's descriptor; names in them are single ones, and links are not followed.

use std::ffi::{CStr, CString, OsStr};
use std::fs::{self, Permissions, ReadDir};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A name for the system.
pub(crate) fn c_name(name: &OsStr) -> io::Result<CString> {
    CString::new(name.as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn done(result: libc::c_int) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn opened(fd: RawFd) -> io::Result<OwnedFd> {
    match fd {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: the kernel has just made it, and nobody else knows it.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
    }
}

/// A folder that is trusted, by its path.
pub(crate) fn open_path(path: &Path) -> io::Result<OwnedFd> {
    let path = c_name(path.as_os_str())?;
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    // SAFETY: the path is a C string that lives as long as the call.
    opened(unsafe { libc::open(path.as_ptr(), flags) })
}

/// A folder in a folder; a link is none. It may be closed to its own user: what is opened is the place alone.
pub(crate) fn open_folder(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    // SAFETY: the name is a C string that lives as long as the call.
    opened(unsafe { libc::openat(parent.as_raw_fd(), name.as_ptr(), flags) })
}

/// A folder in a folder, to be read.
pub(crate) fn open_to_read(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    // SAFETY: the name is a C string that lives as long as the call.
    opened(unsafe { libc::openat(parent.as_raw_fd(), name.as_ptr(), flags) })
}

/// What something in a folder is; of a link, the link.
pub(crate) fn stat(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<libc::stat> {
    // SAFETY: numbers alone, for which zeros are valid.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    let flags = libc::AT_SYMLINK_NOFOLLOW;
    // SAFETY: the name is a C string that lives as long as the call, and the kernel writes one structure.
    done(unsafe { libc::fstatat(parent.as_raw_fd(), name.as_ptr(), &raw mut stat, flags) })?;
    Ok(stat)
}

/// Makes a folder in a folder.
pub(crate) fn make_folder(parent: BorrowedFd<'_>, name: &CStr, mode: libc::mode_t) -> io::Result<()> {
    // SAFETY: the name is a C string that lives as long as the call.
    done(unsafe { libc::mkdirat(parent.as_raw_fd(), name.as_ptr(), mode) })
}

/// Removes an empty folder.
pub(crate) fn remove_folder(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    // SAFETY: the name is a C string that lives as long as the call.
    done(unsafe { libc::unlinkat(parent.as_raw_fd(), name.as_ptr(), libc::AT_REMOVEDIR) })
}

/// Removes what is no folder.
pub(crate) fn unlink(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    // SAFETY: the name is a C string that lives as long as the call.
    done(unsafe { libc::unlinkat(parent.as_raw_fd(), name.as_ptr(), 0) })
}

/// Moves a folder into another, where nothing has that name.
pub(crate) fn move_to(
    from: BorrowedFd<'_>,
    name: &CStr,
    to: BorrowedFd<'_>,
    new_name: &CStr,
) -> io::Result<()> {
    // An empty folder of that name would be replaced, which does no harm.
    // SAFETY: both names are C strings that live as long as the call.
    done(unsafe { libc::renameat(from.as_raw_fd(), name.as_ptr(), to.as_raw_fd(), new_name.as_ptr()) })
}

/// Where the kernel shows a descriptor of this process: it leads to what is open, whatever has its path by now.
fn shown(folder: BorrowedFd<'_>) -> PathBuf {
    format!("/proc/self/fd/{}", folder.as_raw_fd()).into()
}

/// Opens a folder to its own user, who may have closed it.
pub(crate) fn unlock(folder: BorrowedFd<'_>) -> io::Result<()> {
    fs::set_permissions(shown(folder), Permissions::from_mode(0o700))
}

/// What is in a folder.
pub(crate) fn list(folder: BorrowedFd<'_>) -> io::Result<ReadDir> {
    fs::read_dir(shown(folder))
}

/// Whether a name still means the folder that is open.
pub(crate) fn is_same(parent: BorrowedFd<'_>, name: &CStr, folder: BorrowedFd<'_>) -> io::Result<bool> {
    let named = open_folder(parent, name)?;
    Ok(id(&named)? == id(&folder)?)
}

/// What a folder is, whatever it is called: its file system, and its number there.
pub(crate) type Id = (libc::dev_t, libc::ino_t);

/// What an open folder is.
pub(crate) fn id(fd: &impl AsRawFd) -> io::Result<Id> {
    // SAFETY: numbers alone, for which zeros are valid.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one structure.
    done(unsafe { libc::fstat(fd.as_raw_fd(), &raw mut stat) })?;
    Ok((stat.st_dev, stat.st_ino))
}
