//! A standard descriptor that can be read or written without ever blocking, and without changing it for others.
//!
//! O_NONBLOCK belongs to the open file, which the shell and other programs share: setting it would break them. So a pipe
//! or terminal is opened once more through /proc/self/fd, with an open file of our own.
//!
//! | what it is | how |
//! |---|---|
//! | pipe, FIFO, terminal | opened anew, non-blocking; watched by epoll |
//! | the same where that is refused (another user's pipe, no /proc) | the old one, asked by poll(2) before each small read or write |
//! | socket | MSG_DONTWAIT; watched by epoll |
//! | closed, not open that way, full, a directory to read | never used: the stages have the like of it (`standing`) |
//! | file, /dev/null and whatever epoll refuses | read and written as it is: these do not wait |

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use pipes_protocol::descriptor::Descriptor as Standing;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::inherited;

/// What the kernel takes into a writable pipe at once without waiting (PIPE_BUF of Linux).
const ATOMIC: usize = 4_096;

/// One of stdin, stdout, stderr.
pub struct Descriptor {
    fd: RawFd,
    kind: Kind,
}

enum Kind {
    /// Non-blocking by itself.
    Own(AsyncFd<OwnedFd>),
    /// Shared: asked before each use.
    Shared(AsyncFd<OwnedFd>),
    /// A socket.
    Socket(AsyncFd<OwnedFd>),
    /// Always ready.
    Plain,
    /// Of no use to anybody.
    Unusable,
}

/// Which way the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From it.
    Read,
    /// To it.
    Write,
}

/// Why a descriptor is not opened.
#[derive(Debug, PartialEq, Eq)]
pub struct NoReader;

impl Descriptor {
    /// Takes stdin, stdout or stderr. Fails only where its reader is gone already.
    pub fn open(fd: RawFd, direction: Direction) -> Result<Descriptor, NoReader> {
        let kind = match file_type(fd) {
            _ if standing(fd, direction) != Standing::Pipe => Ok(Kind::Unusable),
            // Told before the stages start, it is met by their first write.
            libc::S_IFIFO | libc::S_IFSOCK if direction == Direction::Write && has_no_reader(fd) => {
                return Err(NoReader);
            }
            libc::S_IFSOCK => duplicate(fd)
                .and_then(|own| watch(own, direction))
                .map(Kind::Socket),
            libc::S_IFIFO | libc::S_IFCHR => match reopen(fd, direction) {
                Ok(own) => watch(own, direction).map(Kind::Own),
                Err(error) if error.raw_os_error() == Some(libc::ENXIO) && direction == Direction::Write => {
                    return Err(NoReader);
                }
                Err(_) => duplicate(fd)
                    .and_then(|own| watch(own, direction))
                    .map(Kind::Shared),
            },
            _ => Ok(Kind::Plain),
        };
        // What epoll does not take never waits.
        Ok(Descriptor {
            fd,
            kind: kind.unwrap_or(Kind::Plain),
        })
    }

    /// What epoll watches; nothing for what is always ready.
    pub fn watched(&self) -> Option<&AsyncFd<OwnedFd>> {
        match &self.kind {
            Kind::Own(watched) | Kind::Shared(watched) | Kind::Socket(watched) => Some(watched),
            Kind::Plain | Kind::Unusable => None,
        }
    }

