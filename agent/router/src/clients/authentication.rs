//! Who is let in, through which listener, as what.
//!
//! | listener | realm | by | as |
//! |---|---|---|---|
//! | TCP, TLS | `default`, on loopback only | `anonymous` | anonymous |
//! | TLS | `pipes` | `cryptosign` over the channel (an operator's key), `ticket` (a token) | operator; with a token, its role |
//! | operators' socket | `pipes` | root or the agent's own user (SO_PEERCRED) | operator |
//! | operators' socket | `pipes` | `cryptosign` (an operator's key), `ticket` (a token) | operator; with a token, its role |
//! | operators' socket | `default` | `anonymous` | anonymous |
//! | stages' socket | `pipes.stages` | `ticket` of the replica that `authid` names, never by user id | replica |
//!
//! A key or token that is taken back takes with it the sessions it has let in.
//!
//! Nobody proves himself over plain TCP, loopback included: whoever sits on a dead agent's address could pass on what its
//! client signs to another agent, and be let in there. Over TLS what is signed covers the channel, which two agents never
//! share. The operators' socket lies in a folder that its user alone enters.
//!
//! Every other pair is `wamp.error.no_such_realm`. Tokens and tickets are known by their sha256 alone.

use std::collections::HashMap;
use std::net::IpAddr;

use pipes_wamp::error::uri;
use pipes_wamp::message::HelloDetails;
use pipes_wamp::router::{Gate, Identity, Rights, Role, Verdict};
use pipes_wamp::session::{CHANNEL_BINDING, bound, verify_cryptosign};
use sha2::{Digest, Sha256};

use crate::flow_control::class::Class;

/// A WAMP router for the users' own applications.
pub(crate) const DEFAULT: &str = "default";
/// The operators' realm.
pub(crate) const PIPES: &str = "pipes";
/// The shims' realm.
pub(crate) const STAGES: &str = "pipes.stages";

/// Who may speak in realm `pipes`.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// Names of operators by their ed25519 public keys.
    pub operators: HashMap<[u8; 32], String>,
    /// Tokens by their sha256.
    pub tokens: HashMap<[u8; 32], Token>,
}

impl Credentials {
    /// Whether what let a session in still lets it in.
    pub(crate) fn has(&self, proved: &Proved) -> bool {
        match proved {
            Proved::Key(key) => self.operators.contains_key(key),
            Proved::Token(token) => self.tokens.contains_key(token),
        }
    }
}

/// Who comes with a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its name.
    pub name: String,
    /// What it may do.
    pub rights: Rights,
    /// It reaches one workflow alone.
    pub is_narrow: bool,
}

/// What let a session in that may be taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proved {
    /// An operator's public key.
    Key([u8; 32]),
    /// A token, by its sha256.
    Token([u8; 32]),
}

/// Through which listener a connection came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// TCP; whether it listens on loopback.
    Tcp {
        /// It does.
        loopback: bool,
    },
    /// TLS, in which the agent has proved itself.
    Tls(Secured),
    /// The operators' unix socket; whether the peer is root or the agent's own user.
    Operators {
        /// It is.
        trusted: bool,
    },
    /// The stages' unix socket.
    Stages,
}

/// A TLS channel that somebody else ends, who gives its octets on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Secured {
    /// Whether it came in on loopback.
    pub loopback: bool,
    /// From where.
    pub address: IpAddr,
    /// What both of its ends call it, and nobody in between (RFC 9266).
    pub channel: [u8; 32],
}

impl Origin {
    /// Whether realm `default` is open there.
    fn has_default(self) -> bool {
        match self {
            Origin::Tcp { loopback } | Origin::Tls(Secured { loopback, .. }) => loopback,
            Origin::Operators { .. } => true,
            Origin::Stages => false,
        }
    }
}

/// With whom a session shares room and turns.
pub(crate) fn class(identity: &Identity) -> Class {
    match (&*identity.realm, &identity.role) {
        (DEFAULT, _) | (_, Role::Anonymous) => Class::Users,
        (_, Role::Agent) => Class::Own,
        (_, Role::Replica(_)) => Class::Stages,
        (_, Role::Operator | Role::Token { .. }) => Class::Operators,
    }
}

/// All that decides.
#[derive(Default)]
pub(crate) struct Access {
    /// Operators and tokens.
    pub credentials: Credentials,
    /// sha256 of the tickets of replicas, by their names.
    pub replicas: HashMap<String, [u8; 32]>,
}

/// What a client was asked to prove.
#[derive(Debug)]
pub(crate) enum Asked {
    /// That it has the key to sign this.
    Signature {
        /// Whose.
        operator: [u8; 32],
        /// What.
        signed: [u8; 32],
    },
    /// That it knows a token.
    Token,
    /// That it knows the replica's ticket.
    Ticket {
        /// Which replica's.
        replica: String,
    },
}

/// Decides for one connection until it is let in.
pub(crate) struct Authenticator<'a> {
    /// What decides.
    pub access: &'a Access,
    /// Where the connection came in.
    pub origin: Origin,
    /// What its client was asked.
    pub asked: &'a mut Option<Asked>,
    /// What it has proved.
    pub proved: &'a mut Option<Proved>,
}

