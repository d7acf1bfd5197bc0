//! The world of the tests: a store of one node, and three agents that keep blobs, each with a disk that outlives it.
//!
//! Their clocks run [`FASTER`] than this machine's, so that minutes go by while the store decides a few times: whatever is
//! only made rare by a grace is met often here.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use pipes_raft::{
    Class, Compare, CompareOp, Node, Op, Options, Peer, Store, Target, Transport, TransportError, Txn,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::blobs::{Holder, Keeper, Naming, Parts, Uses};
use crate::error::Error;
use crate::key;
use crate::seams::{Clock, Disk, Holders};

/// How much faster these clocks run.
pub const FASTER: u32 = 20_000;
/// All are voters.
pub const AGENTS: usize = 3;

struct Nobody;

#[async_trait]
impl Transport for Nobody {
    async fn call(&self, _: &Peer, _: Class, _: Vec<u8>, _: Duration) -> Result<Vec<u8>, TransportError> {
        Err(TransportError::NotSent("nobody there".into()))
    }
}

#[derive(Clone)]
pub struct Fast(Instant);

#[async_trait]
impl Clock for Fast {
    fn monotonic(&self) -> Duration {
        self.0.elapsed() * FASTER
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    fn age_ms(&self) -> u64 {
        0
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration / FASTER).await;
    }
}

/// An agent in one of its lives.
#[derive(Clone)]
struct Life {
    holder: Holder,
    killed: watch::Receiver<bool>,
}

#[derive(Default)]
struct Agent {
    disk: Mutex<BTreeSet<String>>,
    life: Mutex<Option<Life>>,
}

struct Shared {
    agents: [Agent; AGENTS],
    chance: Mutex<StdRng>,
}

