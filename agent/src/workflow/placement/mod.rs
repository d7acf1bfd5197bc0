//! Which node runs which stage. Pure.
//!
//! ```text
//! stages a b c d   nodes 1 2 3, all alike, turn 1      2 3 1 2
//! the same, --place 3=n2                                2 3 2 1
//! the same, node 3 to be avoided                        2 1 2 1
//! a                node 3 has a warm slot               3
//! a                all are warm, 2 runs the fewest      2
//! a                no slot of a anywhere                full: it waits, holding nothing
//! ```
//!
//! What is better, the first difference first: a slot that is there or can be made now; another node than the stage
//! before; a warm slot before a cold start; memory left; fewer stages a processor; then each in its turn.
//!
//! Always: (1) a stage that was given a node is on that node, or the line is refused, or it waits; (2) a line of which one
//! stage finds nothing is placed nowhere, unless it is to ask its nodes in turn and wait there; (3) what can be at no time
//! is placed all the same, and the node that refuses it says why; (4) the choice depends on the arguments alone.

mod node;
mod stages;

use std::collections::{BTreeMap, BTreeSet};

pub use node::{Need, Node};
pub use stages::{Error, StageError, stage_index};

use crate::workflow::placement::node::Room;
use crate::workflow::placement::stages::fixed;

/// Below this part of its memory a node gets what others do not take.
const MEMORY_PERCENT_MIN: u32 = 10;

/// A line that is to be placed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line {
    /// What its stages need, in their order.
    pub needs: Vec<Need>,
    /// From a stage, by its number from 1 or its service's name, to a node's name.
    pub wanted: BTreeMap<String, String>,
    /// Nodes that failed this run before its start.
    pub avoid: BTreeSet<u64>,
    /// It asks its nodes in turn, and waits there where nothing is free.
    pub in_turn: bool,
}

/// Gives each stage a node, by its index in `nodes`; `None` where no slot is left for one of them. `turn` decides between
/// nodes that are alike.
pub fn place(line: &Line, nodes: &[Node], turn: usize) -> Result<Option<Vec<usize>>, Error> {
    place_so(line, nodes, turn, false)
}

/// The same, given up at the first stage that finds no slot, so that a long line that waits costs little each time a node
/// tells something; what can be at no time is not told apart then.
pub fn place_if_free(line: &Line, nodes: &[Node], turn: usize) -> Result<Option<Vec<usize>>, Error> {
    place_so(line, nodes, turn, !line.in_turn)
}

fn place_so(
    line: &Line,
    nodes: &[Node],
    turn: usize,
    is_given_up: bool,
) -> Result<Option<Vec<usize>>, Error> {
    let services: Vec<&str> = line.needs.iter().map(|need| need.kind.service.as_str()).collect();
    let fixed = fixed(&services, nodes, &line.wanted, &line.avoid)?;
    let mut placed: Vec<usize> = Vec::with_capacity(line.needs.len());
    let (mut waits, mut never) = (false, false);
    for index in 0..fixed.len() {
        let candidates = (0..nodes.len()).filter(|candidate| match fixed[index] {
            Some(fixed) => fixed == *candidate,
            None => !line.avoid.contains(&nodes[*candidate].id),
        });
        let ranked =
            candidates.map(|candidate| (rank(line, &placed, &fixed, nodes, candidate, turn), candidate));
        let (rank, best) = ranked.min().ok_or(Error::NoneLeft)?;
        if is_given_up && rank.room == Room::None {
            return Ok(None);
        }
        waits |= rank.room == Room::None;
        never |= rank.room == Room::Never;
        placed.push(best);
        debug_assert_eq!(placed.len(), index + 1);
    }
    let is_placed = line.in_turn || never || !waits;
    Ok(is_placed.then_some(placed))
}

/// How good a node is for a stage; the least is the best.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    room: Room,
    is_silent: bool,
    is_neighbours: bool,
    is_cold: bool,
    is_short_of_memory: bool,
    load: u64,
    turn: usize,
}

/// The rank of a node for the stage that comes after those that are placed; later ones may be `fixed`, and come first.
fn rank(
    line: &Line,
    placed: &[usize],
    fixed: &[Option<usize>],
    nodes: &[Node],
    candidate: usize,
    turn: usize,
) -> Rank {
    let node = &nodes[candidate];
    let later = fixed.iter().skip(placed.len() + 1).copied();
    let taken = placed.iter().map(|at| Some(*at)).chain([None]).chain(later);
    let here: Vec<&Need> = taken
        .zip(&line.needs)
        .filter(|(at, _)| *at == Some(candidate))
        .map(|(_, need)| need)
        .collect();
    let (room, is_cold) = node.room(&line.needs[placed.len()], &here);
    let (load, memory_percent) = node.load(here.len());
    Rank {
        room,
        is_silent: node.is_silent,
        is_neighbours: placed.last() == Some(&candidate)
            || fixed.get(placed.len() + 1) == Some(&Some(candidate)),
        is_cold,
        is_short_of_memory: memory_percent < MEMORY_PERCENT_MIN,
        load,
        turn: (candidate + nodes.len() - turn % nodes.len()) % nodes.len(),
    }
}

#[cfg(test)]
mod tests;
