//! Runs wherever they are known: each agent is asked for those it coordinates, the store for its records, and both are
//! put together (`reconcile.rs`).
//!
//! Always: an agent that is not reached or does not answer, and a store that decides nothing, are told with what was
//! found: what they know is not taken for nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use pipes_protocol::uris;
use pipes_raft::{Consistency, Range, RangeResult, Store};
use pipes_wamp::client::Session;

use crate::cluster::nodes::{self, Nodes};
use crate::cluster::quorum::{Quorum, listed};
use crate::keys;
use crate::workflow::runs::reconcile::{self, Told};
use crate::workflow::runs::record::Record;
use crate::workflow::runs::registry::Registry;
use crate::workflow::runs::view::Run;

/// How long another agent may take to tell its runs.
const ASK_MAX: Duration = Duration::from_secs(1);

/// Why a run is not found. All but the store's are the user's.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// None has such an id.
    #[error("there is no run {0}; pipes ps -a lists them")]
    None(String),
    /// None that is known has, and not all could be learnt.
    #[error("no run {id} was found; {unknown}")]
    NoneKnown {
        /// As given.
        id: String,
        /// What could not be learnt.
        unknown: String,
    },
    /// More than one has.
    #[error("several runs begin with {0}; give more of the id")]
    Several(String),
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] pipes_raft::Error),
}

/// Whom to ask.
pub struct Finder<'a> {
    /// The nodes, and which are reached.
    pub nodes: &'a Nodes,
    /// Where records lie.
    pub store: &'a Store,
    /// Whether it can decide anything.
    pub quorum: &'a Quorum,
    /// The runs of this agent.
    pub registry: &'a Registry,
    /// Calls to other agents.
    pub agents: &'a Session,
}

/// What was found.
pub struct Found<T> {
    /// All that is known.
    pub known: T,
    /// What could not be learnt, a sentence each.
    pub unknown: Vec<String>,
}

/// What the store has on record.
struct Kept {
    records: Vec<Record>,
    /// Why there may be newer ones: this replica alone was read.
    is_behind: Option<String>,
}

