//! The run as everybody outside sees it: `ps`, `inspect`, `--report` and the answer of `pipes.run.start`.
//!
//! ```json
//! {"id": "r01k...", "line": "yes | head -1", "state": "succeeded", "status": 0,
//!  "started": "2026-11-24T20:15:00.123Z", "finished": "2026-11-24T20:15:00.180Z",
//!  "stages": [{"stage": 1, "service": "yes", "args": [], "node": "n1", "status": 141, "signal": 13,
//!              "bytes_in": 0, "bytes_out": 65536, "started": "...", "finished": "..."}, ...],
//!  "reason": null, "message": null, "exit": 0}
//! ```
//!
//! Always: (1) fields are added, never renamed; (2) what is not known is null, never left out; (3) times are RFC 3339 in
//! UTC, sizes bytes.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// One execution of a workflow in the foreground.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Begins with `r`; sortable by time.
    pub id: String,
    /// The line as typed.
    pub line: String,
    /// waiting, running, succeeded, failed or cancelled.
    pub state: String,
    /// As a shell gives it, once it is over.
    pub status: Option<i32>,
    /// When it was accepted.
    pub started: Option<String>,
    /// When it was over.
    pub finished: Option<String>,
    /// In the line's order.
    pub stages: Vec<RunStage>,
    /// Why it failed, where its stages' statuses do not say it.
    #[serde(default)]
    pub reason: Option<String>,
    /// A sentence for the caller to print.
    #[serde(default)]
    pub message: Option<String>,
    /// What `pipes run` exits with, once it is over.
    #[serde(default)]
    pub exit: Option<i32>,
    /// The daemon workflow that it was a request of; left out where it was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
}

/// One stage of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunStage {
    /// From 1.
    pub stage: u32,
    /// The service's name, without a digest.
    pub service: String,
    /// Its arguments; what is no UTF-8 in them is replaced.
    pub args: Vec<String>,
    /// Name of the node it was placed on.
    pub node: Option<String>,
    /// As a shell gives it: 128+n after signal n.
    pub status: Option<i32>,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// Bytes it was given on stdin.
    pub bytes_in: Option<u64>,
    /// Bytes taken from its stdout.
    pub bytes_out: Option<u64>,
    /// When its process began.
    pub started: Option<String>,
    /// When its process ended.
    pub finished: Option<String>,
}

impl Run {
    /// It did not come about, or was lost.
    pub fn fail(&mut self, status: i32, why: String) {
        self.state = "failed".into();
        self.status = Some(status);
        self.exit = Some(status);
        self.reason = Some(why.clone());
        self.message = Some(why);
    }
}

/// A time for people and programs: RFC 3339, UTC, milliseconds.
pub fn time(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn a_runs_fields_are_those_promised() {
        let run = Run {
            stages: vec![RunStage::default()],
            ..Run::default()
        };
        let json = serde_json::to_value(&run).unwrap();
        let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        let mut expected = vec![
            "id", "line", "state", "status", "started", "finished", "stages", "reason", "message", "exit",
        ];
        expected.sort_unstable();
        let mut shown = keys(&json);
        shown.sort_unstable();
        assert_eq!(shown, expected);
        let mut expected = vec![
            "stage",
            "service",
            "args",
            "node",
            "status",
            "signal",
            "bytes_in",
            "bytes_out",
            "started",
            "finished",
        ];
        expected.sort_unstable();
        let mut shown = keys(&json["stages"][0]);
        shown.sort_unstable();
        assert_eq!(shown, expected);
        assert!(
            json["status"].is_null() && json["stages"][0]["signal"].is_null(),
            "unknown is null"
        );
    }

    #[test]
    fn times_are_rfc_3339_in_utc() {
        assert_eq!(
            time(UNIX_EPOCH + Duration::from_millis(1_500)),
            "1970-01-01T00:00:01.500Z"
        );
    }

    #[test]
    fn a_record_of_an_older_version_is_read() {
        let old = r#"{"id":"r1","line":"a","state":"failed","status":1,"started":null,"finished":null,"stages":[],"later":1}"#;
        assert_eq!(serde_json::from_str::<Run>(old).unwrap().status, Some(1));
    }
}
