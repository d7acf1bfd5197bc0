//! Lines of several versions of one service: nobody waits for what an empty node would have.

use super::*;

/// Two idle replicas of `cat@1`, of two slots each.
fn two_idle() -> Pool {
    let mut pool = Pool::new(2, 2);
    pool.prepare("r1", "cat@1 cat@1");
    pool.prepare("r2", "cat@1 cat@1");
    pool.ready("x1");
    pool.ready("x2");
    pool.end("r1");
    pool.end("r2");
    pool
}

#[test]
fn a_line_of_one_version_is_spread_and_one_of_two_lies_close_together() {
    let mut pool = two_idle();
    assert_eq!(pool.prepare("r3", "cat@1 cat@1"), ["reserved", "ready 1@x1 2@x2"]);
    pool.end("r3");
    assert_eq!(
        pool.ask("r4", "cat@1 cat@1 cat@2", "wait"),
        ["waiting", "stop x2", "reserved", "start x3 cat"]
    );
    assert_eq!(pool.ready("x3"), ["ready 1@x1 2@x1 3@x3"]);
}

#[test]
fn stages_lie_beside_others_rather_than_keep_an_idle_replica() {
    let mut pool = two_idle();
    pool.prepare("r3", "cat@1");
    assert_eq!(
        pool.prepare("r4", "cat@1 cat@2"),
        ["stop x2", "reserved", "start x3 cat"]
    );
    assert_eq!(pool.ready("x3"), ["ready 1@x1 2@x3"]);
}

#[test]
fn an_idle_replica_with_few_slots_goes_for_one_with_as_many_as_are_set() {
    let settings = Settings {
        slots: 2,
        replicas: 1,
        ..Settings::default()
    };
    let mut pool = Pool::new(1, 1);
    pool.prepare("r1", "cat");
    pool.ready("x1");
    pool.end("r1");
    pool.slots.set(pool.now, settings);
    assert_eq!(pool.effects(), ["stop x1"]);
    // One that is kept stays until another is there, or a run needs its place.
    let mut pool = Pool::new(1, 1);
    let kept = Kind {
        service: "cat".into(),
        digest: "cat".into(),
    };
    pool.slots.wish(pool.now, BTreeMap::from([(kept, 1)]));
    pool.ready("x1");
    pool.slots.set(pool.now, settings);
    let error = StartError::Node("no memory".into());
    pool.slots.failed(pool.now, "x2", &error);
    assert_eq!(pool.effects(), ["start x2 cat"]);
    assert_eq!(
        pool.ask("r2", "cat cat", "wait"),
        ["waiting", "stop x1", "reserved", "start x3 cat"]
    );
}

#[test]
fn who_waits_for_what_new_settings_forbid_is_told() {
    let mut pool = Pool::new(1, 2);
    pool.prepare("r1", "cat@1");
    pool.ready("x1");
    assert_eq!(pool.ask("r2", "cat@1 cat@2", "wait"), ["waiting"]);
    let settings = Settings {
        slots: 1,
        replicas: 1,
        ..Settings::default()
    };
    pool.slots.set(pool.now, settings);
    assert_eq!(
        pool.effects(),
        ["failed: 2 stages of cat were asked of it; settings slots=1 and replicas=1 forbid that"]
    );
    pool.end("r1");
    assert_eq!(
        pool.prepare("r3", "cat@1"),
        ["reserved", "ready 1@x1"],
        "nobody is kept out"
    );
}

/// Whatever is idle, and whatever ran before: once nothing is in use, whoever waits for what fits an empty node has it.
#[test]
fn nobody_waits_for_ever_on_a_node_where_nothing_is_in_use() {
    let mut state: u64 = 3;
    let mut pick = |count: u64| {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 33) % count
    };
    let mut pool = Pool::new(2, 2);
    let lines = [
        "a@1 a@1 a@2",
        "a@1",
        "a@2 a@2",
        "a@1 a@2",
        "a@3",
        "a@3 a@1 a@1",
        "a@1 b a@2 b",
    ];
    for round in 0..2_000 {
        for run in 0..3 {
            let options = ["", "", "fresh"][pick(3) as usize];
            pool.ask(&format!("r{run}"), lines[pick(7) as usize], options);
        }
        let slots = 1 + pick(3) as u32;
        let settings = Settings {
            slots,
            replicas: 2,
            ..Settings::default()
        };
        if pick(20) == 0 {
            pool.slots.set(pool.now, settings);
        }
        let made = pool.ask("waits", lines[pick(7) as usize], "wait");
        let is_refused = made.iter().any(|made| made.starts_with("failed"));
        all_ready(&mut pool);
        (0..3).for_each(|run| drop(pool.end(&format!("r{run}"))));
        all_ready(&mut pool);
        assert!(pool.slots.waiting.is_empty(), "round {round}: {made:?}");
        assert!(is_refused || pool.slots.used() > 0, "round {round}: {made:?}");
        pool.end("waits");
        pool.pass(pick(3));
    }
}

fn all_ready(pool: &mut Pool) {
    let starting: Vec<String> = (pool.slots.replicas.iter())
        .filter(|(_, replica)| !replica.is_ready)
        .map(|(name, _)| name.clone())
        .collect();
    starting.iter().for_each(|replica| drop(pool.ready(replica)));
}
