//! Every URI of Pipes: realms, procedures and errors, for whoever offers, calls or guards them.
//!
//! | URI | realm | offered by |
//! |---|---|---|
//! | `pipes.run.start`, `pipes.node.list`, ... | `pipes` | each agent, for people and programs |
//! | `pipes.node.3.executor.prepare`, `pipes.node.3.runs`, ... | `pipes.stages` | node 3, for other agents |
//! | `pipes.node.3.replica.r1.stage`, `...pipe` | `pipes.stages` | the shim of replica r1 on node 3 |
//! | `pipes.node.3.run.R.1.out` | `pipes.stages` | node 3, which coordinates run R: where the output of attempt 1 comes |
//!
//! Procedures under `pipes.node.N.` are routed by the node's number, without a look-up. They are here and not beside
//! those who speak of them since the router, too, decides by them.

/// Realm of people and programs.
pub const REALM_OPERATORS: &str = "pipes";
/// Realm of agents and shims.
pub const REALM_STAGES: &str = "pipes.stages";

/// What all of Pipes begins with.
pub const PIPES: &str = "pipes.";
/// What all that belongs to one node begins with, before its number.
pub const NODE: &str = "pipes.node.";

/// Starts a run; a session of its own for each call.
pub const RUN_START: &str = "pipes.run.start";
/// Runs under way, or all that are known.
pub const RUN_LIST: &str = "pipes.run.list";
/// One run.
pub const RUN_GET: &str = "pipes.run.get";
/// SIGTERM to a run's stages, SIGKILL after the grace.
pub const RUN_STOP: &str = "pipes.run.stop";
/// What a run's stages said on standard error; a session of its own for each call.
pub const RUN_LOGS: &str = "pipes.run.logs";
/// Accepts a query of a daemon workflow; a session of its own for each call.
pub const JOB_SUBMIT: &str = "pipes.job.submit";
/// One job, perhaps once it has ended.
pub const JOB_GET: &str = "pipes.job.get";
/// What a job made; a session of its own for each call.
pub const JOB_RESULT: &str = "pipes.job.result";
/// Jobs, a page at a time.
pub const JOB_LIST: &str = "pipes.job.list";
/// Ends a job.
pub const JOB_CANCEL: &str = "pipes.job.cancel";
/// Another job with the same input.
pub const JOB_RETRY: &str = "pipes.job.retry";
/// Makes a daemon workflow, or starts a stopped one.
pub const WORKFLOW_START: &str = "pipes.workflow.start";
/// Has it take nothing new.
pub const WORKFLOW_STOP: &str = "pipes.workflow.stop";
/// Forgets it.
pub const WORKFLOW_REMOVE: &str = "pipes.workflow.remove";
/// Daemon workflows that run, or all of them.
pub const WORKFLOW_LIST: &str = "pipes.workflow.list";
/// One daemon workflow.
pub const WORKFLOW_GET: &str = "pipes.workflow.get";
/// Changes its line or options, or takes the last such change back.
pub const WORKFLOW_UPDATE: &str = "pipes.workflow.update";
/// Has its stages keep so many replicas.
pub const WORKFLOW_SCALE: &str = "pipes.workflow.scale";
/// Makes a service of an executable; a session of its own for each call.
pub const SERVICE_PUT: &str = "pipes.service.put";
/// All services.
pub const SERVICE_LIST: &str = "pipes.service.list";
/// One service.
pub const SERVICE_GET: &str = "pipes.service.get";
/// Forgets a service.
pub const SERVICE_REMOVE: &str = "pipes.service.remove";
/// Stores bytes by their digest; a session of its own for each call.
pub const BLOB_PUT: &str = "pipes.blob.put";
/// Whether a majority has a blob.
pub const BLOB_HAS: &str = "pipes.blob.has";
/// All nodes.
pub const NODE_LIST: &str = "pipes.node.list";
/// Makes a node new whose data is damaged, or differs from the others'.
pub const NODE_RESET: &str = "pipes.node.reset";
/// Removes a node that is not to come back.
pub const NODE_REMOVE: &str = "pipes.node.remove";
/// The supply of the agent that is asked: its slots, and how many are taken.
pub const NODE_SUPPLY: &str = "pipes.node.supply";
/// This cluster: leader, term, revision, nodes.
pub const CLUSTER_STATUS: &str = "pipes.cluster.status";
/// Compares the whole content of all replicas at one revision.
pub const CLUSTER_CHECK: &str = "pipes.cluster.check";
/// Sets a setting of the cluster.
pub const CLUSTER_SET: &str = "pipes.cluster.set";
/// Makes a token, shown once.
pub const TOKEN_CREATE: &str = "pipes.token.create";
/// Tokens by name.
pub const TOKEN_LIST: &str = "pipes.token.list";
/// Takes a token back.
pub const TOKEN_REMOVE: &str = "pipes.token.remove";
/// Reads keys outside `/pipes/`.
pub const STORE_RANGE: &str = "pipes.store.range";
/// Whether a token is an operator's, by its SHA-256.
pub const TOKEN_CHECK: &str = "pipes.token.check";
/// A transaction on keys outside `/pipes/`.
pub const STORE_TXN: &str = "pipes.store.txn";

