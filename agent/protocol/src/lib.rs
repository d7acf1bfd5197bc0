//! What the CLI, coordinator, executor and shim say to one another while a run is on, each message described once.
//!
//! | module | between | call |
//! |---|---|---|
//! | [`run`] | CLI and coordinator | `pipes.run.start` |
//! | [`reservation`] | coordinator and executor | `pipes.node.N.executor.prepare`, `keep`, `release`, `freed` |
//! | [`stage`] | coordinator and shim | `pipes.node.N.replica.R.stage`: lives as long as the process |
//! | [`pipe`] | a shim and the next one | `pipes.node.N.replica.R.pipe`: lives as long as the pipe |
//! | [`uris`] | all | how these, and every other procedure, are called |
//! | [`duration`] | all | how people write durations |
//!
//! Always: (1) what is not known is ignored, so that a newer side may say more; (2) nothing here sends, waits or
//! decides: `pipes_wamp::streaming` forms the messages that carry these payloads.

pub mod duration;
pub mod pipe;
pub mod reservation;
pub mod run;
pub mod stage;

pub use pipes_wamp::uris;
