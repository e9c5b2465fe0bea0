//! What nodes of the group say to each other.

use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use serde::{Deserialize, Serialize};

use crate::group::{Group, LogId, SnapshotMeta, Vote};

/// The version of these messages.
pub(crate) const VERSION: u16 = 1;
/// Commands in one call.
pub(crate) const PROPOSED_AT_ONCE: usize = 512;

/// First on a connection, after the magic.
#[derive(Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) version: u16,
    pub(crate) from: u16,
    pub(crate) from_identity: u128,
    pub(crate) to: u16,
    /// Whom the caller believes to reach: a node that was wiped is another.
    pub(crate) to_identity: u128,
    /// The group the caller is of, where it knows.
    pub(crate) group: Option<u64>,
    /// What the callee has said to the caller that it has.
    pub(crate) promised: Option<Promised>,
}

/// What a node has told another that it has on its disk: after that it may not have less.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Promised {
    /// The term it was in.
    pub(crate) term: u64,
    /// The last entry it had then, if that was said.
    pub(crate) last: Option<LogId>,
}

/// The answer to it; where it is no, the connection ends.
#[derive(Serialize, Deserialize)]
pub(crate) enum Welcome {
    Yes,
    OtherVersion,
    OtherNode,
    OtherGroup,
    /// The callee has less than it had promised.
    Outdated,
}

#[derive(Serialize, Deserialize)]
pub(crate) enum Call {
    Append(AppendEntriesRequest<Group>),
    Vote(VoteRequest<Group>),
    PreVote(VoteRequest<Group>),
    Transfer(TransferLeaderRequest<Group>),
    /// A snapshot begins, of so many bytes.
    Snapshot(Vote, SnapshotMeta, u64),
    /// The next bytes of it.
    SnapshotPart(Vec<u8>),
    /// To the leader: commands for the log.
    Propose(Vec<Vec<u8>>),
    /// To the leader: this incarnation of the caller lives.
    Renew(u32),
}

#[derive(Serialize, Deserialize)]
pub(crate) enum Answer {
    Append(AppendEntriesResponse<Group>),
    Vote(VoteResponse<Group>),
    Transfer(TransferLeaderResponse<Group>),
    Snapshot(SnapshotResponse<Group>),
    /// Taken; of a proposal that says nothing about its fate.
    Taken,
    /// Whether a renewal is confirmed, and how far the log was agreed on then.
    Renewed(Option<u64>),
    /// The callee cannot.
    Failed(String),
}
