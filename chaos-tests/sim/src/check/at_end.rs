//! When all is whole again, every node holds what the model holds: now, at every revision that can be read, and in
//! leases.

use std::sync::Arc;

use pipes_raft::{Node, Range};

use crate::history::History;
use crate::model::PREFIX;

/// Looks at every node.
pub fn look(nodes: &[Arc<Node>], history: &mut History) {
    let last = history.model.revision;
    let first = history.model.compacted.max(1);
    for node in nodes {
        let id = node.id().unwrap_or(0);
        let Some(held) = node.held() else { continue };
        // Revisions here and there, and the last ones.
        let step = ((last - first) / 40).max(1);
        for revision in (first..=last).step_by(step as usize).chain([last]) {
            let mut range = Range::prefix(PREFIX);
            range.revision = revision;
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
