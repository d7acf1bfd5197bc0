//! What was cancelled stays so: it is tried no more, and ends as cancelled.

use pipes_job::record::{Done, DoneState, Open};

use crate::history::History;

/// Looks at an open record that was written.
pub fn opened(id: &str, before: Option<&Open>, after: &Open, history: &mut History) {
    if before.is_some_and(|before| before.cancel) && !after.cancel {
        history.fail(format!("{id} was cancelled, and is not any more"));
    }
    if history.ledger.cancelled.contains(id) && !after.cancel {
        history.fail(format!("{id} was said to be cancelled, and goes on: {after:?}"));
    }
}

/// Looks at a finished record that was written.
pub fn ended(id: &str, last: Option<&Open>, done: &Done, history: &mut History) {
    let was_cancelled = last.is_some_and(|last| last.cancel) || history.ledger.cancelled.contains(id);
    if was_cancelled && done.state != DoneState::Cancelled {
        history.fail(format!("{id} was cancelled, and ends as {done:?}"));
    }
}
