//! Tables of what is found, and random inputs that keep what always holds.

use super::*;

/// A cluster in which replicas come up when the test says so.
struct World {
    workflows: BTreeMap<String, Vec<Want>>,
    sites: Vec<Site>,
    shares: BTreeMap<String, Arc<Kept>>,
    /// Nodes where nothing comes up.
    failing: BTreeSet<u64>,
}

impl World {
    /// Workflows as `w: a 2, b 1@n2`, each stage a service with a count, some bound to a node.
    fn new(nodes: u64, workflows: &[&str]) -> World {
        let mut world = World {
            workflows: BTreeMap::new(),
            sites: Vec::new(),
            shares: BTreeMap::new(),
            failing: BTreeSet::new(),
        };
        (1..=nodes).for_each(|node| world.back(node, true));
        workflows.iter().for_each(|workflow| world.wish(workflow));
        world
    }

    fn wish(&mut self, workflow: &str) {
        let (name, stages) = workflow.split_once(": ").unwrap();
        let want = |stage: &str| {
            let (service, count) = stage.split_once(' ').unwrap();
            let (count, only) = match count.split_once('@') {
                Some((count, only)) => (count, Some(only.to_owned())),
                None => (count, None),
            };
            Want {
                kind: kind(service),
                count: count.parse().unwrap(),
                only,
            }
        };
        let wants = stages.split(", ").map(want).collect();
        self.workflows.insert(name.to_owned(), wants);
    }

    fn lost(&mut self, node: u64) {
        self.sites.retain(|site| site.id != node);
    }

    fn back(&mut self, node: u64, is_settled: bool) {
        self.lost(node);
        self.sites.push(Site {
            id: node,
            name: format!("n{node}"),
            is_settled,
        });
        self.sites.sort_by_key(|site| site.id);
    }

    /// Finds them once; with all that is wished up, or nothing new up yet.
    fn once(&mut self, is_up: bool) -> Spread {
        let state = |node, _: &Kind| match (self.failing.contains(&node), is_up) {
            (true, _) => State::Failing,
            (false, true) => State::Up,
            (false, false) => State::Starting,
        };
        let found = spread(&self.workflows, &self.sites, &self.shares, state);
        self.shares = (found.shares.iter())
            .map(|(name, share)| {
                let share = share.clone();
                (name.clone(), Arc::new(Kept { share, revision: 1 }))
            })
            .collect();
        found
    }

    /// Until nothing moves any more; how often something was written.
    fn settle(&mut self) -> usize {
        for written in 0..1_000 {
            let before = self.shares.clone();
            let found = self.once(true);
            if before == self.shares {
                assert!(!found.is_moving, "it waits for nothing");
                return written;
            }
        }
        panic!("it moves for ever");
    }

    /// Each stage's counts on the nodes 1 to 3, with `+` where one comes.
    fn shown(&self) -> String {
        let stage = |of: &OfStage| {
            let count = |node| {
                let coming = if of.coming == Some(node) { "+" } else { "" };
                format!("{}{coming}", of.on(node))
            };
            let counts: Vec<String> = (1..=3).map(count).collect();
            format!("{} {}", of.kind.service, counts.join(" "))
        };
        let stages = self
            .shares
            .values()
            .flat_map(|kept| &kept.share.stages)
            .map(stage);
        stages.collect::<Vec<_>>().join("  ")
    }

    fn of_all(&self, node: u64) -> u32 {
        let stages = self.shares.values().flat_map(|kept| &kept.share.stages);
        stages.map(|stage| stage.on(node)).sum()
    }
}

fn kind(service: &str) -> Kind {
    Kind {
        service: service.into(),
        digest: format!("sha256:{service}"),
    }
}

fn differ(counts: impl Iterator<Item = u32> + Clone) -> u32 {
    counts.clone().max().unwrap_or(0) - counts.min().unwrap_or(0)
}

