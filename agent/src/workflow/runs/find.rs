//! Runs wherever they are known: each agent is asked for those it coordinates, the store for its records, and both are
//! put together (`reconcile.rs`).
//!
//! Always: an agent that is not reached or does not answer, and a store that decides nothing, are told with what was
//! found: what they know is not taken for nothing.
//!
//! Each tells a page at a time (`listing.rs`). What was found is all up to the nearest end of their pages, and goes that far.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use pipes_protocol::uris;
use pipes_raft::{Consistency, KeyValue, Range, RangeResult, Store, prefix_end};
use pipes_wamp::client::Session;
use pipes_wamp::message::Payload;
use rmpv::Value;

use crate::cluster::nodes::{self, Nodes};
use crate::cluster::quorum::{Quorum, listed};
use crate::keys;
use crate::listing::{self, Page, nearer};
use crate::workflow::runs::reconcile::{self, Told};
use crate::workflow::runs::record::Record;
use crate::workflow::runs::registry::Registry;
use crate::workflow::runs::view::Run;

/// How long another agent may take to tell its runs.
const ASK_MAX: Duration = Duration::from_secs(1);
/// Records that are read first for a page, since one may be as large as a third of it; twice as many each time after ...
const PART_MIN: usize = 8;
/// ... and at most.
const PART_MAX: usize = 128;

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

/// Which runs are meant, by their ids.
#[derive(Clone, Copy)]
struct Ids<'q> {
    /// They begin so.
    begin: &'q str,
    /// They come after this one.
    after: Option<&'q str>,
}

impl Ids<'_> {
    fn mean(&self, id: &str) -> bool {
        id.starts_with(self.begin) && self.after.is_none_or(|after| id > after)
    }
}

/// All runs that are meant up to one of them, with their coordinators; 0 for those that are over.
struct Known {
    runs: Vec<(u64, Run)>,
    /// That one; `None` where they are all.
    end: Option<String>,
}

/// What the store has on record.
struct Kept {
    records: Vec<Record>,
    /// Up to which run that is all, if not to the last.
    end: Option<String>,
    /// Why there may be newer ones: this replica alone was read.
    is_behind: Option<String>,
}

impl Finder<'_> {
    /// A page of the runs under way, oldest first.
    pub async fn under_way(&self, after: Option<&str>) -> Found<Page<Run>> {
        let mut told = self.told(Ids { begin: "", after }).await;
        told.cut();
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
        let mut runs: Vec<Run> = runs.filter(|run| run.status.is_none()).collect();
        runs.sort_by(|a, b| a.id.cmp(&b.id));
        let known = page(runs, after, told.end);
        Found { known, unknown }
    }

    /// A page of all runs, oldest first.
    pub async fn all(&self, after: Option<&str>) -> Result<Found<Page<Run>>, Error> {
        let Found { known, unknown } = self.known(Ids { begin: "", after }).await?;
        let runs = known.runs.into_iter().map(|(_, run)| run);
        let known = page(runs, after, known.end);
        Ok(Found { known, unknown })
    }

    /// The run that `id` names or begins, and its coordinator; 0 when it has ended.
    pub async fn find(&self, id: &str) -> Result<(u64, Run), Error> {
        let asked = Ids {
            begin: id,
            after: None,
        };
        let Found {
            known: Known { mut runs, end },
            unknown,
        } = self.known(asked).await?;
        match runs.pop() {
            // What has further pages has others.
            _ if end.is_some() || !runs.is_empty() => Err(Error::Several(id.to_owned())),
            Some(run) => Ok(run),
            None if unknown.is_empty() => Err(Error::None(id.to_owned())),
            None => Err(Error::NoneKnown {
                id: id.to_owned(),
                unknown: unknown.join("; "),
            }),
        }
    }

    /// What is known of these runs, as far as all tell of them at once.
    async fn known(&self, ids: Ids<'_>) -> Result<Found<Known>, Error> {
        let (mut told, mut kept) = self.told_and_kept(ids).await?;
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
            (told, kept) = self.told_and_kept(ids).await?;
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
        let end = kept.end;
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
        let known = Known { runs, end };
        Ok(Found { known, unknown })
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

    /// What the agents tell and what the store keeps, both up to where they do so.
    async fn told_and_kept(&self, ids: Ids<'_>) -> Result<(Told, Kept), Error> {
        let (mut told, mut kept) = (self.told(ids).await, self.records(ids).await?);
        told.end = nearer(told.end, kept.end);
        told.cut();
        kept.end = told.end.clone();
        if let Some(end) = &kept.end {
            kept.records.retain(|kept| kept.run.id <= *end);
        }
        Ok((told, kept))
    }

    async fn records(&self, ids: Ids<'_>) -> Result<Kept, Error> {
        let asked = read(self.store, ids, Consistency::Linearizable);
        let ((found, end), is_behind) = match self.quorum.decided(asked).await {
            Ok(found) => (found?, None),
            Err(undecided) => {
                let own = read(self.store, ids, Consistency::Serializable).await?;
                (own, Some(undecided.to_string()))
            }
        };
        let decode = move || {
            let kept = found.iter().map(|kv| serde_json::from_slice(&kv.value));
            kept.filter_map(Result::ok).collect()
        };
        // A thousand take longer than whoever else has something to do here should wait.
        let decoded = tokio::task::spawn_blocking(decode).await;
        Ok(Kept {
            records: decoded.map_err(|_| Error::Store(pipes_raft::Error::Stopped))?,
            end,
            is_behind,
        })
    }

    /// As this replica knows them.
    async fn own_records(&self, range: &Range) -> Result<RangeResult, Error> {
        Ok(self.store.range(range.clone(), Consistency::Serializable).await?)
    }

    /// What every agent that is reached says of these of its runs.
    async fn told(&self, ids: Ids<'_>) -> Told {
        let own = self.nodes.own_id();
        let mut told = Told::default();
        told.add(own, self.registry.page(ids.begin, ids.after));
        let reached = self.nodes.reached().into_iter().map(|(id, _)| id);
        let others = reached.filter(|id| *id != own);
        for (node, answer) in join_all(others.map(|node| self.ask(node, ids))).await {
            match answer {
                Some(mut page) => {
                    // An agent of the version before tells all of its runs.
                    page.objects.retain(|run| ids.mean(&run.id));
                    told.add(node, page);
                }
                None => drop(told.silent.insert(node)),
            }
        }
        told
    }

    /// These of another agent's runs; `None` when it does not say.
    async fn ask(&self, node: u64, ids: Ids<'_>) -> (u64, Option<Page<Run>>) {
        let uri = uris::of_node(node, uris::node::RUNS);
        let mut asked = vec![("begin".into(), ids.begin.into())];
        asked.extend(ids.after.map(|after| (uris::AFTER.into(), after.into())));
        let call = self.agents.call_once(&uri, vec![], Some(Value::Map(asked)));
        let page = match tokio::time::timeout(ASK_MAX, call).await {
            Ok(Ok(answer)) => page_of(answer.as_payload()),
            // One that starts or stops says nothing either.
            Ok(Err(_)) | Err(_) => None,
        };
        (node, page)
    }
}

