//! Raft's messages over the [`Transport`].
//!
//! A peer that surely was not reached is `Unreachable`: openraft then rests for [`BACKOFF`] and tries again.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RaftNetworkFactory, RaftNetworkV2};

use super::agreement::Agreement;
use super::state_machine::StateMachine;
use crate::rpc::{self, Beside, Piece, Request, Response};
use crate::snapshot::Snapshot;
use crate::type_config::{TypeConfig, Vote};
use crate::{Class, Member, Peer, Transport, TransportError};

/// Time to rest before a peer that was not reached is tried again: short, so that one that is back hears of the
/// leader before it stands for election.
const BACKOFF: Duration = Duration::from_millis(50);
/// Least time an append may take. openraft gives a heartbeat's interval, and a slow fsync is no broken link.
const APPEND_TIMEOUT_MIN: Duration = Duration::from_secs(2);
/// Octets of a snapshot in one message.
const PIECE_LEN: usize = 512 * 1024;
/// Time one piece may take; the last one is installed meanwhile.
const PIECE_TIMEOUT: Duration = Duration::from_secs(60);

type RaftSnapshot = openraft::alias::SnapshotOf<TypeConfig, Snapshot>;

/// Makes the clients for peers.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) own: u64,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) sendings: Arc<AtomicU64>,
    /// Says what is applied here, and checks a snapshot before it is sent.
    pub(crate) machine: StateMachine,
    pub(crate) agreement: Arc<Agreement>,
}

/// A client for one peer.
pub(crate) struct PeerClient {
    own: u64,
    peer: Option<Peer>,
    transport: Arc<dyn Transport>,
    sendings: Arc<AtomicU64>,
    machine: StateMachine,
    agreement: Arc<Agreement>,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = PeerClient;

    async fn new_client(&mut self, target: u64, member: &Member) -> PeerClient {
        PeerClient {
            own: self.own,
            peer: Peer::of(target, member),
            transport: self.transport.clone(),
            sendings: self.sendings.clone(),
            machine: self.machine.clone(),
            agreement: self.agreement.clone(),
        }
    }
}

impl PeerClient {
    async fn call(
        &self,
        request: &Request,
        class: Class,
        timeout: Duration,
    ) -> Result<Response, RPCError<TypeConfig>> {
        let unreachable = |why: &str| RPCError::Unreachable(Unreachable::from_string(why));
        let broken = |why: &str| RPCError::Network(NetworkError::from_string(why));
        let peer = self
            .peer
            .as_ref()
            .ok_or_else(|| unreachable("its address cannot be read"))?;
        let bytes = rpc::encode(request).map_err(|error| broken(&error.to_string()))?;
        let answer = match self.transport.call(peer, class, bytes, timeout).await {
            Ok(answer) => answer,
            Err(TransportError::NotSent(why)) => return Err(unreachable(&why)),
            Err(TransportError::Unknown(why)) => return Err(broken(&why)),
        };
        match rpc::decode(&answer) {
            Ok(Response::Failed(why)) => Err(unreachable(&why)),
            Ok(response) => Ok(response),
            Err(error) => Err(broken(&error.to_string())),
        }
    }

    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: &Snapshot,
    ) -> Result<Vote, StreamingError<TypeConfig>> {
        let broken = |why: String| StreamingError::Network(NetworkError::from_string(why));
        // openraft then asks for the newest snapshot again.
        let checked = self.machine.check(snapshot.clone()).await;
        checked.map_err(|error| broken(error.to_string()))?;
        let sending = self.sendings.fetch_add(1, Ordering::Relaxed);
        let mut offset = 0;
        loop {
            let file = snapshot.clone();
            let read = crate::task::blocking(move || {
                let mut data = vec![0; crate::limit!("piece_bytes", PIECE_LEN)];
                file.read_at(&mut data, offset).map(|read| {
                    data.truncate(read);
                    data
                })
            });
            let data = read.await.map_err(|error| broken(error.to_string()))?;
            let end = offset + data.len() as u64;
            let last = (end >= snapshot.len).then_some(vote);
            let piece = Piece {
                leader: self.own,
                sending,
                offset,
                data,
                last,
            };
            match self
                .call(&Request::Piece(piece), Class::Bulk, PIECE_TIMEOUT)
                .await?
            {
                Response::Piece(Some(vote)) => return Ok(vote),
                Response::Piece(None) if last.is_none() => offset = end,
                _ => return Err(broken("an answer to something else".into())),
            }
        }
    }
}

fn other() -> RPCError<TypeConfig> {
    RPCError::Network(NetworkError::from_string("an answer to something else"))
}

impl RaftNetworkV2<TypeConfig> for PeerClient {
    type SnapshotData = Snapshot;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let timeout = option.hard_ttl().max(APPEND_TIMEOUT_MIN);
        let state = &self.machine.state;
        let beside = Beside {
            newest: state.newest_digest(),
            now_ms: state.clock().now_ms(),
        };
        let request = Request::Append(request, beside);
        #[cfg(sim)]
        if crate::mutant!(AnsweredEarly)
            && matches!(&request, Request::Append(request, _) if !request.entries.is_empty())
        {
            let (peer, transport) = (self.peer.clone(), self.transport.clone());
            let bytes = rpc::encode(&request).unwrap_or_default();
            tokio::spawn(async move {
                if let Some(peer) = peer {
                    let _ = transport.call(&peer, Class::Raft, bytes, timeout).await;
                }
            });
            return Ok(AppendEntriesResponse::Success);
        }
        match self.call(&request, Class::Raft, timeout).await? {
            Response::Append(response, now_ms) => {
                self.machine.state.clock().reach(now_ms);
                Ok(response)
            }
            _ => Err(other()),
        }
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        match self
            .call(&Request::Vote(request), Class::Raft, option.hard_ttl())
            .await?
        {
            Response::Vote(response, now_ms) => {
                self.machine.state.clock().reach(now_ms);
                Ok(response)
            }
            _ => Err(other()),
        }
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        match self
            .call(&Request::PreVote(request), Class::Raft, option.hard_ttl())
            .await?
        {
            Response::Vote(response, now_ms) => {
                self.machine.state.clock().reach(now_ms);
                Ok(response)
            }
            _ => Err(other()),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        match self
            .call(&Request::Transfer(request), Class::Raft, option.hard_ttl())
            .await?
        {
            Response::Transfer(response) => Ok(response),
            _ => Err(other()),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: RaftSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        if !self.agreement.is_sound() {
            let why = "this state differs from another, and no majority has said which is right";
            return Err(Unreachable::from_string(why).into());
        }
        tokio::select! {
            sent = self.send_snapshot(vote, &snapshot.snapshot) => Ok(SnapshotResponse::new(sent?)),
            closed = cancel => Err(StreamingError::Closed(closed)),
        }
    }

    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(std::iter::repeat(BACKOFF)))
    }
}
