//! Where an agent sits: what its process has, and what its seed draws for it.

use std::sync::Arc;

use pipes_raft::{Node, Store};
use pipes_sim_seam::Chance;

use crate::book::Shared;
use crate::plan::JobsPlan;

/// Where an agent sits.
#[derive(Clone)]
pub struct Seat {
    /// Its host's number.
    pub host: usize,
    /// And name.
    pub name: String,
    /// Its node's id.
    pub node: u64,
    /// Its node's store.
    pub store: Store,
    /// The book.
    pub shared: Shared,
    /// What its seed draws for this process.
    pub chance: Chance,
    /// How jobs are in this world.
    pub plan: JobsPlan,
}

impl Seat {
    /// On a host that is a member.
    pub fn new(
        host: usize,
        node: &Arc<Node>,
        shared: Shared,
        chance: Chance,
        plan: &JobsPlan,
    ) -> Option<Seat> {
        Some(Seat {
            host,
            name: format!("n{host}"),
            node: node.id()?,
            store: node.store(),
            shared,
            chance,
            plan: plan.clone(),
        })
    }
}
