//! What the process was given at its start, and Rust changes before `main`: it opens /dev/null where 0, 1 or 2 are closed,
//! and ignores SIGPIPE; and its own stdout takes a descriptor that cannot be written for one that swallows everything. Without
//! this, output would be lost in silence where a shell's programs fail.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};

static WAS_PIPE_IGNORED: AtomicBool = AtomicBool::new(false);
static WERE_CLOSED: [AtomicBool; 3] = [const { AtomicBool::new(false) }; 3];

/// Whether SIGPIPE was ignored.
pub fn was_pipe_ignored() -> bool {
    WAS_PIPE_IGNORED.load(Ordering::Relaxed)
}

/// Whether this one of stdin, stdout and stderr was closed, whatever stands in its place now.
pub fn was_closed(fd: RawFd) -> bool {
    let known = usize::try_from(fd).ok().and_then(|fd| WERE_CLOSED.get(fd));
    known.is_some_and(|closed| closed.load(Ordering::Relaxed))
}

/// Whether this one can be used so: `O_RDONLY`, read from; `O_WRONLY`, written to.
pub fn is_open_for(fd: RawFd, way: libc::c_int) -> bool {
    // SAFETY: asks for an open file's flags, changes nothing; fails on what is not open.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    let mode = flags & libc::O_ACCMODE;
    let is_of_use = flags >= 0 && flags & libc::O_PATH == 0;
    is_of_use && (mode == way || mode == libc::O_RDWR) && !was_closed(fd)
}

/// Runs before Rust's own start (System V ABI, initialization functions).
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

extern "C" fn look() {
    // SAFETY: asks for a disposition, changes nothing; a zeroed sigaction is a valid one.
    let is_ignored = unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGPIPE, std::ptr::null(), &mut now) == 0 && now.sa_sigaction == libc::SIG_IGN
    };
    WAS_PIPE_IGNORED.store(is_ignored, Ordering::Relaxed);
    for (fd, closed) in (0..).zip(&WERE_CLOSED) {
        // SAFETY: asks for a descriptor's flags; fails on one that is closed.
        closed.store(unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0, Ordering::Relaxed);
    }
}
