//! A cluster, as `cluster ls` and `cluster status` show it.

use serde::{Deserialize, Serialize};

use super::{Object, mark, text};

/// A cluster.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Cluster {
    /// Its context's name here.
    pub name: Option<String>,
    /// Never the same for two.
    pub id: Option<String>,
    /// Whether commands go to it.
    pub current: bool,
    /// Name of the leader's node.
    pub leader: Option<serde_json::Value>,
    /// Raft's.
    pub term: Option<u64>,
    /// The store's.
    pub revision: Option<i64>,
    /// Its nodes.
    pub nodes: Option<serde_json::Value>,
    /// What is wrong with it as a whole, and what to do.
    pub reason: Option<String>,
}

impl Object for Cluster {
    const TITLES: &'static [&'static str] = &["CURRENT", "NAME", "LEADER", "TERM", "REVISION", "NODES"];

    fn row(&self) -> Vec<String> {
        let numbers = [
            self.term.map(|term| term.to_string()),
            self.revision.map(|revision| revision.to_string()),
        ];
        let leader = self.leader.as_ref().map(brief);
        let nodes = self.nodes.as_ref().map(up_of_all);
        let fields = [&self.name, &leader, &numbers[0], &numbers[1], &nodes].map(text);
        std::iter::once(mark(self.current)).chain(fields).collect()
    }

    fn id(&self) -> String {
        text(&self.name)
    }
}

/// What fits into a table's cell.
fn brief(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Null => "-".into(),
        other => other.to_string(),
    }
}

/// How many nodes are up, and how many there are.
fn up_of_all(nodes: &serde_json::Value) -> String {
    let Some(nodes) = nodes.as_array() else {
        return brief(nodes);
    };
    let up = nodes.iter().filter(|node| node["state"] == "up").count();
    format!("{up}/{}", nodes.len())
}
