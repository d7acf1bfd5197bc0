//! What daemon workflows say of their jobs.

use std::time::Duration;

use async_trait::async_trait;
use pipes_job::seams::{Changes, Workflows as Seam};
use pipes_job::state::{KEEP, Terms};
use tokio::sync::watch;

use crate::cluster::nodes::Nodes;
use crate::workflow::daemon::known::{All, Workflows};
use crate::workflow::daemon::record::{Definition, Wish, Workflow};
use crate::workflow::options::GRACE;

/// Jobs of one workflow at once on one agent, unless `--concurrency` says otherwise: as many as a replica has slots.
const AT_ONCE: usize = 16;
/// The daemon workflows, as the crate of jobs sees them.
pub(super) struct OfWorkflows {
    workflows: Workflows,
    nodes: Nodes,
}

impl OfWorkflows {
    pub(super) fn new(workflows: Workflows, nodes: Nodes) -> OfWorkflows {
        OfWorkflows { workflows, nodes }
    }
}

impl Seam for OfWorkflows {
    fn terms(&self, workflow: &str) -> Option<Terms> {
        let workflow = self.workflows.get(workflow)?;
        let nodes = self.nodes.reached().len();
        Some(terms(&workflow, nodes))
    }

    fn changes(&self) -> Box<dyn Changes> {
        Box::new(Changed(self.workflows.changes()))
    }
}

struct Changed(watch::Receiver<All>);

#[async_trait]
impl Changes for Changed {
    async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            // The agent is stopping: nothing changes any more.
            std::future::pending::<()>().await;
        }
    }
}

fn terms(workflow: &Workflow, nodes: usize) -> Terms {
    let options = &workflow.definition.options;
    Terms {
        is_running: workflow.wish == Wish::Running,
        definition: workflow.definition.revision,
        at_once: at_once(&workflow.definition, nodes),
        retries: u64::from(options.retries),
        timeout: seconds(options.timeout),
        keep: seconds(options.keep).unwrap_or(KEEP),
        grace: seconds(workflow.grace).unwrap_or(GRACE),
    }
}

fn seconds(given: Option<f64>) -> Option<Duration> {
    Duration::try_from_secs_f64(given?).ok()
}

/// This agent's share of what the replicas of the stage that has fewest may take together.
fn at_once(definition: &Definition, nodes: usize) -> usize {
    let options = &definition.options;
    let Some(concurrency) = options.concurrency else {
        return AT_ONCE;
    };
    let stages = 1..=definition.stages.len() as u32;
    let replicas = stages.map(|stage| options.replicas.get(&stage).copied().unwrap_or(1));
    let all = concurrency
        .max(1)
        .saturating_mul(replicas.min().unwrap_or(1).max(1));
    usize::try_from(all).unwrap_or(usize::MAX).div_ceil(nodes.max(1))
}

/// The definition of that revision, if it is kept.
pub(super) fn definition(workflow: &Workflow, wanted: u64) -> Option<&Definition> {
    let former = workflow.former.iter().rev();
    let mut all = std::iter::once(&workflow.definition).chain(former);
    all.find(|definition| definition.revision == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workflow::daemon::record::Options;

    fn workflow() -> Workflow {
        let definition = |revision, line: &str| Definition {
            revision,
            line: line.into(),
            stages: Vec::new(),
            options: Options::default(),
        };
        Workflow {
            name: "w".into(),
            wish: Wish::Running,
            port: None,
            bind: None,
            revision: 5,
            definition: definition(4, "three"),
            former: vec![definition(1, "one"), definition(2, "two")],
            token_sha256: None,
            tls: None,
            grace: None,
            created: String::new(),
            write: String::new(),
        }
    }

    #[test]
    fn a_job_keeps_the_definition_of_its_first_attempt() {
        let workflow = workflow();
        let line = |revision| definition(&workflow, revision).map(|found| found.line.as_str());
        assert_eq!([1, 2, 4].map(line), [Some("one"), Some("two"), Some("three")]);
        assert_eq!([3, 5].map(line), [None, None]);
        assert_eq!(terms(&workflow, 3).definition, 4);
    }

    #[test]
    fn concurrency_is_shared_out_to_the_agents() {
        let mut workflow = workflow();
        assert_eq!(terms(&workflow, 3).at_once, AT_ONCE);
        let stage = crate::workflow::daemon::record::Stage {
            service: "a".into(),
            digest: String::new(),
            args: Vec::new(),
        };
        workflow.definition.stages = vec![stage.clone(), stage];
        workflow.definition.options.concurrency = Some(4);
        workflow.definition.options.replicas.insert(1, 3);
        assert_eq!(terms(&workflow, 1).at_once, 4, "stage 2 has one replica");
        workflow.definition.options.replicas.insert(2, 2);
        assert_eq!((terms(&workflow, 1).at_once, terms(&workflow, 3).at_once), (8, 3));
        assert_eq!(terms(&workflow, 99).at_once, 1);
    }
}
