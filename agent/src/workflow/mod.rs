//! Workflows: lines of stages, where they run, and what became of them.
//!
//! ```text
//! text -> syntax -> stages -> placement -> nodes -> run -> report
//! ```

pub mod placement;
pub mod report;
pub mod run;
