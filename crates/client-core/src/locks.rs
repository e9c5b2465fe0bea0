//! The locks of the session: the application's ids for them, the node's, and what must be claimed after a restart.
//!
//! The application's ids never change; the node's do when it restarts, or when another node takes its place. A lock's own id is made from its place here, so the
//! two kinds of number are never compared.

use alloc::{boxed::Box, vec::Vec};

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use lockstead_types::{
    Flags, LockId, Sealed, SpaceId, Token,
    message::Reclaim,
    reply::Grant,
    request::{Claim, OwnerRef},
    transaction::Part,
};

/// A lock of the session.
#[derive(Debug)]
pub(crate) enum Lock {
    /// Asked for, in a queue of the node.
    Waiting,
    /// Granted: claimed after a restart.
    Held(Held),
    /// The application has released it: never claimed again, whatever becomes of the release.
    Releasing(Held),
    /// Released one-way after its claim was sent: released for good when the claim is answered.
    Dropped(Held),
    /// It has become part of a lock above it in its hierarchy, of its transaction too: what it gave that one gives, until the end.
    TakenIn,
}

impl Lock {
    pub(crate) fn held(&self) -> Option<&Held> {
        match self {
            Lock::Waiting | Lock::TakenIn => None,
            Lock::Held(held) | Lock::Releasing(held) | Lock::Dropped(held) => Some(held),
        }
    }

    pub(crate) fn held_mut(&mut self) -> Option<&mut Held> {
        match self {
            Lock::Waiting | Lock::TakenIn => None,
            Lock::Held(held) | Lock::Releasing(held) | Lock::Dropped(held) => Some(held),
        }
    }

    /// [RESTART-8] A lock that the application has released is not claimed: the release may have had its effect, and the
    /// lock another holder. Except where this same home was sent a claim for it already: then the node may
    /// hold it for us, and it must be claimed again to learn its id and release it ([HOME-7]).
    fn is_to_claim(&self, home: Option<u32>) -> bool {
        match self {
            Lock::Waiting | Lock::TakenIn => false,
            Lock::Held(_) => true,
            // [HOME-7] The claim of before may have arrived.
            Lock::Releasing(held) | Lock::Dropped(held) => held.claimed_in == home,
        }
    }
}

/// What a claim says of a lock.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) space: SpaceId,
    pub(crate) name: Box<[u8]>,
    pub(crate) claim: Claim,
    pub(crate) token: Token,
    pub(crate) tag: u32,
    /// What proves it: of the newest grant, whatever less is claimed ([CLUSTER-18]).
    pub(crate) sealed: Option<Sealed>,
    /// With the application's number of the group.
    pub(crate) owner: OwnerRef,
    /// Which lock of the transaction it is.
    pub(crate) part: Option<Part>,
    pub(crate) flags: Flags,
    /// Grants that gave this same lock: a group's member may be given one twice.
    pub(crate) uses: u32,
    /// Uses that the node does not count: a claim brings back one.
    pub(crate) uncounted: u32,
    /// Releases of single uses that have no answer; the last use is released by one more.
    pub(crate) leaving: u32,
    /// The home that was sent a claim for this lock.
    pub(crate) claimed_in: Option<u32>,
    /// `claim` is less than the application was told: the answer to its conversion says so, if that is refused.
    pub(crate) weakened: bool,
}

/// The topmost bit of an id stays free, for the numbers of claims.
const GENERATION_MAX: u32 = u32::MAX >> 1;
/// What a claim keeps of the flags.
const CLAIMED_FLAGS: Flags = Flags(Flags::PERSISTENT.0 | Flags::NODLCKBLK.0 | Flags::NOBAST.0);

impl Held {
    /// What the newest grant says.
    pub(crate) fn take_grant(&mut self, grant: &Grant) {
        self.token = grant.token;
        self.sealed = sealed_by(grant);
    }

    pub(crate) fn kept_flags(flags: Flags) -> Flags {
        Flags(flags.0 & CLAIMED_FLAGS.0)
    }
}

