//! The connection to the agent: RawSocket frames over a unix socket that never blocks.
//!
//! Two halves, so that a message still borrowed from the one can be answered through the other. What comes in is
//! read into one buffer and handled where it lies. What goes out is queued; bytes of a pipe are read straight into
//! the place from which they are sent, their head written before them, and only when nothing else waits to be sent, so
//! that a stalled agent stalls the reading of pipes. A chunk costs one copy and two system calls either way.
//!
//! The kernel copies slowly between places whose offsets in their pages differ by 1 to 31 bytes; both buffers begin
//! so that payloads come to lie elsewhere.

mod inbox;
mod outbox;

pub use inbox::{Frame, Inbox};
pub use outbox::{Outbox, bytes_follow};

/// Size of a page, as far as the alignment of copies goes.
const PAGE: usize = 4096;

/// Where in a page the buffers begin.
const BEGIN: usize = 64;

/// A buffer and the place in it where to begin.
fn aligned_buffer(length: usize) -> (Box<[u8]>, usize) {
    let buffer = vec![0; length + PAGE].into_boxed_slice();
    let to_page = PAGE - buffer.as_ptr().addr() % PAGE;
    (buffer, (to_page + BEGIN) % PAGE)
}
