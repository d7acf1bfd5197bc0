//! Exit statuses of Pipes itself, beside those of the stages, as shells have them: 128+n after signal n.

/// The time given ran out.
pub const TIMEOUT: i32 = 124;
/// Pipes itself failed, or a server, link or shim was lost.
pub const LOST: i32 = 125;
/// A stage cannot be started.
pub const CANNOT_START: i32 = 126;
