//! Messages over 64 KiB: each is read into a buffer of its own, and there is room for so many bytes of them at once.
//!
//! A message's room is reserved whole when its head is known, so that what was begun can be finished. Whoever finds none
//! waits for the next that is done with its own.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use pipes_wamp::router::Key;

/// A frame over this is large: the usual chunk of 64 KiB with its head is not.
pub(crate) const LARGE: usize = (64 << 10) + 512;
/// Bytes reserved for large messages at once; a further one's connection waits.
const RESERVED_MAX: usize = 32 << 20;
/// How long a large message may take to arrive; then its connection ends.
const ARRIVES_WITHIN: Duration = Duration::from_secs(30);

/// A large message on its way.
pub(crate) struct Large {
    /// At least as long as the message.
    pub buffer: Vec<u8>,
    /// The message's length: what is reserved.
    pub length: usize,
    /// What of it is there.
    pub filled: usize,
}

/// The room for large messages; `T` has the connections that they come over.
pub(crate) struct LargeRoom<T> {
    arriving: Vec<(Key<T>, Instant)>,
    reserved: usize,
    waiting: VecDeque<Key<T>>,
}

impl<T> Default for LargeRoom<T> {
    fn default() -> LargeRoom<T> {
        LargeRoom {
            arriving: Vec::new(),
            reserved: 0,
            waiting: VecDeque::new(),
        }
    }
}

impl<T> LargeRoom<T> {
    /// Reserves room for a message. False: there is none, and the connection waits.
    pub fn reserve(&mut self, key: Key<T>, length: usize, now: Instant) -> bool {
        if self.reserved + length > RESERVED_MAX {
            self.waiting.push_back(key);
            return false;
        }
        self.reserved += length;
        self.arriving.push((key, now + ARRIVES_WITHIN));
        true
    }

    /// A message is there, or will not come. Gives all that wait: who finds no room waits again, behind the others.
    pub fn release(&mut self, key: Key<T>, length: usize) -> VecDeque<Key<T>> {
        self.arriving.retain(|(other, _)| *other != key);
        self.reserved -= length;
        std::mem::take(&mut self.waiting)
    }

    /// Connections whose message is still not there.
    pub fn overdue(&self, now: Instant) -> Vec<Key<T>> {
        let is_over = |(_, until): &&(Key<T>, Instant)| *until <= now;
        self.arriving
            .iter()
            .filter(is_over)
            .map(|(key, _)| *key)
            .collect()
    }

    /// When `overdue` has something to give.
    pub fn next_overdue(&self) -> Option<Instant> {
        self.arriving.iter().map(|(_, until)| *until).min()
    }

    /// How much is reserved.
    pub fn reserved(&self) -> usize {
        self.reserved
    }
}
