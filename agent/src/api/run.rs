//! `pipes.run.list|get|stop`, and what agents ask one another about their runs.
//!
//! A run under way is known to its coordinator; a finished one, and one that lasts, has a record in the store. Both are
//! asked for (`workflow/runs/find.rs`).

use std::time::Duration;

use rmpv::Value;

use crate::api::arguments::Arguments;
use crate::api::{Answer, Api, Error, uris, value};
use crate::workflow::options::GRACE;
use crate::workflow::runs::find::{self, Finder, Found};
use crate::workflow::runs::registry::Notice;
use crate::workflow::runs::view::Run;

/// How long a coordinator may take to say that it was told to stop a run.
const STOP_ANSWERED_WITHIN: Duration = Duration::from_millis(700);

pub(super) async fn list(api: &Api, arguments: &mut Arguments) -> Result<Answer, Error> {
    let after = arguments.after()?;
    let Found { known, unknown } = if arguments.flag("all") {
        finder(api).all(after.as_deref()).await?
    } else {
        finder(api).under_way(after.as_deref()).await
    };
    Ok(Answer::page(&known, unknown))
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
    let asked = api.agents.call_once(&uri, vec![], Some(Value::Map(kwargs)));
    let why = match tokio::time::timeout(STOP_ANSWERED_WITHIN, asked).await {
        Ok(Ok(_)) => return Ok(Value::from(run.id)),
        Ok(Err(error)) => error.to_people(),
        Err(_) => "it does not answer".to_owned(),
    };
    Err(Error::Unavailable(format!(
        "run {} may go on: {} coordinates it, and {why}; if that is down, start it with: {}, and stop the run again",
        run.id,
        finder(api).name(node),
        api.quorum.start()
    )))
}

/// The runs that this agent coordinates, whose ids begin so.
pub(super) async fn own(api: &Api, arguments: &mut Arguments) -> Result<Answer, Error> {
    let after = arguments.after()?;
    let begin = arguments.take("begin");
    let begin = begin.as_ref().and_then(Value::as_str).unwrap_or_default();
    let page = api.runs.registry.page(begin, after.as_deref());
    Ok(Answer::page(&page, Vec::new()))
}

pub(super) async fn stop_own(api: &Api, arguments: &mut Arguments) -> Result<Value, Error> {
    let id = arguments.text("id")?;
    let grace = arguments.seconds("grace").unwrap_or(0.0);
    let grace = Duration::try_from_secs_f64(grace)
        .map_err(|_| Error::Usage("grace must be a number of seconds".into()))?;
    api.runs.registry.notify(&id, Notice::Stop { grace });
    Ok(Value::Nil)
}

/// The run that `id` names or begins, and its coordinator; 0 when it has ended.
pub(super) async fn find(api: &Api, id: &str) -> Result<(u64, Run), Error> {
    Ok(finder(api).find(id).await?)
}

pub(super) fn finder(api: &Api) -> Finder<'_> {
    Finder {
        nodes: &api.nodes,
        store: &api.store,
        quorum: &api.quorum,
        registry: &api.runs.registry,
        agents: &api.agents,
    }
}

impl From<find::Error> for Error {
    fn from(error: find::Error) -> Error {
        match error {
            find::Error::None(_) => Error::NotFound(error.to_string()),
            find::Error::NoneKnown { .. } => Error::Unavailable(error.to_string()),
            find::Error::Several(_) => Error::Usage(error.to_string()),
            find::Error::Store(error) => error.into(),
        }
    }
}
