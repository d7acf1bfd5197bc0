//! Replicas that are kept without a run.

use pipes_protocol::supply::OfKind;

use super::*;
use crate::executor::pool::backoff::STEADY;

impl Pool {
    /// Wishes so many of each: `cat 2, tr 1`.
    fn wish(&mut self, wish: &str) -> Vec<String> {
        let counts = wish.split(", ").filter_map(|one| {
            let (service, count) = one.split_once(' ')?;
            Some((kind(service), count.parse().unwrap()))
        });
        self.slots.wish(self.now, counts.collect());
        self.effects()
    }

    fn fail(&mut self, replica: &str, why: &str) -> Vec<String> {
        let error = StartError::NotReady(why.into());
        self.slots.failed(self.now, replica, &error);
        self.effects()
    }

    fn ended(&mut self, replica: &str) -> Vec<String> {
        self.slots.ended(self.now, replica, "killed");
        self.effects()
    }

    /// Lets time pass until the pool itself wants to look.
    fn next(&mut self) -> Option<(u64, Vec<String>)> {
        let rest = self.slots.next_deadline()?.duration_since(self.now);
        Some((rest.as_secs(), self.pass(rest.as_secs())))
    }

    fn of(&self, service: &str) -> OfKind {
        let supply = self
            .slots
            .supply(|time| time.duration_since(self.now).as_millis() as u64);
        let of = supply.kinds.into_iter().find(|of| of.kind == kind(service));
        of.unwrap_or_default()
    }
}

fn kind(service: &str) -> Kind {
    Kind {
        service: service.split('@').next().unwrap().to_owned(),
        digest: service.to_owned(),
    }
}

#[test]
fn wished_replicas_start_without_a_run_and_stay_without_one() {
    let mut pool = Pool::new(16, 4);
    assert_eq!(
        pool.wish("cat 2, tr 1"),
        ["start x1 cat", "start x2 cat", "start x3 tr"]
    );
    for replica in ["x1", "x2", "x3"] {
        assert!(pool.ready(replica).is_empty());
    }
    assert_eq!((pool.of("cat").up, pool.of("cat").wished), (2, 2));
    assert_eq!(pool.slots.next_deadline(), None);
    assert!(pool.pass(10_000).is_empty());
    assert_eq!(pool.prepare("r1", "cat"), ["reserved", "ready 1@x1"]);
    assert!(pool.wish("cat 2, tr 1").is_empty(), "nothing is new");
}

#[test]
fn what_runs_have_started_counts_for_the_wish() {
    let mut pool = Pool::new(1, 4);
    pool.prepare("r1", "cat");
    assert!(pool.wish("cat 1").is_empty());
    pool.ready("x1");
    assert_eq!(pool.prepare("r2", "cat"), ["reserved", "start x2 cat"]);
    pool.ready("x2");
    pool.end("r1");
    pool.end("r2");
    assert_eq!(pool.of("cat").idle, 1, "one may go for another version's");
    assert_eq!(pool.next(), Some((600, vec!["stop x1".to_owned()])));
    assert_eq!(pool.slots.next_deadline(), None);
}

#[test]
fn one_that_ended_is_started_again_at_once_if_it_had_lived() {
    let mut pool = Pool::new(16, 4);
    pool.wish("cat 1");
    pool.ready("x1");
    pool.pass(STEADY.as_secs());
    assert_eq!(pool.ended("x1"), ["start x2 cat"]);
    pool.ready("x2");
    assert!(pool.ended("x2").is_empty(), "it lived for no time at all");
    assert_eq!(pool.next(), Some((1, vec!["start x3 cat".to_owned()])));
    let failing = pool.of("cat").failing.unwrap();
    assert_eq!(
        (failing.failures, failing.why.as_str()),
        (1, "a replica ended by itself: killed")
    );
    pool.ready("x3");
    assert_eq!(pool.of("cat").failing, None);
    assert!(pool.ended("x3").is_empty());
    assert_eq!(pool.next().unwrap().0, 2, "it was not good for long enough");
}

