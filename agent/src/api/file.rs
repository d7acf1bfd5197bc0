//! `pipes.node.N.file`: the bytes of a run's file, for the shims of this node. The messages are described in
//! [`pipes_protocol::file`].

use std::time::Duration;

use pipes_protocol::file::{self, PART_MAX};
use pipes_protocol::uris;
use pipes_wamp::client::Reader;
use pipes_wamp::message::Message;
use pipes_wamp::payload::PayloadBuf;
use pipes_wamp::streaming::credit_of;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use crate::api::arguments::Arguments;
use crate::api::streaming::{self, Caller, gone};
use crate::api::upload::parse_digest;
use crate::api::{Api, Error};
use pipes_router::OwnSession;

/// One read: so little that whoever else wants a thread for blocking work does not wait long.
const READ_MAX: usize = 4 * PART_MAX;

/// How often a shim is told that its file is being fetched: whoever waits for its run takes 10 s of silence for a loss.
const FETCHES_STILL: Duration = Duration::from_secs(1);

/// Serves one call, on a session of its own.
pub(super) async fn give(api: &Api, own: OwnSession) {
    let Some((mut chunks, mut caller, asked)) = streaming::accept(api, uris::node::FILE, own.stream).await
    else {
        return;
    };
    let stopping = api.lifecycle.stopping();
    let sent = stopping.run_until_cancelled(send(api, asked, &mut chunks, &mut caller));
    let sent = sent.await;
    let sent = sent.unwrap_or_else(|| Err(Error::Unavailable("the agent is stopping".into())));
    caller.end(sent.map(file::end)).await;
}

/// Waits for the file to be here; the shim hears meanwhile that it is still being fetched.
async fn fetched<T>(fetching: impl Future<Output = T>, caller: &mut Caller) -> Result<T, Error> {
    tokio::pin!(fetching);
    loop {
        match timeout(FETCHES_STILL, &mut fetching).await {
            Ok(fetched) => return Ok(fetched),
            Err(_) => caller.part(&PayloadBuf::of_bytes(b"")).await?,
        }
    }
}

/// Sends the file as there is credit; gives its size.
async fn send(
    api: &Api,
    asked: Result<Arguments, Error>,
    chunks: &mut Reader,
    caller: &mut Caller,
) -> Result<u64, Error> {
    let mut arguments = asked?;
    let digest = parse_digest(&arguments.text("digest")?)?;
    let mut credit = arguments.number("credit").unwrap_or(0);
    let path = fetched(api.blobs.ensure(&digest), caller).await??;
    let failed = |error| Error::Unavailable(format!("{}: {error}", path.display()));
    let mut file = tokio::fs::File::open(&path).await.map_err(failed)?;
    let (mut buffer, mut size) = (vec![0; READ_MAX], 0);
    loop {
        let count = file.read(&mut buffer).await.map_err(failed)?;
        if count == 0 {
            return Ok(size);
        }
        for part in buffer[..count].chunks(PART_MAX) {
            let length = part.len() as u64;
            while credit < length {
                let Ok(Some(Message::Invocation { payload, .. })) = chunks.next().await else {
                    return Err(gone());
                };
                credit = credit.saturating_add(credit_of(payload).unwrap_or(0));
            }
            credit -= length;
            size += length;
            caller.part(&PayloadBuf::of_bytes(part)).await?;
        }
    }
}
