//! The kernel itself, past the functions that are stood in for. Each sets `errno` as libc's own does.

use std::ffi::{CStr, CString, c_char, c_int, c_long, c_uint, c_void};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// A system call by its number.
macro_rules! system {
    ($number:ident $(, $argument:expr)*) => {
        // SAFETY: the arguments are those that the caller gave for this very call, or of ours and alive.
        unsafe { libc::syscall(libc::$number $(, $argument)*) }
    };
}
pub(crate) use system;

pub(crate) fn open_at(folder: c_int, path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    system!(SYS_openat, folder, path, flags, mode) as c_int
}

/// Opens a path of ours.
pub(crate) fn open(path: &Path, flags: c_int) -> Option<c_int> {
    let path = c_path(path)?;
    let descriptor = open_at(libc::AT_FDCWD, path.as_ptr(), flags | libc::O_CLOEXEC, 0o600);
    (descriptor >= 0).then_some(descriptor)
}

pub(crate) fn close(descriptor: c_int) {
    system!(SYS_close, descriptor);
}

/// Reads up to `len` octets from `offset` on.
pub(crate) fn read_at(descriptor: c_int, len: usize, offset: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0_u8; len];
    let mut filled = 0;
    while filled < len {
        let rest = &mut bytes[filled..];
        let at = (offset + filled as u64) as c_long;
        match system!(SYS_pread64, descriptor, rest.as_mut_ptr(), rest.len(), at) {
            0 => break,
            read if read > 0 => filled += read as usize,
            _ => return None,
        }
    }
    bytes.truncate(filled);
    Some(bytes)
}

/// Writes all of it where the descriptor stands.
pub(crate) fn write_all(descriptor: c_int, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        let written = system!(
            SYS_write,
            descriptor,
            bytes.as_ptr().cast::<c_void>(),
            bytes.len()
        );
        if written <= 0 {
            return false;
        }
        bytes = &bytes[written as usize..];
    }
    true
}

/// A whole small file.
pub(crate) fn read(path: &Path) -> Option<Vec<u8>> {
    const ENOUGH: usize = 64 * 1024;
    let descriptor = open(path, libc::O_RDONLY)?;
    let bytes = read_at(descriptor, ENOUGH, 0);
    close(descriptor);
    bytes
}

/// What a descriptor is.
pub(crate) fn stat(descriptor: c_int) -> Option<libc::stat> {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `stat` has room for what is written, and is read only after success.
    unsafe { (libc::fstat(descriptor, stat.as_mut_ptr()) == 0).then(|| stat.assume_init()) }
}

/// What a path is, not followed.
pub(crate) fn stat_path(path: &Path) -> Option<libc::stat> {
    let path = c_path(path)?;
    let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: as above, and `path` is a C string.
    unsafe { (libc::lstat(path.as_ptr(), stat.as_mut_ptr()) == 0).then(|| stat.assume_init()) }
}

pub(crate) fn is(stat: &libc::stat, kind: libc::mode_t) -> bool {
    stat.st_mode & libc::S_IFMT == kind
}

/// Whether a folder holds nothing.
pub(crate) fn is_empty(path: &Path) -> bool {
    std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

pub(crate) fn make_folder(path: &Path) {
    if let Some(path) = c_path(path) {
        system!(SYS_mkdirat, libc::AT_FDCWD, path.as_ptr(), 0o700);
    }
}

/// A second name for a file; it may have it already.
pub(crate) fn link(path: &Path, to: &Path) {
    if let (Some(path), Some(to)) = (c_path(path), c_path(to)) {
        let here = libc::AT_FDCWD;
        system!(SYS_linkat, here, path.as_ptr(), here, to.as_ptr(), 0);
    }
}

pub(crate) fn rename(path: &Path, to: &Path) -> c_int {
    let (Some(path), Some(to)) = (c_path(path), c_path(to)) else {
        return -1;
    };
    let here = libc::AT_FDCWD;
    system!(SYS_renameat2, here, path.as_ptr(), here, to.as_ptr(), 0) as c_int
}

pub(crate) fn read_link(path: &Path) -> Option<PathBuf> {
    let path = c_path(path)?;
    let mut bytes = vec![0_u8; libc::PATH_MAX as usize];
    let len = system!(
        SYS_readlinkat,
        libc::AT_FDCWD,
        path.as_ptr(),
        bytes.as_mut_ptr(),
        bytes.len()
    );
    bytes.truncate(usize::try_from(len).ok()?);
    Some(std::ffi::OsString::from_vec(bytes).into())
}

/// Where a descriptor's file lies.
pub(crate) fn path_of(descriptor: c_int) -> Option<PathBuf> {
    read_link(Path::new(&format!("/proc/self/fd/{descriptor}")))
}

/// A path as it was given, from the root: `.` and `..` taken out, links not followed.
pub(crate) fn absolute(folder: c_int, path: *const c_char) -> Option<PathBuf> {
    if path.is_null() {
        return None;
    }
    // SAFETY: the caller of the function that is stood in for gave a C string.
    let path = Path::new(std::ffi::OsStr::from_bytes(
        unsafe { CStr::from_ptr(path) }.to_bytes(),
    ));
    let mut whole = if path.is_absolute() {
        PathBuf::new()
    } else if folder == libc::AT_FDCWD {
        read_link(Path::new("/proc/self/cwd"))?
    } else {
        path_of(folder)?
    };
    for part in path.components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => {
                whole.pop();
            }
            part => whole.push(part),
        }
    }
    Some(whole)
}

pub(crate) fn fail(errno: c_int) {
    // SAFETY: the thread's own errno.
    unsafe { *libc::__errno_location() = errno };
}

fn c_path(path: &Path) -> Option<CString> {
    CString::new(path.as_os_str().as_bytes()).ok()
}
