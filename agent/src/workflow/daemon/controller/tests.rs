//! Three agents' controllers over a store of one node, with replicas that are up as soon as they are wished.

use pipes_protocol::supply::OfKind;
use pipes_raft::Node;
use serde_json::json;

use super::*;
use crate::alone;
use crate::cluster::nodes::Record;
use crate::cluster::present;
use crate::lifecycle::Lifecycle;
use crate::workflow::daemon::known::Workflows;
use crate::workflow::daemon::share::Shares;
use crate::workflow::runs::registry::Registry;

/// Within this everything is found and written.
const LIMIT: Duration = Duration::from_secs(20);
/// How often it is looked meanwhile.
const POLL: Duration = Duration::from_millis(10);

struct Agent {
    id: u64,
    links: watch::Sender<BTreeSet<u64>>,
    supplies: Supplies,
    lifecycle: Lifecycle,
}

struct World {
    _folder: tempfile::TempDir,
    node: Node,
    store: Store,
    agents: Vec<Agent>,
    shares: Shares,
    lifecycle: Lifecycle,
}

impl World {
    /// Agents 1 to 3, all linked.
    async fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let node = alone::node(folder.path()).await;
        let store = node.store();
        let lifecycle = Lifecycle::new();
        let mut world = World {
            _folder: folder,
            node,
            shares: Shares::start(store.clone(), &lifecycle),
            store,
            agents: Vec::new(),
            lifecycle,
        };
        for id in 1..=3 {
            let value = serde_json::to_vec(&of_node(id)).unwrap();
            world.store.put(keys::node(id), value, None).await.unwrap();
        }
        for id in 1..=3 {
            world.enter(id).await;
        }
        world
    }

    /// An agent is there.
    async fn enter(&mut self, id: u64) {
        let lifecycle = Lifecycle::new();
        let (links, linked) = watch::channel(BTreeSet::new());
        let nodes = Nodes::start(of_node(id), self.store.clone(), linked, &lifecycle);
        let reached = nodes.clone();
        let supplies = Supplies::new(id, move || reached.reached(), Registry::default());
        let controlled = run(Parts {
            store: self.store.clone(),
            nodes,
            present: present::follow(self.store.clone(), &lifecycle),
            workflows: Workflows::start(self.store.clone(), &lifecycle).changes(),
            shares: Shares::start(self.store.clone(), &lifecycle).changes(),
            supplies: supplies.clone(),
            settled_after: Duration::from_millis(300),
        });
        lifecycle.spawn_until_stop("controller", controlled);
        self.agents.push(Agent {
            id,
            links,
            supplies,
            lifecycle,
        });
        self.link();
        self.store.put(keys::presence(id), "{}", None).await.unwrap();
    }

    /// An agent is killed: its links are gone at once, its presence a while later.
    async fn kill(&mut self, id: u64) {
        let (killed, rest) = std::mem::take(&mut self.agents)
            .into_iter()
            .partition(|agent| agent.id == id);
        self.agents = rest;
        self.link();
        for agent in killed {
            assert!(agent.lifecycle.stop(Duration::from_secs(5)).await);
        }
    }

    async fn lease_ends(&self, id: u64) {
        self.store.delete(keys::presence(id)).await.unwrap();
    }

    fn link(&self) {
        for agent in &self.agents {
            let others = self.agents.iter().filter(|other| other.id != agent.id);
            agent.links.send_replace(others.map(|other| other.id).collect());
        }
    }

    /// Writes a wish: services with a number of replicas each.
    async fn wish(&self, name: &str, wish: Wish, stages: &[(&str, u32)]) {
        let stage =
            |(service, _): &(&str, u32)| json!({"service": service, "digest": "sha256:ab", "args": []});
        let replicas = stages.iter().zip(1_u32..);
        let replicas: BTreeMap<u32, u32> = replicas.map(|((_, count), stage)| (stage, *count)).collect();
        let workflow = json!({
            "name": name,
            "wish": wish,
            "port": null,
            "revision": 1,
            "definition": {
                "line": "",
                "stages": stages.iter().map(stage).collect::<Vec<_>>(),
                "options": {"replicas": replicas},
            },
            "created": "",
        });
        let value = serde_json::to_vec(&workflow).unwrap();
        self.store.put(keys::workflow(name), value, None).await.unwrap();
    }

    /// Every node tells what it is to hold as what is there.
    fn tell(&self) {
        let shares = self.shares.all();
        for (to, from) in self
            .agents
            .iter()
            .flat_map(|to| self.agents.iter().map(move |from| (to, from)))
        {
            let kinds = share::of_node(&shares, from.id).into_iter();
            let kinds = kinds.map(|(kind, up)| OfKind {
                kind,
                up,
                ..OfKind::default()
            });
            let supply = Supply {
                kinds: kinds.collect(),
                ..Supply::default()
            };
            to.supplies.told(from.id, supply);
        }
    }

    /// The counts of a workflow's stages by node, once they are as they should be.
    async fn until(&self, name: &str, is_so: impl Fn(&[Vec<u32>]) -> bool) -> Vec<Vec<u32>> {
        let begun = Instant::now();
        loop {
            self.tell();
            let counts = self.counts(name);
            if is_so(&counts) {
                return counts;
            }
            assert!(begun.elapsed() < LIMIT, "{name} is {counts:?}");
            tokio::time::sleep(POLL).await;
        }
    }

    fn counts(&self, name: &str) -> Vec<Vec<u32>> {
        let shares = self.shares.all();
        let stages = shares.get(name).map(|kept| kept.share.stages.clone());
        let stages = stages.unwrap_or_default().into_iter();
        let counts = stages.map(|stage| (1..=3).map(|node| stage.on(node)).collect());
        counts.collect()
    }

    /// How often the share of a workflow was written since it came to be.
    async fn writes(&self, name: &str) -> i64 {
        let kept = self.store.get(keys::replicas_of(name)).await.unwrap();
        kept.map_or(0, |kept| kept.version)
    }

    async fn finish(mut self) {
        for id in 1..=3 {
            self.kill(id).await;
        }
        assert!(self.lifecycle.stop(Duration::from_secs(5)).await);
        self.node.shutdown().await;
    }
}

