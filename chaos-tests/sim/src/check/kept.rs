//! What was acknowledged is on a majority's disks: each host's log as it was told to be on disk, or a state beyond it;
//! and a log that is opened holds all that it ever said it holds.

use std::collections::BTreeMap;

use pipes_raft::sim::{Deed, Event, Place};

use super::applied::Applied;
use crate::history::History;

/// The logs of all hosts as they are on disk.
#[derive(Default)]
pub struct Kept {
    logs: BTreeMap<String, Log>,
}

#[derive(Default)]
struct Log {
    /// Places by index, without terms of what was dropped.
    places: BTreeMap<u64, Place>,
    /// All up to here is in a snapshot or a state.
    covered: u64,
    /// What was found up to here when it was opened, whether it had been told of or not.
    opened: u64,
}

impl Log {
    fn last(&self) -> Option<Place> {
        self.places.last_key_value().map(|(_, place)| *place)
    }

    fn holds(&self, place: Place) -> bool {
        let known = self.places.get(&place.2);
        place.2 <= self.covered || known == Some(&place) || (known.is_none() && place.2 <= self.opened)
    }
}

impl Kept {
    /// Forgets what a host had.
    pub fn forget(&mut self, host: &str) {
        self.logs.remove(host);
    }

    /// Looks at what a host has on disk.
    pub fn take(&mut self, event: &Event, history: &mut History) {
        let host = &event.host;
        let log = self.logs.entry(host.clone()).or_default();
        match &event.deed {
            Deed::Appended { entries, .. } => {
                log.places
                    .extend(entries.iter().map(|(place, _)| (place.2, *place)));
            }
            Deed::Truncating { last } | Deed::Truncated { last, .. } => {
                let end = last.map_or(0, |last| last.2 + 1);
                drop(log.places.split_off(&end));
                log.opened = log.opened.min(end.saturating_sub(1));
            }
            Deed::Purged { upto } => {
                log.places = log.places.split_off(&(upto.2 + 1));
            }
            Deed::LogOpened { last, is_synced, .. } => {
                if !is_synced {
                    history.fail(format!("{host} begins with a log that a power loss would take"));
                }
                log.opened = last.map_or(0, |last| last.2);
                let known = log.last();
                let order = |place: Option<Place>| place.map(|(term, node, index)| (term, node, index));
                if order(*last) < order(known) {
                    history.fail(format!(
                        "{host} has lost entries: its log ends at {last:?}, and ended at {known:?}"
                    ));
                }
            }
            Deed::SnapshotKept { upto, is_synced } => {
                if !is_synced {
                    history.fail(format!("{host} has a snapshot that a power loss would take"));
                }
                log.covered = log.covered.max(upto.map_or(0, |upto| upto.2));
            }
            _ => {}
        }
    }

    /// Looks at whether a majority has what was acknowledged.
    pub fn acknowledged(&self, serial: u64, place: Place, applied: &Applied, history: &mut History) {
        let holds = |id: &u64| {
            let host = applied.host(*id);
            host.and_then(|host| self.logs.get(host))
                .is_some_and(|log| log.holds(place))
        };
        let is_majority = |voters: &Vec<u64>| voters.iter().filter(|id| holds(id)).count() > voters.len() / 2;
        // Members change meanwhile: those of the entry's time, or those of now.
        let configs = applied.configs(place.2);
        if !configs.iter().any(|config| config.iter().all(is_majority)) {
            history.fail(format!(
                "write {serial} was acknowledged, and its entry {place:?} is on no majority's disk: {configs:?}"
            ));
        }
    }
}
