//! What coordinators call on a node, in realm `pipes.stages`: prepare, commit and abort of reservations. The messages are
//! described in [`pipes_protocol::reservation`].
//!
//! Always: (1) a prepare that is interrupted has nothing; (2) unknown fields are ignored.

use std::path::PathBuf;
use std::time::Duration;

use futures::StreamExt;
use pipes_protocol::reservation::{self, Abort, Commit, Freed, Prepare, PrepareError, Progress, Reserved};
use pipes_protocol::uris;
use pipes_wamp::client::{Chunk, Invocation, Registration, Session};
use pipes_wamp::payload::PayloadBuf;
use tokio::sync::mpsc;

use crate::executor::pool::Pool;
use crate::executor::pool::answer::{Answer, Prepared};
use crate::lifecycle::{Kind, Lifecycle};

/// Calls of `freed` under way at once; the rest wait, or ask by themselves after a second.
const FREED_AT_ONCE: usize = 32;
/// Until such a call is given up: by then its run has asked anew.
const FREED_TIMEOUT: Duration = Duration::from_secs(1);

/// Where executables and files come from.
#[async_trait::async_trait]
pub trait Files: Send + Sync + 'static {
    /// The file of a blob, fetched if it is not here.
    async fn path(&self, digest: &str) -> Result<PathBuf, String>;
}

/// The registered procedures of a node.
pub struct Procedures {
    prepare: Registration,
    commit: Registration,
    abort: Registration,
}

impl Procedures {
    /// Registers them; from here on this node can be asked.
    pub async fn register(session: &Session, node: u64) -> Result<Procedures, pipes_wamp::client::CallError> {
        let uri = |name| uris::of_node(node, name);
        Ok(Procedures {
            prepare: session.register(&uri(uris::node::EXECUTOR_PREPARE)).await?,
            commit: session.register(&uri(uris::node::EXECUTOR_COMMIT)).await?,
            abort: session.register(&uri(uris::node::EXECUTOR_ABORT)).await?,
        })
    }

    /// Answers them until the agent stops.
    pub async fn serve(
        mut self,
        pool: Pool,
        files: std::sync::Arc<dyn Files>,
        lifecycle: Lifecycle,
    ) -> anyhow::Result<()> {
        let stopping = lifecycle.stopping();
        loop {
            tokio::select! {
                () = stopping.cancelled() => return Ok(()),
                Some(invocation) = self.prepare.next() => {
                    let (pool, files) = (pool.clone(), files.clone());
                    lifecycle.spawn(Kind::Work, "prepare", async move {
                        prepare(invocation, &pool, &*files).await;
                        Ok(())
                    });
                }
                // Told in their order: each waits for the pool's queue alone.
                Some(invocation) = self.commit.next() => {
                    if let Ok(Commit { run }) = reservation::parse(invocation.payload.as_payload()) {
                        pool.commit(&run).await;
                    }
                    say(invocation.answer(PayloadBuf::default()).await);
                }
                Some(invocation) = self.abort.next() => {
                    if let Ok(Abort { run, attempt }) = reservation::parse(invocation.payload.as_payload()) {
                        pool.abort(&run, attempt).await;
                    }
                    say(invocation.answer(PayloadBuf::default()).await);
                }
                else => anyhow::bail!("the executor's session with the router ended"),
            }
        }
    }
}

/// An answer to a session that ended reaches nobody, and need not: the router tells the caller.
fn say(_: Result<(), pipes_wamp::client::CallError>) {}

async fn prepare(mut invocation: Invocation, pool: &Pool, files: &dyn Files) {
    let request: Prepare = match reservation::parse(invocation.payload.as_payload()) {
        Ok(request) => request,
        Err(error) => {
            let why = vec![format!("prepare cannot be read: {error}").into()];
            return say(invocation
                .fail(uris::error::USAGE, PayloadBuf::of_values(why, None))
                .await);
        }
    };
    let fetched = fetch_all(files, request.files.clone());
    tokio::pin!(fetched);
    // Dropping it gives back what it got.
    let mut preparing = pool.prepare(request).await;
    let (mut paths, mut prepared) = (None, None);
    let error = loop {
        if let (Some(_), Some(_)) = (&paths, &prepared) {
            break None;
        }
        tokio::select! {
            answer = preparing.next(), if prepared.is_none() => match answer {
                Some(Answer::Waiting) => part(&mut invocation, Progress::Waiting).await,
                Some(Answer::Reserved) => part(&mut invocation, Progress::Reserved).await,
                Some(Answer::Ready(places)) => prepared = Some(places),
                Some(Answer::Failed(error)) => break Some(error),
                None => break Some(PrepareError::Unavailable("its agent is stopping".into())),
            },
            files = &mut fetched, if paths.is_none() => match files {
                Ok(files) => paths = Some(files),
                Err(why) => break Some(PrepareError::Unavailable(why)),
            },
            // Whoever asked is gone or gave up; what was reserved is given up in a moment, or by an abort.
            chunk = invocation.chunk() => if !matches!(chunk, Some(Chunk::More { .. })) {
                return;
            },
        }
    };
    match (error, prepared, paths) {
        (Some(error), ..) => say(invocation.fail(error.uri(), error.encode()).await),
        (None, prepared, paths) => {
            let reserved = reserved(prepared.unwrap_or_default(), paths.unwrap_or_default());
            say(invocation.answer(reservation::encode(&reserved)).await);
        }
    }
}

async fn part(invocation: &mut Invocation, progress: Progress) {
    if invocation.receive_progress {
        say(invocation.answer_part(progress.encode()).await);
    }
}

async fn fetch_all(files: &dyn Files, digests: Vec<String>) -> Result<Vec<(String, PathBuf)>, String> {
    let fetches = digests.into_iter().map(|digest| async move {
        let path = files.path(&digest).await;
        path.map(|path| (digest.clone(), path))
            .map_err(|why| format!("the file {digest} cannot be had: {why}"))
    });
    futures::future::try_join_all(fetches).await
}

fn reserved(prepared: Prepared, files: Vec<(String, PathBuf)>) -> Reserved {
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    Reserved {
        windows: prepared
            .places
            .iter()
            .map(|place| (place.stage, place.window))
            .collect(),
        replicas: prepared
            .places
            .into_iter()
            .map(|place| (place.stage, place.replica))
            .collect(),
        files: files
            .into_iter()
            .map(|(digest, path)| (digest, text(path)))
            .collect(),
    }
}

/// Tells coordinators that slots are free, until the pool ends.
pub async fn notify_freed(session: Session, freed: mpsc::Receiver<(u64, String)>) {
    let freed = futures::stream::unfold(freed, |mut freed| async {
        freed.recv().await.map(|next| (next, freed))
    });
    let notified = freed.for_each_concurrent(FREED_AT_ONCE, |(node, run)| {
        let session = session.clone();
        async move {
            let uri = uris::of_node(node, uris::node::EXECUTOR_FREED);
            // A coordinator that cannot be told asks by itself.
            let _ = tokio::time::timeout(FREED_TIMEOUT, session.call_once(&uri, Freed { run }.args(), None))
                .await;
        }
    });
    notified.await;
}
