//! The gateway as the agent puts it together: from what the procedures know of daemon workflows.

use std::net::TcpListener;
use std::sync::Arc;

use pipes_router::Router;

use crate::api;
use crate::config::Config;
use crate::gateway;
use crate::lifecycle::Lifecycle;

/// What serves daemon workflows over HTTP, once all it calls is there.
pub fn gateway(
    config: &Config,
    listener: TcpListener,
    endpoints: gateway::Endpoints,
    known: api::Known,
    router: &Router,
    parts: &Lifecycle,
) -> gateway::Parts {
    let api::Known {
        workflows,
        readiness,
        quorum,
    } = known;
    gateway::Parts {
        address: config.address,
        listener,
        authority: gateway::Authority {
            folder: config.tls_folder(),
            cluster_id: config.cluster_id.clone(),
        },
        spool: config.spool_folder(),
        workflows,
        unready: Arc::new(move |workflow| {
            let missing = quorum.missing().map(|missing| missing.to_string());
            missing.or_else(|| readiness.lacking(workflow))
        }),
        endpoints,
        router: router.clone(),
        lifecycle: parts.clone(),
    }
}
