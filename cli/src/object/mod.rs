//! The objects of listings, as the interface has them: fields in its order, unknown ones null, others left out.
//!
//! An agent of a newer version may send more; fields are added, never renamed, and what is not known here is ignored.

use rmpv::Value;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// What a listing can show.
pub trait Object: Serialize + DeserializeOwned {
    /// Titles of a table's columns.
    const TITLES: &'static [&'static str];
    /// A table's row.
    fn row(&self) -> Vec<String>;
    /// What `-q` prints.
    fn id(&self) -> String;
}

/// A member of the cluster.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
#[derive(Default)]
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

/// An executable that was built.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Service {
    /// As lines name it.
    pub name: Option<String>,
    /// `sha256:` and 64 digits.
    pub digest: Option<String>,
    /// Bytes.
    pub size: Option<u64>,
    /// elf, script, image.
    pub kind: Option<String>,
    /// When.
    pub built: Option<String>,
}

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
}

/// Which cluster is meant, and where it is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Context {
    /// Its name.
    pub name: Option<String>,
    /// The cluster's name.
    pub cluster: Option<String>,
    /// Whether it is the one in use.
    pub current: bool,
    /// Its agents' addresses.
    pub servers: Vec<String>,
}

/// A token of realm `pipes`; its secret is shown once, when it is made.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Token {
    /// Its name.
    pub name: Option<String>,
    /// When it was made.
    pub created: Option<String>,
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

impl Object for Service {
    const TITLES: &'static [&'static str] = &["NAME", "DIGEST", "SIZE", "KIND", "BUILT"];

    fn row(&self) -> Vec<String> {
        let size = self.size.map(|size| size.to_string());
        [
            &self.name,
            &short_digest(&self.digest),
            &size,
            &self.kind,
            &self.built,
        ]
        .map(text)
        .to_vec()
    }

    fn id(&self) -> String {
        text(&self.name)
    }
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

impl Object for Cluster {
    const TITLES: &'static [&'static str] = &["CURRENT", "NAME", "LEADER", "TERM", "REVISION", "NODES"];

    fn row(&self) -> Vec<String> {
        let numbers = [
            self.term.map(|term| term.to_string()),
            self.revision.map(|revision| revision.to_string()),
        ];
        let [leader, nodes] = [&self.leader, &self.nodes].map(|value| value.as_ref().map(brief));
        let fields = [&self.name, &leader, &numbers[0], &numbers[1], &nodes].map(text);
        std::iter::once(mark(self.current)).chain(fields).collect()
    }

    fn id(&self) -> String {
        text(&self.name)
    }
}

impl Object for Context {
    const TITLES: &'static [&'static str] = &["CURRENT", "NAME", "CLUSTER", "SERVERS"];

    fn row(&self) -> Vec<String> {
        vec![
            mark(self.current),
            text(&self.name),
            text(&self.cluster),
            self.servers.join(","),
        ]
    }

    fn id(&self) -> String {
        text(&self.name)
    }
}

impl Object for Token {
    const TITLES: &'static [&'static str] = &["NAME", "CREATED"];

    fn row(&self) -> Vec<String> {
        [&self.name, &self.created].map(text).to_vec()
    }

    fn id(&self) -> String {
        text(&self.name)
    }
}

/// An object out of an agent's answer.
pub fn parse<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    rmpv::ext::from_value(value)
        .map_err(|error| Error::Local(format!("the agent's answer cannot be read: {error}")))
}

fn text(value: &Option<String>) -> String {
    value.clone().unwrap_or_else(|| "-".into())
}

fn mark(current: bool) -> String {
    if current { "*" } else { "" }.into()
}

/// What fits into a table's cell: of a list its length.
fn brief(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(list) => list.len().to_string(),
        serde_json::Value::Null => "-".into(),
        other => other.to_string(),
    }
}

/// Enough of a digest to name a version.
fn short_digest(digest: &Option<String>) -> Option<String> {
    const DIGITS: usize = 12;
    digest.as_ref().map(|digest| {
        digest
            .strip_prefix("sha256:")
            .unwrap_or(digest)
            .chars()
            .take(DIGITS)
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields<T: Object + Default>() -> String {
        let json = serde_json::to_string(&T::default()).unwrap();
        let names = json.split('"').skip(1).step_by(2);
        names.collect::<Vec<_>>().join(", ")
    }

    // The right-hand sides are the interface's own words.
    #[test]
    fn each_objects_fields_are_those_of_the_interface() {
        assert_eq!(
            fields::<Node>(),
            "name, id, address, role, state, reason, version"
        );
        assert_eq!(fields::<Service>(), "name, digest, size, kind, built");
        assert_eq!(
            fields::<Run>(),
            "id, line, state, status, started, finished, stages, reason"
        );
        assert_eq!(
            fields::<Cluster>(),
            "name, id, current, leader, term, revision, nodes"
        );
        assert_eq!(fields::<Context>(), "name, cluster, current, servers");
    }

    #[test]
    fn a_stages_fields_are_those_of_the_interface() {
        let json = serde_json::to_string(&Stage::default()).unwrap();
        let names: Vec<_> = json.split('"').skip(1).step_by(2).collect();
        let expected = "stage, service, args, node, status, signal, bytes_in, bytes_out, started, finished";
        assert_eq!(names.join(", "), expected);
    }

    #[test]
    fn what_an_agent_does_not_say_is_null_and_what_is_not_known_is_ignored() {
        let value = Value::Map(vec![("name".into(), "n1".into()), ("later".into(), 1.into())]);
        let node: Node = parse(value).unwrap();
        let json = serde_json::to_value(&node).unwrap();
        assert_eq!(json["name"], "n1");
        assert!(json["state"].is_null() && json.get("later").is_none());
    }
}