impl Finder<'_> {
    /// The runs under way, oldest first.
    pub async fn under_way(&self) -> Found<Vec<Run>> {
        let told = self.told("").await;
        let mut unknown = self.not_heard(&told, "runs that they coordinate are not shown");
        let gone = self.quorum.not_reached();
        if !gone.is_empty() {
            unknown.push(format!(
                "{} cannot be reached from {}: runs that they coordinate are not shown; start what is down with: {}",
                listed(&gone),
                self.nodes.own_name(),
                self.quorum.start()
            ));
        }
        // One that is over stays with its coordinator until that is on record.
        let runs = told.runs.into_iter().map(|(_, run)| run);
        let mut known: Vec<Run> = runs.filter(|run| run.status.is_none()).collect();
        known.sort_by(|a, b| a.id.cmp(&b.id));
        Found { known, unknown }
    }

    /// All runs, oldest first.
    pub async fn all(&self) -> Result<Found<Vec<Run>>, Error> {
        let Found { known, unknown } = self.known("", Range::prefix(keys::runs())).await?;
        let known = known.into_iter().map(|(_, run)| run).collect();
        Ok(Found { known, unknown })
    }

    /// The run that `id` names or begins, and its coordinator; 0 when it has ended.
    pub async fn find(&self, id: &str) -> Result<(u64, Run), Error> {
        let mut range = Range::prefix(keys::run(id));
        // Enough to know that there are several.
        range.limit = 2;
        let Found { mut known, unknown } = self.known(id, range).await?;
        match known.len() {
            0 if unknown.is_empty() => Err(Error::None(id.to_owned())),
            0 => Err(Error::NoneKnown {
                id: id.to_owned(),
                unknown: unknown.join("; "),
            }),
            1 => Ok(known.remove(0)),
            _ => Err(Error::Several(id.to_owned())),
        }
    }

    /// The runs whose ids begin so, with their coordinators; 0 for those that are over.
    async fn known(&self, begin: &str, range: Range) -> Result<Found<Vec<(u64, Run)>>, Error> {
        let (mut told, mut kept) = (self.told(begin).await, self.records(&range).await?);
        let mut lost = reconcile::orphans(&told, &kept.records);
        if kept.is_behind.is_some() {
            // Who is not reached may live, and whatever it runs may have ended since.
            let all = self.nodes.records().into_keys();
            told.silent
                .extend(all.filter(|node| !self.nodes.is_reached(*node)));
            lost.clear();
        } else if !lost.is_empty() {
            // They may have begun since the agents were asked, or ended since: asked once more, that shows. A coordinator that
            // lives and is not reached from here does not answer.
            (told, kept) = (self.told(begin).await, self.records(&range).await?);
            let present = nodes::present(self.store).await?.into_iter();
            told.silent
                .extend(present.filter(|node| !self.nodes.is_reached(*node)));
            lost = &lost & &reconcile::orphans(&told, &kept.records);
        }
        let mut unknown: Vec<String> = kept
            .is_behind
            .map(|why| {
                format!(
                    "runs are shown as {} last knew them: {why}",
                    self.nodes.own_name()
                )
            })
            .into_iter()
            .collect();
        unknown.extend(self.not_heard(&told, "runs that they coordinate are shown as they were recorded"));
        let kept_at = kept
            .records
            .iter()
            .map(|kept| (kept.run.id.clone(), kept.coordinator));
        let kept_at: BTreeMap<String, Option<u64>> = kept_at.filter(|(id, _)| lost.contains(id)).collect();
        let runs = reconcile::merge(told, kept.records, &lost, |node| self.name(node));
        for (_, run) in runs.iter().filter(|(_, run)| lost.contains(&run.id)) {
            let record = Record {
                run: run.clone(),
                coordinator: None,
                logs_at: kept_at.get(&run.id).copied().flatten(),
            };
            let Ok(record) = serde_json::to_vec(&record) else {
                continue;
            };
            // On record, it is found so the next time, and goes when its turn comes. What is not written is found again:
            // a store that takes one no more takes no other.
            if self.store.put(keys::run(&run.id), record, None).await.is_err() {
                break;
            }
        }
        Ok(Found { known: runs, unknown })
    }

    /// The node that keeps what the stages of this run said on standard error; `None` where that is not on record. To be
    /// asked of a run that was found: its record is here by then.
    pub async fn keeper(&self, id: &str) -> Result<Option<u64>, Error> {
        let found = self.own_records(&Range::key(keys::run(id))).await?;
        let record = found.kvs.first().map(|kv| serde_json::from_slice(&kv.value));
        let record: Option<Record> = record.and_then(Result::ok);
        Ok(record.and_then(|record| record.logs_at.or(record.coordinator)))
    }

    /// A node's name.
    pub fn name(&self, node: u64) -> String {
        let records = self.nodes.records();
        records
            .get(&node)
            .map_or_else(|| node.to_string(), |record| record.name.clone())
    }

    /// What is said of agents that did not answer.
    fn not_heard(&self, told: &Told, what: &str) -> Vec<String> {
        if told.silent.is_empty() {
            return Vec::new();
        }
        let names: Vec<String> = told.silent.iter().map(|node| self.name(*node)).collect();
        vec![format!("no answer from {}: {what}", listed(&names))]
    }

    async fn records(&self, range: &Range) -> Result<Kept, Error> {
        let asked = self.store.range(range.clone(), Consistency::Linearizable);
        let (found, is_behind) = match self.quorum.decided(asked).await {
            Ok(found) => (found?, None),
            Err(undecided) => (self.own_records(range).await?, Some(undecided.to_string())),
        };
        let read = move || {
            let kept = found.kvs.iter().map(|kv| serde_json::from_slice(&kv.value));
            kept.filter_map(Result::ok).collect()
        };
        // A thousand take longer than whoever else has something to do here should wait.
        let read = tokio::task::spawn_blocking(read).await;
        let records = read.map_err(|_| Error::Store(pipes_raft::Error::Stopped))?;
        Ok(Kept { records, is_behind })
    }

    /// As this replica knows them.
    async fn own_records(&self, range: &Range) -> Result<RangeResult, Error> {
        Ok(self.store.range(range.clone(), Consistency::Serializable).await?)
    }

    /// What every agent that is reached says of its runs whose ids begin so.
    async fn told(&self, begin: &str) -> Told {
        let own = self.nodes.own_id();
        let mut told = Told::default();
        let runs = self.registry.list();
        told.runs.extend(runs.into_iter().map(|run| (own, run)));
        let reached = self.nodes.reached().into_iter().map(|(id, _)| id);
        let others = reached.filter(|id| *id != own);
        for (node, answer) in join_all(others.map(|node| self.ask(node))).await {
            match answer {
                Some(runs) => told.runs.extend(runs.into_iter().map(|run| (node, run))),
                None => drop(told.silent.insert(node)),
            }
        }
        told.runs.retain(|(_, run)| run.id.starts_with(begin));
        told
    }

    /// The runs of another agent; `None` when it does not say.
    async fn ask(&self, node: u64) -> (u64, Option<Vec<Run>>) {
        let uri = uris::of_node(node, uris::node::RUNS);
        let call = self.agents.call_once(&uri, vec![], None);
        let runs = match tokio::time::timeout(ASK_MAX, call).await {
            Ok(Ok(answer)) => answer.as_payload().first_as().ok(),
            // One that starts or stops says nothing either.
            Ok(Err(_)) | Err(_) => None,
        };
        (node, runs)
    }
}
