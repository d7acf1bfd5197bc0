//! A job ends: its result is recorded once, in the transaction that removes its open record.
//!
//! ```text
//! if   open/W/ID is as the attempt's owner last read it: no other attempt began, no other agent took it;
//!      a blob of output may be named
//! then done/W/ID, result/ID or the blob's name, expiry/WHEN/ID; open/W/ID goes
//! ```

use pipes_raft::{Compare, Op, Range, Txn};

use crate::blobs::Naming;
use crate::claim::Job;
use crate::key;
use crate::record::{Done, encode};
use crate::seams::Output;
use crate::state::End;

/// What is written of a job that ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// Its record.
    pub done: Done,
    /// Its small result.
    pub result: Option<Vec<u8>>,
}

/// The record of a job that ends so.
pub fn finished(
    job: &Job,
    end: &End,
    stages: serde_json::Value,
    output: Option<Output>,
    times: Times,
) -> Finished {
    let (content, result) = match output {
        Some(Output::Small(bytes)) => {
            let content = crate::submit::Input::Small(bytes.clone()).content();
            (Some(content), Some(bytes))
        }
        Some(Output::Blob(content)) => (Some(content), None),
        None => (None, None),
    };
    let open = &job.open;
    let done = Done {
        state: end.state,
        status: end.status,
        reason: end.reason.clone(),
        attempt: open.attempt,
        submitted: open.submitted,
        started: times.started_ms,
        finished: times.wall_ms,
        input: open.input.clone(),
        result: content,
        stages,
        key: open.key.clone(),
        retry_of: open.retry_of.clone(),
        expires: times.expires_ms,
    };
    Finished { done, result }
}

/// When things happened, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// When its last attempt began, since 1970.
    pub started_ms: Option<u64>,
    /// Now, since 1970.
    pub wall_ms: u64,
    /// When it is forgotten, by the clock that ages run on.
    pub expires_ms: u64,
}

/// The transaction.
pub fn txn(job: &Job, finished: &Finished, naming: &Naming) -> Txn {
    let Finished { done, result } = finished;
    let result_key = key::result(&job.id);
    let mut compares = vec![
        job.is_unchanged(),
        Compare::absent(key::done(&job.workflow, &job.id)),
    ];
    if crate::mutant!(ResultUncompared) {
        compares.clear();
    }
    compares.extend(naming.compares());
    let mut success = vec![
        Op::delete(job.key()),
        Op::put(key::done(&job.workflow, &job.id), encode(done)),
        Op::put(key::expiry(done.expires, &job.id), Vec::new()),
    ];
    success.extend(naming.names(&result_key, None));
    if let Some(bytes) = result {
        success.push(Op::put(result_key, bytes.clone()));
    }
    Txn {
        compares,
        success,
        failure: vec![Op::Range(Range::key(job.key()))],
    }
}
