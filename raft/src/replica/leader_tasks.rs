//! The leader's tasks: to end leases, to give learners a vote, to begin a chain of digests, to forget old history.
//! Every node with a replica runs this; it only acts while the node leads.
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

use super::Replica;
use super::membership::VOTERS_MAX;
use crate::Options;
use crate::command::{Command, Proposal};
use crate::mvcc::{CHAIN, TICK_MS};
use crate::type_config::TypeConfig;

type Metrics = openraft::RaftMetrics<TypeConfig>;

/// How often leases are looked at: a lease of 3 s ends at most this late.
const TICK: Duration = Duration::from_millis(TICK_MS);
/// Leases ended by one entry: one of all could be larger than an entry may be. The next ticks end the others.
const ENDED_AT_ONCE_MAX: usize = 10_000;
/// Time a proposal of the leader's own may take before the next tick decides anew.
const PROPOSAL_TIMEOUT: Duration = Duration::from_secs(2);
/// Entries a learner may lack when it is given a vote: what it fetches within a heartbeat.
const LAG_MAX: u64 = 1000;
/// How often the revision is noted to know later what is how old.
const SAMPLE_MS: u64 = 60 * 1000;

/// Does what a leader has to until `stop`.
pub(crate) async fn run(replica: Arc<Replica>, history: History, stop: CancellationToken) {
    // Waiting for the last proposal would keep a shutdown waiting.
    let _ = stop.run_until_cancelled(lead(&replica, history)).await;
}

async fn lead(replica: &Replica, history: History) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut term = None;
    let mut ages = Ages::new(history);
    let mut metrics = replica.raft.metrics();
    loop {
        ticks.tick().await;
        // What changes from here on is not missed.
        drop(metrics.borrow_and_update());
        let led = replica
            .raft
            .as_leader()
            .ok()
            .map(|leader| leader.to_committed_leader_id());
        if led != term && !crate::mutant!(FollowerExpires) {
            replica
                .clock
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .reset();
            term = led;
        }
        if led.is_none() && crate::mutant!(FollowerExpires) {
            let leases = replica.state.leases();
            let mut clock = replica.clock.lock().unwrap_or_else(PoisonError::into_inner);
            clock.tick(leases.into_iter(), replica.now_ms());
        }
        if led.is_none() {
            // Who follows sleeps until it may lead.
            if !crate::mutant!(FollowerExpires) && metrics.changed().await.is_err() {
                return;
            }
            continue;
        }
        // Deciding anything needs a leader whose quorum agrees, and all that was decided before.
        let Some(end) = replica.read_index(ReadPolicy::LeaseRead, PROPOSAL_TIMEOUT).await else {
            continue;
        };
        if replica.applied(end, PROPOSAL_TIMEOUT).await.is_err() {
            continue;
        }
        if replica.agreement.is_in_doubt() {
            // Nobody could renew a lease meanwhile: afterwards all have their full term again.
            term = None;
            change_members(replica).await;
            continue;
        }
        end_leases(replica).await;
        change_members(replica).await;
        begin_chain(replica).await;
        if let Some(revision) = ages.due(replica) {
            propose(replica, Command::Compact { revision }).await;
        }
    }
}

/// Begins the chain of digests in a store from before there were any, or before `apply` changed.
async fn begin_chain(replica: &Replica) {
    let chain = replica.state.newest_digest().map(|(_, digest)| digest.chain());
    if chain != Some(CHAIN) {
        propose(replica, Command::BeginChain { chain: CHAIN }).await;
    }
}

