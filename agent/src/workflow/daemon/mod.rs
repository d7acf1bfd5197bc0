//! Daemon workflows: lines that stay up behind HTTP.
//!
//! ```text
//! pipes run -d "a | b" -> api/workflow.rs -> asked.rs: what was asked for, read
//!                                            change.rs: what the record becomes (pure), with definition.rs, name.rs, port.rs
//!                                            wish.rs: one transaction -> /pipes/workflows/W   the wish, one key (record.rs)
//!                                            known.rs: every agent follows the wishes
//! wishes, nodes -> spread.rs -> controller.rs: /pipes/replicas/W   where its replicas are, written by one agent
//!                                            share.rs: every agent follows them
//!                                            hold.rs -> executor: each has its own held
//! supplies -> ready.rs: how many of what is wished is there, and why not
//! pipes update W "c"                         rollout.rs: each new stage has a replica before the wish changes
//! ```
//!
//! The wish says what should be there; each agent's controller and gateway make it so.
//!
//! Always: (1) a wish is changed by a transaction that compares what it was read as, and tried again on a lost race; (2)
//! every executable and file that a wish or a former definition of it needs has its blob named by
//! `/pipes/blobs/D/by/workflows/W`, written and removed with it (`blobs.rs`).

pub mod asked;
mod blobs;
mod change;
pub mod controller;
mod definition;
mod error;
pub mod hold;
pub mod kept;
pub mod known;
mod name;
mod port;
pub mod ready;
pub mod record;
pub mod rendezvous;
pub mod rollout;
pub mod run_options;
pub mod share;
pub mod spread;
pub mod token;
pub mod wish;

pub use error::Error;
