//! Replicas that are wished: kept here whether anybody uses them or not.
//!
//! ```text
//! wish {cat: 2}             ->  Start a, Start b, whatever the setting `replicas` says
//! a fails                   ->  Start c, a second later
//! 10 minutes later          ->  both are still there
//! wish {cat: 1}, b in use   ->  Stop c, idle; were both in use: the less used one after its last use
//! ```
//!
//! Always: (1) as many of a kind as are wished are neither stopped for want of use nor evicted; (2) what a lower wish ends
//! was idle when it ended; (3) wished ones leave the setting `replicas` to the service's other versions, and are never more
//! than the node can hold.
//! Not here: how many are wished on which node (the controller of daemon workflows), how long a failed start rests
//! (`backoff.rs`).

use std::cmp::Reverse;
use std::collections::BTreeMap;

use pipes_protocol::supply::Kind;
use tokio::time::Instant;

use crate::executor::backend::StartError;
use crate::executor::pool::choose::New;
use crate::executor::pool::state::{REPLICAS_MAX, Replica, Slots};

/// Wished replicas that start at once; the next one begins when one of them is there. Each is a process that has to come up
/// within ten seconds, on a node that may be busy.
const STARTS_AT_ONCE_MAX: usize = 8;

impl Slots {
    /// From here on so many replicas of each kind are kept; of a kind that is not named, none.
    pub fn wish(&mut self, now: Instant, wish: BTreeMap<Kind, u32>) {
        let mut former = std::mem::take(&mut self.wished);
        for (kind, count) in wish.into_iter().filter(|(_, count)| *count > 0) {
            let mut wished = former.remove(&kind).unwrap_or_default();
            let before = std::mem::replace(&mut wished.count, count);
            self.wished.insert(kind.clone(), wished);
            match count < before {
                true => self.let_go(&kind, before - count),
                false => self.take_back(&kind),
            }
        }
        for (kind, wished) in former {
            self.failed_starts.remove(&kind);
            self.let_go(&kind, wished.count);
        }
        self.keep_wished(now);
        self.refuse_waiting();
        self.serve_waiting(now);
    }

    /// One of a kind is there: an idle one in whose place it started goes.
    pub(super) fn replaced(&mut self, kind: &Kind) {
        let mut leaving = (self.replicas.iter())
            .filter(|(_, replica)| replica.is_leaving && replica.is_idle() && replica.kind == *kind);
        if let Some(name) = leaving.next().map(|(name, _)| name.clone()) {
            self.stop(name);
        }
    }

    /// So many fewer are wished of a kind: idle ones end now, others after their last use.
    fn let_go(&mut self, kind: &Kind, fewer: u32) {
        let beyond = self.held(kind).saturating_sub(self.wished_of(kind)).min(fewer);
        let mut held: Vec<_> = (self.replicas.iter())
            .filter(|(_, replica)| replica.is_held(kind))
            .map(|(name, replica)| (replica.used, replica.is_ready, replica.idle_since, name.clone()))
            .collect();
        held.sort_unstable();
        for (used, .., name) in held.into_iter().take(beyond as usize) {
            if used == 0 {
                self.stop(name);
            } else if let Some(replica) = self.replicas.get_mut(&name) {
                replica.is_leaving = true;
            }
        }
    }

    /// Those that were to end after their last use stay, as far as they are wished again and have the slots they should.
    fn take_back(&mut self, kind: &Kind) {
        let missing = self.wished_of(kind).saturating_sub(self.held(kind)) as usize;
        let slots = self.settings.slots;
        let mut leaving: Vec<&mut Replica> = (self.replicas.values_mut())
            .filter(|replica| replica.is_leaving && replica.kind == *kind && replica.slots >= slots)
            .collect();
        leaving.sort_unstable_by_key(|replica| Reverse(replica.used));
        (leaving.into_iter().take(missing)).for_each(|replica| replica.is_leaving = false);
    }

    /// Starts what is missing, as far as failures before allow.
    pub(super) fn keep_wished(&mut self, now: Instant) {
        for replica in self.replicas.values().filter(|replica| replica.is_ready) {
            if let Some(wished) = self.wished.get_mut(&replica.kind) {
                wished.backoff.lives(now, replica.ready_since);
            }
        }
        let mut starting = self.replicas.values().filter(|replica| !replica.is_ready).count();
        let kinds: Vec<Kind> = self.wished.keys().cloned().collect();
        for kind in kinds {
            for _ in 0..self.to_start(now, &kind) {
                if starting >= STARTS_AT_ONCE_MAX || !self.has_room() {
                    return;
                }
                starting += 1;
                let new = New {
                    kind: kind.clone(),
                    is_fresh: false,
                    used: 0,
                };
                self.start(now, new);
            }
        }
    }

