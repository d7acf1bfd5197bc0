//! What nodes ask one another, and the bytes of it.
//!
//! One octet of version, then bincode. Raft's own messages go to the one node they are for; an [`ClientRequest`] goes to the
//! leader or to any replica, and [`ClientResponse::NotLeader`] says "surely not done, ask there".

use serde::{Deserialize, Serialize};

use crate::command::{ApplyResult, Proposal};
use crate::mvcc::Digest;
use crate::type_config::{self, TypeConfig, Vote};
use crate::{Consistency, Content, Error, Event, Member, Range, RangeResult, Status, Txn, TxnResult};

/// The version of the layout of all below, in front of each message. It rises with what the log may hold as well: a member
/// that could not read an entry is to be sent none. Transactions whose reads are bounded came with the fourth.
const RPC_VERSION: u8 = 4;

/// A request of one node to another.
#[derive(Serialize, Deserialize)]
pub(crate) enum Request {
    /// Entries, or a heartbeat; with what the leader tells beside.
    Append(openraft::raft::AppendEntriesRequest<TypeConfig>, Beside),
    /// A candidate asks for a vote.
    Vote(openraft::raft::VoteRequest<TypeConfig>),
    /// Somebody asks whether it would get one.
    PreVote(openraft::raft::VoteRequest<TypeConfig>),
    /// The leader hands over.
    Transfer(openraft::raft::TransferLeaderRequest<TypeConfig>),
    /// A piece of a snapshot.
    Piece(Piece),
    /// A client's request, with the milliseconds it may take.
    Client(ClientRequest, u64),
    /// The digest of all up to this entry.
    Digest(u64),
    /// States differ after this entry: find out who is right.
    Examine(u64),
}

/// What a leader tells with each append and heartbeat.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Beside {
    /// The index and the digest of the newest entry that it has applied.
    pub(crate) newest: Option<(u64, Digest)>,
    /// What it reads of the store's clock, in milliseconds.
    pub(crate) now_ms: u64,
}

/// A piece of a snapshot's file, in order from its beginning.
#[derive(Serialize, Deserialize)]
pub(crate) struct Piece {
    /// The leader that sends it.
    pub(crate) leader: u64,
    /// Which of its sendings it belongs to.
    pub(crate) sending: u64,
    /// Where in the file it belongs.
    pub(crate) offset: u64,
    /// The piece.
    #[serde(with = "serde_bytes")]
    pub(crate) data: Vec<u8>,
    /// With the last piece, the leader's vote: the snapshot is to be installed.
    pub(crate) last: Option<Vote>,
}

/// A client's request.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum ClientRequest {
    /// The leader: put these into the log.
    Propose(Vec<Proposal>),
    /// The leader: what must be applied before a read is linearizable.
    ReadIndex,
    /// Any replica: read.
    Range(Range, Consistency),
    /// Any replica: do a transaction that only reads.
    ReadTxn(Txn),
    /// The leader: renew a lease.
    KeepAlive(i64),
    /// Any replica: tell the changes of a range, waiting for one if there is none yet; from 0 is "what is now?".
    Watch {
        /// The first key.
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
        /// The key after the last.
        #[serde(with = "serde_bytes")]
        end: Option<Vec<u8>>,
        /// The first revision of interest.
        from: i64,
    },
    /// The leader: who is of the group.
    Members,
    /// The leader: make an id for a node that wants to join.
    Allocate(Member),
    /// The leader: the node of this id runs at this address; make it a learner if it is none.
    Attach(u64, Member),
    /// The leader: remove a member.
    Remove(u64),
    /// The leader: remove a member that is to come back as a new one, if the others can do without it.
    Reset(u64),
    /// Any replica: all its keys at this revision, summed up.
    Content(i64),
    /// Any replica: what it knows of the group.
    Status,
}

/// The answer to an [`ClientRequest`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum ClientResponse {
    /// What became of each proposal.
    Proposed(Vec<Outcome>),
    /// One more than the index that must be applied.
    ReadIndex(u64),
    /// What was read.
    Range(RangeResult),
    /// What the transaction read.
    Txn(TxnResult),
    /// The milliseconds the lease now has.
    Renewed(u64),
    /// Changes, and the first revision not looked at.
    Events(Vec<Event>, i64),
    /// The group.
    Members(Vec<(u64, Member)>),
    /// The id made, and whether the node shall hold a replica.
    Allocated(u64, bool),
    /// It was done.
    Done,
    /// Surely not done: this node is not the leader (or has no replica); it may know who is.
    NotLeader(Option<(u64, Member)>),
    /// It was refused, or failed here.
    Failed(Error),
    /// All keys, summed up.
    Content(Content),
    /// What a replica knows of the group.
    Status(Status),
}

/// What became of a proposal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// It was applied as the entry of this index.
    Applied(u64, ApplyResult),
    /// It surely was not proposed.
    NotProposed(Option<(u64, Member)>),
    /// Nobody knows.
    Unknown,
    /// It was not proposed, and shall not be now.
    Refused(Error),
}

/// The answer to a [`Request`].
#[derive(Serialize, Deserialize)]
pub(crate) enum Response {
    /// To entries; with what the sender reads of the store's clock, in milliseconds.
    Append(openraft::raft::AppendEntriesResponse<TypeConfig>, u64),
    /// To a vote or a pre-vote; with the same: who leads next reads no less than those who elected it.
    Vote(openraft::raft::VoteResponse<TypeConfig>, u64),
    /// To a handing over.
    Transfer(openraft::raft::TransferLeaderResponse<TypeConfig>),
    /// To a piece; with the last one, the vote of who installed the snapshot.
    Piece(Option<Vote>),
    /// To a client's request; with what a node that has a replica reads of the store's clock, in milliseconds.
    Client(ClientResponse, u64),
    /// It could not be done here, for a reason that is this node's.
    Failed(String),
    /// The digest asked for; none where it is not known (any more, or yet).
    Digest(Option<Digest>),
    /// It is being found out.
    Examining,
}

/// The bytes of a message.
pub(crate) fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![RPC_VERSION];
    type_config::encode_into(message, &mut bytes).map_err(|_| Error::RequestTooLarge)?;
    Ok(bytes)
}

/// The message in the bytes.
pub(crate) fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    match bytes.split_first() {
        Some((&RPC_VERSION, body)) => type_config::decode(body)
            .map_err(|error| Error::Corrupt(format!("a peer's message cannot be read: {error}"))),
        Some((version, _)) => Err(Error::Corrupt(format!(
            "a peer's message has the unknown layout {version}"
        ))),
        None => Err(Error::Corrupt("a peer's message is empty".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stranger_sends_is_an_error() {
        assert!(decode::<Request>(&[]).is_err());
        assert!(decode::<Request>(&[7, 1, 2, 3]).is_err());
        assert!(decode::<Request>(&[RPC_VERSION, 255, 255, 255, 255]).is_err());
        let bytes = encode(&Request::Client(ClientRequest::ReadIndex, 5)).unwrap();
        assert!(matches!(
            decode::<Request>(&bytes),
            Ok(Request::Client(ClientRequest::ReadIndex, 5))
        ));
    }
}
