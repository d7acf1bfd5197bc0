//! Replicas as child processes: a shim each, with its own session, scratch folder and, where there are cgroups, group.
//!
//! ```text
//! executable here -> folder, group, ticket admitted -> spawned -> registered (ready) -> ... -> gone -> all cleared
//! ```
//!
//! Always: (1) one task owns a replica from its folder to its removal, whoever waits for it; (2) a replica that is told to
//! end is told by the loss of its session, on which the shim kills its stages before it closes any pipe; only one that
//! does not end then is killed itself; (3) nothing is left of a replica that is gone.
//! On purpose without PR_SET_PDEATHSIG and without a kill on drop: a shim that is killed cannot kill its stages before
//! their pipes close, and they would take that for the end of their input. When the agent dies, however it dies, the kernel
//! closes the shims' connections, which tells them; an agent that starts ends what a shim could not (`orphans`, `cgroup`).

pub(super) mod cgroup;
mod left;
pub mod orphans;
pub(super) mod shim;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pipes_folder::Folder;
use sha2::{Digest as _, Sha256};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::executor::backend::{Backend, ReplicaSpec, StartError};
use crate::executor::process::cgroup::Cgroups;
use crate::lifecycle::{self, Lifecycle};

/// From when its executable is here to a registered replica.
const START_MAX: Duration = Duration::from_secs(10);

/// How long a shim that lost its session may take to end its stages and itself. Within what stopping parts may take.
const END_MAX: Duration = Duration::from_secs(3);

/// The agent, as its host: what a replica needs of it.
#[async_trait::async_trait]
pub trait Host: Send + Sync + 'static {
    /// An executable, fetched if it is not here.
    async fn executable(&self, digest: &str) -> Result<Executable, String>;

    /// Lets a session in that gives the ticket with this SHA-256.
    fn admit(&self, replica: &str, ticket_sha256: [u8; 32]);

    /// Ends its session and lets it in no more.
    fn expel(&self, replica: &str);

    /// Fires when both procedures of a replica are registered; dropped when it left.
    fn registered(&self, replica: &str) -> oneshot::Receiver<()>;
}

/// An executable that is here.
pub struct Executable {
    /// Its file.
    pub path: PathBuf,
    /// As long as this lives nobody removes it.
    pub used: Box<dyn Send + Sync>,
}

/// What is the same for all replicas of this node.
#[derive(Debug, Clone)]
pub struct Node {
    /// The cluster's identity.
    pub cluster_id: String,
    /// This node's id.
    pub id: u64,
    /// The shim's executable.
    pub shim: PathBuf,
    /// The socket for shims.
    pub socket: PathBuf,
    /// Where replicas' folders lie.
    pub replicas: PathBuf,
}

/// The executor.
#[derive(Clone)]
pub struct Process(Arc<Inner>);

struct Inner {
    node: Node,
    host: Box<dyn Host>,
    cgroups: Cgroups,
    lifecycle: Lifecycle,
    stops: Mutex<HashMap<String, CancellationToken>>,
}

impl Process {
    /// Clears what a former life left, then is ready to start replicas. Blocks.
    pub fn open(
        node: Node,
        host: Box<dyn Host>,
        cgroups: Cgroups,
        lifecycle: Lifecycle,
    ) -> io::Result<Process> {
        left::clear(&node.replicas, &lifecycle);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&node.replicas)?;
        Ok(Process(Arc::new(Inner {
            node,
            host,
            cgroups,
            lifecycle,
            stops: Mutex::default(),
        })))
    }
}

