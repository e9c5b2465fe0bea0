//! Watches over all nodes: the home of a watching session keeps its watches, and every master sends it what changes.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use lockstead_types::{
    LimitName, NodeId, RequestId, SessionId, SpaceId, Time,
    peer::{PeerMessage, PeerOrder},
    refusal::Refusal,
    reply::{Change, Notice, Reply},
};

use super::up_nodes;
use crate::node::Node;

/// Who elsewhere watches what is mastered here.
#[derive(Default)]
pub(crate) struct Watchers {
    map: BTreeMap<SessionId, (NodeId, Prefixes)>,
}

type Prefixes = BTreeSet<(SpaceId, Box<[u8]>)>;

impl Watchers {
    pub(crate) fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    fn count(&self) -> usize {
        self.map.values().map(|(_, watches)| watches.len()).sum()
    }

    fn of(&self, space: SpaceId, name: &[u8]) -> Vec<(SessionId, NodeId)> {
        let hit = |watches: &Prefixes| watches.iter().any(|(s, prefix)| *s == space && name.starts_with(prefix));
        self.map.iter().filter(|(_, (_, w))| hit(w)).map(|(session, (home, _))| (*session, *home)).collect()
    }
}

impl Node {
    /// A session of this node watches: here, and at all other masters.
    pub(crate) fn watch_everywhere(&mut self, now: Time, at: u32, id: RequestId, space: SpaceId, prefix: &[u8]) {
        let watched = self.try_watch(at, space, prefix);
        let (Ok(()), Some(session)) = (watched, self.session_id(at)) else {
            return self.refuse(at, id, watched.err().unwrap_or(Refusal::Lost));
        };
        let order = PeerOrder::Watch { session, space, prefix: prefix.into() };
        self.order_others(now, (at, id), &order);
    }

    pub(crate) fn unwatch_everywhere(&mut self, now: Time, at: u32, id: RequestId) {
        self.drop_watches(at);
        let Some(session) = self.session_id(at) else { return };
        self.order_others(now, (at, id), &PeerOrder::Unwatch { session });
    }

    /// [CLUSTER-17] Masters changed: all are told again what sessions of this node watch, and the sessions to look again.
    pub(crate) fn watch_again(&mut self, now: Time) {
        let all = self.watches.all();
        let mut told = BTreeSet::new();
        for (at, space, prefix) in all {
            let (Some(member), Some(session)) = (&self.member, self.session_id(at)) else { continue };
            let me = member.me;
            for node in up_nodes(&member.state).into_iter().filter(|n| *n != me) {
                let order = PeerOrder::Watch { session, space, prefix: prefix.clone() };
                let by = alloc::string::String::new();
                // Nobody waits for the answer.
                self.send_peer(now, node, PeerMessage::Order { ask: 0, by, order });
            }
            if told.insert(at) {
                self.notify(at, Notice::Resync);
            }
        }
    }

    /// A session of another node watches what is mastered here.
    pub(crate) fn watch_for(&mut self, from: NodeId, session: SessionId, space: SpaceId, prefix: &[u8]) -> Reply {
        let most = self.config.limits.watches as usize;
        let Some(member) = &mut self.member else { return Reply::Refused(Refusal::Invalid) };
        if member.watchers.count() >= most {
            return Reply::Refused(Refusal::Limit(LimitName::Watches));
        }
        let (home, watches) = member.watchers.map.entry(session).or_insert_with(|| (from, BTreeSet::new()));
        *home = from;
        watches.insert((space, prefix.into()));
        self.table.set_watching(true);
        Reply::Done
    }

    pub(crate) fn unwatch_for(&mut self, session: SessionId) -> Reply {
        let alone = self.watches.is_empty();
        if let Some(member) = &mut self.member
            && member.watchers.map.remove(&session).is_some()
        {
            let none = member.watchers.is_empty() && alone;
            self.table.set_watching(!none);
        }
        Reply::Done
    }

    /// Tells those elsewhere who watch.
    pub(crate) fn tell_watchers_elsewhere(&mut self, now: Time, change: &Change) {
        let Some(member) = &self.member else { return };
        for (session, to) in member.watchers.of(change.space, &change.name) {
            let home = self.member.as_ref().and_then(|m| m.state.sessions.get(&session)).map(|s| s.generation);
            let Some(home) = home else { continue };
            let notice = Notice::Changed(Box::new(change.clone()));
            self.send_peer(now, to, PeerMessage::Notice { session, home, notice });
        }
    }
}
