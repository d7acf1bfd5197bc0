//! What coordinators call on a node, in realm `pipes.stages`: prepare, which is open as long as a run has stages here, and
//! supply. The messages are described in [`pipes_protocol::reservation`] and [`pipes_protocol::supply`].
//!
//! Always: (1) a prepare that has ended, whoever ended it and however, has nothing; (2) unknown fields are ignored.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use pipes_protocol::reservation::{self, Prepare, PrepareError, Progress, Reserved};
use pipes_protocol::supply::Supply;
use pipes_protocol::uris;
use pipes_wamp::client::{Chunk, Invocation, Registration, Session};
use pipes_wamp::error::uri::CANCELED;
use pipes_wamp::payload::PayloadBuf;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::executor::pool::answer::{Answer, Prepared};
use crate::executor::pool::{Pool, Preparing};
use crate::lifecycle::{Kind, Lifecycle};

/// Nodes that may follow this one's supply; as many as a cluster has.
const FOLLOWERS_MAX: u32 = 256;
/// Rest between two words to one of them, for each that there is: so what is told in all a second has a bound.
const REST: Duration = Duration::from_millis(10);
/// A supply is told again after this also where nothing has changed, so that one that is older says that its node does
/// not speak.
const AGAIN: Duration = Duration::from_secs(1);

/// Where executables and files come from.
#[async_trait::async_trait]
pub trait Files: Send + Sync + 'static {
    /// The file of a blob, fetched if it is not here.
    async fn path(&self, digest: &str) -> Result<PathBuf, String>;
}

/// The registered procedures of a node.
pub struct Procedures {
    prepare: Registration,
    supply: Registration,
}

impl Procedures {
    /// Registers them; from here on this node can be asked.
    pub async fn register(session: &Session, node: u64) -> Result<Procedures, pipes_wamp::client::CallError> {
        let uri = |name| uris::of_node(node, name);
        Ok(Procedures {
            prepare: session.register(&uri(uris::node::EXECUTOR_PREPARE)).await?,
            supply: session.register(&uri(uris::node::EXECUTOR_SUPPLY)).await?,
        })
    }

    /// Answers them until the agent stops.
    pub async fn serve(
        mut self,
        pool: Pool,
        files: Arc<dyn Files>,
        lifecycle: Lifecycle,
    ) -> anyhow::Result<()> {
        let stopping = lifecycle.stopping();
        let followers = Arc::new(AtomicU32::new(0));
        loop {
            tokio::select! {
                () = stopping.cancelled() => return Ok(()),
                Some(invocation) = self.prepare.next() => {
                    let (pool, files, stopping) = (pool.clone(), files.clone(), stopping.clone());
                    lifecycle.spawn(Kind::Work, "prepare", async move {
                        stopping.run_until_cancelled(prepare(invocation, &pool, &*files)).await;
                        Ok(())
                    });
                }
                Some(invocation) = self.supply.next() => {
                    let (supply, followers, stopping) = (pool.supply(), followers.clone(), stopping.clone());
                    lifecycle.spawn(Kind::Connection, "supply", async move {
                        stopping.run_until_cancelled(tell(invocation, supply, &followers)).await;
                        Ok(())
                    });
                }
                else => anyhow::bail!("the executor's session with the router ended"),
            }
        }
    }
}

/// An answer to a session that ended reaches nobody, and need not: the router tells the caller.
fn say(_: Result<(), pipes_wamp::client::CallError>) {}

/// How a prepare's call ends.
enum End {
    /// Its caller said the last chunk.
    Done,
    /// It was cancelled, or its caller is lost.
    Interrupted,
    /// The executor's reason.
    Failed(PrepareError),
}

/// Serves a prepare from its first chunk to its end.
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
    let mut preparing = pool.prepare(request).await;
    let end = match reserve(&mut invocation, &mut preparing, fetched).await {
        Ok(()) => hold(&mut invocation, &mut preparing).await,
        Err(end) => end,
    };
    // Before it is answered: whoever asks after that finds the slots free.
    drop(preparing);
    say(match end {
        End::Done => invocation.answer(PayloadBuf::default()).await,
        End::Interrupted => invocation.fail(CANCELED, PayloadBuf::default()).await,
        End::Failed(error) => invocation.fail(error.uri(), error.encode()).await,
    });
}

