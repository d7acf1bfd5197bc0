//! Foreground runs: `a | b | c` from the caller's line to its statuses.
//!
//! ```text
//! accept -> parse -> look up services -> place -> attempt (reserve, connect, go, carry, end) -> record -> answer
//! ```
//!
//! The coordinator is a client of realms `pipes` (the caller) and `pipes.stages` (the shims) and the only bridge: signals,
//! credit, stderr, counts and ends pass through it. From go on it lets the bytes of stdin and stdout go past (`Router::lead_on`), where
//! no retry depends on them. A run with warm replicas writes nothing to the store before it is answered, unless it
//! is older than a second (`publish.rs`).
//!
//! Always: (1) a line that cannot run whole runs nothing; (2) what failed before its first go is placed anew, unseen;
//! (3) after go nothing is run again unless `retry` was asked for and nothing was read or written yet, and then once.

pub(super) mod attempt;
mod caller;
pub(super) mod error;
mod event_loop;
mod lookup;
pub(super) mod outcome;
pub(super) mod plan;
mod publish;
mod request;
mod serve;

pub use error::Error;
pub use serve::{Context, serve};
