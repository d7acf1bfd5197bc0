//! No attempt runs 2 s after its agent read that another has its job, nor over 60 s without a voter that answers.
//!
//! What an agent's own store has applied counts as read; what its host stood still does not count as running.

use std::collections::BTreeMap;

use super::records::Records;
use crate::history::History;

/// How long an attempt may run on whose job is another's, in milliseconds.
const LATE_MS: u64 = 2_000;
/// How long one may run without a voter, in milliseconds.
const CUT_OFF_MS: u64 = 60_000;

/// Looks at all attempts under way.
pub fn stepped(records: &Records, applied: &BTreeMap<String, i64>, drift_max: u64, history: &mut History) {
    let mut wrong = Vec::new();
    let ledger = &mut history.ledger;
    for ((host, id, attempt), running) in &mut ledger.running {
        let lived_ms = ledger.lived_ms.get(host).copied().unwrap_or(0);
        let over = records
            .jobs
            .get(id)
            .and_then(|job| job.attempts.get(attempt)?.over);
        let has_read = applied.get(&format!("n{host}")).copied().unwrap_or(0);
        if over.is_some_and(|over| over <= has_read) {
            let since = *running.is_late_since.get_or_insert(lived_ms);
            if lived_ms - since > by_any_clock(LATE_MS, drift_max) {
                wrong.push(format!(
                    "n{host} still runs {id} {attempt}, {} ms after it has read that it is not its any more",
                    lived_ms - since
                ));
            }
        }
        let answered_ms = ledger.answered_ms.get(host).copied().unwrap_or(0);
        let alone_ms = lived_ms - answered_ms.max(running.since_ms).min(lived_ms);
        if alone_ms > by_any_clock(CUT_OFF_MS, drift_max) {
            wrong.push(format!(
                "n{host} still runs {id} {attempt}, and no voter has answered for {alone_ms} ms"
            ));
        }
    }
    for why in wrong {
        history.fail(why);
    }
}

/// A time of a host's clock in milliseconds of the world's.
fn by_any_clock(ms: u64, drift_max: u64) -> u64 {
    ms * 1000 / (1000 - drift_max) + 1
}