#[test]
fn one_more_that_is_wished_long_after_a_failure_starts_at_once() {
    let mut pool = Pool::new(16, 4);
    pool.wish("cat 1");
    pool.fail("x1", "no library");
    pool.next();
    pool.ready("x2");
    pool.pass(STEADY.as_secs());
    assert_eq!(pool.wish("cat 3"), ["start x3 cat", "start x4 cat"]);
    assert_eq!(pool.of("cat").failing, None);
}

#[test]
fn one_that_does_not_start_is_tried_again_with_growing_rests_and_says_why() {
    let mut pool = Pool::new(16, 4);
    pool.wish("cat 2");
    assert!(pool.fail("x1", "no library").is_empty());
    assert!(pool.fail("x2", "no library").is_empty());
    let failing = pool.of("cat").failing.unwrap();
    assert_eq!((failing.failures, failing.next_ms), (2, 2_000));
    assert_eq!(failing.why, "a replica was not ready: no library");
    let mut rests = Vec::new();
    for number in 3..9 {
        let (rest, made) = pool.next().unwrap();
        assert_eq!(made, [format!("start x{number} cat")], "one at a time");
        assert!(pool.slots.next_deadline().is_none(), "its end is waited for");
        rests.push(rest);
        pool.fail(&format!("x{number}"), "no library");
    }
    assert_eq!(rests, [2, 4, 8, 16, 32, 60]);
    assert_eq!(pool.next().unwrap().1, ["start x9 cat"]);
    assert_eq!(pool.ready("x9"), ["start x10 cat"]);
    pool.ready("x10");
    assert_eq!(pool.slots.next_deadline(), None);
}

#[test]
fn a_run_hears_that_a_stage_cannot_be_started_which_failed_for_the_wish() {
    let mut pool = Pool::new(16, 4);
    pool.wish("cat 1");
    pool.fail("x1", "no library");
    for _ in 0..2 {
        let (_, made) = pool.next().unwrap();
        let replica = made[0].split(' ').nth(1).unwrap().to_owned();
        pool.fail(&replica, "no library");
    }
    pool.prepare("r1", "cat");
    assert_eq!(
        pool.fail("x4", "no library"),
        ["failed: stage 1 cannot be started: a replica was not ready: no library"]
    );
}

#[test]
fn a_lower_wish_ends_idle_ones_now_and_used_ones_after_their_last_use() {
    let mut pool = Pool::new(2, 4);
    pool.wish("cat 3");
    for replica in ["x1", "x2", "x3"] {
        pool.ready(replica);
    }
    pool.prepare("r1", "cat");
    pool.prepare("r2", "cat");
    assert_eq!(pool.wish("cat 1"), ["stop x3"], "the idle one");
    assert_eq!((pool.of("cat").replicas, pool.of("cat").up), (2, 1));
    assert_eq!((pool.of("cat").ready, pool.of("cat").starting), (1, 1));
    assert_eq!(pool.prepare("r3", "cat"), ["reserved", "ready 1@x2"]);
    assert_eq!(
        pool.prepare("r4", "cat"),
        ["reserved", "ready 1@x1"],
        "better than to start one"
    );
    assert!(pool.end("r1").is_empty());
    assert_eq!(pool.end("r4"), ["stop x1"]);
    assert!(pool.end("r2").is_empty() && pool.end("r3").is_empty());
    assert!(pool.pass(10_000).is_empty(), "x2 is the one that is wished");
}

#[test]
fn one_that_was_to_go_stays_when_it_is_wished_again() {
    let mut pool = Pool::new(2, 4);
    pool.wish("cat 1");
    pool.ready("x1");
    pool.prepare("r1", "cat");
    assert!(pool.wish("").is_empty());
    assert_eq!(pool.wish("cat 2"), ["start x2 cat"]);
    assert!(pool.end("r1").is_empty());
}