enum Place {
    Free { generation: u32 },
    Used { generation: u32, wire: Option<LockId>, lock: Lock },
}

pub(crate) struct Locks {
    places: Vec<Place>,
    free: Vec<u32>,
    by_wire: HashMap<LockId, u32, FixedState>,
}

impl Locks {
    pub(crate) fn new() -> Locks {
        Locks { places: Vec::new(), free: Vec::new(), by_wire: HashMap::with_hasher(FixedState::default()) }
    }

    pub(crate) fn add(&mut self, wire: LockId, lock: Lock) -> LockId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place::Free { generation: 0 });
            (self.places.len() - 1) as u32
        });
        let place = &mut self.places[index as usize];
        let generation = place.generation().wrapping_add(1) & GENERATION_MAX;
        // Members of a group wait for one lock, and may have it already: whoever speaks of it means the one that is held.
        let is_held = !matches!(lock, Lock::Waiting);
        *place = Place::Used { generation, wire: Some(wire), lock };
        if is_held || !self.by_wire.contains_key(&wire) {
            self.by_wire.insert(wire, index);
        }
        id_of(index, generation)
    }

    pub(crate) fn get(&self, id: LockId) -> Option<&Lock> {
        match self.place(id)? {
            Place::Used { lock, .. } => Some(lock),
            Place::Free { .. } => None,
        }
    }

    pub(crate) fn get_mut(&mut self, id: LockId) -> Option<&mut Lock> {
        match self.place_mut(id)? {
            Place::Used { lock, .. } => Some(lock),
            Place::Free { .. } => None,
        }
    }

    /// The node's id; `None` while the node does not know the lock (before its claim was answered).
    pub(crate) fn wire_of(&self, id: LockId) -> Option<LockId> {
        match self.place(id)? {
            Place::Used { wire, .. } => *wire,
            Place::Free { .. } => None,
        }
    }

    /// The lock under a node's id.
    pub(crate) fn by_wire(&self, wire: LockId) -> Option<LockId> {
        let index = *self.by_wire.get(&wire)?;
        Some(id_of(index, self.places.get(index as usize)?.generation()))
    }

    pub(crate) fn set_wire(&mut self, id: LockId, new: LockId) {
        let Some(Place::Used { wire, .. }) = self.place_mut(id) else { return };
        let old = wire.replace(new);
        if let Some(old) = old.filter(|old| *old != new) {
            self.forget_wire(old, id);
        }
        self.by_wire.insert(new, index_of(id));
    }

    pub(crate) fn remove(&mut self, id: LockId) -> Option<Lock> {
        let place = self.place_mut(id)?;
        let generation = place.generation();
        let Place::Used { wire, lock, .. } = core::mem::replace(place, Place::Free { generation }) else { return None };
        self.free.push(index_of(id));
        if let Some(wire) = wire {
            self.forget_wire(wire, id);
        }
        Some(lock)
    }

    /// A lock has this number of the node no more; another one of a group may.
    fn forget_wire(&mut self, wire: LockId, id: LockId) {
        if self.by_wire.get(&wire) == Some(&index_of(id)) {
            self.by_wire.remove(&wire);
        }
    }

    /// The node knows a lock no more.
    pub(crate) fn take_in(&mut self, id: LockId) {
        let Some(Place::Used { wire, lock, .. }) = self.place_mut(id) else { return };
        *lock = Lock::TakenIn;
        if let Some(wire) = wire.take() {
            self.forget_wire(wire, id);
        }
    }

    /// The node restarted, or is another one: the ids of before mean nothing any more, and may be given to other locks.
    pub(crate) fn forget_wires(&mut self) {
        self.by_wire.clear();
        for place in &mut self.places {
            if let Place::Used { wire, .. } = place {
                *wire = None;
            }
        }
    }

    /// Locks to claim from a home.
    pub(crate) fn to_claim(&self, home: Option<u32>) -> impl Iterator<Item = LockId> {
        self.ids_where(move |lock| lock.is_to_claim(home))
    }

    /// Locks that are released and not to be claimed from this home are gone.
    pub(crate) fn forget_dropped(&mut self, home: Option<u32>) {
        let gone: Vec<LockId> =
            self.ids_where(|lock| matches!(lock, Lock::Dropped(_)) && !lock.is_to_claim(home)).collect();
        for lock in gone {
            self.remove(lock);
        }
    }

    pub(crate) fn ids_where(&self, wanted: impl Fn(&Lock) -> bool) -> impl Iterator<Item = LockId> {
        self.places.iter().enumerate().filter_map(move |(index, place)| match place {
            Place::Used { generation, lock, .. } if wanted(lock) => Some(id_of(index as u32, *generation)),
            _ => None,
        })
    }

    /// All that are held.
    pub(crate) fn held_mut(&mut self) -> impl Iterator<Item = &mut Held> {
        self.places.iter_mut().filter_map(|place| match place {
            Place::Used { lock: Lock::Held(held), .. } => Some(held),
            _ => None,
        })
    }

    pub(crate) fn clear(&mut self) {
        self.places.clear();
        self.free.clear();
        self.by_wire.clear();
    }

    fn place(&self, id: LockId) -> Option<&Place> {
        self.places.get(index_of(id) as usize).filter(|p| p.generation() == generation_of(id))
    }

    fn place_mut(&mut self, id: LockId) -> Option<&mut Place> {
        self.places.get_mut(index_of(id) as usize).filter(|p| p.generation() == generation_of(id))
    }
}

