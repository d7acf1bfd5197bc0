//! How many replicas of each stage which node holds. Pure.
//!
//! ```text
//! a wants 5; nodes 1 2 3       2 2 1
//! node 2 is lost               3 - 2    what it had is elsewhere, nothing else moves
//! it is back                   3 0 2    nothing moves at once
//! it has been well for 30 s    3 1 2    one more there: it comes
//! that one can be called       2 1 2    one less where most are
//! a wants 3                    1 1 1
//! ```
//!
//! Always: (1) a stage has as many as it wants, and one more while one comes, on nodes that are there and that it may be
//! on; (2) what is there stays there, but for what a lower wish, a lost node or evening out takes; (3) evened out, the
//! stages' counts on any two nodes differ by one at most, so do each workflow's and then all workflows', where no stage is
//! bound to a node; (4) evening out moves one replica at a time, and none of a stage of which one is missing.
//! Not here: who writes it (`controller.rs`), replicas that run for a run alone (the pool's).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pipes_protocol::supply::Kind;

use crate::workflow::daemon::record::Workflow;
use crate::workflow::daemon::rendezvous::weight;
use crate::workflow::daemon::share::{Kept, OfStage, Share};
use crate::workflow::placement::stage_index;

/// What a stage wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// What its replicas are.
    pub kind: Kind,
    /// How many there should be.
    pub count: u32,
    /// The name of the node it is bound to.
    pub only: Option<String>,
}

/// A node that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// It has been well for long enough that replicas move to it.
    pub is_settled: bool,
}

/// How it is with what a node is to hold of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// All of it can be called.
    Up,
    /// Not yet.
    Starting,
    /// Not, since something fails.
    Failing,
}

/// What is found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spread {
    /// The shares of all workflows, by name.
    pub shares: BTreeMap<String, Share>,
    /// A replica comes, or one is to move as soon as it may: it is to be found anew before long.
    pub is_moving: bool,
}

/// What the stages of a workflow want that is to run.
pub fn wants(workflow: &Workflow) -> Vec<Want> {
    let definition = &workflow.definition;
    let services: Vec<&str> = (definition.stages.iter())
        .map(|stage| stage.service.as_str())
        .collect();
    // What names no stage was refused when it was written.
    let place = &definition.options.place;
    let places = place
        .iter()
        .map(|(stage, node)| (stage_index(&services, stage).ok(), node));
    let only: BTreeMap<Option<usize>, &String> = places.collect();
    let want = |(index, stage): (usize, &crate::workflow::daemon::record::Stage)| Want {
        kind: Kind {
            service: stage.service.clone(),
            digest: stage.digest.clone(),
        },
        count: definition
            .options
            .replicas
            .get(&(index as u32 + 1))
            .copied()
            .unwrap_or(1),
        only: only.get(&Some(index)).map(|node| (*node).clone()),
    };
    definition.stages.iter().enumerate().map(want).collect()
}

/// Finds the shares of all workflows that are to run, from what was there `before` and what has become of it.
pub fn spread(
    workflows: &BTreeMap<String, Vec<Want>>,
    sites: &[Site],
    before: &BTreeMap<String, Arc<Kept>>,
    state: impl Fn(u64, &Kind) -> State,
) -> Spread {
    let mut board = Board {
        sites,
        rows: Vec::new(),
        of_workflow: BTreeMap::new(),
        of_all: BTreeMap::new(),
        state: &state,
    };
    for (workflow, wants) in workflows {
        let stages = before.get(workflow).map(|kept| kept.share.stages.as_slice());
        board.lay(workflow, wants, stages.unwrap_or_default());
    }
    for row in 0..board.rows.len() {
        board.meet(row);
    }
    let is_moving = board.even_out();
    let mut shares = BTreeMap::<String, Share>::new();
    for row in board.rows {
        let share = shares.entry(row.workflow.to_owned()).or_default();
        row.workflow.clone_into(&mut share.workflow);
        share.stages.push(row.share);
    }
    Spread { shares, is_moving }
}

/// A stage.
struct Row<'a> {
    workflow: &'a str,
    want: &'a Want,
    share: OfStage,
}

