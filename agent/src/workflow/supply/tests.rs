//! Who gets what is free, and who is woken for it.

use pipes_protocol::supply::{Kind, OfKind};
use tokio::sync::mpsc;

use super::*;
use crate::workflow::runs::registry::Guard;
use crate::workflow::runs::view::Run;

/// Three nodes of one slot of `a` each, seen from the first.
struct World {
    supplies: Supplies,
    registry: Registry,
}

/// A run that wants slots.
struct Wanting {
    seat: Seat,
    notices: mpsc::Receiver<Notice>,
    line: Line,
    _guard: Guard,
}

impl World {
    fn new() -> World {
        let registry = Registry::default();
        let reached = || (1..=3).map(|id| (id, format!("n{id}"))).collect();
        let supplies = Supplies::new(1, reached, registry.clone());
        let world = World { supplies, registry };
        (1..=3).for_each(|node| world.told(node, 1));
        world
    }

    /// The node has so many free slots of `a`; others wait for what it has of `b`.
    fn told(&self, node: u64, ready: u32) {
        let supply = Supply {
            stages: 1 - ready,
            stages_max: 64,
            processors: 1,
            memory_percent: 100,
            slots: 1,
            replicas: 1,
            kinds: vec![
                OfKind {
                    kind: need("a").kind,
                    replicas: 1,
                    ready,
                    ..OfKind::default()
                },
                OfKind {
                    kind: need("b").kind,
                    is_claimed: true,
                    ..OfKind::default()
                },
            ],
        };
        self.supplies.told(node, supply);
    }

    fn run(&self, id: &str, stages: usize) -> Wanting {
        let run = Run {
            id: id.into(),
            ..Run::default()
        };
        let (guard, notices) = self.registry.enter(run, None).unwrap();
        Wanting {
            seat: self.supplies.seat(id),
            notices,
            line: Line {
                needs: vec![need("a"); stages],
                ..Line::default()
            },
            _guard: guard,
        }
    }
}

impl Wanting {
    fn place(&self) -> Option<Grant> {
        self.seat.place(self.line.clone()).unwrap()
    }

    fn is_woken(&mut self) -> bool {
        self.notices.try_recv().is_ok()
    }
}

fn need(service: &str) -> Need {
    let kind = Kind {
        service: service.into(),
        digest: "sha256:00".into(),
    };
    Need { kind, fresh: false }
}

#[test]
fn runs_begun_at_once_are_on_different_nodes_and_the_fourth_waits() {
    let world = World::new();
    let runs: Vec<Wanting> = (1..=4).map(|run| world.run(&format!("r{run}"), 1)).collect();
    let grants: Vec<Option<Grant>> = runs.iter().map(Wanting::place).collect();
    let mut nodes: Vec<u64> = grants.iter().flatten().map(|grant| grant.nodes[0].0).collect();
    nodes.sort_unstable();
    assert_eq!(nodes, [1, 2, 3]);
    assert!(grants[3].is_none());
}

#[test]
fn the_oldest_that_waits_is_offered_the_first_slot_that_frees_anywhere() {
    let world = World::new();
    (1..=3).for_each(|node| world.told(node, 0));
    let mut runs: Vec<Wanting> = (1..=3).map(|run| world.run(&format!("r{run}"), 1)).collect();
    assert!(runs.iter().rev().all(|run| run.place().is_none()));
    world.told(3, 1);
    assert_eq!(
        runs.iter_mut().map(Wanting::is_woken).collect::<Vec<_>>(),
        [true, false, false]
    );
    let late = world.run("r4", 1);
    assert!(late.place().is_none(), "it is offered already");
    let grant = runs[0].place().unwrap();
    assert_eq!(grant.nodes[0].0, 3);
    let gone = runs.remove(1);
    world.told(1, 1);
    drop(gone);
    assert!(runs[1].is_woken(), "what the other was offered is the next one's");
    assert_eq!(runs[1].place().unwrap().nodes[0].0, 1);
}

#[test]
fn what_was_given_counts_until_its_node_tells_it() {
    let world = World::new();
    (2..=3).for_each(|node| world.told(node, 0));
    let (first, second) = (world.run("r1", 1), world.run("r2", 1));
    let grant = first.place().unwrap();
    world.told(1, 1);
    assert!(second.place().is_none(), "what was told is older than the grant");
    grant.reserved(1);
    world.told(1, 0);
    world.told(1, 1);
    assert!(
        second.place().is_some(),
        "its end was told before it was seen here"
    );
    drop(grant);
}

#[test]
fn a_grant_that_came_to_nothing_is_offered_to_others() {
    let world = World::new();
    (2..=3).for_each(|node| world.told(node, 0));
    let (first, mut second) = (world.run("r1", 1), world.run("r2", 1));
    let grant = first.place();
    assert!(second.place().is_none());
    drop(grant);
    assert!(second.is_woken());
}

