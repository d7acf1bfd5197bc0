//! Wishes in a real store of one node.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use pipes_protocol::stage::File;
use pipes_raft::Node;
use tokio::sync::watch;

use super::*;
use crate::alone;
use crate::cluster::nodes::{self, Nodes};
use crate::config::{Config, Executor, Ports};
use crate::lifecycle::Lifecycle;
use crate::service;
use crate::service::{Kind, Record};
use crate::workflow::daemon::kept::remove_service;
use crate::workflow::daemon::port::Port;

/// Whose blobs are kept when the test says so.
struct Bytes(AtomicBool);

#[async_trait::async_trait]
impl Holders for Bytes {
    async fn has(&self, _: &str) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    async fn sync(&self, _: &str) -> bool {
        false
    }

    async fn fetch(&self, _: &str) -> bool {
        false
    }

    async fn is_awaited(&self, _: &str) -> bool {
        false
    }

    async fn delete(&self, _: &str) {}
}

/// Stages that are ready at once, or never.
struct Stages {
    asked: AtomicU32,
    are_ready: bool,
}

#[async_trait::async_trait]
impl Rollout for Stages {
    async fn ready(&self, _: &Definition) -> Result<Box<dyn Send>, Error> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        match self.are_ready {
            true => Ok(Box::new(())),
            false => Err(Error::Unavailable("never ready".into())),
        }
    }
}

fn ready(are_ready: bool) -> Stages {
    Stages {
        asked: AtomicU32::new(0),
        are_ready,
    }
}

struct World {
    _folder: tempfile::TempDir,
    node: Node,
    store: Store,
    quorum: Quorum,
    kept: Bytes,
    lifecycle: Lifecycle,
}

fn config() -> Config {
    Config {
        cluster: "local".into(),
        cluster_id: "01test".into(),
        name: "n1".into(),
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        data: PathBuf::new(),
        runtime: PathBuf::new(),
        executor: Executor::Process,
        ports: Ports::default(),
        members: Vec::new(),
        operators: Vec::new(),
        store: crate::config::Store::default(),
    }
}

async fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let node = alone::node(folder.path()).await;
    let store = node.store();
    let own = nodes::Record {
        id: node.id().unwrap(),
        name: "n1".into(),
        address: "127.0.0.1".into(),
        mesh: 1,
        wamp: 1,
        version: String::new(),
        started: String::new(),
    };
    let lifecycle = Lifecycle::new();
    let (_, links) = watch::channel(BTreeSet::new());
    let nodes = Nodes::start(own, store.clone(), links, &lifecycle);
    World {
        _folder: folder,
        quorum: Quorum::new(&config(), nodes, store.clone()),
        node,
        store,
        kept: Bytes(AtomicBool::new(true)),
        lifecycle,
    }
}

impl World {
    fn wishes(&self) -> Wishes<'_> {
        Wishes {
            store: &self.store,
            quorum: &self.quorum,
            holders: &self.kept,
            nodes: vec!["n1".into()],
            reserved: vec![7080],
        }
    }

    /// Builds a service; gives its digest.
    async fn build(&self, name: &str, bytes: &[u8]) -> String {
        let digest = Digest::of(bytes);
        let naming = Naming::begin(&self.store, &[digest.to_string()]).await.unwrap();
        let record = Record::new(name, digest, bytes.len() as u64, Kind::Script);
        service::put(&self.store, &record, &naming).await.unwrap();
        digest.to_string()
    }

    async fn start(&self, name: Option<&str>, line: &str) -> Result<Workflow, Error> {
        Ok(self.wishes().start(name, &asked(line)).await?.0)
    }

    /// Whether the workflow names the blob.
    async fn is_named(&self, name: &str, digest: &str) -> bool {
        let key = keys::blob_named_by(digest, &keys::workflow(name));
        self.store.get(key).await.unwrap().is_some()
    }

    async fn end(self) {
        self.lifecycle.stop(Duration::from_secs(5)).await;
        self.node.shutdown().await;
    }
}

