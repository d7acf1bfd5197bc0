//! What this node's coordinator knows of all nodes' supply, and who waits for it.
//!
//! ```text
//! told n2 [a: 1 free]    -> the oldest run that waits and fits is offered it, and woken
//! place r7 [a]           -> its offer; else where there is room; else it waits
//! refused by n2          -> n2 has none of that service until it tells again
//! ```
//!
//! Always: (1) what a run was given counts until its node has said that it reserved it, and told its supply after that;
//! (2) a run that waits holds nothing; what is free is offered to the oldest that fits, so that whoever comes later takes
//! what is left; (3) who was overtaken so often asks its nodes in turn; (4) who waits there and has nothing yet is offered
//! what is free elsewhere all the same, so often and no more: each time it leaves its place.
//! Not here: which node is the best (`placement/`), how what nodes tell comes here (`peers.rs`).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pipes_protocol::supply::Supply;
use tokio::time::Instant;

use crate::workflow::placement::{self, Error, Line, Need, Node};
use crate::workflow::runs::registry::{Notice, Registry};

/// A node that has told nothing for so long does not speak; it tells something every second.
pub const SILENT_AFTER: Duration = Duration::from_secs(3);
/// So often a run may be overtaken by younger ones, or refused, before it asks its nodes in turn.
pub const OVERTAKEN_MAX: u32 = 5;
/// So often a run may leave its place in a node's order for what is free elsewhere: what was told may be gone by then, and
/// others have come before it meanwhile.
const MOVES_MAX: u32 = 5;
/// Lines that may find nothing before what is free is offered no further: the next time those behind them are looked at.
const UNLIKE_MAX: usize = 64;

/// The supply of all nodes. A cheap handle.
#[derive(Clone)]
pub struct Supplies(Arc<Shared>);

struct Shared {
    own: u64,
    reached: Box<dyn Fn() -> Vec<(u64, String)> + Send + Sync>,
    registry: Registry,
    state: Mutex<State>,
}

struct State {
    known: BTreeMap<u64, Known>,
    /// By the run's id, which the older has the smaller.
    waiting: BTreeMap<String, Waiting>,
    /// What is given and not counted by its node yet.
    given: BTreeMap<u64, Vec<Given>>,
    last_grant: u64,
    turn: u16,
    /// The run behind which the last offer was given up, if it was.
    looked_upto: Option<String>,
}

/// What is known of a node.
struct Known {
    supply: Option<Arc<Supply>>,
    told: Instant,
    is_silent: bool,
    refused: Vec<String>,
}

impl Default for Known {
    fn default() -> Known {
        Known {
            supply: None,
            told: Instant::now(),
            is_silent: false,
            refused: Vec::new(),
        }
    }
}

struct Given {
    node: u64,
    need: Need,
    /// Its node has it reserved: what that tells next counts it.
    is_reserved: bool,
}

struct Waiting {
    line: Line,
    overtaken: u32,
    offer: Option<(u64, Vec<(u64, String)>)>,
}

/// A run's place among those that want slots; leaves with it.
pub struct Seat {
    supplies: Supplies,
    run: String,
    /// How often it has waited in turn, ready to leave its place for an offer.
    moves: AtomicU32,
}

/// Nodes for an attempt. Dropped, what it was given counts no more.
pub struct Grant {
    supplies: Supplies,
    id: u64,
    run: String,
    /// A node for each stage.
    pub nodes: Vec<(u64, String)>,
    /// They are to be asked in turn.
    pub in_turn: bool,
}

impl Supplies {
    /// Of nodes that have told nothing yet; `reached` gives ids and names of those there are, by id, of which `own` is one.
    pub fn new(
        own: u64,
        reached: impl Fn() -> Vec<(u64, String)> + Send + Sync + 'static,
        registry: Registry,
    ) -> Supplies {
        Supplies(Arc::new(Shared {
            own,
            reached: Box::new(reached),
            registry,
            state: Mutex::new(State {
                known: BTreeMap::new(),
                waiting: BTreeMap::new(),
                given: BTreeMap::new(),
                last_grant: 0,
                // Not the same for all nodes, or the first one would have the first run of each.
                turn: rand::random(),
                looked_upto: None,
            }),
        }))
    }

    /// A run that is going to want slots.
    pub fn seat(&self, run: &str) -> Seat {
        Seat {
            supplies: self.clone(),
            run: run.to_owned(),
            moves: AtomicU32::new(0),
        }
    }

