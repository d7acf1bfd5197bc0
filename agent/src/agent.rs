//! The composition root: starts part after part, waits for a signal, stops them in order.
//!
//! ```text
//! lock -> certificates -> sockets -> store -> router -> mesh -> member -> present -> executor -> api, jobs -> gateway -> ready
//! ```
//!
//! Sockets are bound first, so that a taken port is said before anything is begun, and served last. The store, Raft's
//! connections and the node's lease live on a runtime of their own, the router on a thread of its own: neither waits
//! for what streams through the other. Jobs stop first, while this node is present and what they need still runs.

mod data;
pub mod sockets;
mod workflows;

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, bail};
use futures::FutureExt as _;
use pipes_raft::Node;
use pipes_router::Router;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{info, warn};

use crate::api;
use crate::blob::{self, Blobs};
use crate::cluster::links::Links;
use crate::cluster::nodes::{Nodes, Record};
use crate::cluster::{admission, credentials, membership, presence};
use crate::config::Config;
use crate::executor::{self, orphans};
use crate::gateway;
use crate::lifecycle::{Kind, Lifecycle};
use crate::mesh::admitted::Names;
use crate::mesh::listener::{HANDED_OVER_MAX, Incoming, Lines, Listener};
use crate::mesh::raft_rpc::RaftRpc;
use crate::mesh::tls::Tls;
use crate::mesh::{Admitted, Dialer, Local, bulk};
use crate::secured;
use crate::workflow::runs::stderr_log::Logs;
use sockets::Sockets;

/// Most threads of each runtime: one may wait for a lock or a disk while the other goes on. Where there are fewer than two
/// processors for each of the two, a second thread would only pass work to and fro.
const WORKERS_MAX: usize = 2;

/// Threads for blocking work (files of blobs, mostly); further work waits.
const BLOCKING_MAX: usize = 16;

/// How long the parts may take to stop, then how long the mesh and the store may.
const STOP_PARTS: Duration = Duration::from_secs(4);
/// Before all else: how long jobs may take to be handed over.
const STOP_JOBS: Duration = Duration::from_secs(3);
const STOP_STORE: Duration = Duration::from_secs(2);

/// Runs an agent until a signal, or until a part of it fails.
pub fn run(config: Config) -> anyhow::Result<()> {
    let config = Arc::new(config);
    let _lock = lock(&config.data)?;
    set_aside(&config)?;
    let tls = certificates(&config)?;
    let sockets = Sockets::bind(&config)?;
    let store_runtime = runtime("store")?;
    let runtime = runtime("agent")?;
    let served = runtime.block_on(serve(config, tls, sockets, store_runtime.handle().clone()));
    runtime.shutdown_timeout(STOP_STORE);
    store_runtime.shutdown_timeout(STOP_STORE);
    match served? {
        End::Stop => Ok(()),
        End::Again => start_again(),
    }
}

/// What is to come after an agent has stopped.
enum End {
    Stop,
    /// The same program in the same process, so that whoever watches over it sees one.
    Again,
}

fn start_again() -> anyhow::Result<()> {
    info!("starts again");
    let mut arguments = std::env::args_os();
    // By this name also when the file was replaced meanwhile.
    let mut program = std::process::Command::new("/proc/self/exe");
    if let Some(name) = arguments.next() {
        program.arg0(name);
    }
    let error = program.args(arguments).exec();
    Err(error).context("cannot start again")
}

/// A reset begins here: with the former store set aside, the agent is a new node.
fn set_aside(config: &Config) -> anyhow::Result<()> {
    let marker = config.reset_file();
    let Ok(text) = fs::read_to_string(&marker) else {
        return Ok(());
    };
    // Whom the others have removed. A store of another id is a new one already.
    let removed: Option<u64> = text.trim().parse().ok();
    let folder = config.raft_folder();
    let is_former = pipes_raft::id_in(&folder).is_none_or(|id| Some(id) == removed);
    if folder.exists() && is_former {
        let aside = pipes_raft::set_aside(&folder)?;
        warn!(folder = %aside.display(), "the former store is set aside; remove it when nobody wants to look at it");
    }
    let gone = fs::remove_file(&marker).and_then(|()| File::open(&config.data)?.sync_all());
    gone.with_context(|| format!("cannot remove {}", marker.display()))
}

