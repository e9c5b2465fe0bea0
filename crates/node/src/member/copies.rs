//! What the sessions of this node have at masters, as this node knows it: the home's copies, from which a new master learns
//! what is held when the old one dies.
//!
//! Clients know a lock under the copy's id. It stays the same wherever the lock's slot goes.

use alloc::{boxed::Box, collections::BTreeSet, vec::Vec};

use hashbrown::HashMap;
use lockstead_types::{Flags, LockId, NodeId, RequestId, Slot, SpaceId, Token, reply::Value, request::Claim};

use crate::node::Hashing;

/// A lock of a session of this node.
pub(crate) struct Copy {
    /// Whose.
    pub(crate) session: u32,
    pub(crate) space: SpaceId,
    pub(crate) name: Box<[u8]>,
    pub(crate) slot: Slot,
    /// The master's id for it; `None` while the slot is on its way to a new one.
    pub(crate) place: Option<LockId>,
    /// What the client may use at most, so never more than the master has granted.
    pub(crate) held: Option<Claim>,
    pub(crate) token: Token,
    pub(crate) tag: u32,
    pub(crate) alone: bool,
    /// PERSISTENT, NODLCKBLK, NOBAST.
    pub(crate) flags: Flags,
    /// The value block, as read or written under what is held.
    pub(crate) value: Option<Value>,
    /// The request that waits for it, or for its conversion, at the master.
    pub(crate) wait: Option<RequestId>,
    /// Its release was sent and is not answered: it is claimed no more.
    pub(crate) releasing: bool,
    /// What somebody waits for since it was granted, as far as its holder was told.
    pub(crate) blocking: Option<Claim>,
    /// The epoch in which it was last reported to a new master; answers to earlier reports are void.
    pub(crate) reported: u32,
}

/// All copies.
pub(crate) struct Copies {
    places: Vec<Place>,
    free: Vec<u32>,
    by_master: HashMap<(NodeId, LockId), u32, Hashing>,
    by_session: BTreeSet<(u32, u32)>,
}

struct Place {
    uses: u32,
    copy: Option<Copy>,
}

/// Set in the ids of copies and in no id of a table, so that the two are never taken for each other. Below the bit that clients
/// use for themselves.
const COPY_BIT: u64 = 1 << 62;
const USES_MAX: u32 = (1 << 30) - 1;

impl Copies {
    pub(crate) fn new(hashing: Hashing) -> Copies {
        Copies {
            places: Vec::new(),
            free: Vec::new(),
            by_master: HashMap::with_hasher(hashing),
            by_session: BTreeSet::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// How many a session has.
    pub(crate) fn count_of(&self, session: u32) -> usize {
        self.of_session(session).count()
    }

    /// Adds a copy.
    pub(crate) fn add(&mut self, copy: Copy) -> u32 {
        let session = copy.session;
        let at = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { uses: 0, copy: None });
            (self.places.len() - 1) as u32
        });
        if let Some(place) = self.places.get_mut(at as usize) {
            place.uses = if place.uses >= USES_MAX { 1 } else { place.uses + 1 };
            place.copy = Some(copy);
        }
        self.by_session.insert((session, at));
        at
    }

    pub(crate) fn remove(&mut self, master: NodeId, at: u32) -> Option<Copy> {
        let copy = self.places.get_mut(at as usize)?.copy.take()?;
        self.free.push(at);
        self.by_session.remove(&(copy.session, at));
        if let Some(lock) = copy.place {
            self.by_master.remove(&(master, lock));
        }
        Some(copy)
    }

    pub(crate) fn get(&self, at: u32) -> Option<&Copy> {
        self.places.get(at as usize)?.copy.as_ref()
    }

    pub(crate) fn get_mut(&mut self, at: u32) -> Option<&mut Copy> {
        self.places.get_mut(at as usize)?.copy.as_mut()
    }

    /// Says where a copy's lock is.
    pub(crate) fn set_place(&mut self, at: u32, master: NodeId, lock: LockId) {
        let Some(copy) = self.get_mut(at) else { return };
        let before = copy.place.replace(lock);
        if let Some(before) = before {
            self.by_master.remove(&(master, before));
        }
        self.by_master.insert((master, lock), at);
    }

    /// The slot of a copy has left its master.
    pub(crate) fn forget_place(&mut self, at: u32, master: NodeId) {
        if let Some(lock) = self.get_mut(at).and_then(|copy| copy.place.take()) {
            self.by_master.remove(&(master, lock));
        }
    }

    /// The copy of a lock as its master numbers it.
    pub(crate) fn at_master(&self, master: NodeId, lock: LockId) -> Option<u32> {
        self.by_master.get(&(master, lock)).copied()
    }

    /// The id clients know a copy by.
    pub(crate) fn id(&self, at: u32) -> LockId {
        let uses = self.places.get(at as usize).map_or(0, |p| p.uses);
        LockId(COPY_BIT | (u64::from(uses) << 32) | u64::from(at))
    }

    /// The copy a client speaks of, if it is the session's.
    pub(crate) fn find(&self, session: u32, id: LockId) -> Option<u32> {
        let at = (id.0 & u64::from(u32::MAX)) as u32;
        let same = self.get(at).is_some_and(|copy| copy.session == session) && self.id(at) == id;
        same.then_some(at)
    }

    /// The copies of a session.
    pub(crate) fn of_session(&self, session: u32) -> impl Iterator<Item = u32> + '_ {
        self.by_session.range((session, 0)..=(session, u32::MAX)).map(|(_, at)| *at)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Copy)> {
        (0u32..).zip(&self.places).filter_map(|(at, place)| place.copy.as_ref().map(|copy| (at, copy)))
    }

    pub(crate) fn check(&self, master_of: impl Fn(Slot) -> NodeId) -> Result<(), &'static str> {
        let placed = self.iter().filter(|(_, copy)| copy.place.is_some()).count();
        if placed != self.by_master.len() {
            return Err("places of copies are miscounted");
        }
        for (at, copy) in self.iter() {
            if !self.by_session.contains(&(copy.session, at)) {
                return Err("a copy is not found by its session");
            }
            if let Some(lock) = copy.place
                && self.at_master(master_of(copy.slot), lock) != Some(at)
            {
                return Err("a copy is not found by its master's id");
            }
            if copy.held.is_none() && copy.wait.is_none() {
                return Err("a copy that neither holds nor waits");
            }
        }
        if self.by_session.len() == self.len() { Ok(()) } else { Err("copies of sessions are miscounted") }
    }
}
