//! Golden scripts of `testscripts/dealer`: who sends what to whom.
//!
//! `join s1 [role=..] [realm=..] [features=none]` lets a session in, `s1: call 1 com.sum with=x` is a message of it,
//! `-> s2 INVOCATION ..` one that goes out. `link l2` is a link to node 2, `l2: call 1 default com.sum` what comes over it. The
//! dealer is node 1's, until `node 3` says so. `splice 101.1 call=102.2` lets the bytes of the invocation 1 of session
//! 101 (the first that joined) go on as chunks of the call 2 of session 102. `knock c1` is a connection before WELCOME; its gate asks for a ticket in realm `pipes`.

use std::collections::BTreeMap;
use std::error::Error as StdError;

use goldenscript::Context;

use super::*;
use crate::message::{
    CallOptions, CancelMode, EMPTY_MAP, HelloDetails, Message, Payload, RegisterOptions, kind,
};
use crate::payload::{bytes_arg, write_bytes_arg};

mod written;

use written::Written;

type Fallible<T> = Result<T, Box<dyn StdError>>;

struct Runner {
    dealer: Dealer,
    out: Written,
    connections: BTreeMap<String, Handshake>,
    next_id: u64,
}

/// Lets anybody into `default`, asks for a ticket in `pipes`.
struct Ticket;

impl Gate for Ticket {
    fn hello(&mut self, realm: &str, details: &HelloDetails<'_>) -> Verdict {
        match realm {
            "default" => Verdict::Welcome(identity(realm, Role::Anonymous)),
            "pipes" if details.offers("ticket") => Verdict::Challenge {
                method: "ticket",
                challenge: String::new(),
            },
            "pipes" => Verdict::Refuse {
                reason: crate::error::uri::NO_MATCHING_AUTH_METHOD,
                message: "no",
            },
            _ => Verdict::Refuse {
                reason: crate::error::uri::NO_SUCH_REALM,
                message: "no",
            },
        }
    }

    fn authenticate(&mut self, signature: &str) -> Verdict {
        match signature {
            "secret" => Verdict::Welcome(identity("pipes", Role::Operator)),
            _ => Verdict::Refuse {
                reason: crate::error::uri::AUTHENTICATION_FAILED,
                message: "no",
            },
        }
    }
}

fn identity(realm: &str, role: Role) -> Identity {
    Identity {
        realm: realm.into(),
        role,
        name: "x".into(),
        method: "anonymous",
    }
}

/// A command: its words, and what stands behind a key.
struct Said {
    name: String,
    words: Vec<String>,
    keys: BTreeMap<String, String>,
    payload: Vec<u8>,
}

impl TryFrom<&goldenscript::Command> for Said {
    type Error = Box<dyn StdError>;

    fn try_from(command: &goldenscript::Command) -> Fallible<Said> {
        let mut args = command.consume_args();
        let mut said = Said {
            name: command.name.clone(),
            words: Vec::new(),
            keys: BTreeMap::new(),
            payload: Vec::new(),
        };
        while let Some(word) = args.next_pos() {
            said.words.push(word.to_owned());
        }
        while let Some((key, value)) = args.next_key() {
            said.keys.insert(key.to_owned(), value.to_owned());
        }
        if let Some(with) = said.keys.get("with") {
            write_bytes_arg(&mut said.payload, with.as_bytes());
        }
        Ok(said)
    }
}

impl Said {
    fn has(&self, flag: &str) -> bool {
        self.words.iter().any(|other| other == flag)
    }

    fn key(&self, key: &str) -> Option<&str> {
        self.keys.get(key).map(String::as_str)
    }

    /// A word, empty where there is none.
    fn word(&self, place: usize) -> &str {
        self.words.get(place).map_or("", String::as_str)
    }

    fn number(&self) -> Fallible<u64> {
        self.words.first().map_or(Ok(0), |word| Ok(word.parse()?))
    }

    fn payload(&self) -> Payload<'_> {
        Payload {
            parts: u8::from(!self.payload.is_empty()),
            bytes: &self.payload,
        }
    }
}

fn mode(name: &str) -> CancelMode {
    match name {
        "skip" => CancelMode::Skip,
        "kill" => CancelMode::Kill,
        _ => CancelMode::KillNoWait,
    }
}

impl Runner {
    fn new() -> Runner {
        Runner {
            dealer: Dealer::new(1, &["default", "pipes", "pipes.stages"]),
            out: Written::default(),
            connections: BTreeMap::new(),
            next_id: 100,
        }
    }

