//! The store and the jobs of Pipes in a simulated world: whole nodes, on disks, a network and clocks that one seed fixes.
//!
//! ```text
//!  world ─┬─ host n1 ─ a runtime of its own, whose clock the world moves ─ Node (raft/) ─ clients
//!         ├─ host n2 ...                                     │                  │
//!         ├─ network: messages with their times, cuts, losses ┘                  │
//!         ├─ faults: crashes, cuts, standstills, slow and broken disks           │
//!         └─ checks: what the stores did (events), what the clients were told ───┘
//! ```
//!
//! One millisecond is one step: what is due in the network is delivered, each host runs until its clock has moved so
//! far, and what the stores say they did is checked ([`check`]). All of it is on one thread, draws from one seed
//! ([`plan`]), and is the same whenever the seed is run again ([`trace`]).
//!
//! In a world with jobs ([`plan::Plan::of_jobs`]) each host's process is an agent as far as jobs go, in place of the
//! store's clients: `jobs/`, and what must hold of it `check/jobs/`.
//!
//! The disk, and what stands in for sled, are linked into the store itself: crate `pipes-sim-seam`.

pub mod book;
pub mod check;
pub mod client;
pub mod damage;
pub mod fate;
pub mod faults;
pub mod history;
pub mod host;
mod jobs;
pub mod ledger;
mod life;
pub mod model;
pub mod network;
mod operator;
pub mod panics;
pub mod plan;
pub mod run;
pub mod trace;
pub mod world;
