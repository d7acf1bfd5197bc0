//! What must always hold, one file each; looked at after every step with what the stores did and the clients were told.

mod applied;
mod at_end;
mod clock;
pub mod jobs;
mod kept;
mod leaders;
mod leases;
mod logs;

use std::sync::Arc;

use pipes_raft::Node;
use pipes_raft::sim::{Deed, Event};

use crate::history::History;

/// All checks with what they remember.
#[derive(Default)]
pub struct Checks {
    applied: applied::Applied,
    clock: clock::Clock,
    /// Of jobs, in a world that has them.
    pub jobs: jobs::Jobs,
    kept: kept::Kept,
    leaders: leaders::Leaders,
    leases: leases::Leases,
    logs: logs::Logs,
    snapshots: u64,
    installed: u64,
    last_applied_ms: u64,
}

impl std::fmt::Debug for Checks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Checks")
    }
}

impl Checks {
    /// Clocks run up to `drift_max` parts of a thousand fast or slow.
    pub fn new(drift_max: u64) -> Checks {
        Checks {
            clock: clock::Clock::new(drift_max),
            leases: leases::Leases::new(drift_max),
            jobs: jobs::Jobs::new(drift_max),
            ..Checks::default()
        }
    }

    /// Looks at what a store did.
    pub fn take(&mut self, event: &Event, history: &mut History) {
        note(event, history);
        match &event.deed {
            Deed::SnapshotKept { .. } => self.snapshots += 1,
            Deed::StateSet {
                is_installed: true, ..
            } => {
                self.installed += 1;
                history.installed.push(event.host.clone());
            }
            Deed::Applied { .. } => self.last_applied_ms = history.now_ms,
            _ => {}
        }
        self.clock.take(event, history);
        self.logs.take(event, history);
        self.leaders.take(event, history);
        self.kept.take(event, history);
        if let Some(entry) = self.applied.take(event, history) {
            self.leases.take(&entry, history);
        }
        if history.has_jobs {
            self.jobs.take(event, history);
        }
    }

    /// Looks at what a running host reads of the store's clock.
    pub fn read(&mut self, host: &str, now_ms: u64, has_replica: bool, history: &mut History) {
        self.clock.read(host, now_ms, has_replica, history);
    }

    /// A host's process has ended.
    pub fn ended(&mut self, host: &str) {
        self.clock.forget(host);
    }

    /// Looks at what clients were told in this step, and at what runs after it.
    pub fn stepped(&mut self, history: &mut History) {
        for serial in std::mem::take(&mut history.acknowledged) {
            if let Some(index) = self.applied.acknowledged(serial, history) {
                self.kept.acknowledged(serial, index, &self.applied, history);
            }
        }
        if history.has_jobs {
            self.jobs.stepped(history);
        }
    }

    /// Forgets what a host was that is another member from now on.
    pub fn forget(&mut self, host: &str) {
        self.applied.forget(host);
        self.kept.forget(host);
        self.leaders.forget(host);
    }

    /// The id of the node on a host.
    pub fn id(&self, host: &str) -> u64 {
        self.applied.id(host)
    }

    /// Whether any one voter may be lost.
    pub fn can_lose_one(&self) -> bool {
        self.applied
            .configs(self.applied.last())
            .iter()
            .all(|config| config.iter().all(|voters| voters.len() > 2))
    }

    /// The index of the last entry that anybody has applied.
    pub fn last_applied(&self) -> u64 {
        self.applied.last()
    }

    /// Whether nothing was applied for a second, and all up to `applied` is all that anybody has applied.
    pub fn is_quiet(&self, now_ms: u64, applied: u64) -> bool {
        self.last_applied_ms + 1_000 <= now_ms && self.applied.last() <= applied
    }

    /// Looks at all when nothing is wrong any more and nothing under way.
    pub fn at_end(&self, nodes: &[Arc<Node>], history: &mut History) {
        self.applied.at_end(history);
        self.clock.at_end(history);
        at_end::look(nodes, history);
        if history.has_jobs {
            self.jobs.at_end(history);
        }
    }

    /// Counts for a summary.
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        let of_store = [
            ("entries", self.applied.len()),
            ("elections", self.leaders.count()),
            ("snapshots", self.snapshots),
            ("snapshots installed", self.installed),
        ];
        of_store.into_iter().chain(self.jobs.counts()).collect()
    }
}

fn note(event: &Event, history: &mut History) {
    let host = &event.host;
    let what = match &event.deed {
        Deed::Appended { entries, is_synced } => {
            let (first, last) = (
                entries.first().map(|(place, _)| place),
                entries.last().map(|(place, _)| place),
            );
            format!("{host} appended {first:?}..{last:?} synced {is_synced}")
        }
        Deed::Applied { place, revision, .. } => format!("{host} applied {place:?} revision {revision}"),
        deed => format!("{host} {deed:?}"),
    };
    history.note_deed(what);
}
