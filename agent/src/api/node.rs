//! `pipes.node.list`: the nodes as the store and the links see them.

use rmpv::Value;
use serde::Serialize;

use crate::api::{Api, Error, value};
use crate::keys;
use crate::node;

/// A node as everybody outside sees it.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    name: String,
    id: u64,
    address: String,
    role: &'static str,
    state: &'static str,
    reason: Option<String>,
    version: String,
}

pub(super) async fn list(api: &Api) -> Result<Value, Error> {
    Ok(value(&shown(api).await?))
}

/// All nodes, by id.
pub(super) async fn shown(api: &Api) -> Result<Vec<Shown>, Error> {
    let present = node::present(&api.store).await?;
    let records = api.store.prefix(keys::nodes()).await?;
    let records = records
        .iter()
        .filter_map(|kv| serde_json::from_slice::<crate::node::Record>(&kv.value).ok());
    let status = api.store.status();
    let mut nodes: Vec<Shown> = records
        .map(|record| {
            let role = if status.leader == Some(record.id) {
                "leader"
            } else if status.voters.contains(&record.id) {
                "voter"
            } else if status.learners.contains(&record.id) {
                "learner"
            } else {
                "client"
            };
            let (state, reason) = match (present.contains(&record.id), api.nodes.is_reached(record.id)) {
                (true, true) => ("up", None),
                (true, false) => ("sick", Some(format!("no link from {}", api.nodes.own_name()))),
                (false, _) => ("down", Some("its lease ran out".to_owned())),
            };
            Shown {
                name: record.name,
                id: record.id,
                address: record.address,
                role,
                state,
                reason,
                version: record.version,
            }
        })
        .collect();
    nodes.sort_by_key(|node| node.id);
    Ok(nodes)
}
