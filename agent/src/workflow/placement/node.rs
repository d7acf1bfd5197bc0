//! What a node has for a stage, as far as it is known here. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use pipes_protocol::supply::{Kind, OfKind, Supply, replicas_needed};

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
        let before: Vec<&Need> = self.taken.iter().chain(here.iter().copied()).collect();
        let of_kind = |kind: &Kind| {
            let same = before.iter().filter(|taken| !taken.fresh && taken.kind == *kind);
            same.count() as u32
        };
        // Replicas that can be made: what the settings leave, and in the place of idle ones of other kinds.
        let there: u32 = of_service()
            .map(|of| match of.kind == need.kind {
                true => of.replicas,
                // Other versions' wished ones leave the setting to this one.
                false => of.replicas - of.replicas.min(of.wished),
            })
            .sum();
        let idle = of_service().filter(|of| need.fresh || of.kind != need.kind);
        // What was placed before takes idle ones first.
        let idle: u32 = idle.map(|of| of.idle.saturating_sub(of_kind(&of.kind))).sum();
        let others = before.iter().filter(|taken| taken.kind.service == *service);
        let others = others.filter(|taken| taken.fresh || need.fresh || taken.kind != need.kind);
        let new = (supply.replicas + idle).saturating_sub(there + to_start(supply, others.copied()));
        if need.fresh {
            return (if new > 0 { Room::Some } else { Room::None }, true);
        }
        let same = of_kind(&need.kind);
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

    /// Thousandths of a stage a processor, with so many more, and how much memory is left, in percent.
    pub(super) fn load(&self, more: usize) -> (u64, u32) {
        let told = |of: fn(&Supply) -> u32, unknown| self.supply.as_deref().map_or(unknown, of);
        let stages = u64::from(told(|supply| supply.stages, 0)) + (self.taken.len() + more) as u64;
        let processors = told(|supply| supply.processors, 1).max(1);
        let memory_percent = told(|supply| supply.memory_percent, 100);
        (stages * 1_000 / u64::from(processors), memory_percent)
    }
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
    let needed = replicas_needed(of_service.map(|other| (&other.kind, other.fresh)), supply.slots);
    here.len() >= supply.stages_max as usize || needed > supply.replicas
}
