//! What a node has for a stage, as far as it is known here. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use pipes_protocol::supply::{Kind, OfKind, Supply, fits_ever, replicas_needed};

/// What a stage needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// A slot of this kind.
    pub kind: Kind,
    /// In a replica of its own.
    pub fresh: bool,
}

/// A node, as a coordinator sees it.
#[derive(Debug, Clone, Default)]
pub struct Node {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// What it told last; `None` before its first word.
    pub supply: Option<Arc<Supply>>,
    /// It does not speak: nothing is placed there as long as that lasts.
    pub is_silent: bool,
    /// Stages placed there from here that what it told does not count yet.
    pub taken: Vec<Need>,
    /// Services of which it had no slot, whatever it told.
    pub refused: Vec<String>,
}

/// Whether a node has a slot; the better first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Room {
    /// There is one, or one can be made.
    Some,
    /// Nobody knows.
    Unknown,
    /// Not now.
    None,
    /// At no time, with what the line has placed there before.
    Never,
}

impl Node {
    /// Whether a slot is left for the stage, and whether its replica would still have to start; `here` are the line's
    /// stages before it on this node.
    pub(super) fn room(&self, need: &Need, here: &[&Need]) -> (Room, bool) {
        let Some(supply) = self.supply.as_deref() else {
            let room = if self.is_silent { Room::None } else { Room::Unknown };
            return (room, true);
        };
        if never_fits(supply, need, here) {
            return (Room::Never, true);
        }
        let service = &need.kind.service;
        let of_service = || supply.kinds.iter().filter(|of| of.kind.service == *service);
        let is_full = supply.stages as usize + self.taken.len() + here.len() >= supply.stages_max as usize;
        let is_claimed = of_service().any(|of| of.is_claimed) || self.refused.contains(service);
        if self.is_silent || is_full || is_claimed {
            return (Room::None, true);
        }
        // Replicas that can be made: what the settings leave, and in the place of idle ones of other kinds.
        let there: u32 = of_service()
            .map(|of| match of.kind == need.kind && !need.fresh {
                true => of.replicas,
                // Wished ones leave the setting to other versions, and to one's own replica.
                false => of.replicas - of.kept(),
            })
            .sum();
        let idle = of_service().filter(|of| need.fresh || of.kind != need.kind);
        let idle: u32 = idle.map(|of| self.left_idle(of, supply.slots, here)).sum();
        let before: Vec<&Need> = self.taken.iter().chain(here.iter().copied()).collect();
        let others = before.iter().filter(|taken| taken.kind.service == *service);
        let others = others.filter(|taken| taken.fresh || need.fresh || taken.kind != need.kind);
        let new = (supply.replicas + idle).saturating_sub(there + to_start(supply, others.copied()));
        if need.fresh {
            return (if new > 0 { Room::Some } else { Room::None }, true);
        }
        let same = shared(before, &need.kind);
        let none = OfKind::default();
        let of = of_service().find(|of| of.kind == need.kind).unwrap_or(&none);
        if same < of.ready {
            (Room::Some, false)
        } else if same < of.ready + of.starting + new.saturating_mul(supply.slots) {
            (Room::Some, true)
        } else {
            (Room::None, true)
        }
    }

    /// How many idle replicas of a kind are left to make room for others: what other runs have been given takes idle ones
    /// first, the line's own stages as few of them as will do.
    fn left_idle(&self, of: &OfKind, slots: u32, here: &[&Need]) -> u32 {
        let others = shared(&self.taken, &of.kind);
        let idle = of.idle.saturating_sub(others);
        let in_use = (of.ready + of.starting).saturating_sub(others + idle.saturating_mul(slots));
        let own = shared(here.iter().copied(), &of.kind).saturating_sub(in_use);
        idle.saturating_sub(own.div_ceil(slots.max(1)))
    }

    /// Thousandths of a stage a processor, with so many more, and how much memory is left, in percent.
    pub(super) fn load(&self, more: usize) -> (u64, u32) {
        let told = |of: fn(&Supply) -> u32, unknown| self.supply.as_deref().map_or(unknown, of);
        let stages = u64::from(told(|supply| supply.stages, 0)) + (self.taken.len() + more) as u64;
        let processors = told(|supply| supply.processors, 1).max(1);
        let memory_percent = told(|supply| supply.memory_percent, 100);
        (stages * 1_000 / u64::from(processors), memory_percent)
    }
}

/// Stages that take slots of this kind which others may share.
fn shared<'n>(stages: impl IntoIterator<Item = &'n Need>, kind: &Kind) -> u32 {
    let same = stages
        .into_iter()
        .filter(|need| !need.fresh && need.kind == *kind);
    same.count() as u32
}

/// Replicas that start for these stages: for those that find no slot in what is there.
fn to_start<'n>(supply: &Supply, stages: impl Iterator<Item = &'n Need>) -> u32 {
    let mut free: BTreeMap<&Kind, u32> = supply
        .kinds
        .iter()
        .map(|of| (&of.kind, of.ready + of.starting))
        .collect();
    let without = stages.filter(|need| {
        let slot = free.get_mut(&need.kind).filter(|free| !need.fresh && **free > 0);
        slot.map(|free| *free -= 1).is_none()
    });
    let without: Vec<(&Kind, bool)> = without.map(|need| (&need.kind, need.fresh)).collect();
    replicas_needed(without, supply.slots)
}

/// Whether even a node that is empty has no slot for the stage beside the line's others there.
fn never_fits(supply: &Supply, need: &Need, here: &[&Need]) -> bool {
    let all = here.iter().copied().chain([need]);
    let of_service = all.filter(|other| other.kind.service == need.kind.service);
    let kept = |kind: &Kind| {
        let of = supply.kinds.iter().find(|of| of.kind == *kind);
        of.map_or(0, OfKind::kept)
    };
    let stages = of_service.map(|other| (&other.kind, other.fresh));
    here.len() >= supply.stages_max as usize || !fits_ever(stages, kept, supply.slots, supply.replicas)
}
