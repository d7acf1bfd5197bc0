//! The pool's promises, one each; `Pool` notes what the state asks for and keeps a clock that is set by hand.

use std::collections::HashMap;
use std::time::Duration;

use super::*;
use pipes_protocol::reservation::Wanted;

mod versions;
mod wished;

struct Pool {
    slots: Slots,
    now: Instant,
    tickets: u64,
    /// The last ticket of each run.
    runs: HashMap<String, u64>,
}

impl Pool {
    fn new(slots: u32, replicas: u32) -> Pool {
        let settings = Settings {
            slots,
            replicas,
            ..Settings::default()
        };
        Pool {
            slots: Slots::new(settings, 64, "x".into()),
            now: Instant::now(),
            tickets: 0,
            runs: HashMap::new(),
        }
    }

    fn effects(&mut self) -> Vec<String> {
        let shown = |effect| match effect {
            Effect::Answer(_, Answer::Ready(prepared)) => {
                let places = prepared
                    .places
                    .iter()
                    .map(|place| format!("{}@{}", place.stage, place.replica));
                format!("ready {}", places.collect::<Vec<_>>().join(" "))
            }
            Effect::Answer(_, Answer::Failed(PrepareError::Full)) => "full".into(),
            Effect::Answer(_, Answer::Failed(error)) => format!("failed: {error}"),
            Effect::Answer(_, answer) => format!("{answer:?}").to_lowercase(),
            Effect::Start(spec) => format!("start {} {}", spec.replica, spec.kind.service),
            Effect::Stop(replica) => format!("stop {replica}"),
        };
        self.slots.take_effects().into_iter().map(shown).collect()
    }

    fn ask(&mut self, run: &str, services: &str, options: &str) -> Vec<String> {
        self.tickets += 1;
        self.runs.insert(run.to_owned(), self.tickets);
        let stages = services.split(' ').enumerate().map(|(index, service)| Wanted {
            stage: index as u32 + 1,
            kind: Kind {
                service: service.split('@').next().unwrap().to_owned(),
                digest: service.to_owned(),
            },
            fresh: options.contains("fresh"),
        });
        let request = Prepare {
            stages: stages.collect(),
            files: Vec::new(),
            wait: options.contains("wait"),
        };
        self.slots.prepare(self.now, self.tickets, request);
        self.effects()
    }

    fn prepare(&mut self, run: &str, services: &str) -> Vec<String> {
        self.ask(run, services, "")
    }

    fn ready(&mut self, replica: &str) -> Vec<String> {
        self.slots.ready(self.now, replica);
        self.effects()
    }

    /// Its call is over.
    fn end(&mut self, run: &str) -> Vec<String> {
        if let Some(ticket) = self.runs.remove(run) {
            self.slots.end(self.now, ticket);
        }
        self.effects()
    }

    /// What others are told of a service: replicas, idle, ready, starting.
    fn told(&self, service: &str) -> (u32, u32, u32, u32) {
        let supply = self.slots.supply(|_| 0);
        let of = supply.kinds.iter().find(|of| of.kind.service == service);
        let of = of.cloned().unwrap_or_default();
        (of.replicas, of.idle, of.ready, of.starting)
    }

    fn pass(&mut self, seconds: u64) -> Vec<String> {
        self.now += Duration::from_secs(seconds);
        self.slots.tick(self.now);
        self.effects()
    }
}

#[test]
fn a_run_is_ready_when_all_its_replicas_are() {
    let mut pool = Pool::new(16, 4);
    assert_eq!(
        pool.prepare("r1", "cat tr cat"),
        ["reserved", "start x1 cat", "start x2 tr"]
    );
    assert!(pool.ready("x1").is_empty());
    assert_eq!(pool.ready("x2"), ["ready 1@x1 2@x2 3@x1"]);
}

#[test]
fn warm_replicas_are_used_at_once_and_stopped_after_their_time() {
    let mut pool = Pool::new(16, 4);
    pool.prepare("r1", "cat");
    pool.ready("x1");
    assert!(pool.pass(10_000).is_empty(), "a run may take its time");
    assert!(pool.end("r1").is_empty());
    assert!(pool.pass(599).is_empty());
    assert_eq!(pool.prepare("r2", "cat"), ["reserved", "ready 1@x1"]);
    pool.end("r2");
    assert_eq!(
        pool.slots.next_deadline(),
        Some(pool.now + Duration::from_secs(600))
    );
    assert_eq!(pool.pass(600), ["stop x1"]);
    assert_eq!(pool.slots.next_deadline(), None);
}

