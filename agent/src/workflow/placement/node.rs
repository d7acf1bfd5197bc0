//! What a node has for a stage, as far as it is known here. Pure.

use std::sync::Arc;

use pipes_protocol::supply::{Kind, OfKind, Supply};

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
        let before = || self.taken.iter().chain(here.iter().copied());
        let fresh = before().filter(|taken| taken.fresh && taken.kind.service == *service);
        let fresh = fresh.count() as u32;
        // Replicas that can be made: what the settings leave, and in the place of idle ones of other kinds.
        let there: u32 = of_service().map(|of| of.replicas).sum();
        let idle = of_service().filter(|of| need.fresh || of.kind != need.kind);
        let idle: u32 = idle.map(|of| of.idle).sum();
        let new = (supply.replicas + idle).saturating_sub(there + fresh);
        if need.fresh {
            return (if new > 0 { Room::Some } else { Room::None }, true);
        }
        let same = before().filter(|taken| !taken.fresh && taken.kind == need.kind);
        let same = same.count() as u32;
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

/// Whether even a node that is empty has no slot for the stage beside the line's others there.
fn never_fits(supply: &Supply, need: &Need, here: &[&Need]) -> bool {
    let of_service = || {
        here.iter()
            .copied()
            .chain([need])
            .filter(|other| other.kind.service == need.kind.service)
    };
    let fresh = of_service().filter(|other| other.fresh).count() as u32;
    let shared = of_service().count() as u32 - fresh;
    here.len() >= supply.stages_max as usize || fresh + shared.div_ceil(supply.slots.max(1)) > supply.replicas
}
