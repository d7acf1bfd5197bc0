//! The world of the tests: a store of one node, agents over it, and runs that do as their input says.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use pipes_raft::{Class, Node, Options, Peer, Transport, TransportError};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::claim::Job;
use crate::error::Error;
use crate::jobs::{Accepted, Found, Jobs, Parts, Request};
use crate::key;
use crate::record::{Content, DoneState, OpenState};
use crate::seams::{Chance, Changes, Clock, Ended, Holders, Order, Output, Runs, Wanted, Workflows};
use crate::state::{Terms, Verdict};
use crate::submit::Input;

struct Nobody;

#[async_trait]
impl Transport for Nobody {
    async fn call(&self, _: &Peer, _: Class, _: Vec<u8>, _: Duration) -> Result<Vec<u8>, TransportError> {
        Err(TransportError::NotSent("nobody there".into()))
    }
}

type Begun = Arc<Mutex<BTreeSet<(String, u32)>>>;

/// Runs that do as their input says: `echo TEXT`, `exit N`, `hang`, `lost N` (the first N attempts), `big`.
struct Scripted {
    begun: Begun,
}

#[async_trait]
impl Runs for Scripted {
    async fn run(&self, order: Order, mut wanted: watch::Receiver<Wanted>) -> Ended {
        let is_new = self
            .begun
            .lock()
            .unwrap()
            .insert((order.job.clone(), order.attempt));
        assert!(is_new, "attempt {} of {} began twice", order.attempt, order.job);
        let text = String::from_utf8(order.input.unwrap_or_default()).unwrap();
        let (verb, rest) = text.split_once(' ').unwrap_or((&text, ""));
        let small = |text: &str| Some(Output::Small(text.as_bytes().to_vec()));
        let (verdict, output) = match verb {
            "echo" => (Verdict::Exited(0), small(rest)),
            "exit" => (Verdict::Exited(rest.parse().unwrap()), small("partial")),
            "lost" if order.attempt <= rest.parse().unwrap() => {
                let why = "a link broke".into();
                (
                    Verdict::Lost {
                        why,
                        is_server: false,
                    },
                    None,
                )
            }
            "lost" => (Verdict::Exited(0), small("at last")),
            "big" => {
                let content = Content {
                    bytes: 1 << 20,
                    sha256: "ab".repeat(32),
                    blob: true,
                };
                (Verdict::Exited(0), Some(Output::Blob(content)))
            }
            _ => {
                wanted
                    .wait_for(|wanted| *wanted >= Wanted::Terminate)
                    .await
                    .unwrap();
                (Verdict::Exited(143), small(""))
            }
        };
        Ended {
            verdict,
            stages: serde_json::json!([]),
            output,
        }
    }
}

struct All;

#[async_trait]
impl Holders for All {
    async fn has(&self, _: &str) -> bool {
        true
    }

    async fn sync(&self, _: &str) -> bool {
        true
    }

    async fn fetch(&self, _: &str) -> bool {
        true
    }

    async fn is_awaited(&self, _: &str) -> bool {
        false
    }

    async fn delete(&self, _: &str) {}
}

struct Clocks {
    beginning: Instant,
    sleeps: Arc<AtomicUsize>,
}

#[async_trait]
impl Clock for Clocks {
    fn monotonic(&self) -> Duration {
        self.beginning.elapsed()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    fn age_ms(&self) -> u64 {
        key::milliseconds(SystemTime::now())
    }

    async fn sleep(&self, duration: Duration) {
        self.sleeps.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(duration).await;
    }
}

struct Random(Mutex<u128>);

impl Chance for Random {
    fn bits(&self) -> u128 {
        let mut count = self.0.lock().unwrap();
        *count += 1;
        *count
    }
}

#[derive(Clone)]
struct Wishes(watch::Sender<Terms>);

struct Changed(watch::Receiver<Terms>);

#[async_trait]
impl Changes for Changed {
    async fn next(&mut self) {
        self.0.changed().await.unwrap();
    }
}

impl Workflows for Wishes {
    fn terms(&self, workflow: &str) -> Option<Terms> {
        (workflow == "w").then(|| self.0.borrow().clone())
    }

