//! What is purged of the log: what the newest snapshot covers, but the last entries, which a follower that was away for
//! a moment needs; or all that it covers, where that was asked for. openraft makes a snapshot after so many entries, and
//! this task has it made after so many octets.
//!
//! Always: openraft is asked for places that only grow, by this task alone. Its own policy would take a purge that
//! waits for a follower back to the entries it wants to keep.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Replica;
use crate::Options;
use crate::type_config::TypeConfig;

/// What is kept of the log after a snapshot that covers it: this part of the snapshot's interval, in entries and in octets.
const KEPT_DIVISOR: u64 = 10;

type Metrics = openraft::RaftMetrics<TypeConfig>;

/// When there is a snapshot.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Interval {
    entries: u64,
    bytes: u64,
}

impl Interval {
    /// As a node's options say.
    pub(crate) fn of(options: &Options) -> Interval {
        Interval {
            entries: options.snapshot_entries,
            bytes: options.snapshot_bytes,
        }
    }
}

/// Purges what may go until `stop`.
pub(crate) async fn run(replica: Arc<Replica>, interval: Interval, stop: CancellationToken) {
    let mut growth = replica.length.growth();
    let mut asked = replica.purge_to.subscribe();
    let mut covered = 0;
    // What was covered when a snapshot was asked for: once for each, since it may be under way for long.
    let mut seen = None;
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
            Ok(()) = growth.changed() => {
                let applied = replica.state.applied().0.map_or(0, |applied| applied.index);
                if seen == Some(covered) || replica.length.octets(covered, applied) < interval.bytes {
                    continue;
                }
                seen = Some(covered);
                let trigger = replica.raft.trigger();
                match stop.run_until_cancelled(trigger.snapshot()).await {
                    Some(Ok(())) => continue,
                    Some(Err(_)) | None => return,
                }
            }
        }
        let fewest = covered.saturating_sub(interval.entries / KEPT_DIVISOR);
        let due = fewest
            .max(replica.length.leaving(interval.bytes / KEPT_DIVISOR, covered))
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
