//! Buffers that are used again: large ones given back to the allocator cost page faults at each use.
//!
//! Where they lie matters too: on some processors a copy (`rep movsb`, which the kernel and the C library use) is twenty
//! times as slow when its target lies 1 to 31 bytes behind its source, modulo 4096. Large allocations all begin at one
//! place of a page and heads are short, so that this is what happens to a payload copied from one buffer's front to
//! another's. A block therefore begins elsewhere in its page than the payload that it is taken for (`apart`).

/// Room of a block of an out-queue: four of the usual chunks of 64 KiB with their heads.
pub(crate) const BLOCK: usize = 4 * ((64 << 10) + 512);

/// Room of the first block of a queue, where it is enough: most hold a small message or two, and there are many.
const SMALL_BLOCK: usize = 2 << 10;

/// A first block for less is as large as its message wants, to a power of two: a block for each of a hundred queues would
/// be more than users' sessions may hold.
const MEDIUM: usize = 16 << 10;

/// Room of a buffer for a message that is read whole: the largest chunk of a pipe (256 KiB) with its head.
const LARGE: usize = (256 << 10) + (16 << 10);

/// Size of a page, as far as copies go.
const PAGE: usize = 4096;

/// From so many bytes on a slow copy costs more than the padding, which is written too.
const APART_FROM: usize = 4 * PAGE;

/// How many of each are kept when nobody uses them: a few streams' worth.
const KEPT_MAX: usize = 16;
/// How many small blocks are: as many queues as are written to in a turn, mostly.
const SMALL_KEPT_MAX: usize = 256;

/// How much padding to begin `target` with, so that what comes then lies half a page from a long `source`; a short head may
/// come before the copy itself. Holds as long as `target` does not grow.
fn apart(target: &[u8], source: &[u8]) -> usize {
    if source.len() < APART_FROM {
        return 0;
    }
    let there = source.as_ptr().addr().wrapping_add(PAGE / 2);
    there.wrapping_sub(target.as_ptr().addr()) % PAGE
}

/// Three shelves of buffers.
#[derive(Default)]
pub(crate) struct Buffers {
    small_blocks: Vec<Vec<u8>>,
    blocks: Vec<Vec<u8>>,
    large: Vec<Vec<u8>>,
}

impl Buffers {
    /// The first block of a queue, with room for `size` bytes: no larger than that wants, unless it is much.
    pub fn first_block(&mut self, size: usize, source: &[u8]) -> Vec<u8> {
        if size > MEDIUM {
            return self.block(size, source);
        }
        if size > SMALL_BLOCK {
            return Vec::with_capacity(size.next_power_of_two());
        }
        let small = self.small_blocks.pop();
        small.unwrap_or_else(|| Vec::with_capacity(SMALL_BLOCK))
    }

    /// A block with room for `size` bytes, [`BLOCK`] at least, most of them a copy of `source`. What is in it is padding:
    /// never to be sent.
    pub fn block(&mut self, size: usize, source: &[u8]) -> Vec<u8> {
        let mut block = self.blocks.pop().unwrap_or_default();
        block.reserve(size.max(BLOCK) + PAGE);
        block.resize(apart(&block, source), 0);
        block
    }

    /// Takes a block back.
    pub fn give_block(&mut self, mut block: Vec<u8>) {
        if self.small_blocks.len() < SMALL_KEPT_MAX && block.capacity() == SMALL_BLOCK {
            block.clear();
            return self.small_blocks.push(block);
        }
        // One that grew for a larger message goes.
        if self.blocks.len() < KEPT_MAX && (BLOCK + PAGE..2 * BLOCK).contains(&block.capacity()) {
            block.clear();
            self.blocks.push(block);
        }
    }

    /// A buffer of at least `length` bytes, whatever they are.
    pub fn large(&mut self, length: usize) -> Vec<u8> {
        if length > LARGE {
            return vec![0; length];
        }
        self.large.pop().unwrap_or_else(|| vec![0; LARGE])
    }

    /// Takes it back.
    pub fn give_large(&mut self, buffer: Vec<u8>) {
        if self.large.len() < KEPT_MAX && buffer.len() == LARGE {
            self.large.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_begins_half_a_page_from_a_long_source() {
        let mut buffers = Buffers::default();
        let source = vec![0; APART_FROM + 100];
        for from in [0, 1, 17, 99] {
            let block = buffers.block(0, &source[from..]);
            assert!(block.len() < PAGE, "{}", block.len());
            let (target, source) = (block.as_ptr_range().end.addr(), source.as_ptr().addr() + from);
            assert_eq!(target.wrapping_sub(source) % PAGE, PAGE / 2);
            assert!(block.capacity() - block.len() >= BLOCK);
            buffers.give_block(block);
            assert_eq!(buffers.blocks.len(), 1, "it is kept");
        }
        assert_eq!(
            buffers.block(0, &source[..APART_FROM - 1]).len(),
            0,
            "a short one needs none"
        );
    }

    #[test]
    fn a_queue_begins_with_little_unless_it_is_for_much() {
        let mut buffers = Buffers::default();
        let small = buffers.first_block(100, &[]);
        assert_eq!(small.capacity(), SMALL_BLOCK);
        assert_eq!(
            buffers.first_block(SMALL_BLOCK + 1, &[]).capacity(),
            2 * SMALL_BLOCK
        );
        assert!(buffers.first_block(MEDIUM + 1, &[]).capacity() >= BLOCK);
        buffers.give_block(small);
        assert_eq!(buffers.small_blocks.len(), 1, "it is kept");
    }

    #[test]
    fn a_block_that_was_taken_for_more_is_not_kept() {
        let mut buffers = Buffers::default();
        let block = buffers.block(2 * BLOCK, &[]);
        assert!(block.capacity() >= 2 * BLOCK);
        buffers.give_block(block);
        assert!(buffers.blocks.is_empty());
    }
}
