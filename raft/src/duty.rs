//! A leader's duties: ends leases, gives learners a vote, forgets old history. Every replica runs this task; it only
//! acts while its node leads.
//!
//! Always: (1) what a leadership decides is proposed to the local Raft under that leadership, never forwarded: a
//! leader that slept through the next election expires nobody; (2) with nothing to do, nothing is written.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::ReadPolicy;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::impls::ProgressResponder;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::command::{Command, Proposal};
use crate::member::VOTERS_MAX;
use crate::mvcc::TICK_MS;
use crate::replica::Replica;

/// How often leases are looked at: a lease of 3 s ends at most this late.
const TICK: Duration = Duration::from_millis(TICK_MS);
/// Time a proposal of the leader's own may take before the next tick decides anew.
const PROPOSAL_TIMEOUT: Duration = Duration::from_secs(2);
/// Entries a learner may lack when it is given a vote: what it fetches within a heartbeat.
const LAG_MAX: u64 = 1000;
/// History is kept for this long ...
const HISTORY_AGE_MS: u64 = 60 * 60 * 1000;
/// ... but no more of it than this many revisions.
const HISTORY_REVISIONS_MAX: i64 = 1_000_000;
/// How often the revision is noted to know later what is how old.
const SAMPLE_MS: u64 = 60 * 1000;

/// Does what a leader has to until `stop`.
pub(crate) async fn run(replica: Arc<Replica>, stop: CancellationToken) {
    // Waiting for the last proposal would keep a shutdown waiting.
    let _ = stop.run_until_cancelled(duties(&replica)).await;
}

async fn duties(replica: &Replica) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut term = None;
    let mut ages = Ages::default();
    loop {
        ticks.tick().await;
        if replica.raft.metrics().borrow_watched().running_state.is_err() {
            tracing::error!("the store of this node has ended");
            let state = replica.state.clone();
            let _ = tokio::task::spawn_blocking(move || state.stop()).await;
            return;
        }
        let led = replica
            .raft
            .as_leader()
            .ok()
            .map(|leader| leader.to_committed_leader_id());
        if led != term {
            replica
                .clock
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .reset();
            term = led;
        }
        if term.is_none() {
            continue;
        }
        // Deciding anything needs a leader whose quorum agrees, and all that was decided before.
        let Some(end) = replica.read_index(ReadPolicy::LeaseRead, PROPOSAL_TIMEOUT).await else {
            continue;
        };
        if replica.applied(end, PROPOSAL_TIMEOUT).await.is_err() {
            continue;
        }
        end_leases(replica).await;
        promote(replica).await;
        if let Some(revision) = ages.due(replica) {
            propose(replica, Command::Compact { revision }).await;
        }
    }
}

async fn end_leases(replica: &Replica) {
    let leases = replica.state.leases();
    let now = replica.now_ms();
    let ids = replica
        .clock
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .tick(leases.into_iter(), now);
    if !ids.is_empty() {
        tracing::info!(?ids, "leases have expired");
        propose(replica, Command::Expire { ids }).await;
    }
}

/// Proposes under the leadership there is now, or not at all.
async fn propose(replica: &Replica, command: Command) {
    let Ok(leader) = replica.raft.as_leader() else {
        return;
    };
    let Ok(proposal) = Proposal::new(&command) else {
        return;
    };
    let (responder, response) = ProgressResponder::complete_only();
    let request = replica
        .raft
        .write(proposal)
        .with_leader(leader.to_committed_leader_id())
        .responder(responder);
    let written = async {
        request.await.ok()?;
        response.await.ok()
    };
    // One that is not done in time is looked at again at the next tick.
    let _ = timeout(PROPOSAL_TIMEOUT, written).await;
}

/// Gives a learner that has caught up a vote, while there are fewer than five.
async fn promote(replica: &Replica) {
    let candidate = {
        let metrics = replica.raft.metrics();
        let metrics = metrics.borrow_watched();
        let voters = metrics.membership_config.voter_ids().count();
        let is_settled = metrics.membership_config == metrics.committed_membership_config;
        if voters >= VOTERS_MAX || !is_settled {
            return;
        }
        let Some(replication) = &metrics.replication else {
            return;
        };
        let last = metrics.last_log_index.unwrap_or(0);
        let mut learners = metrics.membership_config.membership().learner_ids();
        learners.find(|id| {
            let matched = replication.get(id).and_then(|matched| matched.as_ref());
            matched.is_some_and(|matched| matched.index + LAG_MAX >= last)
        })
    };
    let Some(id) = candidate else { return };
    let change = ChangeMembers::AddVoterIds([id].into());
    match timeout(PROPOSAL_TIMEOUT, replica.raft.change_membership(change, true)).await {
        Ok(Ok(_)) => tracing::info!(node = id, "a learner has caught up and has a vote now"),
        Ok(Err(error)) => tracing::info!(node = id, %error, "a learner has no vote yet"),
        Err(_) => {}
    }
}

/// Which revision was when; only as long as this node leads, and only in memory.
#[derive(Default)]
struct Ages {
    samples: VecDeque<(u64, i64)>,
}

impl Ages {
    /// Notes the revision; gives one to compact at, if it is time.
    fn due(&mut self, replica: &Replica) -> Option<i64> {
        let (revision, compacted) = replica.state.revisions();
        self.due_at(replica.now_ms(), revision, compacted)
    }

    fn due_at(&mut self, now: u64, revision: i64, compacted: i64) -> Option<i64> {
        if self.samples.back().is_none_or(|(at, _)| at + SAMPLE_MS <= now) {
            self.samples.push_back((now, revision));
        }
        let mut old = compacted;
        while let Some((at, sampled)) = self.samples.front()
            && at + HISTORY_AGE_MS <= now
        {
            old = *sampled;
            self.samples.pop_front();
        }
        // A tenth at a time, so that a store at full speed does not compact at each tick.
        let excess = revision - compacted - HISTORY_REVISIONS_MAX;
        if excess > HISTORY_REVISIONS_MAX / 10 {
            old = old.max(revision - HISTORY_REVISIONS_MAX);
        }
        (old > compacted).then_some(old)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_is_kept_for_an_hour_or_a_million_revisions() {
        let mut ages = Ages::default();
        assert_eq!(ages.due_at(0, 10, 0), None);
        assert_eq!(ages.due_at(HISTORY_AGE_MS / 2, 20, 0), None);
        assert_eq!(ages.due_at(HISTORY_AGE_MS, 20, 0), Some(10));
        assert_eq!(ages.due_at(HISTORY_AGE_MS * 2, 20, 10), Some(20));
        assert_eq!(
            ages.due_at(HISTORY_AGE_MS * 9, 20, 20),
            None,
            "an idle store compacts nothing"
        );
        assert_eq!(ages.due_at(HISTORY_AGE_MS * 9 + 1, 1_200_000, 20), Some(200_000));
    }
}
