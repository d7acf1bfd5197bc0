//! One outgoing connection to a peer, for calls: many requests at once, each with its answer.
//!
//! A task owns the connection; callers reach it by [`Link`]. It dials at the first call and keeps the connection. After a
//! failure it rests, for a second at most, and answers calls meanwhile at once with the last reason: Raft has its own
//! idea of when to try again.
//!
//! What a caller is told when there is no answer decides whether its write may be sent again:
//!
//! | [`Failure`] | means |
//! |---|---|
//! | `NotSent` | no octet of the request left: it surely was not delivered |
//! | `Unknown` | it was taken to be sent; it may have been carried out |
//!
//! Always: exactly one of caller and connection gets a request that times out while it waits (`Claim`).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::class::Class;
use super::frame;
use super::handshake::Welcome;
use super::pieces::{self, Assembly, Outgoing};
use super::{Dialer, Error};
use crate::lifecycle::{Kind, Lifecycle};
use crate::retry::Backoff;

/// How many calls wait to be sent to one peer; beyond it a call is refused at once. As many as clients are served at once
/// by one agent in the largest test, with room.
const WAITING_MAX: usize = 1024;

/// From so many calls without an answer on, those whose caller has gone are looked for at each new one.
const SWEEP_FROM: usize = 256;

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It surely was not delivered.
    NotSent(String),
    /// It may have been.
    Unknown(String),
}

/// Whoever sets it first has the request: the connection to send it, or the caller to give it up.
type Claim = Arc<AtomicBool>;

struct Call {
    request: Vec<u8>,
    claim: Claim,
    /// The node that is meant; 0 for whoever is there.
    node: u64,
    answer: oneshot::Sender<Result<Vec<u8>, Failure>>,
}

/// Handle of a connection to one peer. Dropping the last one ends it.
#[derive(Clone)]
pub struct Link {
    calls: mpsc::Sender<Call>,
}

impl Link {
    /// A connection to `address`, to be dialled at the first call, on `runtime`.
    pub fn open(dialer: Dialer, address: SocketAddr, lifecycle: &Lifecycle, runtime: &Handle) -> Link {
        let (calls, queue) = mpsc::channel(WAITING_MAX);
        let owner = Owner {
            dialer,
            address,
            queue,
            stopping: lifecycle.stopping(),
            last: None,
        };
        lifecycle.spawn_on(runtime, Kind::Connection, "mesh link", owner.run());
        Link { calls }
    }

    /// Sends `request` and waits for its answer; `node` is who is meant, or 0.
    pub async fn call(&self, node: u64, request: Vec<u8>, limit: Duration) -> Result<Vec<u8>, Failure> {
        if request.len() > pieces::MESSAGE_MAX {
            let (length, limit) = (request.len(), pieces::MESSAGE_MAX);
            return Err(Failure::NotSent(format!(
                "a request of {length} bytes, {limit} is the most"
            )));
        }
        let claim = Claim::default();
        let (answer, answered) = oneshot::channel();
        let call = Call {
            request,
            claim: Arc::clone(&claim),
            node,
            answer,
        };
        self.calls.try_send(call).map_err(|error| {
            Failure::NotSent(match error {
                mpsc::error::TrySendError::Full(_) => format!("{WAITING_MAX} calls wait already"),
                mpsc::error::TrySendError::Closed(_) => "the agent stops".to_owned(),
            })
        })?;
        match tokio::time::timeout(limit, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(unanswered(&claim, "the agent stops".to_owned())),
            Err(_) => Err(unanswered(&claim, format!("no answer within {limit:?}"))),
        }
    }
}

/// What became of a request whose answer did not come.
fn unanswered(claim: &Claim, why: String) -> Failure {
    if claim.swap(true, Ordering::AcqRel) {
        Failure::Unknown(why)
    } else {
        Failure::NotSent(why)
    }
}

type Pending = Arc<Mutex<HashMap<u64, oneshot::Sender<Result<Vec<u8>, Failure>>>>>;

struct Owner {
    dialer: Dialer,
    address: SocketAddr,
    queue: mpsc::Receiver<Call>,
    stopping: CancellationToken,
    /// The reason last written to the log, so that a peer that stays away is logged once.
    last: Option<String>,
}

impl Owner {
    async fn run(mut self) -> anyhow::Result<()> {
        let stopping = self.stopping.clone();
        stopping.run_until_cancelled(self.serve()).await;
        Ok(())
    }

