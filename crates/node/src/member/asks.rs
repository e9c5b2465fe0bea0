//! Questions to other nodes and orders that they carry out: each asked of one node or of all, answered when all have
//! answered or are members no more.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec::Vec,
};

use lockstead_types::{
    NodeId, SpaceId, Time,
    name::escape,
    peer::{Incarnation, PeerMessage, PeerOrder, PeerQuery},
    refusal::Refusal,
    reply::Reply,
    report::{Deadlocks, Report, Waits},
    request::Query,
};

use super::{forward::Key, master_up, up_nodes};
use crate::{
    ledger::{Pend, Waiting},
    node::Node,
};

/// What is under way.
#[derive(Default)]
pub(crate) struct Asks {
    map: BTreeMap<u64, Ask>,
    newest: u64,
}

struct Ask {
    whose: Asker,
    purpose: Purpose,
    /// Which starts of which nodes have not answered: one that starts anew was never asked.
    missing: BTreeSet<(NodeId, Incarnation)>,
    reports: Vec<Report>,
    reply: Option<Reply>,
}

/// Who wants to know.
#[derive(Copy, Clone)]
enum Asker {
    /// A request of a client.
    Client(Key),
    /// Another node, for whom this one makes sure that all it caused has arrived.
    Node(NodeId, u64),
}

/// What for.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// Nothing that was caused is still on its way.
    Sync,
    Resource,
    /// Of the so-manieth node.
    Resources(u16),
    Waits,
    Sessions,
    Deadlocks,
    /// The lockspace is dropped if nobody has a lock in it.
    DropSpace(SpaceId),
    Order,
}

/// Where the number of the node begins in the place a list goes on from.
const NODE_SHIFT: u32 = 32;

impl Node {
    // ------------------------------------------------------------ asking

    pub(crate) fn ask_all(&mut self, now: Time, key: Key, purpose: Purpose, query: &PeerQuery) {
        let nodes = self.member.as_ref().map(|m| up_nodes(&m.state)).unwrap_or_default();
        let ask = self.begin_ask(now, Asker::Client(key), purpose, &nodes);
        for node in nodes {
            self.send_peer(now, node, PeerMessage::Ask { ask, query: query.clone() });
        }
    }

    pub(crate) fn ask_master(&mut self, now: Time, key: Key, space: SpaceId, name: &[u8], query: &PeerQuery) {
        match self.master_of(space, name) {
            Ok(node) => {
                let ask = self.begin_ask(now, Asker::Client(key), Purpose::Resource, &[node]);
                self.send_peer(now, node, PeerMessage::Ask { ask, query: query.clone() });
            }
            Err(why) => self.refuse_key(key, why),
        }
    }

    /// A list over all nodes, one after another.
    pub(crate) fn ask_resources(&mut self, now: Time, key: Key, from: u64, query: PeerQuery) {
        let PeerQuery::Resources { space, prefix, .. } = query else { return };
        if self.table.space(space).is_none() {
            return self.refuse_key(key, Refusal::NoLockspace);
        }
        let first = NodeId((from >> NODE_SHIFT) as u16);
        let nodes = self.member.as_ref().map(|m| up_nodes(&m.state)).unwrap_or_default();
        let Some(node) = nodes.into_iter().find(|node| *node >= first) else {
            return self.answer_ask(now, key, Purpose::Resources(0), Vec::new(), None);
        };
        let from = if node == first { from as u32 } else { 0 };
        let ask = self.begin_ask(now, Asker::Client(key), Purpose::Resources(node.0), &[node]);
        let query = PeerQuery::Resources { space, prefix, from };
        self.send_peer(now, node, PeerMessage::Ask { ask, query });
    }

    pub(crate) fn order_all(&mut self, now: Time, key: Key, order: &PeerOrder) {
        let nodes = self.member.as_ref().map(|m| up_nodes(&m.state)).unwrap_or_default();
        self.order(now, key, &nodes, order);
    }

