//! Foreground runs: `a | b | c` from the caller's line to its statuses.
//!
//! The story of `pipes run "a | b"`, and where each part of it is told:
//!
//! ```text
//!  1  the CLI calls pipes.run.start              cli/src/command/run/mod.rs, agent/src/api/serve.rs
//!  2  its request is read                        caller.rs, request.rs
//!  3  the line is parsed, its names looked up    lookup.rs, plan.rs; a refusal: error.rs
//!  4  the run is in the registry: ps shows it    ../runs/registry.rs, publish.rs
//!  5  each stage is given a node, or it waits    ../supply.rs, ../placement, asked by serve.rs
//!  6  an attempt asks the nodes for replicas     attempt/requests.rs; there: executor/procedures.rs, executor/pool
//!  7  it has them connect, hop by hop            attempt/replies.rs; there: agent/shim/src/invocation
//!  8  all hops are proved: the stages start      event_loop.rs: from here on bytes may go past us, spliced by the router
//!  9  stdin, output, credit, signals pass        bridge.rs, event_loop.rs; the clock: deadlines.rs
//! 10  all have exited, what is left is cleared   attempt/replies.rs, attempt/stage.rs
//! 11  again, elsewhere, or over?                 retry.rs; what it came to: outcome.rs
//! 12  the answer, and beside it the record       serve.rs, publish.rs, ../runs/record.rs
//! ```
//!
//! The coordinator is a client of realms `pipes` (the caller) and `pipes.stages` (the shims) and the only bridge: signals,
//! credit, stderr, counts and ends pass through it. What they say to one another is described in agent/protocol. A run
//! with warm replicas writes nothing to the store before it is answered, unless it is older than a second (`publish.rs`).
//!
//! Always: (1) a line that cannot run whole runs nothing; (2) what failed before its start is placed anew, unseen;
//! (3) after it nothing is run again unless `retry` was asked for and nothing was read or written yet, and then once.

mod attempt;
mod bridge;
mod caller;
mod context;
mod deadlines;
mod error;
mod event_loop;
mod lookup;
mod outcome;
mod plan;
mod publish;
mod request;
mod retry;
mod serve;

pub use context::Context;
pub use serve::serve;
