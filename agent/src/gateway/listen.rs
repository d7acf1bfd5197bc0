//! The ports of daemon workflows, which come and go with them.
//!
//! ```text
//! ADDRESS:7080            bound at the start: every workflow, below its name
//! ADDRESS:7100, ...       as the wishes say: each workflow that has a port, at its `bind` or the agent's address
//! ```
//!
//! Always: (1) a port that cannot be had is that endpoint's fault alone: it is kept why, for `ps`, and tried again; (2) who
//! is served when a port goes is served to the end of that request.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use listeners::{Protocol, SocketState};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::gateway::connection;
use crate::gateway::limits::CONNECTIONS_MAX;
use crate::gateway::route::{Routes, Scope};
use crate::lifecycle::{Kind, Lifecycle};
use crate::workflow::daemon::known::{All, Workflows};

/// Between two tries to have a port.
const RETRY_EVERY: Duration = Duration::from_secs(2);
/// After an accept that failed, for want of descriptors most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Which endpoints of this agent are down, and why. A cheap handle.
#[derive(Debug, Clone)]
pub struct Endpoints {
    down: watch::Sender<BTreeMap<String, Down>>,
}

/// An endpoint that is down.
#[derive(Debug, Clone)]
struct Down {
    at: SocketAddr,
    why: String,
}

impl Default for Endpoints {
    fn default() -> Endpoints {
        Endpoints {
            down: watch::Sender::new(BTreeMap::new()),
        }
    }
}

impl Endpoints {
    /// Why this workflow's own port is not served here; `None`: it is, or has none.
    pub fn why_down(&self, workflow: &str) -> Option<String> {
        self.down.borrow().get(workflow).map(|down| down.why.clone())
    }

    /// Why it was not to be had before.
    fn before(&self, workflow: &str, at: SocketAddr) -> Option<Down> {
        self.down
            .borrow()
            .get(workflow)
            .filter(|down| down.at == at)
            .cloned()
    }
}

/// Serves ports.
#[derive(Clone)]
pub struct Ports {
    /// Where they are, unless a workflow says otherwise.
    pub address: IpAddr,
    /// What answers.
    pub routes: Routes,
    /// What is down.
    pub endpoints: Endpoints,
    /// Where tasks run.
    pub lifecycle: Lifecycle,
    /// Connections at once.
    pub room: Arc<Semaphore>,
}

/// A port that is served.
struct Served {
    at: SocketAddr,
    stop: CancellationToken,
}

impl Ports {
    /// Of an agent at `address`.
    pub fn new(address: IpAddr, routes: Routes, endpoints: Endpoints, lifecycle: Lifecycle) -> Ports {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        Ports {
            address,
            routes,
            endpoints,
            lifecycle,
            room,
        }
    }

    /// Takes connections until it is told to stop.
    pub fn serve(&self, listener: TcpListener, scope: Scope, stop: CancellationToken) {
        let ports = self.clone();
        self.lifecycle.spawn(Kind::Work, "endpoint", async move {
            ports.accept(listener, scope, stop).await;
            Ok(())
        });
    }

    async fn accept(self, listener: TcpListener, scope: Scope, stop: CancellationToken) {
        let next = async || {
            // Closed never.
            let place = self.room.clone().acquire_owned().await.ok()?;
            Some((place, listener.accept().await))
        };
        while let Some(Some((place, accepted))) = stop.run_until_cancelled(next()).await {
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    debug!(%error, "a connection was not accepted");
                    if stop
                        .run_until_cancelled(tokio::time::sleep(ACCEPT_PAUSE))
                        .await
                        .is_none()
                    {
                        return;
                    }
                    continue;
                }
            };
            let served = connection::serve(stream, scope.clone(), self.routes.clone(), stop.clone());
            self.lifecycle
                .spawn(Kind::Connection, "client of a workflow", async move {
                    let served = served.await;
                    drop(place);
                    served
                });
        }
    }

    /// Has each workflow's own port served, as they come and go, until the agent stops.
    pub async fn follow(self, workflows: Workflows) -> anyhow::Result<()> {
        let stopping = self.lifecycle.stopping();
        let mut changes = workflows.changes();
        let mut served = BTreeMap::new();
        loop {
            let wanted = self.wanted(&changes.borrow_and_update());
            let all_served = self.serve_wanted(&wanted, &mut served).await;
            let retry = async {
                match all_served {
                    true => std::future::pending().await,
                    false => tokio::time::sleep(RETRY_EVERY).await,
                }
            };
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { stopping.cancelled().await },
                () = retry => {}
                () = stopping.cancelled() => {}
            }
            if stopping.is_cancelled() {
                return Ok(());
            }
        }
    }

    /// Where each workflow that has a port is to be served. Stopped ones, too: they say that they are.
    fn wanted(&self, workflows: &All) -> BTreeMap<String, SocketAddr> {
        let own = workflows.values().filter_map(|workflow| {
            let address = workflow.bind.unwrap_or(self.address);
            Some((workflow.name.clone(), SocketAddr::new(address, workflow.port?)))
        });
        own.collect()
    }

    /// Whether all are served now.
    async fn serve_wanted(
        &self,
        wanted: &BTreeMap<String, SocketAddr>,
        served: &mut BTreeMap<String, Served>,
    ) -> bool {
        served.retain(|name, served| {
            let stays = wanted.get(name) == Some(&served.at);
            if !stays {
                served.stop.cancel();
            }
            stays
        });
        let mut down = BTreeMap::new();
        for (name, at) in wanted
            .iter()
            .filter(|(name, _)| !served.contains_key(*name))
            .collect::<Vec<_>>()
        {
            match TcpListener::bind(at).await {
                Ok(listener) => {
                    let stop = self.lifecycle.stopping().child_token();
                    self.serve(listener, Scope::One(name.clone()), stop.clone());
                    info!(workflow = name, %at, "served");
                    served.insert(name.clone(), Served { at: *at, stop });
                }
                Err(error) => {
                    // Looked into once: that takes a look at every process.
                    let known = self.endpoints.before(name, *at);
                    let down_here = match known {
                        Some(known) => known,
                        None => {
                            let why = why_not(*at, &error).await;
                            warn!(workflow = name, why, "its own port is not served here");
                            Down { at: *at, why }
                        }
                    };
                    down.insert(name.clone(), down_here);
                }
            }
        }
        let all_served = down.is_empty();
        self.endpoints.down.send_replace(down);
        all_served
    }
}

/// Why there can be no listener.
async fn why_not(at: SocketAddr, error: &std::io::Error) -> String {
    if error.kind() != std::io::ErrorKind::AddrInUse {
        return format!("cannot listen on {at}: {error}");
    }
    // It looks at every process.
    let by = tokio::task::spawn_blocking(move || holder(at))
        .await
        .ok()
        .flatten();
    let by = by.map_or_else(String::new, |by| format!(" by {} (process {})", by.name, by.pid));
    format!("port {} of {} is taken{by}", at.port(), at.ip())
}

/// Which process listens at `address`, or at every address of its port, as far as this one may look.
pub fn holder(address: SocketAddr) -> Option<listeners::Process> {
    let holds = |socket: SocketAddr| {
        socket.port() == address.port() && (socket.ip() == address.ip() || socket.ip().is_unspecified())
    };
    let all = listeners::get_all().ok()?;
    all.into_iter()
        .find(|held| {
            (held.protocol, held.state) == (Protocol::TCP, SocketState::Listen) && holds(held.socket)
        })
        .map(|held| held.process)
}
