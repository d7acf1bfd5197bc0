//! A replica: Raft over what lies on this node's disk, and the answers it gives to others and to its own node.

pub(crate) mod damage;
pub(crate) mod examine;
mod files;
pub(crate) mod leader_tasks;
mod membership;
pub(crate) mod purge;
mod reads;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::ClientWriteError;
use openraft::{Config, Raft, ReadPolicy, SnapshotPolicy};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use self::files::{Files, Opened};
use crate::command::Proposal;
use crate::consensus::agreement::Agreement;
use crate::consensus::network::Network;
use crate::consensus::state_machine::StateMachine;
use crate::log::{Closer, Length};
use crate::mvcc::{Clock, Scope};
use crate::rpc::{ClientRequest, ClientResponse, Outcome, Request, Response};

use crate::snapshot::receive::Receiver;
use crate::state::State;
use crate::state::watch::LocalWatch;
use crate::type_config::TypeConfig;
use crate::{Consistency, Error, Member, Options, Status, Transport, task};

/// Entries in one message to a peer.
const MESSAGE_ENTRIES_MAX: u64 = 1024;
/// Time a snapshot may take to be sent and installed.
const SNAPSHOT_TIMEOUT_MS: u64 = 60_000;
/// Messages between openraft's parts: each is small, and proposals in flight are bounded elsewhere.
const CHANNEL_LEN: u64 = 8192;

/// Time that handing over the leadership may take: else the others elect somebody.
const STEP_DOWN_TIMEOUT: Duration = Duration::from_millis(500);

/// What a replica shares with the rest of its node.
pub(crate) struct Means {
    /// The way to the peers.
    pub(crate) transport: Arc<dyn Transport>,
    /// The node's reading of the store's clock.
    pub(crate) clock: Arc<crate::clock::Clock>,
}

/// A replica.
pub(crate) struct Replica {
    pub(crate) id: u64,
    pub(crate) raft: Raft<TypeConfig, StateMachine>,
    pub(crate) state: Arc<State>,
    /// The leader's clock of the leases; see `leader_tasks.rs`.
    pub(crate) clock: Mutex<Clock>,
    /// Held while this node changes the members: a change takes two entries, and who sees the first alone while
    /// nobody holds this knows that it was left half-way.
    pub(crate) changing: tokio::sync::Mutex<()>,
    /// Whether its state is the others'; see `examine.rs`.
    pub(crate) agreement: Arc<Agreement>,
    transport: Arc<dyn Transport>,
    began: Instant,
    receiver: Receiver,
    closer: Mutex<Option<Closer>>,
    /// The index up to which the log is to be purged as soon as a snapshot covers it.
    purge_to: watch::Sender<u64>,
    /// How long the log is.
    length: Length,
    had_log: bool,
    files: Arc<Files>,
    reads: reads::Places,
}

fn config(options: &Options) -> Result<Arc<Config>, Error> {
    let millis = |duration: Duration| duration.as_millis() as u64;
    let config = Config {
        cluster_name: options.cluster.clone(),
        heartbeat_interval: millis(options.heartbeat),
        election_timeout_min: millis(options.election_min),
        election_timeout_max: millis(options.election_max),
        install_snapshot_timeout: SNAPSHOT_TIMEOUT_MS,
        max_payload_entries: MESSAGE_ENTRIES_MAX,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(options.snapshot_entries),
        // What is purged is `purge.rs`'s to say.
        max_in_snapshot_log_to_keep: u64::MAX,
        replication_lag_threshold: options.snapshot_entries.saturating_mul(2),
        api_channel_size: Some(CHANNEL_LEN),
        notification_channel_size: Some(CHANNEL_LEN),
        // Who was cut off asks first whether it could be elected, and ends no leader's term in vain.
        enable_pre_vote: Some(true),
        // A follower may have lost what it acknowledged without a trace that its own files could tell of: then it is
        // brought up again and compared (`examine.rs`), where it would be kept out for as long as this leader leads. What
        // is committed stays committed.
        allow_log_reversion: Some(true),
        // Who comes back is elected before it leads. Its log may be shorter than what its followers committed without
        // it, and it would give a place in the log, a term and an index, away a second time.
        enable_leader_restore: Some(crate::mutant!(LeaderRestored)),
        ..Config::default()
    };
    config
        .validate()
        .map(Arc::new)
        .map_err(|error| Error::Refused(error.to_string()))
}

