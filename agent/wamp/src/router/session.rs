//! A session, seen from the router: HELLO to WELCOME, then what the dealer keeps of it.
//!
//! Before WELCOME a client may send HELLO, AUTHENTICATE when it was challenged, and ABORT; anything else ends the connection
//! with `wamp.error.protocol_violation`. Who may come in is not decided here (a [`Gate`] does).

use std::collections::BTreeSet;

use foldhash::{HashMap, HashMapExt};

use super::authorization::Role;
use super::keys::CallKey;
use crate::error::uri;
use crate::id::Sequence;
use crate::message::{HelloDetails, Message, RoleFeatures};

/// What a client can do, as HELLO says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Features {
    /// As caller.
    pub caller: RoleFeatures,
    /// As callee.
    pub callee: RoleFeatures,
}

impl Features {
    /// Everything: the agent's own sessions.
    pub const ALL: Features = Features {
        caller: Features::FULL,
        callee: Features::FULL,
    };
    const FULL: RoleFeatures = RoleFeatures {
        present: true,
        progressive_results: true,
        progressive_invocations: true,
        canceling: true,
        timeout: true,
    };
}

/// Who was let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The realm it is in.
    pub realm: Box<str>,
    /// What it may do.
    pub role: Role,
    /// Its name: an operator's, a token's, a replica's.
    pub name: Box<str>,
    /// How it was proved: `anonymous`, `ticket`, `cryptosign`.
    pub method: &'static str,
}

/// What a gate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Come in.
    Welcome(Identity),
    /// Prove it: CHALLENGE with this method and, in hex, this challenge (empty: none).
    Challenge {
        /// Method of authentication.
        method: &'static str,
        /// What is to be signed.
        challenge: String,
    },
    /// No.
    Refuse {
        /// Error URI.
        reason: &'static str,
        /// One sentence for people.
        message: &'static str,
    },
}

/// Decides who may come in through one connection.
pub trait Gate {
    /// A client asks to join `realm`.
    fn hello(&mut self, realm: &str, details: &HelloDetails<'_>) -> Verdict;
    /// It answers the challenge.
    fn authenticate(&mut self, signature: &str) -> Verdict;
}

/// What follows from a message before WELCOME.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Send CHALLENGE.
    Challenge {
        /// Method of authentication.
        method: &'static str,
        /// What is to be signed; empty for none.
        challenge: String,
    },
    /// Send WELCOME; the session is joined.
    Welcome(Identity, Features),
    /// Send ABORT and close.
    Abort {
        /// Error URI.
        reason: &'static str,
        /// One sentence for people.
        message: &'static str,
    },
    /// The client gave up: close.
    Closed,
}

/// A connection that has no session yet.
#[derive(Debug, Default)]
pub struct Handshake {
    features: Option<Features>,
}

impl Handshake {
    /// One message from the client.
    pub fn receive(&mut self, message: &Message<'_>, gate: &mut impl Gate) -> Outcome {
        let verdict = match (*message, self.features) {
            (Message::Hello { realm, details }, None) => {
                if !details.has_role {
                    let message = "HELLO announces no role";
                    return Outcome::Abort {
                        reason: uri::PROTOCOL_VIOLATION,
                        message,
                    };
                }
                self.features = Some(Features {
                    caller: details.caller,
                    callee: details.callee,
                });
                gate.hello(realm, &details)
            }
            (Message::Authenticate { signature, .. }, Some(_)) => gate.authenticate(signature),
            (Message::Abort { .. }, _) => return Outcome::Closed,
            _ => {
                let message = "this message is not for a session that is not joined";
                return Outcome::Abort {
                    reason: uri::PROTOCOL_VIOLATION,
                    message,
                };
            }
        };
        match verdict {
            Verdict::Welcome(identity) => Outcome::Welcome(identity, self.features.unwrap_or_default()),
            Verdict::Challenge { method, challenge } => Outcome::Challenge { method, challenge },
            Verdict::Refuse { reason, message } => Outcome::Abort { reason, message },
        }
    }
}

/// What the dealer keeps of a joined session.
pub(super) struct Session {
    /// Its id, random in the whole cluster.
    pub id: u64,
    pub realm: Box<str>,
    pub role: Role,
    pub features: Features,
    /// The token that let it in, by its name.
    pub token: Option<Box<str>>,
    /// The largest number of a CALL of it: one above it is new, one below it that is not in `calls` is over.
    pub last_call: u64,
    /// Calls it made that live, by its request.
    pub calls: HashMap<u64, CallKey>,
    /// Numbers the invocations given to it.
    pub given: Sequence,
    /// The largest of them.
    pub last_given: u64,
    /// Invocations given to it that live, by that number.
    pub invocations: HashMap<u64, CallKey>,
    /// Those that are over without its knowing, and that it may send progressive results of.
    pub untold: BTreeSet<u64>,
    pub registrations: BTreeSet<u64>,
    /// What it was granted, and by how many calls.
    pub grants: HashMap<Box<str>, u32>,
}

impl Session {
    pub fn new(id: u64, identity: Identity, features: Features) -> Session {
        let token = matches!(identity.role, Role::Token { .. }).then_some(identity.name);
        Session {
            id,
            token,
            realm: identity.realm,
            role: identity.role,
            features,
            last_call: 0,
            calls: HashMap::new(),
            given: Sequence::default(),
            last_given: 0,
            invocations: HashMap::new(),
            untold: BTreeSet::new(),
            registrations: BTreeSet::new(),
            grants: HashMap::new(),
        }
    }

    /// Numbers the next invocation given to it.
    pub fn next_invocation(&mut self) -> u64 {
        self.last_given = self.given.next_id();
        self.last_given
    }

    pub fn may_call(&self, procedure: &str) -> bool {
        self.role.may_call(procedure) || self.grants.contains_key(procedure)
    }
}
