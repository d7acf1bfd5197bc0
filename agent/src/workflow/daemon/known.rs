//! The daemon workflows as this agent knows them: their keys, followed by a watch.

use std::collections::BTreeMap;
use std::sync::Arc;

use pipes_raft::{EventKind, KeyValue, Store};
use tokio::sync::watch;
use tracing::warn;

use crate::follow::{Change, Follow};
use crate::keys;
use crate::lifecycle::{Kind, Lifecycle};
use crate::workflow::daemon::record::Workflow;

/// All of them, by name.
pub type All = BTreeMap<String, Arc<Workflow>>;

/// The daemon workflows. A cheap handle.
#[derive(Clone)]
pub struct Workflows {
    known: watch::Receiver<All>,
}

impl Workflows {
    /// Follows their keys until the agent stops.
    pub fn start(store: Store, lifecycle: &Lifecycle) -> Workflows {
        let (sender, known) = watch::channel(All::new());
        let stopping = lifecycle.stopping();
        lifecycle.spawn(Kind::Part, "daemon workflows", async move {
            let mut follow = Follow::new(store, keys::workflows());
            while let Some(change) = stopping.run_until_cancelled(follow.next()).await {
                sender.send_modify(|known| apply(known, change));
            }
            Ok(())
        });
        Workflows { known }
    }

    /// Those that somebody else knows: for tests of who serves them.
    pub fn of(known: watch::Receiver<All>) -> Workflows {
        Workflows { known }
    }

    /// The one of this name.
    pub fn get(&self, name: &str) -> Option<Arc<Workflow>> {
        self.known.borrow().get(name).cloned()
    }

    /// All of them.
    pub fn all(&self) -> All {
        self.known.borrow().clone()
    }

    /// All of them, as they change.
    pub fn changes(&self) -> watch::Receiver<All> {
        self.known.clone()
    }
}

fn apply(known: &mut All, change: Change) {
    match change {
        Change::All(all) => {
            known.clear();
            all.iter().for_each(|kv| put(known, kv));
        }
        Change::Events(events) => {
            for event in events {
                match event.kind {
                    EventKind::Put => put(known, &event.kv),
                    EventKind::Delete => {
                        let name = keys::after(&event.kv.key, &keys::workflows()).unwrap_or_default();
                        known.remove(name);
                    }
                }
            }
        }
    }
}

fn put(known: &mut All, kv: &KeyValue) {
    match serde_json::from_slice::<Workflow>(&kv.value) {
        Ok(workflow) => drop(known.insert(workflow.name.clone(), Arc::new(workflow))),
        Err(error) => warn!(key = %String::from_utf8_lossy(&kv.key), %error, "no daemon workflow"),
    }
}
