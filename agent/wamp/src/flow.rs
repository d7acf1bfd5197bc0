//! Credit, and pumping a pipe against it.
//!
//! A hop joins the stdout pipe of one stage to the stdin pipe of the next. The receiving end tells the sending one
//! how many bytes it may send, and tells it more as its stage takes bytes out of its pipe:
//!
//! ```text
//! producer -> [stdout pipe 32 KiB] -> Source  ==bytes==>  Sink (holds what the pipe does not take) -> [stdin pipe 32 KiB] -> consumer
//!                                     Credit <==credit==  Window
//!
//! window 32 KiB   grant 32 KiB; 32 KiB arrive, the consumer takes 4 KiB: grant 4 KiB; ... after 32 KiB taken: window 64 KiB
//! ```
//!
//! Always: (1) `taken <= written <= received <= granted <= taken + window`; (2) a sink holds bytes only while its pipe is
//! full, and its credit is exhausted only while its pipe is full or it holds bytes, since the pipe is never larger than
//! the window: so whoever waits for the consumer waits on a full pipe, the only kind whose writer Linux wakes; (3) a
//! source reads only what there is credit for, so that until its consumer has read a hop holds what a shell's pipe
//! holds, 64 KiB; (4) nobody's silence is taken for an end: a source ends when `read` returned 0, a sink when it
//! was told so.
//!
//! Not here: sockets and messages. Who owns those passes bytes and grants in and out, so that the same pumps serve
//! a shim, and an agent to which a shim has lent its child's pipes. A byte costs one copy from pipe to buffer in a
//! source, one from buffer to pipe in a sink, and one more while the pipe is full.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// First credit, and first size of both pipes of a hop: together what a shell's pipe holds.
pub const WINDOW_FIRST: usize = 32 * 1024;

/// How far a window may grow at most. More gains nothing on a fast network (measured: 4 MiB equals 1 MiB).
pub const WINDOW_MAX: usize = 1024 * 1024;

/// How far a pipe grows with its window. Larger ones fall out of the cache (measured: 1 MiB is slower).
pub const PIPE_MAX: usize = 256 * 1024;

/// Bytes read from a pipe at once at most: one chunk.
pub const CHUNK_MAX: usize = 256 * 1024;

/// Held bytes above which the front that was already written is cut off by moving the rest.
const COMPACT_FROM: usize = 64 * 1024;

/// What goes wrong between the two ends of a hop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The sender's fault: the hop is broken, and nothing it sent may be trusted to be in order.
    #[error("{received} bytes arrived, {granted} were granted")]
    Overrun {
        /// Bytes received in all.
        received: u64,
        /// Bytes granted in all.
        granted: u64,
    },
    /// The sender's fault: bytes after it had said that there are no more.
    #[error("bytes arrived after the end")]
    AfterEnd,
    /// The kernel refused a pipe. Nobody's fault; trying again does not help.
    #[error("cannot use the pipe")]
    Pipe(#[from] io::Error),
}

/// The receiving end's books: what was granted, what came, what was taken.
#[derive(Debug)]
pub struct Window {
    size: u64,
    max: u64,
    granted: u64,
    received: u64,
    taken: u64,
    grown_at: u64,
}

impl Window {
    /// Books of a hop that begins with `first` bytes and may hold up to `max`, neither less than 1.
    pub fn new(first: usize, max: usize) -> Window {
        let size = first.max(1) as u64;
        Window { size, max: size.max(max as u64), granted: 0, received: 0, taken: 0, grown_at: 0 }
    }

    /// Notes that `count` bytes came.
    pub fn receive(&mut self, count: usize) -> Result<(), Error> {
        self.received += count as u64;
        if self.received > self.granted {
            return Err(Error::Overrun { received: self.received, granted: self.granted });
        }
        Ok(())
    }