impl Held {
    /// One use less of several. Whether the node must be told.
    pub(crate) fn drop_use(&mut self) -> bool {
        self.uses = self.uses.saturating_sub(1);
        let counted = self.uncounted == 0;
        self.uncounted = self.uncounted.saturating_sub(1);
        counted
    }

    /// The claim for this lock under the application's id, which names it for as long as the session lives: the node's old
    /// ids could be the same for two locks of different incarnations.
    pub(crate) fn reclaim<'a>(&'a self, lock: LockId, group: Option<&'a [u8]>) -> Reclaim<'a> {
        Reclaim {
            space: self.space,
            name: &self.name,
            held: self.claim,
            token: self.token,
            lock,
            tag: self.tag,
            alone: self.owner == OwnerRef::Alone,
            group,
            part: self.part,
            flags: self.flags,
        }
    }
}

/// The proof that came with a grant.
pub(crate) fn sealed_by(grant: &Grant) -> Option<Sealed> {
    grant.seal.map(|seal| Sealed { claim: grant.claim, seal })
}

impl Place {
    fn generation(&self) -> u32 {
        match self {
            Place::Free { generation } | Place::Used { generation, .. } => *generation,
        }
    }
}

/// Never zero: places count from one.
fn id_of(index: u32, generation: u32) -> LockId {
    LockId((u64::from(generation) << 32) | (u64::from(index) + 1))
}

fn index_of(id: LockId) -> u32 {
    ((id.0 & 0xffff_ffff) as u32).wrapping_sub(1)
}

fn generation_of(id: LockId) -> u32 {
    (id.0 >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two members' requests of one session wait for one lock of their group, and are granted it together.
    #[test]
    fn one_of_two_places_with_a_number_does_not_take_it_away() {
        let mut locks = Locks::new();
        let wire = LockId(7);
        let (first, second) = (locks.add(wire, Lock::Waiting), locks.add(wire, Lock::Waiting));
        locks.set_wire(first, wire);
        locks.remove(second);
        assert_eq!(locks.by_wire(wire), Some(first));
        let third = locks.add(wire, Lock::Waiting);
        assert_eq!(locks.by_wire(wire), Some(first), "news are about the first");
        locks.remove(first);
        locks.set_wire(third, wire);
        assert_eq!(locks.by_wire(wire), Some(third));
    }
}