impl Replica {
    /// Opens what lies in the folder and starts Raft over it. `is_new` says that nothing needs to lie there yet.
    pub(crate) async fn open(
        options: &Options,
        id: u64,
        means: &Means,
        is_new: bool,
    ) -> Result<Arc<Replica>, Error> {
        let config = config(options)?;
        let (dir, transport, clock) = (options.dir.clone(), means.transport.clone(), means.clock.clone());
        #[cfg(sim)]
        crate::sim::tell(&dir, crate::sim::Deed::Identified { id });
        let Opened {
            files,
            state,
            log,
            closer,
            length,
        } = task::blocking(move || files::open(&dir, is_new, clock)).await?;
        let had_log = !log.is_empty();
        let snapshots = files.snapshots.clone();
        #[cfg(debug_assertions)]
        state.apply_differently(options.applied_differently.clone());
        let agreement = Arc::<Agreement>::default();
        let machine = StateMachine {
            state: state.clone(),
            snapshots: snapshots.clone(),
        };
        let network = Network {
            own: id,
            transport: transport.clone(),
            sendings: Arc::new(AtomicU64::new(1)),
            machine: machine.clone(),
            agreement: agreement.clone(),
        };
        let raft = Raft::new(id, config, network, log, machine).await;
        let raft = raft.map_err(|error| Error::Disk(error.to_string()))?;
        Ok(Arc::new(Replica {
            id,
            raft,
            state,
            clock: Mutex::new(Clock::default()),
            changing: tokio::sync::Mutex::default(),
            agreement,
            transport,
            began: Instant::now(),
            receiver: Receiver::new(snapshots),
            closer: Mutex::new(Some(closer)),
            purge_to: watch::Sender::new(0),
            length,
            had_log,
            files: Arc::new(files),
            reads: reads::Places::default(),
        }))
    }

    /// Whether Raft has ended by itself.
    #[cfg(sim)]
    pub(crate) fn has_ended(&self) -> bool {
        self.raft.metrics().borrow_watched().running_state.is_err()
    }

    /// Whether this node has been of a group: it holds a vote or an entry.
    pub(crate) fn has_log(&self) -> bool {
        self.had_log || self.raft.metrics().borrow_watched().last_log_index.is_some()
    }

