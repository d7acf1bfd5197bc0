//! The connection to the agent: RawSocket frames over a unix socket that never blocks.
//!
//! Two halves, so that a message still borrowed from the one can be answered through the other. What comes in is
//! read into one buffer and handled where it lies. What goes out is queued; bytes of a pipe are read straight into
//! the place from which they are sent, their head written before them, and only when nothing else waits to be sent, so
//! that a stalled agent stalls the reading of pipes. A chunk costs one copy and two system calls either way.

mod buffer;
mod inbox;
mod outbox;

pub use inbox::{Frame, Inbox};
pub use outbox::{Outbox, bytes_follow};
