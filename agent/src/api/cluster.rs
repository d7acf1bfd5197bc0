//! `pipes.cluster.status|set`.

use pipes_raft::Consistency;
use rmpv::Value;
use serde::Serialize;

use crate::api::arguments::Arguments;
use crate::api::{Api, Error, node, value};
use crate::executor::Settings;
use crate::keys;

#[derive(Debug, Serialize)]
struct Status {
    name: String,
    id: String,
    leader: Option<String>,
    term: u64,
    revision: i64,
    /// What is wrong with it as a whole, and what to do.
    reason: Option<String>,
    nodes: Vec<node::Shown>,
}

pub(super) async fn status(api: &Api, _: &mut Arguments) -> Result<Value, Error> {
    let node::Nodes {
        nodes,
        group,
        is_decided,
    } = node::shown(api).await?;
    let (revision, reason) = match is_decided {
        true => revision(api, &group).await?,
        false => (group.revision, Some(api.quorum.undecided())),
    };
    let names = api.nodes.records();
    Ok(value(&Status {
        name: api.config.cluster.clone(),
        id: api.config.cluster_id.clone(),
        leader: group
            .leader
            .and_then(|leader| names.get(&leader).map(|record| record.name.clone())),
        term: group.term,
        revision,
        reason,
        nodes,
    }))
}

/// The store's revision, and what is wrong with it as a whole.
async fn revision(api: &Api, group: &pipes_raft::Status) -> Result<(i64, Option<String>), Error> {
    // Read after the nodes, so that the revision is not older than what they show.
    let empty = pipes_raft::Range::key(keys::cluster_id());
    match api.store.range(empty, Consistency::Linearizable).await {
        Ok(read) => Ok((read.revision, None)),
        Err(error @ pipes_raft::Error::ReplicasDiffer) => Ok((group.revision, Some(error.to_people()))),
        // The leader was lost since the nodes were read.
        Err(error) if error.is_undecided() => Ok((group.revision, Some(api.quorum.undecided()))),
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn set(api: &Api, arguments: &mut Arguments) -> Result<Value, Error> {
    let (key, text) = (arguments.text("key")?, arguments.text("value")?);
    let parsed = Settings::parse(&key, &text).map_err(|error| Error::Usage(error.to_string()))?;
    api.store
        .put(keys::setting(&key), parsed.to_string(), None)
        .await?;
    Ok(Value::Nil)
}
