//! What the stages of a job that runs have come to: its agent knows, since the attempt is a run there.

use std::time::Duration;

use pipes_job::record::OpenState;
use pipes_job::{Found, Job};
use rmpv::Value;

use crate::api::arguments::Arguments;
use crate::api::{Api, Error, uris, value};
use crate::workflow::jobs::view;
use crate::workflow::runs::view::RunStage;

/// How long that agent may take: it has it in memory.
const ASK_MAX: Duration = Duration::from_millis(700);

/// The stages of an attempt that is under way at this agent; none where there is none.
pub(super) async fn own(api: &Api, arguments: &mut Arguments) -> Result<Value, Error> {
    let job = arguments.text("job")?;
    let run = api.runs.registry.of_job(&job);
    Ok(value(&run.map(|run| run.stages).unwrap_or_default()))
}

/// The stages of a job as far as they are known: of one that waits none are.
pub(super) async fn stages(api: &Api, found: &Found) -> Vec<RunStage> {
    let job = match found {
        Found::Done { .. } => return view::of(found).stages,
        Found::Open(job) => job,
    };
    match runner(job) {
        None => Vec::new(),
        Some(node) if node == api.nodes.own_id() => {
            let run = api.runs.registry.of_job(&job.id);
            run.map(|run| run.stages).unwrap_or_default()
        }
        Some(node) => ask(api, node, &job.id).await.unwrap_or_default(),
    }
}

/// The node that runs a job.
pub(super) fn runner(job: &Job) -> Option<u64> {
    let is_running = job.open.state == OpenState::Running;
    job.open.owner.filter(|_| is_running).map(|owner| owner.node)
}

async fn ask(api: &Api, node: u64, job: &str) -> Option<Vec<RunStage>> {
    let uri = uris::of_node(node, uris::node::JOB_STAGES);
    let kwargs = Value::Map(vec![("job".into(), job.into())]);
    let asked = api.agents.call_once(&uri, vec![], Some(kwargs));
    let answer = tokio::time::timeout(ASK_MAX, asked).await.ok()?.ok()?;
    answer.as_payload().first_as().ok()
}