#[test]
fn a_reservation_lasts_as_long_as_its_call() {
    let mut pool = Pool::new(1, 1);
    pool.prepare("r1", "cat");
    pool.ready("x1");
    assert_eq!(pool.prepare("r2", "cat"), ["full"]);
    assert!(pool.pass(3_600).is_empty(), "others of its line may take long");
    pool.end("r1");
    assert_eq!(pool.prepare("r2", "cat"), ["reserved", "ready 1@x1"]);
}

#[test]
fn a_replica_that_nobody_wants_any_more_makes_room_once_it_is_ready() {
    let mut pool = Pool::new(1, 1);
    pool.prepare("r1", "cat");
    assert_eq!(pool.ask("r2", "cat@2", "wait"), ["waiting"]);
    assert!(pool.end("r1").is_empty(), "it is still starting");
    assert_eq!(pool.ready("x1"), ["stop x1", "reserved", "start x2 cat"]);
}

#[test]
fn full_is_said_when_slots_and_replicas_are_used_up() {
    let mut pool = Pool::new(2, 2);
    pool.prepare("r1", "cat cat");
    assert_eq!(pool.prepare("r2", "cat cat"), ["reserved", "start x2 cat"]);
    assert_eq!(pool.prepare("r3", "tr cat"), ["full"]);
    assert_eq!(
        pool.prepare("r4", "tr"),
        ["reserved", "start x3 tr"],
        "nothing of r3 was kept"
    );
    assert!(pool.end("r1").is_empty());
    assert_eq!(pool.prepare("r3", "cat tr"), ["reserved"]);
}

#[test]
fn the_agent_runs_no_more_stages_than_it_may() {
    let settings = Settings::default();
    let mut pool = Pool {
        slots: Slots::new(settings, 2, "x".into()),
        now: Instant::now(),
        tickets: 0,
        runs: HashMap::new(),
    };
    pool.prepare("r1", "a b");
    assert_eq!(pool.prepare("r2", "c"), ["full"]);
    assert!(pool.prepare("r3", "a b c")[0].starts_with("failed: it runs 2 stages at once"));
}

#[test]
fn what_can_never_fit_is_refused_and_not_kept_waiting() {
    let mut pool = Pool::new(2, 1);
    let why = "failed: 3 stages of cat were asked of it; settings slots=2 and replicas=1 forbid that";
    assert_eq!(pool.ask("r1", "cat cat cat", "wait"), [why]);
    assert!(pool.ask("r2", "cat cat", "fresh")[0].starts_with("failed"));
}

#[test]
fn a_fresh_replica_serves_one_stage_and_goes() {
    let mut pool = Pool::new(16, 4);
    pool.prepare("r1", "cat");
    pool.ready("x1");
    pool.end("r1");
    assert_eq!(
        pool.ask("r2", "cat cat", "fresh"),
        ["reserved", "start x2 cat", "start x3 cat"]
    );
    pool.ready("x2");
    assert_eq!(pool.ready("x3"), ["ready 1@x2 2@x3"]);
    assert_eq!(
        pool.prepare("r3", "cat"),
        ["reserved", "ready 1@x1"],
        "nobody else uses them"
    );
    assert_eq!(pool.end("r2"), ["stop x2", "stop x3"]);
}

#[test]
fn an_idle_replica_makes_room_for_a_new_version() {
    let mut pool = Pool::new(16, 1);
    pool.prepare("r1", "cat@1");
    pool.ready("x1");
    assert_eq!(pool.prepare("r2", "cat@2"), ["full"], "it is in use");
    pool.end("r1");
    assert_eq!(
        pool.prepare("r2", "cat@2"),
        ["stop x1", "reserved", "start x2 cat"]
    );
}

#[test]
fn a_replica_that_does_not_start_fails_those_that_wait_for_it() {
    let mut pool = Pool::new(2, 2);
    pool.prepare("r1", "cat tr");
    pool.prepare("r2", "cat");
    pool.ready("x2");
    pool.slots
        .failed(pool.now, "x1", &StartError::Node("no such file".into()));
    let failed = "failed: a replica cannot be started: no such file";
    assert_eq!(pool.effects(), [failed, failed]);
    assert_eq!(pool.slots.used(), 0);
    assert_eq!(
        pool.prepare("r3", "cat tr"),
        ["reserved", "start x3 cat"],
        "tr is warm, cat is made anew"
    );
}

