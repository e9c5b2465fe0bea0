//! What this node sends to the leader: proposals, its own start among them, and renewals.

use core::time::Duration;
use std::sync::Arc;

use lockstead_cluster::Command;
use lockstead_types::NodeId;
use openraft::async_runtime::watch::WatchReceiver;
use tokio::{sync::mpsc, time::Instant};

use crate::{
    clock::now,
    codec::encode_command,
    group::PeerNode,
    net::{Answer, Call, CallError, Dialer, PROPOSED_AT_ONCE, propose},
    shared::Core,
    starts::{Known, Starts},
};

/// How long a proposal is held while there is no leader. Whoever proposed it proposes again when it is lost.
const HELD: Duration = Duration::from_secs(3);
/// How long the leader may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two looks for a leader.
const LOOK: Duration = Duration::from_millis(20);
/// Between two proposals of the node's own start.
const AGAIN: Duration = Duration::from_millis(500);

/// A way to the leader, whoever that is.
struct ToLeader {
    core: Arc<Core>,
    dialer: Option<Dialer>,
}

/// Where the leader is.
enum Where<'a> {
    Nowhere,
    Here,
    There(&'a mut Dialer),
}

impl ToLeader {
    fn new(core: &Arc<Core>) -> ToLeader {
        ToLeader { core: Arc::clone(core), dialer: None }
    }

    fn find(&mut self) -> Where<'_> {
        let (leader, node): (u64, PeerNode) = {
            let metrics = self.core.raft.metrics();
            let metrics = metrics.borrow_watched();
            let Some(leader) = metrics.current_leader else { return Where::Nowhere };
            if leader == metrics.id {
                return Where::Here;
            }
            let Some(node) = metrics.membership_config.get_node(&leader) else { return Where::Nowhere };
            (leader, node.clone())
        };
        if !self.dialer.as_ref().is_some_and(|dialer| dialer.is_to(leader, &node)) {
            self.dialer = Some(Dialer::new(Arc::clone(&self.core.book), leader, node));
        }
        self.dialer.as_mut().map_or(Where::Nowhere, Where::There)
    }
}

/// Sends proposals to the leader, many in one call where many wait.
pub(crate) async fn carry_proposals(core: Arc<Core>, mut queue: mpsc::Receiver<Vec<u8>>) {
    let mut way = ToLeader::new(&core);
    let mut batch = Vec::new();
    while queue.recv_many(&mut batch, PROPOSED_AT_ONCE).await > 0 {
        let until = Instant::now() + HELD;
        while Instant::now() < until {
            let answer = match way.find() {
                Where::Nowhere => Answer::Failed(String::new()),
                Where::Here => propose(&core.raft, batch.clone()).await,
                Where::There(dialer) => match dialer.call(&Call::Propose(batch.clone()), PATIENCE).await {
                    Ok(answer) => answer,
                    Err(CallError::Unreachable(why)) => Answer::Failed(why.to_string()),
                    // It may have arrived. Sent again it could come after what its proposer has done since.
                    Err(CallError::Lost(_)) => Answer::Taken,
                },
            };
            if !matches!(answer, Answer::Failed(_)) {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        batch.clear();
    }
}

/// Proposes the node's start until it is in the log, after the newest one that this node knows of.
pub(crate) async fn propose_start(
    core: Arc<Core>,
    queue: mpsc::Sender<Vec<u8>>,
    mut start: Command,
    mut starts: Starts,
) {
    // Before it is proposed: one that the group knows of and this node does not would tell of older data.
    if starts.write(&core.disk).await.is_err() {
        return;
    }
    let mut proposed = None;
    while core.feed.started().is_none() {
        let newest = core.book.with(|state| {
            let (node, identity) = core.book.own();
            let known = state.members.get(&NodeId(node)).filter(|member| member.identity == identity);
            // Until the cluster is formed there is nobody to take it.
            state.is_formed().then(|| known.map_or(0, |member| member.nonce))
        });
        if let Some(newest) = newest {
            let known = starts.know(newest);
            if known == Known::Unknown {
                return core.give_up_outdated("the members know of a later start of it").await;
            }
            if let Command::Start { after, .. } = &mut start {
                *after = newest;
            }
            // At once where it has heard of another start since, and else now and then.
            let again =
                known == Known::Newest && proposed.is_none_or(|(of, at)| of != newest || Instant::now() >= at + AGAIN);
            if again && queue.send(encode_command(&start)).await.is_err() {
                return;
            }
            if again {
                proposed = Some((newest, Instant::now()));
            }
        }
        // Either way it looks again.
        let _ = tokio::time::timeout(AGAIN, core.feed.changed.notified()).await;
    }
    // What is left of the others is of no use; that it could not be written stops the node.
    starts.settle();
    let _ = starts.write(&core.disk).await;
}

/// Renews this start of the node, and tells it what is confirmed.
pub(crate) async fn renew(core: Arc<Core>, every: Duration) {
    let mut way = ToLeader::new(&core);
    let mut tick = tokio::time::interval(every);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let own = core.book.own().0;
    loop {
        tick.tick().await;
        let Some(incarnation) = core.feed.started() else { continue };
        // [MEMBER-9] A node that does nothing any more must not keep its slots.
        if core.alive.get().is_some_and(|alive| !alive()) {
            continue;
        }
        // Before anything is sent: the node's authority counts from here.
        let sent = now();
        let confirmed = match way.find() {
            Where::Nowhere => None,
            Where::Here => core.leader.renew(own, incarnation.0).await.map(|agreed| (own, agreed)),
            Where::There(dialer) => {
                let to = u16::try_from(dialer.to()).ok();
                let answer = dialer.call(&Call::Renew(incarnation.0), PATIENCE).await;
                match answer {
                    Ok(Answer::Renewed(agreed)) => to.zip(agreed),
                    _ => None,
                }
            }
        };
        let Some((leader, agreed)) = confirmed else { continue };
        // [MEMBER-13] Not before it has heard what was agreed on by then; and until that it does not ask again, so that the others take
        // the place of one that never does. An error: the log is at its end here.
        if core.raft.wait(None).applied_index_at_least(Some(agreed), "a renewal").await.is_err() {
            return;
        }
        core.feed.authority(sent, NodeId(leader));
    }
}
