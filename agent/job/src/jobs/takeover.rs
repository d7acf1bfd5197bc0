//! Jobs whose owner is gone are taken over, in batches.
//!
//! ```text
//! a presence goes or changes -> read all open jobs, page by page -> those of no present life
//!     -> those that rendezvous hashing of the ID gives this node; after 2 s any -> one transaction a batch -> the queue
//! ```
//!
//! Which nodes are present is only where to look; that the owner is gone is compared by the transaction itself.

use std::collections::BTreeMap;
use std::time::Duration;

use pipes_raft::{Consistency, OPERATIONS_MAX, Range, prefix_end};
use tracing::{debug, info};

use crate::claim::{self, Job, Outcome};
use crate::error::Error;
use crate::jobs::Jobs;
use crate::key;
use crate::record::{Open, OpenState, Owner};
use crate::rendezvous::chosen;
use crate::state::{self, Next};

/// After so long without an owner a job is anybody's: the node that hashing names may be starting, or full.
const ANYBODYS_AFTER: Duration = Duration::from_secs(2);
/// Between two looks while there are jobs without an owner.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Between two looks where nothing has changed: reads what lies here, and should find nothing.
const LOOK_ANYWAY: Duration = Duration::from_secs(60);
/// Open jobs that are read at once.
const PAGE: usize = 256;
/// Jobs that are taken at once: each is one compare and one write, beside two compares for the lives.
const BATCH: usize = OPERATIONS_MAX / 2 - 4;
/// How long a batch is tried.
const WITHIN: Duration = Duration::from_secs(5);

impl Jobs {
    /// Takes what has no owner, for ever.
    pub(super) async fn take_over(&self) {
        let mut present = self.0.present.subscribe();
        let mut since = None;
        loop {
            let now = self.clock().monotonic();
            let is_anybodys = since.is_some_and(|since| now.saturating_sub(since) >= ANYBODYS_AFTER);
            let left = match self.take_orphans(is_anybodys).await {
                Ok(left) => left,
                Err(error) => {
                    debug!(%error, "jobs without an owner cannot be taken yet");
                    1
                }
            };
            since = (left > 0).then(|| since.unwrap_or(now));
            let rest = if left > 0 { LOOK_AGAIN } else { LOOK_ANYWAY };
            tokio::select! {
                biased;
                // The sender lives as long as this.
                _ = present.changed() => {}
                () = self.clock().sleep(rest) => {}
            }
        }
    }

    /// Takes those that are this node's, or all; gives how many were left.
    async fn take_orphans(&self, is_anybodys: bool) -> Result<usize, Error> {
        let Some(own) = self.owner() else { return Ok(0) };
        let present = self.0.present.borrow().clone();
        let nodes: Vec<u64> = present.keys().copied().collect();
        let is_present = |owner: &Owner| present.get(&owner.node) == Some(&owner.lease);
        let (mut left, mut taken) = (0, 0);
        // Before anything is read: what comes meanwhile is adopted in vain, which does no harm.
        let mut unseen = self.queue().known();
        let mut page = Range {
            limit: PAGE,
            end: Some(prefix_end(&key::all_open())),
            ..Range::key(key::all_open())
        };
        loop {
            let read = self
                .store()
                .range(page.clone(), Consistency::Serializable)
                .await?;
            let mut orphans: BTreeMap<Option<Owner>, Vec<Job>> = BTreeMap::new();
            for job in read.kvs.iter().filter_map(Job::of) {
                let is_known = unseen.remove(&job.id);
                if job.open.owner == Some(own) && !is_known {
                    self.adopt(job).await?;
                    continue;
                }
                if job.open.owner.as_ref().is_some_and(is_present) {
                    continue;
                }
                match is_anybodys || chosen(&job.id, &nodes) == Some(own.node) {
                    true => orphans.entry(job.open.owner).or_default().push(job),
                    false => left += 1,
                }
            }
            for (former, jobs) in orphans {
                for batch in jobs.chunks(BATCH) {
                    let count = self.take_batch(former, batch, own).await?;
                    taken += count;
                    left += batch.len() - count;
                }
            }
            match read.kvs.last() {
                Some(last) if read.more => page.key = [last.key.as_slice(), &[0]].concat(),
                _ => break,
            }
        }
        // Cancelled while their workflow is stopped: nobody would come upon them.
        let terms = |name: &str| self.parts().workflows.terms(name);
        self.queue().forget_gone(terms, |id| unseen.contains(id));
        if taken > 0 {
            info!(jobs = taken, left, "taken from an owner that is gone");
            self.0.queued.notify_one();
        }
        Ok(left)
    }

