//! Daemon workflows as the agent puts them together: who knows them, who serves them.

use std::net::TcpListener;
use std::sync::Arc;

use pipes_router::Router;

use crate::config::Config;
use crate::gateway;
use crate::lifecycle::Lifecycle;
use crate::workflow::daemon::known::Workflows;
use crate::workflow::daemon::ready::Readiness;

/// What serves daemon workflows over HTTP, once all it calls is there.
pub fn gateway(
    config: &Config,
    listener: TcpListener,
    endpoints: gateway::Endpoints,
    (workflows, readiness): (Workflows, Readiness),
    router: &Router,
    parts: &Lifecycle,
) -> gateway::Parts {
    gateway::Parts {
        address: config.address,
        listener,
        spool: config.spool_folder(),
        workflows,
        unready: Arc::new(move |workflow| readiness.lacking(workflow)),
        endpoints,
        router: router.clone(),
        lifecycle: parts.clone(),
    }
}
