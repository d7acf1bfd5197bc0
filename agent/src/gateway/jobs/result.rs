//! `GET /jobs/ID/result`: the recorded bytes, as they come out of the cluster.
//!
//! Always: (1) the head says how many bytes come and what they are: fewer are a connection that broke; (2) no more than a
//! window of them lies here.

use std::ops::Range;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::Response;
use futures::stream;
use pipes_protocol::run::Part;
use pipes_protocol::uris;

use crate::gateway::asked::{Asked, Gateway};
use crate::gateway::error::Error;
use crate::gateway::headers;
use crate::gateway::jobs::job::{self, Job};
use crate::gateway::jobs::range::{Wanted, wanted};
use crate::gateway::session::{Answer, Session};

/// Bytes that may be under way to a client.
const WINDOW: u64 = 256 << 10;

/// Gives a result.
pub async fn give(
    State(gateway): State<Gateway>,
    Extension(asked): Extension<Asked>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Error> {
    let wait = job::wait(&request)?;
    let mut session = Session::open(&gateway.router)?;
    let job = Job::get(&mut session, &asked, &id, wait).await?;
    if !matches!(job.state(), "succeeded" | "failed" | "cancelled") {
        return Err(Error::Conflict(format!(
            "job {id} is {}; its result comes with its end, which ?wait=SECONDS waits for",
            job.state()
        )));
    }
    let (length, sha256) = job.result().unwrap_or((0, None));
    let etag = sha256.map(|sha256| format!("\"{sha256}\""));
    let (status, range) = match wanted(request.method(), request.headers(), length, etag.as_deref()) {
        Wanted::Whole => (StatusCode::OK, 0..length),
        Wanted::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Wanted::Same => (StatusCode::NOT_MODIFIED, 0..0),
        Wanted::Nothing => return Err(Error::Range(length)),
    };
    let body = match request.method() == Method::HEAD || range.is_empty() {
        true => Body::empty(),
        false => bytes(session, &id, range.clone()),
    };
    let mut response = described(&job, body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    match status {
        StatusCode::NOT_MODIFIED => {}
        StatusCode::PARTIAL_CONTENT => {
            let said = format!("bytes {}-{}/{length}", range.start, range.end - 1);
            // Digits and their marks.
            headers.extend(
                HeaderValue::from_str(&said)
                    .ok()
                    .map(|said| (CONTENT_RANGE, said)),
            );
            headers.insert(CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
        }
        _ => drop(headers.insert(CONTENT_LENGTH, HeaderValue::from(length))),
    }
    Ok(response)
}

/// The whole result of a job that succeeded.
pub fn whole(session: Session, job: &Job) -> Result<Response, Error> {
    let (length, _) = job.result().unwrap_or((0, None));
    let body = match length {
        0 => Body::empty(),
        _ => bytes(session, &job.id()?, 0..length),
    };
    let mut response = described(job, body);
    response
        .headers_mut()
        .insert(CONTENT_LENGTH, HeaderValue::from(length));
    Ok(response)
}

/// With the headers that every answer about a result has.
fn described(job: &Job, body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.extend(
        job.status()
            .map(|status| (headers::PIPES_STATUS, HeaderValue::from(status))),
    );
    headers::of_result(headers);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let etag = job
        .result()
        .and_then(|(_, sha256)| HeaderValue::from_str(&format!("\"{}\"", sha256?)).ok());
    headers.extend(etag.map(|etag| (ETAG, etag)));
    response
}

/// A result under way.
struct Giving {
    session: Session,
    left: u64,
    /// Handed on since credit was last given back.
    unreturned: u64,
}

/// Bytes of a result as they are taken.
fn bytes(mut session: Session, id: &str, range: Range<u64>) -> Body {
    let kwargs = vec![
        ("id", id.into()),
        ("from", range.start.into()),
        ("credit", WINDOW.into()),
    ];
    session.begin(uris::JOB_RESULT, kwargs, false);
    let giving = Giving {
        session,
        left: range.end - range.start,
        unreturned: 0,
    };
    Body::from_stream(stream::try_unfold(giving, |mut giving| async {
        Ok::<_, Error>(giving.next().await?.map(|bytes| (bytes, giving)))
    }))
}

impl Giving {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        let Session { incoming, outgoing } = &mut self.session;
        if self.unreturned >= WINDOW / 2 {
            outgoing.credit(std::mem::take(&mut self.unreturned));
        }
        outgoing.flush().await?;
        loop {
            match incoming.next().await? {
                Answer::Part(payload) => {
                    let Some(Part::Stdout(bytes)) = Part::parse(payload) else {
                        continue;
                    };
                    if bytes.is_empty() {
                        continue;
                    }
                    self.unreturned += bytes.len() as u64;
                    let wanted = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
                    self.left -= wanted as u64;
                    return Ok(Some(Bytes::copy_from_slice(&bytes[..wanted])));
                }
                Answer::Over(_) => {
                    return Err(Error::Unavailable(
                        "the result is shorter than was recorded".into(),
                    ));
                }
                Answer::Nothing => {}
            }
        }
    }
}
