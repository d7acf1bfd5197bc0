//! What this agent knows of itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pipes_membership::Identity;

/// What this agent says of itself; clones share what is learnt later.
#[derive(Clone, Debug)]
pub struct Local {
    identity: Identity,
    node: Arc<AtomicU64>,
    member: Arc<AtomicBool>,
}

impl Local {
    /// One that is no member yet.
    pub fn new(identity: Identity) -> Local {
        Local {
            identity,
            node: Arc::default(),
            member: Arc::default(),
        }
    }

    /// From now on it is node `id`, with a log.
    pub fn is_node(&self, id: u64) {
        self.node.store(id, Ordering::Relaxed);
        self.member.store(true, Ordering::Relaxed);
    }

    /// Its node; 0 while it is no member.
    pub fn node(&self) -> u64 {
        self.node.load(Ordering::Relaxed)
    }

    /// Its node's name.
    pub fn name(&self) -> &str {
        &self.identity.name
    }

    /// Id of its cluster.
    pub(super) fn cluster(&self) -> &str {
        &self.identity.cluster
    }

    /// Whether it has a log of the cluster.
    pub(super) fn is_member(&self) -> bool {
        self.member.load(Ordering::Relaxed)
    }
}
