//! Every job whose ID was answered has exactly one recorded result: of the attempt that its record named when it ended,
//! with what that attempt made.

use pipes_job::key;
use pipes_job::record::{Done, DoneState};
use pipes_job::state::{LOST, TIMEOUT};
use pipes_raft::Range;

use super::records::{Job, Records};
use crate::fate::{self, End};
use crate::history::History;

/// Looks at a finished record that was written.
pub fn ended(records: &Records, id: &str, done: &Done, revision: i64, history: &mut History) {
    let Some(job) = records.jobs.get(id) else { return };
    if job.ends > 1 {
        history.fail(format!("{id} ends a second time, at {revision}: {done:?}"));
    }
    match &job.closed {
        Some((open, at)) if *at == revision && open.attempt == done.attempt => {}
        closed => history.fail(format!(
            "{id} ends at {revision} with attempt {}, and its record was {closed:?}",
            done.attempt
        )),
    }
    let input = read(
        history,
        &key::input(id),
        done.input.blob,
        &done.input.sha256,
        revision,
    );
    let Some(input) = input else {
        return history.fail(format!("{id} ends, and its input is nowhere"));
    };
    if let Some(why) = is_wrong(job, done, &input) {
        history.fail(format!("{id} ends as {done:?}: {why}"));
    }
    let Some(content) = &done.result else { return };
    let bytes = read(history, &key::result(id), content.blob, &content.sha256, revision);
    let expected = fate::output(&input, done.status.unwrap_or(0));
    if bytes.as_ref() != Some(&expected) {
        history.fail(format!(
            "{id} has the result {bytes:?}, and it should be {expected:?}"
        ));
    }
}

/// Bytes as they are at a revision, in a key or in a blob.
fn read(history: &History, key: &[u8], is_blob: bool, sha256: &str, revision: i64) -> Option<Vec<u8>> {
    if is_blob {
        return history.ledger.blobs.get(sha256).cloned();
    }
    let found = history.model.range_at(&Range::key(key), revision);
    found.kvs.into_iter().next().map(|kv| kv.value)
}

/// Why a job cannot have ended so.
fn is_wrong(job: &Job, done: &Done, input: &[u8]) -> Option<&'static str> {
    let of = done.stages.get(0).and_then(|stage| stage.get("attempt"));
    if of.is_some_and(|attempt| *attempt != done.attempt) {
        return Some("its stages are another attempt's");
    }
    let end = fate::of(input, done.attempt).end;
    let was_cancelled = job.closed.as_ref().is_some_and(|(open, _)| open.cancel);
    let is_right = match (done.state, done.status, done.reason.is_some()) {
        (DoneState::Cancelled, ..) => was_cancelled || done.stages.get(0).is_none(),
        (DoneState::Succeeded, Some(0), false) => end == End::Exits(0) && done.result.is_some(),
        // What the last attempt gave is kept, if there was no time for another.
        (DoneState::Failed, Some(TIMEOUT | LOST), true) => {
            done.result.is_none() || matches!(end, End::Exits(status) if status != 0)
        }
        (DoneState::Failed, Some(_), true) => end == End::Refused && done.result.is_none(),
        (DoneState::Failed, Some(status), false) => end == End::Exits(status) && done.result.is_some(),
        _ => false,
    };
    (!is_right).then_some("its attempt came to something else")
}

/// A client was told of a job.
pub fn accepted(records: &Records, id: &str, history: &mut History) {
    match records.jobs.get(id) {
        None => history.fail(format!("{id} was answered, and nobody has it")),
        Some(job) => {
            let told = history.ledger.accepted.get(id);
            if let Some(told) = told.filter(|told| told.workflow != job.workflow) {
                let why = format!(
                    "{id} is of {}, and was answered as of {}",
                    job.workflow, told.workflow
                );
                history.fail(why);
            }
        }
    }
}

/// A client was told that there is no such job.
pub fn is_forgotten(records: &Records, id: &str, history: &mut History) {
    let is_over = records
        .jobs
        .get(id)
        .is_some_and(|job| job.ends > 0 && job.done.is_none());
    if !is_over {
        history.fail(format!("{id} was answered, and is said to be none"));
    }
}
