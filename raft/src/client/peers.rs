//! Whom a node can ask: its own replica, the leader, any member it knows; and one request to one of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use crate::clock::Clock;
use crate::replica::{Means, Replica};
use crate::rpc::{self, ClientRequest, ClientResponse, Request, Response};
use crate::{Class, Error, Member, Peer, Status, Transport, TransportError};

/// The node's own replica and what it knows of the others.
pub(crate) struct Peers {
    transport: Arc<dyn Transport>,
    /// The node's reading of the store's clock, whether it has a replica or not.
    clock: Arc<Clock>,
    replica: RwLock<Option<Arc<Replica>>>,
    contacts: Mutex<Contacts>,
}

/// The members as a node without a replica knows them.
#[derive(Debug, Default)]
struct Contacts {
    /// This node's own id.
    id: Option<u64>,
    /// Why no replica runs here although one should.
    sick: Option<String>,
    members: BTreeMap<u64, Member>,
    voters: BTreeSet<u64>,
    learners: BTreeSet<u64>,
    /// Where members are said to be, of whom nothing else is known yet.
    seeds: Vec<SocketAddr>,
    leader: Option<u64>,
    /// Whom to ask next, by turns.
    turn: usize,
}

/// Who shall do a request.
pub(crate) enum Target {
    Here(Arc<Replica>),
    There(Peer),
}

impl Peers {
    pub(crate) fn new(transport: Arc<dyn Transport>) -> Peers {
        Peers {
            transport,
            clock: Arc::default(),
            replica: RwLock::default(),
            contacts: Mutex::default(),
        }
    }

    /// What a replica that is opened here takes part in.
    pub(crate) fn means(&self) -> Means {
        Means {
            transport: self.transport.clone(),
            clock: self.clock.clone(),
        }
    }

    /// The node's reading of the store's clock.
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// This node's replica, if it has one.
    pub(crate) fn replica(&self) -> Option<Arc<Replica>> {
        self.replica
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Puts a replica in place, or takes it away; gives the one before.
    pub(crate) fn set_replica(&self, replica: Option<Arc<Replica>>) -> Option<Arc<Replica>> {
        let mut place = self.replica.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut place, replica)
    }

    /// This node's id, once it has one, and the members it knows.
    pub(crate) fn known(&self) -> (Option<u64>, BTreeMap<u64, Member>) {
        let contacts = self.contacts();
        (contacts.id, contacts.members.clone())
    }

    /// Takes note of this node's own id.
    pub(crate) fn note_id(&self, id: u64) {
        self.contacts().id = Some(id);
    }

    /// Takes note of why no replica runs here although one should; of nothing once one does.
    pub(crate) fn note_sick(&self, why: Option<String>) {
        self.contacts().sick = why;
    }

    /// Why no replica runs here although one should.
    pub(crate) fn sick(&self) -> Option<String> {
        self.contacts().sick.clone()
    }

    /// Takes note of who the members are.
    pub(crate) fn note_members(&self, members: BTreeMap<u64, Member>) {
        self.contacts().members = members;
    }

    /// Takes note of what a replica elsewhere knows.
    pub(crate) fn note_group(&self, status: Status) {
        let mut contacts = self.contacts();
        contacts.leader = status.leader;
        contacts.members = status.members;
        contacts.voters = status.voters;
        contacts.learners = status.learners;
    }

    /// What a node without a replica knows of the group.
    pub(crate) fn status(&self) -> Status {
        let contacts = self.contacts();
        Status {
            id: contacts.id,
            members: contacts.members.clone(),
            voters: contacts.voters.clone(),
            learners: contacts.learners.clone(),
            sick: contacts.sick.clone(),
            ..Status::default()
        }
    }

    /// Takes note of addresses at which members are said to be.
    pub(crate) fn note_seeds(&self, seeds: &[SocketAddr]) {
        self.contacts().seeds = seeds.to_vec();
    }

    /// Takes note of who is said to lead.
    pub(crate) fn note_leader(&self, hint: Option<(u64, Member)>) {
        let mut contacts = self.contacts();
        contacts.leader = hint.as_ref().map(|(id, _)| *id);
        contacts.members.extend(hint);
    }

    /// Who leads, as far as is known here; without a replica, whom to ask.
    pub(crate) fn leader(&self) -> Option<Target> {
        match self.replica() {
            Some(replica) => {
                let (id, member) = replica.leader()?;
                if id == replica.id {
                    return Some(Target::Here(replica));
                }
                Peer::of(id, &member).map(Target::There)
            }
            None => self.contacts().leader_or_next().map(Target::There),
        }
    }

    /// Somebody to ask, each in turn.
    pub(crate) fn next(&self) -> Option<Peer> {
        self.contacts().next()
    }

    /// Asks one peer; nothing if it has no answer.
    pub(crate) async fn ask(
        &self,
        to: &Peer,
        request: ClientRequest,
        limit: Duration,
    ) -> Option<ClientResponse> {
        match self.send(to, request, limit).await {
            Ok(response) => Some(response),
            Err(error) => {
                tracing::debug!(peer = %to.address, %error, "a peer has no answer");
                None
            }
        }
    }

    /// Sends a request to one peer.
    pub(crate) async fn send(
        &self,
        to: &Peer,
        request: ClientRequest,
        limit: Duration,
    ) -> Result<ClientResponse, TransportError> {
        let not_sent = |error: Error| TransportError::NotSent(error.to_string());
        let unknown = |error: Error| TransportError::Unknown(error.to_string());
        let bytes = rpc::encode(&Request::Client(request, limit.as_millis() as u64)).map_err(not_sent)?;
        let answer = self.transport.call(to, Class::Forward, bytes, limit).await?;
        match rpc::decode(&answer).map_err(unknown)? {
            Response::Client(response, now_ms) => {
                self.clock.reach(now_ms);
                Ok(response)
            }
            // A node without a replica, or one that is stopping: it has done nothing.
            Response::Failed(why) => Err(TransportError::NotSent(why)),
            _ => Err(TransportError::Unknown("an answer to something else".into())),
        }
    }

    fn contacts(&self) -> MutexGuard<'_, Contacts> {
        self.contacts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Contacts {
    fn leader_or_next(&mut self) -> Option<Peer> {
        let leader = self.leader.and_then(|id| Peer::of(id, self.members.get(&id)?));
        leader.or_else(|| self.next())
    }

    fn next(&mut self) -> Option<Peer> {
        let own = self.id;
        let others = self.members.iter().filter(|(id, _)| Some(**id) != own);
        let mut peers: Vec<Peer> = others.filter_map(|(id, member)| Peer::of(*id, member)).collect();
        // Those too that a member is known at: it may have another id by now, and answers to no other.
        peers.extend(self.seeds.iter().map(|address| Peer {
            id: 0,
            address: *address,
        }));
        self.turn = self.turn.wrapping_add(1);
        (!peers.is_empty()).then(|| peers.swap_remove(self.turn % peers.len()))
    }
}