#[test]
fn one_that_starts_and_is_wished_no_more_is_stopped() {
    let mut pool = Pool::new(2, 4);
    pool.wish("cat 2");
    pool.prepare("r1", "cat");
    assert_eq!(pool.wish(""), ["stop x2"], "a run waits for the other");
    assert_eq!(pool.end("r1"), ["stop x1"]);
    assert_eq!(pool.ready("x2"), ["stop x2"], "it had begun all the same");
}

#[test]
fn runs_own_replicas_outlive_a_wish_that_goes() {
    let mut pool = Pool::new(1, 4);
    pool.prepare("r1", "cat cat");
    pool.ready("x1");
    pool.ready("x2");
    pool.end("r1");
    pool.wish("cat 1");
    assert_eq!(pool.wish(""), ["stop x1"]);
    assert_eq!(pool.next(), Some((600, vec!["stop x2".to_owned()])));
}

#[test]
fn wished_ones_go_beyond_the_setting_and_leave_it_to_other_versions() {
    let mut pool = Pool::new(1, 1);
    assert_eq!(pool.wish("cat@1 2"), ["start x1 cat", "start x2 cat"]);
    pool.ready("x1");
    pool.ready("x2");
    assert_eq!(pool.prepare("r1", "cat@2"), ["reserved", "start x3 cat"]);
    assert_eq!(pool.prepare("r2", "cat@2"), ["full"]);
    assert_eq!(
        pool.prepare("r3", "cat@1 cat@1 cat@1"),
        ["failed: 3 stages of cat were asked of it; settings slots=1 and replicas=1 forbid that"]
    );
    assert_eq!(pool.prepare("r3", "cat@1 cat@1"), ["reserved", "ready 1@x1 2@x2"]);
    pool.end("r3");
    pool.prepare("r4", "cat@1");
    pool.prepare("r5", "cat@1");
    assert_eq!(pool.prepare("r6", "cat@1"), ["full"]);
}

#[test]
fn a_replica_of_ones_own_has_room_beside_those_that_are_wished() {
    let mut pool = Pool::new(16, 1);
    pool.wish("cat 2");
    pool.ready("x1");
    pool.ready("x2");
    assert_eq!(
        pool.ask("r1", "cat", "fresh wait"),
        ["waiting", "reserved", "start x3 cat"]
    );
    assert_eq!(pool.ask("r2", "cat", "fresh"), ["full"]);
    pool.ready("x3");
    assert_eq!(pool.end("r1"), ["stop x3"]);
}

#[test]
fn kept_replicas_with_fewer_slots_than_are_set_are_replaced_one_by_one() {
    let mut pool = Pool::new(1, 1);
    pool.wish("cat 1");
    pool.ready("x1");
    pool.prepare("r1", "cat");
    let slots = |slots| Settings {
        slots,
        replicas: 1,
        ..Settings::default()
    };
    pool.slots.set(pool.now, slots(2));
    assert_eq!(pool.effects(), ["start x2 cat"]);
    pool.fail("x2", "no memory");
    assert!(pool.wish("cat 1").is_empty());
    assert_eq!(
        pool.slots.held(&kind("cat")),
        0,
        "the small one is not taken back"
    );
    assert_eq!(pool.of("cat").up, 1, "and serves until another is there");
    assert_eq!(pool.next(), Some((1, vec!["start x3 cat".to_owned()])));
    assert_eq!(pool.ask("r2", "cat cat", "wait"), ["waiting", "reserved"]);
    assert_eq!(pool.ready("x3"), ["ready 1@x3 2@x3"]);
    assert_eq!(pool.end("r1"), ["stop x1"]);
    pool.end("r2");
    pool.slots.set(pool.now, slots(4));
    assert_eq!(pool.effects(), ["start x4 cat"]);
    assert_eq!(pool.ready("x4"), ["stop x3"], "idle, and replaced");
}

