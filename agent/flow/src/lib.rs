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

mod credit;
mod error;
pub mod pipe;
mod sink;
mod source;
mod window;

pub use credit::Credit;
pub use error::Error;
pub use pipe::PIPE_MAX;
pub use sink::Sink;
pub use source::{CHUNK_MAX, Read, Source};
pub use window::{WINDOW_FIRST, WINDOW_MAX, Window};

#[cfg(test)]
mod tests;
