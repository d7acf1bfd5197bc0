//! Who may register and call what.
//!
//! | role | registers | calls |
//! |---|---|---|
//! | agent (an internal session) | anything but `wamp.*` | anything |
//! | operator | nothing | `pipes.*` but what is one node's (`pipes.node.3.executor.prepare`; `pipes.node.list` is not) |
//! | replica R of node N | `pipes.node.N.replica.R.stage` and `.pipe` | `pipes.node.N.file`, and what it was granted |
//! | anonymous | all but `wamp.*` and `pipes.*` | all but `pipes.*` |
//!
//! A grant comes with a call by an agent (`x_pipes_grant`) to the callee's session, for as long as that call lives.

use crate::uris;

/// What a session is, once it was let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// A person or program with a key, a token or the right user id.
    Operator,
    /// The agent itself.
    Agent,
    /// A shim, by its replica's name.
    Replica(Box<str>),
    /// Anybody, in a realm that takes anybody.
    Anonymous,
}

impl Role {
    /// As WELCOME names it.
    pub fn name(&self) -> &'static str {
        match self {
            Role::Operator => "operator",
            Role::Agent => "agent",
            Role::Replica(_) => "replica",
            Role::Anonymous => "anonymous",
        }
    }

    /// Whether it may register `uri` at node `node`.
    pub fn may_register(&self, node: u64, uri: &str) -> bool {
        match self {
            _ if uri.starts_with("wamp.") => false,
            Role::Agent => true,
            Role::Operator => false,
            Role::Replica(replica) => {
                let own = uri
                    .strip_prefix("pipes.node.")
                    .and_then(|rest| rest.strip_prefix(&node.to_string()))
                    .and_then(|rest| rest.strip_prefix(".replica."))
                    .and_then(|rest| rest.strip_prefix(&**replica));
                matches!(own, Some(".stage" | ".pipe"))
            }
            Role::Anonymous => !uri.starts_with("pipes."),
        }
    }

    /// Whether it may call `uri`, grants aside.
    pub fn may_call(&self, uri: &str) -> bool {
        match self {
            Role::Agent => true,
            Role::Operator => uri.starts_with("pipes.") && !is_one_nodes(uri),
            // Any node's: what a file is called by is known only to whom it was told.
            Role::Replica(_) => uri.strip_prefix(uris::NODE).is_some_and(is_file),
            Role::Anonymous => !uri.starts_with("pipes."),
        }
    }
}

/// Whether what follows in the name of a node's procedure is its number and that of files.
fn is_file(rest: &str) -> bool {
    let (node, name) = rest.split_once('.').unwrap_or_default();
    name == uris::node::FILE && node.bytes().all(|digit| digit.is_ascii_digit())
}

/// Whether a procedure belongs to one node: `pipes.node.` and its number.
fn is_one_nodes(uri: &str) -> bool {
    uri.strip_prefix("pipes.node.")
        .is_some_and(|rest| rest.starts_with(|digit: char| digit.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_registers_its_own_two_procedures_alone() {
        let replica = Role::Replica("r1".into());
        for (uri, may) in [
            ("pipes.node.3.replica.r1.stage", true),
            ("pipes.node.3.replica.r1.pipe", true),
            ("pipes.node.3.replica.r1.other", false),
            ("pipes.node.3.replica.r12.stage", false),
            ("pipes.node.33.replica.r1.stage", false),
            ("pipes.node.2.replica.r1.stage", false),
            ("com.example.sum", false),
        ] {
            assert_eq!(replica.may_register(3, uri), may, "{uri}");
        }
        assert!(!replica.may_call("pipes.node.3.replica.r1.pipe"));
        assert!(replica.may_call("pipes.node.3.file"));
        for uri in [
            "pipes.node.3.executor.prepare",
            "pipes.node.3.file.x",
            "pipes.node.x.file",
            "pipes.node.file",
        ] {
            assert!(!replica.may_call(uri), "{uri}");
        }
    }

    #[test]
    fn an_operator_calls_the_cluster_and_not_its_insides() {
        assert!(Role::Operator.may_call("pipes.run.start"));
        assert!(Role::Operator.may_call("pipes.node.list"));
        assert!(!Role::Operator.may_call("pipes.node.1.executor.prepare"));
        assert!(!Role::Operator.may_register(1, "com.example.sum"));
    }

    #[test]
    fn nobody_registers_what_is_reserved() {
        assert!(!Role::Agent.may_register(1, "wamp.session.list"));
        assert!(!Role::Anonymous.may_register(1, "pipes.run.start"));
        assert!(Role::Anonymous.may_register(1, "com.example.sum"));
    }
}
