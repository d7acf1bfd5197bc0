//! Agents of jobs in the simulated world: each host's process keeps its node present, does for jobs what an agent does
//! (crate `pipes-job`, as it is), and has clients that submit, cancel, look and list.
//!
//! ```text
//! host ─ presence.rs  the lease of the node's life
//!      ─ agent.rs     pipes_job::Jobs over the node's store ─ seams.rs  clocks, chance, holders, workflows
//!      │                                                    ─ runs.rs   attempts that end as their input says (fate.rs)
//!      ─ client.rs    asks; what it was told lies in the ledger (ledger.rs)
//!      ─ at_end.rs    what every agent says once nothing is wrong any more
//! ```
//!
//! What must hold of it is looked at in `check/jobs/`.

mod agent;
mod at_end;
mod client;
mod presence;
mod runs;
mod seams;
mod seat;

pub use agent::live;
pub use seat::Seat;