    fn join(&mut self, said: &Said) {
        let realm = said.key("realm").unwrap_or("default");
        let role = match said.key("role").unwrap_or("anonymous") {
            "agent" => Role::Agent,
            "operator" => Role::Operator,
            "anonymous" => Role::Anonymous,
            replica => Role::Replica(replica.into()),
        };
        let features = if said.key("features").is_some() {
            Features::default()
        } else {
            Features::ALL
        };
        self.next_id += 1;
        let key = self.dealer.join(self.next_id, identity(realm, role), features);
        self.out.sessions.insert(said.word(0).to_owned(), key);
    }

    /// A message of a session.
    fn session(&mut self, name: &str, said: &Said) -> Fallible<()> {
        let key = *self.out.sessions.get(name).ok_or("no such session")?;
        let (request, word, payload) = (said.number()?, said.word(1), said.payload());
        let progress = said.has("progress");
        let options = CallOptions {
            progress,
            receive_progress: said.has("receive_progress"),
            timeout_ms: said.key("timeout").map_or(Ok(0), str::parse)?,
            disclose_me: said.has("disclose_me"),
            grant: said.key("grant"),
        };
        let register = RegisterOptions {
            matching: said.key("match"),
            invoke: said.key("invoke"),
            forward_timeout: false,
        };
        let message = match &*said.name {
            "call" => Message::Call {
                request,
                options,
                procedure: word,
                payload,
            },
            "cancel" => Message::Cancel {
                request,
                mode: mode(word),
            },
            "yield" => Message::Yield {
                request,
                progress,
                payload,
            },
            "error" => Message::Error {
                kind: kind::INVOCATION,
                request,
                details: EMPTY_MAP,
                error: word,
                payload,
            },
            "register" => Message::Register {
                request,
                options: register,
                procedure: word,
            },
            "unregister" => Message::Unregister {
                request,
                registration: word.parse()?,
            },
            "goodbye" => Message::Goodbye {
                details: EMPTY_MAP,
                reason: "wamp.close.close_realm",
            },
            "hello" => Message::Hello {
                realm: "default",
                details: HelloDetails::default(),
            },
            "result" => Message::Result {
                request,
                progress,
                payload,
            },
            other => return Err(format!("no message {other}").into()),
        };
        match self.dealer.receive(key, &message, &mut self.out) {
            Ok(Next::Stay) => {}
            Ok(Next::Close) => self.out.note(format!("{name} is closed")),
            Err(violation) => {
                self.out.note(format!("{name} broke the protocol: {violation}"));
                self.dealer.leave(key, &mut self.out);
            }
        }
        Ok(())
    }

    /// What comes over a link.
    fn link(&mut self, name: &str, said: &Said) -> Fallible<()> {
        let key = *self.out.links.get(name).ok_or("no such link")?;
        match &*said.name {
            "add" => {
                let (realm, procedure) = (said.word(0), said.word(1));
                if !self.dealer.far_registered(key, realm, procedure, &mut self.out) {
                    self.out.note(format!("=> {name} refuse {realm} {procedure}"));
                }
                return Ok(());
            }
            "refuse" => {
                let out = &mut self.out;
                self.dealer.refused_by_peer(said.word(0), said.word(1), out);
                return Ok(());
            }
            "remove" => {
                self.dealer.far_withdrew(key, said.word(0), said.word(1));
                return Ok(());
            }
            _ => {}
        }
        let (number, progress, payload) = (said.number()?, said.has("progress"), said.payload());
        let message = match &*said.name {
            "call" => PeerMessage::Call {
                number,
                realm: said.word(1),
                procedure: said.word(2),
                progress,
                receive_progress: said.has("receive_progress"),
                caller: None,
                grant: said.key("grant"),
                payload,
            },
            "chunk" => PeerMessage::Chunk {
                number,
                progress,
                payload,
            },
            "result" => PeerMessage::Result {
                number,
                progress,
                payload,
            },
            "error" => PeerMessage::Error {
                number,
                details: EMPTY_MAP,
                error: said.word(1),
                payload,
            },
            "cancel" => PeerMessage::Cancel {
                number,
                mode: mode(said.word(1)),
            },
            other => return Err(format!("no message {other}").into()),
        };
        if let Err(violation) = self.dealer.receive_from_peer(key, &message, &mut self.out) {
            self.out.note(format!("{name} is to be lost: {violation}"));
        }
        Ok(())
    }

