//! Where stages go, and why.

use std::sync::Arc;

use pipes_protocol::supply::{Kind, OfKind, Supply};

use super::*;

/// Empty nodes of four processors, 16 slots a replica, 4 replicas.
fn nodes(ids: &[u64]) -> Vec<Node> {
    let supply = Supply {
        stages_max: 128,
        processors: 4,
        memory_percent: 90,
        slots: 16,
        replicas: 4,
        ..Supply::default()
    };
    let node = |id: &u64| Node {
        id: *id,
        name: format!("n{id}"),
        supply: Some(Arc::new(supply.clone())),
        ..Node::default()
    };
    ids.iter().map(node).collect()
}

fn need(service: &str) -> Need {
    let kind = kind(service);
    Need { kind, fresh: false }
}

fn kind(service: &str) -> Kind {
    Kind {
        service: service.into(),
        digest: "sha256:00".into(),
    }
}

fn line(services: &[&str]) -> Line {
    Line {
        needs: services.iter().map(|service| need(service)).collect(),
        ..Line::default()
    }
}

fn supply(node: &mut Node) -> &mut Supply {
    Arc::make_mut(node.supply.as_mut().unwrap())
}

/// The node has a replica that can be called and is used so far.
fn warm(node: &mut Node, service: &str, used: u32) {
    let supply = supply(node);
    supply.stages += used;
    supply.kinds.push(OfKind {
        kind: kind(service),
        replicas: 1,
        idle: u32::from(used == 0),
        ready: supply.slots - used,
        ..OfKind::default()
    });
}

/// Ids of the nodes, none where it waits.
fn placed(line: &Line, nodes: &[Node], turn: usize) -> Result<Vec<u64>, String> {
    let placed = place(line, nodes, turn).map_err(|error| error.to_string())?;
    let placed = placed.unwrap_or_default();
    Ok(placed.into_iter().map(|index| nodes[index].id).collect())
}

fn ids(services: &[&str], live: &[u64], wanted: &[(&str, &str)], avoid: &[u64]) -> Result<Vec<u64>, String> {
    let wanted = wanted
        .iter()
        .map(|(stage, node)| ((*stage).to_owned(), (*node).to_owned()));
    let line = Line {
        wanted: wanted.collect(),
        avoid: avoid.iter().copied().collect(),
        ..line(services)
    };
    placed(&line, &nodes(live), 0)
}

#[test]
fn stages_go_round_nodes_that_are_alike_from_the_turn_on() {
    let line = line(&["a", "b", "c", "d"]);
    assert_eq!(placed(&line, &nodes(&[1, 2, 9]), 0), Ok(vec![1, 2, 9, 1]));
    assert_eq!(placed(&line, &nodes(&[1, 2, 9]), 4), Ok(vec![2, 9, 1, 2]));
    assert_eq!(ids(&["a", "b"], &[1], &[], &[]), Ok(vec![1, 1]));
}

#[test]
fn a_stage_that_was_given_a_node_is_there() {
    let given = [("1", "n3"), ("2", "n2"), ("c", "n1")];
    assert_eq!(ids(&["a", "b", "c"], &[1, 2, 3], &given, &[]), Ok(vec![3, 2, 1]));
    assert_eq!(ids(&["7", "b"], &[1, 2], &[("7", "n2")], &[]), Ok(vec![2, 1]));
    let number_first = ids(&["2", "b"], &[1, 2], &[("2", "n2")], &[]);
    assert_eq!(number_first, Ok(vec![1, 2]));
}

#[test]
fn avoided_nodes_get_nothing() {
    assert_eq!(ids(&["a", "b", "c"], &[1, 2, 3], &[], &[2]), Ok(vec![1, 3, 1]));
    let none_left = Err("no node takes this run now".to_owned());
    assert_eq!(ids(&["a"], &[1], &[], &[1]), none_left);
    assert_eq!(ids(&["a"], &[], &[], &[]), none_left);
    let wanted = ids(&["a"], &[1, 2], &[("1", "n2")], &[2]);
    assert_eq!(
        wanted,
        Err("--place 1=n2: node n2 does not take this run now".into())
    );
}

