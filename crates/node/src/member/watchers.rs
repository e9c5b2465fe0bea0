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

/// Guests that watch what is mastered here: they are found, and end, as guests do.
#[derive(Default)]
pub(crate) struct Watchers {
    map: BTreeMap<u32, Prefixes>,
}

type Prefixes = BTreeSet<(SpaceId, Box<[u8]>)>;

impl Watchers {
    pub(crate) fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    fn count(&self) -> usize {
        self.map.values().map(BTreeSet::len).sum()
    }

    fn of(&self, space: SpaceId, name: &[u8]) -> Vec<u32> {
        let hit = |watches: &Prefixes| watches.iter().any(|(s, prefix)| *s == space && name.starts_with(prefix));
        self.map.iter().filter(|(_, watches)| hit(watches)).map(|(guest, _)| *guest).collect()
    }
}

impl Node {
    /// A session of this node watches: here, and at all other masters.
    pub(crate) fn watch_everywhere(&mut self, now: Time, at: u32, id: RequestId, space: SpaceId, prefix: &[u8]) {
        let watched = self.try_watch(at, space, prefix);
        let (Ok(()), Some(session)) = (watched, self.session_id(at)) else {
            return self.refuse(at, id, watched.err().unwrap_or(Refusal::Lost));
        };
        let others: Vec<NodeId> = self.member.as_ref().map(|m| up_nodes(&m.state)).unwrap_or_default();
        let me = self.member.as_ref().map(|m| m.me);
        for node in others.into_iter().filter(|node| Some(*node) != me) {
            self.introduce(now, at, node);
        }
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
                self.introduce(now, at, node);
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
    ///
    /// It is a guest, though it may have no lock: what it is told goes to the home that introduced it. By the directory it could not
    /// be found: this node may apply late that the session is open, and would drop in silence what it is to be told meanwhile.
    pub(crate) fn watch_for(&mut self, from: NodeId, session: SessionId, space: SpaceId, prefix: &[u8]) -> Reply {
        let most = self.config.limits.watches as usize;
        let Some(guest) = self.guest_from(from, session) else { return Reply::Refused(Refusal::Lost) };
        let Some(member) = &mut self.member else { return Reply::Refused(Refusal::Invalid) };
        if member.watchers.count() >= most {
            return Reply::Refused(Refusal::Limit(LimitName::Watches));
        }
        member.watchers.map.entry(guest).or_default().insert((space, prefix.into()));
        self.table.set_watching(true);
        Reply::Done
    }

    pub(crate) fn unwatch_for(&mut self, from: NodeId, session: SessionId) -> Reply {
        if let Some(guest) = self.guest_from(from, session) {
            self.drop_guest_watches(guest);
        }
        Reply::Done
    }

    /// A guest has ended, or has come to another home, which says anew what it watches.
    pub(crate) fn drop_guest_watches(&mut self, guest: u32) {
        if let Some(member) = &mut self.member
            && member.watchers.map.remove(&guest).is_some()
        {
            self.watch_while_wanted();
        }
    }

    /// Tells those elsewhere who watch.
    pub(crate) fn tell_watchers_elsewhere(&mut self, now: Time, change: &Change) {
        #[cfg(feature = "planted")]
        if lockstead_types::planted::is(lockstead_types::planted::Bug::ChangeNotRelayed) {
            return;
        }
        let Some(member) = &self.member else { return };
        for guest in member.watchers.of(change.space, &change.name) {
            self.notify_guest(now, guest, Notice::Changed(Box::new(change.clone())));
        }
    }

    fn guest_from(&self, home: NodeId, session: SessionId) -> Option<u32> {
        let guests = &self.member.as_ref()?.guests;
        let at = guests.find(session)?;
        guests.get(at).is_some_and(|guest| guest.home == home).then_some(at)
    }
}
