//! The receiving end of a hop: a stage's input, and what it has not taken yet.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use super::{Error, PIPE_MAX, WINDOW_FIRST, Window, pipe};

/// Held bytes above which the front that was already written is cut off by moving the rest.
const COMPACT_FROM: usize = 64 * 1024;

/// How long a reader's first bite gives its writer no further credit: `head -1` ends within it, so that a writer with
/// more than a shell's pipe holds gets SIGPIPE as it does in a shell, where the reader's death needs no message.
const BITE_LINGER: Duration = Duration::from_millis(5);
/// A bite is smaller than this; the writer has as much credit left meanwhile.
const BITE: u64 = WINDOW_FIRST as u64 / 2;

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
    /// When the reader was first seen to have taken something.
    bitten: Option<Instant>,
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
        pipe::set_nonblocking(pipe.as_raw_fd())?;
        let size = pipe::resize(pipe.as_raw_fd(), WINDOW_FIRST);
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
            bitten: None,
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
            let mut held = std::mem::take(&mut self.held);
            let mut start = std::mem::take(&mut self.start);
            start += self.write(&held[start..])?;
            if start == held.len() {
                held.clear();
                start = 0;
            } else if start >= COMPACT_FROM && start >= held.len() / 2 {
                held.drain(..start);
                start = 0;
            }
            if !self.is_over() {
                self.held = held;
                self.start = start;
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
                pipe::resize(pipe.as_raw_fd(), wanted);
                self.size = wanted;
            }
        }
        if self.window.taken() > 0 {
            self.bitten.get_or_insert_with(Instant::now);
        }
        match self.lingers() {
            Some(_) => None,
            None => self.window.grant(),
        }
    }

    /// How long to wait before [`Sink::grant`] is to be asked again, though nothing happens until then.
    pub fn lingers(&self) -> Option<Duration> {
        let end = self.bitten? + BITE_LINGER;
        let is_bite = self.window.taken() < BITE;
        is_bite
            .then(|| end.saturating_duration_since(Instant::now()))
            .filter(|left| !left.is_zero())
    }

    /// The descriptor to watch, and for what. `POLLERR` is reported whatever is asked for.
    pub fn watch(&self) -> Option<(RawFd, libc::c_short)> {
        let State::Open(pipe) = &self.state else {
            return None;
        };
        let is_spent = self.window.left() == 0 && self.window.received() > 0;
        let waits = self.is_holding() || (is_spent && self.lingers().is_none());
        Some((pipe.as_raw_fd(), if waits { libc::POLLOUT } else { 0 }))
    }

    /// Bytes that the sender may still send.
    pub fn credit_left(&self) -> u64 {
        self.window.left()
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
        if self.window.taken() == self.written {
            return false;
        }
        let pipe = match &self.state {
            State::Open(pipe) | State::Ended(Some(pipe)) => pipe.as_raw_fd(),
            State::Ended(None) | State::Deaf => return false,
        };
        // A failure leaves the count as it was; FIONREAD of a pipe has none to give.
        let Ok(left) = pipe::holds(pipe) else { return false };
        self.window.take(self.written - left as u64)
    }

    /// Writes until all is written or the pipe is full; says how much.
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        let mut done = 0;
        while done < bytes.len() {
            let State::Open(pipe) = &self.state else {
                return Ok(done);
            };
            match pipe::write(pipe.as_raw_fd(), &bytes[done..]) {
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
            let reader = pipe::reopen_for_reading(pipe.as_raw_fd());
            self.state = State::Ended(reader);
            self.held = Vec::new();
        }
    }
}