#[test]
fn a_node_that_is_lost_and_comes_back() {
    let mut world = World::new(3, &["w: a 5, b 1"]);
    let mut seen = Vec::new();
    let mut look = |world: &mut World, is_up| {
        world.once(is_up);
        seen.push(world.shown());
    };
    look(&mut world, true);
    look(&mut world, true);
    world.lost(2);
    look(&mut world, true);
    look(&mut world, true);
    world.back(2, false);
    look(&mut world, true);
    world.back(2, true);
    look(&mut world, true);
    look(&mut world, false);
    for _ in 0..3 {
        look(&mut world, true);
    }
    assert_eq!(
        seen,
        [
            "a 2 1 2  b 0 1 0",
            "a 2 1 2  b 0 1 0",
            // What it had is elsewhere, nothing else moves.
            "a 3 0 2  b 0 0 1",
            "a 3 0 2  b 0 0 1",
            // Nothing moves to it until it has been well for long enough.
            "a 3 0 2  b 0 0 1",
            "a 3 1+ 2  b 0 0 1",
            "a 3 1+ 2  b 0 0 1",
            // That one has come, and the workflow's sum is not even yet.
            "a 2 2+ 2  b 0 0 1",
            "a 2 2 1  b 0 0 1",
            "a 2 2 1  b 0 0 1",
        ]
    );
}

#[test]
fn a_wish_that_grows_and_shrinks_moves_nothing() {
    let mut world = World::new(3, &["w: a 1, b 1"]);
    let mut seen = Vec::new();
    for wish in [
        "w: a 1, b 1",
        "w: a 1, b 5",
        "w: a 1, b 2",
        "w: b 2, a 1",
        "w: b 2, a 1, b 1",
        "w: b 2",
    ] {
        world.wish(wish);
        world.once(false);
        seen.push(world.shown());
    }
    assert_eq!(
        seen,
        [
            "a 1 0 0  b 0 0 1",
            "a 1 0 0  b 1 2 2",
            "a 1 0 0  b 0 1 1",
            "b 0 1 1  a 1 0 0",
            "b 0 1 1  a 1 0 0  b 0 0 1",
            "b 0 1 1",
        ]
    );
}

#[test]
fn a_stage_that_is_bound_to_a_node_is_there_or_nowhere() {
    let mut world = World::new(3, &["w: a 2@n2, b 1"]);
    world.settle();
    assert!(world.shown().starts_with("a 0 2 0"), "{}", world.shown());
    world.lost(2);
    world.settle();
    assert!(world.shown().starts_with("a 0 0 0"), "{}", world.shown());
    world.back(2, false);
    world.settle();
    assert!(world.shown().starts_with("a 0 2 0"), "{}", world.shown());
}

#[test]
fn what_comes_is_needed_where_it_is_when_another_node_is_lost() {
    let mut world = World::new(3, &["w: a 4"]);
    world.lost(3);
    world.once(true);
    world.back(3, true);
    world.once(true);
    assert_eq!(world.shown(), "a 2 2 1+");
    world.lost(2);
    world.once(false);
    assert_eq!(world.shown(), "a 2 0 2");
    world.lost(1);
    world.once(false);
    assert_eq!(world.shown(), "a 0 0 4");
}

#[test]
fn one_that_cannot_come_takes_nothing_from_where_it_was() {
    let mut world = World::new(3, &["w: a 4", "x: b 4"]);
    world.lost(3);
    world.once(true);
    world.back(3, true);
    world.failing.insert(3);
    world.once(true);
    for _ in 0..10 {
        world.once(true);
        assert_eq!(world.shown(), "a 2 2 1+  b 2 2 1+");
    }
    world.failing.clear();
    world.settle();
    assert_eq!(differ([1, 2, 3].iter().map(|node| world.of_all(*node))), 1);
}

#[test]
fn nothing_moves_while_one_is_missing() {
    let mut world = World::new(3, &["w: a 4"]);
    world.lost(3);
    world.once(false);
    world.back(3, true);
    assert!(world.once(false).is_moving, "it is to be looked at again");
    assert_eq!(world.shown(), "a 2 2 0");
}

#[test]
fn single_replicas_of_many_workflows_are_spread_too() {
    let names: Vec<String> = (0..20)
        .map(|number| format!("w{number}: a 1, b 1, c 1"))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut world = World::new(1, &names);
    world.settle();
    assert_eq!(world.of_all(1), 60);
    world.back(2, true);
    world.back(3, true);
    let written = world.settle();
    assert!(written <= 2 * 40 + 1, "{written}");
    for kept in world.shares.values() {
        let stages = &kept.share.stages;
        let on = |node| stages.iter().map(|stage| stage.on(node)).sum();
        assert_eq!(differ([1, 2, 3].into_iter().map(on)), 0);
    }
}

