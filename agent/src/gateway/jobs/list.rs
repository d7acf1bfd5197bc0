//! `GET /jobs/`: a page of a workflow's jobs, for those who may see them all.

use axum::Extension;
use axum::extract::{Query, State};
use axum::http::Uri;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use pipes_protocol::uris;
use rmpv::Value;
use serde::Deserialize;

use crate::gateway::asked::{Asked, Gateway};
use crate::gateway::error::Error;
use crate::gateway::session::Session;

/// Jobs of a page unless said otherwise, and at most: some 500 KiB of them.
const LIMIT: u64 = 100;
const LIMIT_MAX: u64 = 1_000;
/// What a job may be.
const STATES: [&str; 5] = ["queued", "running", "succeeded", "failed", "cancelled"];

#[derive(Deserialize)]
struct Parameters {
    state: Option<String>,
    limit: Option<String>,
    after: Option<String>,
}

/// Lists.
pub async fn list(
    State(gateway): State<Gateway>,
    Extension(asked): Extension<Asked>,
    uri: Uri,
) -> Result<Response, Error> {
    let workflow = &asked.workflow;
    let mut session = Session::open(&gateway.router)?;
    let is_for_all = workflow.token_sha256.is_none() && workflow.definition.options.list;
    let has_token = workflow.token_sha256.is_some() && asked.has_token;
    if !is_for_all && !has_token && !is_operator(&mut session, &asked).await? {
        return Err(match asked.has_token {
            true => Error::Forbidden(format!(
                "jobs of workflow {} are listed for those who have its token or an operator's, or for all with `--list`",
                workflow.name
            )),
            false => Error::Token(workflow.name.clone()),
        });
    }
    let parameters = Query::<Parameters>::try_from_uri(&uri);
    let Query(Parameters { state, limit, after }) =
        parameters.map_err(|error| Error::Usage(error.body_text()))?;
    if let Some(state) = state.as_deref().filter(|state| !STATES.contains(state)) {
        return Err(Error::Usage(format!(
            "'{state}' is no state of a job: {}",
            STATES.join(", ")
        )));
    }
    let limit = match limit.as_deref().map(str::parse::<u64>) {
        None => LIMIT,
        Some(Ok(limit)) if limit > 0 => limit.min(LIMIT_MAX),
        Some(_) => return Err(Error::Usage("limit is a number of jobs, 1 or more".into())),
    };
    let mut kwargs = vec![
        ("workflow", Value::from(workflow.name.as_str())),
        ("limit", limit.into()),
    ];
    kwargs.extend(state.map(|state| ("state", Value::from(state))));
    kwargs.extend(after.map(|after| ("after", Value::from(after))));
    let page = session.ask(uris::JOB_LIST, kwargs).await?;
    // Text, numbers and lists.
    let body = serde_json::to_string(&page).unwrap_or_default();
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
    Ok((headers, body + "\n").into_response())
}

/// Whether the token that was shown is one of `pipes token create`.
async fn is_operator(session: &mut Session, asked: &Asked) -> Result<bool, Error> {
    let Some(sha256) = asked.token_sha256.as_deref() else {
        return Ok(false);
    };
    let known = session
        .ask(uris::TOKEN_CHECK, vec![("sha256", sha256.into())])
        .await?;
    Ok(known.as_bool() == Some(true))
}
