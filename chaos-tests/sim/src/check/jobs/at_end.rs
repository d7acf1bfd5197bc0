//! When nothing is wrong any more and every job is over: nothing runs, no key is left of what was forgotten, every job
//! that was answered came to one end, and all agents list the same.

use std::collections::BTreeSet;

use pipes_job::{Found, key};
use pipes_raft::Range;

use super::records::Records;
use crate::history::History;

/// Looks at all of it.
pub fn look(records: &Records, history: &mut History) {
    let mut wrong = Vec::new();
    for (host, id, attempt) in history.ledger.running.keys() {
        wrong.push(format!(
            "n{host} still runs {id} {attempt}, and every job is over"
        ));
    }
    for id in history.ledger.accepted.keys() {
        let ends = records.jobs.get(id).map_or(0, |job| job.ends);
        if ends != 1 {
            wrong.push(format!("{id} was answered, and has {ends} results"));
        }
    }
    let expected = expected(records);
    let mut found = BTreeSet::new();
    for prefix in ["/pipes/jobs/", "/pipes/blobs/"] {
        let kept = history
            .model
            .range_at(&Range::prefix(prefix), history.model.revision);
        found.extend(kept.kvs.into_iter().map(|kv| kv.key));
    }
    for key in found.difference(&expected) {
        wrong.push(format!("{} is left of a job", String::from_utf8_lossy(key)));
    }
    for key in expected.difference(&found) {
        wrong.push(format!("{} is missing", String::from_utf8_lossy(key)));
    }
    for why in wrong {
        history.fail(why);
    }
}

/// The keys of all finished jobs that are kept.
fn expected(records: &Records) -> BTreeSet<Vec<u8>> {
    let mut keys = BTreeSet::new();
    for (id, job) in &records.jobs {
        let Some(done) = &job.done else { continue };
        keys.extend([
            key::done(&job.workflow, id),
            key::id(id),
            key::expiry(done.expires, id),
        ]);
        keys.extend(
            done.key
                .as_ref()
                .map(|hash| key::idempotency(&job.workflow, hash)),
        );
        let contents = [
            (Some(&done.input), key::input(id)),
            (done.result.as_ref(), key::result(id)),
        ];
        for (content, key) in contents {
            // In the key itself, or in a blob that is named as the key would be called.
            keys.extend(content.map(|content| match content.digest() {
                Some(digest) => key::blob_named_by(&digest, &key),
                None => key,
            }));
        }
    }
    keys
}

/// Looks at a whole listing.
pub fn listed(records: &Records, host: &str, listed: &[Found], history: &mut History) {
    let found: Vec<(&str, &str)> = listed.iter().map(|job| (job.workflow(), job.id())).collect();
    let kept = records
        .jobs
        .iter()
        .filter(|(_, job)| job.open.is_some() || job.done.is_some());
    let expected: BTreeSet<(&str, &str)> = kept
        .map(|(id, job)| (job.workflow.as_str(), id.as_str()))
        .collect();
    let expected: Vec<_> = expected.into_iter().collect();
    if found != expected {
        history.fail(format!("{host} lists {found:?}, and it should be {expected:?}"));
    }
}
