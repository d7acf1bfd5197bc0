//! How a node's requests find who can do them: its own replica, the leader, or any member it knows.
//!
//! | the request | where | sent again when |
//! |---|---|---|
//! | write | the leader | it surely was not proposed, within its deadline |
//! | linearizable read | here, after the leader's read index; at the leader, without a replica here | always |
//! | renewal | the leader | always |
//! | watch | here; at any member, without a replica here | always |

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::client::forward::Forwarder;
use crate::consensus::network::peer;
use crate::replica::Replica;
use crate::rpc::{self, Ask, Reply, Request, Response};
use crate::{Class, Error, Member, Options, Peer, Transport, TransportError};

/// Rest before a request that was not done is tried again: short beside an election.
const RETRY_PAUSE: Duration = Duration::from_millis(25);
/// Longest that a request which may be sent again waits for one peer: a leader that stands still is soon another.
const ATTEMPT_MAX: Duration = Duration::from_secs(1);
/// Room for proposals in flight, in KiB, each counting for at least [`PROPOSAL_KIB_MIN`]: 4,096 small ones.
const IN_FLIGHT_KIB_MAX: usize = 16 * 1024;
/// What a proposal counts for at least.
pub(crate) const PROPOSAL_KIB_MIN: usize = 4;

/// What all handles of a node share.
pub(crate) struct Core {
    pub(crate) options: Options,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) runtime: Handle,
    pub(crate) in_flight: Semaphore,
    pub(crate) forwarder: Forwarder,
    pub(crate) stop: CancellationToken,
    replica: RwLock<Option<Arc<Replica>>>,
    contacts: Mutex<Contacts>,
}

/// The members as a node without a replica knows them.
#[derive(Debug, Default, Clone)]
pub(crate) struct Contacts {
    pub(crate) id: Option<u64>,
    pub(crate) members: BTreeMap<u64, Member>,
    pub(crate) seeds: Vec<SocketAddr>,
    leader: Option<u64>,
    /// Whom to ask next, by turns.
    turn: usize,
}

/// Who shall do a request.
pub(crate) enum Target {
    Here(Arc<Replica>),
    There(Peer),
}

impl Core {
    pub(crate) fn new(options: Options, transport: Arc<dyn Transport>, forwarder: Forwarder) -> Core {
        Core {
            options,
            transport,
            runtime: Handle::current(),
            in_flight: Semaphore::new(IN_FLIGHT_KIB_MAX),
            forwarder,
            stop: CancellationToken::new(),
            replica: RwLock::new(None),
            contacts: Mutex::new(Contacts::default()),
        }
    }

    /// This node's replica, if it has one.
    pub(crate) fn replica(&self) -> Option<Arc<Replica>> {
        self.replica
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Puts a replica in place, or takes it away.
    pub(crate) fn set_replica(&self, replica: Option<Arc<Replica>>) -> Option<Arc<Replica>> {
        let mut place = self.replica.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut place, replica)
    }

    /// What is known of the others.
    pub(crate) fn contacts(&self) -> MutexGuard<'_, Contacts> {
        self.contacts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time by which a request that begins now must be answered.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.options.request_timeout
    }

    /// Who leads, as far as is known here; without a replica, whom to ask.
    pub(crate) fn leader(&self) -> Option<Target> {
        match self.replica() {
            Some(replica) => {
                let (id, member) = replica.leader()?;
                if id == replica.id {
                    return Some(Target::Here(replica));
                }
                peer(id, &member).map(Target::There)
            }
            None => self.contacts().leader_or_next().map(Target::There),
        }
    }

    /// Takes note of who is said to lead.
    pub(crate) fn note_leader(&self, hint: Option<(u64, Member)>) {
        let mut contacts = self.contacts();
        contacts.leader = hint.as_ref().map(|(id, _)| *id);
        contacts.members.extend(hint);
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
    pub(crate) async fn ask_leader(&self, ask: Ask, deadline: Instant) -> Result<Reply, Error> {
        let mut missing = Error::NoLeader;
        loop {
            let limit = deadline
                .saturating_duration_since(Instant::now())
                .min(ATTEMPT_MAX);
            let reply = match self.leader() {
                None => None,
                Some(Target::Here(replica)) => Some(replica.answer(ask.clone(), limit).await),
                Some(Target::There(peer)) => self.ask_peer(&peer, ask.clone(), limit).await,
            };
            match reply {
                Some(Reply::NotLeader(hint)) => {
                    missing = Error::Timeout;
                    self.note_leader(hint);
                }
                Some(Reply::Failed(error)) if error.may_retry() => missing = error,
                Some(Reply::Failed(error)) => return Err(error),
                Some(reply) => return Ok(reply),
                None => self.note_leader(None),
            }
            self.pause(deadline, missing.clone()).await?;
        }
    }

    /// Has any member do a request that may be sent again; for nodes without a replica.
    pub(crate) async fn ask_any(
        &self,
        ask: Ask,
        deadline: Instant,
        attempt: Duration,
    ) -> Result<Reply, Error> {
        loop {
            let limit = deadline.saturating_duration_since(Instant::now()).min(attempt);
            let peer = self.contacts().next();
            let reply = match peer {
                None => None,
                Some(peer) => self.ask_peer(&peer, ask.clone(), limit).await,
            };
            match reply {
                Some(Reply::NotLeader(hint)) => self.note_leader(hint),
                Some(Reply::Failed(error)) => return Err(error),
                Some(reply) => return Ok(reply),
                None => {}
            }
            self.pause(deadline, Error::NoLeader).await?;
        }
    }

    /// Asks one peer; nothing if it has no answer.
    pub(crate) async fn ask_peer(&self, to: &Peer, ask: Ask, limit: Duration) -> Option<Reply> {
        match self.send(to, ask, limit).await {
            Ok(reply) => Some(reply),
            Err(error) => {
                tracing::debug!(peer = %to.address, %error, "a peer has no answer");
                None
            }
        }
    }

    /// Sends a request to one peer.
    pub(crate) async fn send(&self, to: &Peer, ask: Ask, limit: Duration) -> Result<Reply, TransportError> {
        let not_sent = |error: Error| TransportError::NotSent(error.to_string());
        let unknown = |error: Error| TransportError::Unknown(error.to_string());
        let request = rpc::encode(&Request::Ask(ask, limit.as_millis() as u64)).map_err(not_sent)?;
        let answer = self.transport.call(to, Class::Forward, request, limit).await?;
        match rpc::decode(&answer).map_err(unknown)? {
            Response::Reply(reply) => Ok(reply),
            // A node without a replica, or one that is stopping: it has done nothing.
            Response::Failed(why) => Err(TransportError::NotSent(why)),
            _ => Err(TransportError::Unknown("an answer to something else".into())),
        }
    }
}

impl Contacts {
    fn leader_or_next(&mut self) -> Option<Peer> {
        let leader = self.leader.and_then(|id| peer(id, self.members.get(&id)?));
        leader.or_else(|| self.next())
    }

    /// Somebody to ask, each in turn.
    fn next(&mut self) -> Option<Peer> {
        let own = self.id;
        let others = self.members.iter().filter(|(id, _)| Some(**id) != own);
        let mut peers: Vec<Peer> = others.filter_map(|(id, member)| peer(*id, member)).collect();
        for address in &self.seeds {
            if !peers.iter().any(|peer| peer.address == *address) {
                peers.push(Peer {
                    id: 0,
                    address: *address,
                });
            }
        }
        self.turn = self.turn.wrapping_add(1);
        (!peers.is_empty()).then(|| peers.swap_remove(self.turn % peers.len()))
    }
}
