//! Who has which slot of which replica: the pool's state, as a function of inputs and time.
//!
//! ```text
//! prepare 1 [cat tr]    ->  Reserved, Start a (cat), Start b (tr)
//! ready a, ready b      ->  Ready [(1, a), (2, b)]
//! end 1                 ->  a and b stay warm, their slots are free
//! 10 minutes later      ->  Stop a, Stop b
//! ```
//!
//! Always: (1) a replica's used slots are the places that reservations have in it, and never more than its slots; (2) a
//! reservation is as old as its ticket and ends with it, all its stages or none; (3) a prepare that does not wait is
//! answered at once: reserved or full; (4) those that wait are served in their order, and nobody who came later takes a
//! service they wait for.
//! Not here: processes and the clock (`event_loop.rs`, `../process/`), what is kept without a run (`wished.rs`), what of it
//! others are told (`supply.rs`).

use std::collections::{BTreeMap, HashMap, VecDeque};

use pipes_protocol::reservation::{Prepare, PrepareError};
use pipes_protocol::supply::Kind;
use tokio::time::Instant;

use crate::executor::backend::{ReplicaSpec, StartError};
use crate::executor::pool::answer::{Answer, Place};
use crate::executor::pool::backoff::Backoff;
use crate::executor::settings::Settings;

/// Runs that wait here in order; as many as one coordinator lets wait. Beyond them: full.
pub const WAITING_MAX: usize = 1_000;

/// Replicas in all, idle ones included, each a process of about a megabyte and a session of the router. Beyond them the
/// one that has been idle longest is stopped; where none is idle: full.
pub const REPLICAS_MAX: usize = 256;

/// Replicas of a kind that may fail to come up one after another; then its stage cannot be started.
pub const STARTS_MAX: u32 = 3;

/// How far one pipe's window may grow, and how far until this agent's shims have given all the credit they may.
pub const WINDOW_MAX: u64 = 1 << 20;
/// A pipe's first credit, and its only one when the budget is used up.
pub const WINDOW_MIN: u64 = 32 << 10;
/// Credit that all shims of this agent give: it bounds their memory.
pub const CREDIT_MAX: u64 = 32 << 20;

/// What the pool's task must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Say so to whoever prepares.
    Answer(u64, Answer),
    /// Start a replica.
    Start(ReplicaSpec),
    /// Stop a replica; it is forgotten here.
    Stop(String),
}

/// How often a limit was met.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Prepares that found no slot.
    pub full: u64,
    /// Idle replicas stopped before their time, for want of room.
    pub evicted: u64,
    /// Pipes that stay at their first window.
    pub narrow: u64,
}

#[derive(Debug)]
pub(super) struct Replica {
    pub(super) kind: Kind,
    pub(super) slots: u32,
    /// Stages that have a place here.
    pub(super) used: u32,
    pub(super) is_ready: bool,
    /// Since when, where it is.
    pub(super) ready_since: Instant,
    /// Serves one invocation and is stopped.
    pub(super) is_fresh: bool,
    /// Is stopped after its last use, and used where nothing else is there.
    pub(super) is_leaving: bool,
    /// Since when nobody uses it.
    pub(super) idle_since: Instant,
}

#[derive(Debug)]
pub(super) struct Reservation {
    pub(super) places: Vec<Place>,
    /// All its replicas can be called, and it was told so.
    pub(super) is_ready: bool,
}

/// What is wished of a kind.
#[derive(Debug, Default)]
pub(super) struct Wished {
    pub(super) count: u32,
    /// When what failed of it is tried again.
    pub(super) backoff: Backoff,
}

/// The pool's state. Tickets are the caller's numbers for its prepares, each used once and ended once.
#[derive(Debug)]
pub struct Slots {
    pub(super) settings: Settings,
    pub(super) stages_max: usize,
    pub(super) prefix: String,
    pub(super) started: u64,
    pub(super) replicas: BTreeMap<String, Replica>,
    pub(super) reservations: BTreeMap<u64, Reservation>,
    pub(super) waiting: VecDeque<(u64, Prepare)>,
    pub(super) effects: Vec<Effect>,
    /// How many replicas of a kind did not come up, one after another.
    pub(super) failed_starts: HashMap<Kind, u32>,
    /// What is kept, whoever uses it.
    pub(super) wished: BTreeMap<Kind, Wished>,
    /// How often limits were met.
    pub counters: Counters,
}

impl Slots {
    /// An empty pool. Replicas' names begin with `prefix`, which no other life of this agent has used.
    pub fn new(settings: Settings, stages_max: usize, prefix: String) -> Slots {
        Slots {
            settings,
            stages_max,
            prefix,
            started: 0,
            replicas: BTreeMap::new(),
            reservations: BTreeMap::new(),
            waiting: VecDeque::new(),
            effects: Vec::new(),
            failed_starts: HashMap::new(),
            wished: BTreeMap::new(),
            counters: Counters::default(),
        }
    }

