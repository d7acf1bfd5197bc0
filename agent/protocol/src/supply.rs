//! What is there on a node and how much of it is free: what each executor tells the other nodes' coordinators.
//!
//! ```text
//! supply  -> [{stages, stages_max, processors, memory_percent, slots, replicas, kinds: [{kind, replicas, idle, ready, starting, up,
//!            wished, failing}]}] ...
//! ```
//!
//! One call from each node to each other; an answer part at once, whenever something has changed, and every second, each
//! answered by an empty chunk before the next. It guides the choice of nodes and nothing else: what a node answers to a
//! prepare decides.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What makes one replica as good as another. A slot of one kind never serves another.
///
/// Whatever makes the process another one belongs here: limits, network, mounts and secrets, where there are some.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Kind {
    /// The service's name.
    pub service: String,
    /// The version: `sha256:HEX`.
    pub digest: String,
}

/// How many replicas stages of one service need where nothing is there yet: each `fresh` one its own, the others one for
/// so many `slots` of a kind.
pub fn replicas_needed<'k>(stages: impl IntoIterator<Item = (&'k Kind, bool)>, slots: u32) -> u32 {
    let (mut fresh, mut shared) = (0, BTreeMap::<&Kind, u32>::new());
    for (kind, is_fresh) in stages {
        *(if is_fresh {
            &mut fresh
        } else {
            shared.entry(kind).or_default()
        }) += 1;
    }
    fresh
        + shared
            .values()
            .map(|count| count.div_ceil(slots.max(1)))
            .sum::<u32>()
}

/// Whether a node that serves nobody else has replicas for stages of one service: what its settings allow, and what it keeps
/// `wished` of a kind.
///
/// What is wished of a kind takes nothing from the setting, but where more of that kind are to start: those runs share first.
pub fn fits_ever<'k>(
    stages: impl IntoIterator<Item = (&'k Kind, bool)>,
    wished: impl Fn(&Kind) -> u32,
    slots: u32,
    replicas: u32,
) -> bool {
    let mut by_kind: BTreeMap<&Kind, Vec<bool>> = BTreeMap::new();
    for (kind, is_fresh) in stages {
        by_kind.entry(kind).or_default().push(is_fresh);
    }
    let (mut new, mut kept_beside) = (0, 0);
    for (kind, stages) in by_kind {
        let (fresh, shared): (Vec<bool>, Vec<bool>) = stages.into_iter().partition(|is_fresh| *is_fresh);
        let kept = wished(kind);
        let beyond = (shared.len() as u32).div_ceil(slots.max(1)).saturating_sub(kept);
        new += fresh.len() as u32 + beyond;
        if beyond > 0 {
            kept_beside = kept_beside.max(kept);
        }
    }
    new == 0 || new + kept_beside <= replicas
}

/// What a node has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Supply {
    /// Stages that have a slot now.
    pub stages: u32,
    /// Most stages at once.
    pub stages_max: u32,
    /// Processors that serve them.
    pub processors: u32,
    /// Of the memory, what is available, in percent.
    pub memory_percent: u32,
    /// Slots that a new replica gets.
    pub slots: u32,
    /// Most replicas of one service.
    pub replicas: u32,
    /// The replicas that are there or start, by kind.
    pub kinds: Vec<OfKind>,
}

/// What a node has of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OfKind {
    /// The kind.
    pub kind: Kind,
    /// Replicas, those that start included.
    pub replicas: u32,
    /// Those of them that serve nobody and may go for another version's.
    pub idle: u32,
    /// Free slots in replicas that can be called.
    pub ready: u32,
    /// Free slots in replicas that start.
    pub starting: u32,
    /// Runs wait for it in order, and nobody comes before them.
    pub is_claimed: bool,
    /// Replicas that can be called and are to stay.
    pub up: u32,
    /// How many are kept there, whoever uses them.
    pub wished: u32,
    /// Why there are fewer than are wished, where something failed.
    pub failing: Option<Failing>,
}

impl OfKind {
    /// Replicas that are there and stay, whoever uses them.
    pub fn kept(&self) -> u32 {
        self.wished.min(self.replicas)
    }
}

/// Why replicas that are wished are not there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Failing {
    /// How often it failed, one after another.
    pub failures: u32,
    /// Why it failed last, for people.
    pub why: String,
    /// When it is tried again: milliseconds since 1970 by the node's clock; 0 where room has to be made first.
    pub next_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_and_each_fresh_stage_needs_replicas_of_its_own() {
        let kind = |digest: &str| Kind {
            service: "cat".into(),
            digest: digest.into(),
        };
        let (one, two) = (kind("1"), kind("2"));
        assert_eq!(replicas_needed([(&one, false), (&one, false)], 2), 1);
        assert_eq!(replicas_needed([(&one, false), (&two, false)], 2), 2);
        assert_eq!(replicas_needed([(&one, false); 3], 2), 2);
        assert_eq!(replicas_needed([(&one, true), (&one, false)], 2), 2);
        assert_eq!(replicas_needed([(&one, false)], 0), 1);
    }

    #[test]
    fn what_is_wished_serves_beside_what_the_settings_allow() {
        let kind = |digest: &str| Kind {
            service: "cat".into(),
            digest: digest.into(),
        };
        let (one, two) = (kind("1"), kind("2"));
        let fits = |stages: &[(&Kind, bool)], of_one: u32| {
            let wished = |kind: &Kind| if *kind == one { of_one } else { 0 };
            fits_ever(stages.iter().copied(), wished, 2, 1)
        };
        assert!(fits(&[(&one, false), (&one, false)], 0));
        assert!(!fits(&[(&one, false); 3], 0), "two slots a replica, one replica");
        assert!(fits(&[(&one, false); 4], 2), "both are kept");
        assert!(!fits(&[(&one, false); 5], 2), "a third may not start");
        assert!(!fits(&[(&one, false), (&two, false)], 0));
        assert!(fits(&[(&one, false), (&two, false)], 1));
        assert!(
            fits(&[(&one, true)], 3),
            "one of its own, beside those that are kept"
        );
        assert!(!fits(&[(&one, true), (&two, false)], 3));
    }
}