#[test]
fn a_line_that_says_where_its_stages_are_binds_them() {
    let stage = |service: &str| serde_json::json!({"service": service, "digest": format!("sha256:{service}"), "args": []});
    let workflow = serde_json::from_value(serde_json::json!({
        "name": "w",
        "wish": "running",
        "port": null,
        "revision": 1,
        "definition": {
            "line": "a | b | a",
            "stages": [stage("a"), stage("b"), stage("a")],
            "options": {"replicas": {"3": 2}, "place": {"b": "n2", "1": "n1"}},
        },
        "created": "",
    }));
    let want = |service, count, only: Option<&str>| Want {
        kind: kind(service),
        count,
        only: only.map(str::to_owned),
    };
    let expected = [
        want("a", 1, Some("n1")),
        want("b", 1, Some("n2")),
        want("a", 2, None),
    ];
    assert_eq!(wants(&workflow.unwrap()), expected);
}

/// Nodes come and go, wishes change, replicas come up or do not.
#[test]
fn random_inputs_keep_what_always_holds() {
    let mut state: u64 = 3;
    let mut pick = |count: u64| {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 33) % count
    };
    for _ in 0..40 {
        let mut world = World::new(1 + pick(5), &[]);
        for _ in 0..60 {
            let node = 1 + pick(5);
            match pick(6) {
                0 if world.sites.len() > 1 => world.lost(node),
                1 => world.back(node, pick(2) == 0),
                2 => world.wish(&format!("w{}: a {}, b {}", pick(4), 1 + pick(6), 1 + pick(3))),
                3 => world.wish(&format!("w{}: a {}, c 1, a 2", pick(4), 1 + pick(6))),
                4 => drop(world.workflows.remove(&format!("w{}", pick(4)))),
                _ => {}
            }
            let before = world.shares.clone();
            let is_up = pick(3) > 0;
            world.once(is_up);
            check(&world, &before, is_up);
        }
        for node in 1..=5 {
            world.back(node, true);
        }
        world.settle();
        let nodes = 1..=5;
        for kept in world.shares.values() {
            for stage in &kept.share.stages {
                assert!(differ(nodes.clone().map(|node| stage.on(node))) <= 1, "{kept:?}");
            }
            let stages = &kept.share.stages;
            let on = |node| stages.iter().map(|stage| stage.on(node)).sum();
            assert!(differ(nodes.clone().map(on)) <= 1, "{kept:?}");
        }
        assert!(differ(nodes.map(|node| world.of_all(node))) <= 1);
        assert_eq!(world.settle(), 0, "what is even stays");
    }
}

fn check(world: &World, before: &BTreeMap<String, Arc<Kept>>, is_up: bool) {
    assert!(world.shares.keys().eq(world.workflows.keys()));
    let is_there = |node: u64| world.sites.iter().any(|site| site.id == node);
    let mut begun = 0;
    for (name, wants) in &world.workflows {
        let stages = &world.shares[name].share.stages;
        assert_eq!(stages.len(), wants.len());
        let mut had: Vec<&OfStage> = before
            .get(name)
            .map_or(vec![], |kept| kept.share.stages.iter().collect());
        for (stage, want) in stages.iter().zip(wants) {
            assert_eq!(stage.kind, want.kind);
            assert_eq!(stage.sum(), want.count + u32::from(stage.coming.is_some()));
            assert!(stage.nodes.keys().all(|node| is_there(*node)));
            assert!(stage.coming.is_none_or(|node| stage.on(node) > 0));
            let Some(at) = had.iter().position(|had| had.kind == want.kind) else {
                continue;
            };
            let had = had.remove(at);
            begun += u32::from(stage.coming.is_some() && had.coming.is_none());
            // Of what a node that is there had, only what is too much goes.
            let left = |node: &u64| had.on(*node).saturating_sub(stage.on(*node));
            let gone: u32 = had.nodes.keys().filter(|node| is_there(**node)).map(left).sum();
            let there: u32 = (had.nodes.iter())
                .filter(|(node, _)| is_there(**node))
                .map(|(_, count)| count)
                .sum();
            let too_many = there.saturating_sub(want.count);
            assert!(gone <= too_many, "{had:?} {stage:?}");
            assert!(is_up || stage.coming.is_none() || gone + 1 >= too_many);
        }
    }
    assert!(begun <= 1, "one at a time");
}
