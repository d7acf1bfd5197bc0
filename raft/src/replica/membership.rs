//! Members: how a node comes into the group and out of it.
//!
//! ```text
//! joiner                          leader
//! Allocate(name, address)   ->    an entry is written; its index is the new id
//! writes its identity, starts its replica
//! Attach(id, address)       ->    add it as a learner; once it has caught up, `leader_tasks.rs` gives it a vote
//! ```
//!
//! Always: (1) an id is given once; (2) an empty folder is a new node: while another member holds its address with a
//! vote, that one must be removed first; (3) beyond [`VOTERS_MAX`] members a node has an id and no replica.

use std::collections::BTreeSet;
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use tokio::time::{sleep, timeout};

use super::{Replica, examine};
use crate::command::{ApplyResult, Command, Proposal};
use crate::rpc::{ClientRequest, ClientResponse, Outcome};
use crate::type_config::TypeConfig;
use crate::{Error, Member};

/// Most voters: each further one makes every write wait for more disks, and five survive two losses.
pub(super) const VOTERS_MAX: usize = 5;

/// Rest before a change of the members is tried again that has to wait for another.
const TURN_PAUSE: Duration = Duration::from_millis(25);

type Change = ChangeMembers<u64, Member>;
type Changed = Result<
    openraft::raft::ClientWriteResponse<TypeConfig>,
    RaftError<TypeConfig, ClientWriteError<TypeConfig>>,
>;

impl Replica {
    /// Answers what concerns the members; only a leader can.
    pub(super) async fn change_members(
        &self,
        request: ClientRequest,
        limit: Duration,
    ) -> Result<ClientResponse, Error> {
        if self.raft.as_leader().is_err() {
            return Ok(ClientResponse::NotLeader(
                self.leader().filter(|(id, _)| *id != self.id),
            ));
        }
        match request {
            ClientRequest::Allocate(member) => self.allocate(member, limit).await,
            ClientRequest::Attach(id, member) => self.attach(id, member, limit).await,
            ClientRequest::Remove(id) => self.remove(id, limit).await,
            ClientRequest::Reset(id) => self.reset(id, limit).await,
            _ => Ok(ClientResponse::Members(self.members())),
        }
    }

    /// The members this node knows of.
    fn members(&self) -> Vec<(u64, Member)> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics
            .membership_config
            .nodes()
            .map(|(id, member)| (*id, member.clone()))
            .collect()
    }

    fn is_voter(&self, id: u64) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.voter_ids().any(|voter| voter == id)
    }

    async fn allocate(&self, member: Member, limit: Duration) -> Result<ClientResponse, Error> {
        let members = self.members();
        let mut count = members.len();
        if let Some((id, _)) = members.iter().find(|(_, other)| other.address == member.address) {
            if self.is_voter(*id) {
                return Err(Error::Refused(format!(
                    "node {id} is a member at {} already: remove it before an empty folder joins from there",
                    member.address
                )));
            }
            // A learner whose folder is gone has nothing that anybody needs.
            let change = Change::RemoveNodes([*id].into());
            self.commit_change(|| self.raft.change_membership(change.clone(), false), limit)
                .await?;
            count -= 1;
        }
        let proposal = Proposal::new(&Command::Allocate { name: member.name })?;
        match self.propose(proposal, limit).await {
            Outcome::Applied(_, ApplyResult::Id(id)) => {
                Ok(ClientResponse::Allocated(id as u64, count < VOTERS_MAX))
            }
            Outcome::Applied(..) | Outcome::Unknown => Err(Error::Unknown),
            Outcome::Refused(error) => Err(error),
            Outcome::NotProposed(hint) => Ok(ClientResponse::NotLeader(hint)),
        }
    }

    async fn attach(&self, id: u64, member: Member, limit: Duration) -> Result<ClientResponse, Error> {
        let members = self.members();
        match members.iter().find(|(other, _)| *other == id) {
            Some((_, known)) if *known == member => return Ok(ClientResponse::Done),
            Some(_) => {
                let change = Change::SetNodes([(id, member)].into());
                self.commit_change(|| self.raft.change_membership(change.clone(), true), limit)
                    .await?;
            }
            None => {
                self.commit_change(|| self.raft.add_learner(id, member.clone(), false), limit)
                    .await?
            }
        }
        Ok(ClientResponse::Done)
    }

    async fn remove(&self, id: u64, limit: Duration) -> Result<ClientResponse, Error> {
        let members = self.members();
        if !members.iter().any(|(other, _)| *other == id) {
            return Err(Error::MemberNotFound);
        }
        // A voter that is not retained is gone from the members as well.
        let change = match self.is_voter(id) {
            true => Change::RemoveVoters([id].into()),
            false => Change::RemoveNodes([id].into()),
        };
        self.commit_change(|| self.raft.change_membership(change.clone(), false), limit)
            .await?;
        Ok(ClientResponse::Done)
    }

    /// Removes a member that comes back as a new one. With too few of the others the change would stay half-way, and
    /// what the member knows would be lost with it.
    async fn reset(&self, id: u64, limit: Duration) -> Result<ClientResponse, Error> {
        let (voters, reached) = {
            let reached = examine::reached(self).await;
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
            (voters, reached)
        };
        if voters.len() == 1 && voters.contains(&id) {
            return Err(Error::Refused(format!(
                "node {id} alone has a vote: nobody else has what it holds"
            )));
        }
        let is_majority = |present: usize, of: usize| present * 2 > of;
        let others = voters.iter().filter(|voter| **voter != id).count();
        let others_reached = reached.iter().filter(|voter| **voter != id).count();
        let can_decide = is_majority(reached.len(), voters.len()) && is_majority(others_reached, others);
        if voters.contains(&id) && !can_decide {
            return Err(Error::Refused(format!(
                "of the {others} other voters only {others_reached} answer: without a majority nobody can say what node {id} \
                 would lose; start those that are down"
            )));
        }
        if id == self.id {
            // Another leads, and does it: who removes itself could not give a snapshot to who joins.
            self.step_down().await;
            return Ok(ClientResponse::NotLeader(self.hint()));
        }
        let removed = self.remove(id, limit).await;
        // The first request for it may have had no time for this.
        if matches!(removed, Ok(_) | Err(Error::MemberNotFound)) && !self.purge_to_snapshot(limit).await {
            return Err(Error::Unknown);
        }
        removed
    }

    /// Makes a change of the members; waits for its turn where another is under way.
    async fn commit_change<F>(&self, change: impl Fn() -> F, limit: Duration) -> Result<(), Error>
    where
        F: Future<Output = Changed>,
    {
        let changing = async {
            let _changing = self.changing.lock().await;
            loop {
                match change().await {
                    Ok(_) => return Ok(()),
                    Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => {
                        return Err(Error::NoLeader);
                    }
                    Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(
                        ChangeMembershipError::InProgress(_) | ChangeMembershipError::UncommittedLeaderLog(_),
                    ))) => sleep(TURN_PAUSE).await,
                    Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error))) => {
                        return Err(Error::Refused(error.to_string()));
                    }
                    Err(_) => return Err(Error::Unknown),
                }
            }
        };
        timeout(limit, changing).await.unwrap_or(Err(Error::Unknown))
    }
}
