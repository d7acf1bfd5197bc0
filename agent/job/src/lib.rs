//! Durable queries of daemon workflows: accepted once, completed with one recorded result, whatever server dies.
//!
//! # What happens to a job
//!
//! 1. `jobs/accept.rs`: [`Jobs::submit`] writes input and record in one transaction (`submit.rs`), owned by this agent, and
//!    puts it in its queue (`queue.rs`).
//! 2. `jobs/own.rs` takes the next one of the queue as slots allow; `jobs/attempt.rs` writes that its attempt begins
//!    (`claim.rs`) and only then has it run ([`seams::Runs`]).
//! 3. Meanwhile the attempt watches the job's key: is it cancelled (`jobs/cancel.rs`), or another's?
//! 4. It ended: `state.rs` says what becomes of it. Over: `finish.rs` records the result in the transaction that removes the
//!    open record, if that is still as this owner left it. Else it is queued again, after a rest.
//! 5. Its owner's life ends before: `jobs/takeover.rs` of another agent finds it without an owner and takes it.
//! 6. Some time after its end, `jobs/expire.rs` forgets it.
//!
//! Large inputs and results are blobs, as are executables and files: who names one and who collects it is `blobs/`'s.
//!
//! Whoever asks for a job reads its record, and waits by a watch on that one key (`jobs/read.rs`): no agent watches jobs
//! that it neither owns nor was asked about.
//!
//! Always: (1) a job is on a majority's disks before its ID is answered; (2) each (job, attempt) begins at most once; (3) one
//! result is recorded, by a transaction that compares what the attempt's owner last read; (4) nobody takes a job at a
//! revision where its owner's presence hangs on the lease of that life; (5) no hash map is iterated and no clock or chance is
//! asked but those of `seams.rs`, nor by `select!`, so that a simulation repeats a run by its seed. That simulation runs
//! all of this as it is, over simulated stores, with agents that are killed, stand still and are cut off: `chaos-tests/sim`.
//!
//! ```text
//! jobs ─> queue, finish, expiry ─> claim ─> submit ─> blobs ─> rendezvous, seams ─> state ─> record ─> key, error
//! ```

/// Whether a simulation wants this mistake to be made; never in earnest.
macro_rules! mutant {
    ($name:ident) => {{
        #[cfg(not(sim))]
        let is_wanted = false;
        #[cfg(sim)]
        let is_wanted = pipes_sim_seam::is_mutant(pipes_sim_seam::Mutant::$name);
        is_wanted
    }};
}
use mutant;

pub mod blobs;
mod claim;
mod error;
mod expiry;
mod finish;
mod jobs;
pub mod key;
mod queue;
pub mod record;
mod rendezvous;
pub mod seams;
pub mod state;
mod submit;

pub use claim::Job;
pub use error::Error;
pub use jobs::{Accepted, Found, Jobs, Page, Parts, Question, Request, Which};
pub use submit::Input;
