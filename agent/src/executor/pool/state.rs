//! Who has which slot of which replica: the pool's state, as a function of inputs and time.
//!
//! ```text
//! prepare r1 [cat tr]   ->  Reserved, Start a (cat), Start b (tr)
//! ready a, ready b      ->  Ready [(1, a), (2, b)]          ends 10 s later unless committed
//! abort r1              ->  a and b stay warm; who is on the notify list hears of it
//! 10 minutes later      ->  Stop a, Stop b
//! ```
//!
//! Always: (1) a replica's used slots are the places that reservations have in it, and never more than its slots; (2) a
//! run has one reservation here, all its stages or none; (3) a prepare that does not wait is answered at once: reserved or
//! full; (4) those that wait are served in their order, and nobody who came later takes a service they wait for.
//! Not here: processes and the clock (`event_loop.rs`, `../process/`).

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Duration;

use pipes_protocol::reservation::{Prepare, PrepareError};
use tokio::time::Instant;

use crate::executor::backend::ReplicaSpec;
use crate::executor::pool::answer::{Answer, Place};
use crate::executor::settings::Settings;

/// How long reserved slots wait to be committed; what a coordinator needs at most, and then has given up itself.
pub const COMMIT_WITHIN: Duration = Duration::from_secs(10);

/// The notify list: coordinators that are told when a slot frees; beyond them the oldest asks by itself after a second.
pub const NOTIFY_MAX: usize = 1_000;

/// Runs of which it is known here up to which attempt they are over: a prepare that comes after its abort has nothing.
pub const OVER_MAX: usize = 1_000;

/// Runs that wait here in order; as many as one coordinator lets wait. Beyond them: full.
pub const WAITING_MAX: usize = 1_000;

/// Replicas in all, idle ones included, each a process of about a megabyte and a session of the router. Beyond them the
/// one that has been idle longest is stopped; where none is idle: full.
pub const REPLICAS_MAX: usize = 256;

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
    /// Tell a coordinator's node that the run may ask again.
    Freed(u64, String),
}

/// How often a limit was met.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Prepares that found no slot.
    pub full: u64,
    /// Reservations that nobody committed in time.
    pub expired: u64,
    /// Idle replicas stopped before their time, for want of room.
    pub evicted: u64,
    /// Pipes that stay at their first window.
    pub narrow: u64,
}

#[derive(Debug)]
pub(super) struct Replica {
    pub(super) service: String,
    pub(super) digest: String,
    pub(super) slots: u32,
    /// Stages that have a place here.
    pub(super) used: u32,
    pub(super) is_ready: bool,
    /// Serves one invocation and is stopped.
    pub(super) is_fresh: bool,
    /// Since when nobody uses it.
    pub(super) idle_since: Instant,
}

#[derive(Debug)]
pub(super) struct Reservation {
    pub(super) run: String,
    pub(super) coordinator: u64,
    pub(super) attempt: u64,
    pub(super) places: Vec<Place>,
    pub(super) state: State,
    pub(super) waits: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Replicas are being started.
    Starting,
    /// All can be called.
    Ready {
        /// Given up then; `None` for runs in ordered mode, which wait for other nodes.
        until: Option<Instant>,
    },
    /// The run has started; it ends when the run is over.
    Committed,
}