fn runtime(name: &str) -> std::io::Result<Runtime> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    Builder::new_multi_thread()
        .worker_threads((processors / 2).clamp(1, WORKERS_MAX))
        .max_blocking_threads(BLOCKING_MAX)
        .thread_name(name)
        .enable_all()
        .build()
}

/// How long an agent that was killed may take to let go of its lock: the kernel clears its memory first, where it gets a
/// processor.
const DYING_MAX: Duration = Duration::from_secs(15);
/// How often the lock is tried meanwhile.
const DYING_POLL: Duration = Duration::from_millis(20);

/// One agent a data folder; the lock goes with the process, however that ends.
fn lock(data: &Path) -> anyhow::Result<File> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(data);
    made.with_context(|| format!("cannot make {}", data.display()))?;
    let path = data.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
    let begun = Instant::now();
    // SAFETY: the descriptor is open, and flock takes nothing else.
    while unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
        if begun.elapsed() > DYING_MAX {
            bail!("{} is in use by another agent", data.display());
        }
        std::thread::sleep(DYING_POLL);
    }
    fs::write(data.join("agent.pid"), format!("{}\n", std::process::id()))?;
    Ok(file)
}

fn certificates(config: &Config) -> anyhow::Result<Tls> {
    let tls = Tls::read(&config.tls_folder()).map_err(|error| {
        anyhow::anyhow!(
            "{error}, and nobody would know this node; with a majority of the others up, `pipes node reset {}` makes it \
             a new member",
            config.name
        )
    })?;
    let named = tls.identity();
    if named.cluster != config.cluster_id || named.name != config.name {
        bail!(
            "the certificate in {} is that of node {} of cluster {}, agent.toml says node {} of cluster {}",
            config.tls_folder().display(),
            named.name,
            named.cluster,
            config.name,
            config.cluster_id
        );
    }
    Ok(tls)
}

/// Everything that runs, for stopping it.
struct Running {
    parts: Lifecycle,
    jobs: Lifecycle,
    mesh: Lifecycle,
    router: Router,
    router_thread: JoinHandle<()>,
    node: Arc<Node>,
}

async fn serve(
    config: Arc<Config>,
    tls: Tls,
    sockets: Sockets,
    store_runtime: Handle,
) -> anyhow::Result<End> {
    // Before anything that takes time, so that a signal is not lost.
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let ready = config.ready_file();
    // Of a former life that was killed.
    let _ = fs::remove_file(&ready);
    let parts = Lifecycle::new();
    let mesh = parts.beside();

    let (running, entering) = start(&config, tls, sockets, &store_runtime, &parts, &mesh).await?;
    let entered = tokio::select! {
        entered = enter(&config, &running, entering, &store_runtime) => entered.map(|()| true),
        _ = term.recv() => Ok(false),
        _ = interrupt.recv() => Ok(false),
        () = parts.failed() => Ok(false),
    };
    let ready_written = |entered| match entered {
        true => fs::write(&ready, format!("{}\n", std::process::id())).map(|()| true),
        false => Ok(false),
    };
    let entered = entered.and_then(|entered| Ok(ready_written(entered)?));
    if let Ok(true) = entered {
        info!(node = running.node.id(), name = config.name, "ready");
        tokio::select! {
            _ = term.recv() => info!("SIGTERM"),
            _ = interrupt.recv() => info!("SIGINT"),
            () = parts.failed() => {}
            () = parts.starts_again() => {}
        }
    }
    // It may never have been written.
    let _ = fs::remove_file(&ready);
    let failure = parts.failure();
    stop(running).await;
    // Whoever wants it to end may say so while it stops.
    let is_to_end = term.recv().now_or_never().is_some() || interrupt.recv().now_or_never().is_some();
    match failure {
        Some(failure) => bail!("{failure}"),
        None => entered.map(|_| {
            if parts.is_to_start_again() && !is_to_end {
                End::Again
            } else {
                End::Stop
            }
        }),
    }
}

