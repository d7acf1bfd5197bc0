//! Puts the executor together: shim, settings, pool, procedures.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use pipes_raft::Store;
use pipes_router::{Role, Router};
use pipes_wamp::client::{Connection, Session};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};

use crate::blob::{Blobs, Digest};
use crate::config::Config;
use crate::executor::confine::Confine;
use crate::executor::logs::Logs;
use crate::executor::pool::{self, Pool};
use crate::executor::procedures::{self, Files, Procedures};
use crate::executor::process::{Node, Process, Surroundings};
use crate::executor::settings::Settings;
use crate::follow::{Change, Follow};
use crate::keys;
use crate::lifecycle::{Kind, Lifecycle};
use crate::service;

/// Coordinators that wait to be told of a free slot; the rest ask by themselves after a second.
const FREED_MAX: usize = 1_000;

/// The realm of shims and agents.
const REALM: &str = "pipes.stages";

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
    /// Runs the tasks.
    pub lifecycle: Lifecycle,
}

/// What others may use of the executor.
#[derive(Clone)]
pub struct Started {
    /// The slots of this node.
    pub pool: Pool,
    /// What stages said, kept by whoever coordinates their runs.
    pub logs: Logs,
}

/// Starts the executor; when this returns, coordinators may ask this node.
pub async fn start(parts: Parts) -> anyhow::Result<Started> {
    let Parts {
        config,
        node,
        store,
        router,
        blobs,
        lifecycle,
    } = parts;
    let shim = shim()?;
    let folder = config.data.join("logs");
    let logs =
        Logs::open(folder.clone()).with_context(|| format!("cannot keep logs in {}", folder.display()))?;
    let about = Node {
        cluster_id: config.cluster_id.clone(),
        id: node,
        shim,
        socket: config.stages_socket(),
        replicas: config.data.join("replicas"),
    };
    let around = Box::new(Around {
        router: router.clone(),
        blobs: blobs.clone(),
    });
    let of_executor = lifecycle.clone();
    let process = tokio::task::spawn_blocking(move || {
        let confine = Confine::open(&about.cluster_id, about.id);
        let replicas = about.replicas.display().to_string();
        Process::open(about, around, confine, of_executor).with_context(|| format!("cannot use {replicas}"))
    });
    let process = process.await??;
    let own = router
        .attach(REALM, Role::Agent)
        .context("the router gives the executor no session")?;
    let session = Session::start(Connection::welcomed(own.stream));
    let (freed, to_tell) = mpsc::channel(FREED_MAX);
    let pool = Pool::start(pool::Parts {
        node,
        executor: Arc::new(process),
        settings: follow_settings(store, &lifecycle),
        links: router.links(),
        freed,
        lifecycle: lifecycle.clone(),
    });
    let procedures = Procedures::register(&session, node).await?;
    let files = Arc::new(Around { router, blobs });
    lifecycle.spawn(
        Kind::Part,
        "executor",
        procedures.serve(pool.clone(), files, lifecycle.clone()),
    );
    lifecycle.spawn(Kind::Work, "telling of free slots", async move {
        procedures::tell_freed(session, to_tell).await;
        Ok(())
    });
    Ok(Started { pool, logs })
}

/// The agent's router and blobs, as replicas need them.
struct Around {
    router: Router,
    blobs: Blobs,
}

#[async_trait::async_trait]
impl Files for Around {
    async fn path(&self, digest: &str) -> Result<PathBuf, String> {
        let digest = digest.parse::<Digest>().map_err(|error| error.to_string())?;
        self.blobs
            .ensure(&digest)
            .await
            .map_err(|error| error.to_string())
    }
}

#[async_trait::async_trait]
impl Surroundings for Around {
    async fn executable(&self, digest: &str) -> Result<PathBuf, String> {
        self.path(digest).await
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

/// The settings in force, and every change of them.
fn follow_settings(store: Store, lifecycle: &Lifecycle) -> watch::Receiver<Settings> {
    let (sender, settings) = watch::channel(Settings::default());
    let stopping = lifecycle.stopping();
    lifecycle.spawn(Kind::Part, "settings of the executor", async move {
        let mut follow = Follow::new(store, keys::settings());
        while let Some(change) = stopping.run_until_cancelled(follow.next()).await {
            let mut settings = *sender.borrow();
            apply(&mut settings, change);
            sender.send_if_modified(|known| std::mem::replace(known, settings) != settings);
        }
        Ok(())
    });
    settings
}

fn apply(settings: &mut Settings, change: Change) {
    let prefix = keys::settings();
    match change {
        Change::All(all) => {
            *settings = Settings::default();
            for kv in &all {
                set(settings, &prefix, &kv.key, Some(&kv.value));
            }
        }
        Change::Events(events) => {
            for event in &events {
                let value = (event.kind == pipes_raft::EventKind::Put).then_some(event.kv.value.as_slice());
                set(settings, &prefix, &event.kv.key, value);
            }
        }
    }
}

fn set(settings: &mut Settings, prefix: &[u8], key: &[u8], value: Option<&[u8]>) {
    let Some(name) = keys::after(key, prefix) else {
        return;
    };
    match value.map(serde_json::from_slice::<Value>) {
        None => settings.apply(name, None),
        Some(Ok(value)) => settings.apply(name, Some(&value)),
        Some(Err(error)) => tracing::warn!(name, %error, "a setting is not readable and changes nothing"),
    }
}

/// The shim beside this agent's own executable. It must be static: it also runs where there are no libraries.
fn shim() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("where this agent's executable lies cannot be told")?;
    let path = own.with_file_name("pipes-shim");
    check_shim(&path)?;
    Ok(path)
}

fn check_shim(path: &Path) -> anyhow::Result<()> {
    let bytes = std::fs::read(path).with_context(|| {
        format!(
            "no shim at {}; build the workspace's binaries with: cargo build --release --workspace --bins",
            path.display()
        )
    })?;
    if service::needs_interpreter(&bytes) {
        bail!(
            "the shim {} is not static; build it with: cargo rustc --release -p pipes-shim --bin pipes-shim -- -C target-feature=+crt-static",
            path.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipes_raft::{Event, EventKind, KeyValue};

    fn kv(name: &str, value: &str) -> KeyValue {
        KeyValue {
            key: keys::setting(name),
            value: value.into(),
            ..KeyValue::default()
        }
    }

    #[test]
    fn settings_follow_the_store() {
        let mut settings = Settings::default();
        apply(
            &mut settings,
            Change::All(vec![kv("slots", "4"), kv("warm", "1.5"), kv("later", "{}")]),
        );
        assert_eq!((settings.slots, settings.warm.as_millis()), (4, 1_500));
        let event = |kind, kv| Event { kind, kv, prev: None };
        let events = vec![
            event(EventKind::Delete, kv("slots", "")),
            event(EventKind::Put, kv("replicas", "2")),
        ];
        apply(&mut settings, Change::Events(events));
        assert_eq!((settings.slots, settings.replicas), (16, 2));
        apply(&mut settings, Change::All(vec![kv("replicas", "two")]));
        assert_eq!(settings, Settings::default());
    }

    #[test]
    fn a_shim_that_is_missing_or_not_static_is_told_with_what_to_do() {
        let error = check_shim(Path::new("/nowhere/pipes-shim")).unwrap_err();
        assert!(format!("{error:#}").contains("cargo build"));
        let own = std::env::current_exe().unwrap();
        assert!(check_shim(&own).unwrap_err().to_string().contains("crt-static"));
    }
}
