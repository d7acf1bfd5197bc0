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

pub mod pipe;
mod sink;
mod source;

pub use sink::Sink;
pub use source::{Read, Source};

/// First credit, and first size of both pipes of a hop: together what a shell's pipe holds.
pub const WINDOW_FIRST: usize = 32 * 1024;

/// How far a window may grow at most. More gains nothing on a fast network (measured: 4 MiB equals 1 MiB).
pub const WINDOW_MAX: usize = 1024 * 1024;

/// How far a pipe grows with its window. Larger ones fall out of the cache (measured: 1 MiB is slower).
pub const PIPE_MAX: usize = 256 * 1024;

/// Bytes read from a pipe at once at most: one chunk.
pub const CHUNK_MAX: usize = 256 * 1024;

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
        Window {
            size,
            max: size.max(max as u64),
            granted: 0,
            received: 0,
            taken: 0,
            grown_at: 0,
        }
    }

    /// Notes that `count` bytes came.
    pub fn receive(&mut self, count: usize) -> Result<(), Error> {
        self.received += count as u64;
        if self.received > self.granted {
            return Err(Error::Overrun {
                received: self.received,
                granted: self.granted,
            });
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

#[cfg(test)]
mod tests;
