//! How many of the replicas that are wished are there, and why not all: for `ps` and `inspect`, on any agent.
//!
//! ```text
//! words  stage 1  tr     wished 2  ready 2
//!        stage 2  sort   wished 3  ready 2   n2: a replica was not ready: no answer in 10 s (5 times); again at 12:03:07
//! ```
//!
//! What nodes tell of their supply counts, so an agent that reaches few nodes knows few replicas. Workflows that have the
//! same kind on a node share what is there, in the order of their names.

use std::collections::BTreeMap;
use std::sync::Arc;

use pipes_protocol::supply::{OfKind, Supply};

use crate::cluster::nodes::Nodes;
use crate::workflow::daemon::record::{Wish, Workflow};
use crate::workflow::daemon::share::{All, OfStage, Shares};
use crate::workflow::daemon::spread::{self, Want};
use crate::workflow::supply::Supplies;

/// How it is with a stage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ready {
    /// Replicas that there should be; none where the workflow is stopped.
    pub wished: u32,
    /// Those of them that can be called.
    pub ready: u32,
    /// Why there are fewer, where something is wrong; `None` also while they start.
    pub reason: Option<String>,
    /// When what failed is tried again: milliseconds since 1970, by that node's clock.
    pub next_ms: Option<u64>,
}

/// What is known of it. A cheap handle.
#[derive(Clone)]
pub struct Readiness {
    /// Where replicas should be.
    pub shares: Shares,
    /// What is there.
    pub supplies: Supplies,
    /// Names of nodes.
    pub nodes: Nodes,
}

impl Readiness {
    /// Why a stage of a workflow cannot be served, in a sentence: it has no replica that can be called.
    pub fn lacking(&self, workflow: &Workflow) -> Option<String> {
        let ready = self.of(workflow);
        let (number, lacking) = (1..).zip(ready).find(|(_, ready)| ready.ready == 0)?;
        let why = lacking.reason.unwrap_or_else(|| "its replicas start".into());
        Some(format!("stage {number} of {} is not ready: {why}", workflow.name))
    }

    /// How it is with each stage of a workflow.
    pub fn of(&self, workflow: &Workflow) -> Vec<Ready> {
        let seen = Seen {
            shares: self.shares.all(),
            spoken: self.supplies.spoken(),
            reached: self.nodes.reached().into_iter().collect(),
        };
        seen.of(workflow)
    }
}

/// What is seen at one time.
struct Seen {
    shares: All,
    spoken: BTreeMap<u64, Arc<Supply>>,
    /// Names of the nodes that are reached.
    reached: BTreeMap<u64, String>,
}

impl Seen {
    fn of(&self, workflow: &Workflow) -> Vec<Ready> {
        let wants = spread::wants(workflow);
        if workflow.wish == Wish::Stopped {
            return vec![Ready::default(); wants.len()];
        }
        let none = Vec::new();
        let share = self.shares.get(&workflow.name);
        let stages = share.map_or(&none, |kept| &kept.share.stages);
        let mut unused: Vec<(usize, &OfStage)> = stages.iter().enumerate().collect();
        let ready = wants.iter().map(|want| {
            // The share may be that of the line before.
            let same = unused.iter().position(|(_, stage)| stage.kind == want.kind);
            let held = same.map(|at| unused.remove(at));
            self.ready(&workflow.name, want, held)
        });
        ready.collect()
    }

    fn ready(&self, workflow: &str, want: &Want, held: Option<(usize, &OfStage)>) -> Ready {
        let there = held.map_or(0, |(index, stage)| {
            let on = |node: &u64| self.up(workflow, index, stage, *node);
            stage.nodes.keys().map(on).sum()
        });
        let ready = there.min(want.count);
        let mut found = Ready {
            wished: want.count,
            ready,
            ..Ready::default()
        };
        if ready == want.count {
            return found;
        }
        let nodes = held.into_iter().flat_map(|(_, stage)| stage.nodes.keys());
        let failing = nodes.filter_map(|node| Some((node, self.kind(*node, want)?.failing.as_ref()?)));
        if let Some((node, failing)) = failing.max_by_key(|(_, failing)| failing.failures) {
            let name = self.reached.get(node).map_or("?", String::as_str);
            let times = match failing.failures {
                0 => String::new(),
                1 => " (once)".to_owned(),
                times => format!(" ({times} times)"),
            };
            found.reason = Some(format!("{name}: {}{times}", failing.why));
            found.next_ms = (failing.next_ms > 0).then_some(failing.next_ms);
        } else if let Some(only) = &want.only
            && !self.reached.values().any(|name| name == only)
        {
            found.reason = Some(format!("node {only}, where it is to run, is not reached"));
        }
        found
    }

    /// How many replicas of a stage can be called on a node, after those before it have theirs.
    fn up(&self, workflow: &str, index: usize, stage: &OfStage, node: u64) -> u32 {
        let up = self.spoken.get(&node).map_or(0, |supply| {
            let of = supply.kinds.iter().find(|of| of.kind == stage.kind);
            of.map_or(0, |of| of.up)
        });
        let before = self
            .shares
            .range(..=workflow.to_owned())
            .flat_map(|(name, kept)| {
                let stages = kept.share.stages.iter();
                stages.take(if name == workflow { index } else { usize::MAX })
            });
        let taken: u32 = before
            .filter(|other| other.kind == stage.kind)
            .map(|other| other.on(node))
            .sum();
        up.saturating_sub(taken).min(stage.on(node))
    }

