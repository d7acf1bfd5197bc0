//! What peers ask of this node's blobs, and the store's large calls that come the same way.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tracing::debug;

use super::{Digest, Holder};
use crate::lifecycle::{Kind, Lifecycle};
use crate::mesh::Error;
use crate::mesh::bulk::{Answer, CALL_MAX, Channel, PATIENCE, Request};
use crate::mesh::listener::Incoming;
use crate::mesh::raft_rpc::Answers;

/// Serves the connections of class Bulk until the agent stops.
pub async fn serve(
    mut incoming: mpsc::Receiver<Incoming>,
    holder: Holder,
    answers: Arc<dyn Answers>,
    lifecycle: Lifecycle,
) -> anyhow::Result<()> {
    let stopping = lifecycle.stopping();
    while let Some(Some(Incoming {
        hello,
        stream,
        admitted,
        place,
        ..
    })) = stopping.run_until_cancelled(incoming.recv()).await
    {
        let (holder, answers, stopping) = (holder.clone(), Arc::clone(&answers), stopping.clone());
        lifecycle.spawn(Kind::Connection, "bulk", async move {
            let served = tokio::select! {
                () = stopping.cancelled() => None,
                () = admitted.left(&hello.name) => None,
                served = serve_one(Channel::new(stream), &holder, &*answers) => Some(served),
            };
            if let Some(Err(error)) = served {
                debug!(peer = hello.name, %error, "a bulk connection ended");
            }
            drop(place);
            Ok(())
        });
    }
    Ok(())
}

async fn serve_one<S>(mut channel: Channel<S>, holder: &Holder, answers: &dyn Answers) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(request) = channel.hear::<Request>(PATIENCE).await? {
        match request {
            Request::Call { size } => {
                let request = channel.whole_body(size, CALL_MAX).await?;
                let answer = answers.answer(request).await;
                let size = answer.len() as u64;
                channel.say(&Answer::Found { size }).await?;
                channel.send_body(size, &mut answer.as_slice()).await?;
            }
            Request::Put { digest, size } => take(&mut channel, holder, digest.into(), size).await?,
            Request::Get { digest } => give(&mut channel, holder, digest.into()).await?,
            Request::Has { digest } => {
                let answer = match holder.confirm(&digest.into()).await {
                    Ok(true) => Answer::Have,
                    Ok(false) => Answer::Absent,
                    Err(error) => refusal(&error),
                };
                channel.say(&answer).await?;
            }
            Request::Awaits { digest } => {
                let is_awaited = holder.rule().is_awaited(&Digest::from(digest).to_string());
                let answer = if is_awaited { Answer::Have } else { Answer::Absent };
                channel.say(&answer).await?;
            }
            Request::Delete { digest } => {
                let answer = match holder.delete(&digest.into()).await {
                    Ok(true) => Answer::Done,
                    Ok(false) => Answer::Have,
                    Err(error) => refusal(&error),
                };
                channel.say(&answer).await?;
            }
        }
    }
    Ok(())
}

async fn take<S>(channel: &mut Channel<S>, holder: &Holder, digest: Digest, size: u64) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match holder.confirm(&digest).await {
        Ok(true) => return channel.say(&Answer::Have).await,
        Ok(false) => {}
        Err(error) => return channel.say(&refusal(&error)).await,
    }
    let mut writer = match holder.store().begin(size) {
        Ok(writer) => writer,
        Err(error) => return channel.say(&refusal(&error)).await,
    };
    channel.say(&Answer::Send).await?;
    let mut left = size;
    // A body is read to its end whatever becomes of it: only then may the next thing be said.
    let mut failed = None;
    while left > 0 {
        let bytes = channel.body(&mut left).await?;
        if failed.is_none() {
            failed = writer.write(bytes).await.err();
        }
    }
    let kept = match failed {
        None => holder.keep(writer, Some(digest)).await.map(drop),
        Some(error) => Err(error),
    };
    match kept {
        Ok(()) => channel.say(&Answer::Done).await,
        Err(error) => channel.say(&refusal(&error)).await,
    }
}

fn refusal(error: &super::Error) -> Answer {
    Answer::Failed {
        reason: error.to_string(),
    }
}

async fn give<S>(channel: &mut Channel<S>, holder: &Holder, digest: Digest) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let path = match holder.store().sound(&digest).await {
        Ok(Some(path)) => path,
        Ok(None) => return channel.say(&Answer::Absent).await,
        Err(error) => return channel.say(&refusal(&error)).await,
    };
    let opened = async {
        let file = tokio::fs::File::open(&path).await?;
        let size = file.metadata().await?.len();
        std::io::Result::Ok((file, size))
    };
    match opened.await {
        Ok((mut file, size)) => {
            channel.say(&Answer::Found { size }).await?;
            channel.send_body(size, &mut file).await
        }
        Err(error) => {
            channel
                .say(&Answer::Failed {
                    reason: format!("{}: {error}", path.display()),
                })
                .await
        }
    }
}