/// Until all that was asked for is ready.
async fn reserve(
    invocation: &mut Invocation,
    preparing: &mut Preparing,
    fetched: impl Future<Output = Result<(), String>>,
) -> Result<(), End> {
    tokio::pin!(fetched);
    let (mut are_fetched, mut prepared) = (false, None);
    while !are_fetched || prepared.is_none() {
        tokio::select! {
            answer = preparing.next(), if prepared.is_none() => match answer {
                Some(Answer::Waiting) => part(invocation, &Progress::Waiting).await,
                Some(Answer::Reserved) => part(invocation, &Progress::Reserved).await,
                Some(Answer::Ready(ready)) => prepared = Some(ready),
                Some(Answer::Failed(error)) => return Err(End::Failed(error)),
                None => return Err(End::Failed(stops())),
            },
            fetched = &mut fetched, if !are_fetched => match fetched {
                Ok(()) => are_fetched = true,
                Err(why) => return Err(End::Failed(PrepareError::Unavailable(why))),
            },
            end = ended(invocation) => return Err(end),
        }
    }
    let reserved = reserved(prepared.unwrap_or_default());
    part(invocation, &Progress::Ready(reserved)).await;
    Ok(())
}

/// As long as the run has stages here.
async fn hold(invocation: &mut Invocation, preparing: &mut Preparing) -> End {
    loop {
        tokio::select! {
            end = ended(invocation) => return end,
            answer = preparing.next() => match answer {
                Some(Answer::Failed(error)) => return End::Failed(error),
                Some(_) => {}
                None => return End::Failed(stops()),
            },
        }
    }
}

/// Waits for the end of a call that is told nothing more. Cancel safe.
async fn ended(invocation: &mut Invocation) -> End {
    loop {
        match invocation.chunk().await {
            Some(Chunk::More { progress: true, .. }) => {}
            chunk => return end_of(chunk),
        }
    }
}

fn end_of(chunk: Option<Chunk>) -> End {
    match chunk {
        Some(Chunk::More { .. }) => End::Done,
        Some(Chunk::Interrupted) | None => End::Interrupted,
    }
}

fn stops() -> PrepareError {
    PrepareError::Unavailable("its agent stops".into())
}

/// Tells one node what is here, as it changes, until its call ends.
async fn tell(mut invocation: Invocation, mut supply: watch::Receiver<Supply>, followers: &AtomicU32) {
    let count = followers.fetch_add(1, Ordering::Relaxed) + 1;
    if count > FOLLOWERS_MAX {
        followers.fetch_sub(1, Ordering::Relaxed);
        let why = vec!["too many follow this node's supply".into()];
        return say(invocation
            .fail(uris::error::UNAVAILABLE, PayloadBuf::of_values(why, None))
            .await);
    }
    while told(&mut invocation, &mut supply).await {
        let rest = REST * followers.load(Ordering::Relaxed);
        let next = async {
            sleep(rest).await;
            // Told again in time, changed or not.
            timeout(AGAIN, supply.changed()).await
        };
        tokio::select! {
            next = next => if let Ok(Err(_)) = next {
                break;
            },
            _ = ended(&mut invocation) => break,
        }
    }
    followers.fetch_sub(1, Ordering::Relaxed);
}

/// Tells it once; whether it was taken. Nothing more is said before that, so that one who does not read has one word to
/// read at most, and stands in nobody's way.
async fn told(invocation: &mut Invocation, supply: &mut watch::Receiver<Supply>) -> bool {
    let told = reservation::encode(&*supply.borrow_and_update());
    say(invocation.answer_part(told).await);
    matches!(invocation.chunk().await, Some(Chunk::More { progress: true, .. }))
}

async fn part(invocation: &mut Invocation, progress: &Progress) {
    say(invocation.answer_part(progress.encode()).await);
}

/// Has the files of a run come here, so that its shims find them.
async fn fetch_all(files: &dyn Files, digests: Vec<String>) -> Result<(), String> {
    let fetches = digests.into_iter().map(|digest| async move {
        let path = files.path(&digest).await;
        path.map(drop)
            .map_err(|why| format!("the file {digest} cannot be had: {why}"))
    });
    futures::future::try_join_all(fetches).await.map(drop)
}

fn reserved(prepared: Prepared) -> Reserved {
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
    }
}
