//! Foreground runs: `a | b | c` from the caller's line to its statuses.
//!
//! ```text
//! accept -> parse -> look up services -> place -> attempt (reserve, connect, go, carry, end) -> record -> answer
//! ```
//!
//! The coordinator is a client of realms `pipes` (the caller) and `pipes.stages` (the shims) and the only bridge: signals,
//! credit, stderr, counts and ends pass through it. From go on it lets the bytes of stdin and stdout go past (`Router::splice`), where
//! no retry depends on them. A run with warm replicas writes nothing to the store before it is answered, unless it
//! is older than a second (`shown.rs`).
//!
//! Always: (1) a line that cannot run whole runs nothing; (2) what failed before its first go is placed anew, unseen;
//! (3) after go nothing is run again unless `retry` was asked for and nothing was read or written yet, and then once.

mod attempt;
mod caller;
mod drive;
mod error;
mod lookup;
mod outcome;
mod plan;
mod receive;
mod record;
mod registry;
mod request;
mod shown;
mod stage;
mod start;
#[cfg(test)]
mod tests;

pub use error::Error;
pub use record::Kept;
pub use registry::{Order, Registry};
pub use start::{Context, serve};
