//! Jobs are looked at, waited for and listed.
//!
//! Who waits has a watch on that job's key alone, from the revision that was read: no change is missed.

use std::time::Duration;

use pipes_raft::{Consistency, EventKind, KeyValue, OpResult, Range, Txn, prefix_end};

use crate::claim::Job;
use crate::error::Error;
use crate::jobs::Jobs;
use crate::key;
use crate::record::{Content, Done, DoneState, OpenState, decode};

/// Records that one page of a listing is made of at most; what a filter leaves out counts too.
const LOOKED_AT_MAX: usize = 1_000;
/// Octets of records that one page of a listing is made of, where it has more than one: a finished job's may have 64 KiB of
/// its stages' arguments, and no message is larger than 1 MiB on its way.
const PAGE_OCTETS: usize = 256 << 10;
/// Records that are read at once for it.
const PART: usize = 128;
/// Jobs in one page at most.
pub const PAGE_MAX: usize = 1_000;
/// IDs that are read at once to find one by its end.
const IDS_PAGE: usize = 1_000;

/// A job as it is now.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// It is queued or runs.
    Open(Box<Job>),
    /// It has ended.
    Done {
        /// Its ID.
        id: String,
        /// Its workflow.
        workflow: String,
        /// Its record.
        done: Box<Done>,
    },
}

impl Found {
    /// Its ID.
    pub fn id(&self) -> &str {
        match self {
            Found::Open(job) => &job.id,
            Found::Done { id, .. } => id,
        }
    }

    /// Its workflow.
    pub fn workflow(&self) -> &str {
        match self {
            Found::Open(job) => &job.workflow,
            Found::Done { workflow, .. } => workflow,
        }
    }
}

/// Which jobs are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// All.
    All,
    /// Open ones in this state.
    Open(OpenState),
    /// Finished ones in this state.
    Done(DoneState),
}

/// What is asked of a listing.
#[derive(Debug, Clone)]
pub struct Question {
    /// Of one workflow, or of all.
    pub workflow: Option<String>,
    /// In which state.
    pub which: Which,
    /// How many at most.
    pub limit: usize,
    /// Those after this one: [`Page::next`] of the page before.
    pub after: Option<String>,
}

/// A page of a listing, by workflow and then the oldest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The jobs.
    pub jobs: Vec<Found>,
    /// Where the next page begins; `None`: this is the last.
    pub next: Option<String>,
}

/// Rest before a watch that broke is begun anew.
const WATCH_AGAIN: Duration = Duration::from_millis(50);

impl Jobs {
    /// A job by its whole ID.
    pub async fn look(&self, id: &str) -> Result<Found, Error> {
        Ok(self.look_at(id).await?.0)
    }

    async fn look_at(&self, id: &str) -> Result<(Found, i64), Error> {
        let none = || Error::NoJob(id.to_owned());
        let workflow = self.workflow_of(id).await?.ok_or_else(none)?;
        let txn = Txn {
            success: vec![
                pipes_raft::Op::Range(Range::key(key::open(&workflow, id))),
                pipes_raft::Op::Range(Range::key(key::done(&workflow, id))),
            ],
            ..Txn::default()
        };
        let answer = self.store().txn(txn).await?;
        let mut kvs = answer.responses.into_iter().map(|response| match response {
            OpResult::Range(mut read) => read.kvs.pop(),
            _ => None,
        });
        let (open, done) = (kvs.next().flatten(), kvs.next().flatten());
        if let Some(job) = open.as_ref().and_then(Job::of) {
            return Ok((Found::Open(Box::new(job)), answer.revision));
        }
        let done = done.and_then(|kv| decode::<Done>(&kv.value)).ok_or_else(none)?;
        let found = Found::Done {
            id: id.to_owned(),
            workflow,
            done: Box::new(done),
        };
        Ok((found, answer.revision))
    }

