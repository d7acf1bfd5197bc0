//! The pool's task with an executor that starts nothing.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use pipes_protocol::reservation::{PrepareError, Wanted};
use tokio::time::Instant;

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
                .insert(spec.kind.service.clone(), started);
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
    settings: watch::Sender<Settings>,
}

fn world(is_quick: bool) -> World {
    let settings = Settings {
        slots: 1,
        replicas: 1,
        ..Settings::default()
    };
    world_with(settings, is_quick)
}

fn world_with(settings: Settings, is_quick: bool) -> World {
    let fake = Arc::new(Fake {
        is_quick,
        ..Fake::default()
    });
    let (settings, followed) = watch::channel(settings);
    let lifecycle = Lifecycle::new();
    let pool = Pool::start(Parts {
        backend: fake.clone(),
        settings: followed,
        lifecycle: lifecycle.clone(),
    });
    World {
        pool,
        fake,
        lifecycle,
        settings,
    }
}

impl World {
    async fn prepare(&self) -> Preparing {
        let wanted = Wanted {
            stage: 1,
            kind: pipes_protocol::supply::Kind {
                service: "cat".into(),
                digest: "sha256:ab".into(),
            },
            fresh: false,
        };
        let request = Prepare {
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
    let mut preparing = world.prepare().await;
    assert_eq!(preparing.next().await, Some(Answer::Reserved));
    world.started("cat", Ok(())).await;
    let first = replica(preparing.next().await);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.used().await, 1, "its run may take its time");
    drop(preparing);
    assert_eq!(world.used().await, 0);
    let mut again = world.prepare().await;
    assert_eq!(again.next().await, Some(Answer::Reserved));
    assert_eq!(replica(again.next().await), first, "it is warm");
}

#[tokio::test(start_paused = true)]
async fn idle_replicas_are_stopped_by_the_clock() {
    let world = world(true);
    let mut preparing = world.prepare().await;
    preparing.next().await;
    let started = replica(preparing.next().await);
    drop(preparing);
    world.used().await;
    tokio::time::sleep(Duration::from_secs(599)).await;
    assert!(world.fake.stopped.lock().unwrap().is_empty());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(*world.fake.stopped.lock().unwrap(), [started]);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_is_told_to_whoever_waits() {
    let world = world(false);
    let mut preparing = world.prepare().await;
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
async fn what_is_free_is_shown_as_it_changes() {
    let world = world(true);
    let mut supply = world.pool.supply();
    assert_eq!(supply.borrow_and_update().stages, 0);
    let preparing = world.prepare().await;
    supply.wait_for(|supply| supply.stages == 1).await.unwrap();
    drop(preparing);
    supply.wait_for(|supply| supply.stages == 0).await.unwrap();
    let ready = supply.wait_for(|supply| supply.kinds.iter().any(|of| of.ready == 1));
    assert_eq!(ready.await.unwrap().kinds[0].replicas, 1);
}

/// More are dropped at once than commands have room, while the pool does nothing.
#[tokio::test(start_paused = true)]
async fn no_drop_is_lost_however_many_there_are() {
    let settings = Settings {
        slots: 256,
        ..Settings::default()
    };
    let world = world_with(settings, true);
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(world.prepare().await);
    }
    assert_eq!(world.used().await, 20);
    for _ in 0..COMMANDS_MAX - 1 {
        let (count, _) = oneshot::channel();
        world.pool.commands.try_send(Command::Count(count)).unwrap();
    }
    drop(held);
    assert_eq!(world.used().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_prepare_that_is_given_up_before_it_is_taken_up_has_nothing() {
    let world = world(true);
    let request = Prepare {
        stages: Vec::new(),
        files: Vec::new(),
        wait: true,
    };
    let asked = world.pool.prepare(request);
    drop(asked);
    drop(world.prepare().await);
    assert_eq!(world.used().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_prepare_that_is_dropped_has_nothing() {
    let world = world(false);
    let mut preparing = world.prepare().await;
    preparing.next().await;
    assert_eq!(world.used().await, 1);
    drop(preparing);
    assert_eq!(world.used().await, 0);
    world.started("cat", Ok(())).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_wished_is_kept_and_shown() {
    let world = world(true);
    let mut supply = world.pool.supply();
    let kind = pipes_protocol::supply::Kind {
        service: "cat".into(),
        digest: "sha256:ab".into(),
    };
    world.pool.wish([(kind, 2)].into()).await;
    let are_up = supply.wait_for(|supply| supply.kinds.iter().any(|of| of.up == 2));
    assert_eq!(are_up.await.unwrap().kinds[0].wished, 2);
    tokio::time::sleep(Duration::from_secs(10_000)).await;
    assert!(world.fake.stopped.lock().unwrap().is_empty());
    world.pool.wish(BTreeMap::new()).await;
    let are_gone = supply.wait_for(|supply| supply.kinds.is_empty());
    are_gone.await.unwrap();
    assert_eq!(world.fake.stopped.lock().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_wished_replica_that_fails_is_tried_again_by_the_clock() {
    let world = world(false);
    let mut supply = world.pool.supply();
    let kind = pipes_protocol::supply::Kind {
        service: "cat".into(),
        digest: "sha256:ab".into(),
    };
    world.pool.wish([(kind, 1)].into()).await;
    world
        .started("cat", Err(StartError::NotReady("killed".into())))
        .await;
    let failing = supply.wait_for(|supply| supply.kinds.iter().any(|of| of.failing.is_some()));
    let failing = failing.await.unwrap().kinds[0].failing.clone().unwrap();
    assert_eq!(
        (failing.failures, failing.why.as_str()),
        (1, "a replica was not ready: killed")
    );
    let began = Instant::now();
    while world.fake.starting.lock().unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(began.elapsed().as_secs(), 1);
    world.started("cat", Ok(())).await;
    let is_up = supply.wait_for(|supply| supply.kinds.iter().any(|of| of.up == 1 && of.failing.is_none()));
    is_up.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn settings_are_followed() {
    let world = world(true);
    let mut first = world.prepare().await;
    first.next().await;
    replica(first.next().await);
    world.settings.send_replace(Settings {
        slots: 1,
        replicas: 2,
        ..Settings::default()
    });
    tokio::task::yield_now().await;
    let mut second = world.prepare().await;
    assert_eq!(second.next().await, Some(Answer::Reserved));
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_stops_stops_its_replicas_and_leaves_no_task() {
    let world = world(true);
    let mut preparing = world.prepare().await;
    preparing.next().await;
    let started = replica(preparing.next().await);
    assert!(world.lifecycle.stop(Duration::from_secs(5)).await);
    assert_eq!(*world.fake.stopped.lock().unwrap(), [started]);
    assert_eq!(world.pool.count().await, None);
    assert_eq!(world.prepare().await.next().await, None);
}