#[test]
fn only_replicas_that_do_not_come_up_are_the_executables_own_fault() {
    let mut pool = Pool::new(2, 2);
    let mut last = |error: StartError| {
        let mut made = Vec::new();
        for _ in 0..STARTS_MAX {
            pool.prepare("r1", "cat");
            let replica = format!("x{}", pool.slots.started);
            pool.slots.failed(pool.now, &replica, &error);
            made = pool.effects();
        }
        made
    };
    assert_eq!(
        last(StartError::Node("no memory".into())),
        ["failed: a replica cannot be started: no memory"]
    );
    assert_eq!(
        last(StartError::NotReady("killed".into())),
        ["failed: stage 1 cannot be started: a replica was not ready: killed"]
    );
}

#[test]
fn versions_of_a_service_that_fit_no_empty_node_together_are_refused() {
    let mut pool = Pool::new(16, 1);
    assert_eq!(
        pool.ask("r1", "cat@1 cat@2", "wait"),
        ["failed: 2 stages of cat were asked of it; settings slots=16 and replicas=1 forbid that"]
    );
    assert_eq!(pool.ask("r2", "cat@1 cat@1", ""), ["reserved", "start x1 cat"]);
}

#[test]
fn a_replica_that_ends_under_a_run_leaves_its_other_slots_to_it() {
    let mut pool = Pool::new(1, 1);
    pool.prepare("r1", "cat tr");
    pool.ready("x1");
    pool.ready("x2");
    pool.slots.ended(pool.now, "x1", "killed");
    assert!(pool.effects().is_empty());
    assert_eq!(pool.prepare("r2", "tr"), ["full"]);
    pool.end("r1");
    assert_eq!(pool.prepare("r2", "cat tr"), ["reserved", "start x3 cat"]);
}

#[test]
fn those_that_hold_are_served_in_their_order_and_not_overtaken() {
    let mut pool = Pool::new(2, 1);
    pool.prepare("r1", "cat");
    pool.ready("x1");
    assert_eq!(pool.ask("r2", "cat cat", "wait"), ["waiting"]);
    assert_eq!(pool.ask("r3", "cat", "wait"), ["waiting"]);
    assert_eq!(
        pool.prepare("r4", "cat"),
        ["full"],
        "a slot is free, but r2 waits for it"
    );
    assert_eq!(
        pool.prepare("r5", "tr"),
        ["reserved", "start x2 tr"],
        "r2 does not want this one"
    );
    assert_eq!(pool.end("r1"), ["reserved", "ready 1@x1 2@x1"]);
    assert!(
        pool.pass(60).is_empty(),
        "it waits for other nodes as long as they need"
    );
    assert_eq!(pool.end("r2"), ["reserved", "ready 1@x1"], "now r3");
}

#[test]
fn one_that_waits_for_another_service_does_not_stand_in_the_way() {
    let mut pool = Pool::new(1, 1);
    pool.prepare("r1", "cat");
    pool.ask("r2", "cat", "wait");
    assert_eq!(
        pool.ask("r3", "tr", "wait"),
        ["waiting", "reserved", "start x2 tr"]
    );
}

#[test]
fn whoever_ends_before_it_is_ready_has_nothing() {
    let mut pool = Pool::new(1, 1);
    pool.prepare("r1", "cat");
    pool.ask("r2", "cat", "wait");
    assert!(pool.end("r2").is_empty());
    assert!(pool.end("r1").is_empty());
    assert_eq!(
        pool.ready("x1"),
        [] as [&str; 0],
        "the replica is there all the same"
    );
    assert_eq!(pool.prepare("r3", "cat"), ["reserved", "ready 1@x1"]);
}

#[test]
fn who_waited_in_front_and_left_lets_the_others_in() {
    let mut pool = Pool::new(2, 1);
    pool.prepare("r1", "cat");
    pool.ready("x1");
    pool.ask("r2", "cat cat", "wait");
    pool.ask("r3", "cat", "wait");
    assert_eq!(
        pool.end("r2"),
        ["reserved", "ready 1@x1"],
        "r3 had room all the time"
    );
}

