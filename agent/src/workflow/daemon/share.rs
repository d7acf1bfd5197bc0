//! What each node is to hold of a daemon workflow: one key a workflow, followed by every agent.
//!
//! ```json
//! {"workflow": "words", "stages": [{"kind": {"service": "tr", "digest": "sha256:.."}, "nodes": {"1": 2, "3": 1}, "coming": 3}]}
//! ```
//!
//! Always: (1) one agent at a time writes a workflow's key, and only over what it has read; (2) what is in it is what every
//! node's pool is told to hold.
//! Not here: how it is found (`spread.rs`), who writes it (`controller.rs`).

use std::collections::BTreeMap;
use std::sync::Arc;

use pipes_protocol::supply::Kind;
use pipes_raft::{KeyValue, Store};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::warn;

use crate::follow::{self, Follow};
use crate::keys;
use crate::lifecycle::{self, Lifecycle};

/// Where the replicas of a workflow are: the value of its key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// The workflow.
    pub workflow: String,
    /// Its stages, in order.
    pub stages: Vec<OfStage>,
}

/// Where the replicas of a stage are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfStage {
    /// What they are.
    pub kind: Kind,
    /// How many each node holds.
    pub nodes: BTreeMap<u64, u32>,
    /// The node that holds one more than is wished, until it is there; then another node's goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coming: Option<u64>,
}

impl OfStage {
    /// How many a node holds.
    pub fn on(&self, node: u64) -> u32 {
        self.nodes.get(&node).copied().unwrap_or(0)
    }

    /// How many all hold.
    pub fn sum(&self) -> u32 {
        self.nodes.values().sum()
    }
}

/// A share as it lies in the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// What it says.
    pub share: Share,
    /// The revision that wrote it.
    pub revision: i64,
}

/// Those of all workflows, by name.
pub type All = BTreeMap<String, Arc<Kept>>;

/// What one node is to hold in all, by kind.
pub fn of_node(all: &All, node: u64) -> BTreeMap<Kind, u32> {
    let mut sum = BTreeMap::new();
    for stage in all.values().flat_map(|kept| &kept.share.stages) {
        if stage.on(node) > 0 {
            *sum.entry(stage.kind.clone()).or_default() += stage.on(node);
        }
    }
    sum
}

/// The shares. A cheap handle.
#[derive(Clone)]
pub struct Shares {
    known: watch::Receiver<All>,
}

impl Shares {
    /// Follows their keys until the agent stops.
    pub fn start(store: Store, lifecycle: &Lifecycle) -> Shares {
        let (sender, known) = watch::channel(All::new());
        let stopping = lifecycle.stopping();
        lifecycle.spawn(lifecycle::Kind::Part, "shares of daemon workflows", async move {
            let prefix = keys::replicas();
            let mut follow = Follow::new(store, prefix.clone());
            while let Some(change) = stopping.run_until_cancelled(follow.next()).await {
                sender.send_modify(|known| follow::fold(known, &prefix, change, read));
            }
            Ok(())
        });
        Shares { known }
    }

    /// All of them, as they change; the first change is that they are known.
    pub fn changes(&self) -> watch::Receiver<All> {
        self.known.clone()
    }

    /// All of them.
    pub fn all(&self) -> All {
        self.known.borrow().clone()
    }
}

fn read(name: &str, kv: &KeyValue) -> Option<Arc<Kept>> {
    let share = serde_json::from_slice(&kv.value).unwrap_or_else(|error| {
        warn!(workflow = name, %error, "no share: nothing is held, and it is written anew");
        Share::default()
    });
    let revision = kv.mod_revision;
    Some(Arc::new(Kept { share, revision }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(service: &str, nodes: &[(u64, u32)]) -> OfStage {
        OfStage {
            kind: Kind {
                service: service.into(),
                digest: "sha256:ab".into(),
            },
            nodes: nodes.iter().copied().collect(),
            coming: None,
        }
    }

    #[test]
    fn a_node_holds_the_sum_of_what_all_workflows_wish_of_it() {
        let mut all = All::new();
        for (name, stages) in [
            ("a", vec![stage("cat", &[(1, 2), (2, 1)]), stage("tr", &[(2, 1)])]),
            ("b", vec![stage("cat", &[(1, 1)]), stage("cat", &[(1, 1)])]),
        ] {
            let workflow = name.to_owned();
            let share = Share { workflow, stages };
            let kv = KeyValue {
                key: keys::replicas_of(name),
                value: serde_json::to_vec(&share).unwrap(),
                mod_revision: 7,
                ..KeyValue::default()
            };
            all.extend(read(name, &kv).map(|kept| (name.to_owned(), kept)));
            assert_eq!(*all[name], Kept { share, revision: 7 });
        }
        let held = |node| {
            let of = of_node(&all, node).into_iter();
            of.map(|(kind, count)| (kind.service, count)).collect::<Vec<_>>()
        };
        assert_eq!(held(1), [("cat".to_owned(), 4)]);
        assert_eq!(held(2), [("cat".to_owned(), 1), ("tr".to_owned(), 1)]);
        assert!(held(3).is_empty());
    }
}
