//! Where a run's stages go: the least used replica that has a slot, a new one where there is none, an idle one stopped for
//! it where there is no room.
//!
//! ```text
//! replicas=2, slots=2, a1 and a2 idle       a a    a1 a2
//!                                           a a b  a1 a1, and b in the place of a2
//! ```
//!
//! Always: what fits a node that serves nobody else is found there, whatever is idle on it, so that nobody waits for ever.

use std::collections::{BTreeMap, HashMap, HashSet};

use pipes_protocol::reservation::{Prepare, Wanted};
use pipes_protocol::supply::{Kind, fits_ever};

use crate::executor::pool::state::{REPLICAS_MAX, Replica, Slots};
use crate::executor::settings::Settings;

/// Where an asked run would go.
#[derive(Default)]
pub(super) struct Choice {
    /// For each stage: a known replica, or a new one by its index.
    pub places: Vec<Chosen>,
    pub new: Vec<New>,
    pub evicted: Vec<String>,
}

pub(super) enum Chosen {
    Known(String),
    New(usize),
}

pub(super) struct New {
    pub kind: Kind,
    pub is_fresh: bool,
    pub used: u32,
}

/// How a run's stages lie in what is there.
enum Way<'s> {
    /// Each in the least used replica.
    Spread,
    /// In as few as can be of these, which may end for new ones.
    Packed(HashSet<&'s str>),
}

impl Slots {
    /// Why a node of these settings has room for it at no time.
    pub(super) fn never_fits(&self, request: &Prepare) -> Option<String> {
        if request.stages.len() > self.stages_max {
            return Some(format!(
                "it runs {} stages at once, and {} were asked of it",
                self.stages_max,
                request.stages.len()
            ));
        }
        let Settings { slots, replicas, .. } = self.settings;
        let mut by_service: BTreeMap<&str, Vec<(&Kind, bool)>> = BTreeMap::new();
        for stage in &request.stages {
            let of = by_service.entry(stage.kind.service.as_str()).or_default();
            of.push((&stage.kind, stage.fresh));
        }
        let kept = |kind: &Kind| self.wished_of(kind).min(self.held(kind));
        let is_new = |stage: &Wanted| stage.fresh || kept(&stage.kind) == 0;
        let kept_in_all: u32 = self.wished.keys().map(kept).sum();
        if kept_in_all as usize >= REPLICAS_MAX && request.stages.iter().any(is_new) {
            return Some(format!(
                "{REPLICAS_MAX} replicas are kept there, as many as a node may have"
            ));
        }
        let is_too_many =
            |wanted: &[(&Kind, bool)]| !fits_ever(wanted.iter().copied(), kept, slots, replicas);
        let (service, wanted) = by_service.into_iter().find(|(_, wanted)| is_too_many(wanted))?;
        let count = wanted.len();
        Some(format!(
            "{count} stages of {service} were asked of it; settings slots={slots} and replicas={replicas} forbid that"
        ))
    }

    /// Finds slots for all stages, or none.
    pub(super) fn choose(&self, request: &Prepare) -> Option<Choice> {
        if self.used() + request.stages.len() > self.stages_max {
            return None;
        }
        self.choose_so(request, &Way::Spread).or_else(|| {
            let endable = self.endable(|_, _| true).into_iter().map(|(name, _)| name);
            self.choose_so(request, &Way::Packed(endable.collect()))
        })
    }

    fn choose_so(&self, request: &Prepare, way: &Way<'_>) -> Option<Choice> {
        let mut choice = Choice::default();
        let mut taken: HashMap<&str, u32> = HashMap::new();
        for stage in &request.stages {
            let place = self.known_place(stage, &taken, &choice, way);
            if let Some(name) = place {
                *taken.entry(name).or_default() += 1;
                choice.places.push(Chosen::Known(name.to_owned()));
                continue;
            }
            let index = match choice.shared_new(stage, self.settings.slots) {
                Some(index) => index,
                None => self.new_place(stage, &taken, &mut choice)?,
            };
            choice.new[index].used += 1;
            choice.places.push(Chosen::New(index));
        }
        Some(choice)
    }