    /// Notes that `total` bytes have been taken since the beginning. True if the window grew by it.
    pub fn take(&mut self, total: u64) -> bool {
        debug_assert!(self.taken <= total && total <= self.received);
        self.taken = total;
        let before = self.size;
        while self.taken - self.grown_at >= self.size && self.size < self.max {
            self.grown_at += self.size;
            self.size = (self.size * 2).min(self.max);
        }
        self.size > before
    }

    /// Bytes to grant now, if it is time for it. What is worth granting waits only while the sender still has half
    /// a window, and is asked for again when that arrives.
    pub fn grant(&mut self) -> Option<u64> {
        let due = self.taken + self.size - self.granted;
        if due == 0 || (due < self.size / 4 && self.left() > self.size / 2) {
            return None;
        }
        self.granted += due;
        Some(due)
    }

    /// Bytes that the sender may still send.
    pub fn left(&self) -> u64 {
        self.granted - self.received
    }

    /// Bytes the window holds now.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes received since the beginning.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Bytes taken since the beginning.
    pub fn taken(&self) -> u64 {
        self.taken
    }
}

/// The sending end's books.
#[derive(Debug, Default)]
pub struct Credit {
    granted: u64,
    used: u64,
}

impl Credit {
    /// Takes note of a grant. A sum beyond `u64` is a peer's nonsense and stays at the top.
    pub fn grant(&mut self, count: u64) {
        self.granted = self.granted.saturating_add(count);
    }

    /// Notes that `count` bytes were sent.
    pub fn spend(&mut self, count: usize) {
        debug_assert!(count as u64 <= self.left());
        self.used += count as u64;
    }

    /// Bytes that may still be sent.
    pub fn left(&self) -> u64 {
        self.granted - self.used
    }

    /// Bytes sent since the beginning.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// What the receiver's window has grown to at least, up to [`PIPE_MAX`], told by what it has granted in all: a
    /// window that doubled up to `size` has granted all the smaller ones before it.
    pub fn window(&self) -> usize {
        let mut size = WINDOW_FIRST;
        while size < PIPE_MAX && self.granted >= 4 * size as u64 - WINDOW_FIRST as u64 {
            size *= 2;
        }
        size
    }
}

/// What one read of a source gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// So many bytes.
    Bytes(usize),
    /// Nothing yet.
    Later,
    /// The end: no process holds the writing end any more, and everything was read.
    End,
}

/// The reading end of a stage's stdout, read against credit.
#[derive(Debug)]
pub struct Source {
    pipe: Option<OwnedFd>,
    size: usize,
    credit: Credit,
}

impl Source {
    /// Reads `pipe`, which becomes non-blocking and, where the kernel lets it, [`WINDOW_FIRST`] large.
    pub fn new(pipe: OwnedFd) -> io::Result<Source> {
        set_nonblocking(pipe.as_raw_fd())?;
        let size = resize(pipe.as_raw_fd(), WINDOW_FIRST);
        Ok(Source { pipe: Some(pipe), size, credit: Credit::default() })
    }

    /// Takes note of a grant; the pipe grows with the window.
    pub fn grant(&mut self, count: u64) {
        self.credit.grant(count);
        let window = self.credit.window();
        if let Some(pipe) = &self.pipe
            && window > self.size
        {
            // Asked once a size: a kernel that refused will refuse again.
            resize(pipe.as_raw_fd(), window);
            self.size = window;
        }
    }

    /// The descriptor to watch for input, or `None` while there is nothing to watch for: an end that cannot be acted
    /// on yet would wake the watcher without pause.
    pub fn watch(&self) -> Option<RawFd> {
        match &self.pipe {
            Some(pipe) if self.credit.left() > 0 => Some(pipe.as_raw_fd()),
            _ => None,
        }
    }