#[test]
fn a_node_that_is_full_evicts_what_nobody_wishes_and_no_more() {
    let mut pool = Pool::new(1, 1_000);
    let services: Vec<String> = (0..2).map(|number| format!("s{number}")).collect();
    pool.prepare("r1", &services.join(" "));
    pool.ready("x1");
    pool.ready("x2");
    pool.end("r1");
    let started = |made: &[String]| made.iter().filter(|made| made.starts_with("start")).count();
    let mut ready = 2;
    let mut made = pool.wish(&format!("cat {REPLICAS_MAX}"));
    while started(&made) > 0 {
        assert!(started(&made) <= 8, "{made:?}");
        ready += 1;
        made = pool.ready(&format!("x{ready}"));
    }
    while ready < pool.slots.started {
        ready += 1;
        pool.ready(&format!("x{ready}"));
    }
    assert_eq!(pool.of("cat").up as usize, REPLICAS_MAX);
    assert_eq!(pool.slots.counters.evicted, 2);
    pool.wish(&format!("cat {REPLICAS_MAX}, tr 1"));
    let failing = pool.of("tr").failing.unwrap();
    assert!(
        failing.why.contains("as many as a node may have"),
        "{}",
        failing.why
    );
    assert_eq!(pool.slots.next_deadline(), None);
    assert_eq!(
        pool.ask("r2", "tr", "wait"),
        ["failed: 256 replicas are kept there, as many as a node may have"]
    );
    let made = pool.wish(&format!("cat {}, tr 1", REPLICAS_MAX - 1));
    assert_eq!(made.len(), 2);
    assert!(made[0].starts_with("stop") && made[1].ends_with("tr"), "{made:?}");
}

/// Whatever the order: what is wished is there or on its way as soon as nothing fails, and nothing that is used ends.
#[test]
fn random_wishes_end_nothing_that_is_used_and_are_met() {
    let mut state: u64 = 5;
    let mut pick = |count: u64| {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 33) % count
    };
    let mut pool = Pool::new(2, 2);
    let mut starting: Vec<String> = Vec::new();
    let mut wish = String::new();
    for _ in 0..5_000 {
        let used: Vec<String> = (pool.slots.replicas.iter())
            .filter(|(_, replica)| replica.used > 0)
            .map(|(name, _)| name.clone())
            .collect();
        let mut may_end = false;
        let run = format!("r{}", pick(12));
        let made = match pick(12) {
            0..=3 => {
                may_end = true;
                let mut made = pool.end(&run);
                let services = ["cat", "tr", "cat tr", "cat cat wc", "wc"][pick(5) as usize];
                made.extend(pool.ask(&run, services, ["", "", "wait"][pick(3) as usize]));
                made
            }
            4 => {
                may_end = true;
                pool.end(&run)
            }
            5..=7 if !starting.is_empty() => {
                let replica = starting.swap_remove(pick(starting.len() as u64) as usize);
                match pick(6) {
                    0 => pool.fail(&replica, "no"),
                    _ => pool.ready(&replica),
                }
            }
            8 | 9 => {
                wish = format!("cat {}, tr {}, cat@2 {}", pick(4), pick(3), pick(2));
                pool.wish(&wish)
            }
            _ => pool.pass(pick(90)),
        };
        for replica in made.iter().filter_map(|made| made.strip_prefix("stop ")) {
            assert!(may_end || !used.iter().any(|used| used == replica), "{made:?}");
        }
        starting.extend(starts(&made));
    }
    (0..12).for_each(|run| drop(pool.end(&format!("r{run}"))));
    for _ in 0..100 {
        let there: Vec<String> = (pool.slots.replicas.iter())
            .filter(|(_, replica)| !replica.is_ready)
            .map(|(name, _)| name.clone())
            .collect();
        there.iter().for_each(|replica| drop(pool.ready(replica)));
        pool.pass(60);
    }
    for one in wish.split(", ") {
        let (service, count) = one.split_once(' ').unwrap();
        let of = pool.of(service);
        assert_eq!((of.up, of.replicas), (count.parse().unwrap(), of.up), "{service}");
        assert_eq!(of.failing, None);
    }
}