    /// How many of a kind are to be started now.
    fn to_start(&self, now: Instant, kind: &Kind) -> u32 {
        let Some(wished) = self.wished.get(kind) else {
            return 0;
        };
        let missing = wished.count.saturating_sub(self.held(kind));
        let starting = (self.replicas.values()).filter(|replica| replica.is_held(kind) && !replica.is_ready);
        missing.min(wished.backoff.may_start(now, starting.count() as u32))
    }

    /// Room for one more replica, if need be in the place of an idle one that nobody wishes.
    fn has_room(&mut self) -> bool {
        if self.replicas.len() < REPLICAS_MAX {
            return true;
        }
        let idle = self
            .endable(|_, _| true)
            .first()
            .map(|(name, _)| (*name).to_owned());
        let is_found = idle.is_some();
        if let Some(idle) = idle {
            self.counters.evicted += 1;
            self.stop(idle);
        }
        is_found
    }

    /// A replica of a kind did not start.
    pub(super) fn note_failed(&mut self, now: Instant, kind: &Kind, error: &StartError) {
        if let Some(wished) = self.wished.get_mut(kind) {
            wished.backoff.failed(now, &error.to_string());
        }
    }

    /// A replica ended by itself.
    pub(super) fn note_ended(&mut self, now: Instant, replica: &str, why: &str) {
        if let Some(ended) = self.replicas.get(replica).filter(|ended| ended.is_ready)
            && let Some(wished) = self.wished.get_mut(&ended.kind)
        {
            let lived = now.duration_since(ended.ready_since);
            wished
                .backoff
                .ended(now, lived, &format!("a replica ended by itself: {why}"));
        }
    }

    /// When something that failed is tried again.
    pub(super) fn next_try(&self) -> Option<Instant> {
        if self.wished.values().all(|wished| wished.backoff.told().is_none()) {
            return None;
        }
        // Where there is no room, whatever makes some has it tried.
        let has_room = self.replicas.len() < REPLICAS_MAX || !self.endable(|_, _| true).is_empty();
        let starting = self.replicas.values().filter(|replica| !replica.is_ready);
        if !has_room || starting.count() >= STARTS_AT_ONCE_MAX {
            return None;
        }
        let missing = self.wished.iter().filter(|(kind, wished)| {
            let is_starting = |replica: &Replica| replica.is_held(kind) && !replica.is_ready;
            wished.count > self.held(kind) && !self.replicas.values().any(is_starting)
        });
        missing
            .filter_map(|(_, wished)| Some(wished.backoff.told()?.2))
            .min()
    }

    pub(super) fn wished_of(&self, kind: &Kind) -> u32 {
        self.wished.get(kind).map_or(0, |wished| wished.count)
    }

    /// Replicas of a kind that count for its wish.
    pub(super) fn held(&self, kind: &Kind) -> u32 {
        self.replicas
            .values()
            .filter(|replica| replica.is_held(kind))
            .count() as u32
    }

    /// Idle replicas that may end, since as many as are wished stay without them; the longest idle one first. Only such
    /// as `may` says come into question.
    pub(super) fn endable(&self, may: impl Fn(&str, &Replica) -> bool) -> Vec<(&str, &Replica)> {
        let mut idle: Vec<(&str, &Replica)> = (self.replicas.iter())
            .map(|(name, replica)| (name.as_str(), replica))
            .filter(|(name, replica)| replica.is_idle() && may(name, replica))
            .collect();
        idle.sort_unstable_by_key(|(_, replica)| replica.idle_since);
        if self.wished.is_empty() {
            return idle;
        }
        let mut beyond: BTreeMap<&Kind, u32> = BTreeMap::new();
        for (kind, wished) in &self.wished {
            beyond.insert(kind, self.held(kind).saturating_sub(wished.count));
        }
        idle.retain(|(_, replica)| match beyond.get_mut(&replica.kind) {
            Some(left) if replica.is_held(&replica.kind) => {
                let is_beyond = *left > 0;
                *left = left.saturating_sub(1);
                is_beyond
            }
            _ => true,
        });
        idle
    }
}

impl Replica {
    /// Whether it counts for the wish of a kind.
    pub(super) fn is_held(&self, kind: &Kind) -> bool {
        !self.is_fresh && !self.is_leaving && self.kind == *kind
    }
}
