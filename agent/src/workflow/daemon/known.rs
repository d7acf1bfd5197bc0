//! The daemon workflows as this agent knows them: their keys, followed by a watch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pipes_raft::{KeyValue, Store};
use tokio::sync::watch;
use tracing::warn;

use crate::follow::{self, Follow};
use crate::keys;
use crate::lifecycle::{Kind, Lifecycle};
use crate::workflow::daemon::record::Workflow;

/// All of them, by name.
pub type All = BTreeMap<String, Arc<Workflow>>;

/// The daemon workflows. A cheap handle.
#[derive(Clone)]
pub struct Workflows {
    known: watch::Receiver<All>,
    is_read: Arc<AtomicBool>,
}

impl Workflows {
    /// Follows their keys until the agent stops.
    pub fn start(store: Store, lifecycle: &Lifecycle) -> Workflows {
        let (sender, known) = watch::channel(All::new());
        let is_read = Arc::new(AtomicBool::new(false));
        let (stopping, has_read) = (lifecycle.stopping(), is_read.clone());
        lifecycle.spawn(Kind::Part, "daemon workflows", async move {
            let prefix = keys::workflows();
            let mut follow = Follow::new(store, prefix.clone());
            while let Some(change) = stopping.run_until_cancelled(follow.next()).await {
                sender.send_modify(|known| follow::fold(known, &prefix, change, read));
                has_read.store(true, Ordering::Release);
            }
            Ok(())
        });
        Workflows { known, is_read }
    }

    /// Those that somebody else knows: for tests of who serves them.
    pub fn of(known: watch::Receiver<All>) -> Workflows {
        Workflows {
            known,
            is_read: Arc::new(AtomicBool::new(true)),
        }
    }

    /// Whether they were read since the agent started: before, that one is not among them says nothing.
    pub fn are_read(&self) -> bool {
        self.is_read.load(Ordering::Acquire)
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

fn read(name: &str, kv: &KeyValue) -> Option<Arc<Workflow>> {
    Workflow::read(&kv.value)
        .inspect_err(|error| warn!(name, %error, "no daemon workflow"))
        .ok()
        .map(Arc::new)
}
