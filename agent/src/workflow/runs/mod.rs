//! Runs as others know them, whoever ran their stages.
//!
//! ```text
//! under way   registry.rs: in its coordinator's memory, told at once
//! kept        record.rs: in the store, once it is over or has lasted a moment; recorder.rs writes several together
//! found       find.rs asks for both, reconcile.rs puts them together, view.rs is what is told
//! words       signal.rs: what may be sent to a run
//! stderr      stderr_log.rs: what the stages of runs said, kept on their coordinator's disk
//! ```

pub mod find;
pub mod reconcile;
pub mod record;
pub mod recorder;
pub mod registry;
pub mod signal;
pub mod stderr_log;
pub mod view;
