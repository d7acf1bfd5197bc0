//! Workflows: lines of stages, where they run, and what became of them.
//!
//! ```text
//! text -> syntax -> stages -> placement -> nodes -> coordinator -> runs
//!             peers -> supply ---^
//! ```

pub mod coordinator;
pub mod daemon;
pub mod jobs;
pub mod options;
pub mod peers;
pub mod placement;
pub mod runs;
pub mod supply;
pub mod versions;
