//! Where in its memory a buffer begins: the kernel copies slowly between places whose offsets in their pages differ by
//! 1 to 31 bytes, so both buffers begin where payloads come to lie elsewhere.

/// Size of a page, as far as the alignment of copies goes.
pub const PAGE: usize = 4096;

/// Where in a page the buffers begin.
pub const BEGIN: usize = 64;

/// A buffer and the place in it where to begin.
pub fn aligned(length: usize) -> (Box<[u8]>, usize) {
    let buffer = vec![0; length + PAGE].into_boxed_slice();
    let to_page = PAGE - buffer.as_ptr().addr() % PAGE;
    (buffer, (to_page + BEGIN) % PAGE)
}
