//! The receiving end's books: how many bytes were granted, came, and were taken.

use crate::error::Error;

/// First credit, and first size of both pipes of a hop: together what a shell's pipe holds.
pub const WINDOW_FIRST: usize = 32 * 1024;

/// How far a window may grow at most. More gains nothing on a fast network (measured: 4 MiB equals 1 MiB).
pub const WINDOW_MAX: usize = 1024 * 1024;

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
