//! The nodes of the cluster as this agent sees them: their records, and which of them are reached.
//!
//! Records are keys of the store and followed by a watch; *reached* is what the router says of its links, which tells of
//! a dead server at once where a lease takes seconds. Runs are placed on what is reached.

use std::collections::{BTreeMap, BTreeSet};

use pipes_raft::{Consistency, Range, Store};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::follow::{self, Follow};
use crate::keys;
use crate::lifecycle::{Kind, Lifecycle};
use crate::retry::Backoff;

/// A node's record in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The node's id, never used again.
    pub id: u64,
    /// Its name, unique in the cluster.
    pub name: String,
    /// Where the others reach it, without a port.
    pub address: String,
    /// Port of its mesh.
    pub mesh: u16,
    /// Port of its WAMP RawSocket.
    pub wamp: u16,
    /// Version of its agent.
    pub version: String,
    /// When its agent started, RFC 3339.
    pub started: String,
}

/// The nodes. A cheap handle.
#[derive(Clone)]
pub struct Nodes {
    own: Record,
    records: watch::Receiver<BTreeMap<u64, Record>>,
    links: watch::Receiver<BTreeSet<u64>>,
}

impl Nodes {
    /// Follows the records until the agent stops.
    pub fn start(
        own: Record,
        store: Store,
        links: watch::Receiver<BTreeSet<u64>>,
        lifecycle: &Lifecycle,
    ) -> Nodes {
        let (sender, records) = watch::channel(BTreeMap::from([(own.id, own.clone())]));
        let stopping = lifecycle.stopping();
        lifecycle.spawn(Kind::Part, "records of nodes", async move {
            let mut follow = Follow::new(store, keys::nodes());
            while let Some(change) = stopping.run_until_cancelled(follow.next()).await {
                sender.send_modify(|records| {
                    follow::fold(records, &keys::nodes(), change, |_, kv| parse(&kv.value))
                });
            }
            Ok(())
        });
        Nodes { own, records, links }
    }

    /// This node's id.
    pub fn own_id(&self) -> u64 {
        self.own.id
    }

    /// This node's name.
    pub fn own_name(&self) -> &str {
        &self.own.name
    }

    /// All records, by id.
    pub fn records(&self) -> BTreeMap<u64, Record> {
        self.records.borrow().clone()
    }

    /// Ids and names of this node and of those with a live link to it, by id.
    pub fn reached(&self) -> Vec<(u64, String)> {
        let links = self.links.borrow();
        let records = self.records.borrow();
        let reached = records
            .values()
            .filter(|record| record.id == self.own.id || links.contains(&record.id));
        reached.map(|record| (record.id, record.name.clone())).collect()
    }

    /// The nodes there is a link to.
    pub fn links(&self) -> watch::Receiver<BTreeSet<u64>> {
        self.links.clone()
    }

    /// Whether a node is this one, or linked to it.
    pub fn is_reached(&self, id: u64) -> bool {
        id == self.own.id || self.links.borrow().contains(&id)
    }
}

/// The nodes whose presence is on record: a dead one's goes with its lease.
pub async fn present(store: &Store) -> Result<BTreeSet<u64>, pipes_raft::Error> {
    let prefix = keys::presences();
    let presences = Range {
        keys_only: true,
        ..Range::prefix(prefix.clone())
    };
    let present = store.range(presences, Consistency::Linearizable).await?;
    let ids = present
        .kvs
        .iter()
        .filter_map(|kv| keys::after(&kv.key, &prefix)?.parse().ok());
    Ok(ids.collect())
}

/// The nodes whose presence is on record, each with why its replica is out, if it is.
pub async fn presences(store: &Store) -> Result<BTreeMap<u64, Option<String>>, pipes_raft::Error> {
    #[derive(Deserialize)]
    struct Presence {
        id: u64,
        sick: Option<String>,
    }
    let all = store.prefix(keys::presences()).await?;
    let presences = all
        .iter()
        .filter_map(|kv| serde_json::from_slice::<Presence>(&kv.value).ok());
    Ok(presences.map(|presence| (presence.id, presence.sick)).collect())
}

/// Removes the records of those that this node was before it was made new; tries until it is done or `stopping`.
pub async fn forget_former(store: Store, nodes: Nodes, stopping: CancellationToken) -> anyhow::Result<()> {
    let mut backoff = Backoff::default();
    let forgotten = async {
        while let Err(error) = remove_former(&store, &nodes.own).await {
            debug!(%error, "records of what this node was cannot be removed yet");
            backoff.rest().await;
        }
    };
    let _ = stopping.run_until_cancelled(forgotten).await;
    Ok(())
}

async fn remove_former(store: &Store, own: &Record) -> Result<(), pipes_raft::Error> {
    for kv in store.prefix(keys::nodes()).await? {
        if let Some(record) = parse(&kv.value)
            && record.name == own.name
            && record.id != own.id
        {
            store.delete(keys::node(record.id)).await?;
        }
    }
    Ok(())
}

fn parse(value: &[u8]) -> Option<Record> {
    // A deletion has no value.
    (!value.is_empty())
        .then(|| {
            serde_json::from_slice(value)
                .inspect_err(|error| warn!("unreadable record of a node: {error}"))
                .ok()
        })
        .flatten()
}
