//! A group in one process: nodes over a transport in memory whose links can be cut and whose answers can be lost.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pipes_raft::{Class, Node, Options, Peer, Status, Store, Transport, TransportError};
use tempfile::TempDir;

/// Longest that anything a test waits for may take; a busy machine is slow.
pub const LIMIT: Duration = Duration::from_secs(30);

/// The wires between all nodes of a test.
#[derive(Default)]
pub struct Wires {
    nodes: Mutex<BTreeMap<SocketAddr, Arc<Node>>>,
    cut: Mutex<HashSet<SocketAddr>>,
    /// Nodes whose answers to forwarded requests are lost.
    deaf: Mutex<HashSet<SocketAddr>>,
    /// Messages carried, by class.
    pub forwarded: AtomicU64,
    /// Raft's own messages that reached nobody because a node is cut off.
    pub lost: AtomicU64,
}

struct Wire {
    own: SocketAddr,
    wires: Arc<Wires>,
}

#[async_trait::async_trait]
impl Transport for Wire {
    async fn call(
        &self,
        to: &Peer,
        class: Class,
        request: Vec<u8>,
        timeout: Duration,
    ) -> Result<Vec<u8>, TransportError> {
        let is_cut = |address| self.wires.cut.lock().unwrap().contains(address);
        let node = self.wires.nodes.lock().unwrap().get(&to.address).cloned();
        let Some(node) = node.filter(|_| !is_cut(&to.address) && !is_cut(&self.own)) else {
            if class == Class::Raft && is_cut(&self.own) {
                self.wires.lost.fetch_add(1, Ordering::Relaxed);
            }
            return Err(TransportError::NotSent("nobody there".into()));
        };
        if class == Class::Forward {
            self.wires.forwarded.fetch_add(1, Ordering::Relaxed);
        }
        // A task of its own, as over a real link: the peer goes on when the caller gives up.
        let answering = tokio::spawn(async move { node.serve(request).await });
        let answer = tokio::time::timeout(timeout, answering).await;
        let is_deaf = class == Class::Forward && self.wires.deaf.lock().unwrap().contains(&self.own);
        match answer {
            Ok(Ok(answer)) if !is_deaf && !is_cut(&to.address) && !is_cut(&self.own) => Ok(answer),
            _ => Err(TransportError::Unknown("no answer".into())),
        }
    }
}

/// A group under test.
pub struct Cluster {
    pub wires: Arc<Wires>,
    pub folder: TempDir,
    pub options: fn(Options) -> Options,
}

pub fn address(number: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], number))
}

impl Cluster {
    /// An empty one, whose nodes are opened with options changed by `options`.
    pub fn empty(options: fn(Options) -> Options) -> Cluster {
        Cluster {
            wires: Arc::default(),
            folder: tempfile::tempdir().unwrap(),
            options,
        }
    }

    /// One of `count` nodes, all of them voters (at most five).
    pub async fn of(count: u16) -> Cluster {
        Cluster::with(count, |options| options).await
    }

    pub async fn with(count: u16, options: fn(Options) -> Options) -> Cluster {
        let cluster = Cluster::empty(options);
        cluster.open(1).await.initialize(address(1)).await.unwrap();
        for number in 2..=count {
            cluster.join(number).await;
        }
        cluster.settled(count.min(5)).await;
        cluster
    }

    /// Waits until all nodes agree on so many voters.
    pub async fn settled(&self, voters: u16) {
        wait_until("all are voters", || {
            let nodes = self.wires.nodes.lock().unwrap();
            nodes.values().all(|node| {
                let status = node.status();
                status.voters.is_empty() || status.voters.len() == usize::from(voters)
            })
        })
        .await;
        // While the change is under way, a quorum is one of the members before as well.
        let any = self
            .wires
            .nodes
            .lock()
            .unwrap()
            .keys()
            .next()
            .map(SocketAddr::port);
        self.quiet(any.unwrap()).await;
    }

    /// Waits until nothing but what `number` writes comes into the log (a change of members ends with an entry of
    /// its own), and gives the index that all have applied.
    pub async fn quiet(&self, number: u16) -> u64 {
        let began = Instant::now();
        loop {
            self.store(number).put("quiet", "", None).await.unwrap();
            let first = self.status(number).applied;
            self.store(number).put("quiet", "", None).await.unwrap();
            let second = self.status(number).applied;
            if second == first + 1 {
                let nodes: Vec<_> = self.wires.nodes.lock().unwrap().values().cloned().collect();
                wait_until("all have applied it", || {
                    nodes.iter().all(|node| node.status().applied >= second)
                })
                .await;
                return second;
            }
            assert!(began.elapsed() < LIMIT, "the log does not become quiet");
        }
    }