    /// Reads what is there; an error of kind `WouldBlock` when nothing is.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        retry(|| {
            let (at, length) = (buffer.as_mut_ptr().cast(), buffer.len());
            // SAFETY: the descriptor is open and the buffer is as long as said.
            match &self.kind {
                Kind::Own(own) => unsafe { libc::read(own.as_raw_fd(), at, length) },
                Kind::Socket(_) => unsafe { libc::recv(self.fd, at, length, libc::MSG_DONTWAIT) },
                Kind::Shared(_) if !is_ready(self.fd, libc::POLLIN) => fails(libc::EAGAIN),
                Kind::Unusable => fails(libc::EBADF),
                Kind::Shared(_) | Kind::Plain => unsafe { libc::read(self.fd, at, length) },
            }
        })
    }

    /// Writes what is taken now; an error of kind `WouldBlock` when nothing is.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        retry(|| {
            let (at, length) = (bytes.as_ptr().cast(), bytes.len());
            // SAFETY: the descriptor is open and the bytes are as long as said.
            match &self.kind {
                Kind::Own(own) => unsafe { libc::write(own.as_raw_fd(), at, length) },
                Kind::Socket(_) => unsafe { libc::send(self.fd, at, length, libc::MSG_DONTWAIT) },
                Kind::Shared(_) if !is_ready(self.fd, libc::POLLOUT) => fails(libc::EAGAIN),
                Kind::Unusable => fails(libc::EBADF),
                Kind::Shared(_) => unsafe { libc::write(self.fd, at, length.min(ATOMIC)) },
                Kind::Plain => unsafe { libc::write(self.fd, at, length) },
            }
        })
    }

    /// Lets a pipe hold more, where it is one and the kernel lets it.
    pub fn grow(&self, bytes: i32) {
        if let Kind::Own(own) = &self.kind {
            // SAFETY: the descriptor is open; what is no pipe refuses.
            unsafe { libc::fcntl(own.as_raw_fd(), libc::F_SETPIPE_SZ, bytes) };
        }
    }
}

/// What the stages are to find in place of it, as in a shell they would find itself.
pub fn standing(fd: RawFd, direction: Direction) -> Standing {
    if inherited::was_closed(fd) {
        return Standing::Closed;
    }
    let Some(status) = status(fd) else {
        return Standing::Closed;
    };
    let way = match direction {
        Direction::Read => libc::O_RDONLY,
        Direction::Write => libc::O_WRONLY,
    };
    if !inherited::is_open_for(fd, way) {
        return Standing::Wrong;
    }
    match (status.st_mode & libc::S_IFMT, direction) {
        (libc::S_IFDIR, Direction::Read) => Standing::Folder,
        // Major 1, minor 7 is /dev/full (Linux's devices.txt).
        (libc::S_IFCHR, Direction::Write) if status.st_rdev == libc::makedev(1, 7) => Standing::Full,
        _ => Standing::Pipe,
    }
}

/// The type bits of its mode; 0 for what is not open.
pub fn file_type(fd: RawFd) -> libc::mode_t {
    status(fd).map_or(0, |status| status.st_mode & libc::S_IFMT)
}

/// What the kernel says of it.
pub fn status(fd: RawFd) -> Option<libc::stat> {
    // SAFETY: a zeroed stat is a valid one, and is filled before it is used.
    unsafe {
        let mut status = std::mem::zeroed();
        (libc::fstat(fd, &mut status) == 0).then_some(status)
    }
}

fn reopen(fd: RawFd, direction: Direction) -> io::Result<OwnedFd> {
    let path = CString::new(format!("/proc/self/fd/{fd}"))?;
    let mode = match direction {
        Direction::Read => libc::O_RDONLY,
        Direction::Write => libc::O_WRONLY,
    };
    let flags = mode | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the path ends with a zero.
    own(unsafe { libc::open(path.as_ptr(), flags) })
}

fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: takes a descriptor, gives a new one or -1.
    own(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) })
}

fn own(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn watch(fd: OwnedFd, direction: Direction) -> io::Result<AsyncFd<OwnedFd>> {
    let interest = match direction {
        Direction::Read => Interest::READABLE,
        Direction::Write => Interest::WRITABLE,
    };
    // SAFETY: an OwnedFd keeps its descriptor open as long as it is registered.
    Ok(unsafe { AsyncFd::register_with_interest(fd, interest) }?)
}

/// Whether poll(2) tells, unasked, of an error or a hang-up: a pipe without a reader, a socket whose other end is closed.
fn has_no_reader(fd: RawFd) -> bool {
    is_ready(fd, 0)
}

fn is_ready(fd: RawFd, events: libc::c_short) -> bool {
    let mut poll = libc::pollfd {
        fd,
        events,
        revents: 0,
    };
    // SAFETY: one descriptor, as said; it does not wait.
    unsafe { libc::poll(&mut poll, 1, 0) > 0 }
}

/// As a system call fails.
fn fails(errno: libc::c_int) -> isize {
    // SAFETY: errno is this thread's own.
    unsafe { *libc::__errno_location() = errno };
    -1
}

fn retry(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        match usize::try_from(call()) {
            Ok(count) => return Ok(count),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}
