//! Finished jobs are forgotten when their time has come.
//!
//! Keys sort by that time, so that only the first are read; rendezvous hashing of the ID says which agent forgets it, and
//! any does what is long overdue. Where nothing is due nothing is written.
//!
//! A workflow keeps no more than a million, however long it says: the oldest go first, before their time.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use pipes_raft::{Consistency, Range, prefix_end};
use tracing::{debug, info, warn};

use crate::error::Error;
use crate::jobs::Jobs;
use crate::key;
use crate::record::{Done, decode};
use crate::rendezvous::chosen;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(5);
/// What is overdue for so long is anybody's.
const ANYBODYS_AFTER: Duration = Duration::from_secs(60);
/// Finished jobs that a workflow keeps: each takes some 300 bytes of every server's memory and 1 kB of its disk, for its keys
/// alone. Beyond it the oldest go, which the log says.
const FINISHED_MAX: usize = 1_000_000;
/// Between two counts of them.
const COUNT_EVERY: Duration = Duration::from_secs(60);
/// Jobs that are looked at in one go.
const PAGE: usize = 256;
/// Jobs that are forgotten at once: their writes share syncs.
const AT_ONCE: usize = 32;
/// Jobs that are forgotten after one count of a workflow's; the rest after the next ones.
const FORGOTTEN_MAX: usize = 20_000;
/// How long one may take.
const WITHIN: Duration = Duration::from_secs(5);

impl Jobs {
    /// Forgets them for ever.
    pub(super) async fn expire(&self) {
        let mut counted = self.clock().monotonic();
        loop {
            if self.clock().monotonic().saturating_sub(counted) >= COUNT_EVERY {
                counted = self.clock().monotonic();
                if let Err(error) = self.count_finished().await {
                    debug!(%error, "finished jobs cannot be counted");
                }
            }
            if let Err(error) = self.expire_due().await {
                debug!(%error, "finished jobs cannot be forgotten yet");
            }
            self.clock().sleep(EVERY).await;
        }
    }

    /// Forgets what is due and this node's.
    async fn expire_due(&self) -> Result<(), Error> {
        let mut next = Some(key::expiries());
        while let Some(from) = next
            && self.owner().is_some()
        {
            next = self.expire_page(from).await?;
        }
        Ok(())
    }

    /// Forgets what is due and this node's of the page from this key on; gives where the next page begins, if there is one.
    async fn expire_page(&self, from: Vec<u8>) -> Result<Option<Vec<u8>>, Error> {
        let now = self.clock().age_ms();
        let range = Range {
            limit: PAGE,
            end: Some(key::expiry(now.saturating_add(1), "")),
            ..Range::key(from)
        };
        debug_assert!(range.end <= Some(prefix_end(&key::expiries())));
        let due = self.store().range(range, Consistency::Serializable).await?;
        let nodes: Vec<u64> = self.0.present.borrow().keys().copied().collect();
        let mut to_go = Vec::new();
        for kv in &due.kvs {
            let Some((at, id)) = key::read_expiry(&kv.key) else {
                continue;
            };
            let overdue = Duration::from_millis(now.saturating_sub(at));
            if chosen(id, &nodes) == Some(self.parts().node) || overdue > ANYBODYS_AFTER {
                to_go.push(self.forget(id, &kv.key));
            }
        }
        let count = all(to_go).await?;
        if count > 0 {
            info!(jobs = count, "forgotten");
        }
        let last = due.kvs.last().filter(|_| due.more);
        Ok(last.map(|kv| [kv.key.as_slice(), &[0]].concat()))
    }

    /// Has no workflow of those whose node this is keep more than it may.
    async fn count_finished(&self) -> Result<(), Error> {
        if self.owner().is_none() {
            return Ok(());
        }
        let prefix = key::workflows();
        let names = Range {
            keys_only: true,
            ..Range::prefix(prefix.clone())
        };
        let workflows = self.store().range(names, Consistency::Serializable).await?;
        let nodes: Vec<u64> = self.0.present.borrow().keys().copied().collect();
        for kv in &workflows.kvs {
            let name = kv.key.strip_prefix(prefix.as_slice()).unwrap_or_default();
            let name = String::from_utf8_lossy(name);
            if chosen(&name, &nodes) == Some(self.parts().node) {
                self.keep_newest(&name, FINISHED_MAX).await?;
            }
        }
        Ok(())
    }

