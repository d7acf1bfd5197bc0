//! Has the replicas of daemon workflows be where they should: one task on every agent, of which one writes for a workflow.
//!
//! ```text
//! wishes  /pipes/workflows/   \
//! shares  /pipes/replicas/     \                                  of the workflows that are this agent's
//! presences, links             -> spread.rs -> what should be -> where it is something else: compare and write
//! supplies of all nodes        /
//! ```
//!
//! Every agent finds the same from the same; it writes for the workflows whose heaviest node it is (`rendezvous.rs`), and
//! only over the revision it has read. Where two agents see different nodes, one of them writes in vain.
//!
//! A node is *lost* when its lease has ended and it does not speak over a link either; it is *well* as long as neither is
//! so, and replicas move to it after half a minute of that.
//!
//! Always: (1) where nothing changes, nothing is written; (2) a workflow that is stopped or gone has no share, and one that
//! is gone gets none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use pipes_protocol::supply::{Kind, Supply};
use pipes_raft::{Compare, CompareOp, Op, Store, Target, Txn};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::cluster::nodes::Nodes;
use crate::keys;
use crate::retry::Backoff;
use crate::workflow::daemon::known;
use crate::workflow::daemon::record::Wish;
use crate::workflow::daemon::rendezvous::heaviest;
use crate::workflow::daemon::share::{self, Kept, Share};
use crate::workflow::daemon::spread::{self, Site, Spread, State};
use crate::workflow::supply::Supplies;

/// So long a node must have been well before replicas move to it: one that comes and goes would have all of them move
/// each time.
pub const SETTLED_AFTER: Duration = Duration::from_secs(30);

/// How soon it is looked again while a replica comes, or a node is neither there nor lost: what nodes tell of their supply
/// wakes nobody here.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Stands for no time at which it is looked again.
const NEVER: Duration = Duration::from_secs(86_400);

/// What the controller looks at.
pub struct Parts {
    /// Where it writes.
    pub store: Store,
    /// Names of nodes, and which are linked.
    pub nodes: Nodes,
    /// Nodes whose leases last.
    pub present: watch::Receiver<BTreeSet<u64>>,
    /// The wishes.
    pub workflows: watch::Receiver<known::All>,
    /// What was found before.
    pub shares: watch::Receiver<share::All>,
    /// What has become of it.
    pub supplies: Supplies,
    /// How long a node has to be well before replicas move to it.
    pub settled_after: Duration,
}

/// A write whose outcome was not read yet: it is not tried again over the same revision.
#[derive(PartialEq, Eq)]
struct Tried {
    over: i64,
    share: Option<Share>,
}

struct Controller {
    parts: Parts,
    /// Since when nodes have been well.
    well: BTreeMap<u64, Instant>,
    tried: BTreeMap<String, Tried>,
    backoff: Backoff,
}

/// Looks whenever something changes, until it is dropped.
pub async fn run(mut parts: Parts) -> anyhow::Result<()> {
    // Nothing is known before the first change of each, and what is not known is not gone.
    let known = async {
        parts.workflows.changed().await?;
        parts.shares.changed().await?;
        parts.present.changed().await
    };
    // They end only when the agent stops.
    if known.await.is_err() {
        return std::future::pending().await;
    }
    let mut links = parts.nodes.links();
    let mut controller = Controller {
        parts,
        well: BTreeMap::new(),
        tried: BTreeMap::new(),
        backoff: Backoff::default(),
    };
    loop {
        links.borrow_and_update();
        let rest = controller.look().await;
        let parts = &mut controller.parts;
        tokio::select! {
            Ok(()) = parts.workflows.changed() => {}
            Ok(()) = parts.shares.changed() => {}
            Ok(()) = parts.present.changed() => {}
            Ok(()) = links.changed() => {}
            () = tokio::time::sleep(rest) => {}
        }
    }
}

/// What is seen at one time.
struct View {
    workflows: known::All,
    shares: share::All,
    present: BTreeSet<u64>,
    sites: Vec<Site>,
    spread: Spread,
    /// When it is to be looked again, whatever changes.
    rest: Duration,
}

impl Controller {
    /// Finds what should be, and writes where it is something else; how long to rest then, if nothing changes.
    async fn look(&mut self) -> Duration {
        let view = self.view();
        let own = self.parts.nodes.own_id();
        self.tried.retain(|name, tried| tried.over == view.revision(name));
        let mut rest = view.rest;
        for name in view.names() {
            if heaviest(name, view.present.iter().copied()) != Some(own) || view.is_as_it_should(name) {
                continue;
            }
            let share = view.spread.shares.get(name).cloned();
            let over = view.revision(name);
            let tried = Tried { over, share };
            if self.tried.get(name) == Some(&tried) {
                continue;
            }
            match self.write(name, &tried, view.workflows.contains_key(name)).await {
                Ok(is_written) => {
                    info!(
                        workflow = name,
                        is_written,
                        nodes = view.sites.len(),
                        "its replicas are spread"
                    );
                    self.tried.insert(name.to_owned(), tried);
                    self.backoff.reset();
                }
                Err(error) => {
                    warn!(workflow = name, %error, "where its replicas are to be cannot be written");
                    rest = rest.min(self.backoff.step());
                    // The others' would fare no better.
                    break;
                }
            }
        }
        rest
    }

