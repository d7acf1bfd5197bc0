//! Buffers that are used again: large ones given back to the allocator cost page faults at each use.
//!
//! Where they lie matters too. Large allocations begin at one place of a page, and heads are short: what is copied from
//! one buffer to another then lies a few bytes further on in its page than where it came from, and just that, 1 to 31
//! bytes, makes some processors copy twenty times as slowly (`apart`).

/// Room of a block of an out-queue: four of the usual chunks of 64 KiB with their heads.
pub const BLOCK: usize = 4 * ((64 << 10) + 512);

/// Room of a buffer for a message that is read whole: the largest chunk of a pipe (256 KiB) with its head.
const LARGE: usize = (256 << 10) + (16 << 10);

/// Size of a page, as far as copies go.
pub const PAGE: usize = 4096;

/// From so many bytes on it matters how they are copied.
const APART_FROM: usize = 4 * PAGE;

/// How many of each are kept when nobody uses them: a few streams' worth.
const KEPT_MAX: usize = 16;

/// Where to begin in an empty `target`, so that a long `source` is copied to half a page from where it lies in its page.
pub fn apart(target: &[u8], source: &[u8]) -> usize {
    if source.len() < APART_FROM {
        return 0;
    }
    let there = source.as_ptr().addr().wrapping_add(PAGE / 2);
    there.wrapping_sub(target.as_ptr().addr()) % PAGE
}

/// Two shelves of buffers.
#[derive(Default)]
pub struct Buffers {
    blocks: Vec<Vec<u8>>,
    large: Vec<Vec<u8>>,
}

impl Buffers {
    /// An empty block with room for [`BLOCK`] bytes.
    pub fn block(&mut self) -> Vec<u8> {
        self.blocks
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(BLOCK + PAGE))
    }

    /// Takes a block back.
    pub fn give_block(&mut self, mut block: Vec<u8>) {
        // One that grew for a larger message goes.
        if self.blocks.len() < KEPT_MAX && block.capacity() >= BLOCK && block.capacity() < 2 * BLOCK {
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
    fn a_long_copy_goes_half_a_page_from_where_it_lies() {
        let block = Buffers::default().block();
        let source = vec![0; APART_FROM + 100];
        for from in [0, 1, 17, 99] {
            let begin = apart(&block, &source[from..]);
            assert!(begin < PAGE, "{begin}");
            let distance = block.as_ptr().addr() + begin - (source.as_ptr().addr() + from) % PAGE;
            assert_eq!(distance % PAGE, PAGE / 2);
        }
        assert_eq!(
            apart(&block, &source[..APART_FROM - 1]),
            0,
            "a short one begins at the front"
        );
    }
}
