//! `pipes.run.list|get|stop`, and what agents ask one another about their runs.
//!
//! A run under way is known to its coordinator; a finished one, and one that lasts, has a record in the store. Both are
//! asked for (`workflow/runs/find.rs`).

use std::time::Duration;

use pipes_protocol::reservation::Freed;
use pipes_wamp::message::Payload;
use rmpv::Value;

use crate::api::arguments::Arguments;
use crate::api::{Api, Error, uris, value};
use crate::workflow::runs::find::{self, Finder};
use crate::workflow::runs::registry::Notice;
use crate::workflow::runs::view::Run;

/// What `stop` gives stages to end by themselves, unless told otherwise.
const GRACE: Duration = Duration::from_secs(30);

pub(super) async fn list(api: &Api, arguments: &mut Arguments) -> Result<Value, Error> {
    let runs = if arguments.flag("all") {
        finder(api).all().await?
    } else {
        finder(api).under_way().await
    };
    Ok(value(&runs))
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
    let uri = uris::of_node(node, uris::node::RUN_STOP);
    let asked = api.agents.call_once(&uri, vec![], Some(Value::Map(kwargs))).await;
    asked.map_err(|error| Error::Unavailable(format!("its coordinator does not answer: {error}")))?;
    Ok(Value::from(run.id))
}

/// The runs that this agent coordinates.
pub(super) async fn own(api: &Api, _: &mut Arguments) -> Result<Value, Error> {
    Ok(value(&api.runs.registry.list()))
}

pub(super) async fn stop_own(api: &Api, arguments: &mut Arguments) -> Result<Value, Error> {
    let id = arguments.text("id")?;
    let grace = arguments.seconds("grace").unwrap_or(0.0);
    let grace = Duration::try_from_secs_f64(grace)
        .map_err(|_| Error::Usage("grace must be a number of seconds".into()))?;
    api.runs.registry.notify(&id, Notice::Stop { grace });
    Ok(Value::Nil)
}

/// A node has a free slot for a run of ours that it turned away.
pub(super) fn freed(api: &Api, payload: Payload<'_>) -> Result<Value, Error> {
    let freed = Freed::parse(payload).ok_or_else(|| Error::Usage("freed must name a run".into()))?;
    api.runs.registry.notify(&freed.run, Notice::Freed);
    Ok(Value::Nil)
}

/// The run that `id` names or begins, and its coordinator; 0 when it has ended.
pub(super) async fn find(api: &Api, id: &str) -> Result<(u64, Run), Error> {
    Ok(finder(api).find(id).await?)
}

fn finder(api: &Api) -> Finder<'_> {
    Finder {
        nodes: &api.nodes,
        store: &api.store,
        registry: &api.runs.registry,
        agents: &api.agents,
    }
}

impl From<find::Error> for Error {
    fn from(error: find::Error) -> Error {
        match error {
            find::Error::None(_) => Error::NotFound(error.to_string()),
            find::Error::Several(_) => Error::Usage(error.to_string()),
            find::Error::Store(error) => error.into(),
        }
    }
}
