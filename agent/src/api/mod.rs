//! What an agent offers operators and other agents: a file a noun, which decodes, calls the part and encodes.
//!
//! `procedures.rs` is the table of them all, `serve.rs` registers them; `streaming.rs` and `upload.rs` are for those whose
//! calls have a session of their own.

mod answer;
mod arguments;
mod attempt;
mod blob;
mod check;
mod cluster;
mod error;
mod file;
mod job;
mod logs;
mod node;
mod procedures;
mod reach;
mod run;
mod serve;
mod service;
mod store;
mod streaming;
mod supply;
mod token;
mod upload;
mod workflow;

use std::sync::Arc;

use pipes_job::blobs::Uses;
use pipes_protocol::uris;
use pipes_router::{Role, Router};
use pipes_wamp::client::{Connection, Session};

use crate::blob::Blobs;
use crate::cluster::nodes::Nodes;
use crate::cluster::present;
use crate::cluster::quorum::Quorum;
use crate::cluster::tokens::Tokens;
use crate::config::Config;
use crate::executor::Pool;
use crate::gateway::Endpoints;
use crate::lifecycle::{Kind, Lifecycle};
use crate::workflow::coordinator;
use crate::workflow::daemon::known::Workflows;
use crate::workflow::daemon::ready::Readiness;
use crate::workflow::daemon::share::Shares;
use crate::workflow::daemon::{controller, hold};
use crate::workflow::jobs;
use crate::workflow::peers::Peers;
use crate::workflow::runs::recorder::Recorder;
use crate::workflow::runs::registry::Registry;
use crate::workflow::runs::stderr_log::Logs;
use crate::workflow::supply::Supplies;

use answer::Answer;
pub use error::Error;

/// What the procedures work with.
pub struct Parts {
    /// This agent's settings.
    pub config: Arc<Config>,
    /// The nodes and which are reached.
    pub nodes: Nodes,
    /// The store.
    pub store: pipes_raft::Store,
    /// Executables and files.
    pub blobs: Blobs,
    /// Names the files of runs.
    pub uses: Uses,
    /// Gives sessions.
    pub router: Router,
    /// Who may come with a token.
    pub tokens: Tokens,
    /// What stages said.
    pub logs: Logs,
    /// This node's replicas.
    pub pool: Pool,
    /// Which ports of daemon workflows are down.
    pub endpoints: Endpoints,
    /// Where tasks run.
    pub lifecycle: Lifecycle,
    /// Where attempts of jobs run, which are stopped before all else.
    pub jobs_lifecycle: Lifecycle,
}

/// The parts and what is made of them.
struct Api {
    config: Arc<Config>,
    nodes: Nodes,
    store: pipes_raft::Store,
    quorum: Quorum,
    blobs: Blobs,
    router: Router,
    tokens: Tokens,
    logs: Logs,
    pool: Pool,
    lifecycle: Lifecycle,
    workflows: Workflows,
    readiness: Readiness,
    endpoints: Endpoints,
    jobs: pipes_job::Jobs,
    runs: Arc<coordinator::Context>,
    /// Calls to the cluster's own procedures, in realm `pipes`.
    operators: Session,
    /// Calls to other agents, in realm `pipes.stages`.
    agents: Session,
}

/// What is known of daemon workflows, for who serves them.
pub struct Known {
    /// Their wishes.
    pub workflows: Workflows,
    /// Their replicas.
    pub readiness: Readiness,
    /// Whether anything can be decided for them.
    pub quorum: Quorum,
}

