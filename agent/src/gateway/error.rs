//! Why a request is refused, as its client hears it: one sentence, as text or as JSON.
//!
//! ```text
//! HTTP/1.1 429 Too Many Requests        HTTP/1.1 404 Not Found
//! retry-after: 1                        content-type: application/json
//! 256 requests of words are ...         {"error":"there is no job j01..."}
//! ```
//!
//! What procedures answer is mapped by the table in [`Error::answered`], and nowhere else.

use axum::body::Body;
use axum::http::header::{ACCEPT, CONTENT_RANGE, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use pipes_protocol::uris;
use pipes_wamp::client::CallError;
use pipes_wamp::message::Payload;
use serde_json::json;

use crate::gateway::headers::{PIPES_RUN, PIPES_STATUS};

/// Seconds after which a client that was too many may try again: slots free within one.
const RETRY_AFTER_SECONDS: &str = "1";

/// Reasons, each with its status.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// 400: the request is wrong.
    #[error("{0}")]
    Usage(String),
    /// 401: the workflow has a token, and this is not it.
    #[error("workflow {0} wants its token, as `Authorization: Bearer TOKEN`")]
    Token(String),
    /// 403: not for this client.
    #[error("{0}")]
    Forbidden(String),
    /// 404: no such thing.
    #[error("{0}")]
    NotFound(String),
    /// 408: the client did not send what it announced, nor take what lay ready.
    #[error("nothing came for {0} seconds, and the rest of the body is missing")]
    Slow(u64),
    /// 409: not as things are.
    #[error("{0}")]
    Conflict(String),
    /// 413: a body, or what has to be kept of a result meanwhile.
    #[error("{what} is longer than the {most} bytes that workflow {workflow} takes")]
    TooLarge {
        /// The body or the result.
        what: &'static str,
        /// Whose limit it is.
        workflow: String,
        /// The limit.
        most: u64,
    },
    /// 413: the same, as a procedure says it.
    #[error("{0}")]
    Large(String),
    /// 416: no byte of what was asked for is there.
    #[error("the result has {0} bytes")]
    Range(u64),
    /// 429: too many at once.
    #[error("{0}")]
    Busy(String),
    /// 502: the stages failed.
    #[error("{why}")]
    Failed {
        /// What they came to.
        status: Option<i32>,
        /// The run, where it was one.
        run: Option<String>,
        /// Says so.
        why: String,
    },
    /// 503: cannot be done now.
    #[error("{0}")]
    Unavailable(String),
    /// Nobody hears this: the client is gone.
    #[error("the client is gone")]
    Gone,
}

impl Error {
    /// What a procedure answered; the table of `pipes.error.*`.
    pub fn answered(uri: &str, payload: Payload<'_>) -> Error {
        let said = CallError::Answered {
            uri: uri.to_owned(),
            payload: payload.into(),
        }
        .to_people();
        match uri {
            uris::error::USAGE => Error::Usage(said),
            uris::error::NOT_FOUND => Error::NotFound(said),
            uris::error::CONFLICT | uris::error::UNFINISHED => Error::Conflict(said),
            uris::error::TOO_LARGE => Error::Large(said),
            uris::error::FULL | uris::error::BUSY => Error::Busy(said),
            uris::error::SYNTAX | uris::error::UNKNOWN_SERVICE | uris::error::CANNOT_START => Error::Failed {
                status: None,
                run: None,
                why: said,
            },
            _ => Error::Unavailable(said),
        }
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        match self {
            Error::Usage(_) => StatusCode::BAD_REQUEST,
            Error::Token(_) => StatusCode::UNAUTHORIZED,
            Error::Forbidden(_) => StatusCode::FORBIDDEN,
            Error::NotFound(_) => StatusCode::NOT_FOUND,
            Error::Slow(_) => StatusCode::REQUEST_TIMEOUT,
            Error::Conflict(_) => StatusCode::CONFLICT,
            Error::TooLarge { .. } | Error::Large(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Error::Range(_) => StatusCode::RANGE_NOT_SATISFIABLE,
            Error::Busy(_) => StatusCode::TOO_MANY_REQUESTS,
            Error::Failed { .. } => StatusCode::BAD_GATEWAY,
            Error::Unavailable(_) | Error::Gone => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// As a response.
    pub fn render(&self, wants_json: bool) -> Response {
        let mut response = sentence(&self.to_string(), wants_json);
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        match self {
            Error::Token(_) => drop(headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
            Error::Busy(_) => {
                drop(headers.insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS)))
            }
            Error::Range(length) => {
                // Digits and a slash.
                if let Ok(range) = HeaderValue::from_str(&format!("bytes */{length}")) {
                    headers.insert(CONTENT_RANGE, range);
                }
            }
            Error::Failed { status, run, .. } => {
                if let Some(status) = status {
                    headers.insert(PIPES_STATUS, HeaderValue::from(*status));
                }
                if let Some(run) = run.as_deref().and_then(|run| HeaderValue::from_str(run).ok()) {
                    headers.insert(PIPES_RUN, run);
                }
            }
            _ => {}
        }
        response
    }
}

/// A sentence and nothing more.
pub fn sentence(said: &str, wants_json: bool) -> Response {
    let (kind, body) = match wants_json {
        true => ("application/json", json!({ "error": said }).to_string()),
        false => ("text/plain; charset=utf-8", format!("{said}\n")),
    };
    let mut response = Response::new(Body::from(body));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// Carried to where it is known what the client accepts.
impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Whether the client asks for JSON: names it, and does not refuse it.
pub fn wants_json(headers: &HeaderMap) -> bool {
    let accepted = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_json = parts
            .next()
            .is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"));
        let is_refused = parts.any(|parameter| {
            let quality = parameter.strip_prefix("q=").map(str::parse::<f32>);
            matches!(quality, Some(Ok(quality)) if quality == 0.0)
        });
        is_json && !is_refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipes_wamp::payload::PayloadBuf;

    #[test]
    fn what_procedures_answer_has_one_status_each() {
        for (uri, status) in [
            (uris::error::USAGE, 400),
            (uris::error::NOT_FOUND, 404),
            (uris::error::CONFLICT, 409),
            (uris::error::UNFINISHED, 409),
            (uris::error::TOO_LARGE, 413),
            (uris::error::FULL, 429),
            (uris::error::BUSY, 429),
            (uris::error::SYNTAX, 502),
            (uris::error::UNKNOWN_SERVICE, 502),
            (uris::error::CANNOT_START, 502),
            (uris::error::UNAVAILABLE, 503),
            ("wamp.error.no_such_procedure", 503),
            ("com.example.own", 503),
        ] {
            let payload = PayloadBuf::of_values(vec!["as it is".into()], None);
            let error = Error::answered(uri, payload.as_payload());
            assert_eq!(
                (error.status().as_u16(), error.to_string().as_str()),
                (status, "as it is"),
                "{uri}"
            );
        }
    }

    #[test]
    fn who_is_one_too_many_is_told_when_to_come_back() {
        let response = Error::Busy("full".into()).render(false);
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()[RETRY_AFTER], "1");
    }

    #[test]
    fn json_is_given_to_those_who_name_it() {
        for (accept, expected) in [
            (None, false),
            (Some("*/*"), false),
            (Some("application/json"), true),
            (Some("text/html, Application/JSON;q=0.5"), true),
            (Some("application/json;q=0"), false),
            (Some("application/jsonp"), false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(ACCEPT, HeaderValue::from_static(accept));
            }
            assert_eq!(wants_json(&headers), expected, "{accept:?}");
        }
    }
}
