//! A request's body as it comes: counted, and never waited for without end.

use axum::body::{Body, BodyDataStream, Bytes, HttpBody as _};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use futures::StreamExt as _;
use tokio::time::timeout;

use crate::gateway::error::Error;
use crate::gateway::limits::SILENCE_MAX;
use crate::workflow::daemon::record::Workflow;

/// A body.
pub struct Incoming {
    stream: BodyDataStream,
    taken: u64,
    most: u64,
    workflow: String,
    length: Option<u64>,
}

impl Incoming {
    /// Of a request; refused before a byte of it was asked for where it announces too many.
    pub fn new(headers: &HeaderMap, body: Body, workflow: &Workflow) -> Result<Incoming, Error> {
        // hyper refuses a length that is no number before we are asked.
        let announced = headers
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        let length = if body.is_end_stream() { Some(0) } else { announced };
        let incoming = Incoming {
            stream: body.into_data_stream(),
            taken: 0,
            most: workflow.definition.options.body_max(),
            workflow: workflow.name.clone(),
            length,
        };
        match length {
            Some(length) if length > incoming.most => Err(incoming.too_large()),
            _ => Ok(incoming),
        }
    }

    /// Its length, where it was announced.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// All of it, for those who know that it is short.
    pub async fn whole(&mut self) -> Result<Vec<u8>, Error> {
        let mut whole = Vec::new();
        while let Some(bytes) = self.next_in_time().await? {
            whole.extend_from_slice(&bytes);
        }
        Ok(whole)
    }

    /// The next bytes, at least one; `None` at its end. Cancel safe.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            match self.stream.next().await {
                None => return Ok(None),
                Some(Ok(bytes)) if bytes.is_empty() => {}
                Some(Ok(bytes)) => {
                    self.taken += bytes.len() as u64;
                    if self.taken > self.most {
                        return Err(self.too_large());
                    }
                    return Ok(Some(bytes));
                }
                Some(Err(_)) => {
                    return Err(Error::Usage(
                        "the body broke off, or its chunks are no chunks".into(),
                    ));
                }
            }
        }
    }

    /// The same, refused when nothing comes for too long.
    pub async fn next_in_time(&mut self) -> Result<Option<Bytes>, Error> {
        let next = timeout(SILENCE_MAX, self.next()).await;
        next.unwrap_or(Err(Error::Slow(SILENCE_MAX.as_secs())))
    }

    fn too_large(&self) -> Error {
        Error::TooLarge {
            what: "the body",
            workflow: self.workflow.clone(),
            most: self.most,
        }
    }
}