/// The pool's state. Tickets are the caller's numbers for its prepares, each used once.
#[derive(Debug)]
pub struct Slots {
    pub(super) settings: Settings,
    pub(super) stages_max: usize,
    pub(super) prefix: String,
    pub(super) started: u64,
    pub(super) replicas: BTreeMap<String, Replica>,
    pub(super) reservations: BTreeMap<u64, Reservation>,
    waiting: VecDeque<(u64, Prepare)>,
    to_notify: VecDeque<(u64, String)>,
    over: VecDeque<(String, u64)>,
    pub(super) effects: Vec<Effect>,
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
            to_notify: VecDeque::new(),
            over: VecDeque::new(),
            effects: Vec::new(),
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
        // What a former attempt of the run had here is over, even if its abort was lost.
        self.end(now, &request.run, request.attempt);
        let over = || {
            self.is_over(&request)
                .then(|| "this attempt of the run is over".to_owned())
        };
        if let Some(why) = self.never_fits(&request).or_else(over) {
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
                if self.to_notify.len() == NOTIFY_MAX {
                    self.to_notify.pop_front();
                }
                self.to_notify.push_back((request.coordinator, request.run));
                self.answer(ticket, Answer::Failed(PrepareError::Full));
            }
        }
    }

    /// Whoever prepared is gone, or does not want it any more.
    pub fn cancel(&mut self, now: Instant, ticket: u64) {
        self.waiting.retain(|(known, _)| *known != ticket);
        self.free(now, &[ticket]);
    }

    /// The run starts: its slots are its own until it is over.
    pub fn commit(&mut self, run: &str) {
        for reservation in self
            .reservations
            .values_mut()
            .filter(|reservation| reservation.run == run)
        {
            reservation.state = State::Committed;
        }
    }

    /// The run is over, or is placed anew: what its attempts up to this one had here is free.
    pub fn abort(&mut self, now: Instant, run: &str, attempt: u64) {
        let known = self.over.iter().position(|(known, _)| known == run);
        let before = known.and_then(|at| self.over.remove(at));
        if self.over.len() == OVER_MAX {
            self.over.pop_front();
        }
        let attempt = before.map_or(attempt, |(_, before)| before.max(attempt));
        self.over.push_back((run.to_owned(), attempt));
        self.end(now, run, attempt);
    }

    fn end(&mut self, now: Instant, run: &str, attempt: u64) {
        self.to_notify.retain(|(_, known)| known != run);
        self.waiting
            .retain(|(_, request)| request.run != run || request.attempt > attempt);
        let tickets = self.tickets(|reservation| reservation.run == run && reservation.attempt <= attempt);
        self.free(now, &tickets);
    }

    /// Whether the attempt is known to be over: aborted, or followed by a later one.
    fn is_over(&self, request: &Prepare) -> bool {
        let waiting = self.waiting.iter().map(|(_, known)| (&known.run, known.attempt));
        let mut known = self
            .reservations
            .values()
            .map(|known| (&known.run, known.attempt))
            .chain(waiting);
        let mut aborted = self.over.iter();
        known.any(|(run, attempt)| *run == request.run && attempt > request.attempt)
            || aborted.any(|(run, attempt)| *run == request.run && *attempt >= request.attempt)
    }

    /// The link to a coordinator's node is lost, and its runs with it.
    pub fn coordinator_lost(&mut self, now: Instant, node: u64) {
        self.to_notify.retain(|(coordinator, _)| *coordinator != node);
        self.waiting.retain(|(_, request)| request.coordinator != node);
        let tickets = self.tickets(|reservation| reservation.coordinator == node);
        self.free(now, &tickets);
    }

    /// Nodes whose runs are known here.
    pub fn coordinators(&self) -> HashSet<u64> {
        let reserved = self
            .reservations
            .values()
            .map(|reservation| reservation.coordinator);
        let waiting = self.waiting.iter().map(|(_, request)| request.coordinator);
        reserved
            .chain(waiting)
            .chain(self.to_notify.iter().map(|(coordinator, _)| *coordinator))
            .collect()
    }

    /// A replica can be called.
    pub fn ready(&mut self, now: Instant, replica: &str) {
        let Some(started) = self.replicas.get_mut(replica) else {
            return;
        };
        started.is_ready = true;
        started.idle_since = now;
        for ticket in self.tickets(|reservation| reservation.state == State::Starting) {
            self.ready_if_all(now, ticket);
        }
    }

    /// A replica did not start, or ended by itself. Runs that have started see it at their calls; others hear of it here.
    pub fn ended(&mut self, now: Instant, replica: &str, why: &str) {
        if self.replicas.remove(replica).is_none() {
            return;
        }
        let tickets = self.tickets(|reservation| {
            reservation.state == State::Starting
                && reservation.places.iter().any(|place| place.replica == replica)
        });
        for ticket in &tickets {
            self.answer(*ticket, Answer::Failed(PrepareError::Unavailable(why.to_owned())));
        }
        self.free(now, &tickets);
        self.serve_waiting(now);
    }

    /// Settings changed. They hold for replicas that run already, but none gets more slots than it started with.
    pub fn set(&mut self, now: Instant, settings: Settings) {
        self.settings = settings;
        self.serve_waiting(now);
        self.notify(self.to_notify.len());
        self.tick(now);
    }

    /// Gives up what has waited too long.
    pub fn tick(&mut self, now: Instant) {
        let late = self.tickets(
            |reservation| matches!(reservation.state, State::Ready { until: Some(until) } if until <= now),
        );
        self.counters.expired += late.len() as u64;
        self.free(now, &late);
        let warm = self.settings.warm;
        let cold = |replica: &Replica| replica.is_idle() && replica.idle_since + warm <= now;
        let cold: Vec<String> = self.names(cold);
        cold.into_iter().for_each(|replica| self.stop(replica));
    }

    /// When [`Slots::tick`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        let late = self
            .reservations
            .values()
            .filter_map(|reservation| match reservation.state {
                State::Ready { until } => until,
                _ => None,
            });
        let idle = self.replicas.values().filter(|replica| replica.is_idle());
        late.chain(idle.map(|replica| replica.idle_since + self.settings.warm))
            .min()
    }

    /// Stops everything: the agent stops.
    pub fn stop_all(&mut self) {
        self.names(|_| true)
            .into_iter()
            .for_each(|replica| self.stop(replica));
        self.reservations.clear();
        self.waiting.clear();
    }

    /// Slots in use.
    pub fn used(&self) -> usize {
        self.reservations
            .values()
            .map(|reservation| reservation.places.len())
            .sum()
    }

    /// Whether somebody who waits in order would be overtaken.
    fn is_claimed(&self, request: &Prepare) -> bool {
        let claimed: usize = self.waiting.iter().map(|(_, earlier)| earlier.stages.len()).sum();
        let shares = |earlier: &Prepare| {
            earlier
                .stages
                .iter()
                .any(|theirs| request.stages.iter().any(|ours| ours.service == theirs.service))
        };
        claimed > 0
            && (self.used() + claimed + request.stages.len() > self.stages_max
                || self.waiting.iter().any(|(_, earlier)| shares(earlier)))
    }

    /// Gives slots to those that wait, in order; who waits for other services does not stand in the way.
    fn serve_waiting(&mut self, now: Instant) {
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
                if replica.is_fresh {
                    self.stop(place.replica);
                }
            }
        }
        if freed > 0 {
            self.serve_waiting(now);
            self.notify(freed);
        }
    }

    /// Tells those on the notify list: as many as slots are free, or they would only come to be refused again.
    fn notify(&mut self, count: usize) {
        for (coordinator, run) in self.to_notify.drain(..count.min(self.to_notify.len())) {
            self.effects.push(Effect::Freed(coordinator, run));
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
