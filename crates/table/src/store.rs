//! Where records go: finding, making and freeing resources and locks, the rings of the queues, and the summaries of what
//! is held and wanted. Decides nothing.

use alloc::boxed::Box;

use core::hash::{BuildHasher, Hasher};
use lockstead_types::{LockId, Mode, ModeSet, Token, mode::MODES_MAX, request::Claim};

use crate::{
    OwnerId, Table,
    lock::{Body, Lock, Side, State, Told, Traits, Wait, id_of, parts_of},
    owner::ORPHANS,
    resource::{Extra, INLINE_NAME, Pool, Queue, Resource},
    slab::{NIL, Slab},
    table::INDEXES,
};

/// From so many holders on, the holders of each mode are counted instead of walked.
const COUNTED_HOLDERS: u32 = 8;

/// The queues of a resource.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Ring {
    Granted,
    Converting,
    Waiting,
}

impl Table {
    fn hash(&self, space: u16, name: &[u8]) -> u32 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u16(space);
        hasher.write(name);
        (hasher.finish() >> 32) as u32
    }

    pub(crate) fn name_of(&self, resource: u32) -> &[u8] {
        name_in(&self.resources[resource], &self.long_names)
    }

    /// The resource of a name, and its hash.
    pub(crate) fn find_resource(&self, space: u16, name: &[u8]) -> (Option<u32>, u32) {
        let hash = self.hash(space, name);
        let same = |entry: &(u32, u32)| {
            let resource = &self.resources[entry.0];
            entry.1 == hash && resource.space == space && name_in(resource, &self.long_names) == name
        };
        let wide = widen(hash);
        (self.names[index_of(wide)].find(wide, same).map(|entry| entry.0), hash)
    }

    pub(crate) fn make_resource(&mut self, space: u16, name: &[u8], hash: u32) -> u32 {
        let index = self.resources.take(Resource::vacant);
        let resource = &mut self.resources[index];
        *resource = Resource::vacant();
        resource.space = space;
        if self.spaces.get(space).is_some_and(|entry| entry.space.extents) {
            self.extra_mut(index).spread = Some(Box::default());
        }
        let resource = &mut self.resources[index];
        if name.len() <= INLINE_NAME {
            resource.set_short_name(name);
        } else {
            let place = self.long_names.take(|| Box::new([]));
            self.long_names[place] = name.into();
            resource.set_long_name(place);
        }
        let wide = widen(hash);
        // Its hash stands beside it, so that an index that grows looks at no resource: each would be a miss of the caches.
        self.names[index_of(wide)].insert_unique(wide, (index, hash), |entry| widen(entry.1));
        index
    }

    /// Frees a resource on which no lock is left, its value block with it ([VALUE-10]).
    pub(crate) fn free_resource(&mut self, index: u32) {
        let wide = widen(self.hash(self.resources[index].space, self.name_of(index)));
        if let Ok(entry) = self.names[index_of(wide)].find_entry(wide, |entry| entry.0 == index) {
            entry.remove();
        }
        // [VALUE-10] The value block goes with the last lock.
        let extra = self.resources[index].extra;
        if extra != NIL {
            self.extras[extra] = Extra::of(NIL);
            self.extras.give(extra);
        }
        if let Err(long) = self.resources[index].name() {
            self.long_names[long] = Box::new([]);
            self.long_names.give(long);
        }
        self.resources[index] = Resource::vacant();
        self.resources.give(index);
    }

    pub(crate) fn extra(&self, resource: u32) -> Option<&Extra> {
        let extra = self.resources[resource].extra;
        if extra == NIL { None } else { self.extras.get(extra) }
    }

    pub(crate) fn extra_mut(&mut self, resource: u32) -> &mut Extra {
        let mut extra = self.resources[resource].extra;
        if extra == NIL {
            extra = self.extras.take(|| Extra::of(resource));
            self.extras[extra] = Extra::of(resource);
            self.resources[resource].extra = extra;
        }
        &mut self.extras[extra]
    }

    /// About those that wait, `None` where nothing does.
    pub(crate) fn queue(&self, resource: u32) -> Option<&Queue> {
        self.extra(resource)?.queue.as_deref().filter(|q| q.len() > 0)
    }

    pub(crate) fn queue_mut(&mut self, resource: u32) -> &mut Queue {
        self.extra_mut(resource).queue.get_or_insert_with(|| Box::new(Queue::new()))
    }

    pub(crate) fn pool(&self, resource: u32) -> Option<Pool> {
        self.extra(resource).and_then(|e| e.permits)
    }

    /// The place of a lock of this owner.
    pub(crate) fn find_lock(&self, owner: OwnerId, id: LockId) -> Option<u32> {
        self.find_any(id).filter(|l| self.locks[*l].owner == owner.0 && owner.0 != ORPHANS)
    }

    /// The place of a lock, whosever it is.
    pub(crate) fn find_any(&self, id: LockId) -> Option<u32> {
        let (index, generation) = parts_of(id);
        let lock = self.locks.get(index)?;
        (lock.state != State::Vacant && lock.generation == generation).then_some(index)
    }

    pub(crate) fn id(&self, index: u32) -> LockId {
        id_of(index, self.locks[index].generation)
    }

    /// A new lock in no queue yet.
    pub(crate) fn make_lock(&mut self, resource: u32, owner: u32, mode: Mode, traits: Traits) -> u32 {
        let index = self.locks.take(Lock::vacant);
        let lock = &mut self.locks[index];
        let generation = match lock.generation.wrapping_add(1) {
            0 => 1,
            n => n,
        };
        *lock = Lock { resource, owner, mode, traits, generation, ..Lock::vacant() };
        self.persistent += u32::from(traits.has(Traits::PERSISTENT));
        index
    }

    /// Frees a lock that is in no queue and no owner's list, and its resource if it was the last there.
    pub(crate) fn free_lock(&mut self, index: u32) {
        let Lock { resource, generation, traits, .. } = self.locks[index];
        self.persistent -= u32::from(traits.has(Traits::PERSISTENT));
        if traits.has(Traits::EXTENT) {
            self.drop_extent(index);
        }
        self.drop_side(index);
        self.locks[index] = Lock { generation, ..Lock::vacant() };
        self.locks.give(index);
        if !self.resources[resource].is_empty() {
            return;
        }
        if self.outlives_its_locks(resource) {
            // [PERMIT-2] But how many permits it had is forgotten.
            self.extra_mut(resource).permits = None;
        } else {
            self.free_resource(resource);
        }
    }

    pub(crate) fn side(&self, index: u32) -> Option<&Side> {
        let side = self.locks[index].body.side();
        if side == NIL { None } else { self.sides.get(side) }
    }

    pub(crate) fn side_mut(&mut self, index: u32) -> &mut Side {
        let body = self.locks[index].body;
        let mut side = body.side();
        if side == NIL {
            side = self.sides.take(Side::default);
            self.sides[side] = Side { token: body.plain(), ..Side::default() };
            self.locks[index].body = Body::in_side(side);
        }
        &mut self.sides[side]
    }

    fn drop_side(&mut self, index: u32) {
        let side = self.locks[index].body.side();
        if side != NIL {
            self.locks[index].body = Body::token(self.sides[side].token);
            self.sides[side] = Side::default();
            self.sides.give(side);
        }
    }

    pub(crate) fn wait(&self, index: u32) -> Option<&Wait> {
        self.side(index)?.wait.as_ref()
    }

    pub(crate) fn wait_mut(&mut self, index: u32) -> Option<&mut Wait> {
        let side = self.locks[index].body.side();
        if side == NIL { None } else { self.sides[side].wait.as_mut() }
    }

    /// Takes the wait of a lock, and its side record if that holds nothing else.
    pub(crate) fn take_wait(&mut self, index: u32) -> Option<Wait> {
        let side = self.locks[index].body.side();
        if side == NIL {
            return None;
        }
        let wait = self.sides[side].wait.take();
        if let Some(deadline) = wait.as_ref().and_then(|w| w.deadline) {
            self.deadlines.remove(&(deadline, index));
        }
        if self.sides[side].tag == 0 && self.sides[side].more == 0 {
            self.drop_side(index);
        }
        wait
    }

    pub(crate) fn token(&self, index: u32) -> Token {
        self.side(index).map_or_else(|| self.locks[index].body.plain(), |s| s.token)
    }

    pub(crate) fn set_token(&mut self, index: u32, token: Token) {
        let side = self.locks[index].body.side();
        if side == NIL {
            self.locks[index].body = Body::token(token);
        } else {
            self.sides[side].token = token;
        }
    }

    pub(crate) fn tag(&self, index: u32) -> u32 {
        self.side(index).map_or(0, |s| s.tag)
    }

    pub(crate) fn take(&self, index: u32) -> u32 {
        let permits = self.locks[index].traits.has(Traits::PERMITS);
        if permits { self.side(index).map_or(0, |s| s.more) } else { 0 }
    }

    /// The claim of a lock in some mode, or its permits.
    pub(crate) fn claim(&self, index: u32, mode: Mode) -> Claim {
        let lock = &self.locks[index];
        if !lock.traits.has(Traits::PERMITS) {
            return Claim::Mode(mode);
        }
        Claim::Permits { take: self.take(index), of: self.pool(lock.resource).map_or(0, |p| p.of) }
    }

    // ------------------------------------------------------------------ rings

    fn head_mut(&mut self, resource: u32, ring: Ring) -> &mut u32 {
        let resource = &mut self.resources[resource];
        match ring {
            Ring::Granted => &mut resource.granted,
            Ring::Converting => &mut resource.converting,
            Ring::Waiting => &mut resource.waiting,
        }
    }

    pub(crate) fn head(&self, resource: u32, ring: Ring) -> u32 {
        let resource = &self.resources[resource];
        match ring {
            Ring::Granted => resource.granted,
            Ring::Converting => resource.converting,
            Ring::Waiting => resource.waiting,
        }
    }

    /// The lock after this one, [`NIL`] after the last.
    pub(crate) fn after(&self, ring_head: u32, index: u32) -> u32 {
        let next = self.locks[index].next;
        if next == ring_head { NIL } else { next }
    }

    /// The lock before this one, [`NIL`] before the first.
    pub(crate) fn before(&self, ring_head: u32, index: u32) -> u32 {
        if index == ring_head { NIL } else { self.locks[index].prev }
    }

    /// The last lock of a ring, [`NIL`] of an empty one.
    pub(crate) fn last(&self, ring_head: u32) -> u32 {
        if ring_head == NIL { NIL } else { self.locks[ring_head].prev }
    }

    /// The locks of a ring in order.
    pub(crate) fn ring(&self, resource: u32, ring: Ring) -> impl Iterator<Item = u32> + '_ {
        let head = self.head(resource, ring);
        let first = (head != NIL).then_some(head);
        core::iter::successors(first, move |l| Some(self.after(head, *l)).filter(|n| *n != NIL))
    }

    /// Puts a lock before `at`, at the end for [`NIL`].
    pub(crate) fn link_before(&mut self, ring: Ring, index: u32, at: u32) {
        let resource = self.locks[index].resource;
        let head = self.head(resource, ring);
        if head == NIL {
            self.locks[index].next = index;
            self.locks[index].prev = index;
            *self.head_mut(resource, ring) = index;
            return;
        }
        let next = if at == NIL { head } else { at };
        let prev = self.locks[next].prev;
        self.locks[index].next = next;
        self.locks[index].prev = prev;
        self.locks[prev].next = index;
        self.locks[next].prev = index;
        if at == head {
            *self.head_mut(resource, ring) = index;
        }
    }

    pub(crate) fn unlink(&mut self, ring: Ring, index: u32) {
        let Lock { resource, next, prev, .. } = self.locks[index];
        if next == index {
            *self.head_mut(resource, ring) = NIL;
            return;
        }
        self.locks[next].prev = prev;
        self.locks[prev].next = next;
        let head = self.head_mut(resource, ring);
        if *head == index {
            *head = next;
        }
    }

    // -------------------------------------------------------------- summaries

    /// Notes that `index` holds `mode` now.
    pub(crate) fn add_held(&mut self, index: u32, mode: Mode) {
        let at = self.locks[index].resource;
        let resource = &mut self.resources[at];
        resource.held = resource.held.with(mode);
        resource.holders += 1;
        if resource.extra == NIL && resource.holders <= COUNTED_HOLDERS {
            return;
        }
        let count = resource.holders > COUNTED_HOLDERS;
        let take = self.take(index);
        let extra = self.extra_mut(at);
        if let Some(pool) = &mut extra.permits {
            pool.taken = pool.taken.saturating_add(take);
        }
        match &mut extra.counts {
            Some(counts) => counts[usize::from(mode.0) % MODES_MAX] += 1,
            None if count => self.start_counting(at),
            None => {}
        }
        self.note_held(index, Some(mode));
    }

    /// Counts the holders of each mode. The lock just added is in its queue already, or `holders` would not say so.
    fn start_counting(&mut self, resource: u32) {
        let mut counts = Box::new([0; MODES_MAX]);
        for ring in [Ring::Granted, Ring::Converting] {
            for l in self.ring(resource, ring) {
                counts[usize::from(self.locks[l].mode.0) % MODES_MAX] += 1;
            }
        }
        self.extra_mut(resource).counts = Some(counts);
    }

    /// Notes that `index` no longer holds `mode`. It is out of its queue, or in another mode, already.
    pub(crate) fn remove_held(&mut self, index: u32, mode: Mode) {
        let at = self.locks[index].resource;
        self.resources[at].holders -= 1;
        let mut left = None;
        if self.resources[at].extra != NIL {
            let take = self.take(index);
            let extra = self.extra_mut(at);
            if let Some(pool) = &mut extra.permits {
                pool.taken = pool.taken.saturating_sub(take);
            }
            if let Some(counts) = &mut extra.counts {
                let count = &mut counts[usize::from(mode.0) % MODES_MAX];
                *count -= 1;
                left = Some(*count > 0);
            }
        }
        let left = left.unwrap_or_else(|| self.resources[at].holders > 0 && self.is_held_by_another(at, mode, index));
        if !left {
            self.resources[at].held = self.resources[at].held.without(mode);
        }
        if self.locks[index].traits.has(Traits::EXTENT) {
            self.note_held(index, None);
        }
    }

    fn is_held_by_another(&self, resource: u32, mode: Mode, than: u32) -> bool {
        let mut holders = self.ring(resource, Ring::Granted).chain(self.ring(resource, Ring::Converting));
        holders.any(|l| l != than && self.locks[l].mode == mode)
    }

    /// The modes held by others than this lock, which holds.
    pub(crate) fn held_by_others(&self, index: u32) -> ModeSet {
        let Lock { resource: at, mode, .. } = self.locks[index];
        let resource = &self.resources[at];
        let counts = self.extra(at).and_then(|e| e.counts.as_deref());
        let another = match counts {
            Some(counts) => counts[usize::from(mode.0) % MODES_MAX] > 1,
            None => resource.holders > 1 && self.is_held_by_another(at, mode, index),
        };
        if another { resource.held } else { resource.held.without(mode) }
    }

    pub(crate) fn set_told(&mut self, index: u32, told: Told) {
        self.locks[index].told = told;
    }
}

/// A hash as wide as the index wants one.
fn widen(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn name_in<'a>(resource: &'a Resource, long_names: &'a Slab<Box<[u8]>>) -> &'a [u8] {
    resource.name().unwrap_or_else(|long| &long_names[long])
}

fn index_of(wide: u64) -> usize {
    (wide >> 40) as usize % INDEXES
}