    fn changes(&self) -> Box<dyn Changes> {
        Box::new(Changed(self.0.subscribe()))
    }
}

/// A store, and the wish of the workflow `w`.
pub(super) struct World {
    pub(super) node: Node,
    wishes: Wishes,
    begun: Begun,
    sleeps: Arc<AtomicUsize>,
    _folder: tempfile::TempDir,
}

/// An agent that takes jobs up.
pub(super) struct Agent {
    pub(super) jobs: Jobs,
    node: u64,
    pub(super) stop: oneshot::Sender<()>,
    pub(super) task: JoinHandle<()>,
}

impl World {
    pub(super) async fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let options = Options::new(folder.path().to_owned(), "01test".to_owned());
        let node = Node::open(options, None, Arc::new(Nobody)).await.unwrap();
        node.initialize(SocketAddr::from(([127, 0, 0, 1], 1)))
            .await
            .unwrap();
        node.store().put(key::workflow("w"), "{}", None).await.unwrap();
        let terms = Terms {
            is_running: true,
            definition: 1,
            at_once: 4,
            retries: 0,
            timeout: None,
            keep: Duration::from_secs(3_600),
            grace: Duration::from_millis(50),
        };
        World {
            node,
            wishes: Wishes(watch::Sender::new(terms)),
            begun: Begun::default(),
            sleeps: Arc::default(),
            _folder: folder,
        }
    }

    /// The attempts that began.
    pub(super) fn begun(&self) -> BTreeSet<(String, u32)> {
        self.begun.lock().unwrap().clone()
    }

    /// How often agents went to sleep.
    pub(super) fn sleeps(&self) -> usize {
        self.sleeps.load(Ordering::Relaxed)
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Terms)) {
        self.wishes.0.send_modify(change);
    }

    /// A life begins: the presence hangs on a lease of its own.
    pub(super) async fn appear(&self, node: u64) -> i64 {
        let store = self.node.store();
        let lease = store.grant(Duration::from_secs(600), 0).await.unwrap();
        store.put(key::presence(node), "{}", Some(lease)).await.unwrap();
        lease
    }

    pub(super) async fn agent(&self, node: u64) -> Agent {
        self.appear(node).await;
        let jobs = Jobs::new(Parts {
            store: self.node.store(),
            node,
            runs: Box::new(Scripted {
                begun: self.begun.clone(),
            }),
            holders: Box::new(All),
            clock: Box::new(Clocks {
                beginning: Instant::now(),
                sleeps: self.sleeps.clone(),
            }),
            chance: Box::new(Random(Mutex::new(u128::from(node) << 64))),
            workflows: Box::new(self.wishes.clone()),
        });
        let (stop, stopped) = oneshot::channel();
        let run = jobs.clone();
        let task = tokio::spawn(async move {
            run.run(async {
                let _ = stopped.await;
            })
            .await;
        });
        Agent {
            jobs,
            node,
            stop,
            task,
        }
    }

    /// An agent dies: its process is gone, and its lease ends.
    pub(super) async fn kill(&self, agent: Agent) {
        agent.task.abort();
        let _ = agent.task.await;
        self.end_of(agent.node).await;
    }

    pub(super) async fn end_of(&self, node: u64) {
        let store = self.node.store();
        let presence = store.get(key::presence(node)).await.unwrap().unwrap();
        store.revoke(presence.lease).await.unwrap();
    }

    pub(super) async fn put(&self, key: Vec<u8>, value: &str) {
        self.node.store().put(key, value, None).await.unwrap();
    }

    pub(super) async fn keys(&self, prefix: &str) -> usize {
        self.node.store().prefix(prefix).await.unwrap().len()
    }
}

impl Agent {
    pub(super) async fn submit(&self, input: &str) -> String {
        self.with_key(input, None).await.unwrap().id
    }

    pub(super) async fn with_key(&self, input: &str, key: Option<&str>) -> Result<Accepted, Error> {
        let request = Request {
            workflow: "w".into(),
            key: key.map(str::to_owned),
            input: Input::Small(input.as_bytes().to_vec()),
            retry_of: None,
        };
        self.jobs.submit(request).await
    }

    pub(super) async fn ended(&self, id: &str) -> (DoneState, Option<i32>, u32, String) {
        let found = self.jobs.wait(id, Duration::from_secs(20)).await.unwrap();
        let Found::Done { done, .. } = found else {
            panic!("{id} has not ended: {found:?}");
        };
        let bytes = match &done.result {
            Some(content) => self.jobs.result(id, content).await.unwrap().unwrap_or_default(),
            None => Vec::new(),
        };
        (
            done.state,
            done.status,
            done.attempt,
            String::from_utf8(bytes).unwrap(),
        )
    }

    /// Waits until an attempt of it is on record as this agent's.
    pub(super) async fn running(&self, id: &str) -> Job {
        for _ in 0..2_000 {
            if let Found::Open(job) = self.jobs.look(id).await.unwrap()
                && job.open.state == OpenState::Running
                && job.open.owner.is_some_and(|owner| owner.node == self.node)
            {
                return *job;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{id} does not run");
    }
}