    /// What is to be done, in order.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        self.check();
        std::mem::take(&mut self.effects)
    }

    /// A coordinator asks for slots.
    pub fn prepare(&mut self, now: Instant, ticket: u64, request: Prepare) {
        if let Some(why) = self.never_fits(&request) {
            return self.answer(ticket, Answer::Failed(PrepareError::Unavailable(why)));
        }
        if request.wait && self.waiting.len() < WAITING_MAX {
            self.answer(ticket, Answer::Waiting);
            self.waiting.push_back((ticket, request));
            return self.serve_waiting(now);
        }
        let choice = if self.is_claimed(&request) {
            None
        } else {
            self.choose(&request)
        };
        match choice {
            Some(choice) => self.reserve(now, ticket, request, choice),
            None => {
                self.counters.full += 1;
                self.answer(ticket, Answer::Failed(PrepareError::Full));
            }
        }
    }

    /// The call of a prepare is over, however it ended: what it had is free.
    pub fn end(&mut self, now: Instant, ticket: u64) {
        let before = self.waiting.len();
        self.waiting.retain(|(known, _)| *known != ticket);
        self.free(now, &[ticket]);
        if self.waiting.len() < before {
            // It may have stood before others that now have room.
            self.serve_waiting(now);
        }
    }

    /// A replica can be called.
    pub fn ready(&mut self, now: Instant, replica: &str) {
        let Some(started) = self.replicas.get_mut(replica) else {
            // It was stopped before it had begun.
            self.effects.push(Effect::Stop(replica.to_owned()));
            return;
        };
        started.is_ready = true;
        started.ready_since = now;
        started.idle_since = now;
        let kind = started.kind.clone();
        self.failed_starts.remove(&kind);
        for ticket in self.tickets(|reservation| !reservation.is_ready) {
            self.ready_if_all(ticket);
        }
        self.replaced(&kind);
        // One that nobody wants any more may make room.
        self.serve_waiting(now);
        self.keep_wished(now);
    }

    /// A replica did not start. One that did not come up may be the executable's own fault; anything else is not.
    pub fn failed(&mut self, now: Instant, replica: &str, error: &StartError) {
        let kind = self.replicas.get(replica).map(|failed| failed.kind.clone());
        let is_its_own = matches!(error, StartError::NotReady(_));
        let cannot_start = is_its_own && kind.clone().is_some_and(|kind| self.has_failed_often(kind));
        if let Some(kind) = &kind {
            self.note_failed(now, kind, error);
        }
        let is_told = self.gone(now, replica, &error.to_string(), cannot_start);
        if let Some(kind) = kind.filter(|_| cannot_start && is_told) {
            // Whoever asks later tries anew.
            self.failed_starts.remove(&kind);
        }
    }

    /// A replica ended by itself. Runs that have started see it at their calls; others hear of it here.
    pub fn ended(&mut self, now: Instant, replica: &str, why: &str) {
        self.note_ended(now, replica, why);
        self.gone(now, replica, why, false);
    }

    /// Whether anybody waited for it, and was told.
    fn gone(&mut self, now: Instant, replica: &str, why: &str, cannot_start: bool) -> bool {
        if self.replicas.remove(replica).is_none() {
            return false;
        }
        let tickets = self.tickets(|reservation| {
            !reservation.is_ready && reservation.places.iter().any(|place| place.replica == replica)
        });
        for ticket in &tickets {
            let stage = self.reservations.get(ticket).and_then(|reservation| {
                let there = reservation.places.iter().find(|place| place.replica == replica);
                there.map(|place| place.stage)
            });
            let why = why.to_owned();
            let error = match stage.filter(|_| cannot_start) {
                Some(stage) => PrepareError::CannotStart { stage, why },
                None => PrepareError::Unavailable(why),
            };
            self.answer(*ticket, Answer::Failed(error));
        }
        self.free(now, &tickets);
        self.serve_waiting(now);
        self.keep_wished(now);
        !tickets.is_empty()
    }

    /// Whether so many replicas of this kind did not come up that the next one would not either.
    fn has_failed_often(&mut self, kind: Kind) -> bool {
        let failed = self.failed_starts.entry(kind).or_default();
        *failed = failed.saturating_add(1);
        *failed >= STARTS_MAX
    }

    /// Settings changed. They hold for replicas that run already, but none gets more slots than it started with: one that has
    /// fewer ends after its last use, and one that is kept once another is there in its place.
    pub fn set(&mut self, now: Instant, settings: Settings) {
        self.settings = settings;
        for replica in self.replicas.values_mut() {
            replica.is_leaving |= !replica.is_fresh && replica.slots < settings.slots;
        }
        let is_kept = |replica: &Replica| self.wished.contains_key(&replica.kind);
        let of_no_use = |replica: &Replica| replica.is_leaving && replica.is_idle() && !is_kept(replica);
        let of_no_use = self.names(of_no_use);
        of_no_use.into_iter().for_each(|replica| self.stop(replica));
        self.refuse_waiting();
        self.serve_waiting(now);
        self.tick(now);
    }

    /// Tells those that wait for what there is at no time any more.
    pub(super) fn refuse_waiting(&mut self) {
        for (ticket, request) in std::mem::take(&mut self.waiting) {
            match self.never_fits(&request) {
                Some(why) => self.answer(ticket, Answer::Failed(PrepareError::Unavailable(why))),
                None => self.waiting.push_back((ticket, request)),
            }
        }
    }

    /// Stops replicas that nobody wishes and nobody has used for long, and tries again what failed.
    pub fn tick(&mut self, now: Instant) {
        let warm = self.settings.warm;
        let cold = |replica: &Replica| replica.idle_since + warm <= now;
        let endable = self.endable(|_, _| true);
        let cold = endable.into_iter().filter(|(_, replica)| cold(replica));
        let cold: Vec<String> = cold.map(|(name, _)| name.to_owned()).collect();
        cold.into_iter().for_each(|replica| self.stop(replica));
        self.keep_wished(now);
        self.serve_waiting(now);
    }

    /// When [`Slots::tick`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        // The longest idle one is the first.
        let idle = self.endable(|_, _| true).into_iter().next();
        let cold = idle.map(|(_, replica)| replica.idle_since + self.settings.warm);
        cold.into_iter().chain(self.next_try()).min()
    }

    /// Stops everything: the agent stops.
    pub fn stop_all(&mut self) {
        self.names(|_| true)
            .into_iter()
            .for_each(|replica| self.stop(replica));
        self.reservations.clear();
        self.waiting.clear();
        self.wished.clear();
    }

    /// Slots in use.
    pub fn used(&self) -> usize {
        self.reservations
            .values()
            .map(|reservation| reservation.places.len())
            .sum()
    }

    /// Whether somebody who waits in order would be overtaken.
    pub(super) fn is_claimed(&self, request: &Prepare) -> bool {
        let claimed: usize = self.waiting.iter().map(|(_, earlier)| earlier.stages.len()).sum();
        let shares = |earlier: &Prepare| {
            earlier.stages.iter().any(|theirs| {
                request
                    .stages
                    .iter()
                    .any(|ours| ours.kind.service == theirs.kind.service)
            })
        };
        claimed > 0
            && (self.used() + claimed + request.stages.len() > self.stages_max
                || self.waiting.iter().any(|(_, earlier)| shares(earlier)))
    }

    /// Gives slots to those that wait, in order; who waits for other services does not stand in the way.
    pub(super) fn serve_waiting(&mut self, now: Instant) {
        let mut passed: VecDeque<(u64, Prepare)> = VecDeque::new();
        for (ticket, request) in std::mem::take(&mut self.waiting) {
            // Only those before it can be overtaken.
            std::mem::swap(&mut self.waiting, &mut passed);
            let choice = if self.is_claimed(&request) {
                None
            } else {
                self.choose(&request)
            };
            std::mem::swap(&mut self.waiting, &mut passed);
            match choice {
                Some(choice) => self.reserve(now, ticket, request, choice),
                None => passed.push_back((ticket, request)),
            }
        }
        self.waiting = passed;
    }

    /// Ends reservations, and lets others have what they had.
    fn free(&mut self, now: Instant, tickets: &[u64]) {
        let mut freed = 0;
        for reservation in tickets
            .iter()
            .filter_map(|ticket| self.reservations.remove(ticket))
            .collect::<Vec<_>>()
        {
            for place in reservation.places {
                freed += 1;
                let Some(replica) = self.replicas.get_mut(&place.replica) else {
                    continue;
                };
                replica.used -= 1;
                replica.idle_since = now;
                if replica.is_fresh || replica.is_leaving && replica.used == 0 {
                    self.stop(place.replica);
                }
            }
        }
        if freed > 0 {
            self.serve_waiting(now);
        }
    }

    pub(super) fn stop(&mut self, replica: String) {
        self.replicas.remove(&replica);
        self.effects.push(Effect::Stop(replica));
    }

    pub(super) fn answer(&mut self, ticket: u64, answer: Answer) {
        self.effects.push(Effect::Answer(ticket, answer));
    }

    fn tickets(&self, which: impl Fn(&Reservation) -> bool) -> Vec<u64> {
        self.reservations
            .iter()
            .filter(|(_, known)| which(known))
            .map(|(ticket, _)| *ticket)
            .collect()
    }

    fn names(&self, which: impl Fn(&Replica) -> bool) -> Vec<String> {
        self.replicas
            .iter()
            .filter(|(_, known)| which(known))
            .map(|(name, _)| name.clone())
            .collect()
    }
}

impl Replica {
    pub(super) fn is_idle(&self) -> bool {
        self.is_ready && self.used == 0
    }
}

#[cfg(test)]
mod tests;