    /// A node told what it has.
    pub fn told(&self, node: u64, supply: Supply) {
        let mut state = self.lock();
        let known = Known {
            supply: Some(Arc::new(supply)),
            told: Instant::now(),
            is_silent: false,
            refused: Vec::new(),
        };
        state.known.insert(node, known);
        for given in state.given.values_mut() {
            given.retain(|given| given.node != node || !given.is_reserved);
        }
        self.offer(&mut state);
    }

    /// A node tells nothing any more.
    pub fn lost(&self, node: u64) {
        self.lock().known.remove(&node);
    }

    /// What each node has that is reached and speaks, by its id.
    pub fn spoken(&self) -> BTreeMap<u64, Arc<Supply>> {
        let nodes = self.view(&self.lock()).into_iter();
        let spoken = nodes.filter(|node| !node.is_silent);
        spoken.filter_map(|node| Some((node.id, node.supply?))).collect()
    }

    /// Offers what is free to those that wait, the oldest first, and wakes them.
    fn offer(&self, state: &mut State) {
        if state.waiting.values().all(|waiting| waiting.offer.is_some()) {
            return;
        }
        let mut nodes = self.view(state);
        let (before, behind): (Vec<String>, Vec<String>) = (state.waiting.keys().cloned())
            .partition(|run| state.looked_upto.as_ref().is_some_and(|upto| run <= upto));
        state.looked_upto = None;
        // Where many wait for the same, one of them is looked at.
        let mut found_none: Vec<Line> = Vec::new();
        for run in behind.into_iter().chain(before) {
            let Some(waiting) = state.waiting.get(&run).filter(|waiting| waiting.offer.is_none()) else {
                continue;
            };
            if found_none.contains(&waiting.line) {
                continue;
            }
            let line = waiting.line.clone();
            // A wish that cannot be met by now is told when the run asks again.
            let Ok(Some(placed)) = placement::place_if_free(&line, &nodes, state.turn.into()) else {
                found_none.push(line);
                if found_none.len() == UNLIKE_MAX {
                    state.looked_upto = Some(run);
                    return;
                }
                continue;
            };
            let offer = state.give(&run, &line, &mut nodes, &placed, &self.0.registry);
            if let Some(waiting) = state.waiting.get_mut(&run) {
                waiting.offer = Some(offer);
                self.0.registry.notify(&run, Notice::Freed);
            }
        }
    }

    /// A run wants nothing more: others may have what it was offered.
    fn leave(&self, state: &mut State, run: &str) {
        let waited = state.waiting.remove(run);
        if let Some((id, _)) = waited.and_then(|waited| waited.offer) {
            state.given.remove(&id);
            self.offer(state);
        }
    }

