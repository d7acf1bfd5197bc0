//! Workflows: lines of stages, where they run, and what became of them.
//!
//! ```text
//! a run       options, versions -> placement -> coordinator -> runs
//!                  peers -> supply ---^
//! that stays  daemon: the wish, and replicas as it says
//! its jobs    jobs: each attempt is a run, called as any client calls one
//! ```
//!
//! What a line means is `pipes_syntax`'s to say, what becomes of a job `pipes_job`'s.

pub mod coordinator;
pub mod daemon;
pub mod jobs;
pub mod options;
pub mod peers;
pub mod placement;
pub mod runs;
pub mod supply;
pub mod versions;