    /// Forgets the oldest finished jobs of a workflow that has more than so many; some at a time.
    pub(super) async fn keep_newest(&self, workflow: &str, most: usize) -> Result<(), Error> {
        let finished = Range {
            count_only: true,
            ..Range::prefix(key::dones(workflow))
        };
        let count = self
            .store()
            .range(finished, Consistency::Serializable)
            .await?
            .count;
        let Some(beyond) = count.checked_sub(most).filter(|beyond| *beyond > 0) else {
            return Ok(());
        };
        warn!(
            workflow,
            jobs = beyond,
            most,
            "more finished jobs than are kept: the oldest are forgotten"
        );
        let mut left = beyond.min(FORGOTTEN_MAX);
        while left > 0 {
            let count = self.forget_first(workflow, left.min(PAGE)).await?.0;
            if count == 0 {
                return Ok(());
            }
            left = left.saturating_sub(count);
        }
        Ok(())
    }

    /// Forgets the first finished jobs of a workflow; how many, and whether there are more.
    async fn forget_first(&self, workflow: &str, limit: usize) -> Result<(usize, bool), Error> {
        let range = Range {
            limit,
            ..Range::prefix(key::dones(workflow))
        };
        let page = self.store().range(range, Consistency::Linearizable).await?;
        let mut to_go = Vec::new();
        for kv in &page.kvs {
            if let (Some((_, id)), Some(done)) = (key::read_job(&kv.key), decode(&kv.value)) {
                to_go.push(self.forget_done(workflow, id, done, kv.mod_revision));
            }
        }
        Ok((all(to_go).await?, page.more))
    }

    /// Forgets all finished jobs of a workflow that is to be removed: one of its name that comes later has nothing of theirs.
    pub async fn forget_all(&self, workflow: &str) -> Result<(), Error> {
        loop {
            let (count, has_more) = self.forget_first(workflow, PAGE).await?;
            if !has_more || count == 0 {
                return Ok(());
            }
        }
    }

    /// Forgets one; `expiry` is the key that said so.
    async fn forget(&self, id: &str, expiry: &[u8]) -> Result<bool, Error> {
        let done = match self.store().get(key::id(id)).await? {
            Some(kv) => {
                let workflow = String::from_utf8_lossy(&kv.value).into_owned();
                let kept = self.store().get(key::done(&workflow, id)).await?;
                kept.map(|kv| (workflow, kv))
            }
            None => None,
        };
        let Some((workflow, kv)) = done else {
            // Another was faster.
            self.store().delete(expiry.to_vec()).await?;
            return Ok(false);
        };
        let Some(record) = decode::<Done>(&kv.value) else {
            // Of a later version, which knows what belongs to it.
            warn!(
                job = id,
                "the record of a finished job cannot be read: it is not forgotten"
            );
            return Ok(false);
        };
        self.forget_done(&workflow, id, record, kv.mod_revision).await
    }

    /// Forgets the one with this record, read at this revision.
    async fn forget_done(&self, workflow: &str, id: &str, done: Done, revision: i64) -> Result<bool, Error> {
        let txn = crate::expiry::txn(workflow, id, &done, revision);
        Ok(self.commit(&txn, WITHIN).await?.succeeded)
    }
}

/// Has them forgotten, some at once; gives how many were.
async fn all(forgotten: Vec<impl Future<Output = Result<bool, Error>>>) -> Result<usize, Error> {
    let forgotten = stream::iter(forgotten).buffer_unordered(AT_ONCE);
    forgotten
        .try_fold(0, async |count, is_forgotten| {
            Ok(count + usize::from(is_forgotten))
        })
        .await
}