fn asked(line: &str) -> Asked {
    Asked {
        line: Some(line.to_owned()),
        ..Asked::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_workflow_has_a_port_of_its_own_and_names_what_it_needs() {
    let world = world().await;
    let (cat, sort) = (
        world.build("cat", b"cat").await,
        world.build("sort", b"sort").await,
    );
    let first = world.start(Some("words"), "cat -n | sort").await.unwrap();
    assert_eq!(
        (first.port, first.revision, first.wish),
        (Some(7100), 1, Wish::Running)
    );
    assert_eq!(first.definition.stages[0].args, ["-n"]);
    assert!(world.is_named("words", &cat).await && world.is_named("words", &sort).await);
    assert_eq!(world.start(None, "cat").await.unwrap().port, Some(7101));
    let closed = Asked {
        port: Some(Port::None),
        ..asked("cat")
    };
    assert_eq!(
        world
            .wishes()
            .start(Some("closed"), &closed)
            .await
            .unwrap()
            .0
            .port,
        None
    );
    let taken = Asked {
        port: Some(Port::Own(7100)),
        ..asked("cat")
    };
    let refused = world.wishes().start(None, &taken).await.unwrap_err();
    assert!(refused.to_string().contains("workflow words's"), "{refused}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_somebodys_or_made_unique() {
    let world = world().await;
    world.build("greet.py", b"greet").await;
    assert_eq!(world.start(None, "greet.py").await.unwrap().name, "greet-py");
    assert_eq!(world.start(None, "greet.py").await.unwrap().name, "greet-py-2");
    let refused = world.start(Some("greet-py"), "greet.py").await.unwrap_err();
    assert!(refused.to_string().contains("pipes update greet-py"), "{refused}");
    assert!(world.start(Some("Greet"), "greet.py").await.is_err());
    let unknown = world.wishes().get("gret-py").await.unwrap_err();
    assert!(
        unknown.to_string().contains("did you mean greet-py?"),
        "{unknown}"
    );
    let line = world.start(None, "greet.py >x").await.unwrap_err();
    assert_eq!(line.uri(), "pipes.error.syntax");
    let service = world.start(None, "gret.py").await.unwrap_err();
    assert_eq!(service.uri(), "pipes.error.unknown_service");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_that_start_at_once_have_each_a_name_and_a_port() {
    let world = world().await;
    world.build("cat", b"cat").await;
    let begun = (0..8).map(|_| world.start(None, "cat"));
    let begun = futures::future::try_join_all(begun).await.unwrap();
    let names: BTreeSet<&str> = begun.iter().map(|workflow| workflow.name.as_str()).collect();
    let ports: BTreeSet<Option<u16>> = begun.iter().map(|workflow| workflow.port).collect();
    assert_eq!((names.len(), ports.len()), (8, 8));
    assert_eq!(ports.last(), Some(&Some(7107)));
    let scaled = (1..=8).map(|count| async move { count });
    let scaled = futures::future::join_all(scaled).await;
    let wishes = world.wishes();
    let changes = scaled.into_iter().map(|count| {
        let wishes = &wishes;
        async move { wishes.scale("cat", &[("1".to_owned(), count)]).await }
    });
    futures::future::try_join_all(changes).await.unwrap();
    let revision = world.wishes().get("cat").await.unwrap().revision;
    assert!(revision > 1, "none was lost to another's");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_stay_until_an_update_and_a_rollback_brings_the_former_back() {
    let world = world().await;
    let old = world.build("cat", b"old").await;
    world.start(Some("w"), "cat").await.unwrap();
    let new = world.build("cat", b"new").await;
    let wishes = world.wishes();
    assert_eq!(wishes.get("w").await.unwrap().definition.stages[0].digest, old);
    let rollout = ready(true);
    let (updated, _) = wishes.update("w", &Asked::default(), &rollout).await.unwrap();
    assert_eq!(
        (updated.revision, &updated.definition.stages[0].digest),
        (2, &new)
    );
    assert!(world.is_named("w", &old).await && world.is_named("w", &new).await);
    let (same, _) = wishes.update("w", &Asked::default(), &rollout).await.unwrap();
    assert_eq!(
        (same.revision, rollout.asked.load(Ordering::Relaxed)),
        (2, 1),
        "nothing to be done"
    );
    let back = wishes.roll_back("w", &rollout).await.unwrap();
    assert_eq!((back.revision, &back.definition.stages[0].digest), (3, &old));
    assert!(!world.is_named("w", &new).await, "nothing needs it any more");
    assert!(wishes.roll_back("w", &rollout).await.is_err());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_whose_stages_are_never_ready_changes_nothing() {
    let world = world().await;
    world.build("cat", b"cat").await;
    let before = world.start(Some("w"), "cat").await.unwrap();
    let wishes = world.wishes();
    let refused = wishes
        .update("w", &asked("cat | cat"), &ready(false))
        .await
        .unwrap_err();
    assert_eq!(refused.to_string(), "never ready");
    assert_eq!(wishes.get("w").await.unwrap(), before);
    wishes.stop("w", Duration::ZERO).await.unwrap();
    let (stopped, _) = wishes
        .update("w", &asked("cat | cat"), &ready(false))
        .await
        .unwrap();
    assert_eq!(
        stopped.definition.stages.len(),
        2,
        "one that is stopped needs no replica"
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_or_has_unfinished_jobs_is_not_removed() {
    let world = world().await;
    let cat = world.build("cat", b"cat").await;
    world.start(Some("w"), "cat").await.unwrap();
    let wishes = world.wishes();
    assert!(matches!(wishes.remove("w", false).await, Err(Error::Runs(_))));
    wishes.stop("w", Duration::ZERO).await.unwrap();
    let job = [keys::open_jobs("w"), b"j1".to_vec()].concat();
    world.store.put(job.clone(), b"{}".to_vec(), None).await.unwrap();
    assert!(matches!(wishes.remove("w", false).await, Err(Error::HasJobs(_))));
    world.store.delete(job).await.unwrap();
    wishes.remove("w", false).await.unwrap();
    assert!(!world.is_named("w", &cat).await);
    assert!(matches!(wishes.remove("w", false).await, Err(Error::None { .. })));
    world.start(Some("w"), "cat").await.unwrap();
    wishes.remove("w", true).await.unwrap();
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_a_workflow_runs_is_not_removed() {
    let world = world().await;
    world.build("cat", b"cat").await;
    world.build("tac", b"tac").await;
    world.start(Some("w"), "cat").await.unwrap();
    let refused = remove_service(&world.store, "cat").await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "service cat is used by workflow w; update or remove that first"
    );
    remove_service(&world.store, "tac").await.unwrap();
    let wishes = world.wishes();
    wishes.remove("w", true).await.unwrap();
    remove_service(&world.store, "cat").await.unwrap();
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_named_where_a_majority_has_it_and_else_refused() {
    let world = world().await;
    world.build("cat", b"cat").await;
    let digest = Digest::of(b"file");
    let file = File {
        digest: digest.to_string(),
        name: "words".into(),
        executable: false,
    };
    let asked = Asked {
        files: vec![file],
        ..asked("cat")
    };
    world.kept.0.store(false, Ordering::Relaxed);
    let refused = world.wishes().start(Some("w"), &asked).await.unwrap_err();
    assert!(refused.to_string().contains("the bytes of words"), "{refused}");
    world.kept.0.store(true, Ordering::Relaxed);
    world.wishes().start(Some("w"), &asked).await.unwrap();
    assert!(world.is_named("w", &digest.to_string()).await);
    world.end().await;
}
