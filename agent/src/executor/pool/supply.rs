//! What of the pool's state coordinators on all nodes are told. Pure, but for the memory that is read beside it.

use std::collections::BTreeMap;
use std::fs;

use pipes_protocol::supply::{Failing, Kind, OfKind, Supply};
use tokio::time::Instant;

use crate::executor::pool::state::{REPLICAS_MAX, Slots};

impl Slots {
    /// What is there and how much of it is free. A service that runs wait for in order has nothing for others.
    /// `wall` gives the milliseconds of a time, as people count them.
    pub fn supply(&self, wall: impl Fn(Instant) -> u64) -> Supply {
        let mut kinds: BTreeMap<&Kind, OfKind> = BTreeMap::new();
        for replica in self.replicas.values() {
            let of = kinds.entry(&replica.kind).or_default();
            of.replicas += 1;
            if !replica.is_fresh {
                // One that only waits for another with more slots in its place is as good as that one until then.
                let is_replaced = replica.slots < self.settings.slots;
                of.up += u32::from(replica.is_ready && (!replica.is_leaving || is_replaced));
                let free = replica
                    .slots
                    .min(self.settings.slots)
                    .saturating_sub(replica.used);
                // One that is to go serves where nothing better is there, as one that starts would.
                *(if replica.is_ready && !replica.is_leaving {
                    &mut of.ready
                } else {
                    &mut of.starting
                }) += free;
            }
        }
        for (_, replica) in self.endable(|_, _| true) {
            kinds.entry(&replica.kind).or_default().idle += 1;
        }
        for (kind, wished) in &self.wished {
            let of = kinds.entry(kind).or_default();
            of.wished = wished.count;
            let is_full = self.replicas.len() >= REPLICAS_MAX && self.held(kind) < wished.count;
            of.failing = match wished.backoff.told() {
                // All is well again, and what was is not told.
                _ if of.up >= wished.count => None,
                Some((failures, why, next)) => Some(Failing {
                    failures,
                    why: why.to_owned(),
                    next_ms: wall(next),
                }),
                None => is_full.then(|| Failing {
                    failures: 0,
                    why: format!("{REPLICAS_MAX} replicas are there already, as many as a node may have"),
                    next_ms: 0,
                }),
            };
        }
        for stage in self.waiting.iter().flat_map(|(_, request)| &request.stages) {
            kinds.entry(&stage.kind).or_default().is_claimed = true;
        }
        let kinds = kinds.into_iter().map(|(kind, of)| OfKind {
            kind: kind.clone(),
            ..of
        });
        Supply {
            stages: self.used() as u32,
            stages_max: self.stages_max as u32,
            slots: self.settings.slots,
            replicas: self.settings.replicas,
            kinds: kinds.collect(),
            ..Supply::default()
        }
    }
}

/// The part of the memory that is available, in percent, in steps of five, so that small changes are none. Where it
/// cannot be known it is all.
pub(super) fn memory_percent() -> u32 {
    const STEP: u64 = 5;
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let of = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    match (of("MemAvailable:"), of("MemTotal:")) {
        (Some(available), Some(total)) if total > 0 => (available * 100 / total / STEP * STEP) as u32,
        _ => 100,
    }
}