/// What is there before the agent is a member.
struct Entering {
    dialer: Dialer,
    listed: watch::Sender<Names>,
    blobs: Blobs,
    router_links: mpsc::Receiver<Incoming>,
    listeners: Vec<pipes_router::Listener>,
    workflows: TcpListener,
}

/// Starts what does not need to be a member: store, router, mesh.
async fn start(
    config: &Arc<Config>,
    tls: Tls,
    sockets: Sockets,
    store_runtime: &Handle,
    parts: &Lifecycle,
    mesh: &Lifecycle,
) -> anyhow::Result<(Running, Entering)> {
    let local = Local::new(tls.identity().clone());
    let dialer = Dialer::new(tls.clone(), local.clone(), config.address);
    let bulk = bulk::Client::new(dialer.clone(), mesh, Handle::current());
    let transport = RaftRpc::new(dialer.clone(), bulk.clone(), mesh, store_runtime.clone());
    let node = Arc::new(open_store(config, transport, store_runtime).await?);
    if let Some(id) = node.id() {
        local.is_node(id);
        orphans::end(&format!("{}/{id}", config.cluster_id));
    }
    let (router, router_thread) = Router::start(pipes_router::RouterConfig {
        node: 0,
        listeners: Vec::new(),
        // SAFETY: geteuid takes nothing and cannot fail.
        agent_uid: unsafe { libc::geteuid() },
    })?;
    let secured = secured::start(tls.door(), &router, parts);
    let (mesh_socket, workflows, listeners) = sockets.part(secured);
    let holder = data::hold(config, node.store())?;
    let blobs = Blobs::new(holder.clone(), bulk, Arc::new(node.store()), parts);
    let (to_links, router_links) = mpsc::channel(HANDED_OVER_MAX);
    let (to_bulk, bulk_connections) = mpsc::channel(HANDED_OVER_MAX);
    let (listed, admitted) = Admitted::first(admission::first(config));
    let listener = Listener {
        tls,
        local,
        admitted,
        answers: node.clone(),
        router: to_links,
        bulk: to_bulk,
        streams: Handle::current(),
        lifecycle: mesh.clone(),
        lines: Lines::default(),
    };
    let bulk_served = blob::serve(bulk_connections, holder, node.clone(), mesh.clone());
    let listened = listener.run(mesh_socket);
    mesh.spawn_on(store_runtime, Kind::Part, "mesh listener", listened);
    mesh.spawn(Kind::Part, "bulk", bulk_served);
    let running = Running {
        jobs: parts.beside(),
        parts: parts.clone(),
        mesh: mesh.clone(),
        router,
        router_thread,
        node,
    };
    Ok((
        running,
        Entering {
            dialer,
            listed,
            blobs,
            router_links,
            listeners,
            workflows,
        },
    ))
}

/// Opens the store on its own runtime, where all that it spawns stays.
async fn open_store(config: &Config, transport: RaftRpc, store_runtime: &Handle) -> anyhow::Result<Node> {
    let usual = pipes_raft::Options::new(config.raft_folder(), config.cluster_id.clone());
    let options = pipes_raft::Options {
        name: config.name.clone(),
        snapshot_entries: config.store.snapshot_entries.unwrap_or(usual.snapshot_entries),
        applied_differently: applied_differently(),
        ..usual
    };
    let opened = store_runtime
        .spawn(Node::open(options, None, Arc::new(transport)))
        .await?;
    opened.with_context(|| format!("cannot open the store in {}", config.raft_folder().display()))
}

/// A switch for tests: `KEY=VALUE` in the environment, where debug assertions are on.
fn applied_differently() -> Vec<(Vec<u8>, Vec<u8>)> {
    let switch = cfg!(debug_assertions).then(|| std::env::var("PIPES_APPLY_DIFFERENTLY").ok());
    let put = switch.flatten().and_then(|put| {
        let (key, value) = put.split_once('=')?;
        Some((key.into(), value.into()))
    });
    put.into_iter().collect()
}