    /// The nodes that are reached, as they are known here.
    fn view(&self, state: &State) -> Vec<Node> {
        let now = Instant::now();
        let node = |(id, name): (u64, String)| {
            let known = state.known.get(&id);
            let taken = state.given.values().flatten().filter(|given| given.node == id);
            Node {
                id,
                name,
                supply: known.and_then(|known| known.supply.clone()),
                is_silent: known.is_some_and(|known| {
                    known.is_silent || id != self.0.own && now.duration_since(known.told) > SILENT_AFTER
                }),
                taken: taken.map(|given| given.need.clone()).collect(),
                refused: known.map(|known| known.refused.clone()).unwrap_or_default(),
            }
        };
        (self.0.reached)().into_iter().map(node).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Plain data: a panic elsewhere leaves it whole.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Notes what a run is given; those that are older, still wait and want the same were overtaken.
    fn give(
        &mut self,
        run: &str,
        line: &Line,
        nodes: &mut [Node],
        placed: &[usize],
        registry: &Registry,
    ) -> (u64, Vec<(u64, String)>) {
        self.turn = self.turn.wrapping_add(1);
        self.last_grant += 1;
        let mut given = Vec::with_capacity(placed.len());
        for (at, need) in placed.iter().zip(&line.needs) {
            if line.in_turn {
                // It has nothing but what its nodes tell.
                continue;
            }
            nodes[*at].taken.push(need.clone());
            given.push(Given {
                node: nodes[*at].id,
                need: need.clone(),
                is_reserved: false,
            });
        }
        self.given.insert(self.last_grant, given);
        for (older, waiting) in self.waiting.range_mut(..run.to_owned()) {
            let wants_same = |need: &Need| line.needs.iter().any(|ours| ours.kind == need.kind);
            if waiting.offer.is_none() && waiting.line.needs.iter().any(wants_same) {
                waiting.overtaken += 1;
                if waiting.overtaken == OVERTAKEN_MAX {
                    registry.notify(older, Notice::Freed);
                }
            }
        }
        let placed = placed.iter().map(|at| (nodes[*at].id, nodes[*at].name.clone()));
        (self.last_grant, placed.collect())
    }
}

impl Seat {
    /// A node for each stage; `None` where it has to wait: it is told [`Notice::Freed`] when it is to ask again.
    pub fn place(&self, line: Line) -> Result<Option<Grant>, Error> {
        let mut state = self.supplies.lock();
        let mut overtaken = 0;
        if let Some(waited) = state.waiting.remove(&self.run) {
            if let Some((id, nodes)) = waited.offer {
                if waited.line.avoid.is_superset(&line.avoid) {
                    // As it was offered: only one that asks in turn is offered what others have.
                    return Ok(Some(self.grant(id, nodes, waited.line.in_turn)));
                }
                // A node of it may have failed since.
                state.given.remove(&id);
            }
            overtaken = waited.overtaken;
        }
        let line = Line {
            in_turn: line.in_turn || overtaken >= OVERTAKEN_MAX,
            ..line
        };
        let mut nodes = self.supplies.view(&state);
        let placed = match placement::place(&line, &nodes, state.turn.into()) {
            Ok(placed) => placed,
            Err(error) => {
                // It keeps its place meanwhile.
                let waiting = Waiting {
                    line,
                    overtaken,
                    offer: None,
                };
                state.waiting.insert(self.run.clone(), waiting);
                return Err(error);
            }
        };
        if let Some(placed) = placed {
            let registry = &self.supplies.0.registry;
            let (id, placed) = state.give(&self.run, &line, &mut nodes, &placed, registry);
            let in_turn = line.in_turn;
            if in_turn && self.moves.fetch_add(1, Ordering::Relaxed) < MOVES_MAX {
                // Where it has to wait in turn, it may have what frees elsewhere first.
                let waiting = Waiting {
                    line: Line {
                        in_turn: false,
                        ..line
                    },
                    overtaken,
                    offer: None,
                };
                state.waiting.insert(self.run.clone(), waiting);
            }
            return Ok(Some(self.grant(id, placed, in_turn)));
        }
        let waiting = Waiting {
            line,
            overtaken,
            offer: None,
        };
        state.waiting.insert(self.run.clone(), waiting);
        Ok(None)
    }

    /// A node had no slot of these services, whatever it told.
    pub fn refused(&self, node: u64, services: impl Iterator<Item = String>) {
        let mut state = self.supplies.lock();
        let refused = &mut state.known.entry(node).or_default().refused;
        for service in services {
            // Once each: one that tells nothing more would be refused by for ever.
            if !refused.contains(&service) {
                refused.push(service);
            }
        }
    }

    /// A node did not say a word when it was asked.
    pub fn silent(&self, node: u64) {
        let mut state = self.supplies.lock();
        state.known.entry(node).or_default().is_silent = true;
    }

    fn grant(&self, id: u64, nodes: Vec<(u64, String)>, in_turn: bool) -> Grant {
        Grant {
            supplies: self.supplies.clone(),
            id,
            run: self.run.clone(),
            nodes,
            in_turn,
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.supplies.lock();
        self.supplies.leave(&mut state, &self.run);
    }
}

impl Grant {
    /// A node has what it was asked for.
    pub fn reserved(&self, node: u64) {
        let mut state = self.supplies.lock();
        if let Some(given) = state.given.get_mut(&self.id) {
            let there = given.iter_mut().filter(|given| given.node == node);
            there.for_each(|given| given.is_reserved = true);
        }
        if self.in_turn {
            // What it has it keeps: who let it go for an offer each time might never have all.
            self.supplies.leave(&mut state, &self.run);
        }
    }

    /// Whether all that its run wants was found free elsewhere while it waits in turn.
    pub fn is_outdone(&self) -> bool {
        let state = self.supplies.lock();
        let waiting = state.waiting.get(&self.run);
        waiting.is_some_and(|waiting| waiting.offer.is_some())
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        let mut state = self.supplies.lock();
        let given = state.given.remove(&self.id);
        if given.is_some_and(|given| !given.is_empty()) {
            self.supplies.offer(&mut state);
        }
    }
}

#[cfg(test)]
mod tests;
