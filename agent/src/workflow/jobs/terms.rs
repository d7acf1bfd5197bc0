//! What daemon workflows say of their jobs.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use pipes_job::seams::{Changes, Workflows as Seam};
use pipes_job::state::Terms;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use crate::cluster::nodes::Nodes;
use crate::workflow::daemon::known::{All, Workflows};
use crate::workflow::daemon::record::{Definition, Wish, Workflow};

/// Jobs of one workflow at once on one agent, unless `--concurrency` says otherwise: as many as a replica has slots.
const AT_ONCE: usize = 16;
/// How long jobs are kept after their end, unless `--keep` says otherwise.
const KEEP: Duration = Duration::from_secs(24 * 60 * 60);

/// What attempts of a stopped workflow have to end, unless it was told otherwise.
const GRACE: Duration = Duration::from_secs(30);
/// Workflows whose definition's mark is remembered; beyond, all are forgotten and made anew.
const MARKS_MAX: usize = 1_000;

/// The daemon workflows, as the crate of jobs sees them.
pub(super) struct OfWorkflows {
    workflows: Workflows,
    nodes: Nodes,
    /// Revision and mark of a workflow's definition, which is asked for with each job.
    marks: Mutex<BTreeMap<String, (u64, u64)>>,
}

impl OfWorkflows {
    pub(super) fn new(workflows: Workflows, nodes: Nodes) -> OfWorkflows {
        OfWorkflows {
            workflows,
            nodes,
            marks: Mutex::default(),
        }
    }

    fn mark_of(&self, workflow: &Workflow) -> u64 {
        // Plain data: a panic elsewhere leaves it whole.
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        match marks.get(&workflow.name) {
            Some((revision, mark)) if *revision == workflow.revision => *mark,
            _ => {
                if marks.len() >= MARKS_MAX {
                    marks.clear();
                }
                let mark = mark(&workflow.definition);
                marks.insert(workflow.name.clone(), (workflow.revision, mark));
                mark
            }
        }
    }
}

impl Seam for OfWorkflows {
    fn terms(&self, workflow: &str) -> Option<Terms> {
        let workflow = self.workflows.get(workflow)?;
        let nodes = self.nodes.reached().len();
        Some(terms(&workflow, self.mark_of(&workflow), nodes))
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

fn terms(workflow: &Workflow, mark: u64, nodes: usize) -> Terms {
    let options = &workflow.definition.options;
    Terms {
        is_running: workflow.wish == Wish::Running,
        definition: mark,
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

/// Tells one definition of a workflow from another, whatever revision it has: one that was rolled back to is the same.
fn mark(definition: &Definition) -> u64 {
    // Text, numbers and lists: always encodable.
    let digest = Sha256::digest(serde_json::to_vec(definition).unwrap_or_default());
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(first)
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

/// The definition of that mark, if it is kept.
pub(super) fn definition(workflow: &Workflow, wanted: u64) -> Option<&Definition> {
    let former = workflow.former.iter().rev();
    let mut all = std::iter::once(&workflow.definition).chain(former);
    all.find(|definition| mark(definition) == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workflow::daemon::record::Options;

    fn workflow() -> Workflow {
        let definition = |line: &str| Definition {
            line: line.into(),
            stages: Vec::new(),
            options: Options::default(),
        };
        Workflow {
            name: "w".into(),
            wish: Wish::Running,
            port: None,
            bind: None,
            revision: 3,
            definition: definition("three"),
            former: vec![definition("one"), definition("two")],
            token_sha256: None,
            grace: None,
            write: Default::default(),
            created: String::new(),
        }
    }

    #[test]
    fn a_job_keeps_the_definition_of_its_first_attempt() {
        let workflow = workflow();
        let [one, two] = [0, 1].map(|at| mark(&workflow.former[at]));
        let now = mark(&workflow.definition);
        let line = |mark| definition(&workflow, mark).map(|found| found.line.as_str());
        assert_eq!(
            [one, two, now].map(line),
            [Some("one"), Some("two"), Some("three")]
        );
        assert_eq!(line(7), None);
    }

    #[test]
    fn concurrency_is_shared_out_to_the_agents() {
        let mut workflow = workflow();
        assert_eq!(terms(&workflow, 0, 3).at_once, AT_ONCE);
        let stage = crate::workflow::daemon::record::Stage {
            service: "a".into(),
            digest: String::new(),
            args: Vec::new(),
        };
        workflow.definition.stages = vec![stage.clone(), stage];
        workflow.definition.options.concurrency = Some(4);
        workflow.definition.options.replicas.insert(1, 3);
        assert_eq!(terms(&workflow, 0, 1).at_once, 4, "stage 2 has one replica");
        workflow.definition.options.replicas.insert(2, 2);
        assert_eq!(
            (terms(&workflow, 0, 1).at_once, terms(&workflow, 0, 3).at_once),
            (8, 3)
        );
        assert_eq!(terms(&workflow, 0, 99).at_once, 1);
    }
}