async fn end_leases(replica: &Replica) {
    let leases = replica.state.leases();
    let now = replica.now_ms();
    let mut ids = replica
        .clock
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .tick(leases.into_iter(), now);
    ids.truncate(ENDED_AT_ONCE_MAX);
    if !ids.is_empty() {
        tracing::info!(count = ids.len(), first = ids[0], "leases have expired");
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
    let proposal = proposal.at(replica.state.clock().now_ms());
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

/// Ends a change of the members that lost its leader or its caller between its two entries; else gives a learner that
/// has caught up a vote, while there are fewer than five.
///
/// While two replicas are known to differ nobody is given a vote: it would be counted before it is known whose state it
/// has.
///
/// A change left half-way needs the quorums of the members before and after it: a group that grew from two to three
/// could lose none.
async fn change_members(replica: &Replica) {
    // Somebody who is changing them comes to an end without help.
    let Ok(_changing) = replica.changing.try_lock() else {
        return;
    };
    let (change, what) = {
        let metrics = replica.raft.metrics();
        let metrics = metrics.borrow_watched();
        if metrics.membership_config != metrics.committed_membership_config {
            return;
        }
        if metrics.membership_config.get_joint_config().len() > 1 {
            (ChangeMembers::AddVoterIds([].into()), "a change left half-way")
        } else if let Some(id) = learner(&metrics).filter(|_| replica.agreement.is_sound()) {
            (
                ChangeMembers::AddVoterIds([id].into()),
                "a vote for who has caught up",
            )
        } else {
            return;
        }
    };
    // Who is a voter no more is no member any more; learners stay.
    match timeout(PROPOSAL_TIMEOUT, replica.raft.change_membership(change, false)).await {
        Ok(Ok(response)) => tracing::info!(members = ?response.membership, "{what}: done"),
        Ok(Err(error)) => tracing::info!(%error, "{what}: not yet"),
        Err(_) => {}
    }
}

/// A learner that shall have a vote.
fn learner(metrics: &Metrics) -> Option<u64> {
    if metrics.membership_config.voter_ids().count() >= VOTERS_MAX {
        return None;
    }
    let replication = metrics.replication.as_ref()?;
    let last = metrics.last_log_index.unwrap_or(0);
    let mut learners = metrics.membership_config.membership().learner_ids();
    learners.find(|id| {
        let matched = replication.get(id).and_then(|matched| matched.as_ref());
        matched.is_some_and(|matched| matched.index + LAG_MAX >= last)
    })
}

/// How much history is kept, whichever is less.
#[derive(Debug, Clone, Copy)]
pub(crate) struct History {
    age_ms: u64,
    revisions: i64,
    bytes: u64,
}

impl History {
    /// As a node's options say.
    pub(crate) fn of(options: &Options) -> History {
        History {
            age_ms: options.history_age.as_millis() as u64,
            revisions: i64::try_from(options.history_revisions).unwrap_or(i64::MAX),
            bytes: options.history_bytes,
        }
    }
}

/// Which revision was when; only as long as this node leads, and only in memory.
struct Ages {
    history: History,
    samples: VecDeque<(u64, i64)>,
}

impl Ages {
    fn new(history: History) -> Ages {
        Ages {
            history,
            samples: VecDeque::new(),
        }
    }

    /// Notes the revision; gives one to compact at, if it is time.
    fn due(&mut self, replica: &Replica) -> Option<i64> {
        let (revision, compacted) = replica.state.revisions();
        // It lies in the state and in a snapshot.
        let beyond = replica.state.beyond(self.history.bytes / 2);
        let due = self.due_at(replica.now_ms(), revision, compacted);
        due.max(beyond)
    }

    fn due_at(&mut self, now: u64, revision: i64, compacted: i64) -> Option<i64> {
        if self.samples.back().is_none_or(|(at, _)| at + SAMPLE_MS <= now) {
            self.samples.push_back((now, revision));
        }
        let mut old = compacted;
        while let Some((at, sampled)) = self.samples.front()
            && at + self.history.age_ms <= now
        {
            old = *sampled;
            self.samples.pop_front();
        }
        // A tenth at a time, so that a store at full speed does not compact at each tick.
        let excess = revision - compacted - self.history.revisions;
        if excess > self.history.revisions / 10 {
            old = old.max(revision - self.history.revisions);
        }
        (old > compacted).then_some(old)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use openraft::EntryPayload;

    use super::*;
    use crate::replica::Means;
    use crate::{Class, Member, Peer, Transport, TransportError};

    struct Nobody;

    #[async_trait::async_trait]
    impl Transport for Nobody {
        async fn call(&self, _: &Peer, _: Class, _: Vec<u8>, _: Duration) -> Result<Vec<u8>, TransportError> {
            Err(TransportError::NotSent("there is nobody".into()))
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_change_of_the_members_that_was_left_half_way_is_ended() {
        let limit = Duration::from_secs(30);
        let dir = tempfile::tempdir().unwrap();
        let options = Options::new(dir.path(), "test");
        let means = Means {
            transport: Arc::new(Nobody),
            clock: Arc::default(),
        };
        let replica = Replica::open(&options, 1, &means, true).await.unwrap();
        let stop = CancellationToken::new();
        let tasks = tokio::spawn(run(replica.clone(), History::of(&options), stop.clone()));
        let member = |number: u64| Member {
            name: String::new(),
            address: format!("127.0.0.1:{number}"),
        };
        replica
            .raft
            .initialize(BTreeMap::from([(1, member(1))]))
            .await
            .unwrap();
        replica.applied(1, limit).await.unwrap();
        let leads = replica.raft.wait(Some(limit));
        leads.current_leader(1, "it leads").await.unwrap();
        replica.raft.add_learner(9, member(9), false).await.unwrap();

        // The first of the two entries, whose voters can all be asked here.
        let voters = BTreeSet::from([1]);
        let nodes = BTreeMap::from([(1, member(1)), (9, member(9))]);
        let joint = openraft::Membership::new(vec![voters.clone(), voters], nodes).unwrap();
        replica
            .raft
            .append_membership(joint, EntryPayload::Blank, [])
            .await
            .unwrap();

        let waiting = replica.raft.wait(Some(limit));
        let ended = waiting.metrics(
            |metrics| metrics.membership_config.get_joint_config().len() == 1,
            "the change is ended",
        );
        let metrics = ended.await.unwrap();
        let learners: Vec<u64> = metrics.membership_config.membership().learner_ids().collect();
        assert_eq!(learners, [9], "who had no vote stays");
        stop.cancel();
        tasks.await.unwrap();
        replica.shutdown().await;
    }

    #[test]
    fn history_is_kept_for_an_hour_or_a_million_revisions() {
        const HISTORY_AGE_MS: u64 = 60 * 60 * 1000;
        let mut ages = Ages::new(History::of(&Options::new("", "")));
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
