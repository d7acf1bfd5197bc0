//! `pipes.node.list|reset`: the nodes as the store and the links see them, and making one of them new.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use pipes_protocol::uris;
use rmpv::Value;
use serde::Serialize;

use crate::api::arguments::Arguments;
use crate::api::{Api, Error, value};
use crate::cluster::nodes::{self, Record};
use crate::cluster::presence;
use crate::keys;

/// A node as everybody outside sees it.
/// Beyond a lease, an election and what else may keep it from ending.
const LEASE_MARGIN: Duration = Duration::from_secs(3);
/// Pause between two looks at whether a node is still present.
const PRESENCE_POLL: Duration = Duration::from_millis(250);

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

pub(super) async fn list(api: &Api, _: &mut Arguments) -> Result<Value, Error> {
    Ok(value(&shown(api).await?))
}

/// Has a node whose data is damaged, or differs from the others', begin anew. Of one that is down only the membership
/// goes: whoever starts it again sets its folder aside before.
pub(super) async fn reset(api: &Api, arguments: &mut Arguments) -> Result<Value, Error> {
    #[derive(Serialize)]
    struct Reset {
        name: String,
        id: u64,
        is_down: bool,
    }
    let name = arguments.text("name")?;
    let records = api.nodes.records();
    // The newest of a name: of one that was reset just now the former record may still be there.
    let named = records
        .values()
        .filter(|record| record.name == name || record.id.to_string() == name);
    let newest = named.max_by_key(|record| record.id);
    let Record { id, name, .. } =
        newest.ok_or_else(|| Error::NotFound(format!("there is no node {name}")))?;
    let reset = |is_down| {
        let (name, id) = (name.clone(), *id);
        Ok(value(&Reset { name, id, is_down }))
    };
    if *id == api.nodes.own_id() {
        reset_own(api, arguments).await?;
        return reset(false);
    }
    let uri = uris::of_node(*id, uris::node::RESET);
    let Err(error) = api.agents.call_once(&uri, vec![], None).await else {
        return reset(false);
    };
    if !is_gone(api, *id).await? {
        let own = api.nodes.own_name();
        return Err(Error::Unavailable(match api.nodes.is_reached(*id) {
            true => format!("node {name} was not reset: {error}"),
            false => format!("node {name} is not linked from {own}, and not down; try again in some seconds"),
        }));
    }
    remove_member(api, *id).await?;
    reset(true)
}

/// Whether a node is down: who is not linked from here may be well all the same, and one that died a moment ago is known
/// by its lease only when that ran out.
async fn is_gone(api: &Api, id: u64) -> Result<bool, Error> {
    let begun = Instant::now();
    loop {
        let is_present = match nodes::presences(&api.store).await {
            Ok(present) => present.contains_key(&id),
            Err(pipes_raft::Error::ReplicasDiffer) => api.nodes.is_reached(id),
            Err(error) => return Err(error.into()),
        };
        let is_late = begun.elapsed() > presence::LEASE + LEASE_MARGIN;
        if !is_present || is_late || api.nodes.is_reached(id) {
            return Ok(!is_present);
        }
        tokio::time::sleep(PRESENCE_POLL).await;
    }
}

/// Has this node removed by the others, and starts the agent again, which sets the folder aside and joins.
pub(super) async fn reset_own(api: &Api, _: &mut Arguments) -> Result<Value, Error> {
    remove_member(api, api.nodes.own_id()).await?;
    let marker = api.config.reset_file();
    std::fs::write(&marker, format!("{}\n", api.nodes.own_id()))
        .map_err(|error| Error::Unavailable(format!("{}: {error}", marker.display())))?;
    api.lifecycle.start_again();
    Ok(Value::Nil)
}

async fn remove_member(api: &Api, id: u64) -> Result<(), Error> {
    match api.store.reset_member(id).await {
        // A reset that was interrupted goes on.
        Ok(()) | Err(pipes_raft::Error::MemberNotFound) => Ok(()),
        Err(pipes_raft::Error::Refused(why)) => Err(Error::Unavailable(why)),
        Err(error) => Err(error.into()),
    }
}

/// What the store says of nodes; where its replicas differ, what is remembered, and nothing of their presence.
struct Known {
    records: Vec<Record>,
    present: Option<BTreeMap<u64, Option<String>>>,
}

async fn known(api: &Api) -> Result<Known, pipes_raft::Error> {
    let present = match nodes::presences(&api.store).await {
        Ok(present) => present,
        Err(pipes_raft::Error::ReplicasDiffer) => {
            return Ok(Known {
                records: api.nodes.records().into_values().collect(),
                present: None,
            });
        }
        Err(error) => return Err(error),
    };
    let records = api.store.prefix(keys::nodes()).await?;
    let records = records
        .iter()
        .filter_map(|kv| serde_json::from_slice::<Record>(&kv.value).ok());
    Ok(Known {
        records: records.collect(),
        present: Some(present),
    })
}

/// All nodes, by id.
pub(super) async fn shown(api: &Api) -> Result<Vec<Shown>, Error> {
    let Known { records, present } = known(api).await?;
    let status = api.store.group().await?;
    let mut nodes: Vec<Shown> = records
        .into_iter()
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
            let is_reached = api.nodes.is_reached(record.id);
            let presence = present.as_ref().map(|present| present.get(&record.id));
            let (state, reason) = match (presence, is_reached) {
                (Some(Some(Some(sick))), _) => ("sick", Some(sick.clone())),
                (Some(Some(None)), true) => ("up", None),
                (Some(Some(None)), false) => ("sick", Some(format!("no link from {}", api.nodes.own_name()))),
                (Some(None), _) => ("down", Some("its lease ran out".to_owned())),
                (None, true) => ("sick", Some("the replicas differ".to_owned())),
                (None, false) => ("down", Some(format!("no link from {}", api.nodes.own_name()))),
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