/// A page out of an agent's answer.
fn page_of(answer: Payload<'_>) -> Option<Page<Run>> {
    let objects = answer.first_as().ok()?;
    let mut said = answer.kwargs().ok()?.into_iter();
    let next = said.find(|(key, _)| key == uris::NEXT);
    let next = next.and_then(|(_, next)| next.as_str().map(str::to_owned));
    Some(Page { objects, next })
}

/// A page of runs that are all up to `end`.
fn page(runs: impl IntoIterator<Item = Run>, after: Option<&str>, end: Option<String>) -> Page<Run> {
    let placed = runs.into_iter().map(|run| (run.id.clone(), run));
    let Page { objects, next } = Page::of(placed, after);
    let next = next.or(end);
    Page { objects, next }
}

/// Records of a page, and the run up to which they are all, if not to the last.
async fn read(
    store: &Store,
    ids: Ids<'_>,
    consistency: Consistency,
) -> Result<(Vec<KeyValue>, Option<String>), pipes_raft::Error> {
    let prefix = keys::run(ids.begin);
    let after = ids.after.map(|after| [&keys::run(after)[..], b"\0"].concat());
    let mut range = Range {
        end: Some(prefix_end(&prefix)),
        key: prefix.clone().max(after.unwrap_or_default()),
        limit: PART_MIN,
        ..Range::default()
    };
    let (mut found, mut octets) = (Vec::new(), 0);
    loop {
        let part = store.range(range.clone(), consistency).await?;
        let mut left = part.kvs.into_iter();
        while let Some(kv) = left.next() {
            octets += kv.value.len();
            let end = keys::after(&kv.key, &keys::runs()).map(str::to_owned);
            found.push(kv);
            if octets >= listing::OCTETS_MAX && (part.more || left.len() > 0) {
                return Ok((found, end));
            }
        }
        let Some(last) = found.last().filter(|_| part.more) else {
            return Ok((found, None));
        };
        range.key = [&last.key[..], b"\0"].concat();
        range.limit = PART_MAX.min(2 * range.limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alone;

    #[tokio::test(flavor = "multi_thread")]
    async fn records_are_read_page_by_page_and_a_large_one_by_itself_is_all() {
        let folder = tempfile::tempdir().unwrap();
        let node = alone::node(folder.path()).await;
        let store = node.store();
        for number in 0..12 {
            let record = vec![b'x'; 300_000];
            store
                .put(keys::run(&format!("r1{number:02}")), record, None)
                .await
                .unwrap();
        }
        store
            .put(keys::run("r2"), vec![b'x'; 1_200_000], None)
            .await
            .unwrap();
        let page = async |begin: &str, after: Option<&str>| {
            let read = read(&store, Ids { begin, after }, Consistency::Linearizable).await;
            let (found, end) = read.unwrap();
            (found.len(), end)
        };
        let end = |id: &str| Some(id.to_owned());
        assert_eq!(page("", None).await, (4, end("r103")));
        assert_eq!(page("r1", Some("r103")).await, (4, end("r107")));
        assert_eq!(page("", Some("r108")).await, (4, None));
        assert_eq!(page("r1", Some("r107")).await, (4, None));
        assert_eq!(page("r2", None).await, (1, None));
        assert_eq!(page("r1", Some("r2")).await, (0, None));
        node.shutdown().await;
    }
}
