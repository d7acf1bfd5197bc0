//! One durable query of a daemon workflow, as `jobs` and `inspect` show it.

use serde::{Deserialize, Serialize};

use super::{Object, Stage, text};

/// One durable query of a daemon workflow.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Job {
    /// Begins with `j`.
    pub id: Option<String>,
    /// Its workflow's name.
    pub workflow: Option<String>,
    /// queued, running, succeeded, failed, cancelled.
    pub state: Option<String>,
    /// Why it failed, where its status does not say it.
    pub reason: Option<String>,
    /// As a shell gives it.
    pub status: Option<i32>,
    /// The last attempt that began.
    pub attempt: Option<u32>,
    /// When it was accepted.
    pub submitted: Option<String>,
    /// When its last attempt began.
    pub started: Option<String>,
    /// When it was over.
    pub finished: Option<String>,
    /// In the line's order.
    pub stages: Vec<Stage>,
    /// What it made.
    pub result: Option<Made>,
    /// The job whose input this one was given again.
    pub retry_of: Option<String>,
}

/// What a job made.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Made {
    /// How many bytes.
    pub bytes: Option<u64>,
    /// Of all of them.
    pub sha256: Option<String>,
    /// All of them, where they are few and text.
    pub text: Option<String>,
}

impl Object for Job {
    const TITLES: &'static [&'static str] = &["ID", "WORKFLOW", "STATE", "STATUS", "ATTEMPT", "SUBMITTED"];

    fn row(&self) -> Vec<String> {
        let status = self.status.map(|status| status.to_string());
        let attempt = self.attempt.map(|attempt| attempt.to_string());
        [
            &self.id,
            &self.workflow,
            &self.state,
            &status,
            &attempt,
            &self.submitted,
        ]
        .map(text)
        .to_vec()
    }

    fn id(&self) -> String {
        text(&self.id)
    }
}
