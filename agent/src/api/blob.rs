//! `pipes.blob.put|has`: bytes by their digest, kept when a majority of the voters has them on disk.

use pipes_protocol::uris;
use pipes_wamp::client::Reader;
use pipes_wamp::payload::PayloadBuf;
use rmpv::Value;

use crate::api::arguments::Arguments;
use crate::api::streaming::{self, Caller};
use crate::api::upload::{Announced, parse_digest};
use crate::api::{Api, Error, error};
use pipes_router::OwnSession;

/// Serves one call, on a session of its own.
pub(super) async fn put(api: &Api, own: OwnSession) {
    let Some((mut chunks, mut caller, asked)) = streaming::accept(api, uris::BLOB_PUT, own.stream).await
    else {
        return;
    };
    let kept = keep(api, asked, &mut chunks, &mut caller).await;
    let answer = kept.map(|value| PayloadBuf::of_values(vec![value], None));
    caller.end(answer).await;
}

async fn keep(
    api: &Api,
    asked: Result<Arguments, Error>,
    chunks: &mut Reader,
    caller: &mut Caller,
) -> Result<Value, Error> {
    let announced = Announced::of(&mut asked?)?;
    let received = announced.receive(api, chunks, caller).await?;
    // Bytes may come for minutes, in which nothing is decided.
    let finished = async { Ok(received.upload.finish(announced.digest).await?) };
    let digest = error::decided(&api.quorum, finished).await?;
    Ok(Value::Map(vec![("digest".into(), digest.to_string().into())]))
}

/// Whether a majority of the voters has a blob.
pub(super) async fn has(api: &Api, arguments: &mut Arguments) -> Result<Value, Error> {
    let digest = parse_digest(&arguments.text("digest")?)?;
    Ok(Value::from(api.blobs.is_kept(&digest).await))
}