struct Board<'a> {
    sites: &'a [Site],
    /// In the order of workflows and their stages.
    rows: Vec<Row<'a>>,
    /// What each workflow has on each node.
    of_workflow: BTreeMap<(&'a str, u64), u32>,
    /// What all have there.
    of_all: BTreeMap<u64, u32>,
    state: &'a dyn Fn(u64, &Kind) -> State,
}

/// A replica of a stage that is to move.
struct Move {
    row: usize,
    to: u64,
}

impl<'a> Board<'a> {
    /// Takes up a workflow's stages with what is left of what they had.
    fn lay(&mut self, workflow: &'a str, wants: &'a [Want], before: &[OfStage]) {
        let mut unused: Vec<&OfStage> = before.iter().collect();
        for want in wants {
            // A changed line keeps the replicas of the stages that are still in it.
            let same = unused.iter().position(|stage| stage.kind == want.kind);
            let had = same.map(|at| unused.remove(at)).cloned().unwrap_or_default();
            let there: BTreeSet<u64> = self.eligible(want).map(|site| site.id).collect();
            self.rows.push(Row {
                workflow,
                want,
                share: OfStage {
                    kind: want.kind.clone(),
                    nodes: BTreeMap::new(),
                    coming: had.coming.filter(|node| there.contains(node)),
                },
            });
            for (node, count) in had.nodes.into_iter().filter(|(node, _)| there.contains(node)) {
                (0..count).for_each(|_| self.put(self.rows.len() - 1, node));
            }
        }
    }

    /// Gives a stage what is missing, takes what is too much, and ends a move whose replica has come.
    fn meet(&mut self, row: usize) {
        let count = self.rows[row].want.count;
        let share = &mut self.rows[row].share;
        if share.sum() <= count {
            // What came is needed where it is.
            share.coming = None;
        }
        if let Some(node) = share.coming
            && (self.state)(node, &share.kind) == State::Up
        {
            share.coming = None;
            self.take(row, Some(node));
        }
        while self.rows[row].share.sum() < count {
            let Some(node) = self.emptiest(row) else {
                // It is bound to a node that is not there.
                return;
            };
            self.put(row, node);
        }
        loop {
            let share = &self.rows[row].share;
            if share.sum() <= count + u32::from(share.coming.is_some()) {
                return;
            }
            let coming = share.coming;
            self.take(row, coming);
        }
    }

    /// The node where a stage gets one more.
    fn emptiest(&self, row: usize) -> Option<u64> {
        let eligible = self.eligible(self.rows[row].want).map(|site| site.id);
        eligible.min_by_key(|node| self.fullness(row, *node))
    }

    /// By what a node is the better one for a stage: there the stage has fewer, then its workflow, its neighbours in the
    /// line, and then all.
    fn fullness(&self, row: usize, node: u64) -> (u32, u32, u32, u32, Reverse<u64>) {
        let of = &self.rows[row];
        (
            of.share.on(node),
            self.of_workflow(row, node),
            self.of_neighbours(row, node),
            self.of_all(node),
            Reverse(weight(of.workflow, node)),
        )
    }

    /// Takes one from a stage: where it has most, of those one that is not up, then where its workflow and then all have
    /// most; not where one comes.
    fn take(&mut self, row: usize, coming: Option<u64>) {
        let of = &self.rows[row];
        let key = |node: &u64| {
            let is_missing = (self.state)(*node, &of.share.kind) != State::Up;
            let (of_workflow, of_all) = (self.of_workflow(row, *node), self.of_all(*node));
            let weight = weight(of.workflow, *node);
            (
                Some(*node) != coming,
                of.share.on(*node),
                is_missing,
                of_workflow,
                of_all,
                Reverse(weight),
            )
        };
        let fullest = of.share.nodes.keys().copied().max_by_key(key);
        let Some(node) = fullest else {
            return;
        };
        let Row { workflow, share, .. } = &mut self.rows[row];
        let fewer = [
            share.nodes.get_mut(&node),
            self.of_workflow.get_mut(&(*workflow, node)),
            self.of_all.get_mut(&node),
        ];
        fewer.into_iter().flatten().for_each(|count| *count -= 1);
        share.nodes.retain(|_, count| *count > 0);
    }

