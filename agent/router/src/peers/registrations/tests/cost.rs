//! What a registration costs from its REGISTER until its session has left, with links to two nodes that are told.

use std::time::Duration;

use pipes_wamp::message::{Message, RegisterOptions};
use pipes_wamp::router::{
    CallKey, Charge, Ended, Features, Identity, Outbox, PeerMessage, Role, SessionKey, Way,
};

use super::*;

/// Of one session, all it may have.
const EACH: u32 = 1_000;

/// Only registrations go anywhere.
struct Told<'a> {
    registrations: &'a mut Registrations,
    registered: u32,
    now: Instant,
}

impl Outbox for Told<'_> {
    fn to_session_followed(&mut self, _: SessionKey, _: Charge, message: &Message<'_>, _: &[u8]) {
        self.registered += u32::from(matches!(message, Message::Registered { .. }));
    }
    fn to_link(&mut self, _: LinkKey, _: Charge, _: &PeerMessage<'_>) {}
    fn takes(&mut self, _: SessionKey, _: usize, _: bool) -> Result<(), &'static str> {
        Ok(())
    }
    fn discard(&mut self, _: CallKey, _: Way) {}
    fn ended(&mut self, _: Ended) {}
    fn fresh(&mut self, _: u32, _: SessionKey) -> Option<u64> {
        None
    }
    fn announce(&mut self, registration: u64, realm: &Arc<str>, procedure: &Arc<str>) -> bool {
        self.registrations
            .announce(registration, realm, procedure, self.now)
    }
    fn withdraw(&mut self, registration: u64, _: &str, _: &str) {
        self.registrations.withdraw(registration);
    }
}

/// The processor's time that this thread has had: what others take of it does not count.
fn processor_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel writes one timespec, which lives until the call returns.
    let got = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(got, 0);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

fn identity() -> Identity {
    Identity {
        realm: "default".into(),
        role: Role::Anonymous,
        name: "x".into(),
        method: "anonymous",
    }
}

/// What one of `count` costs that all wait for the second link's node at once: to be registered, and to be gone.
fn each(count: u32) -> (Duration, Duration) {
    let mut dealer = Dealer::new(1, &["default"]);
    let (one, two) = (dealer.add_link(2), dealer.add_link(3));
    let mut registrations = Registrations::default();
    registrations.joined(one);
    registrations.joined(two);
    let (registered, now) = (0, Instant::now());
    let mut out = Told {
        registrations: &mut registrations,
        registered,
        now,
    };
    let tell = |out: &mut Told<'_>, link, frame: &mut Vec<u8>| {
        while out.registrations.has_news(link) {
            frame.clear();
            out.registrations.tell(link, frame);
            let Ok(Frame::Changes { number, .. }) = Frame::read(&frame[LENGTH..]) else {
                panic!("no changes");
            };
            out.registrations.confirmed(link, number);
        }
    };
    let mut frame = Vec::new();
    let begun = processor_time();
    let sessions: Vec<_> = (0..count / EACH)
        .map(|id| dealer.join(id.into(), identity(), Features::ALL))
        .collect();
    for number in 0..count {
        let message = Message::Register {
            request: 1,
            options: RegisterOptions::default(),
            procedure: &format!("com.example.{number}"),
        };
        let session = sessions[(number / EACH) as usize];
        dealer.receive(session, &message, &mut out).unwrap();
        if number % 10 == 9 {
            tell(&mut out, one, &mut frame);
            // As the loop asks in each of its turns.
            assert!(out.registrations.next_overdue().is_some() && !out.registrations.has_known());
        }
    }
    tell(&mut out, two, &mut frame);
    while let Some(registration) = out.registrations.next_known(now) {
        dealer.confirmed(registration, &mut out);
    }
    assert_eq!(out.registered, count);
    let registered = processor_time();
    for session in sessions {
        dealer.leave(session, &mut out);
    }
    while dealer.has_leftovers() {
        dealer.clear(&mut out);
        tell(&mut out, one, &mut frame);
        tell(&mut out, two, &mut frame);
    }
    assert!(registrations.changes.is_empty() && dealer.counts().2 == 0);
    (
        (registered - begun) / count,
        (processor_time() - registered) / count,
    )
}

/// A look at all of them, or at all that wait, would make it thirty times; caches make it twice.
#[test]
fn a_registration_costs_the_same_among_thirty_thousand() {
    let best = |count| {
        let (first, second) = (each(count), each(count));
        (first.0.min(second.0), first.1.min(second.1))
    };
    let (few, many) = (best(1_000), best(30_000));
    println!("one of 1,000: {few:?}; one of 30,000: {many:?}");
    assert!(many.0 < few.0 * 6 && many.1 < few.1 * 6, "{few:?} {many:?}");
}
