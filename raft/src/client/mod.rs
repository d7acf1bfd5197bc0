//! The handle to the store: ranges, transactions, leases, watches; the same at every node, with a replica or without.
//!
//! A write is answered when this node's replica has applied it, so whoever writes here reads it here. What was
//! surely not proposed is proposed again within the deadline; what may have been never is ([`Error::Unknown`]).

pub(crate) mod forward;
pub(crate) mod peers;
pub(crate) mod routing;
mod watch;

pub use self::watch::Watch;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use self::peers::Target;
use self::routing::{PROPOSAL_KIB_MIN, Routing};

use tokio::time::{Instant, timeout_at};

use crate::command::{ApplyResult, Command, Proposal};
use crate::mvcc::{self, Scope};
use crate::rpc::{ClientRequest, ClientResponse, Outcome};
use crate::{
    Consistency, Content, Error, KeyValue, Member, Op, OpResult, Peer, Range, RangeResult, Status, Txn,
    TxnResult,
};

/// A cheap handle to the store.
#[derive(Clone)]
pub struct Store {
    routing: Arc<Routing>,
}

fn unexpected() -> Error {
    Error::Corrupt("the store answered something else than it was asked".into())
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

impl Store {
    pub(crate) fn new(routing: Arc<Routing>) -> Store {
        Store { routing }
    }

    /// Reads.
    pub async fn range(&self, range: Range, consistency: Consistency) -> Result<RangeResult, Error> {
        let deadline = self.routing.deadline();
        if let Some(replica) = self.routing.peers.replica() {
            if consistency == Consistency::Linearizable {
                self.ready_to_read(deadline).await?;
            }
            replica.agreement.check()?;
            return within(deadline, replica.range(range)).await;
        }
        self.range_elsewhere(range, consistency).await
    }

    /// Reads at the others, who answer a part at a time of what is too large for one message.
    async fn range_elsewhere(&self, range: Range, consistency: Consistency) -> Result<RangeResult, Error> {
        let mut found = self.part(range.clone(), consistency).await?;
        let revision = match range.revision {
            0 => found.revision,
            revision => revision,
        };
        let is_wanted = |read: usize| range.limit == 0 || read < range.limit;
        while found.more
            && is_wanted(found.kvs.len())
            && let Some(last) = found.kvs.last()
        {
            let rest = Range {
                key: [&last.key[..], b"\0"].concat(),
                revision,
                limit: range.limit.saturating_sub(found.kvs.len()),
                ..range.clone()
            };
            // Of a member that is behind, this revision could not be read yet.
            let part = self.part(rest, Consistency::Linearizable).await?;
            found.more = part.more;
            found.kvs.extend(part.kvs);
        }
        Ok(found)
    }

    async fn part(&self, range: Range, consistency: Consistency) -> Result<RangeResult, Error> {
        let (routing, deadline) = (&self.routing, self.routing.deadline());
        let request = ClientRequest::Range(range, consistency);
        let response = match consistency {
            Consistency::Linearizable => routing.ask_leader(request, deadline).await?,
            Consistency::Serializable => {
                let attempt = routing.options.request_timeout;
                routing.ask_any(request, deadline, attempt).await?
            }
        };
        match response {
            ClientResponse::Range(result) => Ok(result),
            _ => Err(unexpected()),
        }
    }

    /// Reads one key, linearizable.
    pub async fn get(&self, key: impl Into<Vec<u8>>) -> Result<Option<KeyValue>, Error> {
        Ok(self
            .range(Range::key(key), Consistency::Linearizable)
            .await?
            .kvs
            .pop())
    }

    /// Reads all keys that begin with `prefix`, linearizable.
    pub async fn prefix(&self, prefix: impl Into<Vec<u8>>) -> Result<Vec<KeyValue>, Error> {
        Ok(self
            .range(Range::prefix(prefix), Consistency::Linearizable)
            .await?
            .kvs)
    }

    /// Does a transaction. One that only reads is a linearizable read and takes no place in the log.
    pub async fn txn(&self, txn: Txn) -> Result<TxnResult, Error> {
        mvcc::check(&txn)?;
        if mvcc::only_reads(&txn) {
            return self.read_txn(txn).await;
        }
        match self.write(&Command::Txn(txn)).await? {
            ApplyResult::Txn(result) => Ok(result),
            _ => Err(unexpected()),
        }
    }

    /// Writes one key; gives the revision.
    pub async fn put(
        &self,
        key: impl Into<Vec<u8>>,
        value: impl Into<Vec<u8>>,
        lease: Option<i64>,
    ) -> Result<i64, Error> {
        let put = Op::Put {
            key: key.into(),
            value: value.into(),
            lease,
        };
        let txn = Txn {
            success: vec![put],
            ..Txn::default()
        };
        Ok(self.txn(txn).await?.revision)
    }

    /// Deletes one key; says whether it was there.
    pub async fn delete(&self, key: impl Into<Vec<u8>>) -> Result<bool, Error> {
        let txn = Txn {
            success: vec![Op::delete(key)],
            ..Txn::default()
        };
        match self.txn(txn).await?.responses.first() {
            Some(OpResult::Delete { deleted, .. }) => Ok(*deleted > 0),
            _ => Err(unexpected()),
        }
    }

    /// Makes a lease of `ttl`; `id` 0 lets the store choose. Gives its id.
    pub async fn grant(&self, ttl: Duration, id: i64) -> Result<i64, Error> {
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1);
        match self.write(&Command::Grant { id, ttl_ms }).await? {
            ApplyResult::Id(id) => Ok(id),
            _ => Err(unexpected()),
        }
    }

    /// Renews a lease; gives the time it now has. Nothing is written: the leader remembers it.
    pub async fn keep_alive(&self, id: i64) -> Result<Duration, Error> {
        match self
            .routing
            .ask_leader(ClientRequest::KeepAlive(id), self.routing.deadline())
            .await?
        {
            ClientResponse::Renewed(ms) => Ok(Duration::from_millis(ms)),
            _ => Err(unexpected()),
        }
    }

    /// Ends a lease and deletes its keys.
    pub async fn revoke(&self, id: i64) -> Result<(), Error> {
        self.write(&Command::Revoke { id }).await.map(drop)
    }

    /// Forgets the history before `revision`.
    pub async fn compact(&self, revision: i64) -> Result<(), Error> {
        self.write(&Command::Compact { revision }).await.map(drop)
    }

    /// Tells every change of the range from `from_revision` on; 0 is from now.
    pub fn watch(&self, key: impl Into<Vec<u8>>, end: Option<Vec<u8>>, from_revision: i64) -> Watch {
        Watch::new(
            self.routing.clone(),
            Scope { key: key.into(), end },
            from_revision,
        )
    }

    /// What the store's clock reads, in milliseconds: what ages are counted by, the same at all nodes but for the time a
    /// message takes. It never goes back here, and whatever was written before a read or a write that was answered here
    /// was written no later. No wall clock moves it; while no node is up it stands.
    pub fn now_ms(&self) -> u64 {
        self.routing.peers.clock().now_ms()
    }

    /// What this node knows of the group.
    pub fn status(&self) -> Status {
        self.routing.status()
    }

    /// The members, as the leader knows them.
    pub async fn members(&self) -> Result<BTreeMap<u64, Member>, Error> {
        match self
            .routing
            .ask_leader(ClientRequest::Members, self.routing.deadline())
            .await?
        {
            ClientResponse::Members(members) => Ok(members.into_iter().collect()),
            _ => Err(unexpected()),
        }
    }

    /// What a replica knows of the group: this node's, else the leader's.
    pub async fn group(&self) -> Result<Status, Error> {
        if let Some(replica) = self.routing.peers.replica() {
            return Ok(replica.status());
        }
        match self
            .routing
            .ask_leader(ClientRequest::Status, self.routing.deadline())
            .await?
        {
            ClientResponse::Status(status) => Ok(status),
            _ => Err(unexpected()),
        }
    }

    /// Has a node without a replica know who votes; does nothing on one that has a replica.
    pub async fn learn_group(&self) -> Result<(), Error> {
        if self.routing.peers.replica().is_none() {
            let status = self.group().await?;
            self.routing.peers.note_group(status);
        }
        Ok(())
    }

    /// Removes a member for good.
    pub async fn remove_member(&self, id: u64) -> Result<(), Error> {
        self.routing
            .ask_leader(ClientRequest::Remove(id), self.routing.deadline())
            .await
            .map(drop)
    }

    /// Removes a member whose folder is set aside next, so that it joins as a new one; refused where the others could
    /// not do without it.
    pub async fn reset_member(&self, id: u64) -> Result<(), Error> {
        self.routing
            .ask_leader(ClientRequest::Reset(id), self.routing.deadline())
            .await
            .map(drop)
    }

    /// All keys at one revision, on every member, summed up: the revision, and what each says within `limit`.
    pub async fn contents(
        &self,
        limit: Duration,
    ) -> Result<(i64, BTreeMap<u64, Result<Content, Error>>), Error> {
        let members = self.members().await?;
        let any = Range {
            count_only: true,
            ..Range::key("/")
        };
        let revision = match self.range(any, Consistency::Linearizable).await {
            Ok(read) => read.revision,
            // What has no majority has come equally far all the same.
            Err(Error::ReplicasDiffer) => self.status().revision,
            Err(error) => return Err(error),
        };
        // One after another, the leader last: a check takes room on the disk, and what is applied waits for a moment.
        let leader = self.status().leader;
        let mut members: Vec<_> = members.iter().collect();
        members.sort_by_key(|(id, _)| Some(**id) == leader);
        let mut contents = BTreeMap::new();
        for (id, member) in members {
            let request = ClientRequest::Content(revision);
            let answer = match (self.routing.peers.replica(), Peer::of(*id, member)) {
                (Some(replica), _) if replica.id == *id => Some(replica.answer(request, limit).await),
                (_, Some(peer)) => self.routing.peers.ask(&peer, request, limit).await,
                (_, None) => None,
            };
            let content = match answer {
                Some(ClientResponse::Content(content)) => Ok(content),
                Some(ClientResponse::Failed(error)) => Err(error),
                Some(_) => Err(Error::Stopped),
                None => Err(Error::Timeout),
            };
            contents.insert(*id, content);
        }
        Ok((revision, contents))
    }

    async fn read_txn(&self, txn: Txn) -> Result<TxnResult, Error> {
        let deadline = self.routing.deadline();
        if let Some(replica) = self.routing.peers.replica() {
            self.ready_to_read(deadline).await?;
            replica.agreement.check()?;
            return within(deadline, replica.read_txn(txn)).await;
        }
        match self
            .routing
            .ask_leader(ClientRequest::ReadTxn(txn), deadline)
            .await?
        {
            ClientResponse::Txn(result) => Ok(result),
            _ => Err(unexpected()),
        }
    }

    /// Waits until this node's replica has all that was acknowledged before now.
    async fn ready_to_read(&self, deadline: Instant) -> Result<(), Error> {
        let ClientResponse::ReadIndex(end) = self
            .routing
            .ask_leader(ClientRequest::ReadIndex, deadline)
            .await?
        else {
            return Err(unexpected());
        };
        match self.routing.peers.replica() {
            Some(replica) => replica.applied(end, left(deadline)).await,
            None => Err(Error::Stopped),
        }
    }

    async fn write(&self, command: &Command) -> Result<ApplyResult, Error> {
        let proposal = Proposal::new(command)?;
        let deadline = self.routing.deadline();
        let share = (proposal.bytes().len() / 1024 + 1).max(PROPOSAL_KIB_MIN) as u32;
        let _room = match timeout_at(deadline, self.routing.in_flight.acquire_many(share)).await {
            Ok(Ok(room)) => room,
            Ok(Err(_)) | Err(_) => return Err(Error::TooManyRequests),
        };
        if let Some(replica) = self.routing.peers.replica() {
            replica.agreement.check()?;
        }
        let mut missing = Error::NoLeader;
        loop {
            let outcome = match self.routing.peers.leader() {
                None => Outcome::NotProposed(None),
                Some(Target::Here(replica)) => replica.propose(proposal.clone(), left(deadline)).await,
                Some(Target::There(peer)) => {
                    missing = Error::Timeout;
                    self.routing
                        .forwarder
                        .forward(peer, proposal.clone(), deadline)
                        .await
                }
            };
            match outcome {
                Outcome::Applied(index, answer) => return self.applied(index, answer, deadline).await,
                Outcome::Unknown => return Err(Error::Unknown),
                Outcome::Refused(error) => return Err(error),
                Outcome::NotProposed(hint) => self.routing.peers.note_leader(hint),
            }
            self.routing.pause(deadline, missing.clone()).await?;
        }
    }

    /// Answers a write once this node's replica has it. One that cannot know in time may not say that it is done:
    /// its caller might not find it here.
    async fn applied(
        &self,
        index: u64,
        answer: ApplyResult,
        deadline: Instant,
    ) -> Result<ApplyResult, Error> {
        if let Some(replica) = self.routing.peers.replica() {
            replica
                .applied(index + 1, left(deadline))
                .await
                .map_err(|_| Error::Unknown)?;
        }
        match answer {
            ApplyResult::Failed(error) => Err(error),
            answer => Ok(answer),
        }
    }
}

/// A read that has to wait for its turn longer than anybody waits for it is given up.
async fn within<T>(deadline: Instant, read: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    timeout_at(deadline, read).await.unwrap_or(Err(Error::Timeout))
}
