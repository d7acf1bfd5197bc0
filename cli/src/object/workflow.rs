//! A workflow that stays up, as `ps` and `inspect` show it.

use serde::{Deserialize, Serialize};

use super::{Object, text};

/// A workflow that stays up.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Workflow {
    /// Unique in its cluster.
    pub name: Option<String>,
    /// As typed.
    pub line: Option<String>,
    /// running, stopped.
    pub state: Option<String>,
    /// What is not as it should be.
    pub reason: Option<String>,
    /// Its own port at every server.
    pub port: Option<u16>,
    /// Where it is reached.
    pub addresses: Vec<String>,
    /// In the line's order.
    pub stages: Vec<WorkflowStage>,
    /// Raised with each change of what it runs.
    pub revision: Option<u64>,
    /// When it was made.
    pub created: Option<String>,
    /// Its users must show a token.
    pub has_token: Option<bool>,
}

/// One stage of a workflow that stays up.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkflowStage {
    /// From 1.
    pub stage: Option<u32>,
    /// The service's name.
    pub service: Option<String>,
    /// The version it runs: `sha256:` and 64 digits.
    pub digest: Option<String>,
    /// Its arguments.
    pub args: Vec<String>,
    /// Replicas that are wished.
    pub replicas: Option<u32>,
    /// Those that can be called.
    pub ready: Option<u32>,
}

impl Object for Workflow {
    const TITLES: &'static [&'static str] = &["NAME", "STATE", "READY", "PORT", "REASON", "LINE"];

    fn row(&self) -> Vec<String> {
        let port = self.port.map(|port| port.to_string());
        [
            &self.name,
            &self.state,
            &self.ready(),
            &port,
            &self.reason,
            &self.line,
        ]
        .map(text)
        .to_vec()
    }

    fn id(&self) -> String {
        text(&self.name)
    }
}

impl Workflow {
    /// Of the replicas that are wished, how many are ready: `3/4`.
    fn ready(&self) -> Option<String> {
        let wished: u32 = self.stages.iter().filter_map(|stage| stage.replicas).sum();
        let ready = self.stages.iter().map(|stage| {
            let (ready, wished) = (stage.ready?, stage.replicas?);
            Some(ready.min(wished))
        });
        let ready: Option<u32> = ready.sum();
        ready.map(|ready| format!("{ready}/{wished}"))
    }
}
