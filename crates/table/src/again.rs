//! A wait whose session has come to another home: it goes on under the number it has there, or stands again where it stood.

use lockstead_types::{
    LockId, Time,
    request::{ConvertRequest, LockRequest, OwnerRef, Stood},
};

use crate::{OwnerId, Table, block::mode_of, lock::Traits};

impl Table {
    /// Numbers anew what an owner's new lock waits for, if it is what `req` asks: `origin` comes back with its end from here on. Its
    /// ticket, `None` where no such thing waits.
    pub fn lock_goes_on(&mut self, owner: OwnerId, lock: LockId, origin: u64, req: &LockRequest<'_>) -> Option<u64> {
        let l = self.find_lock(owner, lock).filter(|_| self.is_asked(owner, lock, req))?;
        let held = self.locks[l].is_held();
        let wait = self.wait_mut(l).filter(|w| !held && w.want == mode_of(req.claim) && w.flags == req.flags)?;
        wait.origin = origin;
        Some(wait.ticket)
    }

    /// The same of a conversion.
    pub fn conversion_goes_on(&mut self, owner: OwnerId, origin: u64, req: &ConvertRequest<'_>) -> Option<u64> {
        let l = self.find_lock(owner, req.lock)?;
        let same =
            |w: &crate::lock::Wait| w.want == req.mode && w.flags == req.flags && w.value.as_deref() == req.value;
        let held = self.locks[l].is_held();
        let wait = self.wait_mut(l).filter(|w| held && same(w))?;
        wait.origin = origin;
        Some(wait.ticket)
    }

    /// Whether a lock of an owner is one that this request asks for, its mode aside.
    #[must_use]
    pub fn is_asked(&self, owner: OwnerId, lock: LockId, req: &LockRequest<'_>) -> bool {
        let Some(l) = self.find_lock(owner, lock) else { return false };
        let Some(space) = self.spaces.find(req.space) else { return false };
        let lock = &self.locks[l];
        let alone = lock.traits.has(Traits::ALONE) == (req.owner == OwnerRef::Alone);
        let kind =
            lock.traits.has(Traits::PERMITS) == matches!(req.claim, lockstead_types::request::Claim::Permits { .. });
        alone && kind && self.tag(l) == req.tag && self.is_on(l, space, req.name)
    }

    /// [SLOT-10] Lets what has just begun to wait in a frozen slot stand where it stood under the slot's master before: its ticket
    /// from here on. `None` where the slot is not frozen, or nothing of that id waits.
    pub fn stand_again(&mut self, now: Time, lock: LockId, stood: Stood) -> Option<u64> {
        let l = self.find_any(lock)?;
        let resource = self.locks[l].resource;
        let priority = self.wait(l).filter(|_| self.is_frozen_at(resource))?.priority;
        let since = now.before(stood.waited);
        let rank = self.rank(resource, since, priority);
        // [SLOT-10] None that was never given: those to come would stand before it.
        let known = (1..=self.tickets).contains(&stood.ticket);
        let wait = self.wait_mut(l)?;
        if known {
            // It came to the master before: there it was tried as one that comes.
            (wait.ticket, wait.rank, wait.since, wait.held_up) = (stood.ticket, rank, since, false);
        }
        let ticket = wait.ticket;
        let queue = self.queue_mut(resource);
        queue.straight = false;
        queue.restored = true;
        Some(ticket)
    }
}
