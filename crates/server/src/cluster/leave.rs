//! The way out: slots are handed over while the node still serves, then it stops, then it says so itself, so that the others
//! need not wait until its authority has run out.

use core::time::Duration;
use std::{thread, time::Instant};

use lockstead_cluster::{Command, MemberState, State};
use lockstead_types::{NodeId, peer::Incarnation};

use crate::{
    clock,
    shared::{Phase, Shared},
};

/// How long a node that stops waits for others to take its slots over.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(8);
/// How long it waits for its own going to be agreed on.
const GO_WITHIN: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(20);
const ASK_EVERY: Duration = Duration::from_millis(500);

/// Hands the slots over, as far as there is somebody to take them and a majority to agree on it.
pub(crate) fn hand_over(shared: &Shared) {
    let Some(cluster) = &shared.cluster else { return };
    let node = cluster.me.node;
    propose_until(shared, HAND_OVER_WITHIN, |state, incarnation| {
        if shared.phase() != Phase::Serving || state.slots_of(node).is_empty() || !has_heir(state, node) {
            return None;
        }
        Some(Command::Drain { node, incarnation })
    });
}

/// Says that this node is gone, when it decides nothing any more.
pub(crate) fn go(shared: &Shared) {
    let Some(cluster) = &shared.cluster else { return };
    let node = cluster.me.node;
    propose_until(shared, GO_WITHIN, |state, incarnation| {
        has_heir(state, node).then_some(Command::Evict { node, incarnation })
    });
}

/// Proposes what `wanted` says, again and again, until it says that nothing is wanted any more or the time is over.
fn propose_until(shared: &Shared, within: Duration, wanted: impl Fn(&State, Incarnation) -> Option<Command>) {
    let Some(cluster) = &shared.cluster else { return };
    let (start, mut asked) = (Instant::now(), None::<Instant>);
    while start.elapsed() < within {
        let command = {
            let core = shared.core.lock();
            let acts = core.halted().is_none() && clock::now() < core.node.authority();
            let state = core.node.cluster_state();
            let me = state.and_then(|state| state.members.get(&cluster.me.node));
            let up = me.filter(|me| me.state != MemberState::Down && !core.node.is_out() && acts);
            state.zip(up).and_then(|(state, me)| wanted(state, me.incarnation))
        };
        let Some(command) = command else { return };
        if asked.is_none_or(|asked| asked.elapsed() >= ASK_EVERY) {
            asked = Some(Instant::now());
            cluster.propose(&command);
        }
        thread::sleep(LOOK_EVERY);
    }
}

fn has_heir(state: &State, node: NodeId) -> bool {
    state.members.iter().any(|(id, member)| *id != node && member.state == MemberState::Up && member.weight > 0)
}
