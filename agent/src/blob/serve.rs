//! What peers ask of this node's blobs, and the store's large calls that come the same way.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tracing::debug;

use super::{Digest, Store};
use crate::lifecycle::{Kind, Lifecycle};
use crate::mesh::Error;
use crate::mesh::bulk::{Answer, CALL_MAX, Channel, PATIENCE, Request};
use crate::mesh::listener::Incoming;
use crate::mesh::raft_rpc::Answers;

/// Serves the connections of class Bulk until the agent stops.
pub async fn serve(
    mut incoming: mpsc::Receiver<Incoming>,
    store: Store,
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
        let (store, answers, stopping) = (store.clone(), Arc::clone(&answers), stopping.clone());
        lifecycle.spawn(Kind::Connection, "bulk", async move {
            let served = tokio::select! {
                () = stopping.cancelled() => None,
                () = admitted.left(&hello.name) => None,
                served = serve_one(Channel::new(stream), &store, &*answers) => Some(served),
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

async fn serve_one<S>(mut channel: Channel<S>, store: &Store, answers: &dyn Answers) -> Result<(), Error>
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
            Request::Put { digest, size } => take(&mut channel, store, digest.into(), size).await?,
            Request::Get { digest } => give(&mut channel, store, digest.into()).await?,
            Request::Has { digest } => {
                let answer = match store.confirm(&digest.into()).await {
                    Ok(true) => Answer::Have,
                    Ok(false) => Answer::Absent,
                    Err(error) => Answer::Failed {
                        reason: error.to_string(),
                    },
                };
                channel.say(&answer).await?;
            }
        }
    }
    Ok(())
}

async fn take<S>(channel: &mut Channel<S>, store: &Store, digest: Digest, size: u64) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match store.confirm(&digest).await {
        Ok(true) => return channel.say(&Answer::Have).await,
        Ok(false) => {}
        Err(error) => {
            return channel
                .say(&Answer::Failed {
                    reason: error.to_string(),
                })
                .await;
        }
    }
    let mut writer = match store.begin(size) {
        Ok(writer) => writer,
        Err(error) => {
            return channel
                .say(&Answer::Failed {
                    reason: error.to_string(),
                })
                .await;
        }
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
        None => writer.keep(Some(digest)).await.map(|_| ()),
        Some(error) => Err(error),
    };
    match kept {
        Ok(()) => channel.say(&Answer::Done).await,
        Err(error) => {
            channel
                .say(&Answer::Failed {
                    reason: error.to_string(),
                })
                .await
        }
    }
}

async fn give<S>(channel: &mut Channel<S>, store: &Store, digest: Digest) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let path = match store.sound(&digest).await {
        Ok(Some(path)) => path,
        Ok(None) => return channel.say(&Answer::Absent).await,
        Err(error) => {
            let reason = error.to_string();
            return channel.say(&Answer::Failed { reason }).await;
        }
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
