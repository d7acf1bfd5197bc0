//! The ledger's sums, whatever is charged, released, transferred and lost.

use super::*;
use crate::flow_control::account::SEND_DEBT_MAX;
use crate::flow_control::room::SESSION_MAX;
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
            Source::Session { session, waits_for } if is(session) => usize::from(waits_for.is_some()),
            _ => 0,
        });
        let held = sum(&|flow| {
            if flow.sender().is_some_and(is) {
                flow.held
            } else {
                0
            }
        });
        assert_eq!((account.waits, account.held), (waits, held));
    }
    let over = |flow: &Flow| flow.over.as_ref().map_or(0, |over| over.held);
    assert_eq!(
        ledger.users_over,
        sum(&|flow| if flow.is_users { over(flow) } else { 0 })
    );
    for (key, flow) in ledger.flows.iter() {
        assert!(flow.owed() <= flow.held && over(flow) <= flow.held, "{key:?}");
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
    router.ledger.open(sessions[0], Class::Users);
    for (cost, opening) in [(100, true), (SEND_DEBT_MAX, false)] {
        let flow = router
            .ledger
            .charge(up(calls[0], caller, opening), cost, None, false)
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
    router.ledger.open(sessions[1], Class::Users);
    let flow = router
        .ledger
        .charge(up(calls[0], caller, false), 500, None, false)
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
    sessions
        .iter()
        .for_each(|session| router.ledger.open(*session, Class::Users));
    let (first, second) = (End::Session(sessions[0], 1), End::Session(sessions[1], 1));
    let over = Some((links[0], 3));
    let own = up(calls[1], second, false);
    router.ledger.charge(own, WINDOW, over, false).unwrap();
    router.carry_out();
    assert_eq!(router.stopped, [sessions[1]]);
    router
        .ledger
        .charge(up(calls[0], first, false), 10, over, false)
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
fn a_session_whose_calls_hold_too_much_together_waits_until_half_is_taken() {
    let mut router = Router::default();
    let (sessions, calls): (Vec<SessionKey>, Vec<CallKey>) = (keys(3), keys(20));
    let links: Vec<LinkKey> = keys(1);
    router.ledger.open(sessions[0], Class::Users);
    router.ledger.open(sessions[1], Class::Stages);
    for (number, call) in calls.iter().enumerate() {
        let source = End::Session(sessions[number % 2], number as u64);
        let over = Some((links[0], number as u64));
        router
            .ledger
            .charge(up(*call, source, false), WINDOW - 1, over, false);
        router.carry_out();
    }
    assert_eq!(router.stopped, [sessions[0]], "a stage is bounded by its credit");
    assert!(router.ledger.users_over() > SESSION_MAX);
    for number in (0..20).step_by(2) {
        assert_eq!(router.stopped.len(), usize::from(number < 16), "{number}");
        router.ledger.release_over(links[0], number, Way::Up, WINDOW);
        router.carry_out();
    }
    assert_eq!(router.ledger.users_over(), 0);
}

#[test]
fn what_is_too_little_for_a_frame_is_given_back_now_and_then() {
    let mut router = Router::default();
    let (calls, links): (Vec<CallKey>, Vec<LinkKey>) = (keys(1), keys(1));
    let source = End::Link(links[0], 7);
    for given_back in [100, 100] {
        let charge = up(calls[0], source, false);
        let flow = router.ledger.charge(charge, 100, None, false).unwrap();
        router.ledger.release(flow, 100);
        router.carry_out();
        assert_eq!(router.given_back, given_back, "the first, no more");
    }
    for _ in 0..2 {
        router.ledger.give_back_lagging();
        router.carry_out();
        assert_eq!(router.given_back, 200);
    }
}

/// How often something happens in a storm.
const STEPS: usize = 1_500;

/// Calls that begin, send and end at random.
struct Storm {
    router: Router,
    random: StdRng,
    sessions: Vec<SessionKey>,
    links: Vec<LinkKey>,
    /// Calls that have not begun.
    fresh: Vec<CallKey>,
    calls: Vec<(CallKey, End, End)>,
    number: u64,
}

impl Storm {
    fn below(&mut self, count: usize) -> usize {
        self.random.random_range(0..count)
    }

    fn session(&mut self) -> SessionKey {
        let at = self.below(self.sessions.len());
        self.sessions[at]
    }

    fn link(&mut self) -> LinkKey {
        let at = self.below(self.links.len());
        self.links[at]
    }

    fn begin(&mut self) {
        let one = End::Session(self.session(), self.number);
        let other = End::Session(self.session(), self.number);
        let far = End::Link(self.link(), self.number);
        let (caller, callee) = [(one, other), (one, far), (far, other)][self.below(3)];
        let call = self.fresh.pop().unwrap();
        self.calls.push((call, caller, callee));
    }

    fn charge(&mut self, cost: usize) {
        let at = self.below(self.calls.len());
        let (call, caller, callee) = self.calls[at];
        let (way, source, target) = if self.random.random() {
            (Way::Up, caller, callee)
        } else {
            (Way::Down, callee, caller)
        };
        let opening = way == Way::Up && self.random.random();
        let charge = Charge::Flow {
            call,
            way,
            opening,
            source,
        };
        let is_full = self.random.random();
        let ledger = &mut self.router.ledger;
        match target {
            End::Link(link, number) => _ = ledger.charge(charge, cost, Some((link, number)), is_full),
            End::Session(..) => {
                let flow = ledger.charge(charge, cost, None, is_full).unwrap();
                self.router.marks.push((flow, cost));
            }
        }
    }

    fn end(&mut self) {
        let at = self.below(self.calls.len());
        let (call, caller, callee) = self.calls.swap_remove(at);
        let is_spliced = self.random.random() && matches!(callee, End::Session(..));
        let taker = is_spliced.then(|| self.session());
        self.router.ledger.ended(&ended(call, caller, callee, taker));
    }

    fn step(&mut self) {
        self.number += 1;
        let cost = 1 + self.below(WINDOW / 2);
        match self.below(10) {
            0..2 => self.begin(),
            2..6 if !self.calls.is_empty() => self.charge(cost),
            6..8 if !self.router.marks.is_empty() => {
                let mark = self.below(self.router.marks.len());
                let (flow, cost) = self.router.marks.swap_remove(mark);
                self.router.ledger.release(flow, cost);
            }
            8 if !self.calls.is_empty() => self.end(),
            _ => {
                let (link, number) = (self.link(), self.random.random_range(0..=self.number));
                self.router.ledger.release_over(link, number, Way::Up, cost);
            }
        }
        self.router.carry_out();
    }
}

#[test]
fn whatever_happens_the_sums_are_right_and_nothing_is_left() {
    let seed = std::env::var("PIPES_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(rand::random);
    println!("PIPES_SEED={seed}");
    let mut storm = Storm {
        router: Router::default(),
        random: StdRng::seed_from_u64(seed),
        sessions: keys(4),
        links: keys(2),
        fresh: keys(STEPS),
        calls: Vec::new(),
        number: 0,
    };
    for session in &storm.sessions {
        storm.router.ledger.open(*session, Class::Users);
    }
    for _ in 0..STEPS {
        storm.step();
    }
    while !storm.calls.is_empty() {
        storm.end();
        storm.router.carry_out();
    }
    for link in &storm.links {
        storm.router.ledger.link_lost(*link);
    }
    storm.router.carry_out();
    storm.router.release_all();
    assert_eq!(storm.router.ledger.totals(), Totals::default());
    assert!(storm.router.stopped.is_empty());
}