/// What one agent sees of all.
#[derive(Clone)]
pub struct Net {
    shared: Arc<Shared>,
    own: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Net {
    fn agent(&self, at: usize) -> &Agent {
        &self.shared.agents[at]
    }

    fn has_on_disk(&self, at: usize, digest: &str) -> bool {
        lock(&self.agent(at).disk).contains(digest)
    }

    /// Lets some time pass, as a network does.
    pub async fn pause(&self) {
        let micros = lock(&self.shared.chance).random_range(0..3_000);
        match micros {
            0..1_000 => tokio::task::yield_now().await,
            micros => tokio::time::sleep(Duration::from_micros(micros)).await,
        }
    }

    /// Lets so much pass, sometimes, that whatever was awaited is no more, and may be collected and come again.
    pub async fn pause_long(&self) {
        let millis = lock(&self.shared.chance).random_range(0..60);
        if let 1..30 = millis {
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
    }

    fn life(&self, at: usize) -> Option<Life> {
        lock(&self.agent(at).life).clone()
    }

    /// Has an agent do something; `None` where it is killed meanwhile.
    async fn reach<T>(&self, life: &Life, does: impl Future<Output = T>) -> Option<T> {
        let mut killed = life.killed.clone();
        tokio::select! {
            biased;
            _ = killed.wait_for(|killed| *killed) => None,
            done = async {
                self.pause().await;
                does.await
            } => Some(done),
        }
    }

    /// Lays a blob on an agent's disk, as an upload or a peer does.
    pub async fn put(&self, at: usize, digest: &str) -> bool {
        let Some(life) = self.life(at) else { return false };
        let put = async {
            let _alone = life.holder.alone(digest).await;
            lock(&self.agent(at).disk).insert(digest.to_owned());
            life.holder.awaits(digest);
        };
        self.reach(&life, put).await.is_some()
    }

    async fn has_at(&self, at: usize, digest: &str) -> bool {
        let Some(life) = self.life(at) else { return false };
        let has = async {
            let _alone = life.holder.alone(digest).await;
            let has = self.has_on_disk(at, digest);
            if has {
                life.holder.awaits(digest);
            }
            has
        };
        self.reach(&life, has).await.unwrap_or(false)
    }

    async fn fetch_from(&self, at: usize, digest: &str) -> bool {
        let Some(life) = self.life(self.own) else {
            return false;
        };
        let place = async {
            if !self.has_on_disk(at, digest) {
                return false;
            }
            // It comes, and may be collected meanwhile.
            self.pause().await;
            let _alone = life.holder.alone(digest).await;
            lock(&self.agent(self.own).disk).insert(digest.to_owned());
            true
        };
        self.reach(&life, place).await.unwrap_or(false)
    }

    async fn delete_at(&self, at: usize, digest: &str) {
        let Some(life) = self.life(at) else { return };
        let delete = async {
            let alone = life.holder.alone(digest).await;
            if alone.may_delete().await {
                lock(&self.agent(at).disk).remove(digest);
            }
        };
        self.reach(&life, delete).await;
    }
}

#[async_trait]
impl Holders for Net {
    async fn has(&self, digest: &str) -> bool {
        let mut count = 0;
        for at in 0..AGENTS {
            count += usize::from(self.has_at(at, digest).await);
        }
        count > AGENTS / 2
    }

    async fn sync(&self, digest: &str) -> bool {
        let mut count = usize::from(self.has_at(self.own, digest).await);
        if count == 0 {
            return false;
        }
        for at in (0..AGENTS).filter(|at| *at != self.own) {
            count += usize::from(self.put(at, digest).await);
        }
        count > AGENTS / 2
    }

    async fn fetch(&self, digest: &str) -> bool {
        for at in (0..AGENTS).filter(|at| *at != self.own) {
            if self.fetch_from(at, digest).await {
                return true;
            }
        }
        false
    }

    async fn is_awaited(&self, digest: &str) -> bool {
        for at in 0..AGENTS {
            let Some(life) = self.life(at) else { continue };
            let asked = async { life.holder.is_awaited(digest) };
            if self.reach(&life, asked).await == Some(true) {
                return true;
            }
        }
        false
    }

    async fn delete(&self, digest: &str) {
        for at in 0..AGENTS {
            self.delete_at(at, digest).await;
        }
    }
}

#[async_trait]
impl Disk for Net {
    fn keeps_all(&self) -> bool {
        true
    }

    fn is_here(&self, digest: &str) -> bool {
        self.has_on_disk(self.own, digest)
    }

    async fn list(&self, digests: &str) -> Vec<String> {
        let disk = lock(&self.agent(self.own).disk);
        let listed = disk.iter().filter(|digest| digest.starts_with(digests));
        listed.cloned().collect()
    }
}

/// An agent that is up.
pub struct Up {
    pub net: Net,
    pub uses: Uses,
    kill: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    lease: i64,
}

pub struct World {
    pub store: Store,
    shared: Arc<Shared>,
    clock: Fast,
    _node: Node,
    _folder: tempfile::TempDir,
}

impl World {
    pub async fn new(seed: u64) -> World {
        let folder = tempfile::tempdir().unwrap();
        let options = Options::new(folder.path().to_owned(), "01test".to_owned());
        let node = Node::open(options, None, Arc::new(Nobody)).await.unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        node.initialize(address).await.unwrap();
        World {
            store: node.store(),
            shared: Arc::new(Shared {
                agents: Default::default(),
                chance: Mutex::new(StdRng::seed_from_u64(seed)),
            }),
            clock: Fast(Instant::now()),
            _node: node,
            _folder: folder,
        }
    }

    pub fn net(&self, own: usize) -> Net {
        Net {
            shared: self.shared.clone(),
            own,
        }
    }

    /// An agent begins a life.
    pub async fn start(&self, at: usize) -> Up {
        let (store, net, clock) = (self.store.clone(), self.net(at), self.clock.clone());
        let node = at as u64 + 1;
        let lease = store.grant(Duration::from_secs(3_600), 0).await.unwrap();
        store.put(key::presence(node), "{}", Some(lease)).await.unwrap();
        let holder = Holder::new(Box::new(store.clone()), Box::new(clock.clone()));
        let (kill, killed) = watch::channel(false);
        let life = Life {
            holder: holder.clone(),
            killed,
        };
        *lock(&self.shared.agents[at].life) = Some(life);
        let (holders, own_clock) = (Box::new(net.clone()), Box::new(clock.clone()));
        let uses = Uses::new(store.clone(), node, holders, own_clock);
        let keeper = Keeper::new(Parts {
            store,
            node,
            holders: Box::new(net.clone()),
            holder,
            disk: Box::new(net.clone()),
            clock: Box::new(clock),
        });
        let gives_back = uses.clone();
        let tasks = vec![
            tokio::spawn(async move { keeper.run().await }),
            tokio::spawn(async move { gives_back.run().await }),
        ];
        Up {
            net,
            uses,
            kill,
            tasks,
            lease,
        }
    }

    /// An agent dies; what lies on its disk stays.
    pub async fn kill(&self, up: Up) {
        up.kill.send_replace(true);
        for task in up.tasks {
            task.abort();
            let _ = task.await;
        }
        *lock(&self.shared.agents[up.net.own].life) = None;
        self.store.revoke(up.lease).await.unwrap();
    }

    /// An agent stands still for so long that its lease ends, and takes another.
    pub async fn lose_lease(&self, up: &Up) {
        self.store.revoke(up.lease).await.unwrap();
        let lease = self.store.grant(Duration::from_secs(3_600), 0).await.unwrap();
        let node = up.net.own as u64 + 1;
        self.store
            .put(key::presence(node), "{}", Some(lease))
            .await
            .unwrap();
    }

    /// How many agents are up.
    pub fn count_up(&self) -> usize {
        let agents = self.shared.agents.iter();
        agents.filter(|agent| lock(&agent.life).is_some()).count()
    }

    /// On how many disks a blob lies.
    pub fn copies(&self, digest: &str) -> usize {
        let agents = self.shared.agents.iter();
        agents.filter(|agent| lock(&agent.disk).contains(digest)).count()
    }

    /// Names of blobs, each with the revision that wrote it; and what is being collected.
    pub async fn known(&self) -> (BTreeSet<(String, Vec<u8>, i64)>, BTreeSet<String>) {
        let (mut names, mut gone) = (BTreeSet::new(), BTreeSet::new());
        for kv in self.store.prefix(key::blobs("sha256:")).await.unwrap() {
            match key::read_blob(&kv.key) {
                Some((digest, key::OfBlob::Name)) => {
                    names.insert((digest.to_owned(), kv.key.clone(), kv.mod_revision));
                }
                Some((digest, key::OfBlob::Gone)) => drop(gone.insert(digest.to_owned())),
                None => {}
            }
        }
        (names, gone)
    }
}

/// Writes a key with the name of a blob, as a build or a job does; false where it is there, or the blob was collected meanwhile.
pub async fn write_named(store: &Store, net: &Net, by: &str, digest: &str) -> Result<bool, Error> {
    let naming = Naming::of(store, net, &[digest.to_owned()]).await?;
    net.pause_long().await;
    let mut success = naming.names(by.as_bytes(), None);
    success.push(Op::put(by, digest));
    let mut compares = naming.compares();
    compares.push(Compare::absent(by));
    let txn = Txn {
        compares,
        success,
        failure: Vec::new(),
    };
    Ok(store.txn(txn).await?.succeeded)
}

/// Removes a key and with it the name, as an expiry does, if it is there.
pub async fn remove_named(store: &Store, by: &str) {
    let Some(kv) = store.get(by).await.unwrap() else {
        return;
    };
    let digest = String::from_utf8(kv.value).unwrap();
    let txn = Txn {
        compares: vec![Compare::key(by, CompareOp::Equal, Target::Mod(kv.mod_revision))],
        success: vec![
            Op::delete(by),
            Op::delete(key::blob_named_by(&digest, by.as_bytes())),
        ],
        failure: Vec::new(),
    };
    store.txn(txn).await.unwrap();
}

/// All keys that name a blob.
pub async fn remove_all(store: &Store) {
    for kv in store.prefix("/pipes/things/").await.unwrap() {
        remove_named(store, std::str::from_utf8(&kv.key).unwrap()).await;
    }
}
