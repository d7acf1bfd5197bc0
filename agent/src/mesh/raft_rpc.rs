//! Raft's calls over the mesh: both ends.
//!
//! The connections of class Raft live on the store's runtime, so that streams at full speed on the others never delay a
//! heartbeat. Heartbeats and appends have one connection to a peer, forwarded writes and reads another, since those come
//! as clients please. Large answers and snapshots go over class Bulk.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use pipes_raft::{Class, Peer, Transport, TransportError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::bulk;
use super::frame;
use super::link::{Failure, Link};
use super::pieces::{self, Assembly, Outgoing};
use super::{Dialer, Error};
use crate::lifecycle::{Kind, Lifecycle};

/// How many requests of one connection are carried out at once; then its frames wait unread.
const SERVED_MAX: usize = 256;

/// The store's calls to other agents.
pub struct RaftRpc {
    dialer: Dialer,
    lifecycle: Lifecycle,
    runtime: Handle,
    links: Mutex<HashMap<(SocketAddr, Class), Link>>,
    bulk: bulk::Client,
}

impl RaftRpc {
    /// Calls over connections that live on `runtime`, and over `bulk` for what is large.
    pub fn new(dialer: Dialer, bulk: bulk::Client, lifecycle: &Lifecycle, runtime: Handle) -> RaftRpc {
        RaftRpc {
            dialer,
            lifecycle: lifecycle.clone(),
            runtime,
            links: Mutex::default(),
            bulk,
        }
    }

    fn link(&self, address: SocketAddr, class: Class) -> Link {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let open = || Link::open(self.dialer.clone(), address, &self.lifecycle, &self.runtime);
        links.entry((address, class)).or_insert_with(open).clone()
    }
}

#[async_trait]
impl Transport for RaftRpc {
    async fn call(
        &self,
        to: &Peer,
        class: Class,
        request: Vec<u8>,
        timeout: Duration,
    ) -> Result<Vec<u8>, TransportError> {
        let answer = match class {
            Class::Raft | Class::Forward => self.link(to.address, class).call(to.id, request, timeout).await,
            Class::Bulk => {
                let called = self.bulk.call(to.address, to.id, &request);
                let no_answer = |_| Err(Failure::Unknown(format!("no answer within {timeout:?}")));
                tokio::time::timeout(timeout, called)
                    .await
                    .unwrap_or_else(no_answer)
            }
        };
        answer.map_err(transport_error)
    }
}

fn transport_error(failure: Failure) -> TransportError {
    match failure {
        Failure::NotSent(why) => TransportError::NotSent(why),
        Failure::Unknown(why) => TransportError::Unknown(why),
    }
}

/// Who answers what a peer's store asks.
#[async_trait]
pub trait Answers: Send + Sync + 'static {
    /// The answer to one request.
    async fn answer(&self, request: Vec<u8>) -> Vec<u8>;
}

#[async_trait]
impl Answers for pipes_raft::Node {
    async fn answer(&self, request: Vec<u8>) -> Vec<u8> {
        self.serve(request).await
    }
}

/// Serves a connection of class Raft until its peer leaves or breaks the protocol.
pub async fn serve<S>(stream: S, answers: Arc<dyn Answers>, lifecycle: Lifecycle) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite,
{
    let (mut reader, mut writer) = tokio::io::split(stream);
    let (done, mut queue) = mpsc::channel::<Outgoing>(SERVED_MAX);
    let stopping = lifecycle.stopping();
    tokio::select! {
        () = stopping.cancelled() => Ok(()),
        read = read_requests(&mut reader, answers, done, &lifecycle, stopping.clone()) => read,
        written = pieces::send(&mut writer, &mut queue, Some) => written,
    }
}

async fn read_requests<R: AsyncRead + Unpin>(
    reader: &mut R,
    answers: Arc<dyn Answers>,
    done: mpsc::Sender<Outgoing>,
    lifecycle: &Lifecycle,
    stopping: CancellationToken,
) -> Result<(), Error> {
    let slots = Arc::new(Semaphore::new(SERVED_MAX));
    let mut assembly = Assembly::default();
    let mut body = Vec::new();
    while frame::read(reader, &mut body).await? {
        let Some(request) = assembly.take(&body)? else {
            continue;
        };
        // The semaphore lives as long as this function and is never closed.
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            break;
        };
        let (answers, done, stopping) = (Arc::clone(&answers), done.clone(), stopping.clone());
        lifecycle.spawn(Kind::Work, "mesh request", async move {
            if let Some(bytes) = stopping.run_until_cancelled(answers.answer(request.bytes)).await {
                // A connection that has gone takes no answer.
                let _ = done
                    .send(Outgoing {
                        id: request.id,
                        bytes,
                    })
                    .await;
            }
            drop(slot);
            Ok(())
        });
    }
    Ok(())
}
