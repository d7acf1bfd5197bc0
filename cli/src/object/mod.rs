//! The objects of listings, a file each, as the interface has them: fields in its order, those of the JSON, unknown ones
//! null, others left out; and what of them stands in a table's row.
//!
//! An agent of a newer version may send more; fields are added, never renamed, and what is not known here is ignored.

mod cluster;
mod context;
mod job;
mod node;
mod run;
mod service;
mod token;
mod workflow;

use rmpv::Value;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;
pub use cluster::Cluster;
pub use context::Context;
pub use job::Job;
pub use node::Node;
pub use run::{Run, Stage};
pub use service::{Service, short_digest};
pub use token::Token;
pub use workflow::{Workflow, WorkflowStage};

/// What a listing can show.
pub trait Object: Serialize + DeserializeOwned {
    /// Titles of a table's columns.
    const TITLES: &'static [&'static str];
    /// A table's row.
    fn row(&self) -> Vec<String>;
    /// What `-q` prints.
    fn id(&self) -> String;
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
            fields::<Job>(),
            "id, workflow, state, reason, status, attempt, submitted, started, finished, stages, result, retry_of"
        );
        assert_eq!(
            fields::<Cluster>(),
            "name, id, current, leader, term, revision, nodes, reason"
        );
        assert_eq!(
            fields::<Workflow>(),
            "name, line, state, reason, port, addresses, stages, revision, created, has_token"
        );
        assert_eq!(fields::<Context>(), "name, cluster, current, servers");
    }

    #[test]
    fn a_stages_fields_are_those_of_the_interface() {
        let json = serde_json::to_string(&Stage::default()).unwrap();
        let names: Vec<_> = json.split('"').skip(1).step_by(2).collect();
        let expected = "stage, service, args, node, status, signal, bytes_in, bytes_out, started, finished";
        assert_eq!(names.join(", "), expected);
        let json = serde_json::to_string(&WorkflowStage::default()).unwrap();
        let names: Vec<_> = json.split('"').skip(1).step_by(2).collect();
        assert_eq!(names.join(", "), "stage, service, digest, args, replicas, ready");
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