#[test]
fn a_warm_slot_comes_before_a_cold_start_and_then_the_least_loaded() {
    let mut nodes = nodes(&[1, 2, 3]);
    warm(&mut nodes[2], "a", 3);
    assert_eq!(placed(&line(&["a"]), &nodes, 0), Ok(vec![3]));
    warm(&mut nodes[0], "a", 2);
    assert_eq!(placed(&line(&["a"]), &nodes, 1), Ok(vec![1]));
    nodes[0].taken = vec![need("a"), need("a")];
    assert_eq!(
        placed(&line(&["a"]), &nodes, 0),
        Ok(vec![3]),
        "what is on its way counts"
    );
    assert_eq!(
        placed(&line(&["b"]), &nodes, 0),
        Ok(vec![2]),
        "all are cold for b"
    );
}

#[test]
fn a_node_short_of_memory_gets_what_others_do_not_take() {
    let mut nodes = nodes(&[1, 2]);
    supply(&mut nodes[0]).memory_percent = 5;
    supply(&mut nodes[1]).stages = 100;
    assert_eq!(placed(&line(&["a"]), &nodes, 0), Ok(vec![2]));
    supply(&mut nodes[1]).stages = 128;
    assert_eq!(placed(&line(&["a"]), &nodes, 0), Ok(vec![1]));
}

#[test]
fn neighbours_are_on_different_nodes_where_that_costs_no_waiting() {
    let mut nodes = nodes(&[1, 2]);
    warm(&mut nodes[0], "a", 0);
    warm(&mut nodes[0], "b", 0);
    assert_eq!(placed(&line(&["a", "b"]), &nodes, 0), Ok(vec![1, 2]));
    supply(&mut nodes[1]).stages = 128;
    assert_eq!(placed(&line(&["a", "b"]), &nodes, 0), Ok(vec![1, 1]));
}

#[test]
fn sixty_runs_at_once_are_even_and_none_goes_where_thirty_run_already() {
    let place_all = |nodes: &mut Vec<Node>, count: usize| {
        for turn in 0..count {
            let at = place(&line(&["a"]), nodes, turn).unwrap().unwrap()[0];
            nodes[at].taken.push(need("a"));
        }
        nodes.iter().map(|node| node.taken.len()).collect::<Vec<_>>()
    };
    assert_eq!(place_all(&mut nodes(&[1, 2, 3]), 60), [20, 20, 20]);
    let mut busy = nodes(&[1, 2, 3]);
    warm(&mut busy[0], "a", 14);
    warm(&mut busy[0], "b", 16);
    assert_eq!(place_all(&mut busy, 30), [2, 14, 14], "its last two warm slots");
}

#[test]
fn a_line_waits_where_a_slot_is_missing_and_is_placed_there_in_its_turn() {
    let mut nodes = nodes(&[1, 2, 3]);
    for node in &mut nodes {
        (supply(node).slots, supply(node).replicas) = (1, 1);
        warm(node, "a", 1);
    }
    assert_eq!(placed(&line(&["a"]), &nodes, 0), Ok(vec![]));
    assert_eq!(
        placed(&line(&["b", "a"]), &nodes, 0),
        Ok(vec![]),
        "all of it or nothing"
    );
    let in_turn = Line {
        in_turn: true,
        ..line(&["a", "a", "a"])
    };
    assert_eq!(placed(&in_turn, &nodes, 0), Ok(vec![1, 2, 3]));
    supply(&mut nodes[1]).kinds.clear();
    assert_eq!(placed(&line(&["a"]), &nodes, 0), Ok(vec![2]));
    nodes[1].refused = vec!["a".into()];
    assert_eq!(
        placed(&line(&["a"]), &nodes, 0),
        Ok(vec![]),
        "it said full, whatever it told"
    );
}

