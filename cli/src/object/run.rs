//! One execution in the foreground, as `ps`, `inspect` and `--report` show it.

use serde::{Deserialize, Serialize};

use super::{Object, text};

/// One execution in the foreground.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Run {
    /// Begins with `r`.
    pub id: Option<String>,
    /// As typed.
    pub line: Option<String>,
    /// waiting, running, succeeded, failed, cancelled.
    pub state: Option<String>,
    /// As a shell gives it.
    pub status: Option<i32>,
    /// When it was accepted.
    pub started: Option<String>,
    /// When it was over.
    pub finished: Option<String>,
    /// In the line's order.
    pub stages: Vec<Stage>,
    /// Why it failed, where the stages' statuses do not say it.
    pub reason: Option<String>,
    /// The workflow that it was a request of, where it was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
}

/// One stage of a run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Stage {
    /// From 1.
    pub stage: Option<u32>,
    /// The service's name.
    pub service: Option<String>,
    /// Its arguments.
    pub args: Vec<String>,
    /// Name of its node.
    pub node: Option<String>,
    /// 128+n after signal n.
    pub status: Option<i32>,
    /// n, or null.
    pub signal: Option<i32>,
    /// Bytes of its stdin.
    pub bytes_in: Option<u64>,
    /// Bytes of its stdout.
    pub bytes_out: Option<u64>,
    /// When its process began.
    pub started: Option<String>,
    /// When it ended.
    pub finished: Option<String>,
}

impl Object for Run {
    const TITLES: &'static [&'static str] = &["ID", "STATE", "STATUS", "STARTED", "LINE"];

    fn row(&self) -> Vec<String> {
        let status = self.status.map(|status| status.to_string());
        [&self.id, &self.state, &status, &self.started, &self.line]
            .map(text)
            .to_vec()
    }

    fn id(&self) -> String {
        text(&self.id)
    }
}
