//! From a choice to a reservation: places taken, replicas begun, credit shared out; and what always holds of them.

use std::collections::HashMap;

use pipes_protocol::reservation::Prepare;
use tokio::time::Instant;

use crate::executor::backend::ReplicaSpec;
use crate::executor::pool::answer::{Answer, Place, Prepared};
use crate::executor::pool::choose::{Choice, Chosen, New};
use crate::executor::pool::state::{CREDIT_MAX, Effect, Replica, Reservation, Slots, WINDOW_MAX, WINDOW_MIN};

impl Slots {
    pub(super) fn reserve(&mut self, now: Instant, ticket: u64, request: Prepare, choice: Choice) {
        for idle in choice.evicted {
            self.counters.evicted += 1;
            self.stop(idle);
        }
        self.answer(ticket, Answer::Reserved);
        let new: Vec<String> = choice.new.into_iter().map(|new| self.start(now, new)).collect();
        let mut places = Vec::with_capacity(request.stages.len());
        let mut credit: u64 = self
            .reservations
            .values()
            .flat_map(|known| &known.places)
            .map(|place| place.window)
            .sum();
        for (stage, chosen) in request.stages.iter().zip(choice.places) {
            let replica = match chosen {
                Chosen::Known(name) => name,
                Chosen::New(index) => new[index].clone(),
            };
            if let Some(replica) = self.replicas.get_mut(&replica) {
                replica.used += 1;
            }
            let window = if credit + WINDOW_MAX <= CREDIT_MAX {
                WINDOW_MAX
            } else {
                WINDOW_MIN
            };
            self.counters.narrow += u64::from(window == WINDOW_MIN);
            credit += window;
            places.push(Place {
                stage: stage.stage,
                replica,
                window,
            });
        }
        let reservation = Reservation {
            places,
            is_ready: false,
        };
        self.reservations.insert(ticket, reservation);
        self.ready_if_all(ticket);
    }

    pub(super) fn start(&mut self, now: Instant, new: New) -> String {
        self.started += 1;
        let name = format!("{}{}", self.prefix, self.started);
        let slots = if new.is_fresh { 1 } else { self.settings.slots };
        let spec = ReplicaSpec {
            replica: name.clone(),
            kind: new.kind.clone(),
            slots,
            window: WINDOW_MAX,
        };
        let replica = Replica {
            kind: new.kind,
            slots,
            used: 0,
            is_ready: false,
            ready_since: now,
            is_fresh: new.is_fresh,
            is_leaving: false,
            idle_since: now,
        };
        self.replicas.insert(name.clone(), replica);
        self.effects.push(Effect::Start(spec));
        name
    }

    pub(super) fn ready_if_all(&mut self, ticket: u64) {
        let Some(reservation) = self.reservations.get_mut(&ticket) else {
            return;
        };
        let is_ready = |place: &Place| {
            self.replicas
                .get(&place.replica)
                .is_some_and(|replica| replica.is_ready)
        };
        if !reservation.is_ready && reservation.places.iter().all(is_ready) {
            reservation.is_ready = true;
            let prepared = Prepared {
                places: reservation.places.clone(),
            };
            self.answer(ticket, Answer::Ready(prepared));
        }
    }

    /// What always holds (1, 2).
    pub(super) fn check(&self) {
        if cfg!(debug_assertions) {
            let mut used: HashMap<&str, u32> = HashMap::new();
            for reservation in self.reservations.values() {
                reservation
                    .places
                    .iter()
                    .for_each(|place| *used.entry(&place.replica).or_default() += 1);
            }
            for (name, replica) in &self.replicas {
                assert_eq!(
                    replica.used,
                    used.get(name.as_str()).copied().unwrap_or(0),
                    "slots of {name}"
                );
                assert!(
                    replica.used <= replica.slots,
                    "{name} has more invocations than slots"
                );
            }
            assert!(self.used() <= self.stages_max);
        }
    }
}
