//! What the sessions of this node have at masters, as this node knows it: the home's copies, from which a new master learns
//! what is held when the old one dies.
//!
//! Clients know a lock under the copy's id. It stays the same wherever the lock's slot goes.

use alloc::{boxed::Box, collections::BTreeMap, vec::Vec};
use core::hash::BuildHasher;

use hashbrown::HashTable;
use lockstead_types::{
    Flags, LockId, NodeId, RequestId, Slot, SlotSet, SpaceId, Token, reply::Value, request::Claim, rows::GroupUse,
};

use crate::node::Hashing;

/// A lock of a session of this node.
pub(crate) struct Copy {
    /// Whose.
    pub(crate) session: u32,
    pub(crate) space: SpaceId,
    pub(crate) name: Box<[u8]>,
    pub(crate) slot: Slot,
    /// The master that has it, and what it calls it; `None` until it has said so. While the slot is on its way to a new master this
    /// may be the former one: see [`super::Member::is_reporting`].
    pub(crate) place: Option<(NodeId, LockId)>,
    /// What the client may use at most, so never more than the master has granted.
    pub(crate) held: Option<Claim>,
    pub(crate) token: Token,
    /// The token before, of which the client may have heard last.
    pub(crate) before: Token,
    pub(crate) tag: u32,
    pub(crate) alone: bool,
    /// Of a lock of a group.
    pub(crate) group: Option<Box<InGroup>>,
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

/// What a session has of a lock of a group.
pub(crate) struct InGroup {
    pub(crate) name: Box<[u8]>,
    /// How often it was granted it, and has not been told that it is released.
    uses: u32,
    /// How many of these it has asked to release.
    leaving: u32,
}

impl InGroup {
    pub(crate) fn new(name: &[u8]) -> InGroup {
        InGroup { name: name.into(), uses: 1, leaving: 0 }
    }

    pub(crate) fn as_report(&self) -> GroupUse {
        GroupUse { name: self.name.clone(), uses: self.uses }
    }
}

impl Copy {
    /// It was granted once more.
    pub(crate) fn add_use(&mut self) {
        if let Some(group) = &mut self.group {
            group.uses = group.uses.saturating_add(1);
            self.releasing = group.leaving >= group.uses;
        }
    }

    /// Its release is asked for: of a lock of a group, once.
    pub(crate) fn begin_leaving(&mut self) {
        if let Some(group) = &mut self.group {
            group.leaving = group.leaving.saturating_add(1);
            self.releasing = group.leaving >= group.uses;
        }
    }

    /// A release was refused.
    pub(crate) fn stay(&mut self) {
        self.releasing = false;
        if let Some(group) = &mut self.group {
            group.leaving = group.leaving.saturating_sub(1);
        }
    }

    /// A release was made. Whether its session uses it no more.
    pub(crate) fn leave(&mut self) -> bool {
        let Some(group) = self.group.as_mut().filter(|group| group.uses > 1) else { return true };
        group.uses -= 1;
        group.leaving = group.leaving.saturating_sub(1);
        self.releasing = group.leaving >= group.uses;
        false
    }
}

/// All copies.
pub(crate) struct Copies {
    /// In chunks that never move, so that no call pays for all there are.
    chunks: Vec<Vec<Place>>,
    /// The slot of each, [`NO_SLOT`] where none is: who looks for those of some slots touches no others.
    slots: Vec<u16>,
    free: Vec<u32>,
    by_master: BTreeMap<NodeId, Index>,
    by_session: Vec<Chain>,
    hashing: Hashing,
}

struct Place {
    uses: u32,
    /// Neighbours among the copies of the session, a ring.
    next: u32,
    prev: u32,
    copy: Option<Copy>,
}

/// The copies of a session.
#[derive(Copy, Clone)]
struct Chain {
    first: u32,
    count: u32,
}

/// The copies at one master by the ids it gave them, in parts, so that no call ever pays for moving all of them.
///
/// Beside each stands the hash of its id, so that an index that grows looks at no copy.
struct Index(Vec<HashTable<(u32, u32)>>);

/// Set in the ids of copies and in no id of a table, so that the two are never taken for each other. Below the bit that clients
/// use for themselves.
const COPY_BIT: u64 = 1 << 62;
const USES_MAX: u32 = (1 << 30) - 1;
const NO_SLOT: u16 = u16::MAX;
const NONE: u32 = u32::MAX;
const NO_CHAIN: Chain = Chain { first: NONE, count: 0 };
const CHUNK: usize = 1_024;
const PARTS: usize = 64;

impl Index {
    fn new() -> Index {
        Index((0..PARTS).map(|_| HashTable::new()).collect())
    }

    fn part(&self, wide: u64) -> Option<&HashTable<(u32, u32)>> {
        self.0.get((wide >> 40) as usize % PARTS)
    }

