//! The ports of daemon workflows, which come and go with them.
//!
//! ```text
//! ADDRESS:7080            bound at the start: every workflow, below its name; TLS to those who begin so
//! ADDRESS:7100, ...       as the wishes say: each workflow that has a port, at its `bind` or the agent's address
//! ```
//!
//! Always: (1) a port that cannot be had is that endpoint's fault alone: it is kept why, for `ps`, and tried again; (2) who
//! is served when a port goes is served to the end of that request; (3) a port is bound anew when its former listener is
//! closed.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use listeners::{Protocol, SocketState};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::certificate;
use crate::doors::Doors;
use crate::gateway::connection::{self, Endpoint};
use crate::gateway::limits::WAITING_MAX;
use crate::gateway::route::{Routes, Scope};
use crate::lifecycle::{Kind, Lifecycle};
use crate::workflow::daemon::known::{All, Workflows};
use crate::workflow::daemon::record::Tls;

/// Between two tries to have a port.
const RETRY_EVERY: Duration = Duration::from_secs(2);
/// After an accept that failed, for want of descriptors most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Which endpoints of this agent are down, and why. A cheap handle.
#[derive(Debug, Clone, Default)]
pub struct Endpoints {
    down: Arc<Mutex<BTreeMap<String, Down>>>,
}

/// An endpoint that is down.
#[derive(Debug, Clone)]
struct Down {
    wanted: Wanted,
    why: String,
}

impl Endpoints {
    /// Why this workflow's own port is not served here; `None`: it is, or has none.
    pub fn why_down(&self, workflow: &str) -> Option<String> {
        self.down().get(workflow).map(|down| down.why.clone())
    }

    /// Why it was not to be had before.
    fn before(&self, workflow: &str, wanted: &Wanted) -> Option<Down> {
        let before = self.down().get(workflow).cloned();
        before.filter(|down| down.wanted == *wanted)
    }

    /// The lock guards plain data, for a line.
    fn down(&self) -> MutexGuard<'_, BTreeMap<String, Down>> {
        self.down.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The cluster's authority, as far as certificates of endpoints are made of it.
#[derive(Debug, Clone)]
pub struct Authority {
    /// Folder of its files.
    pub folder: PathBuf,
    /// The cluster.
    pub cluster_id: String,
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
    /// Makes certificates.
    pub authority: Authority,
    /// Where tasks run.
    pub lifecycle: Lifecycle,
    /// Connections that wait.
    pub doors: Doors,
}

/// How a workflow's own port is to be served.
#[derive(Debug, Clone, PartialEq)]
struct Wanted {
    at: SocketAddr,
    tls: Option<Tls>,
}

/// A port that is served.
struct Served {
    wanted: Wanted,
    stop: CancellationToken,
    /// Ends when the listener is closed.
    closed: oneshot::Receiver<()>,
}

impl Ports {
    /// Takes connections until it is told to stop; what is given ends when the listener is closed.
    pub fn serve(
        &self,
        listener: TcpListener,
        scope: Scope,
        tls: Option<Arc<ServerConfig>>,
        closing: CancellationToken,
    ) -> oneshot::Receiver<()> {
        let endpoint = Endpoint {
            scope,
            routes: self.routes.clone(),
            tls,
            closing,
            stopping: self.lifecycle.stopping(),
        };
        let ports = self.clone();
        let (is_closed, closed) = oneshot::channel();
        self.lifecycle.spawn(Kind::Work, "endpoint", async move {
            ports.accept(listener, endpoint).await;
            // Whoever waits for it may have gone.
            let _ = is_closed.send(());
            Ok(())
        });
        closed
    }

    async fn accept(self, listener: TcpListener, endpoint: Endpoint) {
        let door = self.doors.open(WAITING_MAX);
        let closing = endpoint.closing.clone();
        while let Some(accepted) = closing.run_until_cancelled(listener.accept()).await {
            let (stream, from) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    debug!(%error, "a connection was not accepted");
                    let pause = tokio::time::sleep(ACCEPT_PAUSE);
                    if closing.run_until_cancelled(pause).await.is_none() {
                        return;
                    }
                    continue;
                }
            };
            let served = connection::serve(stream, door.enter(from.ip()), endpoint.clone());
            self.lifecycle
                .spawn(Kind::Connection, "client of a workflow", served);
        }
    }

    /// The common port's certificate; `None`: it speaks plain alone.
    pub fn own_tls(&self) -> Option<Arc<ServerConfig>> {
        self.made(self.address)
            .inspect_err(|why| info!(why, "the common port serves no TLS"))
            .ok()
    }

    fn made(&self, address: IpAddr) -> Result<Arc<ServerConfig>, String> {
        let Authority { folder, cluster_id } = &self.authority;
        let address = if address.is_unspecified() {
            self.address
        } else {
            address
        };
        certificate::made(folder, cluster_id, &[address]).map_err(|error| error.to_string())
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
    fn wanted(&self, workflows: &All) -> BTreeMap<String, Wanted> {
        let own = workflows.values().filter_map(|workflow| {
            let address = workflow.bind.unwrap_or(self.address);
            let wanted = Wanted {
                at: SocketAddr::new(address, workflow.port?),
                tls: workflow.tls.clone(),
            };
            Some((workflow.name.clone(), wanted))
        });
        own.collect()
    }

    /// Whether all are served now.
    async fn serve_wanted(
        &self,
        wanted: &BTreeMap<String, Wanted>,
        served: &mut BTreeMap<String, Served>,
    ) -> bool {
        let stays = |name: &String, served: &mut Served| wanted.get(name) == Some(&served.wanted);
        let gone: Vec<_> = served
            .extract_if(.., |name, served| !stays(name, served))
            .collect();
        for (_, gone) in gone {
            gone.stop.cancel();
            // Before the same port is bound at another address. It ends with its task at the latest.
            let _ = gone.closed.await;
        }
        let mut down = BTreeMap::new();
        for (name, wanted) in wanted {
            if served.contains_key(name) {
                continue;
            }
            match self.open(name, wanted).await {
                Ok(opened) => drop(served.insert(name.clone(), opened)),
                Err(why) => {
                    let wanted = wanted.clone();
                    down.insert(name.clone(), Down { wanted, why });
                }
            }
        }
        let all_served = down.is_empty();
        *self.endpoints.down() = down;
        all_served
    }

    /// Serves a workflow's own port; or why not.
    async fn open(&self, name: &str, wanted: &Wanted) -> Result<Served, String> {
        let at = wanted.at;
        let tls = match &wanted.tls {
            None => Ok(None),
            Some(Tls { pair: None }) => self.made(at.ip()).map(Some),
            Some(Tls { pair: Some(pair) }) => certificate::given(pair)
                .map(Some)
                .map_err(|error| error.to_string()),
        };
        let bound = TcpListener::bind(at).await;
        let known = self.endpoints.before(name, wanted);
        let why = match (bound, tls) {
            (Ok(listener), Ok(tls)) => {
                let stop = self.lifecycle.stopping().child_token();
                let closed = self.serve(listener, Scope::One(name.to_owned()), tls, stop.clone());
                info!(workflow = name, %at, "served");
                return Ok(Served {
                    wanted: wanted.clone(),
                    stop,
                    closed,
                });
            }
            // Said once, and looked into once: that takes a look at every process.
            (Err(error), _) if known.is_none() => why_not(at, &error).await,
            (Ok(_), Err(why)) if known.is_none() => why,
            _ => return Err(known.map(|known| known.why).unwrap_or_default()),
        };
        warn!(workflow = name, why, "its own port is not served here");
        Err(why)
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
