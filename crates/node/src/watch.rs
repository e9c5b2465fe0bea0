//! Watches: sessions that are told of every change under a prefix.

use alloc::{boxed::Box, collections::BTreeMap, vec::Vec};

use lockstead_types::{LimitName, RequestId, SpaceId, refusal::Refusal, reply::Reply};

use crate::node::Node;

/// All watches.
pub(crate) struct Watches {
    map: BTreeMap<SpaceId, BySession>,
    count: u32,
}

/// The prefixes each session watches.
type BySession = BTreeMap<u32, Vec<Box<[u8]>>>;

impl Watches {
    pub(crate) fn new() -> Watches {
        Watches { map: BTreeMap::new(), count: 0 }
    }

    /// Sessions to be told of a change, each once.
    pub(crate) fn watchers(&self, space: SpaceId, name: &[u8]) -> impl Iterator<Item = u32> {
        let of_space = self.map.get(&space).into_iter().flatten();
        of_space.filter(move |(_, prefixes)| prefixes.iter().any(|p| name.starts_with(p))).map(|(at, _)| *at)
    }

    /// Every watch: whose, where, and the prefix.
    pub(crate) fn all(&self) -> Vec<(u32, SpaceId, Box<[u8]>)> {
        let of_space = |(space, sessions): (&SpaceId, &BySession)| {
            let space = *space;
            let all = sessions.iter().flat_map(move |(at, p)| p.iter().map(move |p| (*at, space, p.clone())));
            all.collect::<Vec<_>>()
        };
        self.map.iter().flat_map(of_space).collect()
    }

    fn add(&mut self, at: u32, space: SpaceId, prefix: &[u8]) {
        self.map.entry(space).or_default().entry(at).or_default().push(prefix.into());
        self.count += 1;
    }

    fn remove_session(&mut self, at: u32) {
        let gone: usize = self.map.values_mut().filter_map(|sessions| sessions.remove(&at)).map(|p| p.len()).sum();
        self.map.retain(|_, sessions| !sessions.is_empty());
        self.count = self.count.saturating_sub(gone as u32);
    }

    /// Forgets the watches of a lockspace; which sessions had how many.
    fn remove_space(&mut self, space: SpaceId) -> Vec<(u32, u32)> {
        let gone = self.map.remove(&space).unwrap_or_default();
        let gone: Vec<(u32, u32)> = gone.into_iter().map(|(at, prefixes)| (at, prefixes.len() as u32)).collect();
        self.count = self.count.saturating_sub(gone.iter().map(|(_, n)| n).sum());
        gone
    }

    pub(crate) fn check(&self, sessions: &crate::session::Sessions) -> Result<(), &'static str> {
        let total: usize = self.map.values().flat_map(BTreeMap::values).map(Vec::len).sum();
        if total as u64 != u64::from(self.count) {
            return Err("watches are miscounted");
        }
        let known: u64 = sessions.iter().filter_map(|(_, s)| s.extra()).map(|e| u64::from(e.watches)).sum();
        if known != u64::from(self.count) {
            return Err("a session's watches are miscounted");
        }
        if self.map.values().flat_map(BTreeMap::keys).any(|at| sessions.get(*at).is_none()) {
            return Err("a watch of no session");
        }
        Ok(())
    }
}

impl Node {
    pub(crate) fn on_watch(&mut self, at: u32, id: RequestId, space: SpaceId, prefix: &[u8]) {
        match self.try_watch(at, space, prefix) {
            Ok(()) => self.answer(at, id, Reply::Done),
            Err(why) => self.refuse(at, id, why),
        }
    }

    pub(crate) fn try_watch(&mut self, at: u32, space: SpaceId, prefix: &[u8]) -> Result<(), Refusal> {
        let limits = &self.config.limits;
        if self.table.space(space).is_none() {
            return Err(Refusal::NoLockspace);
        }
        if prefix.len() > limits.name_bytes as usize {
            return Err(Refusal::TooLong);
        }
        if self.watches.count >= limits.watches {
            return Err(Refusal::Limit(LimitName::Watches));
        }
        let session = self.sessions.get_mut(at).ok_or(Refusal::Lost)?;
        session.extra_or_new().watches += 1;
        self.watches.add(at, space, prefix);
        self.table.set_watching(true);
        Ok(())
    }

    pub(crate) fn on_unwatch(&mut self, at: u32, id: RequestId) {
        self.drop_watches(at);
        self.answer(at, id, Reply::Done);
    }

    pub(crate) fn drop_watches(&mut self, at: u32) {
        let Some(extra) = self.sessions.get_mut(at).and_then(|s| s.extra_mut()) else { return };
        if core::mem::take(&mut extra.watches) > 0 {
            self.watches.remove_session(at);
            self.watch_while_wanted();
        }
    }

    pub(crate) fn forget_watches_of(&mut self, space: SpaceId) {
        for (at, count) in self.watches.remove_space(space) {
            if let Some(extra) = self.sessions.get_mut(at).and_then(|s| s.extra_mut()) {
                extra.watches = extra.watches.saturating_sub(count);
            }
        }
        self.watch_while_wanted();
    }

    pub(crate) fn watch_while_wanted(&mut self) {
        let elsewhere = self.member.as_ref().is_some_and(|m| !m.watchers.is_empty());
        self.table.set_watching(self.watches.count > 0 || elsewhere);
    }
}