/// Keyword of an answer: sentences on what could not be learnt for it, such as a server that does not answer.
pub const UNKNOWN: &str = "unknown";
/// Keyword of a page of a listing that is not the last: where the next one begins, to be given with [`AFTER`].
pub const NEXT: &str = "next";
/// Keyword argument of a listing: the place after which it is to go on.
pub const AFTER: &str = "after";

/// One node's own procedures, in realm `pipes.stages`; [`of_node`] makes URIs of them.
pub mod node {
    /// Reserves slots for stages of a run, until the call ends.
    pub const EXECUTOR_PREPARE: &str = "executor.prepare";
    /// Gives its shims the files of runs; a session of its own for each call.
    pub const FILE: &str = "file";
    /// What the node has and how much of it is free, as it changes.
    pub const EXECUTOR_SUPPLY: &str = "executor.supply";
    /// Reads all blobs of the node against their digests.
    pub const BLOBS_CHECK: &str = "blobs.check";
    /// Has the node removed from the store's members, and join anew.
    pub const RESET: &str = "reset";
    /// The runs that the node coordinates.
    pub const RUNS: &str = "runs";
    /// Stops one of them.
    pub const RUN_STOP: &str = "run.stop";
    /// The stages of a job's attempt that the node runs.
    pub const JOB_STAGES: &str = "job.stages";
    /// What their stages said on standard error.
    pub const RUN_LOGS: &str = "run.logs";
}

/// What a replica's shim offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offered {
    /// The stage call.
    Stage,
    /// The pipe call.
    Pipe,
}

/// A procedure of one node, by its name in [`node`].
pub fn of_node(node: u64, procedure: &str) -> String {
    format!("{NODE}{node}.{procedure}")
}

/// A procedure of a replica.
pub fn of_replica(node: u64, replica: &str, offered: Offered) -> String {
    let name = match offered {
        Offered::Stage => "stage",
        Offered::Pipe => "pipe",
    };
    format!("{NODE}{node}.replica.{replica}.{name}")
}

/// Where the coordinator of a run takes the output of one attempt.
pub fn output_of_run(coordinator: u64, run: &str, attempt: u32) -> String {
    format!("{NODE}{coordinator}.run.{run}.{attempt}.out")
}

/// Errors of Pipes. Those of WAMP itself are in [`error::uri`](crate::error::uri).
pub mod error {
    /// The request is wrong; the argument says how.
    pub const USAGE: &str = "pipes.error.usage";
    /// The line is wrong; the arguments say how and where.
    pub const SYNTAX: &str = "pipes.error.syntax";
    /// No such thing.
    pub const NOT_FOUND: &str = "pipes.error.not_found";
    /// Not as things are: an idempotency key was used with other input, a name is in use.
    pub const CONFLICT: &str = "pipes.error.conflict";
    /// More bytes than are taken.
    pub const TOO_LARGE: &str = "pipes.error.too_large";
    /// It has not ended yet.
    pub const UNFINISHED: &str = "pipes.error.unfinished";
    /// No such service, or no such version of it.
    pub const UNKNOWN_SERVICE: &str = "pipes.error.unknown_service";
    /// Something that is needed cannot be had now.
    pub const UNAVAILABLE: &str = "pipes.error.unavailable";
    /// No slot is free; what the node tells of its supply says when one is.
    pub const FULL: &str = "pipes.error.full";
    /// The executable could not be started; the arguments say why.
    pub const CANNOT_START: &str = "pipes.error.cannot_start";
    /// A pipe broke, and the stage was killed; the argument says how.
    pub const BROKEN: &str = "pipes.error.broken";
    /// The stage took more than it may have, and was killed; the argument says of what.
    pub const OVER_LIMIT: &str = "pipes.error.over_limit";
    /// All slots of the replica are taken, or too many runs wait on the agent.
    pub const BUSY: &str = "pipes.error.busy";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_a_procedure_is_stands_in_its_name() {
        assert_eq!(
            of_node(3, node::EXECUTOR_PREPARE),
            "pipes.node.3.executor.prepare"
        );
        assert_eq!(
            of_replica(3, "r1", Offered::Stage),
            "pipes.node.3.replica.r1.stage"
        );
        assert_eq!(of_replica(3, "r1", Offered::Pipe), "pipes.node.3.replica.r1.pipe");
        assert_eq!(output_of_run(3, "r9", 2), "pipes.node.3.run.r9.2.out");
    }
}
