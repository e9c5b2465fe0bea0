//! What openraft is told about us: the types of its log.

use std::fmt;

use openraft::{alias, impls::leader_id_std};
use serde::{Deserialize, Serialize};

openraft::declare_raft_types!(
    /// The membership group.
    pub(crate) Group:
        D = LogCommand,
        R = (),
        NodeId = u64,
        Node = PeerNode,
        LeaderId = leader_id_std::LeaderId<u64, u64>,
);

pub(crate) type Raft = openraft::Raft<Group, crate::store::Machine>;
pub(crate) type Entry = alias::EntryOf<Group>;
pub(crate) type LogId = alias::LogIdOf<Group>;
pub(crate) type Vote = alias::VoteOf<Group>;
pub(crate) type TermId = alias::CommittedLeaderIdOf<Group>;
pub(crate) type StoredMembership = alias::StoredMembershipOf<Group>;
pub(crate) type SnapshotMeta = alias::SnapshotMetaOf<Group>;
pub(crate) type Snapshot = alias::SnapshotOf<Group, crate::store::SnapshotData>;

/// A command as it stands in the log, in the form of [`crate::codec`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct LogCommand(pub(crate) Vec<u8>);

impl fmt::Display for LogCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a command of {} bytes", self.0.len())
    }
}

/// Another node of the group, as the group's own configuration knows it. The identity keeps a node with a number of ours and
/// other data out: it must never vote in the name of the one whose log it has lost.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct PeerNode {
    pub(crate) identity: u128,
    pub(crate) address: String,
}