    /// A message before WELCOME.
    fn knock(&mut self, name: &str, said: &Said) -> Fallible<()> {
        let handshake = self.connections.get_mut(name).ok_or("no such connection")?;
        let mut methods = vec![0x91];
        crate::write::text(
            &mut methods,
            if said.has("ticket") { "ticket" } else { "anonymous" },
        );
        let details = HelloDetails {
            has_role: !said.has("without_role"),
            authmethods: Some(&methods),
            ..HelloDetails::default()
        };
        let message = match &*said.name {
            "hello" => Message::Hello {
                realm: said.word(0),
                details,
            },
            "authenticate" => Message::Authenticate {
                signature: said.word(0),
                extra: EMPTY_MAP,
            },
            "abort" => Message::Abort {
                details: EMPTY_MAP,
                reason: "wamp.close.close_realm",
            },
            _ => Message::Yield {
                request: 1,
                progress: false,
                payload: Payload::EMPTY,
            },
        };
        let line = match handshake.receive(&message, &mut Ticket) {
            Outcome::Challenge { method, .. } => format!("-> {name} CHALLENGE {method}"),
            Outcome::Welcome(identity, _) => {
                format!("-> {name} WELCOME {} as {}", identity.realm, identity.role.name())
            }
            Outcome::Abort { reason, message } => format!("-> {name} ABORT {reason} ({message})"),
            Outcome::Closed => format!("{name} is closed"),
        };
        self.out.note(line);
        Ok(())
    }

    fn control(&mut self, said: &Said) -> Fallible<()> {
        let word = said.word(0);
        match &*said.name {
            "join" => self.join(said),
            "knock" => drop(self.connections.insert(word.to_owned(), Handshake::default())),
            "leave" => {
                let key = self.out.sessions.remove(word).ok_or("no such session")?;
                self.dealer.leave(key, &mut self.out);
            }
            "tick" => self.dealer.tick(word.parse()?, &mut self.out),
            "link" => {
                let key = self.dealer.add_link(word[1..].parse()?);
                self.out.links.insert(word.to_owned(), key);
            }
            "lose" => {
                let key = self.out.links.remove(word).ok_or("no such link")?;
                self.dealer.link_lost(key, &mut self.out);
            }
            "node" => self.dealer.set_node(word.parse()?),
            "confirm" => self.dealer.confirmed(word.parse()?, &mut self.out),
            "splice" => {
                let own = |word: &str| -> Fallible<Own> {
                    let (session, request) = word.split_once('.').ok_or("SESSION.REQUEST")?;
                    Ok(Own {
                        session: session.parse()?,
                        request: request.parse()?,
                    })
                };
                let onto = match (said.key("call"), said.key("answer")) {
                    (Some(call), _) => Onto::Call(own(call)?),
                    (None, Some(answer)) => Onto::Answer(own(answer)?, 1),
                    (None, None) => return Err("splice onto what?".into()),
                };
                if !self.dealer.splice(own(word)?, onto) {
                    self.out.note("nothing to splice".into());
                }
            }
            "serve" => drop(self.dealer.register_fresh("default", word, 0, &mut self.out)),
            other => return Err(format!("no command {other}").into()),
        }
        Ok(())
    }
}

impl goldenscript::Runner for Runner {
    type Command = Said;

    fn run(&mut self, said: &Said, context: &Context) -> Fallible<String> {
        match &context.prefix {
            Some(name) if name.starts_with('c') => self.knock(name, said)?,
            Some(name) if name.starts_with('l') => self.link(name, said)?,
            Some(name) => self.session(name, said)?,
            None => self.control(said)?,
        }
        while self.dealer.has_leftovers() {
            self.dealer.clear(&mut self.out);
        }
        let (sessions, calls, _) = self.dealer.counts();
        assert!(sessions > 0 || calls == 0, "calls without a session");
        Ok(self.out.take())
    }
}

#[test]
fn golden_scripts_of_the_dealer() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/testscripts/dealer");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        goldenscript::run(&mut Runner::new(), &path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        count += 1;
    }
    assert!(count >= 12, "only {count} scripts in {folder}");
}

/// The one argument of a payload, as the scripts write it.
fn shown(payload: Payload<'_>) -> String {
    match bytes_arg(payload) {
        Some(bytes) => format!(" with={}", String::from_utf8_lossy(bytes)),
        None if payload.parts == 0 => String::new(),
        None => format!(" with {} bytes", payload.bytes.len()),
    }
}
