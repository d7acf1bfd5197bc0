//! What the CLI, coordinator, executor and shim say to one another while a run is on, each message described once.
//!
//! | module | between | call |
//! |---|---|---|
//! | [`run`] | CLI and coordinator | `pipes.run.start` |
//! | [`reservation`] | coordinator and executor | `pipes.node.N.executor.prepare`: lives as long as the run has stages there |
//! | [`supply`] | an executor and all nodes | `pipes.node.N.executor.supply`: lives as long as the link |
//! | [`stage`] | coordinator and shim | `pipes.node.N.replica.R.stage`: lives as long as the process |
//! | [`pipe`] | a shim and the next one | `pipes.node.N.replica.R.pipe`: lives as long as the pipe |
//! | [`mod@file`] | a shim and its agent | `pipes.node.N.file` |
//! | [`descriptor`] | CLI, coordinator and shim | in the first chunks of `run` and `stage` |
//! | [`uris`] | all | how these, and every other procedure, are called |
//! | [`duration`], [`size`] | all | how people write durations and sizes |
//!
//! Always: (1) what is not known is ignored, so that a newer side may say more; (2) nothing here sends, waits or
//! decides: `pipes_wamp::streaming` forms the messages that carry these payloads.

pub mod descriptor;
pub mod duration;
pub mod file;
pub mod pipe;
pub mod reservation;
pub mod run;
pub mod size;
pub mod stage;
pub mod supply;

pub use pipes_wamp::uris;