    pub(crate) fn order_others(&mut self, now: Time, key: Key, order: &PeerOrder) {
        let Some(member) = &self.member else { return };
        let me = member.me;
        let nodes: Vec<NodeId> = up_nodes(&member.state).into_iter().filter(|n| *n != me).collect();
        if nodes.is_empty() {
            let (at, id) = key;
            return self.answer(at, id, Reply::Done);
        }
        self.order(now, key, &nodes, order);
    }

    pub(crate) fn order_master(&mut self, now: Time, key: Key, space: SpaceId, name: &[u8], order: &PeerOrder) {
        match self.master_of(space, name) {
            Ok(node) => self.order(now, key, &[node], order),
            Err(why) => self.refuse_key(key, why),
        }
    }

    fn order(&mut self, now: Time, key: Key, nodes: &[NodeId], order: &PeerOrder) {
        let (at, _) = key;
        let by = match self.sessions.get(at) {
            Some(s) => alloc::format!("session {} ({})", s.id, s.principal),
            None => String::new(),
        };
        let ask = self.begin_ask(now, Asker::Client(key), Purpose::Order, nodes);
        for node in nodes {
            self.send_peer(now, *node, PeerMessage::Order { ask, by: by.clone(), order: order.clone() });
        }
    }

    fn begin_ask(&mut self, now: Time, whose: Asker, purpose: Purpose, nodes: &[NodeId]) -> u64 {
        if let Asker::Client((at, id)) = whose
            && let Some(session) = self.sessions.get_mut(at)
        {
            session.ledger.wait(Waiting { id, since: now, pend: Pend::Forward });
        }
        let Some(member) = &mut self.member else { return 0 };
        member.asks.newest += 1;
        let missing = nodes.iter().filter_map(|n| Some((*n, member.state.members.get(n)?.incarnation))).collect();
        let ask = Ask { whose, purpose, missing, reports: Vec::new(), reply: None };
        member.asks.map.insert(member.asks.newest, ask);
        member.asks.newest
    }

    fn master_of(&self, space: SpaceId, name: &[u8]) -> Result<NodeId, Refusal> {
        if self.table.space(space).is_none() {
            return Err(Refusal::NoLockspace);
        }
        let slot = self.slot_of(space, name).ok_or(Refusal::NoQuorum)?;
        let state = &self.member.as_ref().ok_or(Refusal::Invalid)?.state;
        master_up(state, slot).map(|(node, _)| node).ok_or(Refusal::NoQuorum)
    }

    fn refuse_key(&mut self, (at, id): Key, why: Refusal) {
        self.refuse(at, id, why);
    }

    // ------------------------------------------------------------ being asked

    pub(crate) fn on_ask(&mut self, now: Time, from: NodeId, ask: u64, query: &PeerQuery) {
        let nothing = Report::Resource(None);
        let report = match query {
            PeerQuery::Sync if self.set_sync_aside(from, ask) => return,
            PeerQuery::Sync => return self.flush(now, from, ask),
            PeerQuery::Flush => nothing,
            PeerQuery::Resources { space, prefix, from } => {
                let query = Query::Resources { space: *space, prefix, from: u64::from(*from) };
                self.look(now, query).unwrap_or(nothing)
            }
            PeerQuery::Resource { space, name } => {
                self.look(now, Query::Resource { space: *space, name }).unwrap_or(nothing)
            }
            PeerQuery::Waits => self.look(now, Query::Waits).unwrap_or(nothing),
            PeerQuery::Sessions { after } => self.look(now, Query::Sessions { after: *after }).unwrap_or(nothing),
            PeerQuery::Deadlocks => self.look(now, Query::Deadlocks).unwrap_or(nothing),
            PeerQuery::Status => self.look(now, Query::Status).unwrap_or(nothing),
        };
        self.send_peer(now, from, PeerMessage::Answer { ask, report });
    }

    /// Whatever the asker caused here has been told to its homes when they answer.
    pub(crate) fn flush(&mut self, now: Time, from: NodeId, ask: u64) {
        let Some(member) = &self.member else { return };
        let others: Vec<NodeId> = up_nodes(&member.state).into_iter().filter(|n| *n != from).collect();
        let own = self.begin_ask(now, Asker::Node(from, ask), Purpose::Sync, &others);
        if others.is_empty() {
            return self.finish_ask(now, own);
        }
        for node in others {
            self.send_peer(now, node, PeerMessage::Ask { ask: own, query: PeerQuery::Flush });
        }
    }

