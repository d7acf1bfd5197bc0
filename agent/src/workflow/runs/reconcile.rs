//! What the agents say of their runs and what the store keeps of them, put together. Pure.
//!
//! | the record says | its coordinator | shown |
//! |---|---|---|
//! | it is over | whatever | as recorded |
//! | none, or under way | knows it | as the coordinator says |
//! | under way | lives, and is not reached or does not answer | as recorded, and why no more is known |
//! | under way | is dead, or does not know it | failed, 125: it was lost with its coordinator |
//!
//! A run enters its coordinator's registry before it is recorded and leaves it after its end is. So the last line is
//! sure only of a run that no agent knew when asked *after* its record was read, and whose record says the same when
//! read once more after that: one that began or ended meanwhile is in one of both.

use std::collections::{BTreeMap, BTreeSet};

use crate::listing::{Page, nearer};
use crate::workflow::runs::record::Record;
use crate::workflow::runs::view::Run;

/// What the agents that are reached say.
#[derive(Default)]
pub struct Told {
    /// Their runs, with their coordinators.
    pub runs: Vec<(u64, Run)>,
    /// Those that live and did not answer: what they run is not known.
    pub silent: BTreeSet<u64>,
    /// Up to which run they have told all, if not to the last.
    pub end: Option<String>,
}

impl Told {
    /// What an agent says.
    pub fn add(&mut self, node: u64, page: Page<Run>) {
        self.runs.extend(page.objects.into_iter().map(|run| (node, run)));
        self.end = nearer(self.end.take(), page.next);
    }

    /// Lets go of what lies beyond the end: of what is there, not all have told.
    pub fn cut(&mut self) {
        if let Some(end) = &self.end {
            self.runs.retain(|(_, run)| run.id <= *end);
        }
    }
}

/// The runs that are under way by their records, and that no agent knows.
pub fn orphans(told: &Told, kept: &[Record]) -> BTreeSet<String> {
    let known: BTreeSet<&str> = told.runs.iter().map(|(_, run)| run.id.as_str()).collect();
    let orphans = kept.iter().filter(|kept| {
        let is_silent = kept.coordinator.is_some_and(|node| told.silent.contains(&node));
        kept.run.status.is_none() && !is_silent && !known.contains(kept.run.id.as_str())
    });
    orphans.map(|kept| kept.run.id.clone()).collect()
}

/// All runs by id, each once, with its coordinator; 0 for one that is over. `name` tells a node's.
pub fn merge(
    told: Told,
    kept: Vec<Record>,
    lost: &BTreeSet<String>,
    name: impl Fn(u64) -> String,
) -> Vec<(u64, Run)> {
    let mut runs: BTreeMap<String, (u64, Run)> = BTreeMap::new();
    let Told {
        runs: known, silent, ..
    } = told;
    for (node, run) in known {
        let node = if run.status.is_none() { node } else { 0 };
        runs.insert(run.id.clone(), (node, run));
    }
    for kept in kept {
        let id = kept.run.id.clone();
        let coordinator = kept.coordinator.unwrap_or(0);
        if kept.run.status.is_some() {
            runs.insert(id, (0, kept.run));
        } else if lost.contains(&id) {
            runs.insert(id, (0, kept.lost(&name(coordinator))));
        } else {
            let silent = silent.contains(&coordinator).then(|| name(coordinator));
            runs.entry(id)
                .or_insert_with(|| (coordinator, kept.as_recorded(silent)));
        }
    }
    runs.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(id: &str, status: Option<i32>) -> Run {
        Run {
            id: id.into(),
            state: status.map_or("running", |_| "succeeded").into(),
            status,
            ..Run::default()
        }
    }

    fn kept(id: &str, status: Option<i32>) -> Record {
        Record {
            run: run(id, status),
            coordinator: status.is_none().then_some(1),
            logs_at: None,
        }
    }

    fn told(runs: &[(&str, Option<i32>)]) -> Told {
        Told {
            runs: runs.iter().map(|(id, status)| (1, run(id, *status))).collect(),
            ..Told::default()
        }
    }

    fn shown(told: Told, kept: Vec<Record>) -> Vec<(u64, String, Option<i32>)> {
        let lost = orphans(&told, &kept);
        let runs = merge(told, kept, &lost, |node| format!("n{node}")).into_iter();
        runs.map(|(node, run)| (node, run.state, run.status)).collect()
    }

    #[test]
    fn a_run_whose_coordinator_does_not_know_it_has_failed() {
        let records = vec![kept("r1", None)];
        let lost = orphans(&told(&[]), &records);
        let runs = merge(told(&[]), records, &lost, |node| format!("n{node}"));
        let (node, run) = &runs[0];
        assert_eq!((*node, run.state.as_str(), run.exit), (0, "failed", Some(125)));
        assert!(run.reason.as_deref().unwrap().contains("server n1"), "{run:?}");
    }

    #[test]
    fn a_run_of_a_coordinator_that_does_not_answer_is_as_its_record_says() {
        let silent = Told {
            silent: BTreeSet::from([1]),
            ..Told::default()
        };
        assert_eq!(
            shown(silent, vec![kept("r1", None)]),
            [(1, "running".into(), None)]
        );
        let silent = Told {
            silent: BTreeSet::from([1]),
            ..Told::default()
        };
        let records = vec![kept("r1", None)];
        let runs = merge(silent, records, &BTreeSet::new(), |node| format!("n{node}"));
        let why = runs[0].1.reason.as_deref().unwrap();
        assert!(
            why.starts_with("n1, which coordinates it, does not answer"),
            "{why}"
        );
    }

    #[test]
    fn the_coordinator_knows_better_than_a_record_of_a_run_under_way() {
        let ended = told(&[("r1", Some(0))]);
        assert_eq!(
            shown(ended, vec![kept("r1", None)]),
            [(0, "succeeded".into(), Some(0))]
        );
        let going = told(&[("r1", None)]);
        assert_eq!(
            shown(going, vec![kept("r1", None)]),
            [(1, "running".into(), None)]
        );
    }

    #[test]
    fn one_that_ended_between_the_two_questions_has_ended() {
        let going = told(&[("r1", None), ("r2", None)]);
        let expected = [(0, "succeeded".into(), Some(0)), (1, "running".into(), None)];
        assert_eq!(shown(going, vec![kept("r1", Some(0))]), expected);
    }

    #[test]
    fn one_that_began_after_the_agents_were_asked_is_under_way() {
        let none = BTreeSet::new();
        let runs = merge(told(&[]), vec![kept("r1", None)], &none, |_| String::new());
        assert_eq!((runs[0].0, runs[0].1.state.as_str()), (1, "running"));
    }
}
