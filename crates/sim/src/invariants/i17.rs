//! I17, at each decision, each end of a session, and each eviction: whoever is put out must have stopped before.

use lockstead_cluster::{Command, EndWhy};
use lockstead_node::{Node, Output};
use lockstead_types::{NodeId, Time, peer::Incarnation};

use crate::{invariants::Code, world::World};

pub(crate) const STATEMENT: &str =
    "a node without a valid authority lease neither grants, converts, expires nor answers as master";

/// Something was decided at `now` of the node's own clock.
pub(crate) fn decided(node: &Node, now: Time) -> Result<(), String> {
    if node.cluster_state().is_some() && now >= node.authority() {
        let late = now.since(node.authority()).as_millis();
        return Err(format!("decided {late} ms after its authority had run out"));
    }
    Ok(())
}

impl World {
    /// The group has put a member out because it fell silent: by its own clock its authority must be over.
    pub(crate) fn judge_evicted(&mut self, node: NodeId, incarnation: Incarnation) {
        let at = usize::from(node.0) - 1;
        let now = self.clocks[at].at(self.now);
        let host = &self.nodes[at];
        let Some(known) = host.node.as_ref().filter(|_| host.incarnation == Some(incarnation)) else { return };
        if now < known.authority() {
            let left = known.authority().since(now).as_millis();
            self.judge.fail(Code::I17, &format!("node {at} was put out with {left} ms of its authority left"));
        }
    }

    /// A node has made up its mind that a lease has run out. What it proposes again, or because of what the members agreed on, it
    /// decided before.
    pub(crate) fn judge_expiry(&mut self, at: usize, now: Time, output: &Output) {
        let Output::Propose(Command::EndSession { session, home, why: EndWhy::Expired }) = output else { return };
        let first = self.judge.expiries.insert((at, *session, home.0));
        if first && self.nodes[at].ticking {
            let outcome = self.nodes[at].node.as_ref().map_or(Ok(()), |node| decided(node, now));
            self.judge.must(Code::I17, outcome.map_err(|what| format!("node {at}: the end of a session was {what}")));
            self.judge_in(at, "ended a session");
        }
    }

    /// A node decides, or ends a session because its lease ran out: the members must not have put it out. A start that an earlier
    /// process of the node had proposed may come late and supersede it: then nobody decides in its stead before that start is out.
    pub(crate) fn judge_in(&mut self, at: usize, what: &str) {
        let host = &self.nodes[at];
        let Some(incarnation) = host.incarnation else { return };
        let state = &self.group.state;
        let me = crate::group::id_of(at);
        let current = state.members.get(&me).is_some_and(|member| member.incarnation == incarnation);
        if current && !state.is_up(me, incarnation) {
            self.judge.fail(Code::I17, &format!("node {at} {what} after the members had put it out"));
        }
    }
}
