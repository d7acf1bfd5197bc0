//! The dealer: calls, from CALL to the last answer.
//!
//! A call has two ends, each a session of this node or a link to another:
//!
//! ```text
//! caller s1 --CALL--> [node 1: call (s1,7) -> (link 2, number 4)] ==> [node 2: call (link 1, number 4) -> (s9,1)] --INVOCATION--> s9
//! ```
//!
//! Always: (1) a call is known under both its ends or not at all; (2) it ends once, with a final answer or an error to
//! a caller that is still there, and the callee is interrupted if it may still work; (3) what comes for a call that is
//! over is dropped without an answer, what comes for one that never was ends the session; (4) all chunks of a call go
//! where its first went, unless its callee let them go on (`splice`); (5) a grant lives as long as the call it came with.
//!
//! Not here: who may come in (`session`, and its gate), windows and queues (the outbox), the clock (`tick`).

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};

use foldhash::{HashMap, HashMapExt};

use super::arena::Arena;
use super::authorization::Role;
use super::keys::{CallKey, End, LinkKey, OfCall, OfLink, OfSession, SessionKey};
use super::outbox::{Charge, Outbox};
use super::realm::{Realm, Registration};
use super::session::{Features, Identity, Session};
use crate::error::uri;
use crate::id::Sequence;
use crate::message::{EMPTY_MAP, Message};

mod answers;
mod calls;
mod leaving;
mod peers;
mod registrations;
mod splice;

pub use registrations::Refused;
use splice::Splice;
pub use splice::{Onto, Own};

/// Calls that one session may have in progress; a further one is answered `wamp.error.unavailable`. As many as the
/// largest client of a cluster (a coordinator of 1,000 runs of 6 stages) has, with room.
const CALLS_MAX: usize = 10_000;

/// A link to another node.
struct Link {
    /// The node at its other end.
    peer: u64,
    /// Numbers the calls that go out over it.
    next_number: u64,
    /// Calls that went out over it.
    ours: HashMap<u64, CallKey>,
    /// Calls that came in over it.
    theirs: HashMap<u64, CallKey>,
}

/// A call in progress.
struct Call {
    /// Who made it.
    caller: End,
    /// Who answers it.
    callee: End,
    /// At this node; 0 where the callee is behind a link.
    registration: u64,
    /// The caller has more chunks.
    more: bool,
    /// The caller takes progressive results.
    receive_progress: bool,
    /// The callee was told to stop, and its answer is awaited.
    interrupted: bool,
    /// What the callee's session was granted with it.
    grant: Option<Box<str>>,
    /// Its bytes go on past its callee.
    spliced_onto: Option<Splice>,
    /// Bytes of another call go on as its chunks.
    spliced_from: Option<Splice>,
}

/// The session broke the protocol: ABORT it with `wamp.error.protocol_violation` and this sentence, then call `leave`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Violation(pub &'static str);

/// What becomes of a session after a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It goes on.
    Stay,
    /// It said GOODBYE and was answered: close when that is sent. `leave` was done.
    Close,
}

/// The dealer of one node.
pub struct Dealer {
    node: u64,
    realms: HashMap<Box<str>, Realm>,
    sessions: Arena<Session, OfSession>,
    calls: Arena<Call, OfCall>,
    links: Arena<Link, OfLink>,
    peers: HashMap<u64, LinkKey>,
    registrations: HashMap<u64, Registration>,
    registration_ids: Sequence,
    /// Registrations of sessions that are gone.
    left: VecDeque<BTreeSet<u64>>,
    /// Sessions of the agent itself, by their ids.
    own: HashMap<u64, SessionKey>,
    refused: Refused,
    /// Calls with a time limit: when, in milliseconds of `tick`'s clock. Those of calls that are over stay until then.
    deadlines: BinaryHeap<Reverse<(u64, CallKey)>>,
    /// Calls with a time limit, in milliseconds, that came since the last tick: the next one knows the time.
    undated: Vec<(u64, CallKey)>,
}

