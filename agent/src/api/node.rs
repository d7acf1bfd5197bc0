//! `pipes.node.list|reset|remove`: the nodes as the store and the links see them, making one of them new, and removing one.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use pipes_protocol::uris;
use pipes_raft::{Op, Txn};
use rmpv::Value;
use serde::Serialize;
use tokio::io::AsyncWriteExt as _;

use crate::api::arguments::Arguments;
use crate::api::{Answer, Api, Error, value};
use crate::cluster::nodes::{self, Record};
use crate::cluster::presence;
use crate::keys;
use crate::listing::Page;

/// How long the store may take to tell its nodes before what is remembered of them is shown: an election takes less.
const TOLD_WITHIN: Duration = Duration::from_secs(1);
/// Beyond a lease, an election and what else may keep it from ending.
const LEASE_MARGIN: Duration = Duration::from_secs(3);
/// Pause between two looks at whether a node is still present.
const PRESENCE_POLL: Duration = Duration::from_millis(250);

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

pub(super) async fn list(api: &Api, arguments: &mut Arguments) -> Result<Answer, Error> {
    let after = arguments.after()?;
    let Nodes {
        nodes, is_decided, ..
    } = shown(api).await?;
    let unknown = match is_decided {
        true => Vec::new(),
        false => vec![api.quorum.undecided()],
    };
    // Digits enough for all, so that texts stand as their numbers do.
    let placed = nodes.into_iter().map(|node| (format!("{:020}", node.id), node));
    Ok(Answer::page(&Page::of(placed, after.as_deref()), unknown))
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
            true => format!("node {name} was not reset: {}", error.to_people()),
            false => format!("node {name} is not linked from {own}, and not down; try again in some seconds"),
        }));
    }
    remove_member(api, *id).await?;
    reset(true)
}

/// Removes a node for good: its membership, its record, and its name from the list of those that may connect, which ends
/// what it has open. One that is down only when that is meant: it may come back by itself.
pub(super) async fn remove(api: &Api, arguments: &mut Arguments) -> Result<Value, Error> {
    let name = arguments.text("name")?;
    let is_forced = arguments.flag("force");
    let records = api.nodes.records();
    let former: Vec<u64> = records
        .values()
        .filter(|record| record.name == name)
        .map(|record| record.id)
        .collect();
    let Some(id) = former.iter().copied().max() else {
        return Err(Error::NotFound(format!("there is no node {name}")));
    };
    if id == api.nodes.own_id() {
        return Err(Error::Usage(format!(
            "{name} cannot remove itself; ask another one, with PIPES_AGENT=ADDRESS"
        )));
    }
    if !is_forced && is_gone(api, id).await? {
        return Err(Error::Conflict(format!(
            "node {name} is down; start it, or, if it will not come back, say so with --force"
        )));
    }
    remove_member(api, id).await?;
    let mut success = vec![Op::put(keys::removed_node(&name), id.to_string())];
    success.extend(former.into_iter().map(|id| Op::delete(keys::node(id))));
    let txn = Txn {
        success,
        ..Txn::default()
    };
    api.store.txn(txn).await?;
    Ok(Value::from(name))
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
    let text = format!("{}\n", api.nodes.own_id());
    mark(&marker, &text)
        .await
        .map_err(|error| Error::Unavailable(format!("{}: {error}", marker.display())))?;
    api.lifecycle.start_again();
    Ok(Value::Nil)
}

/// Writes the marker for good: without it a node that was removed would go on with what it is to be rid of.
async fn mark(marker: &Path, text: &str) -> std::io::Result<()> {
    let mut file = tokio::fs::File::create(marker).await?;
    file.write_all(text.as_bytes()).await?;
    file.sync_all().await?;
    match marker.parent() {
        Some(folder) => tokio::fs::File::open(folder).await?.sync_all().await,
        None => Ok(()),
    }
}

