//! Every procedure of realm `pipes`, and those between agents.

/// A foreground run; a session of its own for each call.
pub const RUN_START: &str = "pipes.run.start";
/// Runs: those under way, with `all` the finished too.
pub const RUN_LIST: &str = "pipes.run.list";
/// One run, by its id or the unique beginning of one.
pub const RUN_GET: &str = "pipes.run.get";
/// SIGTERM to a run's stages, SIGKILL after the grace.
pub const RUN_STOP: &str = "pipes.run.stop";
/// What a run's stages said on standard error; a session of its own for each call.
pub const RUN_LOGS: &str = "pipes.run.logs";
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
/// This cluster: leader, term, revision, nodes.
pub const CLUSTER_STATUS: &str = "pipes.cluster.status";
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
/// A transaction on keys outside `/pipes/`.
pub const STORE_TXN: &str = "pipes.store.txn";

/// Procedures of one node, in realm `pipes.stages`, for other agents.
pub fn of_node(node: u64, procedure: &str) -> String {
    format!("pipes.node.{node}.{procedure}")
}