#[test]
fn a_long_line_that_was_overtaken_five_times_asks_in_turn() {
    let world = World::new();
    world.told(1, 0);
    let mut long = world.run("r1", 3);
    assert!(long.place().is_none());
    for younger in 2..=6 {
        assert!(!long.is_woken());
        let younger = world.run(&format!("r{younger}"), 1);
        assert!(younger.place().is_some_and(|grant| !grant.in_turn));
    }
    assert!(long.is_woken());
    let grant = long.place().unwrap();
    assert!(grant.in_turn);
    assert_eq!(grant.nodes.len(), 3);
}

#[test]
fn who_is_to_ask_in_turn_and_is_offered_slots_asks_in_turn() {
    let world = World::new();
    world.told(1, 0);
    let mut run = world.run("r1", 3);
    assert!(run.place().is_none());
    run.line.in_turn = true;
    assert!(run.place().is_some_and(|grant| grant.in_turn));
    (1..=3).for_each(|node| world.told(node, 0));
    run.line.in_turn = false;
    assert!(run.place().is_none());
    (1..=3).for_each(|node| world.told(node, 1));
    run.line.in_turn = true;
    assert!(
        run.place().is_some_and(|grant| !grant.in_turn),
        "they are its own: nobody has to be asked in turn"
    );
}

#[test]
fn who_waits_in_turn_and_has_nothing_is_offered_what_frees_elsewhere() {
    let world = World::new();
    (1..=3).for_each(|node| world.told(node, 0));
    let mut run = world.run("r1", 1);
    run.line.in_turn = true;
    for _ in 0..MOVES_MAX {
        let grant = run.place().unwrap();
        assert!(grant.in_turn && !grant.is_outdone());
        world.told(2, 1);
        assert!(run.is_woken() && grant.is_outdone());
        drop(grant);
        let grant = run.place().unwrap();
        assert_eq!((grant.nodes[0].0, grant.in_turn), (2, false));
        world.told(2, 0);
    }
    let grant = run.place().unwrap();
    world.told(2, 1);
    assert!(
        !grant.is_outdone() && !run.is_woken(),
        "it keeps its place at last"
    );
}

#[test]
fn who_has_slots_of_one_node_is_offered_nothing_elsewhere() {
    let world = World::new();
    (1..=3).for_each(|node| world.told(node, 0));
    let (mut run, mut younger) = (world.run("r1", 1), world.run("r2", 1));
    run.line.in_turn = true;
    let grant = run.place().unwrap();
    assert!(younger.place().is_none());
    world.told(2, 1);
    assert!(grant.is_outdone() && !younger.is_woken());
    grant.reserved(grant.nodes[0].0);
    assert!(!grant.is_outdone());
    assert!(younger.is_woken(), "what it was offered is the next one's");
}

#[test]
fn an_offer_of_a_node_that_failed_meanwhile_is_not_taken() {
    let world = World::new();
    (1..=3).for_each(|node| world.told(node, 0));
    let mut run = world.run("r1", 1);
    run.line.in_turn = true;
    let grant = run.place().unwrap();
    world.told(2, 1);
    assert!(grant.is_outdone());
    drop(grant);
    run.line.avoid = [2].into();
    assert!(run.place().is_some_and(|grant| grant.nodes[0].0 != 2));
}

#[test]
fn so_many_lines_that_find_nothing_are_looked_at_and_the_next_time_those_behind() {
    let world = World::new();
    (1..=3).for_each(|node| world.told(node, 0));
    let unlike = (0..UNLIKE_MAX as u64).map(|number| {
        let mut run = world.run(&format!("r{number:03}"), 1);
        run.line.needs = vec![need("b")];
        run.line.avoid = [100 + number].into();
        run
    });
    let unlike: Vec<Wanting> = unlike.collect();
    let mut last = world.run("r999", 1);
    assert!(unlike.iter().chain([&last]).all(|run| run.place().is_none()));
    world.told(1, 1);
    assert!(!last.is_woken());
    world.told(2, 0);
    assert!(last.is_woken());
}

#[test]
fn a_node_that_refused_or_was_silent_is_left_alone_until_it_tells_again() {
    let world = World::new();
    (2..=3).for_each(|node| world.told(node, 0));
    let mut run = world.run("r1", 1);
    run.seat.refused(1, ["a".to_owned()].into_iter());
    assert!(run.place().is_none());
    world.told(1, 1);
    assert!(run.is_woken() && run.place().is_some());
    run.seat.silent(1);
    assert!(run.place().is_none());
    world.told(1, 1);
    assert!(run.place().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_tells_nothing_any_more_gets_nothing_but_ones_own_pool_always_speaks() {
    let world = World::new();
    tokio::time::advance(SILENT_AFTER + Duration::from_millis(1)).await;
    let run = world.run("r1", 1);
    assert_eq!(run.place().unwrap().nodes[0].0, 1);
}