    pub(crate) fn on_order(&mut self, now: Time, from: NodeId, ask: u64, by: &str, order: PeerOrder) {
        let reply = match order {
            PeerOrder::ForceRelease { space, name, token, reason } => {
                match self.table.force_release(now, space, &name, token, &mut self.fx) {
                    Ok(lock) => {
                        let what = alloc::format!("lock {} on {} with token {token}", lock.0, escape(&name));
                        self.audit(alloc::format!(
                            "{what} released by force by {by}, reason: {}",
                            escape(reason.as_bytes())
                        ));
                        Reply::Released
                    }
                    Err(why) => Reply::Refused(why),
                }
            }
            PeerOrder::Purge { space, session } => Reply::Purged(self.table.purge(now, space, session, &mut self.fx)),
            PeerOrder::Watch { session, space, prefix } => self.watch_for(from, session, space, &prefix),
            PeerOrder::Unwatch { session } => self.unwatch_for(from, session),
        };
        self.send_peer(now, from, PeerMessage::Obeyed { ask, reply });
        self.tell_effects(now);
    }

    // ------------------------------------------------------------ being answered

    pub(crate) fn on_peer_answer(&mut self, now: Time, from: NodeId, ask: u64, report: Report) {
        let Some(found) = self.member.as_mut().and_then(|m| m.asks.map.get_mut(&ask)) else { return };
        let missing = found.missing.len();
        found.missing.retain(|(node, _)| *node != from);
        if found.missing.len() < missing {
            found.reports.push(report);
        }
        if found.missing.is_empty() {
            self.finish_ask(now, ask);
        }
    }

    pub(crate) fn on_obeyed(&mut self, now: Time, from: NodeId, ask: u64, reply: Reply) {
        let Some(found) = self.member.as_mut().and_then(|m| m.asks.map.get_mut(&ask)) else { return };
        let missing = found.missing.len();
        found.missing.retain(|(node, _)| *node != from);
        if found.missing.len() < missing {
            found.reply = Some(match (found.reply.take(), reply) {
                (Some(Reply::Purged(a)), Reply::Purged(b)) => Reply::Purged(a.saturating_add(b)),
                // One refusal is the answer of all.
                (Some(Reply::Refused(why)), _) | (_, Reply::Refused(why)) => Reply::Refused(why),
                (_, other) => other,
            });
        }
        if found.missing.is_empty() {
            self.finish_ask(now, ask);
        }
    }

    /// Members have gone: nobody waits for their answers.
    pub(crate) fn revise_asks(&mut self, now: Time) {
        let Some(member) = &mut self.member else { return };
        let state = &member.state;
        let mut done = Vec::new();
        for (number, ask) in &mut member.asks.map {
            ask.missing.retain(|(node, incarnation)| state.is_up(*node, *incarnation));
            if ask.missing.is_empty() {
                done.push(*number);
            }
        }
        for ask in done {
            self.finish_ask(now, ask);
        }
    }

    /// Forgets what a session asked.
    pub(crate) fn forget_asks(&mut self, at: u32) {
        if let Some(member) = &mut self.member {
            member.asks.map.retain(|_, ask| !matches!(ask.whose, Asker::Client((session, _)) if session == at));
        }
    }

    fn finish_ask(&mut self, now: Time, number: u64) {
        let Some(ask) = self.member.as_mut().and_then(|m| m.asks.map.remove(&number)) else { return };
        match ask.whose {
            Asker::Node(node, number) => {
                let report = Report::Resource(None);
                self.send_peer(now, node, PeerMessage::Answer { ask: number, report });
            }
            Asker::Client(key) => self.answer_ask(now, key, ask.purpose, ask.reports, ask.reply),
        }
    }