#[async_trait::async_trait]
impl Backend for Process {
    async fn start(&self, spec: &ReplicaSpec) -> Result<oneshot::Receiver<String>, StartError> {
        // Also of one that the pool had stopped before this began: it tells each replica once, when the agent stops.
        let stop = self.0.lifecycle.stopping().child_token();
        self.0.stops().insert(spec.replica.clone(), stop.clone());
        let (started, is_started) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let (inner, spec) = (self.0.clone(), spec.clone());
        self.0
            .lifecycle
            .spawn(lifecycle::Kind::Work, "process of a replica", async move {
                let why = inner.live(&spec, &stop, started).await;
                inner.stops().remove(&spec.replica);
                debug!(replica = spec.replica, why, "a replica is gone");
                // A pool that is gone does not want to know.
                let _ = end.send(why);
                Ok(())
            });
        // Dropped without a word only where the task panicked.
        is_started.await.unwrap_or(Err(StartError::Stopped))?;
        Ok(ended)
    }

    fn stop(&self, replica: &str) {
        if let Some(stop) = self.0.stops().get(replica) {
            stop.cancel();
        }
    }
}

type Started = oneshot::Sender<Result<(), StartError>>;

impl Inner {
    /// A replica's life; returns why it ended.
    async fn live(&self, spec: &ReplicaSpec, stop: &CancellationToken, started: Started) -> String {
        let mut here = Here {
            _used: None,
            folder: self.node.replicas.join(&spec.replica),
            made: None,
            group: None,
            child: None,
        };
        let brought = tokio::select! {
            brought = self.bring_up(spec, &mut here) => brought,
            () = stop.cancelled() => Err(StartError::Stopped),
        };
        let why = match (brought, here.child.as_mut()) {
            (Ok(()), Some(child)) => {
                info!(
                    replica = spec.replica,
                    service = spec.kind.service,
                    pid = child.id(),
                    "a replica is ready"
                );
                // Whoever waited may be gone: then it is idle, and stopped in its time.
                let _ = started.send(Ok(()));
                tokio::select! {
                    ended = child.wait() => shown(ended),
                    () = stop.cancelled() => "it was stopped".to_owned(),
                }
            }
            (brought, _) => {
                let error = brought.err().unwrap_or(StartError::Stopped);
                let why = error.to_string();
                let _ = started.send(Err(error));
                why
            }
        };
        self.host.expel(&spec.replica);
        here.clear(spec).await;
        why
    }

    /// From nothing to a replica that can be called. What it made lies in `here`, however far it came.
    async fn bring_up(&self, spec: &ReplicaSpec, here: &mut Here) -> Result<(), StartError> {
        let executable = self.host.executable(&spec.kind.digest).await;
        let executable = executable.map_err(|why| StartError::Executable {
            digest: spec.kind.digest.clone(),
            why,
        })?;
        here._used = Some(executable.used);
        let started = timeout(START_MAX, self.start_shim(spec, here, &executable.path)).await;
        started.unwrap_or_else(|_| {
            let why = format!("it did not register in {} s", START_MAX.as_secs());
            Err(StartError::NotReady(why))
        })
    }

    async fn start_shim(
        &self,
        spec: &ReplicaSpec,
        here: &mut Here,
        executable: &Path,
    ) -> Result<(), StartError> {
        // Its own alone, and gone with it: a stage that learns of one can pass for nobody else's replica.
        let ticket = hex::encode(rand::random::<[u8; 32]>());
        self.host
            .admit(&spec.replica, Sha256::digest(ticket.as_bytes()).into());
        let registered = self.host.registered(&spec.replica);
        here.group = self.cgroups.make(&spec.replica);
        let made = Folder::make(&here.folder, 0o700);
        let made = made
            .map_err(|error| StartError::Node(format!("cannot make {}: {error}", here.folder.display())))?;
        here.made = Some(made.into());
        let command = self.command(spec, here, executable, &ticket)?;
        // Not handed to another thread, from which a child could come back to nobody; it takes a millisecond or two.
        let spawned = Command::from(command).spawn();
        let path = self.node.shim.display();
        let spawned = spawned.map_err(|error| StartError::Node(format!("cannot run {path}: {error}")))?;
        let child = here.child.insert(spawned);
        tokio::select! {
            registered = registered => registered.map_err(|_| StartError::NotReady("its session ended".into())),
            ended = child.wait() => Err(StartError::NotReady(shown(ended))),
        }
    }

