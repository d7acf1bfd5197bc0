//! The sending end's books: how many bytes may be sent.

use crate::pipe::PIPE_MAX;
use crate::window::WINDOW_FIRST;

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
