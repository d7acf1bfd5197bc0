//! Sending a file's bytes to the cluster: a call whose chunks go against the agent's credit.
//!
//! ```text
//! {name, size, digest}   [bytes] ...   the last chunk without progress    <- [credit] ...   <- {name, digest, ...}
//! ```

use pipes_protocol::uris;
use std::io::Read;
use std::path::Path;

use pipes_wamp::message::CallOptions;
use pipes_wamp::payload::PayloadBuf;
use rmpv::Value;

pub mod content;

use crate::answer;
use crate::client::{self, Answer, Client};
use crate::error::Error;
use content::Content;

/// One chunk.
const CHUNK_MAX: usize = 256 << 10;

/// Makes a service of a file; gives back the service.
pub async fn service(
    client: &mut Client,
    name: &str,
    path: &Path,
    content: &Content,
) -> Result<Value, Error> {
    send(
        client,
        uris::SERVICE_PUT,
        path,
        content,
        vec![("name", name.into())],
    )
    .await
}

/// Stores a file by its digest, unless the cluster has it.
pub async fn blob(client: &mut Client, path: &Path, content: &Content) -> Result<(), Error> {
    let kept = client
        .call(uris::BLOB_HAS, vec![("digest", content.digest.as_str().into())])
        .await?;
    if kept != Value::Boolean(true) {
        send(client, uris::BLOB_PUT, path, content, Vec::new()).await?;
    }
    Ok(())
}

async fn send(
    client: &mut Client,
    uri: &str,
    path: &Path,
    content: &Content,
    mut kwargs: Vec<(&str, Value)>,
) -> Result<Value, Error> {
    let failed = |error| Error::read(path, error);
    let mut file = &content.file;
    kwargs.extend([
        ("digest", content.digest.as_str().into()),
        ("size", content.size.into()),
    ]);
    let options = CallOptions {
        progress: true,
        receive_progress: true,
        ..CallOptions::default()
    };
    let announced = PayloadBuf::of_kwargs(kwargs);
    let mut request = client.send(uri, options, announced.as_payload()).await?;
    let (mut credit, mut left) = (0_u64, content.size);
    let mut buffer = vec![0; CHUNK_MAX];
    let mut is_ended = false;
    loop {
        while credit > 0 && !is_ended {
            let room = usize::try_from(credit.min(left))
                .unwrap_or(CHUNK_MAX)
                .min(CHUNK_MAX);
            let count = if left == 0 {
                0
            } else {
                file.read(&mut buffer[..room]).map_err(failed)?
            };
            if count == 0 && left > 0 {
                return Err(Error::Local(format!(
                    "{} became shorter while it was read; try again",
                    path.display()
                )));
            }
            left -= count as u64;
            credit -= count as u64;
            is_ended = left == 0;
            let options = CallOptions {
                progress: !is_ended,
                ..options
            };
            client
                .chunk(
                    request,
                    uri,
                    options,
                    PayloadBuf::of_bytes(&buffer[..count]).as_payload(),
                )
                .await?;
        }
        match client.answer(request).await {
            Ok(Answer::Progress(payload)) => credit += answer::first(&payload)?.as_u64().unwrap_or(0),
            Ok(Answer::Done(payload)) => return answer::first(&payload),
            // Without credit nothing of the file was read yet.
            Err(error) if client::was_not_taken_up(&error) && left == content.size => {
                *client = client.elsewhere().join(error).await?;
                request = client.send(uri, options, announced.as_payload()).await?;
            }
            Err(error) => return Err(error),
        }
    }
}
