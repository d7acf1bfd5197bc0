//! What goes wrong between the two ends of a hop.

use std::io;

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
