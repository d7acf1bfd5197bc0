//! Puts the executor together: shim, settings, pool, procedures.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use pipes_job::blobs::Uses;
use pipes_protocol::uris;
use pipes_raft::Store;
use pipes_wamp::client::{Connection, Session};
use tokio::sync::oneshot;
use tracing::info;

use crate::blob::{Blobs, Digest};
use crate::config::Config;
use crate::executor::pool::{self, Pool};
use crate::executor::procedures::{Files, Procedures};
use crate::executor::process::cgroup::Cgroups;
use crate::executor::process::{Executable, Host, Node, Process, shim};
use crate::executor::settings;
use crate::lifecycle::{Kind, Lifecycle};
use pipes_router::{Role, Router};

/// What the executor works with.
pub struct Parts {
    /// This agent's configuration.
    pub config: Arc<Config>,
    /// This node's id.
    pub node: u64,
    /// Where settings lie.
    pub store: Store,
    /// Lets shims in.
    pub router: Router,
    /// Gives executables and files.
    pub blobs: Blobs,
    /// Names the executables of replicas.
    pub uses: Uses,
    /// Runs the tasks.
    pub lifecycle: Lifecycle,
}

/// Starts the executor; when this returns, coordinators may ask this node for slots of the pool.
pub async fn start(parts: Parts) -> anyhow::Result<Pool> {
    let Parts {
        config,
        node,
        store,
        router,
        blobs,
        uses,
        lifecycle,
    } = parts;
    let agent = ThisAgent {
        router: router.clone(),
        blobs,
        uses,
    };
    let process = open_process(&config, node, agent.clone(), lifecycle.clone()).await?;
    let own = router
        .attach(uris::REALM_STAGES, Role::Agent)
        .context("the router gives the executor no session")?;
    let session = Session::start(Connection::welcomed(own.stream));
    let pool = Pool::start(pool::Parts {
        backend: Arc::new(process),
        settings: settings::follow(store, &lifecycle),
        lifecycle: lifecycle.clone(),
    });
    let procedures = Procedures::register(&session, node).await?;
    let served = procedures.serve(pool.clone(), Arc::new(agent), lifecycle.clone());
    lifecycle.spawn(Kind::Part, "executor", served);
    Ok(pool)
}

/// The backend, once what a former life left is cleared.
async fn open_process(
    config: &Config,
    id: u64,
    host: ThisAgent,
    lifecycle: Lifecycle,
) -> anyhow::Result<Process> {
    let node = Node {
        cluster_id: config.cluster_id.clone(),
        id,
        shim: shim::find()?,
        socket: config.stages_socket(),
        replicas: config.data.join("replicas"),
    };
    let opened = tokio::task::spawn_blocking(move || {
        info!("the executor process isolates nothing: stages are plain processes of this agent's user");
        let cgroups = Cgroups::open(&node.cluster_id, node.id);
        let replicas = node.replicas.display().to_string();
        Process::open(node, Box::new(host), cgroups, lifecycle)
            .with_context(|| format!("cannot use {replicas}"))
    });
    opened.await?
}

/// The agent's router and blobs, as replicas need them.
#[derive(Clone)]
struct ThisAgent {
    router: Router,
    blobs: Blobs,
    uses: Uses,
}

#[async_trait::async_trait]
impl Files for ThisAgent {
    async fn path(&self, digest: &str) -> Result<PathBuf, String> {
        let digest = digest.parse::<Digest>().map_err(|error| error.to_string())?;
        self.blobs
            .ensure(&digest)
            .await
            .map_err(|error| error.to_string())
    }
}

#[async_trait::async_trait]
impl Host for ThisAgent {
    async fn executable(&self, digest: &str) -> Result<Executable, String> {
        // First it is named: else it might be collected before the replica is there.
        let used = self.uses.uses(digest).await.map_err(|error| error.to_string())?;
        Ok(Executable {
            path: self.path(digest).await?,
            used: Box::new(used),
        })
    }

    fn admit(&self, replica: &str, ticket_sha256: [u8; 32]) {
        self.router.admit_replica(replica, ticket_sha256);
    }

    fn expel(&self, replica: &str) {
        self.router.expel_replica(replica);
    }

    fn registered(&self, replica: &str) -> oneshot::Receiver<()> {
        self.router.replica_ready(replica)
    }
}
