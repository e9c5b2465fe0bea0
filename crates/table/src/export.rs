//! What is in some slots, as another table needs it to go on: read only, nothing changes here.

use alloc::{borrow::Cow, vec::Vec};

use lockstead_types::{Flags, LockId, Mode, SlotSet, SpaceId, Span, Time, Token, reply::Value, request::Claim};

use crate::{
    Claimant, OwnerId, Table,
    lock::{Lock, Traits, Wait},
    owner::ORPHANS,
    store::Ring,
};

/// A resource with all that is on it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExportedResource<'a> {
    /// Its lockspace.
    pub space: SpaceId,
    /// Its name.
    pub name: &'a [u8],
    /// Its value block; `None` where nothing was ever written: then it is empty and valid.
    pub value: Option<Value>,
    /// How many permits it has, where it has permits.
    pub permits: Option<u32>,
    /// Its locks in the order of its queues: GRANTED, CONVERTING, WAITING. Waits that were restored get their places at the thaw;
    /// until then their tickets tell their order.
    pub locks: Vec<ExportedLock<'a>>,
}

/// A lock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExportedLock<'a> {
    /// Its id here.
    pub lock: LockId,
    /// The name it was asked for by: that of a part of the resource, where it is of a part.
    pub name: Cow<'a, [u8]>,
    /// Whose.
    pub whose: Claimant,
    /// What is held, if anything. With `wanted` the lock is converting, without it is granted.
    pub held: Option<Claim>,
    /// The token held, [`Token::NONE`] where none is.
    pub token: Token,
    /// What is waited for, if anything.
    pub wanted: Option<ExportedWait<'a>>,
    /// Its tag.
    pub tag: u32,
    /// Whether it stands alone.
    pub alone: bool,
    /// PERSISTENT, NODLCKBLK, NOBAST.
    pub flags: Flags,
}

/// What a lock waits for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExportedWait<'a> {
    /// What came with the request.
    pub origin: u64,
    /// What is wanted.
    pub claim: Claim,
    /// Its flags.
    pub flags: Flags,
    /// How long it may still wait, `None` for ever.
    pub left: Option<Span>,
    /// How long it has waited.
    pub waited: Span,
    /// CONVDEADLK has let go of the old mode.
    pub demoted: bool,
    /// Its place among all that ever came: larger came later.
    pub ticket: u64,
    /// Its priority.
    pub priority: i8,
    /// What its grant is to write to the value block.
    pub value: Option<&'a [u8]>,
}

impl Table {
    /// All that is in some slots, resource by resource ([SLOT-4]). In a frozen slot that may be a resource without a lock, whose
    /// value block alone is known.
    pub fn export_slots<'a>(&'a self, now: Time, slots: &'a SlotSet) -> impl Iterator<Item = ExportedResource<'a>> {
        let resources = (0..self.resources.places()).filter(|r| !self.resources[*r].is_vacant());
        // [SLOT-4] Locks, orphans, waits and value blocks.
        resources.filter(|r| slots.has(self.slot_of(*r))).map(move |r| self.exported(now, r))
    }

    /// The locks of an owner: first those it waits for, then those it holds.
    pub fn owner_lock_ids(&self, owner: OwnerId) -> impl Iterator<Item = LockId> {
        self.locks_of(owner).map(|l| self.id(l))
    }

    /// The ticket of a lock that waits or converts: larger than those of all that came before it. `None` where nothing of that
    /// id waits.
    #[must_use]
    pub fn ticket_of(&self, lock: LockId) -> Option<u64> {
        let l = self.find_any(lock)?;
        self.wait(l).map(|w| w.ticket)
    }

    /// The lockspace of a lock; `None` where nothing of that id is.
    #[must_use]
    pub fn space_of_lock(&self, lock: LockId) -> Option<SpaceId> {
        let l = self.find_any(lock)?;
        Some(self.space_of(self.locks[l].resource).id)
    }

