//! Runs wherever they are known: each agent is asked for those it coordinates, the store for its records, and both are
//! put together (`reconcile.rs`).

use std::time::Duration;

use futures::future::join_all;
use pipes_protocol::uris;
use pipes_raft::{Consistency, Range, Store};
use pipes_wamp::client::{CallError, Session};
use pipes_wamp::error::uri::NO_SUCH_PROCEDURE;

use crate::keys;
use crate::node::{self, Nodes};
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
    /// The runs of this agent.
    pub registry: &'a Registry,
    /// Calls to other agents.
    pub agents: &'a Session,
}

impl Finder<'_> {
    /// The runs under way, oldest first.
    pub async fn under_way(&self) -> Vec<Run> {
        // One that is over stays with its coordinator until that is on record.
        let told = self.told("").await.runs.into_iter();
        let mut runs: Vec<Run> = told
            .map(|(_, run)| run)
            .filter(|run| run.status.is_none())
            .collect();
        runs.sort_by(|a, b| a.id.cmp(&b.id));
        runs
    }

    /// All runs, oldest first.
    pub async fn all(&self) -> Result<Vec<Run>, Error> {
        let runs = self.known("", Range::prefix(keys::runs())).await?;
        Ok(runs.into_iter().map(|(_, run)| run).collect())
    }

    /// The run that `id` names or begins, and its coordinator; 0 when it has ended.
    pub async fn find(&self, id: &str) -> Result<(u64, Run), Error> {
        let mut range = Range::prefix(keys::run(id));
        // Enough to know that there are several.
        range.limit = 2;
        let mut found = self.known(id, range).await?;
        match found.len() {
            0 => Err(Error::None(id.to_owned())),
            1 => Ok(found.remove(0)),
            _ => Err(Error::Several(id.to_owned())),
        }
    }

    /// The runs whose ids begin so, with their coordinators; 0 for those that are over.
    async fn known(&self, begin: &str, range: Range) -> Result<Vec<(u64, Run)>, Error> {
        let (mut told, mut kept) = (self.told(begin).await, self.records(&range).await?);
        let mut lost = reconcile::orphans(&told, &kept);
        if !lost.is_empty() {
            // They may have begun since the agents were asked, or ended since: asked once more, that shows. A coordinator that
            // lives and is not reached from here does not answer.
            (told, kept) = (self.told(begin).await, self.records(&range).await?);
            let present = node::present(self.store).await?.into_iter();
            told.silent
                .extend(present.filter(|node| !self.nodes.is_reached(*node)));
            lost = &lost & &reconcile::orphans(&told, &kept);
        }
        let nodes = self.nodes.records();
        let name = |node| {
            nodes
                .get(&node)
                .map_or(node.to_string(), |known| known.name.clone())
        };
        let runs = reconcile::merge(told, kept, &lost, name);
        for (_, run) in runs.iter().filter(|(_, run)| lost.contains(&run.id)) {
            // On record, it is found so the next time, and goes when its turn comes. One that is not written is found again.
            if let Ok(record) = serde_json::to_vec(run) {
                let _ = self.store.put(keys::run(&run.id), record, None).await;
            }
        }
        Ok(runs)
    }

    async fn records(&self, range: &Range) -> Result<Vec<Record>, Error> {
        let found = self.store.range(range.clone(), Consistency::Linearizable).await?;
        let kept = found.kvs.iter().map(|kv| serde_json::from_slice(&kv.value));
        Ok(kept.filter_map(Result::ok).collect())
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
            // It has begun a moment ago and serves nothing yet.
            Ok(Err(CallError::Answered { uri, .. })) if uri == NO_SUCH_PROCEDURE => Some(Vec::new()),
            Ok(Err(_)) | Err(_) => None,
        };
        (node, runs)
    }
}