/// Registers all procedures; when this returns they can be called.
pub async fn serve(parts: Parts) -> anyhow::Result<Known> {
    let Parts {
        config,
        nodes,
        store,
        blobs,
        uses,
        router,
        tokens,
        logs,
        pool,
        endpoints,
        lifecycle,
        jobs_lifecycle,
    } = parts;
    let operators = session(&router, uris::REALM_OPERATORS)?;
    let agents = session(&router, uris::REALM_STAGES)?;
    let registry = Registry::default();
    let supplies = follow_supplies(&nodes, &registry, &pool, &router, &agents, &lifecycle);
    let workflows = Workflows::start(store.clone(), &lifecycle);
    let readiness = keep_replicas(&store, &nodes, &workflows, &supplies, &pool, &lifecycle);
    let quorum = Quorum::new(&config, nodes.clone(), store.clone());
    let runs = Arc::new(coordinator::Context {
        nodes: nodes.clone(),
        store: store.clone(),
        quorum: quorum.clone(),
        router: router.clone(),
        recorder: Recorder::new(nodes.own_id(), store.clone(), registry.clone(), lifecycle.clone()),
        registry,
        logs: logs.clone(),
        uses,
        supplies,
    });
    let jobs = jobs::start(jobs::Parts {
        store: store.clone(),
        nodes: nodes.clone(),
        blobs: blobs.clone(),
        router: router.clone(),
        workflows: workflows.clone(),
        lifecycle: jobs_lifecycle,
    });
    let api = Arc::new(Api {
        config,
        nodes,
        store,
        quorum,
        blobs,
        router,
        tokens,
        logs,
        pool,
        lifecycle,
        workflows,
        readiness,
        endpoints,
        jobs,
        runs,
        operators,
        agents,
    });
    serve::register(&api, &api.operators, &api.agents).await?;
    Ok(api.known())
}

impl Api {
    fn known(&self) -> Known {
        Known {
            workflows: self.workflows.clone(),
            readiness: self.readiness.clone(),
            quorum: self.quorum.clone(),
        }
    }
}

fn session(router: &Router, realm: &str) -> anyhow::Result<Session> {
    let own = router.attach(realm, Role::Agent)?;
    Ok(Session::start(Connection::welcomed(own.stream)))
}

/// Has what all nodes have for stages followed.
fn follow_supplies(
    nodes: &Nodes,
    registry: &Registry,
    pool: &Pool,
    router: &Router,
    agents: &Session,
    lifecycle: &Lifecycle,
) -> Supplies {
    let placed_on = nodes.clone();
    let supplies = Supplies::new(nodes.own_id(), move || placed_on.reached(), registry.clone());
    let peers = Peers {
        supplies: supplies.clone(),
        node: nodes.own_id(),
        own: pool.supply(),
        links: router.links(),
        session: agents.clone(),
        lifecycle: lifecycle.clone(),
    };
    lifecycle.spawn(Kind::Part, "supply of all nodes", peers.run());
    supplies
}

/// Has the replicas of daemon workflows be where they should; gives what is known of them.
fn keep_replicas(
    store: &pipes_raft::Store,
    nodes: &Nodes,
    workflows: &Workflows,
    supplies: &Supplies,
    pool: &Pool,
    lifecycle: &Lifecycle,
) -> Readiness {
    let shares = Shares::start(store.clone(), lifecycle);
    let held = hold::hold(shares.changes(), nodes.own_id(), pool.clone());
    let controlled = controller::run(controller::Parts {
        store: store.clone(),
        nodes: nodes.clone(),
        present: present::follow(store.clone(), lifecycle),
        workflows: workflows.changes(),
        shares: shares.changes(),
        supplies: supplies.clone(),
        settled_after: controller::SETTLED_AFTER,
    });
    lifecycle.spawn_until_stop("held replicas", held);
    lifecycle.spawn_until_stop("controller of replicas", controlled);
    Readiness {
        shares,
        supplies: supplies.clone(),
        nodes: nodes.clone(),
    }
}

/// A value that serde knows, for the wire: fields by name.
///
/// `rmpv::ext::to_value` would drop the names.
fn value<T: serde::Serialize>(of: &T) -> rmpv::Value {
    // Records are text, numbers and lists: nothing in them can fail to encode, or to be read again.
    let bytes = rmp_serde::to_vec_named(of).unwrap_or_default();
    rmpv::decode::read_value(&mut &bytes[..]).unwrap_or(rmpv::Value::Nil)
}