async fn remove_member(api: &Api, id: u64) -> Result<(), Error> {
    match api.store.reset_member(id).await {
        // A reset that was interrupted goes on.
        Ok(()) | Err(pipes_raft::Error::MemberNotFound) => Ok(()),
        Err(pipes_raft::Error::Refused(why)) => Err(Error::Unavailable(why)),
        Err(error) => Err(error.into()),
    }
}

/// What the store says of nodes; where it says nothing, what is remembered.
struct Known {
    records: Vec<Record>,
    present: Present,
    group: pipes_raft::Status,
}

/// What the store says of the nodes' presence.
enum Present {
    /// Those that are present, each with why its replica is out, if it is.
    Told(BTreeMap<u64, Option<String>>),
    /// Nothing: its replicas differ.
    Differ,
    /// Nothing: no leader answered in time, and none is known.
    Undecided,
}

async fn known(api: &Api) -> Result<Known, pipes_raft::Error> {
    let remembered = |present| Known {
        records: api.nodes.records().into_values().collect(),
        present,
        group: pipes_raft::Status {
            leader: None,
            ..api.store.status()
        },
    };
    match tokio::time::timeout(TOLD_WITHIN, told(api)).await {
        Ok(Err(pipes_raft::Error::ReplicasDiffer)) => {
            let group = api.store.group().await?;
            let remembered = remembered(Present::Differ);
            Ok(Known { group, ..remembered })
        }
        Err(_) => Ok(remembered(Present::Undecided)),
        Ok(Err(error)) if error.is_undecided() => Ok(remembered(Present::Undecided)),
        Ok(told) => told,
    }
}

async fn told(api: &Api) -> Result<Known, pipes_raft::Error> {
    let present = nodes::presences(&api.store).await?;
    let records = api.store.prefix(keys::nodes()).await?;
    let records = records
        .iter()
        .filter_map(|kv| serde_json::from_slice::<Record>(&kv.value).ok());
    Ok(Known {
        records: records.collect(),
        present: Present::Told(present),
        group: api.store.group().await?,
    })
}

/// All nodes, by id, and the group as far as it is known.
pub(super) struct Nodes {
    pub(super) nodes: Vec<Shown>,
    pub(super) group: pipes_raft::Status,
    /// Whether a leader was found.
    pub(super) is_decided: bool,
}

/// All nodes as they are shown.
pub(super) async fn shown(api: &Api) -> Result<Nodes, Error> {
    let Known {
        records,
        present,
        group,
    } = known(api).await?;
    let show = |record: Record| {
        let role = if group.leader == Some(record.id) {
            "leader"
        } else if group.voters.contains(&record.id) {
            "voter"
        } else if group.learners.contains(&record.id) {
            "learner"
        } else {
            "client"
        };
        let (state, reason) = state_of(api, &present, record.id);
        Shown {
            name: record.name,
            id: record.id,
            address: record.address,
            role,
            state,
            reason,
            version: record.version,
        }
    };
    let mut nodes: Vec<Shown> = records.into_iter().map(show).collect();
    nodes.sort_by_key(|node| node.id);
    Ok(Nodes {
        nodes,
        group,
        is_decided: !matches!(present, Present::Undecided),
    })
}

/// A node's state, and why it is not up.
fn state_of(api: &Api, present: &Present, id: u64) -> (&'static str, Option<String>) {
    let start = api.quorum.start();
    let no_link = || format!("no link from {}", api.nodes.own_name());
    match (present, api.nodes.is_reached(id)) {
        (Present::Told(present), is_reached) => match (present.get(&id), is_reached) {
            (Some(Some(sick)), _) => ("sick", Some(sick.clone())),
            (Some(None), true) => ("up", None),
            (Some(None), false) => ("sick", Some(no_link())),
            (None, _) => ("down", Some(format!("its lease ran out; start it with: {start}"))),
        },
        (Present::Differ, true) => ("sick", Some("the replicas differ".to_owned())),
        (Present::Differ, false) => ("down", Some(no_link())),
        (Present::Undecided, true) => (
            "sick",
            Some("it is there, and can decide nothing without a leader".to_owned()),
        ),
        (Present::Undecided, false) => ("down", Some(format!("{}; start it with: {start}", no_link()))),
    }
}
