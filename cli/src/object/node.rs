//! A member of the cluster, as `node ls` shows it.

use serde::{Deserialize, Serialize};

use super::{Object, text};

/// A member of the cluster.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Unique in its cluster.
    pub name: Option<String>,
    /// Never used again.
    pub id: Option<serde_json::Value>,
    /// Without port.
    pub address: Option<String>,
    /// leader, voter, learner, client.
    pub role: Option<String>,
    /// up, sick, draining, down.
    pub state: Option<String>,
    /// Why it is not up.
    pub reason: Option<String>,
    /// Of its agent.
    pub version: Option<String>,
}

impl Object for Node {
    const TITLES: &'static [&'static str] = &["NAME", "ADDRESS", "ROLE", "STATE", "REASON", "VERSION"];

    fn row(&self) -> Vec<String> {
        [
            &self.name,
            &self.address,
            &self.role,
            &self.state,
            &self.reason,
            &self.version,
        ]
        .map(text)
        .to_vec()
    }

    fn id(&self) -> String {
        text(&self.name)
    }
}