    /// Milliseconds since the replica was opened: the leases' time.
    pub(crate) fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// The leader this node knows of.
    pub(crate) fn leader(&self) -> Option<(u64, Member)> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let id = metrics.current_leader?;
        let member = metrics.membership_config.membership().get_node(&id)?.clone();
        Some((id, member))
    }

    /// What this replica knows of the group.
    pub(crate) fn status(&self) -> Status {
        let (revision, applied) = (self.state.revisions().0, self.state.applied().0);
        // Borrowed metrics keep Raft from going on, and who borrows them twice may wait for ever.
        let (term, leader, membership) = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            (
                metrics.current_term,
                metrics.current_leader,
                metrics.membership_config.clone(),
            )
        };
        let membership = membership.membership();
        Status {
            id: Some(self.id),
            leader: leader.filter(|leader| membership.get_node(leader).is_some()),
            term,
            revision,
            applied: applied.map_or(0, |log_id| log_id.index),
            voters: membership.voter_ids().collect(),
            learners: membership.learner_ids().collect(),
            members: membership
                .nodes()
                .map(|(id, member)| (*id, member.clone()))
                .collect(),
            sick: None,
            is_in_doubt: self.agreement.is_in_doubt(),
        }
    }

    /// Who may lead, apart from this node.
    pub(super) fn hint(&self) -> Option<(u64, Member)> {
        self.leader().filter(|(id, _)| *id != self.id)
    }

    /// Puts one command into the log, if this node leads.
    pub(crate) async fn propose(&self, proposal: Proposal, limit: Duration) -> Outcome {
        let proposal = proposal.at(self.state.clock().now_ms());
        match timeout(limit, self.raft.client_write(proposal)).await {
            Ok(Ok(response)) => Outcome::Applied(response.log_id.index, response.data),
            Ok(Err(error)) => self.outcome(error.into_api_error()),
            Err(_) => Outcome::Unknown,
        }
    }

    /// Puts several commands into the log, if this node leads.
    async fn propose_all(&self, proposals: Vec<Proposal>, limit: Duration) -> Vec<Outcome> {
        let count = proposals.len();
        let now_ms = self.state.clock().now_ms();
        let proposals: Vec<_> = proposals
            .into_iter()
            .map(|proposal| proposal.at(now_ms))
            .collect();
        let mut outcomes = Vec::with_capacity(count);
        let proposing = async {
            let Ok(mut results) = self.raft.client_write_many(proposals).await else {
                return;
            };
            while let Some(Ok(result)) = results.next().await {
                outcomes.push(match result {
                    Ok(response) => Outcome::Applied(response.log_id.index, response.response),
                    Err(error) => self.outcome(Some(error)),
                });
            }
        };
        // What has no outcome when the time is up is unknown.
        let _ = timeout(limit, proposing).await;
        outcomes.resize_with(count, || Outcome::Unknown);
        outcomes
    }

    fn outcome(&self, error: Option<ClientWriteError<TypeConfig>>) -> Outcome {
        match error {
            Some(ClientWriteError::ForwardToLeader(forward)) => {
                let hint = forward.leader_id.zip(forward.leader_node);
                Outcome::NotProposed(hint.filter(|(id, _)| *id != self.id))
            }
            Some(_) | None => Outcome::Unknown,
        }
    }

    /// What must be applied before a read here is linearizable, as one more than its index; nothing if this node
    /// does not lead.
    pub(crate) async fn read_index(&self, policy: ReadPolicy, limit: Duration) -> Option<u64> {
        if crate::mutant!(ReadWithoutQuorum) {
            let (id, _) = self.leader()?;
            return (id == self.id).then(|| self.state.progress().borrow().applied_end);
        }
        let linearizer = timeout(limit, self.raft.get_read_linearizer(policy))
            .await
            .ok()?
            .ok()?;
        Some(linearizer.read_log_id().index() + 1)
    }

    /// Waits until all below `end` is applied here.
    pub(crate) async fn applied(&self, end: u64, limit: Duration) -> Result<(), Error> {
        let mut progress = self.state.progress();
        let reached = progress.wait_for(|progress| progress.applied_end >= end || progress.is_stopped);
        match timeout(limit, reached).await {
            Ok(Ok(progress)) if progress.applied_end >= end => Ok(()),
            Ok(_) => Err(Error::Stopped),
            Err(_) => Err(Error::Timeout),
        }
    }

    /// Renews a lease, if this node leads and a quorum confirmed that within the last election timeout.
    async fn keep_alive(&self, id: i64, limit: Duration) -> ClientResponse {
        let Some(end) = self.read_index(ReadPolicy::LeaseRead, limit).await else {
            return ClientResponse::NotLeader(self.hint());
        };
        if let Err(error) = self.applied(end, limit).await {
            return ClientResponse::Failed(error);
        }
        let Some(term_ms) = self.state.lease_term(id) else {
            return ClientResponse::Failed(Error::LeaseNotFound);
        };
        let now = self.now_ms();
        let renewed = self
            .clock
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .renew(id, term_ms, now);
        renewed.map_or(
            ClientResponse::Failed(Error::LeaseNotFound),
            ClientResponse::Renewed,
        )
    }

    /// Tells changes to who has no replica; waits for one until the time is up.
    async fn watch(&self, scope: Scope, from: i64, limit: Duration) -> Result<ClientResponse, Error> {
        if from <= 0 {
            return Ok(ClientResponse::Events(Vec::new(), self.state.revisions().0 + 1));
        }
        let mut watch = LocalWatch::new(self.state.clone(), scope, from);
        match timeout(limit, watch.batch()).await {
            Ok(events) => Ok(ClientResponse::Events(events?, watch.next_revision())),
            Err(_) => Ok(ClientResponse::Events(Vec::new(), watch.next_revision())),
        }
    }

    /// Answers a client's request.
    pub(crate) async fn answer(&self, request: ClientRequest, limit: Duration) -> ClientResponse {
        let failed = |error: Error| match error {
            // Whoever asks may find another replica that can.
            Error::NoLeader | Error::Timeout | Error::Stopped => ClientResponse::NotLeader(self.hint()),
            error => ClientResponse::Failed(error),
        };
        let is_for_operators = matches!(
            request,
            ClientRequest::Members
                | ClientRequest::Remove(_)
                | ClientRequest::Reset(_)
                | ClientRequest::Content(_)
                | ClientRequest::Status
        );
        match (self.agreement.check(), &request) {
            (Err(error), ClientRequest::Propose(proposals)) => {
                return ClientResponse::Proposed(vec![Outcome::Refused(error); proposals.len()]);
            }
            (Err(error), _) if !is_for_operators => return ClientResponse::Failed(error),
            _ => {}
        }
        match request {
            ClientRequest::Propose(proposals) => {
                ClientResponse::Proposed(self.propose_all(proposals, limit).await)
            }
            ClientRequest::ReadIndex => match self.read_index(ReadPolicy::ReadIndex, limit).await {
                Some(end) => ClientResponse::ReadIndex(end),
                None => ClientResponse::NotLeader(self.hint()),
            },
            // The asking node has made the read linearizable where it had to be.
            ClientRequest::Range(range, Consistency::Serializable) => {
                let read = timeout(limit, self.range(range)).await;
                read.unwrap_or(Err(Error::Timeout))
                    .map_or_else(failed, ClientResponse::Range)
            }
            ClientRequest::Range(range, Consistency::Linearizable) => self
                .leader_range(range, limit)
                .await
                .map_or_else(failed, ClientResponse::Range),
            ClientRequest::ReadTxn(txn) => self
                .leader_read_txn(txn, limit)
                .await
                .map_or_else(failed, ClientResponse::Txn),
            ClientRequest::KeepAlive(id) => self.keep_alive(id, limit).await,
            ClientRequest::Watch { key, end, from } => self
                .watch(Scope { key, end }, from, limit)
                .await
                .unwrap_or_else(failed),
            ClientRequest::Status => ClientResponse::Status(self.status()),
            ClientRequest::Content(revision) => match self.content(revision, limit).await {
                Ok(content) => ClientResponse::Content(content),
                Err(error) => ClientResponse::Failed(error),
            },
            ClientRequest::Members
            | ClientRequest::Allocate(_)
            | ClientRequest::Attach(..)
            | ClientRequest::Remove(_)
            | ClientRequest::Reset(_) => match self.change_members(request, limit).await {
                Ok(response) => response,
                Err(error) => ClientResponse::Failed(error),
            },
        }
    }

    /// Answers a peer.
    pub(crate) async fn serve(&self, request: Request) -> Response {
        let failed = |error: String| Response::Failed(error);
        let reading = || self.state.clock().now_ms();
        let voted = |answer| Response::Vote(answer, reading());
        match request {
            Request::Append(request, beside) => {
                self.state.clock().reach(beside.now_ms);
                let answer = self.raft.append_entries(request).await;
                self.agreement.hear(&self.state, beside.newest);
                answer.map_or_else(
                    |error| failed(error.to_string()),
                    |answer| Response::Append(answer, reading()),
                )
            }
            Request::Vote(request) => {
                let answer = self.raft.vote(request).await;
                answer.map_or_else(|error| failed(error.to_string()), voted)
            }
            Request::PreVote(request) => {
                let answer = self.raft.pre_vote(request).await;
                answer.map_or_else(|error| failed(error.to_string()), voted)
            }
            Request::Transfer(request) => {
                let answer = self.raft.handle_transfer_leader(request).await;
                answer.map_or_else(|error| failed(error.to_string()), Response::Transfer)
            }
            Request::Piece(piece) => match self.receiver.take(piece).await {
                Ok(None) => Response::Piece(None),
                Ok(Some((vote, snapshot, part))) => {
                    let snapshot = openraft::alias::SnapshotOf::<TypeConfig, _> {
                        meta: snapshot.meta.clone(),
                        snapshot,
                    };
                    let answer = self.raft.install_full_snapshot(vote, snapshot).await;
                    // Installed, it has another name; one that was not needed goes.
                    drop(part);
                    answer.map_or_else(
                        |error| failed(error.to_string()),
                        |answer| Response::Piece(Some(answer.vote)),
                    )
                }
                Err(error) => failed(error.to_string()),
            },
            Request::Client(request, limit_ms) => {
                let answer = self.answer(request, Duration::from_millis(limit_ms)).await;
                Response::Client(answer, reading())
            }
            Request::Digest(index) => Response::Digest(self.state.digest_at(index)),
            Request::Examine(index) => {
                self.agreement.suspect(index);
                Response::Examining
            }
        }
    }

    /// Hands the leadership over, if this node has it, to who is nearest; waits for that a moment.
    pub(crate) async fn step_down(&self) {
        let mut metrics = self.raft.metrics();
        let nearest = {
            let metrics = metrics.borrow_watched();
            let voters = metrics.membership_config.voter_ids();
            let matched = |id: &u64| metrics.replication.as_ref()?.get(id).cloned().flatten();
            voters.filter(|id| *id != self.id).max_by_key(matched)
        };
        let (Ok(_), Some(nearest)) = (self.raft.as_leader(), nearest) else {
            return;
        };
        let handed_over = async {
            if self.raft.trigger().transfer_leader(nearest).await.is_err() {
                return;
            }
            while metrics.borrow_watched().current_leader == Some(self.id) && metrics.changed().await.is_ok()
            {
            }
        };
        // A Raft that does not even take the order holds up nobody who stops.
        let _ = timeout(STEP_DOWN_TIMEOUT, handed_over).await;
    }

    /// Ends Raft and closes the files.
    pub(crate) async fn shutdown(&self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "Raft did not end in order");
        }
        let closer = self.closer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(closer) = closer {
            closer.close().await;
        }
        let state = self.state.clone();
        let _ = task::blocking(move || {
            state.stop();
            Ok(())
        })
        .await;
    }
}