    /// Whether a lock is on this resource. `false` where nothing of that id is.
    #[must_use]
    pub fn is_lock_on(&self, lock: LockId, space: SpaceId, name: &[u8]) -> bool {
        let space = self.spaces.find(space);
        self.find_any(lock).is_some_and(|l| space.is_some_and(|space| self.is_on(l, space, name)))
    }

    /// What a lock is on; `None` where nothing of that id is.
    #[must_use]
    pub fn name_of_lock(&self, lock: LockId) -> Option<(SpaceId, &[u8])> {
        let resource = self.locks[self.find_any(lock)?].resource;
        Some((self.space_of(resource).id, self.name_of(resource)))
    }

    /// The token of a lock that is held; `None` where nothing of that id is.
    #[must_use]
    pub fn token_of(&self, lock: LockId) -> Option<Token> {
        let l = self.find_any(lock)?;
        Some(self.token(l)).filter(|token| *token != Token::NONE)
    }

    /// Where a lock is held, and what; `None` where nothing of that id is held.
    #[must_use]
    pub fn held(&self, lock: LockId) -> Option<(SpaceId, Claim)> {
        let l = self.find_any(lock).filter(|l| self.locks[*l].is_held())?;
        Some((self.space_of(self.locks[l].resource).id, self.claim(l, self.locks[l].mode)))
    }

    /// Whether a conversion of a lock to a mode is down, so that it would wait for nobody. `false` where nothing of that id is held.
    #[must_use]
    pub fn is_down(&self, lock: LockId, to: Mode) -> bool {
        let Some(l) = self.find_any(lock).filter(|l| self.locks[*l].is_held()) else { return false };
        self.modes_of(self.locks[l].resource).is_down(self.locks[l].mode, to)
    }

    /// Whether a lock is of what a name is of ([RANGE-8]).
    pub(crate) fn is_on(&self, l: u32, space: u16, name: &[u8]) -> bool {
        let Ok(named) = self.named(space, name) else { return false };
        self.find_resource(space, named.name).0 == Some(self.locks[l].resource)
            && self.extent(l) == named.extent.as_ref()
    }

    fn exported(&self, now: Time, resource: u32) -> ExportedResource<'_> {
        let rings = [Ring::Granted, Ring::Converting, Ring::Waiting];
        let locks = rings.into_iter().flat_map(|ring| self.ring(resource, ring));
        ExportedResource {
            space: self.space_of(resource).id,
            name: self.name_of(resource),
            value: self.known_value(resource),
            permits: self.pool(resource).map(|p| p.of),
            locks: locks.map(|l| self.exported_lock(now, l)).collect(),
        }
    }

    fn exported_lock(&self, now: Time, l: u32) -> ExportedLock<'_> {
        let lock: &Lock = &self.locks[l];
        let whose = match lock.owner {
            ORPHANS => Claimant::Orphan(self.labels.get(&l).copied().flatten()),
            owner => Claimant::Owner(OwnerId(owner)),
        };
        ExportedLock {
            lock: self.id(l),
            // [RANGE-8]
            name: match self.is_partial(l) {
                true => Cow::Owned(self.full_name(l).into()),
                false => Cow::Borrowed(self.name_of(lock.resource)),
            },
            whose,
            held: lock.is_held().then(|| self.claim(l, lock.mode)),
            token: self.token(l),
            wanted: self.wait(l).map(|wait| self.exported_wait(now, l, wait)),
            tag: self.tag(l),
            alone: lock.traits.has(Traits::ALONE),
            flags: lock.traits.flags(),
        }
    }

    fn exported_wait<'a>(&self, now: Time, l: u32, wait: &'a Wait) -> ExportedWait<'a> {
        ExportedWait {
            origin: wait.origin,
            claim: self.claim(l, wait.want),
            flags: wait.flags,
            left: wait.deadline.map(|deadline| deadline.since(now)),
            waited: now.since(wait.since),
            demoted: wait.demoted,
            ticket: wait.ticket,
            priority: wait.priority,
            value: wait.value.as_deref(),
        }
    }
}
