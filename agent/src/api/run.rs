//! `pipes.run.list|get|stop`, and what agents ask one another about their runs.
//!
//! A run under way is known to its coordinator alone; a finished one is a record of the store. Both are asked for.

use std::time::Duration;

use futures::future::join_all;
use pipes_wamp::message::Payload;
use rmpv::Value;

use crate::api::arguments::Arguments;
use crate::api::{Api, Error, uris, value};
use crate::keys;
use crate::workflow::report::Run;
use crate::workflow::run::Order;

/// How long another agent may take to tell its runs.
const ASK_MAX: Duration = Duration::from_secs(1);
/// What `stop` gives stages to end by themselves, unless told otherwise.
const GRACE: Duration = Duration::from_secs(30);

pub(super) async fn list(api: &Api, arguments: &mut Arguments) -> Result<Value, Error> {
    let mut runs = under_way(api).await;
    if arguments.flag("all") {
        let finished = api.store.prefix(keys::runs()).await?;
        let finished = finished
            .iter()
            .filter_map(|kv| serde_json::from_slice::<Run>(&kv.value).ok());
        runs.extend(finished.map(|run| (0, run)));
    }
    runs.sort_by(|(_, a), (_, b)| a.id.cmp(&b.id));
    // One that ended between the two questions is in both answers.
    runs.dedup_by(|(_, a), (_, b)| a.id == b.id);
    Ok(value(&runs.into_iter().map(|(_, run)| run).collect::<Vec<_>>()))
}

pub(super) async fn get(api: &Api, arguments: &mut Arguments) -> Result<Value, Error> {
    let id = arguments.text("id")?;
    Ok(value(&find(api, &id).await?.1))
}

pub(super) async fn stop(api: &Api, arguments: &mut Arguments) -> Result<Value, Error> {
    let id = arguments.text("id")?;
    let grace = arguments.seconds("grace").unwrap_or(GRACE.as_secs_f64());
    let (node, run) = find(api, &id).await?;
    if node == 0 {
        return Err(Error::NotFound(format!("run {} has ended already", run.id)));
    }
    let kwargs = vec![
        ("id".into(), run.id.as_str().into()),
        ("grace".into(), grace.into()),
    ];
    let uri = uris::of_node(node, "run.stop");
    let asked = api.agents.call_once(&uri, vec![], Some(Value::Map(kwargs))).await;
    asked.map_err(|error| Error::Unavailable(format!("its coordinator does not answer: {error}")))?;
    Ok(Value::from(run.id))
}

/// The runs that this agent coordinates.
pub(super) fn own(api: &Api) -> Result<Value, Error> {
    Ok(value(&api.runs.registry.list()))
}

pub(super) fn stop_own(api: &Api, arguments: &mut Arguments) -> Result<Value, Error> {
    let id = arguments.text("id")?;
    let grace = arguments.seconds("grace").unwrap_or(0.0);
    let grace = Duration::try_from_secs_f64(grace)
        .map_err(|_| Error::Usage("grace must be a number of seconds".into()))?;
    api.runs.registry.order(&id, Order::Stop { grace });
    Ok(Value::Nil)
}

/// A node has a free slot for a run of ours that it turned away.
pub(super) fn freed(api: &Api, payload: Payload<'_>) -> Result<Value, Error> {
    let args = payload.args().map_err(|error| Error::Usage(error.to_string()))?;
    if let Some(id) = args.first().and_then(Value::as_str) {
        api.runs.registry.order(id, Order::Freed);
    }
    Ok(Value::Nil)
}

/// The run that `id` names or begins, and its coordinator; 0 when it has ended.
pub(super) async fn find(api: &Api, id: &str) -> Result<(u64, Run), Error> {
    let mut found = under_way(api).await;
    found.retain(|(_, run)| run.id.starts_with(id));
    let mut range = pipes_raft::Range::prefix(keys::run(id));
    // Enough to know that there are several.
    range.limit = 2;
    let kept = api
        .store
        .range(range, pipes_raft::Consistency::Linearizable)
        .await?
        .kvs;
    let kept = kept
        .iter()
        .filter_map(|kv| serde_json::from_slice::<Run>(&kv.value).ok());
    for run in kept {
        if !found.iter().any(|(_, known)| known.id == run.id) {
            found.push((0, run));
        }
    }
    match found.len() {
        0 => Err(Error::NotFound(format!(
            "there is no run {id}; pipes ps -a lists them"
        ))),
        1 => Ok(found.remove(0)),
        _ => Err(Error::Usage(format!(
            "several runs begin with {id}; give more of the id"
        ))),
    }
}

/// The runs under way at every agent that answers, with their coordinators.
async fn under_way(api: &Api) -> Vec<(u64, Run)> {
    let own = api.nodes.own_id();
    let mut runs: Vec<(u64, Run)> = api
        .runs
        .registry
        .list()
        .into_iter()
        .map(|run| (own, run))
        .collect();
    let others = api
        .nodes
        .reached()
        .into_iter()
        .map(|(id, _)| id)
        .filter(|id| *id != own);
    let asked = join_all(others.map(|node| ask(api, node))).await;
    runs.extend(asked.into_iter().flatten());
    runs
}

/// An agent that does not answer in time has nothing to show now.
async fn ask(api: &Api, node: u64) -> Vec<(u64, Run)> {
    let uri = uris::of_node(node, "runs");
    let call = api.agents.call_once(&uri, vec![], None);
    let Ok(Ok(answer)) = tokio::time::timeout(ASK_MAX, call).await else {
        return Vec::new();
    };
    let args = answer.as_payload().args().unwrap_or_default();
    let runs = args
        .into_iter()
        .next()
        .and_then(|value| rmpv::ext::from_value::<Vec<Run>>(value).ok());
    runs.unwrap_or_default()
        .into_iter()
        .map(|run| (node, run))
        .collect()
}
