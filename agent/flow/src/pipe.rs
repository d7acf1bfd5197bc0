//! System calls on pipes: making, sizing, counting, reading and writing them.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// A new pipe, reading end first; neither end is passed on to a program that is executed.
pub fn new() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for the two descriptors that the kernel writes.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: both were just made and belong to nobody else.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

/// Makes a pipe `size` bytes large, if the kernel lets us (`pipe-user-pages-soft` may refuse: a smaller one does as
/// well). Returns the size it has.
pub(super) fn resize(pipe: RawFd, size: usize) -> usize {
    // SAFETY: these change and tell the size of a pipe's own buffer, nothing of ours.
    let (set, now) = unsafe {
        let set = libc::fcntl(pipe, libc::F_SETPIPE_SZ, size as libc::c_int);
        (
            set,
            if set < 0 {
                libc::fcntl(pipe, libc::F_GETPIPE_SZ)
            } else {
                set
            },
        )
    };
    debug_assert!(set >= -1);
    if now > 0 { now as usize } else { size }
}

/// Makes this end non-blocking; the other end has an open file of its own and stays as it is.
pub(super) fn set_nonblocking(fd: RawFd) -> io::Result<()> {
    // SAFETY: changes the flags of this descriptor's open file, which is an end of a pipe of ours alone.
    let result = unsafe { libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Bytes the pipe holds now; either end tells.
pub fn holds(pipe: RawFd) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int.
    if unsafe { libc::ioctl(pipe, libc::FIONREAD, &mut count) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(count.max(0) as usize)
}

/// Reads once.
pub(super) fn read(fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        // SAFETY: the buffer is writable over its whole length.
        let count = unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) };
        if count >= 0 {
            return Ok(count as usize);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Writes once.
pub(super) fn write(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    loop {
        // SAFETY: the bytes are readable over their whole length.
        let count = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
        if count >= 0 {
            return Ok(count as usize);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Another end of the same pipe, to count what is left in it once its writing end is closed. Only a count hangs on
/// it, so a system without /proc goes without.
pub(super) fn reopen_for_reading(pipe: RawFd) -> Option<OwnedFd> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(format!("/proc/self/fd/{pipe}"))
        .ok()
        .map(OwnedFd::from)
}
