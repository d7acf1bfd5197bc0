//! The sending end of a hop: a stage's output, read against credit.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use super::{CHUNK_MAX, Credit, WINDOW_FIRST, pipe};

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
        pipe::set_nonblocking(pipe.as_raw_fd())?;
        let size = pipe::resize(pipe.as_raw_fd(), WINDOW_FIRST);
        Ok(Source {
            pipe: Some(pipe),
            size,
            credit: Credit::default(),
        })
    }

    /// Takes note of a grant; the pipe grows with the window.
    pub fn grant(&mut self, count: u64) {
        self.credit.grant(count);
        let window = self.credit.window();
        if let Some(pipe) = &self.pipe
            && window > self.size
        {
            // Asked once a size: a kernel that refused will refuse again.
            pipe::resize(pipe.as_raw_fd(), window);
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
        let Some(pipe) = &self.pipe else {
            return Ok(Read::End);
        };
        let most = self.credit.left().min(CHUNK_MAX as u64).min(buffer.len() as u64) as usize;
        if most == 0 {
            return Ok(Read::Later);
        }
        match pipe::read(pipe.as_raw_fd(), &mut buffer[..most]) {
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
        self.pipe
            .as_ref()
            .map_or(Ok(0), |pipe| pipe::holds(pipe.as_raw_fd()))
    }
}
