//! What coordinators call on a node: `pipes.node.N.executor.prepare`, `keep` and `release`, in realm `pipes.stages`.
//!
//! ```text
//! prepare {run, coordinator, stages: [{stage, service, digest, fresh}], files: [digest], hold}
//!   ["waiting"]?  ["reserved"]  -> {replicas: [[stage, replica]], files: [[digest, path]], windows: [[stage, bytes]]}
//!   or pipes.error.full, pipes.error.unavailable [why], pipes.error.cannot_start [stage, why]
//! keep {run} -> nothing        release {run} -> nothing, once its slots are free
//! ```
//! A coordinator that was told full gets a call to `pipes.node.C.executor.freed` with the run when a slot may be free.
//!
//! Always: (1) a prepare that is interrupted has nothing; (2) unknown fields are ignored.

use std::path::PathBuf;
use std::time::Duration;

use futures::StreamExt;
use pipes_wamp::client::{Chunk, Invocation, Registration, Session};
use pipes_wamp::payload::PayloadBuf;
use rmpv::Value;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::executor::pool::Pool;
use crate::executor::pool::request::{Answer, Asked, PrepareError, Prepared, Wanted};
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

#[derive(Deserialize)]
struct Prepare {
    run: String,
    coordinator: u64,
    attempt: u64,
    stages: Vec<Stage>,
    #[serde(default)]
    files: Vec<String>,
    #[serde(default)]
    hold: bool,
}

#[derive(Deserialize)]
struct Stage {
    stage: u32,
    service: String,
    digest: String,
    #[serde(default)]
    fresh: bool,
}

#[derive(Deserialize)]
struct Named {
    run: String,
    /// Of a release: up to this attempt.
    #[serde(default)]
    attempt: u64,
}

#[derive(Serialize)]
struct Reserved {
    replicas: Vec<(u32, String)>,
    files: Vec<(String, String)>,
    windows: Vec<(u32, u64)>,
}

/// The registered procedures of a node.
pub struct Procedures {
    prepare: Registration,
    keep: Registration,
    release: Registration,
}

impl Procedures {
    /// Registers them; from here on this node can be asked.
    pub async fn register(session: &Session, node: u64) -> Result<Procedures, pipes_wamp::client::CallError> {
        let uri = |name: &str| format!("pipes.node.{node}.executor.{name}");
        Ok(Procedures {
            prepare: session.register(&uri("prepare")).await?,
            keep: session.register(&uri("keep")).await?,
            release: session.register(&uri("release")).await?,
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
                Some(invocation) = self.keep.next() => {
                    if let Some(named) = named(&invocation) {
                        pool.keep(&named.run).await;
                    }
                    say(invocation.answer(PayloadBuf::default()).await);
                }
                Some(invocation) = self.release.next() => {
                    if let Some(named) = named(&invocation) {
                        pool.release(&named.run, named.attempt).await;
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

fn named(invocation: &Invocation) -> Option<Named> {
    let arguments = invocation.payload.as_payload().args_as::<(Named,)>();
    arguments.ok().map(|(named,)| named)
}

async fn prepare(mut invocation: Invocation, pool: &Pool, files: &dyn Files) {
    let asked = match invocation.payload.as_payload().args_as::<(Prepare,)>() {
        Ok((asked,)) => asked,
        Err(error) => {
            let why = vec![format!("prepare cannot be read: {error}").into()];
            return say(invocation
                .fail("pipes.error.usage", PayloadBuf::of_values(why, None))
                .await);
        }
    };
    let fetched = fetch_all(files, asked.files.clone());
    tokio::pin!(fetched);
    // Dropping it gives back what it got.
    let mut preparing = pool.prepare(asked.into()).await;
    let (mut paths, mut prepared) = (None, None);
    let error = loop {
        if let (Some(_), Some(_)) = (&paths, &prepared) {
            break None;
        }
        tokio::select! {
            answer = preparing.next(), if prepared.is_none() => match answer {
                Some(Answer::Waiting) => part(&mut invocation, "waiting").await,
                Some(Answer::Reserved) => part(&mut invocation, "reserved").await,
                Some(Answer::Ready(places)) => prepared = Some(places),
                Some(Answer::Failed(error)) => break Some(error),
                None => break Some(PrepareError::Unavailable("its agent is stopping".into())),
            },
            files = &mut fetched, if paths.is_none() => match files {
                Ok(files) => paths = Some(files),
                Err(why) => break Some(PrepareError::Unavailable(why)),
            },
            // Whoever asked is gone or gave up; what was reserved is given up in a moment, or by its release.
            chunk = invocation.chunk() => if !matches!(chunk, Some(Chunk::More { .. })) {
                return;
            },
        }
    };
    match (error, prepared, paths) {
        (Some(error), ..) => say(invocation.fail(error.uri(), arguments(&error)).await),
        (None, prepared, paths) => {
            let reserved = reserved(prepared.unwrap_or_default(), paths.unwrap_or_default());
            // Names, numbers and paths: always encodable.
            let payload = PayloadBuf::of(&reserved).unwrap_or_default();
            say(invocation.answer(payload).await);
        }
    }
}

async fn part(invocation: &mut Invocation, word: &str) {
    if invocation.receive_progress {
        say(invocation
            .answer_part(PayloadBuf::of_values(vec![word.into()], None))
            .await);
    }
}

fn arguments(error: &PrepareError) -> PayloadBuf {
    let args = match error {
        PrepareError::CannotStart { stage, why } => vec![Value::from(*stage), Value::from(why.as_str())],
        PrepareError::Full | PrepareError::Unavailable(_) => vec![Value::from(error.to_string())],
    };
    PayloadBuf::of_values(args, None)
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

impl From<Prepare> for Asked {
    fn from(asked: Prepare) -> Asked {
        let wanted = asked.stages.into_iter().map(|stage| Wanted {
            stage: stage.stage,
            service: stage.service,
            digest: stage.digest,
            fresh: stage.fresh,
        });
        Asked {
            run: asked.run,
            coordinator: asked.coordinator,
            attempt: asked.attempt,
            stages: wanted.collect(),
            hold: asked.hold,
        }
    }
}

/// Tells coordinators that slots are free, until the pool ends.
pub async fn tell_freed(session: Session, freed: mpsc::Receiver<(u64, String)>) {
    let freed = futures::stream::unfold(freed, |mut freed| async {
        freed.recv().await.map(|next| (next, freed))
    });
    let told = freed.for_each_concurrent(FREED_AT_ONCE, |(node, run)| {
        let session = session.clone();
        async move {
            let uri = format!("pipes.node.{node}.executor.freed");
            // A coordinator that cannot be told asks by itself.
            let _ =
                tokio::time::timeout(FREED_TIMEOUT, session.call_once(&uri, vec![run.into()], None)).await;
        }
    });
    told.await;
}
