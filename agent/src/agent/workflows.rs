//! Daemon workflows as the agent puts them together: who knows them, who serves them.

use std::net::TcpListener;
use std::sync::Arc;

use pipes_router::Router;

use crate::config::Config;
use crate::gateway;
use crate::lifecycle::Lifecycle;
use crate::workflow::daemon::known::Workflows;

/// What serves daemon workflows over HTTP, once all it calls is there.
pub fn gateway(
    config: &Config,
    listener: TcpListener,
    store: &pipes_raft::Store,
    router: &Router,
    parts: &Lifecycle,
) -> gateway::Parts {
    gateway::Parts {
        address: config.address,
        listener,
        spool: config.spool_folder(),
        workflows: Workflows::start(store.clone(), parts),
        // What is wished is taken for ready.
        unready: Arc::new(|_| None),
        endpoints: gateway::Endpoints::default(),
        router: router.clone(),
        lifecycle: parts.clone(),
    }
}
