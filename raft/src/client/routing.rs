//! Where a node's request goes, and how long and how often it is tried.
//!
//! | the request | where | sent again when |
//! |---|---|---|
//! | write | the leader | it surely was not proposed, within its deadline |
//! | linearizable read | here, after the leader's read index; at the leader, without a replica here | always |
//! | renewal | the leader | always |
//! | watch | here; at any member, without a replica here | always |

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::forward::Forwarder;
use super::peers::{Peers, Target};
use crate::rpc::{ClientRequest, ClientResponse};
use crate::{Error, Options, Status};

/// Rest before a request that was not done is tried again: short beside an election.
const RETRY_PAUSE: Duration = Duration::from_millis(25);
/// Longest that a request which may be sent again waits for one peer: a leader that stands still is soon another.
const ATTEMPT_MAX: Duration = Duration::from_secs(1);
/// Room for proposals in flight, in KiB, each counting for at least [`PROPOSAL_KIB_MIN`]: 4,096 small ones.
const IN_FLIGHT_KIB_MAX: usize = 16 * 1024;
/// What a proposal counts for at least.
pub(super) const PROPOSAL_KIB_MIN: usize = 4;

/// What all handles of a node share.
pub(crate) struct Routing {
    pub(crate) options: Options,
    pub(crate) peers: Arc<Peers>,
    pub(crate) forwarder: Forwarder,
    pub(crate) in_flight: Semaphore,
    pub(crate) stop: CancellationToken,
}

impl Routing {
    pub(crate) fn new(options: Options, peers: Arc<Peers>, forwarder: Forwarder) -> Routing {
        Routing {
            options,
            peers,
            forwarder,
            in_flight: Semaphore::new(IN_FLIGHT_KIB_MAX),
            stop: CancellationToken::new(),
        }
    }

    /// The time by which a request that begins now must be answered.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.options.request_timeout
    }

    /// Rests before the next try; not beyond the deadline, which is answered with the error given.
    pub(crate) async fn pause(&self, deadline: Instant, error: Error) -> Result<(), Error> {
        if self.stop.is_cancelled() {
            return Err(Error::Stopped);
        }
        // With less than a pause left no try could tell "not done" from "too late to know".
        let is_late = || Instant::now() + 2 * RETRY_PAUSE >= deadline;
        if is_late() {
            return Err(error);
        }
        sleep(RETRY_PAUSE).await;
        if is_late() { Err(error) } else { Ok(()) }
    }

    /// Has the leader do a request that may be sent again.
    pub(crate) async fn ask_leader(
        &self,
        request: ClientRequest,
        deadline: Instant,
    ) -> Result<ClientResponse, Error> {
        let mut missing = Error::NoLeader;
        loop {
            let limit = deadline
                .saturating_duration_since(Instant::now())
                .min(ATTEMPT_MAX);
            let response = match self.peers.leader() {
                None => None,
                Some(Target::Here(replica)) => Some(replica.answer(request.clone(), limit).await),
                Some(Target::There(peer)) => self.peers.ask(&peer, request.clone(), limit).await,
            };
            match response {
                Some(ClientResponse::NotLeader(hint)) => {
                    missing = Error::Timeout;
                    self.peers.note_leader(hint);
                }
                Some(ClientResponse::Failed(error)) if error.may_retry() => missing = error,
                Some(ClientResponse::Failed(error)) => return Err(error),
                Some(response) => return Ok(response),
                None => self.peers.note_leader(None),
            }
            self.pause(deadline, missing.clone()).await?;
        }
    }

    /// Has any member do a request that may be sent again; for nodes without a replica.
    pub(crate) async fn ask_any(
        &self,
        request: ClientRequest,
        deadline: Instant,
        attempt: Duration,
    ) -> Result<ClientResponse, Error> {
        loop {
            let limit = deadline.saturating_duration_since(Instant::now()).min(attempt);
            let peer = self.peers.next();
            let response = match peer {
                None => None,
                Some(peer) => self.peers.ask(&peer, request.clone(), limit).await,
            };
            match response {
                Some(ClientResponse::NotLeader(hint)) => self.peers.note_leader(hint),
                Some(ClientResponse::Failed(error)) => return Err(error),
                Some(response) => return Ok(response),
                None => {}
            }
            self.pause(deadline, Error::NoLeader).await?;
        }
    }

    /// What the node knows of the group.
    pub(crate) fn status(&self) -> Status {
        match self.peers.replica() {
            Some(replica) => replica.status(),
            None => self.peers.status(),
        }
    }
}
