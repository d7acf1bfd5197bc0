//! Leases never end early: one that was renewed lives its term from the moment its owner asked, by the clocks there are.

use pipes_raft::sim::Write;

use super::applied::Entry;
use crate::history::History;

/// What is known of clocks.
#[derive(Default)]
pub struct Leases {
    drift_max: u64,
}

impl Leases {
    /// Clocks run up to `drift_max` parts of a thousand fast or slow.
    pub fn new(drift_max: u64) -> Leases {
        Leases { drift_max }
    }

    /// Looks at leases that the leader ends.
    pub fn take(&self, entry: &Entry, history: &mut History) {
        let Write::Expire(ids) = &entry.write else { return };
        let mut early = Vec::new();
        for id in ids {
            let Some(lease) = history.leases.get(id) else {
                continue;
            };
            let lived_ms = history.now_ms.saturating_sub(lease.renewed_ms);
            let least_ms = lease.ttl_ms * (1000 - self.drift_max) / (1000 + self.drift_max);
            // A millisecond for where in a step things happen.
            if lived_ms + 1 < least_ms && !lease.is_revoked {
                early.push(format!(
                    "lease {id} of {} ms ends after {lived_ms} ms",
                    lease.ttl_ms
                ));
            }
        }
        for why in early {
            history.fail(why);
        }
    }
}
