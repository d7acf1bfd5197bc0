//! Credit, and pumping a pipe against it.
//!
//! A hop joins the stdout pipe of one stage to the stdin pipe of the next. The receiving end tells the sending one
//! how many bytes it may send, and tells it more as its stage takes bytes out of its pipe:
//!
//! ```text
//! producer -> [stdout pipe 32 KiB] -> Source  ==bytes==>  Sink (holds what the pipe does not take) -> [stdin pipe 32 KiB] -> consumer
//!                                     Credit <==credit==  Window
//!
//! window 32 KiB   grant 32 KiB; 32 KiB arrive, the consumer takes 4 KiB: grant 4 KiB; ... after 32 KiB taken: window 64 KiB
//! ```
//!
//! Always: (1) `taken <= written <= received <= granted <= taken + window`; (2) a sink holds bytes only while its pipe is
//! full, and its credit is exhausted only while its pipe is full or it holds bytes, since the pipe is never larger than
//! the window: so whoever waits for the consumer waits on a full pipe, the only kind whose writer Linux wakes; (3) a
//! source reads only what there is credit for, so that until its consumer has read a hop holds what a shell's pipe
//! holds, 64 KiB; (4) nobody's silence is taken for an end: a source ends when `read` returned 0, a sink when it
//! was told so.
//!
//! Not here: sockets and messages. Who owns those passes bytes and grants in and out, so that the same pumps serve
//! a shim, and an agent to which a shim has lent its child's pipes. A byte costs one copy from pipe to buffer in a
//! source, one from buffer to pipe in a sink, and one more while the pipe is full.

use std::io;

mod credit;
pub mod pipe;
mod sink;
mod source;
mod window;

pub use credit::Credit;
pub use sink::Sink;
pub use source::{Read, Source};
pub use window::Window;

/// First credit, and first size of both pipes of a hop: together what a shell's pipe holds.
pub const WINDOW_FIRST: usize = 32 * 1024;

/// How far a window may grow at most. More gains nothing on a fast network (measured: 4 MiB equals 1 MiB).
pub const WINDOW_MAX: usize = 1024 * 1024;

/// How far a pipe grows with its window. Larger ones fall out of the cache (measured: 1 MiB is slower).
pub const PIPE_MAX: usize = 256 * 1024;

/// Bytes read from a pipe at once at most: one chunk.
pub const CHUNK_MAX: usize = 256 * 1024;

/// What goes wrong between the two ends of a hop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The sender's fault: the hop is broken, and nothing it sent may be trusted to be in order.
    #[error("{received} bytes arrived, {granted} were granted")]
    Overrun {
        /// Bytes received in all.
        received: u64,
        /// Bytes granted in all.
        granted: u64,
    },
    /// The sender's fault: bytes after it had said that there are no more.
    #[error("bytes arrived after the end")]
    AfterEnd,
    /// The kernel refused a pipe. Nobody's fault; trying again does not help.
    #[error("cannot use the pipe")]
    Pipe(#[from] io::Error),
}

#[cfg(test)]
mod tests;
