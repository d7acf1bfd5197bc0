//! What of a request's body is a job's input.
//!
//! | Content-Type | the input |
//! |---|---|
//! | `application/x-www-form-urlencoded`, and it begins with `query=` | that field and one newline |
//! | `multipart/form-data` | the part `query` exactly; without it the request is refused |
//! | anything else | the body as it was sent |

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use futures::stream;

use crate::gateway::body::Incoming;
use crate::gateway::error::Error;
use crate::gateway::form::Form;
use crate::workflow::daemon::record::Workflow;

/// What of a form may come in which the parser finds neither a part's bytes nor its head: it keeps all that.
const UNREAD_MAX: usize = 1 << 20;

/// A job's input as it comes.
pub struct Input {
    kind: Kind,
}

enum Kind {
    Raw(Incoming),
    /// `None` once its end was given.
    Form(Incoming, Option<Form>),
    /// The form, whose parts behind `query` nobody reads, and the part.
    Part(multer::Field<'static>, Arc<AtomicUsize>),
    Over,
}

impl Input {
    /// Of a request.
    pub async fn new(headers: &HeaderMap, body: Body, workflow: &Workflow) -> Result<Input, Error> {
        let body = Incoming::new(headers, body, workflow)?;
        let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let content_type = content_type.unwrap_or_default();
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        let kind = match essence.to_ascii_lowercase().as_str() {
            "application/x-www-form-urlencoded" => Kind::Form(body, Some(Form::default())),
            "multipart/form-data" => part(content_type, body).await?,
            _ => Kind::Raw(body),
        };
        Ok(Input { kind })
    }

    /// How many bytes come, where that is known before.
    pub fn length(&self) -> Option<u64> {
        match &self.kind {
            Kind::Raw(body) => body.length(),
            _ => None,
        }
    }

    /// The next bytes, at least one; `None` at its end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let bytes = match &mut self.kind {
                Kind::Raw(body) => return body.next_in_time().await,
                Kind::Over => return Ok(None),
                Kind::Part(part, unread) => {
                    unread.store(0, Ordering::Relaxed);
                    part.chunk().await.map_err(broken)?
                }
                Kind::Form(body, form) => match (body.next_in_time().await?, form.as_mut()) {
                    (Some(bytes), Some(form)) => Some(form.push(&bytes).into()),
                    (None, _) => Some(form.take().map(Form::finish).unwrap_or_default().into()),
                    (Some(_), None) => None,
                },
            };
            let is_over = bytes.is_none() || matches!(&self.kind, Kind::Form(_, None));
            if is_over {
                self.kind = Kind::Over;
            }
            match bytes {
                Some(bytes) if !bytes.is_empty() => return Ok(Some(bytes)),
                _ => {}
            }
        }
    }
}

/// The part `query`.
async fn part(content_type: &str, body: Incoming) -> Result<Kind, Error> {
    let boundary = multer::parse_boundary(content_type).map_err(broken)?;
    let unread = Arc::new(AtomicUsize::new(0));
    let counted = unread.clone();
    let chunks = stream::unfold(Some(body), move |body| {
        let counted = counted.clone();
        async move {
            let mut body = body?;
            // One chunk each time it is asked: the parser takes all that is ready otherwise.
            tokio::task::yield_now().await;
            if counted.load(Ordering::Relaxed) > UNREAD_MAX {
                let why = "the form cannot be read: its boundary, or the end of a part's head, does not come";
                return Some((Err(Error::Usage(why.into())), None));
            }
            match body.next_in_time().await {
                Ok(Some(bytes)) => {
                    counted.fetch_add(bytes.len(), Ordering::Relaxed);
                    Some((Ok(bytes), Some(body)))
                }
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        }
    });
    let mut parts = multer::Multipart::new(Box::pin(chunks), boundary);
    while let Some(mut part) = parts.next_field().await.map_err(broken)? {
        unread.store(0, Ordering::Relaxed);
        if part.name() == Some("query") {
            return Ok(Kind::Part(part, unread));
        }
        while part.chunk().await.map_err(broken)?.is_some() {
            unread.store(0, Ordering::Relaxed);
        }
    }
    Err(Error::Usage(
        "the form has no part `query`: send one, as `curl -F query=@FILE` does".into(),
    ))
}

/// Why a form cannot be read: what its body came to, or its own fault.
fn broken(error: multer::Error) -> Error {
    if let multer::Error::StreamReadFailed(why) = &error
        && let Some(why) = why.downcast_ref::<Error>()
    {
        return why.clone();
    }
    Error::Usage(format!("the form cannot be read: {error}"))
}
