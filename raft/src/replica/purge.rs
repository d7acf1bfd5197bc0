//! What is purged of the log: what the newest snapshot covers, but the last entries, which a follower that was away for
//! a moment needs; or all that it covers, where that was asked for.
//!
//! Always: openraft is asked for places that only grow, by this task alone. Its own policy would take a purge that
//! waits for a follower back to the entries it wants to keep.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Replica;
use crate::type_config::TypeConfig;

/// Entries kept after a snapshot that covers them: this part of the snapshot's interval.
const KEPT_DIVISOR: u64 = 10;

type Metrics = openraft::RaftMetrics<TypeConfig>;

/// Purges what may go until `stop`; there is a snapshot every `snapshot_entries`.
pub(crate) async fn run(replica: Arc<Replica>, snapshot_entries: u64, stop: CancellationToken) {
    let kept = snapshot_entries / KEPT_DIVISOR;
    let mut asked = replica.purge_to.subscribe();
    let mut covered = 0;
    loop {
        let waiting = replica.raft.wait(None);
        let covers_more = move |metrics: &Metrics| covered_by(metrics) > covered;
        tokio::select! {
            () = stop.cancelled() => return,
            // The replica holds the other end.
            _ = asked.changed() => covered = covered_by(&replica.raft.metrics().borrow_watched()),
            newer = waiting.metrics(covers_more, "a snapshot") => match newer {
                Ok(metrics) => covered = covered_by(&metrics),
                // Raft has ended.
                Err(_) => return,
            },
        }
        let due = covered
            .saturating_sub(kept)
            .max(covered.min(*asked.borrow_and_update()));
        // What was asked for before is not asked for again by openraft; a Raft that has ended is noticed above. One that
        // waits for its disk takes no trigger: it is not waited for once all is to stop.
        let trigger = replica.raft.trigger();
        if stop.run_until_cancelled(trigger.purge_log(due)).await.is_none() {
            return;
        }
    }
}

/// The last index that a snapshot covers.
fn covered_by(metrics: &Metrics) -> u64 {
    metrics.snapshot.map_or(0, |last| last.index)
}

impl Replica {
    /// Makes a snapshot and purges the log up to it within `limit`: who joins now is given the state as it is here,
    /// which was decided to be right, rather than what its log would make of it. Says whether it is done.
    pub(super) async fn purge_to_snapshot(&self, limit: Duration) -> bool {
        let Some(applied) = self.state.applied().0 else {
            return true;
        };
        let waiting = || self.raft.wait(None);
        let purging = async {
            self.raft.trigger().snapshot().await.ok()?;
            let is_covered = |metrics: &Metrics| metrics.snapshot >= Some(applied);
            waiting().metrics(is_covered, "a snapshot").await.ok()?;
            self.purge_to
                .send_modify(|index| *index = applied.index.max(*index));
            let is_purged = |metrics: &Metrics| metrics.purged >= Some(applied);
            waiting().metrics(is_purged, "the log is purged").await.ok()
        };
        // Raft has ended where this gives nothing, which its other callers hear of.
        timeout(limit, purging).await.is_ok()
    }
}