    /// Writes what should be over what was read; whether it was still so.
    async fn write(&self, name: &str, tried: &Tried, is_known: bool) -> Result<bool, pipes_raft::Error> {
        let (key, workflow) = (keys::replicas_of(name), keys::workflow(name));
        let unchanged = Compare::key(key.clone(), CompareOp::Equal, Target::Mod(tried.over));
        let (op, also) = match &tried.share {
            Some(share) => {
                // It is numbers and names, which can be written.
                let value = serde_json::to_vec(share).unwrap_or_default();
                (Op::put(key, value), Some(Compare::exists(workflow)))
            }
            // One that is not known here may be new.
            None => (Op::delete(key), (!is_known).then(|| Compare::absent(workflow))),
        };
        let txn = Txn {
            compares: [unchanged].into_iter().chain(also).collect(),
            success: vec![op],
            failure: Vec::new(),
        };
        Ok(self.parts.store.txn(txn).await?.succeeded)
    }

    fn view(&mut self) -> View {
        let parts = &mut self.parts;
        let workflows = parts.workflows.borrow_and_update().clone();
        let shares = parts.shares.borrow_and_update().clone();
        let present = parts.present.borrow_and_update().clone();
        let spoken = parts.supplies.spoken();
        let reached: BTreeMap<u64, String> = parts.nodes.reached().into_iter().collect();
        let speaks = |node: &u64| reached.contains_key(node) && spoken.contains_key(node);
        let now = Instant::now();
        let is_well = |node: &u64| present.contains(node) && reached.contains_key(node);
        self.well.retain(|node, _| is_well(node));
        for node in present.iter().filter(|node| is_well(node)) {
            self.well.entry(*node).or_insert(now);
        }
        let there: BTreeSet<u64> = (present.iter().copied())
            .chain(reached.keys().copied().filter(speaks))
            .collect();
        let records = parts.nodes.records();
        let (well, settled_after) = (&self.well, parts.settled_after);
        let site = |node: &u64| Site {
            id: *node,
            name: records
                .get(node)
                .map(|record| record.name.clone())
                .unwrap_or_default(),
            is_settled: well.get(node).is_some_and(|since| *since + settled_after <= now),
        };
        let sites: Vec<Site> = there.iter().map(site).collect();
        let running = workflows
            .iter()
            .filter(|(_, workflow)| workflow.wish == Wish::Running);
        let wants = running.map(|(name, workflow)| (name.clone(), spread::wants(workflow)));
        let wants = wants.collect();
        let held: BTreeMap<u64, BTreeMap<Kind, u32>> = (there.iter())
            .map(|node| (*node, share::of_node(&shares, *node)))
            .collect();
        let state = |node, kind: &Kind| {
            let held = held.get(&node).and_then(|held| held.get(kind));
            state(spoken.get(&node), kind, held.copied().unwrap_or(0))
        };
        let spread = spread::spread(&wants, &sites, &shares, state);
        let is_open = spread.is_moving || there.iter().any(|node| !well.contains_key(node));
        let settles = well.values().map(|since| *since + settled_after);
        let settles = settles.filter(|settles| *settles > now).min();
        let rest = settles.map_or(NEVER, |settles| settles - now);
        View {
            rest: if is_open { rest.min(LOOK_AGAIN) } else { rest },
            workflows,
            shares,
            present,
            sites,
            spread,
        }
    }
}

/// How it is with what a node is to hold of a kind in all.
fn state(supply: Option<&Arc<Supply>>, kind: &Kind, held: u32) -> State {
    let of = supply.and_then(|supply| supply.kinds.iter().find(|of| of.kind == *kind));
    match of {
        Some(of) if of.up >= held => State::Up,
        Some(of) if of.failing.is_some() => State::Failing,
        _ => State::Starting,
    }
}

impl View {
    /// Workflows that have a share or should.
    fn names(&self) -> BTreeSet<&str> {
        let names = self.spread.shares.keys().chain(self.shares.keys());
        names.map(String::as_str).collect()
    }

    fn kept(&self, name: &str) -> Option<&Kept> {
        self.shares.get(name).map(Arc::as_ref)
    }

    /// The revision of its share; 0 where it has none.
    fn revision(&self, name: &str) -> i64 {
        self.kept(name).map_or(0, |kept| kept.revision)
    }

    fn is_as_it_should(&self, name: &str) -> bool {
        self.kept(name).map(|kept| &kept.share) == self.spread.shares.get(name)
    }
}

#[cfg(test)]
mod tests;
