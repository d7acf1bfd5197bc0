//! The ledger's sums, whatever is charged, released, transferred and lost.

use super::*;
use crate::flow_control::window::WINDOW;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// What the ledger promises at any time.
fn check(ledger: &Ledger) {
    let sum = |what: &dyn Fn(&Flow) -> usize| ledger.flows.iter().map(|(_, flow)| what(flow)).sum::<usize>();
    for (slot, (generation, account)) in ledger
        .accounts
        .iter()
        .enumerate()
        .filter_map(|(slot, account)| Some((slot, account.as_ref()?)))
    {
        let is = |session: SessionKey| (session.index(), session.generation()) == (slot, *generation);
        let owed = |side| {
            sum(&|flow| match flow.debt {
                Some(debt) if is(debt.session) && debt.side == side => debt.amount,
                _ => 0,
            })
        };
        assert_eq!(
            (account.send_debt, account.receive_debt),
            (owed(Side::Send), owed(Side::Receive))
        );
        let waits = sum(&|flow| match flow.source {
            Source::Session { session, is_waiting } if is(session) => usize::from(is_waiting),
            _ => 0,
        });
        assert_eq!(account.waits, waits);
    }
    for (key, flow) in ledger.flows.iter() {
        let over = flow.over.as_ref().map_or(0, |over| over.held);
        assert!(flow.owed() <= flow.held && over <= flow.held, "{key:?}");
        assert!(!flow.is_gone(), "{key:?} is closed and holds nothing");
    }
    for key in ledger.over.iter().flat_map(HashMap::values) {
        assert!(ledger.flows.get(*key).is_some(), "{key:?} pays and is gone");
    }
}

/// A ledger, and what the outbox and the dealer would know of it.
#[derive(Default)]
struct Router {
    ledger: Ledger,
    /// What waits in sockets' queues.
    marks: Vec<(FlowKey, usize)>,
    /// Sessions that are not read.
    stopped: Vec<SessionKey>,
    given_back: usize,
}

impl Router {
    fn carry_out(&mut self) {
        check(&self.ledger);
        while let Some(effect) = self.ledger.next_effect() {
            match effect {
                Effect::Stop(session) => self.stopped.push(session),
                Effect::Resume(session) => self.stopped.retain(|other| *other != session),
                Effect::GiveBack { bytes, .. } => self.given_back += bytes,
            }
        }
    }

    fn release_all(&mut self) {
        for (flow, cost) in std::mem::take(&mut self.marks) {
            self.ledger.release(flow, cost);
            self.carry_out();
        }
    }
}

fn keys<M>(count: usize) -> Vec<pipes_wamp::router::Key<M>> {
    let mut arena = Arena::default();
    (0..count).map(|_| arena.insert(())).collect()
}

fn up(call: CallKey, source: End, opening: bool) -> Charge {
    Charge::Flow {
        call,
        way: Way::Up,
        opening,
        source,
    }
}

fn ended(call: CallKey, caller: End, callee: End, spliced_to: Option<SessionKey>) -> Ended {
    Ended {
        call,
        caller,
        callee,
        spliced_to,
    }
}

#[test]
fn what_is_held_of_a_call_that_is_over_is_its_callers_debt() {
    let mut router = Router::default();
    let (sessions, calls): (Vec<SessionKey>, Vec<CallKey>) = (keys(2), keys(1));
    let (caller, callee) = (End::Session(sessions[0], 1), End::Session(sessions[1], 1));
    router.ledger.open(sessions[0]);
    for (cost, opening) in [(100, true), (SEND_DEBT_MAX, false)] {
        let flow = router
            .ledger
            .charge(up(calls[0], caller, opening), cost, None)
            .unwrap();
        router.marks.push((flow, cost));
    }
    assert_eq!(router.ledger.totals().debts, 100);
    router.ledger.ended(&ended(calls[0], caller, callee, None));
    router.carry_out();
    assert_eq!(router.ledger.totals().debts, SEND_DEBT_MAX + 100);
    assert_eq!(router.stopped, [sessions[0]]);
    router.release_all();
    assert!(router.stopped.is_empty());
    assert_eq!(router.ledger.totals(), Totals::default());
}