    fn command(
        &self,
        spec: &ReplicaSpec,
        here: &Here,
        executable: &Path,
        ticket: &str,
    ) -> Result<std::process::Command, StartError> {
        let node = &self.node;
        let mut command = std::process::Command::new(&node.shim);
        command
            .env_clear()
            .env("PIPES_SOCKET", &node.socket)
            .env("PIPES_REPLICA", &spec.replica)
            .env("PIPES_TOKEN", ticket)
            .env("PIPES_NODE", format!("{}/{}", node.cluster_id, node.id))
            .env("PIPES_NODE_NUMBER", node.id.to_string())
            .env("PIPES_SERVICE", &spec.kind.service)
            .env("PIPES_EXECUTABLE", executable)
            .env("PIPES_SCRATCH", &here.folder)
            .env("PIPES_SLOTS", spec.slots.to_string())
            .env("PIPES_WINDOW", spec.window.to_string())
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .current_dir("/");
        // What a shim has to say goes where the agent's own log goes.
        let log = io::stderr().as_fd().try_clone_to_owned();
        let log = log.map_err(|error| StartError::Node(format!("the log cannot be shared: {error}")))?;
        command.stdin(Stdio::null()).stdout(log).stderr(Stdio::inherit());
        let mut joined = None;
        if let Some(group) = &here.group {
            command.env("PIPES_CGROUP", group);
            joined = fs::OpenOptions::new()
                .write(true)
                .open(group.join("cgroup.procs"))
                .ok();
        }
        // SAFETY: only calls that are safe between fork and exec, on descriptors that this closure owns.
        unsafe {
            command.pre_exec(move || {
                if libc::setsid() < 0 {
                    return Err(io::Error::last_os_error());
                }
                libc::umask(0o022);
                if let Some(procs) = &joined {
                    // "0" is whoever writes it. Where that is not allowed, the replica runs outside of its group.
                    libc::write(procs.as_raw_fd(), c"0".as_ptr().cast(), 1);
                }
                Ok(())
            });
        }
        Ok(command)
    }

    fn stops(&self) -> std::sync::MutexGuard<'_, HashMap<String, CancellationToken>> {
        // Plain data, whole at every moment: another holder's panic does not spoil it.
        self.stops.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a replica has on this machine.
struct Here {
    /// Its executable stays as long as this.
    _used: Option<Box<dyn Send + Sync>>,
    folder: PathBuf,
    /// The folder, once it was made.
    made: Option<Arc<Folder>>,
    group: Option<PathBuf>,
    child: Option<Child>,
}

impl Here {
    /// Waits for the end of a shim that was told to, kills one that does not end, removes what is left.
    async fn clear(mut self, spec: &ReplicaSpec) {
        if let Some(child) = self.child.as_mut()
            && timeout(END_MAX, child.wait()).await.is_err()
        {
            warn!(
                replica = spec.replica,
                service = spec.kind.service,
                "a shim does not end and is killed"
            );
            if let Some(group) = self.group.clone() {
                // It waits until they are frozen. What cannot be killed so is killed below.
                let _ = tokio::task::spawn_blocking(move || cgroup::kill(&group)).await;
            }
            // Gone already is as good.
            let _ = child.kill().await;
        }
        let cleared = tokio::task::spawn_blocking(move || {
            if let Some(group) = &self.group {
                cgroup::remove(group);
            }
            if let Some(Err(why)) = self.made.map(left::remove) {
                let folder = self.folder.display();
                warn!(%folder, %why, "a replica's folder is left behind, for the agent's next start");
            }
        });
        // It fails only where the runtime is going down.
        let _ = cleared.await;
    }
}

fn shown(ended: io::Result<std::process::ExitStatus>) -> String {
    match ended {
        Ok(status) => format!("its shim ended: {status}"),
        Err(error) => format!("its shim cannot be waited for: {error}"),
    }
}

#[cfg(test)]
mod tests;
