//! The store's clock never goes back: not from entry to entry, nor as a node reads it, nor behind what the node applied;
//! it is the same for all that applied an entry, and goes on no faster than the fastest of the hosts' clocks.

use std::collections::{BTreeMap, BTreeSet};

use pipes_raft::sim::{Deed, Event};

use crate::history::History;

/// How far a node may be behind another once all is quiet: it hears the leader, or was answered not long ago, and clocks
/// run apart since then.
const BEHIND_MS_MAX: u64 = 5_000;

/// What the clock read.
#[derive(Default)]
pub struct Clock {
    drift_max: u64,
    /// After each entry, by its index.
    applied: BTreeMap<u64, u64>,
    /// After the last that each host applied.
    hosts: BTreeMap<String, u64>,
    /// As each host read it last.
    read: BTreeMap<String, u64>,
    /// The hosts among them without a replica: one that was up alone counts on, and tells nobody.
    without_replica: BTreeSet<String>,
}

impl Clock {
    /// Clocks run up to `drift_max` parts of a thousand fast or slow.
    pub fn new(drift_max: u64) -> Clock {
        Clock {
            drift_max,
            ..Clock::default()
        }
    }

    /// Looks at an entry that was applied.
    pub fn take(&mut self, event: &Event, history: &mut History) {
        let host = &event.host;
        let (index, clock_ms) = match &event.deed {
            Deed::Applied { place, clock_ms, .. } => (place.2, *clock_ms),
            // Its life may be another.
            Deed::Identified { .. } => {
                self.hosts.remove(host);
                self.read.remove(host);
                return;
            }
            _ => return,
        };
        let known = *self.applied.entry(index).or_insert(clock_ms);
        let before = self.applied.range(..index).next_back();
        let before = before.map_or(0, |(_, before)| *before);
        if known != clock_ms || before > clock_ms {
            history.fail(format!(
                "{host}: the clock reads {clock_ms} after entry {index}, and {known} elsewhere; {before} before it"
            ));
        }
        self.hosts.insert(host.clone(), clock_ms);
        history.clock_ms = history.clock_ms.max(clock_ms);
    }

    /// Looks at what a running host reads.
    pub fn read(&mut self, host: &str, now_ms: u64, has_replica: bool, history: &mut History) {
        match has_replica {
            true => drop(self.without_replica.remove(host)),
            false => drop(self.without_replica.insert(host.to_owned())),
        }
        let before = self.read.insert(host.to_owned(), now_ms).unwrap_or(0);
        let applied = self.hosts.get(host).copied().unwrap_or(0);
        // Milliseconds for where in a step things happen, and for a host whose clock just began.
        let most = history.now_ms * (1000 + self.drift_max) / 1000 + 5;
        if now_ms < before.max(applied) || now_ms > most {
            history.fail(format!(
                "{host} reads {now_ms}, after {before}, and {applied} with what it applied; at most {most} have passed"
            ));
        }
    }

    /// A host's next reading is that of another process.
    pub fn forget(&mut self, host: &str) {
        self.hosts.remove(host);
        self.read.remove(host);
    }

    /// All is quiet, and all are up.
    pub fn at_end(&self, history: &mut History) {
        let of_replicas = self.read.iter().filter(|(host, _)| !self.without_replica.contains(*host));
        let most = of_replicas.map(|(_, reading)| reading).max();
        let (Some(least), Some(most)) = (self.read.values().min(), most) else {
            return;
        };
        if least + BEHIND_MS_MAX < *most {
            history.fail(format!("they read {:?} when all is quiet", self.read));
        }
    }
}