impl Dealer {
    /// A dealer of node `node` (0: not known yet) with these realms.
    pub fn new(node: u64, realms: &[&str]) -> Dealer {
        Dealer {
            node,
            realms: realms
                .iter()
                .map(|name| ((*name).into(), Realm::new(name)))
                .collect(),
            sessions: Arena::default(),
            calls: Arena::default(),
            links: Arena::default(),
            peers: HashMap::new(),
            registrations: HashMap::new(),
            registration_ids: Sequence::default(),
            left: VecDeque::new(),
            own: HashMap::new(),
            refused: Refused::default(),
            deadlines: BinaryHeap::new(),
            undated: Vec::new(),
        }
    }

    /// Says which node this is.
    pub fn set_node(&mut self, node: u64) {
        self.node = node;
    }

    /// Lets a session in; `id` is random.
    pub fn join(&mut self, id: u64, identity: Identity, features: Features) -> SessionKey {
        let is_own = identity.role == Role::Agent;
        let key = self.sessions.insert(Session::new(id, identity, features));
        if is_own {
            self.own.insert(id, key);
        }
        key
    }

    /// The replica whose shim a session is.
    pub fn replica(&self, session: SessionKey) -> Option<&str> {
        match &self.session(session)?.role {
            Role::Replica(replica) => Some(replica),
            _ => None,
        }
    }

    /// Whether a replica of this node has registered both its procedures.
    pub fn has_both_of(&self, replica: &str, realm: &str) -> bool {
        ["stage", "pipe"].into_iter().all(|name| {
            let procedure = format!("pipes.node.{}.replica.{replica}.{name}", self.node);
            self.registration_here(realm, &procedure).is_some()
        })
    }

    /// One message of a session.
    pub fn receive(
        &mut self,
        from: SessionKey,
        message: &Message<'_>,
        out: &mut impl Outbox,
    ) -> Result<Next, Violation> {
        match *message {
            Message::Call {
                request,
                options,
                procedure,
                payload,
            } => self.call(from, request, &options, procedure, payload, out),
            Message::Yield {
                request,
                progress,
                payload,
            } => self.yielded(from, request, progress, payload, out),
            Message::Error {
                kind,
                request,
                details,
                error,
                payload,
            } => self.callee_error(from, (kind, request), details, error, payload, out),
            Message::Cancel { request, mode } => self.cancel(from, request, mode, out),
            Message::Register {
                request,
                options,
                procedure,
            } => self.register(from, request, &options, procedure, out),
            Message::Unregister {
                request,
                registration,
            } => self.unregister(from, request, registration, out),
            Message::Goodbye { .. } => {
                self.leave(from, out);
                let goodbye = Message::Goodbye {
                    details: EMPTY_MAP,
                    reason: uri::GOODBYE_AND_OUT,
                };
                out.to_session(from, Charge::Nobody, &goodbye);
                return Ok(Next::Close);
            }
            Message::Abort { .. } => {
                self.leave(from, out);
                return Ok(Next::Close);
            }
            Message::Hello { .. } => Err(Violation("a second HELLO")),
            _ => Err(Violation("this message is not a client's to send")),
        }?;
        Ok(Next::Stay)
    }

    /// Ends the calls whose time is up, and begins the time of those that came since the last tick. `now_ms` is to be read
    /// after what was received and rounded down; a tick follows each time that something was received.
    pub fn tick(&mut self, now_ms: u64, out: &mut impl Outbox) {
        self.date_calls(now_ms);
        while let Some(Reverse((deadline, call))) = self.deadlines.peek().copied() {
            if deadline > now_ms {
                break;
            }
            self.deadlines.pop();
            self.time_out(call, out);
        }
    }

    /// When `tick` has something to do.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.deadlines.peek().map(|Reverse((deadline, _))| *deadline)
    }

    /// Sessions, calls in progress and registrations, to be shown.
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.sessions.len(), self.calls.len(), self.registrations.len())
    }

    fn session(&self, key: SessionKey) -> Option<&Session> {
        self.sessions.get(key)
    }

    fn session_mut(&mut self, key: SessionKey) -> Option<&mut Session> {
        self.sessions.get_mut(key)
    }
}

#[cfg(test)]
mod tests;
