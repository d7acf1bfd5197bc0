//! Nobody takes a job at a revision where its owner's presence hangs on the lease of its life; only an owner itself gives a
//! job away before; and whoever takes one is alive.

use pipes_job::record::{Open, Owner};

use super::records::Records;
use crate::history::History;

/// Looks at an open record that was written.
pub fn look(
    records: &Records,
    id: &str,
    before: Option<&Open>,
    after: &Open,
    revision: i64,
    history: &mut History,
) {
    let lives = |owner: Owner| records.presences.get(&owner.node) == Some(&owner.lease);
    let former = before.and_then(|before| before.owner);
    let Some(owner) = after.owner.filter(|owner| Some(*owner) != former) else {
        return;
    };
    if !lives(owner) {
        history.fail(format!(
            "{id} becomes {owner:?}'s at {revision}, whose life is over: {:?}",
            records.presences
        ));
    }
    if let Some(former) = former.filter(|former| lives(*former)) {
        history.fail(format!(
            "{id} is taken at {revision} from {former:?} by {owner:?}, and that life goes on"
        ));
    }
}
