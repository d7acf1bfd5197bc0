//! Daemon workflows: lines that stay up behind HTTP.
//!
//! ```text
//! pipes run -d "a | b" -> api/workflow.rs -> record.rs: /pipes/workflows/W   the wish, one key
//!                                            known.rs: every agent follows the wishes
//! ```
//!
//! The wish says what should be there; each agent's controller and gateway make it so.

pub mod known;
pub mod record;
