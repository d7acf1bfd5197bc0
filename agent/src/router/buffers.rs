//! Buffers that are used again: large ones given back to the allocator cost page faults at each use.

/// Room of a block of an out-queue: four of the usual chunks of 64 KiB with their heads.
pub const BLOCK: usize = 4 * ((64 << 10) + 512);

/// Room of a buffer for a message that is read whole: the largest chunk of a pipe (256 KiB) with its head.
const LARGE: usize = (256 << 10) + (16 << 10);

/// How many of each are kept when nobody uses them: a few streams' worth.
const KEPT_MAX: usize = 16;

/// Two shelves of buffers.
#[derive(Default)]
pub struct Buffers {
    blocks: Vec<Vec<u8>>,
    large: Vec<Vec<u8>>,
}

impl Buffers {
    /// An empty block with room for [`BLOCK`] bytes.
    pub fn block(&mut self) -> Vec<u8> {
        self.blocks.pop().unwrap_or_else(|| Vec::with_capacity(BLOCK))
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
