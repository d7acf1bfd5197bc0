//! What a coordinator works with: the parts of the agent that its runs need, and no others.

use pipes_job::blobs::Uses;

use crate::cluster::nodes::Nodes;
use crate::cluster::quorum::Quorum;
use crate::workflow::runs::recorder::Recorder;
use crate::workflow::runs::registry::Registry;
use crate::workflow::runs::stderr_log::Logs;
use crate::workflow::supply::Supplies;
use pipes_router::Router;

/// Shared by all runs of this agent.
pub struct Context {
    /// This cluster and node.
    pub nodes: Nodes,
    /// Where records lie.
    pub store: pipes_raft::Store,
    /// Whether it can decide anything.
    pub quorum: Quorum,
    /// Gives sessions.
    pub router: Router,
    /// Runs of this agent.
    pub registry: Registry,
    /// Writes their records.
    pub recorder: Recorder,
    /// What stages said on standard error, kept for `logs`.
    pub logs: Logs,
    /// Names the files of runs.
    pub uses: Uses,
    /// What nodes have for stages.
    pub supplies: Supplies,
}