    /// The replica that has a slot for the stage: a ready one before one that starts, one that is to stay before one that
    /// is to go, the least used first.
    fn known_place<'s>(
        &'s self,
        stage: &Wanted,
        taken: &HashMap<&str, u32>,
        choice: &Choice,
        way: &Way<'_>,
    ) -> Option<&'s str> {
        let used = |name: &str, replica: &Replica| replica.used + taken.get(name).copied().unwrap_or(0);
        let may_end = |name: &str| match way {
            Way::Spread => false,
            Way::Packed(endable) => endable.contains(name) && !taken.contains_key(name),
        };
        let slots = self.settings.slots;
        let fitting = self.replicas.iter().filter(|(name, replica)| {
            // A new one would have more.
            let gives_way = may_end(name) && replica.slots < slots;
            !stage.fresh
                && !replica.is_fresh
                && replica.kind == stage.kind
                && used(name, replica) < replica.slots.min(slots)
                && !choice.evicted.contains(name)
                && !gives_way
        });
        let least = fitting.min_by_key(|(name, replica)| {
            let used = used(name, replica);
            (may_end(name), !replica.is_ready, replica.is_leaving, used)
        });
        least.map(|(name, _)| name.as_str())
    }

    /// Room for a new replica, if need be instead of an idle one.
    fn new_place(&self, stage: &Wanted, taken: &HashMap<&str, u32>, choice: &mut Choice) -> Option<usize> {
        let known = self.known_beside(stage);
        let new = choice
            .new
            .iter()
            .filter(|new| new.kind.service == stage.kind.service)
            .count();
        let gone = choice
            .evicted
            .iter()
            .filter(|name| self.replicas[*name].kind.service == stage.kind.service)
            .count();
        if known + new - gone >= self.settings.replicas as usize {
            let of_service = |replica: &Replica| replica.kind.service == stage.kind.service;
            let idle = self.longest_idle(taken, choice, of_service)?;
            choice.evicted.push(idle);
        } else if self.replicas.len() + choice.new.len() - choice.evicted.len() >= REPLICAS_MAX {
            let idle = self.longest_idle(taken, choice, |_| true)?;
            choice.evicted.push(idle);
        }
        choice.new.push(New {
            kind: stage.kind.clone(),
            is_fresh: stage.fresh,
            used: 0,
        });
        Some(choice.new.len() - 1)
    }

    fn longest_idle(
        &self,
        taken: &HashMap<&str, u32>,
        choice: &Choice,
        counts: impl Fn(&Replica) -> bool,
    ) -> Option<String> {
        let endable = self.endable(|name, _| !taken.contains_key(name));
        let mut idle = endable
            .into_iter()
            .filter(|(name, replica)| counts(replica) && !choice.evicted.iter().any(|gone| gone == name));
        idle.next().map(|(name, _)| name.to_owned())
    }

    /// Replicas of a service that count when one is to start for this stage: those beyond what is wished, and all of its
    /// kind where it would share them.
    fn known_beside(&self, stage: &Wanted) -> usize {
        let kind = &stage.kind;
        let of_service = self
            .replicas
            .values()
            .filter(|known| known.kind.service == kind.service);
        let others = (self.wished.iter())
            .filter(|(other, _)| other.service == kind.service && (stage.fresh || *other != kind));
        let wished: u32 = others
            .map(|(other, wished)| wished.count.min(self.held(other)))
            .sum();
        of_service.count() - wished as usize
    }
}

impl Choice {
    /// A replica that this run starts anyway and that has a slot left.
    fn shared_new(&self, stage: &Wanted, slots: u32) -> Option<usize> {
        self.new
            .iter()
            .position(|new| !stage.fresh && !new.is_fresh && new.kind == stage.kind && new.used < slots)
    }
}