    /// Reads once into `buffer`: no more than there is credit for, nor than [`CHUNK_MAX`].
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<Read> {
        let Some(pipe) = &self.pipe else { return Ok(Read::End) };
        let most = self.credit.left().min(CHUNK_MAX as u64).min(buffer.len() as u64) as usize;
        if most == 0 {
            return Ok(Read::Later);
        }
        match read(pipe.as_raw_fd(), &mut buffer[..most]) {
            Ok(0) => {
                self.pipe = None;
                Ok(Read::End)
            }
            Ok(count) => {
                self.credit.spend(count);
                Ok(Read::Bytes(count))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Read::Later),
            Err(error) => Err(error),
        }
    }

    /// Closes the pipe: the stage gets SIGPIPE when it next writes.
    pub fn close(&mut self) {
        self.pipe = None;
    }

    /// Whether the pipe has ended or was closed.
    pub fn is_closed(&self) -> bool {
        self.pipe.is_none()
    }

    /// Bytes read since the beginning.
    pub fn bytes(&self) -> u64 {
        self.credit.used()
    }

    /// Bytes the pipe holds now.
    pub fn waiting(&self) -> io::Result<usize> {
        self.pipe.as_ref().map_or(Ok(0), |pipe| held_by_pipe(pipe.as_raw_fd()))
    }
}

/// The writing end of a stage's stdin, and what it has not taken yet.
#[derive(Debug)]
pub struct Sink {
    state: State,
    size: usize,
    held: Vec<u8>,
    /// Where in `held` the bytes begin that are not yet written.
    start: usize,
    written: u64,
    ending: bool,
    window: Window,
}

#[derive(Debug)]
enum State {
    Open(OwnedFd),
    /// The end was passed on. A reading end of our own tells what was not taken.
    Ended(Option<OwnedFd>),
    /// Nobody reads any more.
    Deaf,
}

impl Sink {
    /// Writes to `pipe`, which becomes non-blocking and, where the kernel lets it, [`WINDOW_FIRST`] large. The window
    /// may grow up to `max` bytes.
    pub fn new(pipe: OwnedFd, max: usize) -> io::Result<Sink> {
        set_nonblocking(pipe.as_raw_fd())?;
        let size = resize(pipe.as_raw_fd(), WINDOW_FIRST);
        // A kernel with large pages has no smaller pipe than one of them; a window below that would break (2).
        let window = Window::new(WINDOW_FIRST.max(size), max);
        Ok(Sink {
            state: State::Open(pipe),
            size,
            held: Vec::new(),
            start: 0,
            written: 0,
            ending: false,
            window,
        })
    }

