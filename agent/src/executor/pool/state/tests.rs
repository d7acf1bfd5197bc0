//! The pool's promises, one each; `Pool` notes what the state asks for and keeps a clock that is set by hand.

use super::*;
use pipes_protocol::reservation::Wanted;

struct Pool {
    slots: Slots,
    now: Instant,
    tickets: u64,
    /// Of whatever run is named next.
    attempt: u64,
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
            attempt: 1,
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
            Effect::Start(spec) => format!("start {} {}", spec.replica, spec.service),
            Effect::Stop(replica) => format!("stop {replica}"),
            Effect::Freed(node, run) => format!("freed {run} at {node}"),
        };
        self.slots.take_effects().into_iter().map(shown).collect()
    }

    fn ask(&mut self, run: &str, services: &str, options: &str) -> Vec<String> {
        self.tickets += 1;
        let stages = services.split(' ').enumerate().map(|(index, service)| Wanted {
            stage: index as u32 + 1,
            service: service.split('@').next().unwrap().to_owned(),
            digest: service.to_owned(),
            fresh: options.contains("fresh"),
        });
        let request = Prepare {
            run: run.into(),
            coordinator: 7,
            attempt: self.attempt,
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

    fn abort(&mut self, run: &str) -> Vec<String> {
        self.slots.abort(self.now, run, self.attempt);
        self.effects()
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
    pool.slots.commit("r1");
    assert!(pool.pass(10_000).is_empty(), "a run may take its time");
    assert!(pool.abort("r1").is_empty());
    assert!(pool.pass(599).is_empty());
    assert_eq!(pool.prepare("r2", "cat"), ["reserved", "ready 1@x1"]);
    pool.abort("r2");
    assert_eq!(
        pool.slots.next_deadline(),
        Some(pool.now + Duration::from_secs(600))
    );
    assert_eq!(pool.pass(600), ["stop x1"]);
    assert_eq!(pool.slots.next_deadline(), None);
}

#[test]
fn a_reservation_that_never_goes_is_given_up() {
    let mut pool = Pool::new(1, 1);
    pool.prepare("r1", "cat");
    pool.ready("x1");
    assert_eq!(pool.prepare("r2", "cat"), ["full"]);
    assert!(pool.pass(9).is_empty());
    assert_eq!(pool.pass(1), ["freed r2 at 7"]);
    assert_eq!(
        pool.slots.counters,
        Counters {
            full: 1,
            expired: 1,
            ..Counters::default()
        }
    );
    assert_eq!(pool.prepare("r2", "cat"), ["reserved", "ready 1@x1"]);
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
    assert_eq!(pool.abort("r1"), ["freed r3 at 7"]);
}

#[test]
fn the_agent_runs_no_more_stages_than_it_may() {
    let settings = Settings::default();
    let mut pool = Pool {
        slots: Slots::new(settings, 2, "x".into()),
        now: Instant::now(),
        tickets: 0,
        attempt: 1,
    };
    pool.prepare("r1", "a b");
    assert_eq!(pool.prepare("r2", "c"), ["full"]);
    assert!(pool.prepare("r3", "a b c")[0].starts_with("failed: it runs 2 stages at once"));
}

#[test]
fn as_many_are_told_as_slots_are_free() {
    let mut pool = Pool::new(2, 1);
    pool.prepare("r1", "cat cat");
    for run in ["r2", "r3", "r4"] {
        assert_eq!(pool.prepare(run, "cat"), ["full"]);
    }
    assert_eq!(pool.abort("r1"), ["freed r2 at 7", "freed r3 at 7"]);
    assert!(pool.abort("r4").is_empty(), "it is over, and not told any more");
}

#[test]
fn no_more_coordinators_are_remembered_than_the_limit() {
    let mut pool = Pool::new(1, 1);
    pool.prepare("r0", "cat");
    for run in 1..=NOTIFY_MAX + 1 {
        pool.prepare(&format!("r{run}"), "cat");
    }
    assert_eq!(pool.abort("r0"), ["freed r2 at 7"], "the oldest was let go");
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
    pool.abort("r1");
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
    assert_eq!(pool.abort("r2"), ["stop x2", "stop x3"]);
}

#[test]
fn an_idle_replica_makes_room_for_a_new_version() {
    let mut pool = Pool::new(16, 1);
    pool.prepare("r1", "cat@1");
    pool.ready("x1");
    assert_eq!(pool.prepare("r2", "cat@2"), ["full"], "it is in use");
    assert_eq!(pool.abort("r1"), ["freed r2 at 7"]);
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
    pool.slots.ended(pool.now, "x1", "no such file");
    assert_eq!(pool.effects(), ["failed: no such file", "failed: no such file"]);
    assert_eq!(pool.slots.used(), 0);
    assert_eq!(
        pool.prepare("r3", "cat tr"),
        ["reserved", "start x3 cat"],
        "tr is warm, cat is made anew"
    );
}

#[test]
fn a_replica_that_ends_under_a_run_leaves_its_other_slots_to_it() {
    let mut pool = Pool::new(1, 1);
    pool.prepare("r1", "cat tr");
    pool.ready("x1");
    pool.ready("x2");
    pool.slots.commit("r1");
    pool.slots.ended(pool.now, "x1", "killed");
    assert!(pool.effects().is_empty());
    assert_eq!(pool.prepare("r2", "tr"), ["full"]);
    assert_eq!(pool.abort("r1"), ["freed r2 at 7"]);
    assert_eq!(pool.prepare("r2", "cat tr"), ["reserved", "start x3 cat"]);
}

#[test]
fn runs_of_a_lost_coordinator_have_nothing_any_more() {
    let mut pool = Pool::new(1, 1);
    pool.prepare("r1", "cat");
    pool.ready("x1");
    pool.slots.commit("r1");
    pool.prepare("r2", "cat");
    assert_eq!(pool.slots.coordinators(), HashSet::from([7]));
    pool.slots.coordinator_lost(pool.now, 7);
    assert!(pool.effects().is_empty(), "there is nobody to tell");
    assert_eq!(pool.slots.used(), 0);
    assert!(pool.slots.coordinators().is_empty());
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
    let served = pool.abort("r1");
    assert_eq!(served, ["reserved", "ready 1@x1 2@x1", "freed r4 at 7"]);
    assert!(
        pool.pass(60).is_empty(),
        "it waits for other nodes as long as they need"
    );
    assert_eq!(pool.abort("r2"), ["reserved", "ready 1@x1"], "now r3");
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
fn whoever_cancels_has_nothing() {
    let mut pool = Pool::new(1, 1);
    pool.prepare("r1", "cat");
    pool.ask("r2", "cat", "wait");
    pool.slots.cancel(pool.now, 2);
    pool.slots.cancel(pool.now, 1);
    assert!(pool.effects().is_empty());
    assert_eq!(
        pool.ready("x1"),
        [] as [&str; 0],
        "the replica is there all the same"
    );
    assert_eq!(pool.prepare("r3", "cat"), ["reserved", "ready 1@x1"]);
}

#[test]
fn a_run_that_asks_again_gives_up_what_it_had() {
    let mut pool = Pool::new(1, 1);
    pool.prepare("r1", "cat");
    pool.ready("x1");
    assert_eq!(pool.prepare("r1", "cat"), ["reserved", "ready 1@x1"]);
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
    assert_eq!(pool.effects(), ["freed r2 at 7"]);
    assert_eq!(
        pool.prepare("r2", "cat cat cat"),
        ["reserved", "ready 1@x1 2@x1 3@x1"]
    );
    assert_eq!(
        pool.prepare("r3", "cat"),
        ["full"],
        "its shim was started with four"
    );
    pool.abort("r1");
    pool.abort("r2");
    assert_eq!(pool.pass(1), ["stop x1"]);
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
        service: "cat".into(),
        digest: "cat".into(),
        fresh: false,
    };
    let asked = |run: &str, count| Prepare {
        run: run.into(),
        coordinator: 7,
        attempt: 1,
        stages: (1..=count).map(wanted).collect(),
        files: Vec::new(),
        wait: false,
    };
    slots.prepare(Instant::now(), 1, asked("r1", 30));
    slots.prepare(Instant::now(), 2, asked("r2", 5));
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

#[test]
fn a_late_word_of_an_attempt_does_nothing_to_the_next() {
    let mut pool = Pool::new(1, 1);
    pool.ask("r1", "cat", "wait");
    pool.ready("x1");
    pool.attempt = 2;
    assert_eq!(
        pool.ask("r1", "cat", "wait"),
        ["waiting", "reserved", "ready 1@x1"],
        "what the first had is free"
    );
    pool.attempt = 1;
    assert!(pool.abort("r1").is_empty());
    assert_eq!(pool.slots.used(), 1, "the second keeps its slot");
    let late = ["failed: this attempt of the run is over"];
    assert_eq!(pool.ask("r1", "cat", "wait"), late);
    pool.ask("r2", "cat", "wait");
    pool.attempt = 2;
    pool.ask("r2", "cat", "wait");
    pool.attempt = 1;
    assert_eq!(pool.ask("r2", "cat", ""), late);
    pool.abort("r2");
    pool.attempt = 2;
    assert_eq!(pool.abort("r1"), ["reserved", "ready 1@x1"], "r2 still waited");
    pool.attempt = 3;
    assert!(pool.abort("r3").is_empty());
    assert_eq!(pool.ask("r3", "tr", "wait"), late, "it came after its release");
    pool.attempt = 4;
    assert_eq!(
        pool.ask("r3", "tr", "wait"),
        ["waiting", "reserved", "start x2 tr"]
    );
}

/// Any order of inputs keeps what always holds, and when all runs are over everything is free again.
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
    for step in 0..5_000 {
        let run = format!("r{}", pick(12));
        pool.attempt = step / 10 + pick(20);
        let made = match pick(10) {
            0..=3 => {
                let services = ["cat", "tr", "cat tr", "cat cat wc", "wc"][pick(5) as usize];
                let options = ["", "", "wait", "fresh"][pick(4) as usize];
                pool.ask(&run, services, options)
            }
            4 | 5 => pool.abort(&run),
            6 if !replicas.is_empty() => {
                let replica = replicas.swap_remove(pick(replicas.len() as u64) as usize);
                pool.ready(&replica)
            }
            7 if !replicas.is_empty() => {
                let replica = replicas.swap_remove(pick(replicas.len() as u64) as usize);
                pool.slots.ended(pool.now, &replica, "gone");
                pool.effects()
            }
            8 => {
                pool.slots.commit(&run);
                pool.effects()
            }
            _ => pool.pass(pick(8)),
        };
        replicas.extend(
            made.iter()
                .filter_map(|made| made.strip_prefix("start "))
                .map(|rest| rest.split(' ').next().unwrap().to_owned()),
        );
    }
    pool.attempt = u64::MAX;
    for run in 0..12 {
        pool.abort(&format!("r{run}"));
    }
    assert_eq!(pool.slots.used(), 0);
    assert!(pool.slots.waiting.is_empty());
}
