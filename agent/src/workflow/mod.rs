//! Workflows: lines of stages, where they run, and what became of them.
//!
//! ```text
//! text -> syntax -> stages -> placement -> nodes -> coordinator -> runs
//! ```

pub mod coordinator;
pub mod placement;
pub mod runs;
