//! Who may register and call what.
//!
//! | role | registers | calls |
//! |---|---|---|
//! | agent (an internal session) | anything but `wamp.*` | anything |
//! | operator | nothing | `pipes.*` but what is one node's (`pipes.node.3.executor.prepare`; `pipes.node.list` is not) |
//! | runner, by a token | nothing | what starts runs and jobs and follows one by its ID ([`RUNS`]) |
//! | reader, by a token | nothing | what changes nothing ([`READS`]) |
//! | replica R of node N | `pipes.node.N.replica.R.stage` and `.pipe` | `pipes.node.N.file`, and what it was granted |
//! | anonymous | all but `wamp.*` and `pipes.*` | all but `pipes.*` |
//!
//! Which workflow a token reaches, and which runs and jobs are its own, is in arguments: the agent decides (`api/reach.rs`).
//!
//! A grant comes with a call by an agent (`x_pipes_grant`) to the callee's session, for as long as that call lives.

use crate::uris;

/// What a runner calls. No list of runs or jobs: its own it knows by their IDs, which nobody can guess.
pub const RUNS: [&str; 16] = [
    uris::RUN_START,
    uris::RUN_GET,
    uris::RUN_STOP,
    uris::RUN_LOGS,
    uris::JOB_SUBMIT,
    uris::JOB_GET,
    uris::JOB_RESULT,
    uris::JOB_CANCEL,
    uris::JOB_RETRY,
    uris::WORKFLOW_LIST,
    uris::WORKFLOW_GET,
    uris::SERVICE_LIST,
    uris::BLOB_PUT,
    uris::BLOB_HAS,
    uris::NODE_LIST,
    uris::CLUSTER_STATUS,
];

/// What a reader calls.
pub const READS: [&str; 13] = [
    uris::RUN_LIST,
    uris::RUN_GET,
    uris::RUN_LOGS,
    uris::JOB_GET,
    uris::JOB_RESULT,
    uris::JOB_LIST,
    uris::WORKFLOW_LIST,
    uris::WORKFLOW_GET,
    uris::SERVICE_LIST,
    uris::SERVICE_GET,
    uris::NODE_LIST,
    uris::NODE_SUPPLY,
    uris::CLUSTER_STATUS,
];

/// What a session is, once it was let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// A person or program with a key, a token or the right user id.
    Operator,
    /// A program with a token.
    Token {
        /// What it may do.
        rights: Rights,
        /// It reaches one workflow alone: it starts no runs, which are of none.
        is_narrow: bool,
    },
    /// The agent itself.
    Agent,
    /// A shim, by its replica's name.
    Replica(Box<str>),
    /// Anybody, in a realm that takes anybody.
    Anonymous,
}

/// What a token may do, of what operators may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// All of it.
    Operator,
    /// Start runs and jobs, and follow them.
    Runner,
    /// Look.
    Reader,
}

impl Rights {
    /// Each of them.
    pub const ALL: [Rights; 3] = [Rights::Operator, Rights::Runner, Rights::Reader];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Rights::Operator => "operator",
            Rights::Runner => "runner",
            Rights::Reader => "reader",
        }
    }

    /// As it is read.
    pub fn of(name: &str) -> Option<Rights> {
        Rights::ALL.into_iter().find(|rights| rights.name() == name)
    }
}

impl Role {
    /// As WELCOME names it.
    pub fn name(&self) -> &'static str {
        match self {
            Role::Operator => "operator",
            Role::Token { rights, .. } => rights.name(),
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
            Role::Operator | Role::Token { .. } => false,
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
            Role::Token { is_narrow: true, .. } if uri == uris::RUN_START => false,
            Role::Token { rights, .. } => match rights {
                Rights::Operator => Role::Operator.may_call(uri),
                Rights::Runner => RUNS.contains(&uri),
                Rights::Reader => READS.contains(&uri),
            },
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
