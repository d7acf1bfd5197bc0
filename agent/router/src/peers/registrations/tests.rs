//! Links that follow the changes, each at its own pace.

use super::*;
use crate::peers::frame::{Frame, LENGTH};
use pipes_wamp::router::Dealer;

/// This node's registrations, the links there are, and what the far node of each knows.
struct World {
    registrations: Registrations,
    dealer: Dealer,
    far: BTreeMap<LinkKey, BTreeSet<String>>,
    next: u64,
    now: Instant,
}

impl World {
    fn new() -> World {
        World {
            registrations: Registrations::default(),
            dealer: Dealer::new(1, &[]),
            far: BTreeMap::new(),
            next: 0,
            now: Instant::now(),
        }
    }

    fn join(&mut self) -> LinkKey {
        let link = self.dealer.add_link(self.far.len() as u64 + 2);
        self.registrations.joined(link);
        self.far.insert(link, BTreeSet::new());
        link
    }

    fn announce(&mut self, procedure: &str) -> u64 {
        self.next += 1;
        let (realm, procedure) = ("default".into(), procedure.into());
        self.registrations
            .announce(self.next, &realm, &procedure, self.now);
        self.next
    }

    /// Tells a link a batch; gives how many changes were in it, and what its node confirms.
    fn tell(&mut self, link: LinkKey) -> (usize, u64) {
        let mut out = Vec::new();
        self.registrations.tell(link, &mut out);
        let Frame::Changes { number, mut changes } = Frame::read(&out[LENGTH..]).unwrap() else {
            panic!("no changes");
        };
        let far = self.far.get_mut(&link).unwrap();
        let mut count = 0;
        while let Some(change) = changes.next().unwrap() {
            count += 1;
            if change.is_withdrawn {
                far.remove(change.procedure);
            } else {
                far.insert(change.procedure.to_owned());
            }
        }
        (count, number)
    }

    /// Tells a link everything, and its node confirms it; gives how many batches it took.
    fn tell_all(&mut self, link: LinkKey) -> usize {
        let mut batches = 0;
        while self.registrations.has_news(link) {
            let (_, number) = self.tell(link);
            self.registrations.confirmed(link, number);
            batches += 1;
        }
        batches
    }

    fn known(&mut self) -> Vec<u64> {
        std::iter::from_fn(|| self.registrations.next_known(self.now)).collect()
    }

    fn far(&self, link: LinkKey) -> Vec<&str> {
        self.far[&link].iter().map(String::as_str).collect()
    }
}

#[test]
fn a_registration_waits_until_all_know_it() {
    let mut world = World::new();
    let (one, two) = (world.join(), world.join());
    let sum = world.announce("com.sum");
    let (_, of_one) = world.tell(one);
    world.registrations.confirmed(two, of_one);
    assert!(
        world.known().is_empty(),
        "a node knows nothing that it was not told"
    );
    let (_, of_two) = world.tell(two);
    world.registrations.confirmed(one, of_one);
    assert!(world.known().is_empty());
    world.registrations.confirmed(two, of_two);
    assert!(world.registrations.has_known());
    assert_eq!(world.known(), [sum]);
}

#[test]
fn a_new_link_is_told_everything_before_what_waits_is_known() {
    let mut world = World::new();
    let one = world.join();
    for number in 0..5_000 {
        world.announce(&format!("com.{number}"));
    }
    let batches = world.tell_all(one);
    assert_eq!(world.known().len(), 5_000);
    let two = world.join();
    let late = world.announce("com.late");
    world.tell_all(one);
    // The first batch of the new link is confirmed, and what waits is in none of them yet.
    let (_, first) = world.tell(two);
    world.registrations.confirmed(two, first);
    assert!(world.known().is_empty());
    let count = world.tell_all(two) + 1;
    assert_eq!(world.known(), [late]);
    assert_eq!(world.far[&two].len(), 5_001);
    assert!(
        (count..=count + 1).contains(&batches) && batches < 20,
        "{batches} confirmations"
    );
}

#[test]
fn a_lost_link_counts_no_more_and_a_silent_one_after_a_while() {
    let mut world = World::new();
    let (one, two) = (world.join(), world.join());
    let first = world.announce("com.first");
    world.tell_all(one);
    assert!(world.known().is_empty());
    world.registrations.lost(two);
    assert_eq!(world.known(), [first]);
    let second = world.announce("com.second");
    let overdue = world.registrations.next_overdue().unwrap();
    assert_eq!(overdue, world.now + CONFIRM_WITHIN);
    world.now = overdue;
    assert_eq!(world.known(), [second]);
    world.registrations.lost(one);
    let alone = world
        .registrations
        .announce(9, &"default".into(), &"com.third".into(), world.now);
    assert!(!alone, "nobody is to be waited for");
}

#[test]
fn one_that_waited_when_the_last_link_was_lost_is_known_before_a_later_one() {
    let mut world = World::new();
    let one = world.join();
    let first = world.announce("com.first");
    world.registrations.lost(one);
    let second = 9;
    let (realm, procedure) = ("default".into(), "com.second".into());
    let waits = world
        .registrations
        .announce(second, &realm, &procedure, world.now);
    assert!(waits, "behind the first");
    assert_eq!(world.known(), [first, second]);
}

#[test]
fn what_is_withdrawn_is_told_to_those_alone_who_were_told_of_it() {
    let mut world = World::new();
    let (one, two) = (world.join(), world.join());
    let sum = world.announce("com.sum");
    world.tell(one);
    world.registrations.withdraw(sum);
    world.announce("com.sum");
    assert_eq!(world.tell(one).0, 2);
    assert_eq!(world.tell(two).0, 1, "it was never told of the first");
    assert_eq!(world.far(one), ["com.sum"]);
    assert_eq!(world.far(two), ["com.sum"]);
    assert_eq!(world.registrations.changes.len(), 1);
}

#[test]
fn who_comes_and_goes_leaves_nothing_with_a_link_that_is_not_told() {
    let mut world = World::new();
    let (one, stuck) = (world.join(), world.join());
    for number in 0..1_000 {
        let registration = world.announce(&format!("com.{number}"));
        world.tell_all(one);
        world.registrations.withdraw(registration);
        world.tell_all(one);
        assert!(world.registrations.changes.is_empty(), "{number}");
    }
    assert!(world.far(one).is_empty());
    assert!(world.registrations.numbers.is_empty());
    // What a lost link had to forget goes with it.
    let registration = world.announce("com.stays");
    world.tell_all(stuck);
    world.registrations.withdraw(registration);
    assert_eq!(world.registrations.changes.len(), 1);
    world.registrations.lost(stuck);
    assert!(world.registrations.changes.is_empty() && world.registrations.withdrawals.is_empty());
}

mod cost;
