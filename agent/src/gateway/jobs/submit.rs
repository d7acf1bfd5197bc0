//! `POST /`: a query becomes a job, whose ID is the answer.
//!
//! ```text
//! POST / "some_data"  -> pipes.job.submit {workflow, key, input}  -> 202 Job ID: j01..
//! POST / 2 GiB        -> pipes.job.submit {..} [bytes] [bytes] .. against credit
//! POST /?wait=5       -> ... pipes.job.get {id, wait: 5}, pipes.job.result {id}  -> 200 the bytes
//! ```
//!
//! Always: the ID is answered when the job is there on a majority, and not before.

use axum::Extension;
use axum::body::Bytes;
use axum::extract::{Query, Request, State};
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use pipes_protocol::uris;
use rmpv::Value;
use serde::Deserialize;
use serde_json::json;

use crate::gateway::asked::{Asked, Gateway};
use crate::gateway::error::{Error, wants_json};
use crate::gateway::headers::IDEMPOTENCY_KEY;
use crate::gateway::jobs::input::Input;
use crate::gateway::jobs::job::{Job, wait_of};
use crate::gateway::jobs::result;
use crate::gateway::session::{Answer, Session, credit_of, first};

/// An input of at most so many bytes goes with the call: one message instead of a conversation.
const WHOLE_MAX: usize = 64 << 10;
/// Bytes of an input in one message.
const CHUNK_MAX: usize = 64 << 10;
/// An idempotency key's characters: those of a UUID and a name before it, many times over.
const KEY_MAX: usize = 1_024;

#[derive(Deserialize)]
struct Parameters {
    wait: Option<String>,
}

/// Takes a query.
pub async fn submit(
    State(gateway): State<Gateway>,
    Extension(asked): Extension<Asked>,
    request: Request,
) -> Result<Response, Error> {
    asked.refuse_if_stopped()?;
    let (head, body) = request.into_parts();
    let parameters = Query::<Parameters>::try_from_uri(&head.uri);
    let Query(parameters) = parameters.map_err(|error| Error::Usage(error.body_text()))?;
    let wait = wait_of(parameters.wait.as_deref())?;
    let key = head.headers.get(IDEMPOTENCY_KEY).map(key).transpose()?;
    let mut input = Input::new(&head.headers, body, &asked.workflow).await?;
    let mut session = Session::open(&gateway.router)?;
    let mut kwargs = vec![("workflow", Value::from(asked.workflow.name.as_str()))];
    kwargs.extend(key.map(|key| ("key", Value::from(key))));
    let answered = match whole(&mut input).await? {
        (bytes, true) => {
            kwargs.push(("input", Value::Binary(bytes)));
            session.ask(uris::JOB_SUBMIT, kwargs).await?
        }
        (bytes, false) => {
            kwargs.extend(input.length().map(|length| ("length", Value::from(length))));
            session.begin(uris::JOB_SUBMIT, kwargs, false);
            send(&mut session, bytes, &mut input).await?
        }
    };
    let id = Job::new(answered).id()?;
    if let Some(wait) = wait {
        let job = Job::get(&mut session, &asked, &id, Some(wait)).await?;
        match job.state() {
            "succeeded" => {
                let mut response = result::whole(session, &job)?;
                locate(&mut response, &asked, &id);
                return Ok(response);
            }
            "failed" | "cancelled" => return Err(job.failed()),
            _ => {}
        }
    }
    Ok(accepted(&asked, &id, wants_json(&head.headers)))
}

fn key(value: &HeaderValue) -> Result<String, Error> {
    let wrong = || Error::Usage(format!("Idempotency-Key is text of 1 to {KEY_MAX} characters"));
    let text = value.to_str().map_err(|_| wrong())?;
    match text.len() {
        1..=KEY_MAX => Ok(text.to_owned()),
        _ => Err(wrong()),
    }
}

/// An input's beginning, and whether that is all of it.
async fn whole(input: &mut Input) -> Result<(Vec<u8>, bool), Error> {
    let mut bytes = Vec::new();
    if input.length().is_some_and(|length| length > WHOLE_MAX as u64) {
        return Ok((bytes, false));
    }
    while let Some(more) = input.next().await? {
        bytes.extend_from_slice(&more);
        if bytes.len() > WHOLE_MAX {
            return Ok((bytes, false));
        }
    }
    Ok((bytes, true))
}

/// Sends an input as there is credit for it: what the agents do not take is not read of the client.
async fn send(session: &mut Session, begun: Vec<u8>, input: &mut Input) -> Result<Value, Error> {
    let (mut held, mut credit, mut is_over) = (Bytes::from(begun), 0_u64, false);
    loop {
        while credit > 0 && !held.is_empty() {
            let length = held
                .len()
                .min(CHUNK_MAX)
                .min(usize::try_from(credit).unwrap_or(usize::MAX));
            session.outgoing.bytes(&held.split_to(length), false);
            credit -= length as u64;
        }
        session.outgoing.flush().await?;
        if held.is_empty() && credit > 0 && !is_over {
            match input.next().await? {
                Some(bytes) => held = bytes,
                None => {
                    is_over = true;
                    session.outgoing.bytes(&[], true);
                }
            }
            continue;
        }
        match session.incoming.next().await? {
            Answer::Part(payload) => credit += credit_of(payload).unwrap_or(0),
            Answer::Over(payload) => return Ok(first(payload)),
            Answer::Nothing => {}
        }
    }
}

fn accepted(asked: &Asked, id: &str, wants_json: bool) -> Response {
    let (kind, body) = match wants_json {
        true => ("application/json", json!({ "id": id }).to_string()),
        false => ("text/plain; charset=utf-8", format!("Job ID: {id}\n")),
    };
    let mut response = (StatusCode::ACCEPTED, [(CONTENT_TYPE, kind)], body).into_response();
    locate(&mut response, asked, id);
    response
}

/// Where the job is, from where the client asked.
fn locate(response: &mut Response, asked: &Asked, id: &str) {
    // An ID is letters and digits, as a workflow's name is.
    if let Ok(location) = HeaderValue::from_str(&format!("{}jobs/{id}/", asked.base)) {
        response.headers_mut().insert(LOCATION, location);
    }
}
