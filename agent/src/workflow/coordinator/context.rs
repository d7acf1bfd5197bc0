//! What a coordinator works with: the parts of the agent that its runs need, and no others.

use pipes_wamp::client::Session;

use crate::cluster::nodes::Nodes;
use crate::lifecycle::Lifecycle;
use crate::workflow::runs::registry::Registry;
use crate::workflow::runs::stderr_log::Logs;
use pipes_router::Router;

/// Shared by all runs of this agent.
pub struct Context {
    /// This cluster and node, and the nodes that are reached.
    pub nodes: Nodes,
    /// Where records lie.
    pub store: pipes_raft::Store,
    /// Gives sessions.
    pub router: Router,
    /// Runs of this agent.
    pub registry: Registry,
    /// What stages said on standard error, kept for `logs`.
    pub logs: Logs,
    /// Where work goes on that the answer does not wait for.
    pub lifecycle: Lifecycle,
    /// Sends calls to nodes beside the runs.
    pub calls: Session,
}
