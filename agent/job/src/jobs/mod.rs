//! The jobs of the cluster, from one agent: to accept, to run, to read, to end them.

mod accept;
mod attempt;
mod cancel;
mod commit;
mod expire;
mod own;
mod presences;
mod read;
mod takeover;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pipes_raft::Store;
use tokio::sync::{Notify, watch};

use crate::queue::Queue;
use crate::record::Owner;
use crate::seams::{Chance, Clock, Holders, Runs, Workflows};

pub use accept::{Accepted, Request};
pub use read::{Found, Page, Question, Which};

/// What jobs are made of.
pub struct Parts {
    /// The store.
    pub store: Store,
    /// This node.
    pub node: u64,
    /// Runs attempts.
    pub runs: Box<dyn Runs>,
    /// Keep blobs.
    pub holders: Box<dyn Holders>,
    /// What time it is.
    pub clock: Box<dyn Clock>,
    /// Chance.
    pub chance: Box<dyn Chance>,
    /// What workflows say.
    pub workflows: Box<dyn Workflows>,
}

/// The jobs, from one agent. A cheap handle.
#[derive(Clone)]
pub struct Jobs(Arc<Inner>);

struct Inner {
    parts: Parts,
    queue: Mutex<Queue>,
    /// The queue has changed.
    queued: Notify,
    /// The nodes that are present, each with the lease of its life.
    present: watch::Sender<BTreeMap<u64, i64>>,
    /// No voter has answered for too long.
    is_cut_off: watch::Sender<bool>,
}

impl Jobs {
    /// Takes nothing up before it is run ([`Jobs::run`]).
    pub fn new(parts: Parts) -> Jobs {
        Jobs(Arc::new(Inner {
            parts,
            queue: Mutex::default(),
            queued: Notify::new(),
            present: watch::Sender::default(),
            is_cut_off: watch::Sender::default(),
        }))
    }

    fn parts(&self) -> &Parts {
        &self.0.parts
    }

    fn store(&self) -> &Store {
        &self.0.parts.store
    }

    fn clock(&self) -> &dyn Clock {
        &*self.0.parts.clock
    }

    /// This agent in its present life; `None` while it is not present.
    fn owner(&self) -> Option<Owner> {
        let node = self.0.parts.node;
        let lease = self.0.present.borrow().get(&node).copied()?;
        Some(Owner { node, lease })
    }

    /// Jobs of a workflow that this agent holds: queued, resting or under way.
    pub fn owned(&self, workflow: &str) -> usize {
        self.queue().owned(workflow)
    }

    /// The lock guards plain data for lines.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
