//! openraft's calls to others, over [`Dialer`].

use core::{future::Future, time::Duration};
use std::{io, sync::Arc};

use openraft::{
    RaftNetworkFactory,
    errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable},
    network::{RPCOption, RaftNetworkV2},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
        VoteRequest, VoteResponse,
    },
};

use super::{
    dial::{CallError, Dialer},
    message::{Answer, Call, Promised},
};
use crate::{
    book::Book,
    group::{Group, PeerNode, Snapshot, Vote},
    store::SnapshotData,
};

/// How long an append may take: a disk that is slow once is no reason to begin again.
const APPEND: Duration = Duration::from_secs(2);
/// How long a part of a snapshot may take; the last one is taken in by the receiver.
const PART: Duration = Duration::from_secs(10);
/// Bytes of a part.
const PART_BYTES: usize = 1 << 20;

/// Makes a connection for each purpose.
pub(crate) struct Network(pub(crate) Arc<Book>);

impl RaftNetworkFactory<Group> for Network {
    type Network = Line;

    async fn new_client(&mut self, target: u64, node: &PeerNode) -> Line {
        Line(Dialer::new(Arc::clone(&self.0), target, node.clone()))
    }
}

/// A connection to one node.
pub(crate) struct Line(Dialer);

impl Line {
    async fn ask(&mut self, call: Call, patience: Duration) -> Result<Answer, RPCError<Group>> {
        match self.0.call(&call, patience).await {
            Ok(Answer::Failed(why)) => Err(lost(&io::Error::other(why))),
            Ok(answer) => Ok(answer),
            Err(CallError::Unreachable(why)) => Err(RPCError::Unreachable(Unreachable::new(&why))),
            Err(CallError::Lost(why)) => Err(lost(&why)),
        }
    }
}

impl RaftNetworkV2<Group> for Line {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Group>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<Group>, RPCError<Group>> {
        let last = rpc.entries.last().map(|entry| entry.log_id).or(rpc.prev_log_id);
        let term = rpc.vote.leader_id().term;
        match self.ask(Call::Append(rpc), APPEND).await? {
            Answer::Append(answer) => {
                if matches!(answer, AppendEntriesResponse::Success) {
                    self.0.promised(Promised { term, last });
                }
                Ok(answer)
            }
            _ => Err(odd()),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Group>,
        option: RPCOption,
    ) -> Result<VoteResponse<Group>, RPCError<Group>> {
        let term = rpc.vote.leader_id().term;
        match self.ask(Call::Vote(rpc), option.hard_ttl()).await? {
            Answer::Vote(answer) => {
                if answer.vote_granted {
                    self.0.promised(Promised { term, last: None });
                }
                Ok(answer)
            }
            _ => Err(odd()),
        }
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Group>,
        option: RPCOption,
    ) -> Result<VoteResponse<Group>, RPCError<Group>> {
        match self.ask(Call::PreVote(rpc), option.hard_ttl()).await? {
            Answer::Vote(answer) => Ok(answer),
            _ => Err(odd()),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Group>, StreamingError<Group>> {
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = self.send_snapshot(vote, snapshot) => Ok(sent?),
        }
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<Group>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Group>, RPCError<Group>> {
        match self.ask(Call::Transfer(rpc), option.hard_ttl()).await? {
            Answer::Transfer(answer) => Ok(answer),
            _ => Err(odd()),
        }
    }
}

impl Line {
    async fn send_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
    ) -> Result<SnapshotResponse<Group>, RPCError<Group>> {
        let bytes = snapshot.snapshot;
        let promised = Promised { term: vote.leader_id().term, last: snapshot.meta.last_log_id };
        let mut answer = self.ask(Call::Snapshot(vote, snapshot.meta, bytes.len() as u64), PART).await?;
        for part in bytes.chunks(PART_BYTES) {
            answer = self.ask(Call::SnapshotPart(part.to_vec()), PART).await?;
        }
        match answer {
            Answer::Snapshot(answer) => {
                if answer.vote == vote {
                    self.0.promised(promised);
                }
                Ok(answer)
            }
            _ => Err(odd()),
        }
    }
}

fn lost(why: &io::Error) -> RPCError<Group> {
    RPCError::Network(NetworkError::new(why))
}

fn odd() -> RPCError<Group> {
    lost(&io::Error::new(io::ErrorKind::InvalidData, "an answer to something else"))
}
