//! The way out where most voters are lost for good: a stopped node's data is changed so that it alone is the group.
//!
//! Only for operators, with the lost nodes fenced: should they be alive and reach each other, there are two clusters. What only the
//! lost nodes had committed is gone. The epoch jumps by 2^16, past anything the lost ones may have reached, so tokens keep rising.

use std::{collections::BTreeSet, io, path::Path};

use lockstead_cluster::Command;
use lockstead_types::NodeId;
use openraft::{EntryPayload, Membership, vote::RaftLeaderId};

use crate::{
    codec::encode_command,
    group::{Entry, Group, LogCommand, LogId, StoredMembership, Vote},
    store::{Kept, Write, pack, rewrite},
};

/// By how much the epoch jumps.
const JUMP: u32 = 1 << 16;

/// What a stopped node has: of several survivors, the one with the greatest `(term, index)` has lost the least.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inspection {
    /// Of its data.
    pub identity: u128,
    /// Of its last entry.
    pub term: u64,
    /// Of its last entry.
    pub index: u64,
    /// Who votes, as it knows.
    pub voters: BTreeSet<NodeId>,
    /// Who else is in the group.
    pub learners: BTreeSet<NodeId>,
}

/// Looks into the data directory of a stopped node.
///
/// # Errors
///
/// It has none, or is running.
pub fn inspect(folder: &Path) -> io::Result<Inspection> {
    rewrite(folder, |kept| {
        let membership = membership(&kept);
        let last = last(&kept);
        let ids = |ids: &mut dyn Iterator<Item = u64>| -> BTreeSet<NodeId> {
            ids.filter_map(|id| Some(NodeId(u16::try_from(id).ok()?))).collect()
        };
        let told = Inspection {
            identity: kept.identity,
            term: last.map_or(0, |last| term_of(&last)),
            index: last.map_or(0, |last| last.index),
            voters: ids(&mut membership.voter_ids()),
            learners: ids(&mut membership.membership().learner_ids()),
        };
        Ok((Vec::new(), told))
    })
}

/// Makes the stopped node `node` the only voter of the group. The other survivors follow it when they reach it, and become voters
/// by themselves; all others are out of the group's configuration, and evicted in time.
///
/// # Errors
///
/// The data directory is another node's, has no group in it, or its node is running.
pub fn force_quorum(folder: &Path, node: NodeId, survivors: &BTreeSet<NodeId>) -> io::Result<()> {
    rewrite(folder, |kept| {
        let old = membership(&kept);
        let me = u64::from(node.0);
        let own = old.get_node(&me).filter(|own| own.identity == kept.identity);
        let Some(own) = own else {
            let why = format!("this data directory does not belong to member {} of the group", node.0);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        };
        let stays = |id: u64| u16::try_from(id).is_ok_and(|id| survivors.contains(&NodeId(id)));
        let others = old.nodes().filter(|(id, _)| stays(**id)).map(|(id, node)| (*id, node.clone()));
        let nodes: std::collections::BTreeMap<_, _> = others.chain([(me, own.clone())]).collect();
        let alone = Membership::new(vec![BTreeSet::from([me])], nodes).map_err(io::Error::other)?;

        let last = last(&kept);
        let term = kept.vote.map_or(0, |vote| vote.leader_id().term).max(last.map_or(0, |last| term_of(&last))) + 1;
        let leader = <Group as openraft::RaftTypeConfig>::LeaderId::new(term, me);
        let first = last.map_or(0, |last| last.index + 1);
        let raise = LogCommand(encode_command(&Command::RaiseEpoch { by: JUMP }));
        let entries = [EntryPayload::Membership(alone), EntryPayload::Normal(raise)]
            .into_iter()
            .zip(first..)
            .map(|(payload, index)| {
                let entry = Entry { log_id: LogId { leader_id: leader.to_committed(), index }, payload };
                Ok((index, pack(&entry)?))
            })
            .collect::<io::Result<Vec<_>>>()?;
        Ok((vec![Write::Vote(pack(&Vote::new(term, me))?), Write::Entries(entries)], ()))
    })
}

fn term_of(id: &LogId) -> u64 {
    **id.committed_leader_id()
}

fn last(kept: &Kept) -> Option<LogId> {
    let entry = kept.entries.last().map(|entry| entry.log_id);
    entry.or(kept.purged).or(kept.snapshot.as_ref().and_then(|(meta, _)| meta.last_log_id))
}

/// The newest configuration in the log, committed or not: it is the one that counts.
fn membership(kept: &Kept) -> StoredMembership {
    let newest = kept.entries.iter().rev().find_map(|entry| match &entry.payload {
        EntryPayload::Membership(membership) => Some(StoredMembership::new(Some(entry.log_id), membership.clone())),
        _ => None,
    });
    newest.or_else(|| kept.snapshot.as_ref().map(|(meta, _)| meta.last_membership.clone())).unwrap_or_default()
}