    /// Written once: what lies here will do, and only what does not is asked for.
    async fn workflow_of(&self, id: &str) -> Result<Option<String>, Error> {
        if !key::is_id(id) {
            return Ok(None);
        }
        let here = self
            .store()
            .range(Range::key(key::id(id)), Consistency::Serializable)
            .await;
        let kept = match here.ok().and_then(|mut read| read.kvs.pop()) {
            Some(kv) => Some(kv),
            None => self.store().get(key::id(id)).await?,
        };
        Ok(kept.map(|kv| String::from_utf8_lossy(&kv.value).into_owned()))
    }

    /// A job once it has ended, or as it is when the time is over.
    pub async fn wait(&self, id: &str, longest: Duration) -> Result<Found, Error> {
        let until = self.clock().monotonic().saturating_add(longest);
        loop {
            let (found, revision) = self.look_at(id).await?;
            let left = until.saturating_sub(self.clock().monotonic());
            let Found::Open(job) = &found else {
                return Ok(found);
            };
            if left.is_zero() {
                return Ok(found);
            }
            let mut changes = self.store().watch(job.key(), None, revision + 1);
            let ended = async {
                // An error ends the watch: it is looked at anew.
                while let Ok(event) = changes.next().await {
                    if event.kind == EventKind::Delete {
                        return;
                    }
                }
                self.clock().sleep(WATCH_AGAIN).await;
            };
            tokio::select! {
                biased;
                () = ended => {}
                () = self.clock().sleep(left) => {}
            }
        }
    }

    /// The whole ID of the one job whose ID begins or ends so; several: the error names two.
    pub async fn find(&self, part: &str) -> Result<Result<String, Vec<String>>, Error> {
        let none = || Error::NoJob(part.to_owned());
        if !key::is_part_of_id(part) {
            return Err(none());
        }
        if self.workflow_of(part).await?.is_some() {
            return Ok(Ok(part.to_owned()));
        }
        let mut beginning = Range::prefix(key::id(part));
        (beginning.limit, beginning.keys_only) = (2, true);
        let read = self.store().range(beginning, Consistency::Linearizable).await?;
        let id_of = |key: &[u8]| {
            let prefix = key::ids();
            let rest = key.strip_prefix(prefix.as_slice()).unwrap_or_default();
            String::from_utf8_lossy(rest).into_owned()
        };
        let mut found: Vec<String> = read.kvs.iter().map(|kv| id_of(&kv.key)).collect();
        if found.is_empty() {
            let mut page = Range {
                limit: IDS_PAGE,
                keys_only: true,
                ..Range::prefix(key::ids())
            };
            loop {
                let read = self
                    .store()
                    .range(page.clone(), Consistency::Serializable)
                    .await?;
                let ids = read.kvs.iter().map(|kv| id_of(&kv.key));
                found.extend(ids.filter(|id| id.ends_with(part)));
                match read.kvs.last() {
                    Some(last) if read.more && found.len() < 2 => {
                        page.key = [last.key.as_slice(), &[0]].concat();
                    }
                    _ => break,
                }
            }
        }
        match found.len() {
            0 => Err(none()),
            1 => Ok(Ok(found.remove(0))),
            _ => Ok(Err(found)),
        }
    }

    /// A page of jobs.
    pub async fn list(&self, question: &Question) -> Result<Page, Error> {
        let limit = question.limit.clamp(1, PAGE_MAX);
        let (opens, dones) = match &question.workflow {
            Some(workflow) => (key::opens(workflow), key::dones(workflow)),
            None => (key::all_open(), key::all_done()),
        };
        let wants_open = !matches!(question.which, Which::Done(_));
        let wants_done = !matches!(question.which, Which::Open(_));
        let after = question.after.as_deref();
        let mut found = Vec::new();
        let mut ends = Vec::new();
        for (prefix, is_wanted) in [(opens, wants_open), (dones, wants_done)] {
            if is_wanted {
                let (some, end) = self.read_page(&prefix, after, question.which, limit).await?;
                found.extend(some);
                ends.extend(end);
            }
        }
        // Beyond the nearer end of the two, what the other read may not be all.
        found.sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut next = ends.into_iter().min();
        if let Some(end) = &next {
            found.retain(|(place, _)| place <= end);
        }
        if found.len() > limit {
            found.truncate(limit);
            next = found.last().map(|(place, _)| place.clone());
        }
        let mut jobs: Vec<Found> = found.into_iter().map(|(_, job)| job).collect();
        // One that ended between the two reads.
        jobs.dedup_by(|one, other| one.id() == other.id());
        Ok(Page { jobs, next })
    }

