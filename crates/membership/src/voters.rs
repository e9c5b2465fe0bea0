//! Who is in the group's own configuration: all members as learners, those of [`State::voters_wanted`] as voters.
//!
//! One step at a time, each looked up anew, so that a leader that dies between two leaves nothing half done that the next would
//! not finish.

use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use lockstead_cluster::State;
use lockstead_types::NodeId;
use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver;

use crate::{
    group::{PeerNode, Raft},
    shared::Core,
};

/// How often the configuration is compared with what it should be.
const LOOK: Duration = Duration::from_millis(200);
/// How long a change may take before it is looked at again.
const PATIENCE: Duration = Duration::from_secs(10);
/// Entries a learner may be behind and still become a voter.
const CAUGHT_UP: u64 = 100;

/// Keeps the configuration as it should be, while this node leads.
pub(crate) async fn keep(core: Arc<Core>) {
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if !core.leads() {
            continue;
        }
        let group = look(&core.raft);
        let step = core.book.with(|state| next_step(state, &group));
        if let Some(step) = step {
            // A refusal (another change is under way, leadership has gone) is met by looking again.
            let _ = tokio::time::timeout(PATIENCE, core.raft.change_membership(step, true)).await;
        }
    }
}

/// The configuration, as the leader has it.
struct GroupView {
    nodes: BTreeMap<u64, PeerNode>,
    /// All that vote now: while the voters change, those of before and those to come.
    voters: BTreeSet<u64>,
    /// Those to come, or those there are.
    newest: BTreeSet<u64>,
    /// Those whose log is nearly complete.
    current: BTreeSet<u64>,
    /// Whether the newest of it is not agreed on yet.
    open: bool,
}

fn look(raft: &Raft) -> GroupView {
    let metrics = raft.metrics().borrow_watched().clone();
    let membership = &metrics.membership_config;
    let last = metrics.last_log_index.unwrap_or(0);
    let behind = |at: u64| last.saturating_sub(at) <= CAUGHT_UP;
    let matched = metrics.replication.iter().flatten();
    let current = matched.filter(|(_, at)| at.is_some_and(|at| behind(at.index))).map(|(node, _)| *node);
    GroupView {
        nodes: membership.nodes().map(|(id, node)| (*id, node.clone())).collect(),
        voters: membership.voter_ids().collect(),
        newest: membership.membership().get_joint_config().last().cloned().unwrap_or_default(),
        current: current.chain([metrics.id]).collect(),
        open: membership.log_id().as_ref() > metrics.last_applied.as_ref(),
    }
}

type Step = ChangeMembers<u64, PeerNode>;

fn next_step(state: &State, group: &GroupView) -> Option<Step> {
    if !state.is_formed() || group.open {
        return None;
    }
    let is_same = |id: &u64| {
        let member = member(state, *id);
        member.is_some_and(|member| group.nodes.get(id).is_some_and(|node| node.identity == member.identity))
    };
    // Who has other data now is another, and does not vote for the one it was.
    let same = group.newest.iter().filter(|id| is_same(id));
    let now = same.filter_map(|id| Some(NodeId(u16::try_from(*id).ok()?))).collect();
    let wanted: BTreeSet<u64> = state.voters_wanted(&now).iter().map(|node| u64::from(node.0)).collect();
    let able = wanted.iter().all(|id| is_same(id) && (group.voters.contains(id) || group.current.contains(id)));
    // A change that a leader left halfway has more voters than either set.
    if !wanted.is_empty() && able && (wanted != group.newest || group.newest != group.voters) {
        return Some(ChangeMembers::ReplaceAllVoters(wanted));
    }
    // Who is no member, or has other data now, goes once it does not vote; with other data it comes again, as a learner.
    let gone: BTreeSet<u64> =
        group.nodes.keys().filter(|id| !group.voters.contains(id) && !is_same(id)).copied().collect();
    if !gone.is_empty() {
        return Some(ChangeMembers::RemoveNodes(gone));
    }
    let new: BTreeMap<u64, PeerNode> = state
        .members
        .iter()
        .filter(|(node, _)| !group.nodes.contains_key(&u64::from(node.0)))
        .map(|(node, member)| {
            (u64::from(node.0), PeerNode { identity: member.identity, address: member.peer_address.clone() })
        })
        .collect();
    if new.is_empty() { None } else { Some(ChangeMembers::AddNodes(new)) }
}

fn member(state: &State, id: u64) -> Option<&lockstead_cluster::Member> {
    state.members.get(&NodeId(u16::try_from(id).ok()?))
}
