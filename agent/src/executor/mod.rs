//! The executor: starts the replicas that serve stages, keeps them warm, ends them.
//!
//! ```text
//! coordinator --prepare--> procedures -> pool (slots) -> Executor (process) -> shim, one a replica
//!                          <- replicas, once their procedures are registered
//! ```
//!
//! | file | knows |
//! |---|---|
//! | `procedures` | `pipes.node.N.executor.prepare`, `keep`, `release` |
//! | `pool`, `slots`, `reservation` | who has which slot, and when replicas come and go |
//! | `process`, `confine` | a replica as a child process, in its cgroup |
//! | `settings` | what `cluster set` changes |
//! | [`logs`] | what stages said on standard error |

mod pool;
mod procedures;
mod process;
mod settings;
mod setup;
pub mod stderr_log;

pub use pool::Pool;
pub use pool::request::{Answer, Asked, Order, Place, PrepareError, Prepared, Wanted};
pub use pool::state::Counters;
pub use process::orphans;
pub use settings::{Error as SettingsError, Settings};
pub use setup::{Parts, Started, start};

use tokio::sync::oneshot;

/// Why a replica did not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The cluster's, for the moment: no node gave the executable.
    #[error("the executable {digest} cannot be had: {why}")]
    Executable {
        /// Its digest.
        digest: String,
        /// What was tried.
        why: String,
    },
    /// This node's: a folder, a process.
    #[error("a replica cannot be started: {0}")]
    Node(String),
    /// This node's: the replica did not come up.
    #[error("a replica was not ready: {0}")]
    NotReady(String),
    /// Nobody's: the agent stops, or nobody wants it any more.
    #[error("it was stopped while it started")]
    Stopped,
}

/// What can start and stop replicas: child processes, later containers.
#[async_trait::async_trait]
pub trait Executor: Send + Sync + 'static {
    /// Starts a replica; returns when it can be called. What it returns fires once it is gone, with why.
    async fn start(&self, order: &Order) -> Result<oneshot::Receiver<String>, StartError>;

    /// Tells a replica to end, whether it has started or not; returns at once.
    fn stop(&self, replica: &str);
}