#[test]
fn what_can_be_at_no_time_is_placed_so_that_its_node_says_why() {
    let mut nodes = nodes(&[1]);
    (supply(&mut nodes[0]).slots, supply(&mut nodes[0]).replicas) = (2, 1);
    warm(&mut nodes[0], "a", 2);
    assert_eq!(placed(&line(&["a", "a"]), &nodes, 0), Ok(vec![]));
    assert_eq!(placed(&line(&["a", "a", "a"]), &nodes, 0), Ok(vec![1, 1, 1]));
}

#[test]
fn a_line_that_waits_is_given_up_at_its_first_stage_without_a_slot() {
    let mut nodes = nodes(&[1, 2]);
    for node in &mut nodes {
        (supply(node).slots, supply(node).replicas) = (1, 1);
        warm(node, "a", 1);
    }
    let if_free = |services: &[&str], nodes: &[Node]| place_if_free(&line(services), nodes, 0).unwrap();
    assert_eq!(if_free(&["b", "a"], &nodes), None);
    let too_many = ["a", "b", "b", "b"];
    assert_eq!(
        if_free(&too_many, &nodes),
        None,
        "before it is seen that it can never be"
    );
    assert!(place(&line(&too_many), &nodes, 0).unwrap().is_some());
    supply(&mut nodes[1]).kinds.clear();
    assert_eq!(if_free(&["b", "a"], &nodes), Some(vec![0, 1]));
    assert_eq!(
        if_free(&["b", "a"], &nodes),
        place(&line(&["b", "a"]), &nodes, 0).unwrap()
    );
}

#[test]
fn a_replica_of_its_own_needs_room_for_one_and_idle_ones_make_room() {
    let mut nodes = nodes(&[1]);
    supply(&mut nodes[0]).replicas = 1;
    let fresh = Need {
        fresh: true,
        ..need("a")
    };
    let line = Line {
        needs: vec![fresh.clone()],
        ..Line::default()
    };
    warm(&mut nodes[0], "a", 1);
    assert_eq!(placed(&line, &nodes, 0), Ok(vec![]));
    supply(&mut nodes[0]).kinds.clear();
    warm(&mut nodes[0], "a", 0);
    assert_eq!(placed(&line, &nodes, 0), Ok(vec![1]));
    nodes[0].taken.push(fresh);
    assert_eq!(placed(&line, &nodes, 0), Ok(vec![]));
}

#[test]
fn a_silent_node_gets_nothing_and_one_not_heard_yet_what_others_have_no_room_for() {
    let mut nodes = nodes(&[1, 2]);
    nodes[0].is_silent = true;
    assert_eq!(placed(&line(&["a", "b"]), &nodes, 0), Ok(vec![2, 2]));
    nodes[1].supply = None;
    assert_eq!(placed(&line(&["a"]), &nodes, 0), Ok(vec![2]));
    nodes[0].is_silent = false;
    assert_eq!(placed(&line(&["a"]), &nodes, 1), Ok(vec![1]));
}

#[test]
fn a_claimed_service_has_nothing_for_others() {
    let mut nodes = nodes(&[1]);
    warm(&mut nodes[0], "a", 0);
    supply(&mut nodes[0]).kinds[0].is_claimed = true;
    assert_eq!(placed(&line(&["a"]), &nodes, 0), Ok(vec![]));
    assert_eq!(placed(&line(&["b"]), &nodes, 0), Ok(vec![1]));
}

