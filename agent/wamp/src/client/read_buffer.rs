//! What a connection has read and nobody has taken yet: one buffer, reused, in which messages are parsed in place.
//!
//! ```text
//! ....|head|CALL ......|head|CALL .......|head|CA           |
//! front                 begin                   end           <- the next read goes to the end
//! ```
//!
//! | its size | when |
//! |---|---|
//! | 16 KiB | from the first read on |
//! | 512 KiB | once a read filled that |
//! | a message's own | while that is larger; kept up to 1 MiB |
//!
//! Always: (1) what is unread is moved, never lost; (2) who says how much is needed has checked it against the limit.

use std::ops::Range;

/// The first buffer: control messages are short, and most connections carry nothing else.
const FIRST: usize = 16 << 10;
/// The buffer of a connection that filled its first one: two of the largest chunks of a pipe with their heads.
const USUAL: usize = 512 << 10;
/// A buffer that grew for a large message is given back beyond this.
const KEPT_MAX: usize = 1 << 20;
/// Room behind what was read below which what is unread is moved to the front, to keep reads large.
const ROOM_MIN: usize = 256 << 10;
/// Where in a page the buffer begins: right at a page's begin or a few octets in, copies from page to page take
/// thirty times as long on some processors.
const OFFSET: usize = 64;
const PAGE: usize = 4096;

/// The buffer. Without a read it has no memory.
#[derive(Default)]
pub(super) struct ReadBuffer {
    octets: Vec<u8>,
    /// Where in the octets an empty buffer begins.
    front: usize,
    begin: usize,
    end: usize,
}

impl ReadBuffer {
    /// What was read and not taken.
    pub(super) fn unread(&self) -> &[u8] {
        &self.octets[self.begin..self.end]
    }

    /// Takes so many octets of what is unread; where they lie until the next read.
    pub(super) fn take(&mut self, count: usize) -> Range<usize> {
        debug_assert!(count <= self.unread().len());
        let begin = self.begin;
        self.begin += count;
        begin..self.begin
    }

    /// Octets that were taken.
    pub(super) fn taken(&self, range: Range<usize>) -> &[u8] {
        &self.octets[range]
    }

    /// Sees to it that a message of `needed` octets fits, and a large read.
    pub(super) fn make_room(&mut self, needed: usize) {
        self.shrink();
        self.reserve(needed);
        self.compact(needed);
    }

    /// Where the next read goes.
    pub(super) fn room(&mut self) -> &mut [u8] {
        &mut self.octets[self.end..]
    }

    /// Notes that so many octets were read into the room.
    pub(super) fn filled(&mut self, count: usize) {
        self.end += count;
    }

    /// Gives back what a large message took, once that is taken.
    fn shrink(&mut self) {
        if self.size() > KEPT_MAX && self.unread().is_empty() {
            self.resize(USUAL);
        }
    }

    /// Grows to the usual size once a read took all the room there was, as there is more where it came from; and
    /// beyond, to its measure, for a message that is larger.
    fn reserve(&mut self, needed: usize) {
        let is_full = self.end == self.octets.len();
        let size = match self.size() {
            0 => FIRST,
            FIRST if is_full => USUAL,
            size => size,
        };
        let size = if needed > size { needed.max(USUAL) } else { size };
        if size != self.size() {
            self.resize(size);
        }
    }

    /// Moves what is unread to the front, if the message would not fit behind where it begins, or reads would become
    /// small, or there is nothing to move.
    fn compact(&mut self, needed: usize) {
        let fits = self.begin + needed <= self.octets.len();
        let room_min = ROOM_MIN.min(self.size() / 2);
        let has_room = self.octets.len() - self.end >= room_min;
        if self.begin > self.front && (self.unread().is_empty() || !fits || !has_room) {
            let count = self.unread().len();
            self.octets.copy_within(self.begin..self.end, self.front);
            (self.begin, self.end) = (self.front, self.front + count);
        }
    }

    fn size(&self) -> usize {
        self.octets.len() - self.front
    }

    /// Moves what is unread to the front of fresh memory of this size.
    fn resize(&mut self, size: usize) {
        let (mut octets, front) = allocate(size);
        let end = front + self.unread().len();
        octets[front..end].copy_from_slice(self.unread());
        *self = ReadBuffer {
            octets,
            front,
            begin: front,
            end,
        };
    }
}

/// Memory for `size` octets behind where they begin. Fresh memory of this size is zero already and becomes real only
/// where it is written to.
fn allocate(size: usize) -> (Vec<u8>, usize) {
    let mut octets = vec![0; size + PAGE + OFFSET];
    let front = (PAGE - octets.as_ptr() as usize % PAGE) % PAGE + OFFSET;
    octets.truncate(front + size);
    (octets, front)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `octets` as a message of `needed` that is not whole yet would be.
    fn read(buffer: &mut ReadBuffer, needed: usize, octets: &[u8]) {
        buffer.make_room(needed);
        buffer.room()[..octets.len()].copy_from_slice(octets);
        buffer.filled(octets.len());
    }

    #[test]
    fn a_buffer_begins_where_copies_are_fast() {
        for size in [FIRST, USUAL, 3 << 20] {
            let (buffer, front) = allocate(size);
            assert_eq!((buffer.as_ptr() as usize + front) % PAGE, OFFSET);
            assert_eq!(buffer.len() - front, size);
        }
    }

    #[test]
    fn it_grows_when_a_read_fills_it_and_for_a_large_message_and_gives_that_back() {
        let mut buffer = ReadBuffer::default();
        read(&mut buffer, 4, &[1; FIRST]);
        assert_eq!(buffer.size(), FIRST);
        read(&mut buffer, FIRST, &[2; 10]);
        assert_eq!((buffer.size(), buffer.unread().len()), (USUAL, FIRST + 10));
        read(&mut buffer, 3 << 20, &[3; 10]);
        assert_eq!((buffer.size(), buffer.unread().len()), (3 << 20, FIRST + 20));
        assert_eq!(
            buffer.unread()[FIRST - 1..FIRST + 11],
            [1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3]
        );
        let all = buffer.take(FIRST + 20);
        assert_eq!(buffer.taken(all).len(), FIRST + 20);
        read(&mut buffer, 4, b"next");
        assert_eq!((buffer.size(), buffer.unread()), (USUAL, &b"next"[..]));
    }

    #[test]
    fn what_is_unread_is_moved_before_reads_become_small() {
        let mut buffer = ReadBuffer::default();
        read(&mut buffer, 4, &[1; FIRST - 8]);
        buffer.take(FIRST - 9);
        assert_eq!(buffer.room().len(), 8);
        read(&mut buffer, 4, &[2; 3]);
        assert_eq!(buffer.unread(), [1, 2, 2, 2]);
        assert_eq!(buffer.room().len(), FIRST - 4);
    }
}