    /// A job of this life that the queue does not know: whoever wrote its record gave up before the answer came.
    async fn adopt(&self, job: Job) -> Result<(), Error> {
        // It may have come since.
        if self.queue().knows(&job) {
            return Ok(());
        }
        info!(job = job.id, "a job of this agent that it did not know is queued");
        if job.open.state == OpenState::Queued {
            self.queue().push(job);
        } else {
            match state::resumed(&job.open) {
                Next::Over(end) => drop(self.end(&job, &end).await?),
                Next::Again(open, _) => {
                    let answer = self.commit(&claim::replace(&job, &open), WITHIN).await?;
                    if let Outcome::Written(revision) = claim::outcome(&job, &open, &answer) {
                        self.queue().push(Job {
                            open,
                            revision,
                            ..job
                        });
                    }
                }
            }
        }
        self.0.queued.notify_one();
        Ok(())
    }

    /// Takes some; where that is refused, each for itself. Gives how many are no orphans any more.
    async fn take_batch(&self, former: Option<Owner>, batch: &[Job], own: Owner) -> Result<usize, Error> {
        let now = self.clock().age_ms();
        let mut again = Vec::new();
        let mut ended = 0;
        for job in batch {
            match state::taken(&job.open, own, now) {
                Next::Again(open, _) => again.push((job.clone(), open)),
                Next::Over(end) => {
                    let outcome = self.end_orphan(former, job, &end).await?;
                    ended += usize::from(!matches!(outcome, Outcome::Found(_)));
                }
            }
        }
        if again.is_empty() {
            return Ok(ended);
        }
        let answer = self.commit(&claim::take(former, &again, own), WITHIN).await?;
        if answer.succeeded {
            self.queue_taken(again.iter().cloned(), answer.revision);
            return Ok(ended + again.len());
        }
        let mut taken = ended;
        for (job, open) in again {
            taken += usize::from(self.take_one(former, job, open, own).await?);
        }
        Ok(taken)
    }

    async fn take_one(&self, former: Option<Owner>, job: Job, open: Open, own: Owner) -> Result<bool, Error> {
        let one = [(job, open)];
        let answer = self.commit(&claim::take(former, &one, own), WITHIN).await?;
        let [(job, open)] = one;
        if answer.succeeded {
            self.queue_taken(std::iter::once((job, open)), answer.revision);
            return Ok(true);
        }
        let Some(found) = self.store().get(job.key()).await?.as_ref().and_then(Job::of) else {
            return Ok(true);
        };
        // Taken by the sending whose answer was lost.
        let is_ours = found.open == open && found.revision > job.revision;
        if is_ours && found.open.state == OpenState::Queued {
            self.queue().push(found);
            return Ok(true);
        }
        Ok(found.open.owner.is_some_and(|owner| Some(owner) != former))
    }

    fn queue_taken(&self, taken: impl Iterator<Item = (Job, Open)>, revision: i64) {
        let mut queue = self.queue();
        for (job, open) in taken {
            queue.push(Job {
                open,
                revision,
                ..job
            });
        }
    }

    /// Ends a job that is not to be tried again, where its owner is gone indeed.
    async fn end_orphan(&self, former: Option<Owner>, job: &Job, end: &state::End) -> Result<Outcome, Error> {
        self.end_if(job, end, former.map(claim::is_gone)).await
    }
}
