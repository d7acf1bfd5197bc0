//! The executor: starts the replicas that serve stages, keeps them warm, ends them.
//!
//! ```text
//! coordinator --prepare--> procedures -> pool (slots) -> Backend (process) -> shim, one a replica
//!              ... open    <- replicas, once their procedures are registered
//!              end         -> the slots are free
//! any node    --supply-->  what is there and free, as it changes
//! ```
//!
//! | file | knows |
//! |---|---|
//! | `setup` | how all of it is put together |
//! | `procedures` | prepare and supply, as coordinators call them |
//! | `pool` | who has which slot, when replicas come and go, and what others are told of it |
//! | `backend` | what the pool needs of whatever runs replicas |
//! | `process` | a replica as a child process, in its cgroup; what a former life left |
//! | `settings` | what `cluster set` changes |

mod backend;
mod pool;
mod procedures;
mod process;
mod settings;
mod setup;

pub use pool::Pool;
pub use pool::state::Counters;
pub use process::orphans;
pub use settings::Settings;
pub use setup::{Parts, start};