    /// Ends when every handle is dropped.
    async fn serve(&mut self) {
        let mut backoff = Backoff::default();
        let mut first = None;
        loop {
            if first.is_none() {
                first = self.queue.recv().await;
            }
            let Some(call) = first.take() else { return };
            match self.dialer.dial(self.address, Class::Raft).await {
                Ok((stream, welcome)) => {
                    backoff.reset();
                    self.connected(&welcome);
                    let why = self.exchange(stream, &welcome, call).await;
                    let Some(error) = why else { return };
                    self.log(&error);
                }
                Err(error) => {
                    self.log(&error);
                    let why = error.to_string();
                    refuse(call, &why);
                    first = self.rest(backoff.step(), &why).await;
                }
            }
        }
    }

    /// Answers calls with `why` until the rest is over; gives the first that came after it.
    async fn rest(&mut self, rest: Duration, why: &str) -> Option<Call> {
        let over = Instant::now() + rest;
        loop {
            let call = self.queue.recv().await?;
            if Instant::now() >= over {
                return Some(call);
            }
            refuse(call, why);
        }
    }

    /// Sends calls and hands out answers until the connection ends: with the error, or `None` when no handle is left.
    async fn exchange<S>(&mut self, stream: S, welcome: &Welcome, first: Call) -> Option<Error>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite,
    {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let pending = Pending::default();
        let mut id = 0;
        let mut take = |call: Call| register(&pending, &mut id, welcome.node, call);
        let first = take(first);
        let error = {
            let send = async {
                if let Some(first) = first {
                    let (now, mut once) = mpsc::channel(1);
                    // The channel is new and has room for one.
                    let _ = now.try_send(first);
                    drop(now);
                    pieces::send(&mut writer, &mut once, Some).await?;
                }
                pieces::send(&mut writer, &mut self.queue, take).await
            };
            let receive = hand_out(&mut reader, &pending);
            tokio::select! {
                sent = send => sent.err(),
                error = receive => Some(error),
            }
        };
        let why = error
            .as_ref()
            .map_or_else(|| "the agent stops".to_owned(), Error::to_string);
        let unanswered = std::mem::take(&mut *pending.lock().unwrap_or_else(PoisonError::into_inner));
        for answer in unanswered.into_values() {
            // A caller that has gone needs no answer.
            let _ = answer.send(Err(Failure::Unknown(why.clone())));
        }
        error
    }

    fn connected(&mut self, welcome: &Welcome) {
        self.last = None;
        debug!(address = %self.address, node = welcome.node, name = welcome.name, "connected");
    }

    fn log(&mut self, error: &Error) {
        let why = error.to_string();
        if self.last.as_ref() == Some(&why) {
            return;
        }
        match error {
            Error::Certificate(_) | Error::Refused(_) | Error::Foreign(_) => {
                warn!(address = %self.address, why, "the agent there does not take this one for a member of its cluster");
            }
            _ => info!(address = %self.address, why, "no connection"),
        }
        self.last = Some(why);
    }
}

/// Gives a call an id and a place for its answer, unless its caller gave it up or meant another node.
fn register(pending: &Pending, id: &mut u64, there: u64, call: Call) -> Option<Outgoing> {
    if call.node != 0 && there != 0 && call.node != there {
        refuse(call, &format!("node {there} is there now"));
        return None;
    }
    if call.claim.swap(true, Ordering::AcqRel) {
        return None;
    }
    *id += 1;
    let mut pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
    if pending.len() >= SWEEP_FROM {
        pending.retain(|_, answer| !answer.is_closed());
    }
    pending.insert(*id, call.answer);
    Some(Outgoing {
        id: *id,
        bytes: call.request,
    })
}

fn refuse(call: Call, why: &str) {
    if !call.claim.swap(true, Ordering::AcqRel) {
        // A caller that has gone needs no answer.
        let _ = call.answer.send(Err(Failure::NotSent(why.to_owned())));
    }
}

async fn hand_out<R: tokio::io::AsyncRead + Unpin>(reader: &mut R, pending: &Pending) -> Error {
    let mut assembly = Assembly::default();
    let mut body = Vec::new();
    loop {
        match frame::read(reader, &mut body).await {
            Ok(true) => {}
            Ok(false) => return Error::Gone,
            Err(error) => return error,
        }
        match assembly.take(&body) {
            Ok(Some(answer)) => {
                let caller = pending
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .remove(&answer.id);
                if let Some(caller) = caller {
                    // A caller that has gone needs no answer.
                    let _ = caller.send(Ok(answer.bytes));
                }
            }
            Ok(None) => {}
            Err(error) => return error,
        }
    }
}
