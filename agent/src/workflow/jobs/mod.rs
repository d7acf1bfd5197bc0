//! Jobs of this agent: what the crate `pipes-job` needs of the world, and how a job is shown.
//!
//! ```text
//! api/job.rs -> pipes_job::Jobs -> attempt.rs: pipes.run.start, on a session of its own, as any client's
//!                                  terms.rs: what the daemon workflows say of their jobs
//!                                  world.rs: chance
//! ```

mod attempt;
mod output;
mod terms;
pub mod view;
mod world;

pub(crate) use output::Gathered;
use pipes_job::Jobs;
use pipes_router::Router;

use crate::blob::Blobs;
use crate::clock;
use crate::cluster::nodes::Nodes;
use crate::lifecycle::{Kind, Lifecycle};
use crate::workflow::daemon::known::Workflows;

/// What jobs are run with.
pub struct Parts {
    /// The store.
    pub store: pipes_raft::Store,
    /// This node, and how many there are.
    pub nodes: Nodes,
    /// Large inputs and results.
    pub blobs: Blobs,
    /// Gives sessions.
    pub router: Router,
    /// The daemon workflows.
    pub workflows: Workflows,
    /// Stopped before anything that an attempt needs, so that what runs is handed over.
    pub lifecycle: Lifecycle,
}

/// Starts to take jobs up; runs until the lifecycle is stopped.
pub fn start(parts: Parts) -> Jobs {
    let Parts {
        store,
        nodes,
        blobs,
        router,
        workflows,
        lifecycle,
    } = parts;
    let jobs = Jobs::new(pipes_job::Parts {
        store: store.clone(),
        node: nodes.own_id(),
        runs: Box::new(attempt::Attempts {
            store: store.clone(),
            router,
            blobs: blobs.clone(),
            workflows: workflows.clone(),
            node: nodes.own_name().to_owned(),
            lifecycle: lifecycle.clone(),
        }),
        holders: Box::new(blobs),
        clock: clock::boxed(store.clone()),
        chance: Box::new(world::Random),
        workflows: Box::new(terms::OfWorkflows::new(workflows, nodes)),
    });
    let (run, stopping) = (jobs.clone(), lifecycle.stopping());
    lifecycle.spawn(Kind::Part, "jobs", async move {
        run.run(stopping.cancelled()).await;
        Ok(())
    });
    jobs
}