    pub fn folder(&self, number: u16) -> PathBuf {
        self.folder.path().join(format!("n{number}"))
    }

    pub async fn try_open(&self, number: u16) -> Result<Arc<Node>, pipes_raft::Error> {
        self.open_with(number, self.options).await
    }

    async fn open_with(
        &self,
        number: u16,
        change: fn(Options) -> Options,
    ) -> Result<Arc<Node>, pipes_raft::Error> {
        let mut options = Options::new(self.folder(number), "test");
        options.name = format!("n{number}");
        let wire = Wire {
            own: address(number),
            wires: self.wires.clone(),
        };
        let node = Arc::new(Node::open(change(options), None, Arc::new(wire)).await?);
        self.wires
            .nodes
            .lock()
            .unwrap()
            .insert(address(number), node.clone());
        Ok(node)
    }

    /// Opens a node on its folder.
    pub async fn open(&self, number: u16) -> Arc<Node> {
        self.try_open(number).await.unwrap()
    }

    /// Opens a node and has it join by way of the first.
    pub async fn join(&self, number: u16) -> u64 {
        let node = self.open(number).await;
        self.join_by(number, &node).await
    }

    /// The same, with options as they are.
    pub async fn join_unchanged(&self, number: u16) -> u64 {
        let node = self.open_with(number, |options| options).await.unwrap();
        self.join_by(number, &node).await
    }

    async fn join_by(&self, number: u16, node: &Node) -> u64 {
        let joined = node
            .join(&self.others(number), &format!("n{number}"), address(number))
            .await;
        joined.unwrap_or_else(|error| panic!("node {number} cannot join: {error}"))
    }

    pub fn others(&self, number: u16) -> Vec<SocketAddr> {
        let nodes = self.wires.nodes.lock().unwrap();
        nodes
            .keys()
            .copied()
            .filter(|other| *other != address(number))
            .collect()
    }

    pub fn node(&self, number: u16) -> Arc<Node> {
        self.wires.nodes.lock().unwrap()[&address(number)].clone()
    }

    pub fn store(&self, number: u16) -> Store {
        self.node(number).store()
    }

    pub fn status(&self, number: u16) -> Status {
        self.node(number).status()
    }

    /// Closes a node in order.
    pub async fn close(&self, number: u16) {
        let node = self.wires.nodes.lock().unwrap().remove(&address(number)).unwrap();
        tokio::time::timeout(LIMIT, node.shutdown())
            .await
            .expect("a node that closes in time");
    }

    pub fn cut(&self, number: u16) {
        self.wires.cut.lock().unwrap().insert(address(number));
    }

    pub fn heal(&self, number: u16) {
        self.wires.cut.lock().unwrap().remove(&address(number));
    }

    pub fn deafen(&self, number: u16, is_deaf: bool) {
        let mut deaf = self.wires.deaf.lock().unwrap();
        if is_deaf {
            deaf.insert(address(number))
        } else {
            deaf.remove(&address(number))
        };
    }

    /// Waits until `asked` knows a leader other than `not`, and gives its number.
    pub async fn leader(&self, asked: u16, not: Option<u16>) -> u16 {
        let number = |status: &Status| {
            let member = status.members.get(&status.leader?)?;
            Some(member.address.parse::<SocketAddr>().unwrap().port())
        };
        wait_until("there is a leader", || {
            number(&self.status(asked)).is_some_and(|leader| Some(leader) != not)
        })
        .await;
        number(&self.status(asked)).unwrap()
    }

    /// Closes all nodes.
    pub async fn end(self) {
        let numbers: Vec<u16> = self
            .wires
            .nodes
            .lock()
            .unwrap()
            .keys()
            .map(SocketAddr::port)
            .collect();
        for number in numbers {
            self.close(number).await;
        }
    }
}

/// Waits until `reached` says so.
pub async fn wait_until(what: &str, mut reached: impl FnMut() -> bool) {
    let began = Instant::now();
    while !reached() {
        assert!(began.elapsed() < LIMIT, "{what}: not within {LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
