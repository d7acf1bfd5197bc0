//! Each (job, attempt) begins at most once, after its record was written, by the agent that the record names; and it is
//! recorded only while that agent's life lasts, as the one after the last.

use pipes_job::record::{Open, OpenState};

use super::records::Records;
use crate::history::History;

/// Looks at an open record that was written.
pub fn recorded(
    records: &Records,
    id: &str,
    before: Option<&Open>,
    after: &Open,
    revision: i64,
    history: &mut History,
) {
    let last = before.map_or(0, |before| before.attempt);
    if after.attempt == last {
        return;
    }
    if after.attempt != last + 1 || after.state != OpenState::Running {
        history.fail(format!("attempt {} of {id} comes after {last}", after.attempt));
    }
    let lives = |owner| {
        Some(owner)
            == after
                .owner
                .and_then(|owner| records.presences.get(&owner.node).copied())
    };
    if !after.owner.is_some_and(|owner| lives(owner.lease)) {
        history.fail(format!(
            "attempt {} of {id} is begun at {revision} by {:?}, whose life is over",
            after.attempt, after.owner
        ));
    }
    if before.is_some_and(|before| before.cancel) {
        history.fail(format!(
            "attempt {} of {id} begins, which was cancelled",
            after.attempt
        ));
    }
}

/// Looks at an attempt that begins on a host.
pub fn began(records: &Records, at: (usize, u64), which: (&str, u32), history: &mut History) {
    let ((host, node), (id, attempt)) = (at, which);
    history.count("attempts begun");
    if let Some(other) = history.ledger.begun.insert((id.to_owned(), attempt), host) {
        history.fail(format!(
            "attempt {attempt} of {id} begins on n{host}, and has begun on n{other}"
        ));
    }
    let recorded = records.jobs.get(id).and_then(|job| job.attempts.get(&attempt));
    if recorded.is_none_or(|recorded| recorded.owner.node != node) {
        history.fail(format!(
            "attempt {attempt} of {id} begins on n{host}, node {node}, and on record is {recorded:?}"
        ));
    }
}
