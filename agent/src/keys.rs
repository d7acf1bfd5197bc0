//! Every key under `/pipes/`: what is durable and where it lies in the store.
//!
//! | key | value (JSON) |
//! |---|---|
//! | `/pipes/cluster/id` | the cluster's id, written once, together with the first operators |
//! | `/pipes/cluster/settings/NAME` | `warm`, `slots`, `replicas` |
//! | `/pipes/nodes/ID` | the node's record: name, address, ports, version |
//! | `/pipes/removed/NAME` | that a node of this name was removed: it connects no more |
//! | `/pipes/presence/ID` | under the node's lease: there as long as the node lives |
//! | `/pipes/services/NAME`, `/pipes/versions/NAME/DIGEST` | the newest version of a service, and each |
//! | `/pipes/blobs/...` | who names a blob, and that it is being collected: `agent/job/src/blobs/` |
//! | `/pipes/runs/ID` | a run that was, or that lasts already, for `ps -a` |
//! | `/pipes/workflows/NAME` | a daemon workflow: what should run |
//! | `/pipes/replicas/NAME` | how many replicas of it each node holds |
//! | `/pipes/jobs/...` | queries of daemon workflows: `agent/job/src/key.rs` |
//! | `/pipes/jobs/open/NAME/ID` | a job of the daemon workflow NAME that has not ended |
//! | `/pipes/operators/HEXKEY`, `/pipes/tokens/SHA256HEX` | who may speak in realm `pipes` |
//! | `/pipes/token-names/NAME` | the token that has this name, by its sha256 |
//!
//! The layout is for looking, not an interface. A prefix ends with `/`, so that no name is the beginning of another.

/// What everything of Pipes' own begins with; outsiders may not touch it.
pub const ROOT: &str = "/pipes/";

fn key(path: &str) -> Vec<u8> {
    format!("{ROOT}{path}").into_bytes()
}

/// The cluster's id; whoever writes it first writes the first operators with it.
pub fn cluster_id() -> Vec<u8> {
    key("cluster/id")
}

/// Prefix of all settings.
pub fn settings() -> Vec<u8> {
    key("cluster/settings/")
}

/// One setting: `warm`, `slots` or `replicas`.
pub fn setting(name: &str) -> Vec<u8> {
    key(&format!("cluster/settings/{name}"))
}

/// Prefix of all node records.
pub fn nodes() -> Vec<u8> {
    key("nodes/")
}

/// The record of one node.
pub fn node(id: u64) -> Vec<u8> {
    key(&format!("nodes/{id}"))
}

/// Prefix of the names of nodes that were removed.
pub fn removed() -> Vec<u8> {
    key("removed/")
}

/// That a node of this name was removed.
pub fn removed_node(name: &str) -> Vec<u8> {
    key(&format!("removed/{name}"))
}

/// Prefix of all nodes that are present.
pub fn presences() -> Vec<u8> {
    key("presence/")
}

/// The presence of one node, under its lease.
pub fn presence(id: u64) -> Vec<u8> {
    key(&format!("presence/{id}"))
}

/// Prefix of all services.
pub fn services() -> Vec<u8> {
    key("services/")
}

/// The newest version of a service.
pub fn service(name: &str) -> Vec<u8> {
    key(&format!("services/{name}"))
}

/// Prefix of all versions of a service.
pub fn versions(name: &str) -> Vec<u8> {
    key(&format!("versions/{name}/"))
}

/// One version of a service; `digest` as `sha256:HEX`.
pub fn version(name: &str, digest: &str) -> Vec<u8> {
    key(&format!("versions/{name}/{digest}"))
}

/// That `by` names the blob; `by` is a key under `/pipes/`.
pub fn blob_named_by(digest: &str, by: &[u8]) -> Vec<u8> {
    pipes_job::key::blob_named_by(digest, by)
}

/// Prefix of all runs.
pub fn runs() -> Vec<u8> {
    key("runs/")
}

/// The record of one run.
pub fn run(id: &str) -> Vec<u8> {
    key(&format!("runs/{id}"))
}

/// Prefix of all daemon workflows.
pub fn workflows() -> Vec<u8> {
    key("workflows/")
}

/// One daemon workflow.
pub fn workflow(name: &str) -> Vec<u8> {
    key(&format!("workflows/{name}"))
}

/// Prefix of where the replicas of daemon workflows are.
pub fn replicas() -> Vec<u8> {
    key("replicas/")
}

/// Where the replicas of one daemon workflow are.
pub fn replicas_of(workflow: &str) -> Vec<u8> {
    key(&format!("replicas/{workflow}"))
}

/// Prefix of the jobs of a daemon workflow that have not ended.
pub fn open_jobs(workflow: &str) -> Vec<u8> {
    key(&format!("jobs/open/{workflow}/"))
}

/// Prefix of all operators.
pub fn operators() -> Vec<u8> {
    key("operators/")
}

/// One operator, by the public key in hexadecimal digits.
pub fn operator(public_key: &str) -> Vec<u8> {
    key(&format!("operators/{public_key}"))
}

/// Prefix of all tokens.
pub fn tokens() -> Vec<u8> {
    key("tokens/")
}

/// One token, by the SHA-256 of its bytes in hexadecimal digits.
pub fn token(sha256: &str) -> Vec<u8> {
    key(&format!("tokens/{sha256}"))
}

/// The token that has a name, by its sha256 in hexadecimal digits.
pub fn token_name(name: &str) -> Vec<u8> {
    key(&format!("token-names/{name}"))
}

/// What a key says after a prefix, as text; `None` where it does not begin so or is no UTF-8.
pub fn after<'a>(key: &'a [u8], prefix: &[u8]) -> Option<&'a str> {
    std::str::from_utf8(key.strip_prefix(prefix)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_a_prefix_is_read_back() {
        assert_eq!(after(&node(12), &nodes()), Some("12"));
        assert_eq!(after(&node(12), &services()), None);
        let by = blob_named_by("sha256:ab", &service("cat"));
        assert_eq!(by, b"/pipes/blobs/sha256:ab/by/services/cat");
    }
}