    fn part_mut(&mut self, wide: u64) -> Option<&mut HashTable<(u32, u32)>> {
        self.0.get_mut((wide >> 40) as usize % PARTS)
    }
}

impl Copies {
    pub(crate) fn new(hashing: Hashing) -> Copies {
        Copies {
            chunks: Vec::new(),
            slots: Vec::new(),
            free: Vec::new(),
            by_master: BTreeMap::new(),
            by_session: Vec::new(),
            hashing,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Places there are, used or not.
    pub(crate) fn places(&self) -> u32 {
        self.slots.len() as u32
    }

    /// How many a session has.
    pub(crate) fn count_of(&self, session: u32) -> usize {
        self.chain(session).count as usize
    }

    /// Adds a copy, whose place nobody has said yet.
    pub(crate) fn add(&mut self, copy: Copy) -> u32 {
        let (session, slot) = (copy.session, copy.slot);
        let at = self.free.pop().unwrap_or_else(|| self.grow());
        if let Some(known) = self.slots.get_mut(at as usize) {
            *known = slot.0;
        }
        if let Some(place) = self.place_mut(at) {
            place.uses = if place.uses >= USES_MAX { 1 } else { place.uses + 1 };
            place.copy = Some(copy);
        }
        self.link(session, at);
        at
    }

    fn grow(&mut self) -> u32 {
        let at = self.slots.len();
        if at == self.chunks.len() * CHUNK {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.push(Place { uses: 0, next: NONE, prev: NONE, copy: None });
        }
        self.slots.push(NO_SLOT);
        at as u32
    }

    pub(crate) fn remove(&mut self, at: u32) -> Option<Copy> {
        let copy = self.place_mut(at)?.copy.take()?;
        if let Some(known) = self.slots.get_mut(at as usize) {
            *known = NO_SLOT;
        }
        self.free.push(at);
        self.unlink(copy.session, at);
        self.forget(at, copy.place);
        Some(copy)
    }

    pub(crate) fn get(&self, at: u32) -> Option<&Copy> {
        self.place(at)?.copy.as_ref()
    }

    pub(crate) fn get_mut(&mut self, at: u32) -> Option<&mut Copy> {
        self.place_mut(at)?.copy.as_mut()
    }

    fn place(&self, at: u32) -> Option<&Place> {
        self.chunks.get(at as usize / CHUNK)?.get(at as usize % CHUNK)
    }

    fn place_mut(&mut self, at: u32) -> Option<&mut Place> {
        self.chunks.get_mut(at as usize / CHUNK)?.get_mut(at as usize % CHUNK)
    }

    /// The first from `from` on, and before `end`, that is in one of these slots.
    pub(crate) fn next_in(&self, slots: &SlotSet, from: u32, end: u32) -> Option<u32> {
        let some = self.slots.get(from as usize..end as usize)?;
        let found = some.iter().position(|slot| *slot != NO_SLOT && slots.has(Slot(*slot)))?;
        Some(from + found as u32)
    }

    // ------------------------------------------------------------ masters

    /// Says where a copy's lock is.
    pub(crate) fn set_place(&mut self, at: u32, master: NodeId, lock: LockId) {
        let Some(copy) = self.get_mut(at) else { return };
        let before = copy.place.replace((master, lock));
        self.forget(at, before);
        let hash = self.hash(lock);
        let wide = widen(hash);
        if let Some(part) = self.by_master.entry(master).or_insert_with(Index::new).part_mut(wide) {
            part.insert_unique(wide, (at, hash), |entry| widen(entry.1));
        }
    }

    /// The slot of a copy has left its master.
    pub(crate) fn forget_place(&mut self, at: u32) {
        let place = self.get_mut(at).and_then(|copy| copy.place.take());
        self.forget(at, place);
    }

    /// Nothing is at this master any more: all its slots have gone to others.
    pub(crate) fn forget_master(&mut self, master: NodeId) {
        self.by_master.remove(&master);
    }

    fn forget(&mut self, at: u32, place: Option<(NodeId, LockId)>) {
        let Some((master, lock)) = place else { return };
        let wide = widen(self.hash(lock));
        let part = self.by_master.get_mut(&master).and_then(|index| index.part_mut(wide));
        if let Some(Ok(entry)) = part.map(|part| part.find_entry(wide, |entry| entry.0 == at)) {
            entry.remove();
        }
    }

    /// The copy a session has of a lock as its master numbers it: of one of a group, of which it may have others that wait, the one it
    /// uses.
    pub(crate) fn at_master(&self, session: u32, (master, lock): (NodeId, LockId)) -> Option<u32> {
        let wide = widen(self.hash(lock));
        let here = Some((master, lock));
        let part = self.by_master.get(&master)?.part(wide)?;
        let mine = |held: bool| {
            move |entry: &(u32, u32)| {
                let its = |copy: &Copy| copy.place == here && copy.session == session && copy.held.is_some() == held;
                self.get(entry.0).is_some_and(its)
            }
        };
        part.find(wide, mine(true)).or_else(|| part.find(wide, mine(false))).map(|entry| entry.0)
    }

    /// Whether a copy is found by where its lock is.
    fn is_placed(&self, at: u32, (master, lock): (NodeId, LockId)) -> bool {
        let wide = widen(self.hash(lock));
        let part = self.by_master.get(&master).and_then(|index| index.part(wide));
        part.is_some_and(|part| part.find(wide, |entry| entry.0 == at).is_some())
    }

    fn hash(&self, lock: LockId) -> u32 {
        (self.hashing.hash_one(lock.0) >> 32) as u32
    }

    // ------------------------------------------------------------ clients

    /// The id clients know a copy by.
    pub(crate) fn id(&self, at: u32) -> LockId {
        let uses = self.place(at).map_or(0, |p| p.uses);
        LockId(COPY_BIT | (u64::from(uses) << 32) | u64::from(at))
    }

    /// The copy a client speaks of, if it is the session's.
    pub(crate) fn find(&self, session: u32, id: LockId) -> Option<u32> {
        let at = (id.0 & u64::from(u32::MAX)) as u32;
        let same = self.get(at).is_some_and(|copy| copy.session == session) && self.id(at) == id;
        same.then_some(at)
    }

    /// The copies of a session, in the order they came.
    pub(crate) fn of_session(&self, session: u32) -> impl Iterator<Item = u32> + '_ {
        let chain = self.chain(session);
        let next = |at: &u32| Some(self.place(*at)?.next);
        core::iter::successors((chain.count > 0).then_some(chain.first), next).take(chain.count as usize)
    }

    fn chain(&self, session: u32) -> Chain {
        self.by_session.get(session as usize).copied().unwrap_or(NO_CHAIN)
    }

    fn set_chain(&mut self, session: u32, chain: Chain) {
        let index = session as usize;
        if self.by_session.len() <= index {
            self.by_session.resize(index + 1, NO_CHAIN);
        }
        if let Some(known) = self.by_session.get_mut(index) {
            *known = chain;
        }
    }

    fn join(&mut self, before: u32, after: u32) {
        if let Some(place) = self.place_mut(before) {
            place.next = after;
        }
        if let Some(place) = self.place_mut(after) {
            place.prev = before;
        }
    }

    fn link(&mut self, session: u32, at: u32) {
        let Chain { first, count } = self.chain(session);
        if count == 0 {
            self.join(at, at);
            return self.set_chain(session, Chain { first: at, count: 1 });
        }
        let last = self.place(first).map_or(first, |p| p.prev);
        self.join(last, at);
        self.join(at, first);
        self.set_chain(session, Chain { first, count: count + 1 });
    }

    fn unlink(&mut self, session: u32, at: u32) {
        let Chain { first, count } = self.chain(session);
        let Some((next, prev)) = self.place(at).map(|p| (p.next, p.prev)) else { return };
        self.join(prev, next);
        let first = if first == at { next } else { first };
        self.set_chain(session, if count <= 1 { NO_CHAIN } else { Chain { first, count: count - 1 } });
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Copy)> {
        (0u32..).zip(self.chunks.iter().flatten()).filter_map(|(at, place)| Some((at, place.copy.as_ref()?)))
    }

    /// `master_of`: of a slot, `None` for one that is on its way to another.
    pub(crate) fn check(&self, master_of: impl Fn(Slot) -> Option<NodeId>) -> Result<(), &'static str> {
        let mut found = 0;
        for (at, copy) in self.iter() {
            if self.slots.get(at as usize) != Some(&copy.slot.0) {
                return Err("a copy is not found by its slot");
            }
            if let (Some((place, lock)), Some(master)) = (copy.place, master_of(copy.slot))
                && (place != master || !self.is_placed(at, (master, lock)))
            {
                return Err("a copy is not found by its master's id");
            }
            found += usize::from(copy.place.is_some_and(|place| self.is_placed(at, place)));
            if copy.held.is_none() && copy.wait.is_none() {
                return Err("a copy that neither holds nor waits");
            }
        }
        let placed: usize = self.by_master.values().flat_map(|index| &index.0).map(HashTable::len).sum();
        if placed != found {
            return Err("places of copies are miscounted");
        }
        let mut counted = 0;
        for (session, chain) in (0u32..).zip(&self.by_session) {
            counted += chain.count as usize;
            if self.of_session(session).any(|at| self.get(at).is_none_or(|copy| copy.session != session)) {
                return Err("a copy is not found by its session");
            }
        }
        if counted == self.len() { Ok(()) } else { Err("copies of sessions are miscounted") }
    }
}

/// A hash as wide as an index wants one.
fn widen(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