#[test]
fn wishes_that_cannot_be_met_are_refused_in_a_sentence() {
    let refuse = |wanted: &[(&str, &str)]| ids(&["cat", "sort", "cat"], &[1, 2], wanted, &[]).unwrap_err();
    assert_eq!(
        refuse(&[("4", "n1")]),
        "--place 4: the line has 3 stages, numbered from 1"
    );
    assert_eq!(
        refuse(&[("0", "n1")]),
        "--place 0: the line has 3 stages, numbered from 1"
    );
    assert_eq!(
        refuse(&[("wc", "n1")]),
        "--place wc: no stage runs wc; name one of the line or give its number from 1"
    );
    assert_eq!(
        refuse(&[("cat", "n1")]),
        "--place cat: stages 1 and 3 run cat; give a number"
    );
    assert_eq!(
        refuse(&[("1", "n7")]),
        "--place 1=n7: no node n7 is up; there are n1, n2"
    );
    let twice = refuse(&[("2", "n1"), ("sort", "n2")]);
    assert_eq!(
        twice,
        "--place: stage 2 is placed twice, on n1 and on n2; give one node"
    );
}

/// Two versions of one service.
fn versions() -> Line {
    let mut line = line(&["a", "a"]);
    line.needs[1].kind.digest = "sha256:11".into();
    line
}

#[test]
fn versions_of_a_service_need_replicas_of_their_own() {
    let mut nodes = nodes(&[1]);
    assert_eq!(placed(&versions(), &nodes, 0), Ok(vec![1, 1]));
    warm(&mut nodes[0], "a", 1);
    supply(&mut nodes[0]).replicas = 2;
    assert_eq!(placed(&versions(), &nodes, 0), Ok(vec![1, 1]));
    nodes[0].taken = vec![Need {
        fresh: true,
        ..need("a")
    }];
    assert_eq!(placed(&versions(), &nodes, 0), Ok(vec![]), "it waits");
}

#[test]
fn versions_find_room_beside_idle_replicas_of_which_one_will_do() {
    let mut nodes = nodes(&[1]);
    (supply(&mut nodes[0]).slots, supply(&mut nodes[0]).replicas) = (2, 2);
    warm(&mut nodes[0], "a", 0);
    let of = &mut supply(&mut nodes[0]).kinds[0];
    (of.replicas, of.idle, of.ready) = (2, 2, 4);
    let mut line = versions();
    line.needs.insert(0, need("a"));
    assert_eq!(placed(&line, &nodes, 0), Ok(vec![1, 1, 1]));
    nodes[0].taken = vec![need("a"), need("a")];
    assert_eq!(placed(&line, &nodes, 0), Ok(vec![]), "others may have both");
}

#[test]
fn what_a_node_keeps_serves_beside_what_its_settings_allow() {
    let mut nodes = nodes(&[1]);
    (supply(&mut nodes[0]).slots, supply(&mut nodes[0]).replicas) = (1, 1);
    warm(&mut nodes[0], "a", 0);
    let of = &mut supply(&mut nodes[0]).kinds[0];
    (of.replicas, of.idle, of.wished, of.ready) = (2, 0, 2, 0);
    assert_eq!(
        placed(&line(&["a", "a"]), &nodes, 0),
        Ok(vec![]),
        "it waits for their slots"
    );
    supply(&mut nodes[0]).kinds[0].ready = 2;
    assert_eq!(placed(&line(&["a", "a"]), &nodes, 0), Ok(vec![1, 1]));
    let own = Line {
        needs: vec![Need {
            fresh: true,
            ..need("a")
        }],
        ..Line::default()
    };
    assert_eq!(placed(&own, &nodes, 0), Ok(vec![1]), "the setting is left to it");
}

#[test]
fn versions_that_fit_no_empty_node_together_are_told_by_the_node() {
    let mut nodes = nodes(&[1]);
    supply(&mut nodes[0]).replicas = 1;
    assert_eq!(placed(&versions(), &nodes, 0), Ok(vec![1, 1]));
    warm(&mut nodes[0], "a", 0);
    nodes[0].taken = vec![need("a")];
    let other = Line {
        needs: vec![versions().needs.remove(1)],
        ..Line::default()
    };
    assert_eq!(
        placed(&other, &nodes, 0),
        Ok(vec![]),
        "what is idle is given to another"
    );
}
