//! Logs match: an entry's place, (term, leader, index), names one content and one entry before it, wherever it lies.

use std::collections::BTreeMap;

use pipes_raft::sim::{Deed, Event, Place};

use crate::history::History;

/// What was ever appended anywhere.
#[derive(Default)]
pub struct Logs {
    contents: BTreeMap<Place, u32>,
}

impl Logs {
    /// Looks at what was appended, and at what was found.
    pub fn take(&mut self, event: &Event, history: &mut History) {
        let host = &event.host;
        if let Deed::LogOpened { last, purged, .. } = &event.deed
            && purged > last
        {
            history.fail(format!(
                "{host} has a log that ends with {last:?}, and is purged up to {purged:?}"
            ));
        }
        let Deed::Appended { entries, is_synced } = &event.deed else {
            return;
        };
        if !is_synced {
            history.fail(format!(
                "{host} says that entries are on disk, and a power loss would take them"
            ));
        }
        for (place, content) in entries {
            let known = self.contents.entry(*place).or_insert(*content);
            if known != content {
                history.fail(format!(
                    "{host} has another entry at {place:?} than was there before"
                ));
            }
        }
    }
}