#[test]
fn bytes_of_a_spliced_call_that_is_over_are_their_takers_debt() {
    let mut router = Router::default();
    let (sessions, calls): (Vec<SessionKey>, Vec<CallKey>) = (keys(2), keys(1));
    let links: Vec<LinkKey> = keys(1);
    let (caller, callee) = (End::Link(links[0], 7), End::Session(sessions[0], 1));
    router.ledger.open(sessions[1]);
    let flow = router
        .ledger
        .charge(up(calls[0], caller, false), 500, None)
        .unwrap();
    router.marks.push((flow, 500));
    router
        .ledger
        .ended(&ended(calls[0], caller, callee, Some(sessions[1])));
    router.carry_out();
    assert_eq!(
        (router.given_back, router.ledger.totals().debts),
        (500, 500),
        "the far source may forget them at once"
    );
    router.release_all();
    assert_eq!(
        (router.given_back, router.ledger.totals()),
        (500, Totals::default())
    );
}

#[test]
fn a_calls_chunks_over_a_link_are_paid_by_the_call_that_is_spliced_onto_it() {
    let mut router = Router::default();
    let (sessions, calls): (Vec<SessionKey>, Vec<CallKey>) = (keys(2), keys(2));
    let links: Vec<LinkKey> = keys(1);
    sessions.iter().for_each(|session| router.ledger.open(*session));
    let (first, second) = (End::Session(sessions[0], 1), End::Session(sessions[1], 1));
    let over = Some((links[0], 3));
    let own = up(calls[1], second, false);
    router.ledger.charge(own, WINDOW, over).unwrap();
    router.carry_out();
    assert_eq!(router.stopped, [sessions[1]]);
    router
        .ledger
        .charge(up(calls[0], first, false), 10, over)
        .unwrap();
    router.carry_out();
    assert!(
        router.stopped.is_empty(),
        "what it sent is the first call's to pay"
    );
    router.ledger.release_over(links[0], 3, Way::Up, WINDOW + 10);
    router.carry_out();
    assert_eq!(router.ledger.totals().held, 0);
}

#[test]
fn whatever_happens_the_sums_are_right_and_nothing_is_left() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut router = Router::default();
    let (sessions, links): (Vec<SessionKey>, Vec<LinkKey>) = (keys(4), keys(2));
    sessions.iter().for_each(|session| router.ledger.open(*session));
    let mut arena = Arena::default();
    let mut calls: Vec<(CallKey, End, End)> = Vec::new();
    for number in 0..1_500 {
        let mut session = || End::Session(sessions[random.random_range(0..4)], number);
        let (one, other) = (session(), session());
        let link = links[random.random_range(0..2)];
        match random.random_range(0..10) {
            0..2 => {
                let far = End::Link(link, number);
                let (caller, callee) = [(one, other), (one, far), (far, other)][random.random_range(0..3)];
                calls.push((arena.insert(()), caller, callee));
            }
            2..6 if !calls.is_empty() => {
                let (call, caller, callee) = calls[random.random_range(0..calls.len())];
                let (way, source, target) = if random.random() {
                    (Way::Up, caller, callee)
                } else {
                    (Way::Down, callee, caller)
                };
                let opening = way == Way::Up && router.ledger.over(call, way).is_none() && random.random();
                let cost = random.random_range(1..WINDOW / 2);
                let charge = Charge::Flow {
                    call,
                    way,
                    opening,
                    source,
                };
                match target {
                    End::Link(link, number) => {
                        router.ledger.charge(charge, cost, Some((link, number)));
                    }
                    End::Session(..) => {
                        let flow = router.ledger.charge(charge, cost, None).unwrap();
                        router.marks.push((flow, cost));
                    }
                }
            }
            6..8 if !router.marks.is_empty() => {
                let (flow, cost) = router
                    .marks
                    .swap_remove(random.random_range(0..router.marks.len()));
                router.ledger.release(flow, cost);
            }
            8 if !calls.is_empty() => {
                let (call, caller, callee) = calls.swap_remove(random.random_range(0..calls.len()));
                let End::Session(taker, _) = one else {
                    unreachable!()
                };
                let spliced_to = (random.random() && matches!(callee, End::Session(..))).then_some(taker);
                router.ledger.ended(&ended(call, caller, callee, spliced_to));
                arena.remove(call);
            }
            _ => {
                let (way, cost) = (Way::Up, random.random_range(0..WINDOW));
                let of = random.random_range(0..=number);
                router.ledger.release_over(link, of, way, cost);
            }
        }
        router.carry_out();
    }
    for (call, caller, callee) in calls {
        router.ledger.ended(&ended(call, caller, callee, None));
        router.carry_out();
    }
    for link in links {
        router.ledger.link_lost(link);
        router.carry_out();
    }
    router.release_all();
    assert_eq!(router.ledger.totals(), Totals::default());
    assert!(router.stopped.is_empty());
}