const NO_SUCH_REALM: Verdict = Verdict::Refuse {
    reason: uri::NO_SUCH_REALM,
    message: "this realm does not exist, or not through this socket",
};
const NO_METHOD: Verdict = Verdict::Refuse {
    reason: uri::NO_MATCHING_AUTH_METHOD,
    message: "realm pipes takes cryptosign with an operator's key, or ticket with a token",
};
const UNBOUND: Verdict = Verdict::Refuse {
    reason: uri::NO_MATCHING_AUTH_METHOD,
    message: "over TLS a signature has to cover the channel: authextra needs channel_binding tls-exporter",
};
const FAILED: Verdict = Verdict::Refuse {
    reason: uri::AUTHENTICATION_FAILED,
    message: "the proof of identity was not accepted",
};

impl Gate for Authenticator<'_> {
    fn hello(&mut self, realm: &str, details: &HelloDetails<'_>) -> Verdict {
        let may_be_anonymous = details.authmethods.is_none() || details.offers("anonymous");
        match (self.origin, realm) {
            (origin, DEFAULT) if origin.has_default() && may_be_anonymous => {
                welcome(DEFAULT, Role::Anonymous, "anonymous", "anonymous")
            }
            (origin, DEFAULT) if origin.has_default() => Verdict::Refuse {
                reason: uri::NO_MATCHING_AUTH_METHOD,
                message: "realm default takes anonymous",
            },
            (Origin::Operators { trusted: true }, PIPES) if may_be_anonymous => welcome(
                PIPES,
                Role::Operator,
                details.authid.unwrap_or("local"),
                "anonymous",
            ),
            (Origin::Operators { .. } | Origin::Tls(_), PIPES) => self.ask_operator(details),
            (Origin::Stages, STAGES) => self.ask_replica(details),
            _ => NO_SUCH_REALM,
        }
    }

    fn authenticate(&mut self, signature: &str) -> Verdict {
        let credentials = &self.access.credentials;
        match self.asked.take() {
            Some(Asked::Signature { operator, signed }) => match credentials.operators.get(&operator) {
                Some(name) if verify_cryptosign(&operator, &signed, signature) => {
                    *self.proved = Some(Proved::Key(operator));
                    welcome(PIPES, Role::Operator, name, "cryptosign")
                }
                _ => FAILED,
            },
            Some(Asked::Token) => {
                let sha256 = hash(signature);
                match credentials.tokens.get(&sha256) {
                    Some(token) => {
                        *self.proved = Some(Proved::Token(sha256));
                        let (rights, is_narrow) = (token.rights, token.is_narrow);
                        welcome(PIPES, Role::Token { rights, is_narrow }, &token.name, "ticket")
                    }
                    None => FAILED,
                }
            }
            Some(Asked::Ticket { replica }) => match self.access.replicas.get(&replica) {
                // Hashes are compared: how long it takes tells nothing of the ticket.
                Some(ticket) if *ticket == hash(signature) => {
                    welcome(STAGES, Role::Replica(replica.as_str().into()), &replica, "ticket")
                }
                _ => FAILED,
            },
            None => FAILED,
        }
    }
}

impl Authenticator<'_> {
    fn ask_operator(&mut self, details: &HelloDetails<'_>) -> Verdict {
        if details.offers("cryptosign")
            && let Some(pubkey) = details.pubkey
        {
            let mut operator = [0; 32];
            if hex::decode_to_slice(pubkey, &mut operator).is_err() {
                return FAILED;
            }
            // Asked even of keys that nobody knows: who may come in is told to those alone who do.
            let challenge: [u8; 32] = rand::random();
            let signed = match self.origin {
                Origin::Tls(secured) if details.channel_binding == Some(CHANNEL_BINDING) => {
                    bound(challenge, &secured.channel)
                }
                Origin::Tls(_) => return UNBOUND,
                _ => challenge,
            };
            *self.asked = Some(Asked::Signature { operator, signed });
            return Verdict::Challenge {
                method: "cryptosign",
                challenge: hex::encode(challenge),
            };
        }
        if details.offers("ticket") {
            *self.asked = Some(Asked::Token);
            return Verdict::Challenge {
                method: "ticket",
                challenge: String::new(),
            };
        }
        NO_METHOD
    }

    fn ask_replica(&mut self, details: &HelloDetails<'_>) -> Verdict {
        let Some(replica) = details.authid.filter(|_| details.offers("ticket")) else {
            return Verdict::Refuse {
                reason: uri::NO_MATCHING_AUTH_METHOD,
                message: "realm pipes.stages takes the ticket of a replica",
            };
        };
        *self.asked = Some(Asked::Ticket {
            replica: replica.to_owned(),
        });
        Verdict::Challenge {
            method: "ticket",
            challenge: String::new(),
        }
    }
}

fn welcome(realm: &str, role: Role, name: &str, method: &'static str) -> Verdict {
    Verdict::Welcome(Identity {
        realm: realm.into(),
        role,
        name: name.into(),
        method,
    })
}

fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls(loopback: bool) -> Origin {
        Origin::Tls(Secured {
            loopback,
            address: IpAddr::from([10, 0, 0, 1]),
            channel: [7; 32],
        })
    }

    #[test]
    fn over_tls_a_signature_covers_the_channel_or_is_not_asked_for() {
        let methods = [0x91, 0xaa]
            .iter()
            .chain(b"cryptosign")
            .copied()
            .collect::<Vec<u8>>();
        let pubkey = "00".repeat(32);
        let asked = |channel_binding| {
            let details = HelloDetails {
                authmethods: Some(&methods),
                pubkey: Some(&pubkey),
                channel_binding,
                ..HelloDetails::default()
            };
            let mut asked = None;
            let verdict = Authenticator {
                access: &Access::default(),
                origin: tls(false),
                asked: &mut asked,
                proved: &mut None,
            }
            .hello(PIPES, &details);
            match (verdict, asked) {
                (Verdict::Challenge { challenge, .. }, Some(Asked::Signature { signed, .. })) => {
                    let mut bytes = [0; 32];
                    hex::decode_to_slice(challenge, &mut bytes).unwrap();
                    signed == bound(bytes, &[7; 32])
                }
                _ => false,
            }
        };
        assert!(asked(Some("tls-exporter")));
        assert!(!asked(Some("tls-unique")) && !asked(None));
    }

    fn hello(origin: Origin, realm: &str, offers: &[&str]) -> &'static str {
        let mut methods = Vec::new();
        pipes_wamp::write::array(&mut methods, offers.len());
        offers
            .iter()
            .for_each(|offer| pipes_wamp::write::text(&mut methods, offer));
        let details = HelloDetails {
            authmethods: Some(&methods),
            authid: Some("r1"),
            ..HelloDetails::default()
        };
        let (access, mut asked) = (Access::default(), None);
        match (Authenticator {
            access: &access,
            origin,
            asked: &mut asked,
            proved: &mut None,
        })
        .hello(realm, &details)
        {
            Verdict::Welcome(_) => "welcome",
            Verdict::Challenge { method, .. } => method,
            Verdict::Refuse { reason, .. } => reason,
        }
    }

    #[test]
    fn each_door_opens_its_own_realms() {
        let (near, far) = (Origin::Tcp { loopback: true }, Origin::Tcp { loopback: false });
        let (own, other) = (
            Origin::Operators { trusted: true },
            Origin::Operators { trusted: false },
        );
        for (origin, realm, offer, answer) in [
            (near, DEFAULT, "anonymous", "welcome"),
            (tls(true), DEFAULT, "anonymous", "welcome"),
            (tls(false), DEFAULT, "anonymous", uri::NO_SUCH_REALM),
            (tls(false), PIPES, "ticket", "ticket"),
            (tls(false), PIPES, "anonymous", uri::NO_MATCHING_AUTH_METHOD),
            (tls(true), STAGES, "ticket", uri::NO_SUCH_REALM),
            (far, DEFAULT, "anonymous", uri::NO_SUCH_REALM),
            (near, PIPES, "anonymous", uri::NO_SUCH_REALM),
            (near, PIPES, "ticket", uri::NO_SUCH_REALM),
            (near, PIPES, "cryptosign", uri::NO_SUCH_REALM),
            (far, PIPES, "ticket", uri::NO_SUCH_REALM),
            (own, PIPES, "ticket", "ticket"),
            (other, PIPES, "ticket", "ticket"),
            (near, STAGES, "ticket", uri::NO_SUCH_REALM),
            (own, PIPES, "anonymous", "welcome"),
            (other, PIPES, "anonymous", uri::NO_MATCHING_AUTH_METHOD),
            (own, STAGES, "ticket", uri::NO_SUCH_REALM),
            (Origin::Stages, STAGES, "anonymous", uri::NO_MATCHING_AUTH_METHOD),
            (Origin::Stages, STAGES, "ticket", "ticket"),
            (Origin::Stages, PIPES, "ticket", uri::NO_SUCH_REALM),
            (Origin::Stages, DEFAULT, "anonymous", uri::NO_SUCH_REALM),
            (near, "elsewhere", "anonymous", uri::NO_SUCH_REALM),
        ] {
            assert_eq!(
                hello(origin, realm, &[offer]),
                answer,
                "{origin:?} {realm} {offer}"
            );
        }
    }

    #[test]
    fn a_replica_is_known_by_its_own_ticket() {
        let mut access = Access::default();
        access.replicas.insert("r1".into(), hash("secret"));
        let answer = |replica: &str, ticket: &str| {
            let mut asked = Some(Asked::Ticket {
                replica: replica.into(),
            });
            let verdict = Authenticator {
                access: &access,
                origin: Origin::Stages,
                asked: &mut asked,
                proved: &mut None,
            }
            .authenticate(ticket);
            matches!(
                verdict,
                Verdict::Welcome(Identity {
                    role: Role::Replica(_),
                    ..
                })
            )
        };
        assert!(answer("r1", "secret"));
        assert!(!answer("r1", "wrong"));
        assert!(!answer("r2", "secret"));
    }
}
