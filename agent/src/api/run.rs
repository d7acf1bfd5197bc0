//! `pipes.run.list|get|stop`, and what agents ask one another about their runs.
//!
//! A run under way is known to its coordinator; a finished one, and one that lasts, has a record in the store. Both are
//! asked for (`reconcile.rs`).

use std::time::Duration;

use futures::future::join_all;
use pipes_wamp::client::CallError;
use pipes_wamp::error::uri::NO_SUCH_PROCEDURE;
use pipes_wamp::message::Payload;
use rmpv::Value;

use crate::api::arguments::Arguments;
use crate::api::{Api, Error, node, uris, value};
use crate::keys;
use crate::workflow::runs::reconcile::{self, Told};
use crate::workflow::runs::record::Kept;
use crate::workflow::runs::registry::Notice;
use crate::workflow::runs::view::Run;

/// How long another agent may take to tell its runs.
const ASK_MAX: Duration = Duration::from_secs(1);
/// What `stop` gives stages to end by themselves, unless told otherwise.
const GRACE: Duration = Duration::from_secs(30);

pub(super) async fn list(api: &Api, arguments: &mut Arguments) -> Result<Value, Error> {
    let runs = if arguments.flag("all") {
        known(api, "", pipes_raft::Range::prefix(keys::runs())).await?
    } else {
        let mut runs = told(api, "").await.runs;
        // One that is over stays with its coordinator until that is on record.
        runs.retain(|(_, run)| run.status.is_none());
        runs.sort_by(|(_, a), (_, b)| a.id.cmp(&b.id));
        runs
    };
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
    api.runs.registry.notify(&id, Notice::Stop { grace });
    Ok(Value::Nil)
}

/// A node has a free slot for a run of ours that it turned away.
pub(super) fn freed(api: &Api, payload: Payload<'_>) -> Result<Value, Error> {
    let args = payload.args().map_err(|error| Error::Usage(error.to_string()))?;
    if let Some(id) = args.first().and_then(Value::as_str) {
        api.runs.registry.notify(id, Notice::Freed);
    }
    Ok(Value::Nil)
}

/// The run that `id` names or begins, and its coordinator; 0 when it has ended.
pub(super) async fn find(api: &Api, id: &str) -> Result<(u64, Run), Error> {
    let mut range = pipes_raft::Range::prefix(keys::run(id));
    // Enough to know that there are several.
    range.limit = 2;
    let mut found = known(api, id, range).await?;
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

/// The runs whose ids begin so, with their coordinators; 0 for those that are over.
async fn known(api: &Api, begin: &str, range: pipes_raft::Range) -> Result<Vec<(u64, Run)>, Error> {
    let (mut told_runs, mut kept) = (told(api, begin).await, records(api, &range).await?);
    let mut lost = reconcile::orphans(&told_runs, &kept);
    if !lost.is_empty() {
        // They may have begun since the agents were asked, or ended since: asked once more, that shows. A coordinator that
        // lives and is not reached from here does not answer.
        (told_runs, kept) = (told(api, begin).await, records(api, &range).await?);
        let unreached = node::present(api).await?.into_iter();
        told_runs
            .silent
            .extend(unreached.filter(|node| !api.nodes.is_reached(*node)));
        lost = &lost & &reconcile::orphans(&told_runs, &kept);
    }
    let nodes = api.nodes.records();
    let name = |node| {
        nodes
            .get(&node)
            .map_or(node.to_string(), |known| known.name.clone())
    };
    let runs = reconcile::merge(told_runs, kept, &lost, name);
    for (_, run) in runs.iter().filter(|(_, run)| lost.contains(&run.id)) {
        // On record, it is found so the next time, and goes when its turn comes. One that is not written is found again.
        if let Ok(record) = serde_json::to_vec(run) {
            let _ = api.store.put(keys::run(&run.id), record, None).await;
        }
    }
    Ok(runs)
}

async fn records(api: &Api, range: &pipes_raft::Range) -> Result<Vec<Kept>, Error> {
    let found = api
        .store
        .range(range.clone(), pipes_raft::Consistency::Linearizable)
        .await?;
    let kept = found.kvs.iter().map(|kv| serde_json::from_slice(&kv.value));
    Ok(kept.filter_map(Result::ok).collect())
}

/// What every agent that is reached says of its runs whose ids begin so.
async fn told(api: &Api, begin: &str) -> Told {
    let own = api.nodes.own_id();
    let mut told = Told::default();
    let runs = api.runs.registry.list();
    told.runs.extend(runs.into_iter().map(|run| (own, run)));
    let others = api
        .nodes
        .reached()
        .into_iter()
        .map(|(id, _)| id)
        .filter(|id| *id != own);
    for (node, answer) in join_all(others.map(|node| ask(api, node))).await {
        match answer {
            Some(runs) => told.runs.extend(runs.into_iter().map(|run| (node, run))),
            None => drop(told.silent.insert(node)),
        }
    }
    told.runs.retain(|(_, run)| run.id.starts_with(begin));
    told
}

/// The runs of another agent; `None` when it does not say.
async fn ask(api: &Api, node: u64) -> (u64, Option<Vec<Run>>) {
    let uri = uris::of_node(node, "runs");
    let call = api.agents.call_once(&uri, vec![], None);
    let runs = match tokio::time::timeout(ASK_MAX, call).await {
        Ok(Ok(answer)) => answer
            .as_payload()
            .args()
            .ok()
            .and_then(|args| rmpv::ext::from_value(args.into_iter().next()?).ok()),
        // It has begun a moment ago and serves nothing yet.
        Ok(Err(CallError::Answered { uri, .. })) if uri == NO_SUCH_PROCEDURE => Some(Vec::new()),
        Ok(Err(_)) | Err(_) => None,
    };
    (node, runs)
}