/// Becomes a member, then starts what needs to be one. When this returns, the agent serves.
async fn enter(
    config: &Arc<Config>,
    running: &Running,
    entering: Entering,
    store_runtime: &Handle,
) -> anyhow::Result<()> {
    let Entering {
        dialer,
        listed,
        blobs,
        router_links,
        listeners,
        workflows,
    } = entering;
    let Running {
        parts, router, node, ..
    } = running;
    let id = membership::enter(config, node, &dialer).await?;
    dialer.local().is_node(id);
    router.set_node(id);
    let store = node.store();
    let own = record(id, config);
    appear(parts, store_runtime, &store, &own).await?;
    credentials::found(&store, config).await?;
    admission::start(&store, config, listed, parts);
    let (are_known, tokens) = credentials::start(&store, router, parts);
    let nodes = Nodes::start(own, store.clone(), router.links(), parts);
    let uses = data::look_after(parts, &store, &blobs, &nodes);
    let logs = open_logs(config)?;
    let pool = executor::start(executor::Parts {
        config: config.clone(),
        node: id,
        store: store.clone(),
        router: router.clone(),
        blobs: blobs.clone(),
        uses: uses.clone(),
        lifecycle: parts.clone(),
    })
    .await?;
    let (config, store, router, lifecycle) = (config.clone(), store.clone(), router.clone(), parts.clone());
    let links = Links {
        router: router.clone(),
        dialer,
        store: store.clone(),
        lifecycle: parts.clone(),
    };
    let endpoints = gateway::Endpoints::default();
    let known = api::serve(api::Parts {
        config: config.clone(),
        endpoints: endpoints.clone(),
        nodes,
        store,
        blobs,
        uses,
        router: router.clone(),
        tokens,
        logs,
        pool,
        lifecycle,
        jobs_lifecycle: running.jobs.clone(),
    })
    .await?;
    // Now others may ask this agent for something, and clients come in.
    parts.spawn(Kind::Part, "links", links.run(router_links));
    are_known.await?;
    running.router.listen(listeners);
    gateway::start(workflows::gateway(
        &config, workflows, endpoints, known, &router, parts,
    ))
}

/// Has the node be present; returns when it is.
async fn appear(
    parts: &Lifecycle,
    store_runtime: &Handle,
    store: &pipes_raft::Store,
    own: &Record,
) -> anyhow::Result<()> {
    let (present, is_present) = oneshot::channel();
    let presence = presence::keep(store.clone(), own.clone(), present, parts.stopping());
    parts.spawn_on(store_runtime, Kind::Part, "presence", presence);
    Ok(is_present.await?)
}

fn open_logs(config: &Config) -> anyhow::Result<Logs> {
    let folder = config.data.join("logs");
    Logs::open(folder.clone()).with_context(|| format!("cannot keep logs in {}", folder.display()))
}

fn record(id: u64, config: &Config) -> Record {
    Record {
        id,
        name: config.name.clone(),
        address: config.address.to_string(),
        mesh: config.ports.mesh,
        wamp: config.ports.wamp,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
    }
}

/// Jobs first: they are handed over. Then the other parts, while the store still answers (the node's lease is given back),
/// then the router, the mesh and the store.
async fn stop(running: Running) {
    let Running {
        parts,
        jobs,
        mesh,
        router,
        router_thread,
        node,
    } = running;
    // While this node is present: what is handed over is no lost attempt.
    jobs.stop(STOP_JOBS).await;
    parts.stop(STOP_PARTS).await;
    // While the mesh still carries it.
    node.hand_over().await;
    router.shutdown();
    let joined = tokio::task::spawn_blocking(move || router_thread.join().is_ok());
    if !matches!(tokio::time::timeout(STOP_STORE, joined).await, Ok(Ok(true))) {
        warn!("the router did not stop in order");
    }
    mesh.stop(STOP_STORE).await;
    // With the mesh stopped nobody else has it.
    let shut_down = match Arc::try_unwrap(node) {
        Ok(node) => tokio::time::timeout(STOP_STORE, node.shutdown()).await.is_ok(),
        Err(_) => false,
    };
    if !shut_down {
        warn!("the store did not stop in order");
    }
    info!("stopped");
}
