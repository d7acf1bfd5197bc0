//! The pool's task with an executor that starts nothing.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use pipes_protocol::reservation::{PrepareError, Wanted};

use super::*;
use crate::executor::backend::{ReplicaSpec, StartError};
use crate::executor::pool::answer::Prepared;

/// Replicas that are ready when the test says so, and end when they are told to.
#[derive(Default)]
struct Fake {
    starting: Mutex<HashMap<String, oneshot::Sender<Result<(), StartError>>>>,
    running: Mutex<HashMap<String, oneshot::Sender<String>>>,
    stopped: Mutex<Vec<String>>,
    /// Replicas are ready at once.
    is_quick: bool,
}

#[async_trait::async_trait]
impl Backend for Fake {
    async fn start(&self, spec: &ReplicaSpec) -> Result<oneshot::Receiver<String>, StartError> {
        if !self.is_quick {
            let (started, is_started) = oneshot::channel();
            self.starting
                .lock()
                .unwrap()
                .insert(spec.service.clone(), started);
            is_started.await.unwrap()?;
        }
        let (end, ended) = oneshot::channel();
        self.running.lock().unwrap().insert(spec.replica.clone(), end);
        Ok(ended)
    }

    fn stop(&self, replica: &str) {
        self.stopped.lock().unwrap().push(replica.to_owned());
        if let Some(end) = self.running.lock().unwrap().remove(replica) {
            let _ = end.send("stopped".into());
        }
    }
}

struct World {
    pool: Pool,
    fake: Arc<Fake>,
    lifecycle: Lifecycle,
    links: watch::Sender<BTreeSet<u64>>,
    settings: watch::Sender<Settings>,
    freed: mpsc::Receiver<(u64, String)>,
}

fn world(is_quick: bool) -> World {
    let fake = Arc::new(Fake {
        is_quick,
        ..Fake::default()
    });
    let settings = Settings {
        slots: 1,
        replicas: 1,
        ..Settings::default()
    };
    let (settings, followed) = watch::channel(settings);
    let (links, linked) = watch::channel(BTreeSet::from([2]));
    let (sender, freed) = mpsc::channel(10);
    let lifecycle = Lifecycle::new();
    let pool = Pool::start(Parts {
        node: 1,
        backend: fake.clone(),
        settings: followed,
        links: linked,
        freed: sender,
        lifecycle: lifecycle.clone(),
    });
    World {
        pool,
        fake,
        lifecycle,
        links,
        settings,
        freed,
    }
}

impl World {
    async fn prepare(&self, run: &str, coordinator: u64) -> Preparing {
        let wanted = Wanted {
            stage: 1,
            service: "cat".into(),
            digest: "sha256:ab".into(),
            fresh: false,
        };
        let request = Prepare {
            run: run.into(),
            coordinator,
            attempt: 1,
            stages: vec![wanted],
            files: Vec::new(),
            wait: false,
        };
        self.pool.prepare(request).await
    }

    /// Waits until a replica of `service` is being started, and decides how that ends.
    async fn started(&self, service: &str, result: Result<(), StartError>) {
        loop {
            let started = self.fake.starting.lock().unwrap().remove(service);
            match started {
                Some(started) => return started.send(result).unwrap(),
                None => tokio::task::yield_now().await,
            }
        }
    }

    async fn used(&self) -> usize {
        self.pool.count().await.unwrap().0
    }
}

fn replica(answer: Option<Answer>) -> String {
    match answer {
        Some(Answer::Ready(Prepared { places })) => places[0].replica.clone(),
        other => panic!("no replica, but {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_prepare_is_reserved_and_then_ready() {
    let world = world(false);
    let mut preparing = world.prepare("r1", 2).await;
    assert_eq!(preparing.next().await, Some(Answer::Reserved));
    world.started("cat", Ok(())).await;
    let first = replica(preparing.next().await);
    assert_eq!(preparing.next().await, None);
    drop(preparing);
    world.pool.commit("r1").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.used().await, 1, "kept, though whoever prepared is gone");
    world.pool.abort("r1", 1).await;
    assert_eq!(world.used().await, 0);
    let mut again = world.prepare("r2", 1).await;
    assert_eq!(again.next().await, Some(Answer::Reserved));
    assert_eq!(replica(again.next().await), first, "it is warm");
}

#[tokio::test(start_paused = true)]
async fn idle_replicas_are_stopped_by_the_clock() {
    let world = world(true);
    let mut preparing = world.prepare("r1", 2).await;
    preparing.next().await;
    let started = replica(preparing.next().await);
    world.pool.abort("r1", 1).await;
    tokio::time::sleep(Duration::from_secs(599)).await;
    assert!(world.fake.stopped.lock().unwrap().is_empty());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(*world.fake.stopped.lock().unwrap(), [started]);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_is_told_to_whoever_waits() {
    let world = world(false);
    let mut preparing = world.prepare("r1", 2).await;
    preparing.next().await;
    world
        .started("cat", Err(StartError::NotReady("no answer in 10 s".into())))
        .await;
    let Some(Answer::Failed(PrepareError::Unavailable(why))) = preparing.next().await else {
        panic!()
    };
    assert!(why.contains("no answer in 10 s"), "{why}");
    assert_eq!(world.used().await, 0);
}

#[tokio::test(start_paused = true)]
async fn whoever_was_told_full_hears_of_a_free_slot() {
    let mut world = world(true);
    let mut first = world.prepare("r1", 2).await;
    first.next().await;
    replica(first.next().await);
    let mut second = world.prepare("r2", 2).await;
    assert_eq!(second.next().await, Some(Answer::Failed(PrepareError::Full)));
    world.pool.abort("r1", 1).await;
    assert_eq!(world.freed.recv().await, Some((2, "r2".into())));
}

#[tokio::test(start_paused = true)]
async fn a_prepare_that_is_dropped_has_nothing() {
    let world = world(false);
    let mut preparing = world.prepare("r1", 2).await;
    preparing.next().await;
    assert_eq!(world.used().await, 1);
    drop(preparing);
    assert_eq!(world.used().await, 0);
    world.started("cat", Ok(())).await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_link_frees_what_its_coordinators_had() {
    let world = world(true);
    let mut preparing = world.prepare("r1", 2).await;
    preparing.next().await;
    replica(preparing.next().await);
    world.pool.commit("r1").await;
    world.links.send_replace(BTreeSet::from([3]));
    while world.used().await != 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn settings_are_followed() {
    let world = world(true);
    let mut first = world.prepare("r1", 2).await;
    first.next().await;
    replica(first.next().await);
    world.settings.send_replace(Settings {
        slots: 1,
        replicas: 2,
        ..Settings::default()
    });
    tokio::task::yield_now().await;
    let mut second = world.prepare("r2", 2).await;
    assert_eq!(second.next().await, Some(Answer::Reserved));
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_stops_stops_its_replicas_and_leaves_no_task() {
    let world = world(true);
    let mut preparing = world.prepare("r1", 2).await;
    preparing.next().await;
    let started = replica(preparing.next().await);
    assert!(world.lifecycle.stop(Duration::from_secs(5)).await);
    assert_eq!(*world.fake.stopped.lock().unwrap(), [started]);
    assert_eq!(world.pool.count().await, None);
    assert_eq!(world.prepare("r2", 2).await.next().await, None);
}