    fn put(&mut self, row: usize, node: u64) {
        let Row { workflow, share, .. } = &mut self.rows[row];
        *share.nodes.entry(node).or_default() += 1;
        *self.of_workflow.entry((*workflow, node)).or_default() += 1;
        *self.of_all.entry(node).or_default() += 1;
    }

    /// Begins a move, if one is needed and none is under way; whether one is to be waited for.
    fn even_out(&mut self) -> bool {
        let is_coming = |row: &Row<'_>| row.share.coming.is_some();
        // One that fails may never come, and keeps nothing up but its own stage.
        let blocks = |row: &Row<'_>| {
            let coming = row.share.coming;
            coming.is_some_and(|node| (self.state)(node, &row.share.kind) != State::Failing)
        };
        if self.rows.iter().any(blocks) {
            return true;
        }
        let is_steady = |row: &Row<'_>| {
            let mut nodes = row.share.nodes.keys();
            row.share.sum() == row.want.count
                && nodes.all(|node| (self.state)(*node, &row.share.kind) == State::Up)
        };
        if let Some(Move { row, to }) = self.find_move(|row| !is_coming(row) && is_steady(row)) {
            self.put(row, to);
            self.rows[row].share.coming = Some(to);
            return true;
        }
        self.rows.iter().any(is_coming) || self.find_move(|_| true).is_some()
    }

    /// The first move that makes it more even: of a stage, else of a workflow, else of all.
    fn find_move(&self, may: impl Fn(&Row<'_>) -> bool) -> Option<Move> {
        let rows: Vec<usize> = (0..self.rows.len())
            .filter(|row| self.rows[*row].want.only.is_none() && may(&self.rows[*row]))
            .collect();
        let find = |is_better: &dyn Fn(usize, u64, u64) -> bool| {
            rows.iter().find_map(|row| {
                let nodes = &self.rows[*row].share.nodes;
                let settled = self
                    .sites
                    .iter()
                    .filter(|site| site.is_settled)
                    .map(|site| site.id);
                // Where from is found when one is there: where it has most.
                let better = settled.filter(|to| nodes.keys().any(|from| is_better(*row, *from, *to)));
                let to = better.min_by_key(|node| self.fullness(*row, *node))?;
                Some(Move { row: *row, to })
            })
        };
        let on = |row: usize, node| self.rows[row].share.on(node);
        find(&|row, from, to| on(row, from) >= on(row, to) + 2)
            .or_else(|| {
                find(&|row, from, to| {
                    on(row, from) > on(row, to)
                        && self.of_workflow(row, from) >= self.of_workflow(row, to) + 2
                })
            })
            .or_else(|| {
                find(&|row, from, to| {
                    on(row, from) > on(row, to)
                        && self.of_workflow(row, from) > self.of_workflow(row, to)
                        && self.of_all(from) >= self.of_all(to) + 2
                })
            })
    }

    fn eligible(&self, want: &'a Want) -> impl Iterator<Item = &'a Site> + use<'a> {
        let only = want.only.as_ref();
        let sites = self.sites.iter();
        sites.filter(move |site| only.is_none_or(|only| site.name == *only))
    }

    /// What a stage's workflow has on a node.
    fn of_workflow(&self, row: usize, node: u64) -> u32 {
        let key = (self.rows[row].workflow, node);
        self.of_workflow.get(&key).copied().unwrap_or(0)
    }

    /// What the stages beside it in its line have on a node.
    fn of_neighbours(&self, row: usize, node: u64) -> u32 {
        let beside = [row.checked_sub(1), row.checked_add(1)];
        let rows = beside
            .into_iter()
            .flatten()
            .filter_map(|beside| self.rows.get(beside));
        let rows = rows.filter(|beside| beside.workflow == self.rows[row].workflow);
        rows.map(|beside| beside.share.on(node)).sum()
    }

    /// What all workflows have on a node.
    fn of_all(&self, node: u64) -> u32 {
        self.of_all.get(&node).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests;
