//! Blocking notices: telling holders that somebody waits for them.

use alloc::vec::Vec;

use lockstead_types::{LockId, Mode, ModeSet, request::Claim};

use crate::{
    Effect, OwnerId, Table,
    extents::Asker,
    lock::{State, Told, Traits},
    owner::ORPHANS,
    slab::NIL,
    store::Ring,
    table::Call,
};

impl Table {
    /// Tells every holder in the way of those that wait what it must be told.
    pub(crate) fn notify(&mut self, call: &mut Call<'_>, resource: u32) {
        #[cfg(feature = "planted")]
        if lockstead_types::planted::is(lockstead_types::planted::Bug::NoBlocking) {
            return;
        }
        let Some(queue) = self.queue(resource) else { return };
        let wanted = queue.wanted_set;
        // Holders were told already, and no grant came since: a long queue costs nothing at each arrival.
        if queue.told_for == Some(wanted) {
            return;
        }
        self.tell(call, resource, Ring::Granted, wanted);
        self.queue_mut(resource).told_for = Some(wanted);
    }

    /// [BLOCK-6] NOQUEUEBAST: a request that was refused still tells holders, those that convert included.
    pub(crate) fn notify_refused(
        &mut self,
        call: &mut Call<'_>,
        resource: u32,
        asker: Option<&Asker<'_>>,
        claim: Claim,
    ) {
        // [BLOCK-6] Holders that convert too.
        let wanted = ModeSet::EMPTY.with(mode_of(claim));
        if let Some(asker) = asker {
            let conflicts = self.modes_of(resource).conflicts_of(mode_of(claim));
            for holder in self.holding_beside(resource, asker, conflicts) {
                self.tell_one(call, holder, wanted, Some(claim));
            }
            return;
        }
        for ring in [Ring::Granted, Ring::Converting] {
            let mut l = self.head(resource, ring);
            while l != NIL {
                self.tell_one(call, l, wanted, Some(claim));
                l = self.after(self.head(resource, ring), l);
            }
        }
    }

    fn tell(&mut self, call: &mut Call<'_>, resource: u32, ring: Ring, wanted: ModeSet) {
        let mut l = self.head(resource, ring);
        while l != NIL {
            self.tell_one(call, l, wanted, None);
            l = self.after(self.head(resource, ring), l);
        }
    }

    pub(crate) fn tell_one(&mut self, call: &mut Call<'_>, l: u32, wanted: ModeSet, refused: Option<Claim>) {
        let Some(mode) = self.to_tell(l, wanted) else { return };
        let lock = &self.locks[l];
        // [BLOCK-3] Not again, until a mode blocks that is not weaker or the same, or the lock is granted again.
        let known = lock.told.mode().is_some_and(|told| self.modes_of(lock.resource).is_down(told, mode));
        if known {
            return;
        }
        let claim = refused.unwrap_or_else(|| self.blocked_claim(l, mode));
        call.fx.push(Effect::Blocking { owner: OwnerId(lock.owner), lock: self.id(l), claim });
        self.set_told(l, Told::of(mode));
    }

    /// The strongest of the wanted modes that this holder keeps waiting, if it is to be told at all.
    fn to_tell(&self, l: u32, wanted: ModeSet) -> Option<Mode> {
        let lock = &self.locks[l];
        // [BLOCK-5] Not where the holder asked for silence, and nobody is told for an orphan.
        if lock.traits.has(Traits::NOBAST) || lock.owner == ORPHANS {
            return None;
        }
        if lock.traits.has(Traits::PERMITS) {
            // [PERMIT-4] Whoever holds permits keeps waiting who wants some.
            return wanted.iter().next();
        }
        // [BLOCK-1] Told are those in the way, [BLOCK-2] of the strongest mode they are in the way of.
        let blocked = wanted.0 & self.modes_of(lock.resource).blocked_by(lock.mode).0;
        31u32.checked_sub(blocked.leading_zeros()).map(|m| Mode(m as u8))
    }

    fn blocked_claim(&self, l: u32, mode: Mode) -> Claim {
        let lock = &self.locks[l];
        if !lock.traits.has(Traits::PERMITS) {
            return Claim::Mode(mode);
        }
        let first = self.head(lock.resource, Ring::Waiting);
        if first == NIL { self.claim(l, mode) } else { self.claim(first, mode) }
    }

    /// The blocking notices that hold now for every lock of an owner: for one that comes back after its connection broke
    /// ([BLOCK-7]).
    pub fn repeat_blocking(&mut self, owner: OwnerId, fx: &mut Vec<Effect>) {
        let locks: Vec<u32> = self.locks_of(owner).collect();
        for l in locks {
            // [BLOCK-4] A lock that converts gets none.
            if self.locks[l].state != State::Granted {
                continue;
            }
            let wanted = self.queue(self.locks[l].resource).is_some().then(|| self.wanted_beside(l));
            let mode = wanted.and_then(|wanted| self.to_tell(l, wanted));
            // [BLOCK-7] Whatever it was told before, it may not have heard: who waited is gone, the notice went nowhere, and the
            // next one that waits for the same must not be kept from it as told already.
            self.set_told(l, mode.map_or(Told::NOTHING, Told::of));
            if let Some(mode) = mode {
                fx.push(Effect::Blocking { owner, lock: self.id(l), claim: self.blocked_claim(l, mode) });
            }
        }
    }

    /// What a lock keeps waiting, as its holder would be told: for one that begins to use it beside others.
    #[must_use]
    pub fn blocking_now(&self, lock: LockId) -> Option<Claim> {
        let l = self.find_any(lock).filter(|l| self.locks[*l].state == State::Granted)?;
        let wanted = self.queue(self.locks[l].resource).is_some().then(|| self.wanted_beside(l))?;
        self.to_tell(l, wanted).map(|mode| self.blocked_claim(l, mode))
    }

    /// Somebody begins to use a lock beside others: whom it keeps waiting from now on it must be told, though these were told of such
    /// a one before.
    pub fn tell_anew(&mut self, lock: LockId) {
        let Some(l) = self.find_any(lock) else { return };
        self.set_told(l, Told::NOTHING);
        let resource = self.locks[l].resource;
        if self.queue(resource).is_some() {
            self.queue_mut(resource).told_for = None;
        }
    }

    /// The locks of an owner: first those that wait, then those held.
    pub(crate) fn locks_of(&self, owner: OwnerId) -> impl Iterator<Item = u32> + '_ {
        let first = self.owners.find(owner).map_or(NIL, |o| o.first);
        self.owner_ring(first)
    }

    pub(crate) fn owner_ring(&self, first: u32) -> impl Iterator<Item = u32> + '_ {
        let start = (first != NIL).then_some(first);
        core::iter::successors(start, move |l| {
            let next = self.locks[*l].owner_next;
            (next != first).then_some(next)
        })
    }
}

/// The mode a claim is counted under among the wanted; permits are all counted under mode 0.
pub(crate) fn mode_of(claim: Claim) -> Mode {
    match claim {
        Claim::Mode(mode) => mode,
        Claim::Permits { .. } => Mode(0),
    }
}
