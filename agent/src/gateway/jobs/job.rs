//! One job: what `GET /jobs/ID/` shows, and `DELETE` ends.

use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use pipes_protocol::uris;
use rmpv::Value;
use serde::Deserialize;

use crate::gateway::asked::{Asked, Gateway};
use crate::gateway::error::Error;
use crate::gateway::limits::SILENCE_MAX;
use crate::gateway::session::Session;
use crate::workflow::options::WAIT_MAX;

/// A job as the procedures show it: the object of `GET /jobs/ID/`.
pub struct Job {
    shown: Value,
}

impl Job {
    /// Of an answer.
    pub fn new(shown: Value) -> Job {
        Job { shown }
    }

    /// The job of this ID, once it is over or the time is.
    pub async fn get(
        session: &mut Session,
        asked: &Asked,
        id: &str,
        wait: Option<Duration>,
    ) -> Result<Job, Error> {
        let workflow = asked.workflow.name.as_str();
        let mut kwargs = vec![("id", Value::from(id))];
        kwargs.extend(wait.map(|wait| ("wait", Value::from(wait.as_secs_f64()))));
        let shown = tokio::select! {
            shown = session.ask(uris::JOB_GET, kwargs) => shown?,
            () = asked.peer.gone(SILENCE_MAX) => return Err(Error::Gone),
        };
        let job = Job::new(shown);
        // By its whole ID alone, so that nobody finds one by guessing at its beginning.
        if job.text("workflow") == Some(workflow) && job.text("id") == Some(id) {
            Ok(job)
        } else {
            Err(Error::NotFound(format!(
                "workflow {workflow} has no job of this ID, or it has expired"
            )))
        }
    }

    fn field(&self, name: &str) -> Option<&Value> {
        field(&self.shown, name)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.field(name)?.as_str()
    }

    /// Its ID.
    pub fn id(&self) -> Result<String, Error> {
        let id = self.text("id").map(str::to_owned);
        id.ok_or_else(|| {
            Error::Unavailable("the job has no ID: this agent and another are of different versions".into())
        })
    }

    /// `queued`, `running`, `succeeded`, `failed` or `cancelled`.
    pub fn state(&self) -> &str {
        self.text("state").unwrap_or_default()
    }

    /// What `pipes result` exits with, once it is over.
    pub fn status(&self) -> Option<i64> {
        self.field("status")?.as_i64()
    }

    /// Bytes of its result, and their SHA-256 in hexadecimal digits, where one was recorded.
    pub fn result(&self) -> Option<(u64, Option<&str>)> {
        let result = self.field("result")?;
        Some((
            field(result, "bytes")?.as_u64()?,
            field(result, "sha256").and_then(Value::as_str),
        ))
    }

    /// That it did not succeed, in a sentence.
    pub fn failed(&self) -> Error {
        let (id, state) = (self.text("id").unwrap_or_default(), self.state());
        let why = match (self.text("reason"), self.status()) {
            (Some(reason), _) => format!("job {id} {}: {reason}", past(state)),
            (None, Some(status)) => format!("job {id} {} with status {status}", past(state)),
            (None, None) => format!("job {id} {}", past(state)),
        };
        Error::Failed {
            status: self.status().and_then(|status| status.try_into().ok()),
            run: None,
            why,
        }
    }

    fn render(&self) -> Response {
        // Text, numbers and lists.
        let body = serde_json::to_string(&self.shown).unwrap_or_default();
        let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
        (headers, body + "\n").into_response()
    }
}

fn past(state: &str) -> &str {
    match state {
        "cancelled" => "was cancelled",
        state => state,
    }
}

fn field<'a>(of: &'a Value, name: &str) -> Option<&'a Value> {
    let pairs = of.as_map()?;
    pairs
        .iter()
        .find(|(key, _)| key.as_str() == Some(name))
        .map(|(_, value)| value)
}

/// What `?wait=` says.
pub fn wait_of(text: Option<&str>) -> Result<Option<Duration>, Error> {
    let Some(text) = text else {
        return Ok(None);
    };
    let seconds = text
        .parse::<f64>()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    match seconds {
        Some(seconds) => Ok(Some(seconds.min(WAIT_MAX))),
        None => Err(Error::Usage(
            "wait is a number of seconds, such as ?wait=30".into(),
        )),
    }
}

#[derive(Deserialize)]
struct Parameters {
    wait: Option<String>,
}

/// What the request's query says of waiting.
pub fn wait(request: &Request) -> Result<Option<Duration>, Error> {
    let parameters = Query::<Parameters>::try_from_uri(request.uri());
    let Query(parameters) = parameters.map_err(|error| Error::Usage(error.body_text()))?;
    wait_of(parameters.wait.as_deref())
}

/// Shows a job.
pub async fn show(
    State(gateway): State<Gateway>,
    Extension(asked): Extension<Asked>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Error> {
    let wait = wait(&request)?;
    let mut session = Session::open(&gateway.router)?;
    let job = Job::get(&mut session, &asked, &id, wait).await?;
    Ok(job.render())
}

/// Ends a job, and shows it.
pub async fn cancel(
    State(gateway): State<Gateway>,
    Extension(asked): Extension<Asked>,
    Path(id): Path<String>,
) -> Result<Response, Error> {
    let mut session = Session::open(&gateway.router)?;
    Job::get(&mut session, &asked, &id, None).await?;
    let cancelled = session.ask(uris::JOB_CANCEL, vec![("id", id.into())]).await?;
    Ok(Job::new(cancelled).render())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(pairs: Vec<(&str, Value)>) -> Job {
        let pairs = pairs.into_iter().map(|(key, value)| (Value::from(key), value));
        Job::new(Value::Map(pairs.collect()))
    }

    #[test]
    fn a_job_that_failed_says_why_as_far_as_that_is_known() {
        let failed = |pairs: Vec<(&'static str, Value)>| {
            let mut all = vec![("id", "j1".into()), ("state", "failed".into())];
            all.extend(pairs);
            job(all).failed().to_string()
        };
        assert_eq!(failed(vec![("status", 3.into())]), "job j1 failed with status 3");
        let reason = vec![("status", 124.into()), ("reason", "the timeout ran out".into())];
        assert_eq!(failed(reason), "job j1 failed: the timeout ran out");
        let cancelled = job(vec![
            ("id", "j1".into()),
            ("state", "cancelled".into()),
            ("status", Value::Nil),
        ]);
        assert_eq!(cancelled.failed().to_string(), "job j1 was cancelled");
    }

    #[test]
    fn waiting_is_bounded_and_a_number() {
        assert_eq!(wait_of(None), Ok(None));
        assert_eq!(wait_of(Some("1.5")), Ok(Some(Duration::from_millis(1_500))));
        assert_eq!(wait_of(Some("1e9")), Ok(Some(WAIT_MAX)));
        for wrong in ["", "a", "-1", "NaN", "inf"] {
            assert!(matches!(wait_of(Some(wrong)), Err(Error::Usage(_))), "{wrong}");
        }
    }

    #[test]
    fn a_job_is_shown_as_json_with_what_is_unknown_as_null() {
        let shown = job(vec![
            ("id", "j1".into()),
            ("status", Value::Nil),
            ("attempt", 2.into()),
        ]);
        let text = serde_json::to_string(&shown.shown).unwrap();
        assert_eq!(text, r#"{"id":"j1","status":null,"attempt":2}"#);
    }
}