    fn answer_ask(&mut self, now: Time, key: Key, purpose: Purpose, reports: Vec<Report>, reply: Option<Reply>) {
        let (at, id) = key;
        let rows_max = self.config.limits.rows_per_answer as usize;
        let report = match purpose {
            Purpose::DropSpace(space) => return self.drop_if_empty(now, key, space, &reports),
            Purpose::Sync => None,
            Purpose::Order => None,
            Purpose::Resource => reports.into_iter().next(),
            Purpose::Resources(node) => Some(self.merge_resources(node, reports)),
            Purpose::Waits => Some(merge_waits(reports, rows_max)),
            Purpose::Sessions => Some(merge_sessions(reports, rows_max)),
            Purpose::Deadlocks => Some(merge_deadlocks(reports)),
        };
        if let Some(session) = self.sessions.get_mut(at) {
            session.ledger.end_wait(id);
        }
        match (report, reply) {
            (Some(report), _) => self.answer(at, id, Reply::Report(Box::new(report))),
            (None, Some(Reply::Refused(why))) => self.refuse(at, id, why),
            (None, Some(reply)) => self.answer(at, id, reply),
            // [CLUSTER-10] All nodes have done what was asked before.
            (None, None) if purpose == Purpose::Sync => self.answer(at, id, Reply::Done),
            // The node that was asked has gone.
            (None, None) => self.refuse(at, id, Refusal::NoQuorum),
        }
    }

    fn drop_if_empty(&mut self, now: Time, (at, id): Key, space: SpaceId, reports: &[Report]) {
        let empty = |r: &Report| !matches!(r, Report::Resources { rows, next } if !rows.is_empty() || next.is_some());
        if reports.iter().all(empty) {
            return self.drop_space_now(now, at, id, space);
        }
        if let Some(session) = self.sessions.get_mut(at) {
            session.ledger.end_wait(id);
        }
        self.refuse(at, id, Refusal::Busy);
    }

    /// One node's rows; where it has no more the list goes on with the next node.
    fn merge_resources(&self, node: u16, reports: Vec<Report>) -> Report {
        let (rows, next) = match reports.into_iter().next() {
            Some(Report::Resources { rows, next }) => (rows, next),
            _ => (Vec::new(), None),
        };
        let further = self.member.as_ref().and_then(|m| up_nodes(&m.state).into_iter().find(|n| n.0 > node));
        let next = match (next, further) {
            (Some(next), _) => Some((u64::from(node) << NODE_SHIFT) | next),
            (None, Some(further)) => Some(u64::from(further.0) << NODE_SHIFT),
            (None, None) => None,
        };
        Report::Resources { rows, next }
    }
}

fn merge_waits(reports: Vec<Report>, rows_max: usize) -> Report {
    let mut all = Waits { edges: Vec::new(), waiting: 0, more: false, taking_over: 0 };
    for report in reports {
        if let Report::Waits(waits) = report {
            all.edges.extend(waits.edges);
            all.waiting = all.waiting.saturating_add(waits.waiting);
            all.more |= waits.more;
            all.taking_over = all.taking_over.saturating_add(waits.taking_over);
        }
    }
    all.more |= all.edges.len() > rows_max;
    all.edges.truncate(rows_max);
    Report::Waits(all)
}

fn merge_sessions(reports: Vec<Report>, rows_max: usize) -> Report {
    let mut any_more = false;
    let mut all = Vec::new();
    for report in reports {
        if let Report::Sessions { rows, more } = report {
            any_more |= more;
            all.extend(rows);
        }
    }
    all.sort_unstable_by_key(|row| row.session);
    let more = any_more || all.len() > rows_max;
    all.truncate(rows_max);
    Report::Sessions { rows: all, more }
}

fn merge_deadlocks(reports: Vec<Report>) -> Report {
    let mut all = Deadlocks { reports: Vec::new(), left_out: 0 };
    for report in reports {
        if let Report::Deadlocks(found) = report {
            all.reports.extend(found.reports);
            all.left_out = all.left_out.saturating_add(found.left_out);
        }
    }
    all.reports.sort_by_key(|report| core::cmp::Reverse(report.ago));
    Report::Deadlocks(all)
}
