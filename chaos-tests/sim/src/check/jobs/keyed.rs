//! One idempotency key is one job as long as that is known; what comes with it is refused only where its input differs.

use super::records::Records;
use crate::history::History;

/// A client was told that its key was used with other input, for that job.
pub fn conflicts(records: &Records, id: &str, input: &[u8], history: &mut History) {
    let Some(job) = records.jobs.get(id) else {
        return history.fail(format!("a key is said to be {id}'s, and nobody has that"));
    };
    let of_done = job.done.as_ref().map(|done| &done.input);
    let given = job.open.as_ref().map(|open| &open.input).or(of_done);
    let given = given.or(job.closed.as_ref().map(|(open, _)| &open.input));
    if given.is_some_and(|given| given.sha256 == pipes_job::key::sha256(input)) {
        history.fail(format!(
            "a key is said to be {id}'s with other input, and it is the same"
        ));
    }
}

/// Looks at an open record that was written first: no other job may be known by its key.
pub fn opened(records: &Records, id: &str, history: &mut History) {
    let Some(job) = records.jobs.get(id) else { return };
    let Some(key) = job.open.as_ref().and_then(|open| open.key.as_ref()) else {
        return;
    };
    let has_it = |other: &super::records::Job| {
        let of_done = other.done.as_ref().and_then(|done| done.key.as_ref());
        let held = other.open.as_ref().and_then(|open| open.key.as_ref()).or(of_done);
        other.workflow == job.workflow && held == Some(key)
    };
    let mut others = records.jobs.iter().filter(|(other, _)| *other != id);
    if let Some((other, _)) = others.find(|(_, other)| has_it(other)) {
        history.fail(format!("{id} and {other} come with the same key"));
    }
}