    /// Takes bytes that came: writes what the pipe takes, holds the rest. They are dropped if nobody reads any more.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.ending {
            return Err(Error::AfterEnd);
        }
        self.window.receive(bytes.len())?;
        let mut written = 0;
        if self.is_holding() {
            self.pump()?;
        }
        if !self.is_holding() {
            written = self.write(bytes)?;
        }
        if !self.is_over() {
            self.held.extend_from_slice(&bytes[written..]);
        }
        Ok(())
    }

    /// Notes that no more bytes come. The stage sees the end when it has been given all of them.
    pub fn end(&mut self) -> Result<(), Error> {
        self.ending = true;
        self.pump()
    }

    /// Goes on: to be called when the pipe can be written, or has lost its reader.
    pub fn pump(&mut self) -> Result<(), Error> {
        if self.is_holding() {
            let held = std::mem::take(&mut self.held);
            let result = self.write(&held[self.start..]);
            self.held = held;
            self.start += result?;
            if self.start == self.held.len() {
                self.held.clear();
                self.start = 0;
            } else if self.start >= COMPACT_FROM && self.start >= self.held.len() / 2 {
                self.held.drain(..self.start);
                self.start = 0;
            }
        }
        if self.ending && !self.is_holding() {
            self.pass_the_end_on();
        }
        Ok(())
    }

    /// Notes that nobody reads the pipe any more (POLLERR at its writing end); what was held is dropped.
    pub fn deafen(&mut self) {
        self.count();
        if let State::Open(_) = self.state {
            self.state = State::Deaf;
            self.held = Vec::new();
            self.start = 0;
        }
    }

    /// Bytes to grant to the sender now, if any.
    pub fn grant(&mut self) -> Option<u64> {
        if self.is_over() || self.ending {
            return None;
        }
        if self.count() {
            let wanted = (self.window.size() as usize).min(PIPE_MAX);
            if let State::Open(pipe) = &self.state
                && wanted > self.size
            {
                resize(pipe.as_raw_fd(), wanted);
                self.size = wanted;
            }
        }
        self.window.grant()
    }

    /// The descriptor to watch, and for what. `POLLERR` is reported whatever is asked for.
    pub fn watch(&self) -> Option<(RawFd, libc::c_short)> {
        let State::Open(pipe) = &self.state else { return None };
        let waits = self.is_holding() || (self.window.left() == 0 && self.window.received() > 0);
        Some((pipe.as_raw_fd(), if waits { libc::POLLOUT } else { 0 }))
    }

    /// Whether everything was passed on, or nobody reads any more.
    pub fn is_over(&self) -> bool {
        !matches!(self.state, State::Open(_))
    }

    /// Bytes that the stage has taken out of its pipe.
    pub fn taken(&mut self) -> u64 {
        self.count();
        self.window.taken()
    }

    fn is_holding(&self) -> bool {
        self.start < self.held.len()
    }

    /// Counts what was taken. True if the window grew by it.
    fn count(&mut self) -> bool {
        let pipe = match &self.state {
            State::Open(pipe) | State::Ended(Some(pipe)) => pipe.as_raw_fd(),
            State::Ended(None) | State::Deaf => return false,
        };
        // A failure leaves the count as it was; FIONREAD of a pipe has none to give.
        let Ok(left) = held_by_pipe(pipe) else { return false };
        self.window.take(self.written - left as u64)
    }

    /// Writes until all is written or the pipe is full; says how much.
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        let mut done = 0;
        while done < bytes.len() {
            let State::Open(pipe) = &self.state else { return Ok(done) };
            match write(pipe.as_raw_fd(), &bytes[done..]) {
                Ok(count) => {
                    done += count;
                    self.written += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    self.deafen();
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(done)
    }

    fn pass_the_end_on(&mut self) {
        if let State::Open(pipe) = &self.state {
            let reader = reopen_for_reading(pipe.as_raw_fd());
            self.state = State::Ended(reader);
            self.held = Vec::new();
        }
    }
}

/// Another end of the same pipe, to count what is left in it once its writing end is closed. Only a count hangs on
/// it, so a system without /proc goes without.
fn reopen_for_reading(pipe: RawFd) -> Option<OwnedFd> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(format!("/proc/self/fd/{pipe}"))
        .ok()
        .map(OwnedFd::from)
}

/// A new pipe, reading end first; neither end is passed on to a program that is executed.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
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
fn resize(pipe: RawFd, size: usize) -> usize {
    // SAFETY: these change and tell the size of a pipe's own buffer, nothing of ours.
    let (set, now) = unsafe {
        let set = libc::fcntl(pipe, libc::F_SETPIPE_SZ, size as libc::c_int);
        (set, if set < 0 { libc::fcntl(pipe, libc::F_GETPIPE_SZ) } else { set })
    };
    debug_assert!(set >= -1);
    if now > 0 { now as usize } else { size }
}

fn set_nonblocking(fd: RawFd) -> io::Result<()> {
    // SAFETY: changes the flags of this descriptor's open file, which is an end of a pipe of ours alone.
    let result = unsafe { libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn held_by_pipe(pipe: RawFd) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int.
    if unsafe { libc::ioctl(pipe, libc::FIONREAD, &mut count) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(count.max(0) as usize)
}

fn read(fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
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

fn write(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
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

#[cfg(test)]
mod tests;
