//! When all is whole again, every node holds what the model holds: now, at every revision that can be read, and in
//! leases.

use std::sync::Arc;

use pipes_raft::{Node, Range};

use crate::history::History;
/// Past revisions that are read; fewer where there are jobs, which have many keys.
const PAST: i64 = 40;
const PAST_OF_JOBS: i64 = 4;
/// All keys there can be.
const ALL: &[u8] = &[0];

/// Looks at every node.
pub fn look(nodes: &[Arc<Node>], history: &mut History) {
    let last = history.model.revision;
    let first = history.model.compacted.max(1);
    for node in nodes {
        let id = node.id().unwrap_or(0);
        let Some(held) = node.held() else { continue };
        // Revisions here and there, and the last ones.
        let past = if history.has_jobs { PAST_OF_JOBS } else { PAST };
        let step = ((last - first) / past).max(1);
        for revision in (first..=last).step_by(step as usize).chain([last]) {
            let range = Range {
                end: Some(ALL.to_vec()),
                revision,
                ..Range::key(ALL)
            };
            let found = held.range(&range);
            let expected = history.model.range_at(&range, last);
            if found.as_ref() != Ok(&expected) {
                history.fail(format!(
                    "node {id} holds {found:?} at {revision}, and it should be {expected:?}"
                ));
                return;
            }
        }
        let leases = held.leases();
        let expected: Vec<_> = history.model.leases().collect();
        if leases != expected {
            history.fail(format!(
                "node {id} has the leases {leases:?}, and they should be {expected:?}"
            ));
        }
    }
}
