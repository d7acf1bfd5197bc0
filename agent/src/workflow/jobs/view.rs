//! A job as everybody outside sees it: `pipes jobs`, `inspect`, `GET /jobs/ID/`.
//!
//! ```json
//! {"id": "j01k...", "workflow": "words", "state": "succeeded", "reason": null, "status": 0, "attempt": 1,
//!  "submitted": "2026-11-24T20:15:00.123Z", "started": "...", "finished": "...", "stages": [..],
//!  "result": {"bytes": 12, "sha256": "cd..", "text": "hello world\n"}, "retry_of": null}
//! ```
//!
//! Always: (1) fields are added, never renamed; (2) what is not known is null, never left out; (3) times are RFC 3339 in
//! UTC, sizes bytes.

use std::time::{Duration, UNIX_EPOCH};

use pipes_job::Found;
use pipes_job::record::{Content, Done, DoneState, OpenState};
use serde::Serialize;

use crate::workflow::runs::view::{RunStage, time};

/// A job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Job {
    /// Begins with `j`; sortable by time.
    pub id: String,
    /// Its workflow's name.
    pub workflow: String,
    /// queued, running, succeeded, failed or cancelled.
    pub state: &'static str,
    /// A sentence, where it failed for more than its status.
    pub reason: Option<String>,
    /// As a shell gives it, once it is over.
    pub status: Option<i32>,
    /// The last attempt that began; null: none yet.
    pub attempt: Option<u32>,
    /// When it was accepted.
    pub submitted: String,
    /// When its last attempt began.
    pub started: Option<String>,
    /// When it was over.
    pub finished: Option<String>,
    /// In the line's order; as far as they are known.
    pub stages: Vec<RunStage>,
    /// What it made, once it is over.
    pub result: Option<Made>,
    /// The job whose input this one was given again.
    pub retry_of: Option<String>,
}

/// What a job made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Made {
    /// How many bytes.
    pub bytes: u64,
    /// Of all of them, in hexadecimal digits.
    pub sha256: String,
    /// All of them, where they are UTF-8 and few; not in listings.
    pub text: Option<String>,
}

/// A job out of the store.
pub fn of(found: &Found) -> Job {
    match found {
        Found::Open(job) => {
            let open = &job.open;
            let is_running = open.state == OpenState::Running;
            Job {
                id: job.id.clone(),
                workflow: job.workflow.clone(),
                state: if is_running { "running" } else { "queued" },
                attempt: (open.attempt > 0).then_some(open.attempt),
                submitted: at(open.submitted),
                started: open.began.filter(|_| is_running).map(at),
                retry_of: open.retry_of.clone(),
                ..Job::default()
            }
        }
        Found::Done { id, workflow, done } => ended(id, workflow, done),
    }
}

fn ended(id: &str, workflow: &str, done: &Done) -> Job {
    Job {
        id: id.to_owned(),
        workflow: workflow.to_owned(),
        state: match done.state {
            DoneState::Succeeded => "succeeded",
            DoneState::Failed => "failed",
            DoneState::Cancelled => "cancelled",
        },
        reason: done.reason.clone(),
        status: done.status,
        attempt: (done.attempt > 0).then_some(done.attempt),
        submitted: at(done.submitted),
        started: done.started.map(at),
        finished: Some(at(done.finished)),
        // Of a later version, perhaps.
        stages: serde_json::from_value(done.stages.clone()).unwrap_or_default(),
        result: done.result.as_ref().map(made),
        retry_of: done.retry_of.clone(),
    }
}

fn made(content: &Content) -> Made {
    Made {
        bytes: content.bytes,
        sha256: content.sha256.clone(),
        text: None,
    }
}

fn at(milliseconds: u64) -> String {
    time(UNIX_EPOCH + Duration::from_millis(milliseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jobs_fields_are_those_promised() {
        let job = Job {
            result: Some(Made::default()),
            ..Job::default()
        };
        let json = serde_json::to_value(&job).unwrap();
        let keys = |value: &serde_json::Value| {
            let mut keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
            keys.sort_unstable();
            keys.join(" ")
        };
        assert_eq!(
            keys(&json),
            "attempt finished id reason result retry_of stages started state status submitted workflow"
        );
        assert_eq!(keys(&json["result"]), "bytes sha256 text");
        assert!(json["status"].is_null(), "unknown is null");
    }
}
