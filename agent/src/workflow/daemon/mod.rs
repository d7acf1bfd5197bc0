//! Daemon workflows: lines that stay up behind HTTP.
//!
//! ```text
//! pipes run -d "a | b" -> api/workflow.rs -> record.rs: /pipes/workflows/W   the wish, one key
//!                                            known.rs: every agent follows the wishes
//! wishes, nodes -> spread.rs -> controller.rs: /pipes/replicas/W   where its replicas are, written by one agent
//!                                            share.rs: every agent follows them
//!                                            hold.rs -> executor: each has its own held
//! supplies -> ready.rs: how many of what is wished is there, and why not
//! ```
//!
//! The wish says what should be there; each agent's controller and gateway make it so.

pub mod controller;
pub mod hold;
pub mod known;
pub mod ready;
pub mod record;
pub mod rendezvous;
pub mod share;
pub mod spread;