    fn kind(&self, node: u64, want: &Want) -> Option<&OfKind> {
        let supply = self.spoken.get(&node)?;
        supply.kinds.iter().find(|of| of.kind == want.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workflow::daemon::share::{Kept, Share};
    use pipes_protocol::supply::{Failing, Kind};
    use serde_json::json;

    fn kind(service: &str) -> Kind {
        Kind {
            service: service.into(),
            digest: "sha256:ab".into(),
        }
    }

    fn workflow(name: &str, stages: &[(&str, u32)]) -> Workflow {
        let stage =
            |(service, _): &(&str, u32)| json!({"service": service, "digest": "sha256:ab", "args": []});
        let replicas = stages.iter().zip(1_u32..);
        let replicas: BTreeMap<u32, u32> = replicas.map(|((_, count), stage)| (stage, *count)).collect();
        let workflow = json!({
            "name": name,
            "wish": "running",
            "port": null,
            "revision": 1,
            "definition": {
                "line": "",
                "stages": stages.iter().map(stage).collect::<Vec<_>>(),
                "options": {"replicas": replicas},
            },
            "created": "",
        });
        serde_json::from_value(workflow).unwrap()
    }

    fn kept(stages: &[(&str, &[(u64, u32)])]) -> Arc<Kept> {
        let stage = |(service, nodes): &(&str, &[(u64, u32)])| OfStage {
            kind: kind(service),
            nodes: nodes.iter().copied().collect(),
            coming: None,
        };
        let share = Share {
            workflow: String::new(),
            stages: stages.iter().map(stage).collect(),
        };
        Arc::new(Kept { share, revision: 1 })
    }

    fn supply(kinds: &[(&str, u32)]) -> Arc<Supply> {
        let of = |(service, up): &(&str, u32)| OfKind {
            kind: kind(service),
            up: *up,
            ..OfKind::default()
        };
        Arc::new(Supply {
            kinds: kinds.iter().map(of).collect(),
            ..Supply::default()
        })
    }

    fn seen() -> Seen {
        Seen {
            shares: [
                ("a".to_owned(), kept(&[("cat", &[(1, 1)])])),
                (
                    "b".to_owned(),
                    kept(&[("cat", &[(1, 2), (2, 1)]), ("tr", &[(2, 1)]), ("cat", &[(2, 1)])]),
                ),
            ]
            .into(),
            spoken: [(1, supply(&[("cat", 2)])), (2, supply(&[("cat", 2)]))].into(),
            reached: [(1, "n1".to_owned()), (2, "n2".to_owned())].into(),
        }
    }

    fn counts(ready: &[Ready]) -> Vec<(u32, u32)> {
        ready.iter().map(|ready| (ready.wished, ready.ready)).collect()
    }

    #[test]
    fn what_is_there_is_shared_among_those_that_wish_it() {
        let seen = seen();
        assert_eq!(counts(&seen.of(&workflow("a", &[("cat", 1)]))), [(1, 1)]);
        let b = workflow("b", &[("cat", 3), ("tr", 1), ("cat", 1)]);
        assert_eq!(counts(&seen.of(&b)), [(3, 2), (1, 0), (1, 1)]);
        let stopped = Workflow {
            wish: Wish::Stopped,
            ..b
        };
        assert_eq!(counts(&seen.of(&stopped)), [(0, 0); 3]);
        assert_eq!(
            counts(&seen.of(&workflow("c", &[("cat", 1)]))),
            [(1, 0)],
            "nothing is its own yet"
        );
    }

    #[test]
    fn a_reason_names_the_node_and_when_it_is_tried_again() {
        let mut seen = seen();
        let b = workflow("b", &[("cat", 3), ("tr", 1), ("cat", 1)]);
        assert!(
            seen.of(&b).iter().all(|ready| ready.reason.is_none()),
            "they start"
        );
        let failing = OfKind {
            kind: kind("tr"),
            failing: Some(Failing {
                failures: 5,
                why: "no library".into(),
                next_ms: 7,
            }),
            ..OfKind::default()
        };
        let supply = Supply {
            kinds: vec![failing],
            ..Supply::default()
        };
        seen.spoken.insert(2, Arc::new(supply));
        let tr = &seen.of(&b)[1];
        assert_eq!(tr.reason.as_deref(), Some("n2: no library (5 times)"));
        assert_eq!(tr.next_ms, Some(7));
    }

    #[test]
    fn a_stage_that_is_bound_to_a_lost_node_says_so() {
        let mut a = workflow("a", &[("cat", 1)]);
        a.definition.options.place = [("1".to_owned(), "n3".to_owned())].into();
        let mut seen = seen();
        seen.shares.insert("a".into(), kept(&[("cat", &[])]));
        let reason = seen.of(&a)[0].reason.clone();
        assert_eq!(
            reason.as_deref(),
            Some("node n3, where it is to run, is not reached")
        );
    }
}
