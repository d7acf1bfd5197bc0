//! What every way of running replicas offers the pool: start one, end one.

use pipes_protocol::supply::Kind;
use tokio::sync::oneshot;

/// A replica to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaSpec {
    /// Its name, which no other ever has on this node.
    pub replica: String,
    /// What it serves, and as what.
    pub kind: Kind,
    /// Invocations at once.
    pub slots: u32,
    /// How far a window may grow, in bytes.
    pub window: u64,
}

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
pub trait Backend: Send + Sync + 'static {
    /// Starts a replica; returns when it can be called. What it returns fires once it is gone, with why.
    async fn start(&self, spec: &ReplicaSpec) -> Result<oneshot::Receiver<String>, StartError>;

    /// Tells a replica to end, whether it has started or not; returns at once.
    fn stop(&self, replica: &str);
}