    /// What of a prefix is wanted, each with its place after it, and how far that was read if not to its end.
    async fn read_page(
        &self,
        prefix: &[u8],
        after: Option<&str>,
        which: Which,
        limit: usize,
    ) -> Result<(Vec<(String, Found)>, Option<String>), Error> {
        let begin = after.map(|place| [prefix, place.as_bytes(), &[0]].concat());
        let mut range = Range {
            key: begin.unwrap_or_else(|| prefix.to_vec()),
            end: Some(prefix_end(prefix)),
            ..Range::default()
        };
        let mut left = if which == Which::All {
            limit + 1
        } else {
            LOOKED_AT_MAX
        };
        let place =
            |key: &[u8]| String::from_utf8_lossy(key.get(prefix.len()..).unwrap_or_default()).into_owned();
        let (mut found, mut octets) = (Vec::new(), 0);
        // What is read first is as a majority has it, and what follows is no older.
        let mut consistency = Consistency::Linearizable;
        loop {
            range.limit = left.min(PART);
            let read = self.store().range(range.clone(), consistency).await?;
            consistency = Consistency::Serializable;
            let count = read.kvs.len();
            for (number, kv) in read.kvs.iter().enumerate() {
                if let Some(job) = read_found(kv).filter(|job| is_wanted(job, which)) {
                    octets += kv.value.len();
                    found.push((place(&kv.key), job));
                }
                let is_last = number + 1 == count && !read.more;
                if octets >= PAGE_OCTETS && !is_last {
                    return Ok((found, Some(place(&kv.key))));
                }
            }
            left = left.saturating_sub(count);
            let Some(last) = read.kvs.last().filter(|_| read.more) else {
                return Ok((found, None));
            };
            if left == 0 {
                return Ok((found, Some(place(&last.key))));
            }
            range.key = [last.key.as_slice(), &[0]].concat();
        }
    }

    /// A job's small input, for another with the same; `None`: it is a blob.
    pub async fn input(&self, id: &str, content: &Content) -> Result<Option<Vec<u8>>, Error> {
        match content.blob {
            true => Ok(None),
            false => self.small(key::input(id)).await.map(Some),
        }
    }

    /// A job's small result; `None`: it is a blob.
    pub async fn result(&self, id: &str, content: &Content) -> Result<Option<Vec<u8>>, Error> {
        match content.blob {
            true => Ok(None),
            false => self.small(key::result(id)).await.map(Some),
        }
    }
}

/// A job out of either place.
fn read_found(kv: &KeyValue) -> Option<Found> {
    let (workflow, id) = key::read_job(&kv.key)?;
    if key::open(workflow, id) == kv.key {
        return Some(Found::Open(Box::new(Job::of(kv)?)));
    }
    Some(Found::Done {
        id: id.to_owned(),
        workflow: workflow.to_owned(),
        done: Box::new(decode(&kv.value)?),
    })
}

fn is_wanted(job: &Found, which: Which) -> bool {
    match (which, job) {
        (Which::All, _) => true,
        (Which::Open(state), Found::Open(job)) => job.open.state == state,
        (Which::Done(state), Found::Done { done, .. }) => done.state == state,
        _ => false,
    }
}
