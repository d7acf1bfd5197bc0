//! Forwarding writes to the leader, several in one message.
//!
//! Whoever waits while messages are under way goes with the next one: at rest a write goes alone and at once, under
//! load many share the cost of a message and its answer. Up to [`UNDER_WAY_MAX`] messages are under way.
//!
//! Always: a proposal is sent once. What may have been sent and has no answer is `Outcome::Unknown`.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::peers::Peers;
use crate::command::Proposal;
use crate::rpc::{ClientRequest, ClientResponse, Outcome};
use crate::{Peer, TransportError};

/// Messages of proposals under way at once: the next is made while the one before is on its way.
const UNDER_WAY_MAX: usize = 2;
/// Proposals in one message.
const PROPOSALS_MAX: usize = 256;
/// Octets in one message, the first proposal excepted.
const BYTES_MAX: usize = 1024 * 1024;
/// Proposals that wait to be sent; those in flight are bounded in `routing.rs` already.
const QUEUE_LEN: usize = 4096;
/// Time the answers of a leader that was followed by another may still take: after an orderly change they come.
const DEPOSED_GRACE: Duration = Duration::from_millis(500);

/// The way to the queue.
pub(crate) struct Forwarder {
    queue: mpsc::Sender<Waiting>,
}

/// A proposal that waits to be sent.
pub(crate) struct Waiting {
    peer: Peer,
    proposal: Proposal,
    deadline: Instant,
    outcome: oneshot::Sender<Outcome>,
}

impl Forwarder {
    pub(crate) fn new() -> (Forwarder, mpsc::Receiver<Waiting>) {
        let (queue, waiting) = mpsc::channel(QUEUE_LEN);
        (Forwarder { queue }, waiting)
    }

    /// Has `peer` propose; waits for the outcome until the deadline.
    pub(crate) async fn forward(&self, peer: Peer, proposal: Proposal, deadline: Instant) -> Outcome {
        let (outcome, answer) = oneshot::channel();
        let waiting = Waiting {
            peer,
            proposal,
            deadline,
            outcome,
        };
        if self.queue.send(waiting).await.is_err() {
            return Outcome::NotProposed(None);
        }
        match tokio::time::timeout_at(deadline, answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) => Outcome::Unknown,
        }
    }
}

/// Sends what waits, until the node stops.
pub(crate) async fn run(peers: Arc<Peers>, mut queue: mpsc::Receiver<Waiting>, stop: CancellationToken) {
    let under_way = Arc::new(Semaphore::new(UNDER_WAY_MAX));
    let tasks = TaskTracker::new();
    let mut held: Option<Waiting> = None;
    loop {
        let first = match held.take() {
            Some(first) => first,
            None => match stop.run_until_cancelled(queue.recv()).await.flatten() {
                Some(first) => first,
                None => break,
            },
        };
        let Some(Ok(permit)) = stop.run_until_cancelled(under_way.clone().acquire_owned()).await else {
            break;
        };
        let mut bytes = first.proposal.bytes().len();
        let mut batch = vec![first];
        while batch.len() < PROPOSALS_MAX
            && bytes < BYTES_MAX
            && let Ok(next) = queue.try_recv()
        {
            if next.peer != batch[0].peer {
                held = Some(next);
                break;
            }
            bytes += next.proposal.bytes().len();
            batch.push(next);
        }
        let peers = peers.clone();
        let stop = stop.clone();
        tasks.spawn(async move {
            let _permit = permit;
            stop.run_until_cancelled(send(&peers, batch)).await
        });
    }
    // Whoever still waits learns from the closed channels that nobody knows.
    queue.close();
    tasks.close();
    tasks.wait().await;
}

async fn send(peers: &Peers, mut batch: Vec<Waiting>) {
    // Who has given up is not sent any more.
    batch.retain(|waiting| !waiting.outcome.is_closed());
    let Some(first) = batch.first() else { return };
    let peer = first.peer.clone();
    let now = Instant::now();
    let latest = batch.iter().map(|waiting| waiting.deadline).max().unwrap_or(now);
    let limit = latest.saturating_duration_since(now);
    let proposals: Vec<Proposal> = batch.iter().map(|waiting| waiting.proposal.clone()).collect();
    let count = proposals.len();
    let sent = tokio::select! {
        sent = peers.send(&peer, ClientRequest::Propose(proposals), limit) => sent,
        () = deposed(peers, peer.id) => Err(TransportError::Unknown("another leads now".into())),
    };
    let outcomes = match sent {
        Ok(ClientResponse::Proposed(outcomes)) if outcomes.len() == count => outcomes,
        Ok(ClientResponse::NotLeader(hint)) => vec![Outcome::NotProposed(hint); count],
        Err(TransportError::NotSent(_)) => vec![Outcome::NotProposed(None); count],
        Ok(_) | Err(TransportError::Unknown(_)) => vec![Outcome::Unknown; count],
    };
    for (waiting, outcome) in batch.into_iter().zip(outcomes) {
        // Who has given up meanwhile has answered "unknown".
        let _ = waiting.outcome.send(outcome);
    }
}

/// Ends when this node has known for a while that another than `leader` leads.
async fn deposed(peers: &Peers, leader: u64) {
    let Some(replica) = peers.replica() else {
        return std::future::pending().await;
    };
    let mut metrics = replica.raft.server_metrics();
    while metrics
        .borrow_watched()
        .current_leader
        .is_none_or(|current| current == leader)
    {
        if metrics.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
    sleep(DEPOSED_GRACE).await;
}