fn of_node(id: u64) -> Record {
    Record {
        id,
        name: format!("n{id}"),
        address: "127.0.0.1".into(),
        mesh: 1,
        wamp: 2,
        version: String::new(),
        started: String::new(),
    }
}

fn sums(counts: &[Vec<u32>]) -> Vec<u32> {
    counts.iter().map(|stage| stage.iter().sum()).collect()
}

fn is_even(counts: &[Vec<u32>]) -> bool {
    counts
        .iter()
        .all(|stage| stage.iter().max().unwrap() - stage.iter().min().unwrap() <= 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_is_spread_once_and_nothing_is_written_where_nothing_changes() {
    let world = World::new().await;
    world.wish("w", Wish::Running, &[("a", 5), ("b", 1)]).await;
    let counts = world.until("w", |counts| sums(counts) == [5, 1]).await;
    assert!(is_even(&counts), "{counts:?}");
    let before = world.node.store().status();
    // All three have looked several times.
    let begun = Instant::now();
    world.until("w", |_| begun.elapsed() > LOOK_AGAIN * 4).await;
    assert_eq!(world.writes("w").await, 1);
    assert_eq!(world.node.store().status(), before);
    world.wish("w", Wish::Running, &[("a", 6), ("b", 1)]).await;
    world.until("w", |counts| sums(counts) == [6, 1]).await;
    assert_eq!(world.writes("w").await, 2);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_lost_node_had_is_elsewhere_and_back_when_it_is_well() {
    let mut world = World::new().await;
    // The one that is lost is the one that wrote.
    let names: Vec<String> = (0..20).map(|number| format!("w{number}")).collect();
    let name = names
        .iter()
        .find(|name| heaviest(name, 1..=3) == Some(3))
        .unwrap();
    world.wish(name, Wish::Running, &[("a", 6)]).await;
    world.until(name, |counts| counts == [[2, 2, 2]]).await;
    world.kill(3).await;
    let begun = Instant::now();
    world.until(name, |_| begun.elapsed() > LOOK_AGAIN * 2).await;
    assert_eq!(
        world.counts(name),
        [[2, 2, 2]],
        "it may be linked again before its lease ends"
    );
    world.lease_ends(3).await;
    world.until(name, |counts| counts == [[3, 3, 0]]).await;
    world.enter(3).await;
    world.until(name, |counts| counts == [[2, 2, 2]]).await;
    // One more there; that one less elsewhere and the next one there; that one less elsewhere.
    assert_eq!(world.writes(name).await, 2 + 3);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_speaks_is_not_lost_with_its_lease() {
    let world = World::new().await;
    world.wish("w", Wish::Running, &[("a", 3)]).await;
    world.until("w", |counts| counts == [[1, 1, 1]]).await;
    world.lease_ends(2).await;
    let begun = Instant::now();
    world.until("w", |_| begun.elapsed() > LOOK_AGAIN * 2).await;
    assert_eq!(world.counts("w"), [[1, 1, 1]]);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_that_is_stopped_or_gone_holds_nothing() {
    let world = World::new().await;
    for name in ["w", "x"] {
        world.wish(name, Wish::Running, &[("a", 3)]).await;
        world.until(name, |counts| counts == [[1, 1, 1]]).await;
    }
    world.wish("w", Wish::Stopped, &[("a", 3)]).await;
    world.until("w", |counts| counts.is_empty()).await;
    world.wish("w", Wish::Running, &[("a", 3)]).await;
    world.until("w", |counts| sums(counts) == [3]).await;
    world.store.delete(keys::workflow("w")).await.unwrap();
    world.until("w", |counts| counts.is_empty()).await;
    assert_eq!(world.counts("x"), [[1, 1, 1]]);
    assert_eq!(world.writes("x").await, 1);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_that_cannot_be_read_is_written_anew() {
    let world = World::new().await;
    let broken = world.store.put(keys::replicas_of("w"), "{", None).await;
    broken.unwrap();
    world.wish("w", Wish::Running, &[("a", 3)]).await;
    world.until("w", |counts| counts == [[1, 1, 1]]).await;
    world.finish().await;
}