#[test]
fn others_are_told_what_is_free_and_nothing_that_is_claimed() {
    let mut pool = Pool::new(2, 4);
    pool.prepare("r1", "cat tr");
    assert_eq!(pool.told("cat"), (1, 0, 0, 1));
    pool.ready("x1");
    assert_eq!(pool.told("cat"), (1, 0, 1, 0));
    pool.ask("r2", "tr", "fresh");
    assert_eq!(
        pool.told("tr"),
        (2, 0, 0, 1),
        "nobody else has slots of a fresh one"
    );
    assert_eq!(pool.slots.supply(|_| 0).stages, 3);
    pool.end("r1");
    assert_eq!(pool.told("cat"), (1, 1, 2, 0));
    let mut pool = Pool::new(1, 1);
    pool.prepare("r1", "cat");
    pool.ask("r2", "cat cat", "wait");
    assert!(!pool.slots.supply(|_| 0).kinds[0].is_claimed, "it can never be");
    pool.ask("r3", "cat", "wait");
    assert!(pool.slots.supply(|_| 0).kinds[0].is_claimed);
}

#[test]
fn settings_hold_for_replicas_that_run_already() {
    let mut pool = Pool::new(4, 1);
    pool.prepare("r1", "cat");
    pool.ready("x1");
    pool.slots.set(
        pool.now,
        Settings {
            slots: 1,
            replicas: 1,
            warm: Duration::from_secs(1),
        },
    );
    assert_eq!(pool.prepare("r2", "cat"), ["full"]);
    pool.slots.set(
        pool.now,
        Settings {
            slots: 8,
            replicas: 1,
            warm: Duration::from_secs(1),
        },
    );
    assert_eq!(
        pool.prepare("r2", "cat cat cat"),
        ["reserved", "ready 1@x1 2@x1 3@x1"]
    );
    assert_eq!(
        pool.prepare("r3", "cat"),
        ["full"],
        "its shim was started with four"
    );
    pool.end("r1");
    assert_eq!(pool.end("r2"), ["stop x1"], "the next one has eight");
}

#[test]
fn credit_in_all_is_bounded() {
    let settings = Settings {
        slots: 64,
        ..Settings::default()
    };
    let mut slots = Slots::new(settings, 64, "x".into());
    let wanted = |stage| Wanted {
        stage,
        kind: Kind {
            service: "cat".into(),
            digest: "cat".into(),
        },
        fresh: false,
    };
    let asked = |count| Prepare {
        stages: (1..=count).map(wanted).collect(),
        files: Vec::new(),
        wait: false,
    };
    slots.prepare(Instant::now(), 1, asked(30));
    slots.prepare(Instant::now(), 2, asked(5));
    slots.ready(Instant::now(), "x1");
    let windows = |effect: &Effect| match effect {
        Effect::Answer(2, Answer::Ready(prepared)) => {
            Some(prepared.places.iter().map(|place| place.window).collect())
        }
        _ => None,
    };
    let given: Vec<u64> = slots.take_effects().iter().find_map(windows).unwrap();
    assert_eq!(
        given,
        [WINDOW_MAX, WINDOW_MAX, WINDOW_MIN, WINDOW_MIN, WINDOW_MIN]
    );
    assert_eq!(slots.counters.narrow, 3);
}

/// Replicas that are being started.
fn starts(made: &[String]) -> Vec<String> {
    let names = made.iter().filter_map(|made| made.strip_prefix("start "));
    names
        .map(|rest| rest.split(' ').next().unwrap().to_owned())
        .collect()
}

/// Whatever the order, and when all runs are over everything is free again.
#[test]
fn random_inputs_leak_no_slot() {
    let mut state: u64 = 11;
    let mut pick = |count: u64| {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 33) % count
    };
    let mut pool = Pool::new(3, 2);
    let mut replicas: Vec<String> = Vec::new();
    for _ in 0..5_000 {
        let run = format!("r{}", pick(12));
        let made = match pick(10) {
            0..=3 => {
                replicas.extend(starts(&pool.end(&run)));
                let services = ["cat", "tr", "cat tr", "cat cat wc", "wc"][pick(5) as usize];
                let options = ["", "", "wait", "fresh"][pick(4) as usize];
                pool.ask(&run, services, options)
            }
            4 | 5 => pool.end(&run),
            6 if !replicas.is_empty() => {
                let replica = replicas.swap_remove(pick(replicas.len() as u64) as usize);
                pool.ready(&replica)
            }
            7 if !replicas.is_empty() => {
                let replica = replicas.swap_remove(pick(replicas.len() as u64) as usize);
                pool.slots.ended(pool.now, &replica, "gone");
                pool.effects()
            }
            _ => pool.pass(pick(8)),
        };
        replicas.extend(starts(&made));
    }
    for run in 0..12 {
        pool.end(&format!("r{run}"));
    }
    assert_eq!(pool.slots.used(), 0);
    assert!(pool.slots.waiting.is_empty());
}
