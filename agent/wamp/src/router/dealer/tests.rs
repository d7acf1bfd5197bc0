//! Many registrations: what bounds them, and that they go in slices.

use std::collections::HashMap;

use super::registrations::{OF_REALM_MAX, OF_SESSION_MAX};
use super::*;
use crate::message::{CallOptions, Payload, RegisterOptions};

/// Counts what goes out; nobody is told of anything over links.
#[derive(Default)]
struct Counted {
    registered: usize,
    withdrawn: usize,
    invoked: usize,
    /// Over links.
    passed_on: usize,
    /// By their URIs.
    errors: HashMap<String, usize>,
}

impl Counted {
    fn errors(&self, error: &str) -> usize {
        self.errors.get(error).copied().unwrap_or_default()
    }
}

impl Outbox for Counted {
    fn to_session_followed(&mut self, _: SessionKey, _: Charge, message: &Message<'_>, _: &[u8]) {
        match message {
            Message::Registered { .. } => self.registered += 1,
            Message::Invocation { .. } => self.invoked += 1,
            Message::Error { error, .. } => *self.errors.entry((*error).to_owned()).or_default() += 1,
            _ => {}
        }
    }
    fn to_link(&mut self, _: LinkKey, _: Charge, _: &crate::router::PeerMessage<'_>) {
        self.passed_on += 1;
    }
    fn takes(&mut self, _: SessionKey, _: usize, _: bool) -> Result<(), &'static str> {
        Ok(())
    }
    fn discard(&mut self, _: CallKey, _: crate::router::Way) {}
    fn ended(&mut self, _: crate::router::Ended) {}
    fn fresh(&mut self, _: u32, _: SessionKey) -> Option<u64> {
        None
    }
    fn announce(&mut self, _: u64, _: &std::sync::Arc<str>, _: &std::sync::Arc<str>) -> bool {
        false
    }
    fn withdraw(&mut self, _: u64, _: &str, _: &str) {
        self.withdrawn += 1;
    }
}

struct World {
    dealer: Dealer,
    out: Counted,
    sessions: u64,
}

impl World {
    fn new() -> World {
        World {
            dealer: Dealer::new(1, &["default"]),
            out: Counted::default(),
            sessions: 0,
        }
    }

    fn join(&mut self) -> SessionKey {
        self.sessions += 1;
        let identity = Identity {
            realm: "default".into(),
            role: Role::Anonymous,
            name: "x".into(),
            method: "anonymous",
        };
        self.dealer.join(self.sessions, identity, Features::ALL)
    }

    fn say(&mut self, from: SessionKey, message: &Message<'_>) {
        self.dealer.receive(from, message, &mut self.out).unwrap();
    }

    fn register(&mut self, from: SessionKey, procedure: &str) {
        let options = RegisterOptions::default();
        self.say(
            from,
            &Message::Register {
                request: 1,
                options,
                procedure,
            },
        );
    }

    /// A session that has so many procedures, named after it.
    fn session_with(&mut self, count: usize) -> SessionKey {
        let (session, id) = (self.join(), self.sessions);
        for number in 0..count {
            self.register(session, &format!("com.{id}.{number}"));
        }
        session
    }

    fn call(&mut self, from: SessionKey, request: u64, procedure: &str) {
        let (options, payload) = (CallOptions::default(), Payload::EMPTY);
        self.say(
            from,
            &Message::Call {
                request,
                options,
                procedure,
                payload,
            },
        );
    }

    fn clear(&mut self) {
        self.dealer.clear(&mut self.out);
    }
}

#[test]
fn a_session_that_had_much_goes_in_slices_and_is_in_nobodys_way() {
    let mut world = World::new();
    let (leaving, other) = (world.session_with(OF_SESSION_MAX), world.join());
    world.dealer.leave(leaving, &mut world.out);
    assert_eq!(world.out.withdrawn, 0, "nothing is done in one piece");
    world.call(other, 1, "com.1.999");
    assert_eq!(world.out.errors(uri::NO_SUCH_PROCEDURE), 1, "it takes no calls");
    let registered = world.out.registered;
    world.register(other, "com.1.999");
    assert_eq!(world.out.registered, registered + 1, "its name is free");
    let mut slices = 0;
    while world.dealer.has_leftovers() {
        let before = world.out.withdrawn;
        world.clear();
        assert!(world.out.withdrawn - before <= 256);
        slices += 1;
    }
    assert!(slices >= OF_SESSION_MAX / 256, "{slices}");
    assert_eq!(world.out.withdrawn, OF_SESSION_MAX, "each once");
    assert_eq!(world.dealer.counts().2, 1);
    world.call(other, 2, "com.1.999");
    assert_eq!(world.out.invoked, 1, "who registered it meanwhile keeps it");
}

#[test]
fn what_a_lost_link_told_is_found_no_more_and_goes_in_slices() {
    let mut world = World::new();
    let session = world.join();
    let (one, two) = (world.dealer.add_link(2), world.dealer.add_link(3));
    let tell = |world: &mut World, link, number| {
        let procedure = format!("com.{number}");
        let World { dealer, out, .. } = world;
        assert!(dealer.far_registered(link, "default", &procedure, out));
    };
    for number in 0..3_000 {
        tell(&mut world, one, number);
    }
    tell(&mut world, two, 2_999);
    world.dealer.link_lost(one, &mut world.out);
    world.call(session, 1, "com.7");
    assert_eq!(world.out.errors(uri::NO_SUCH_PROCEDURE), 1);
    world.call(session, 2, "com.2999");
    assert_eq!(world.out.passed_on, 1, "to the other node that has it");
    world.register(session, "com.8");
    assert_eq!(world.out.registered, 1);
    let len = |world: &World| world.dealer.realms["default"].len();
    assert_eq!(len(&world), 3_000);
    // Names that come and go meanwhile are not mistaken for what is cleared.
    world.clear();
    tell(&mut world, two, 5_000);
    assert!(len(&world) > 1_900 && world.dealer.has_leftovers());
    while world.dealer.has_leftovers() {
        world.clear();
    }
    assert_eq!(len(&world), 3, "com.8, com.2999, com.5000");
}

#[test]
fn a_session_and_a_realm_have_no_more_than_they_may() {
    let mut world = World::new();
    let full = world.session_with(OF_SESSION_MAX + 5);
    assert_eq!(world.out.registered, OF_SESSION_MAX);
    assert_eq!(world.out.errors(uri::BUSY), 5);
    // The others' count as well.
    let link = world.dealer.add_link(2);
    for number in OF_SESSION_MAX + 2..OF_REALM_MAX {
        let procedure = format!("com.far.{number}");
        let World { dealer, out, .. } = &mut world;
        assert!(dealer.far_registered(link, "default", &procedure, out));
    }
    let late = world.session_with(5);
    assert_eq!(world.out.registered, OF_SESSION_MAX + 2);
    let (of_session, of_realm) = (5, 3);
    assert_eq!(world.dealer.refused(), Refused { of_session, of_realm });
    world.dealer.leave(full, &mut world.out);
    world.clear();
    world.register(late, "com.late");
    assert_eq!(world.out.registered, OF_SESSION_MAX + 3, "there is room again");
}
