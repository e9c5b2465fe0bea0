//! A new request: checked, granted, refused, or queued.

use alloc::vec::Vec;

use lockstead_types::{
    Age, Extent, Flags, LimitName, Mode, Refusal, Time,
    flags::FlagUse,
    request::{Claim, LockRequest, OwnerRef, Wait},
    space::DeadlockPolicy,
};

use crate::{
    Effect, Found, Outcome, OwnerId, Table,
    block::mode_of,
    deadlock::Actor,
    extents::{Asker, Named},
    grant::{Ask, Place, What, may_grant},
    lock::Traits,
    owner::ORPHANS,
    prevent::Txn,
    promote::Granting,
    resource::Pool,
    slab::NIL,
    store::Ring,
    table::{Call, SpaceEntry},
    waits::Pending,
};

impl Table {
    /// Asks for a lock. `origin` comes back with whatever ends its wait.
    ///
    /// # Errors
    /// The refusal; then nothing has changed, but that an existing deadlock was broken, or holders were told
    /// (NOQUEUEBAST).
    pub fn lock(
        &mut self,
        now: Time,
        owner: OwnerId,
        origin: u64,
        req: &LockRequest<'_>,
        fx: &mut Vec<Effect>,
    ) -> Result<Outcome, Refusal> {
        let space = self.spaces.find(req.space).ok_or(Refusal::NoLockspace)?;
        let txn = self.owners.find(owner).ok_or(Refusal::Lost)?.txn;
        self.check_request(space, req)?;
        let alone = req.owner == OwnerRef::Alone;
        // [PREVENT-3] It is to end its transaction first.
        if matches!(txn, Txn::Wounded(_)) && !alone {
            return Err(Refusal::Aborted);
        }
        let Named { name, extent } = self.named(space, req.name)?;
        if let Some(extent) = &extent {
            self.check_extent(extent, req.flags, matches!(req.claim, Claim::Mode(_)))?;
        }
        let actor = (!alone).then_some(Actor::Owner(owner.0));
        let asker = extent.as_ref().map(|extent| Asker { me: NIL, actor, extent });
        let mut call = Call::new(now, fx);
        let (resource, hash) = self.find_resource(space, name);
        if let Some(resource) = resource {
            self.check_beside(resource, owner, asker.as_ref(), req)?;
        }
        if req.flags.has(Flags::ORPHAN) {
            return self.adopt(&mut call, owner, resource, req);
        }
        // [TOKEN-4] Nothing can be granted any more in this epoch.
        if self.is_exhausted() {
            return Err(Refusal::NoQuorum);
        }
        self.check_room(owner, resource, req.flags)?;
        let decided = self.decide_new(resource, space, asker.as_ref(), req);
        let age = || txn.age().filter(|_| !alone);
        if decided.is_none() && self.never_waits(space, age(), req.wait, req.flags) {
            if let Some(resource) = resource.filter(|_| req.flags.has(Flags::NOQUEUEBAST)) {
                self.notify_refused(&mut call, resource, asker.as_ref(), req.claim);
            }
            // [GRANT-10] It would have to wait, and was not to.
            return Err(Refusal::WouldWait);
        }
        if let (None, Some(resource)) = (decided, resource) {
            self.check_queue(resource)?;
        }
        let resource = resource.unwrap_or_else(|| self.make_resource(space, name, hash));
        let l = self.make_requested(resource, owner, req);
        if let Some(extent) = extent {
            self.add_extent(l, extent);
        }
        call.caller = l;
        let id = self.id(l);
        let ticket = self.next_ticket();
        if let Some((mode, alternative)) = decided {
            let granting =
                Granting { origin, mode, flags: req.flags, ticket, alternative, demoted: false, value: None };
            self.complete(&mut call, l, granting);
        } else {
            let pending = Pending {
                origin,
                want: mode_of(req.claim),
                flags: req.flags,
                wait: req.wait,
                priority: req.priority,
                ticket,
                demoted: false,
                value: None,
            };
            self.begin_wait(&mut call, l, pending);
        }
        self.settle(&mut call, resource);
        self.resolve(&mut call);
        match call.answer {
            Some(answer) => answer,
            None => Ok(Outcome::Queued(id)),
        }
    }

    /// The lock of an owner on a name, orphans and locks that stand alone aside.
    #[must_use]
    pub fn find(&self, owner: OwnerId, space: lockstead_types::SpaceId, name: &[u8], tag: u32) -> Option<Found> {
        let space = self.spaces.find(space)?;
        let named = self.named(space, name).ok()?;
        let (resource, _) = self.find_resource(space, named.name);
        let l = self.lock_of(resource?, owner, tag, named.extent.as_ref())?;
        let lock = &self.locks[l];
        Some(Found {
            lock: self.id(l),
            held: lock.is_held().then(|| self.claim(l, lock.mode)),
            wanted: self.wait(l).map(|w| self.claim(l, w.want)),
            token: self.token(l),
        })
    }

    /// What can be refused without looking at the resource.
    fn check_request(&self, space: u16, req: &LockRequest<'_>) -> Result<(), Refusal> {
        let entry = self.spaces.get(space).ok_or(Refusal::NoLockspace)?;
        // [FLAG-7] A resource has a name.
        if req.name.is_empty() {
            return Err(Refusal::Invalid);
        }
        // [LIMIT-1] Of bounded length.
        let most = self.limits.name_bytes.min(lockstead_types::limits::NAME_BYTES_CEILING);
        if req.name.len() > most as usize {
            return Err(Refusal::TooLong);
        }
        let mode = match req.claim {
            // [MODE-2] A mode of this lockspace.
            Claim::Mode(mode) if !entry.space.modes.has(mode) => return Err(Refusal::BadMode),
            Claim::Mode(mode) => Some(mode),
            // [PERMIT-1] At least one, at most all; [LIMIT-3] and of so many at most.
            Claim::Permits { take, of } if take == 0 || take > of => return Err(Refusal::Invalid),
            Claim::Permits { of, .. } if of > self.limits.permits => return Err(Refusal::Limit(LimitName::Permits)),
            Claim::Permits { .. } => None,
        };
        req.flags.check(FlagUse::Lock { null: mode.is_some() && mode == entry.null })?;
        check_alternatives(entry, mode.is_some(), req.flags)
    }

    /// What can be refused because of what is at the resource.
    fn check_beside(
        &self,
        resource: u32,
        owner: OwnerId,
        asker: Option<&Asker<'_>>,
        req: &LockRequest<'_>,
    ) -> Result<(), Refusal> {
        match (req.claim, self.pool(resource)) {
            (Claim::Permits { of, .. }, Some(pool)) if pool.of == of => {}
            (Claim::Mode(mode), None) => self.check_legal(resource, asker, mode)?,
            (Claim::Permits { .. }, None) if self.resources[resource].is_empty() => {}
            // [PERMIT-2] All who ask name the same number of permits, and modes and permits do not mix.
            _ => return Err(Refusal::Invalid),
        }
        // [GRANT-11] One lock of an owner, name and tag; those that stand alone are not counted.
        let extent = asker.map(|asker| asker.extent);
        if req.owner != OwnerRef::Alone && self.lock_of(resource, owner, req.tag, extent).is_some() {
            return Err(Refusal::Busy);
        }
        Ok(())
    }

    /// [MODE-3] Some modes cannot even be asked beside what is held or wanted there.
    pub(crate) fn check_legal(&self, resource: u32, asker: Option<&Asker<'_>>, mode: Mode) -> Result<(), Refusal> {
        // [MODE-3] Illegal beside what is held, and beside what is wanted: it may be held soon.
        let illegal = self.modes_of(resource).illegal_with(mode);
        if let Some(asker) = asker {
            return if self.is_there(resource, asker, illegal) { Err(Refusal::BadMode) } else { Ok(()) };
        }
        let wanted = self.queue(resource).map_or(Default::default(), |q| q.wanted_set);
        let there = self.resources[resource].held.union(wanted);
        if illegal.is_disjoint(there) { Ok(()) } else { Err(Refusal::BadMode) }
    }

    /// The lock of an owner at a resource by tag and extent. Walks the owner's locks and the resource's together and stops with the
    /// shorter list; in a lockspace with extents asks the index.
    pub(crate) fn lock_of(&self, resource: u32, owner: OwnerId, tag: u32, extent: Option<&Extent>) -> Option<u32> {
        let hit = |l: u32| {
            let lock = &self.locks[l];
            let mine = lock.resource == resource && lock.owner == owner.0 && owner.0 != ORPHANS;
            mine && !lock.traits.has(Traits::ALONE) && self.tag(l) == tag
        };
        if let Some(extent) = extent {
            return self.equal_extent(resource, extent, hit);
        }
        let here = [Ring::Granted, Ring::Converting, Ring::Waiting];
        let here = here.into_iter().flat_map(|ring| self.ring(resource, ring));
        // Both lists hold the lock if there is one, so either's end settles it.
        self.locks_of(owner).zip(here).find_map(|(a, b)| if hit(a) { Some(a) } else { Some(b).filter(|b| hit(*b)) })
    }

    /// Whether the bounds allow one more lock.
    fn check_room(&self, owner: OwnerId, resource: Option<u32>, flags: Flags) -> Result<(), Refusal> {
        // [LIMIT-4] Locks of one owner, [LIMIT-5] locks, [LIMIT-6] resources, [LIMIT-7] orphans to be.
        if self.owner_locks(owner) >= self.limits.locks_per_session {
            return Err(Refusal::Limit(LimitName::LocksPerSession));
        }
        if self.locks.used() >= self.limits.locks {
            return Err(Refusal::Limit(LimitName::Locks));
        }
        if resource.is_none() && self.resources.used() >= self.limits.resources {
            return Err(Refusal::Limit(LimitName::Resources));
        }
        self.check_orphans(flags, false)
    }

    /// [ORPHAN-6] Every PERSISTENT lock may become an orphan: the bound is on all of them, so that none has to be dropped
    /// when its owner ends.
    pub(crate) fn check_orphans(&self, flags: Flags, counted: bool) -> Result<(), Refusal> {
        // [ORPHAN-6] One more that may be left behind.
        let one_more = flags.has(Flags::PERSISTENT) && !counted;
        if one_more && self.persistent >= self.limits.orphans {
            return Err(Refusal::Limit(LimitName::Orphans));
        }
        Ok(())
    }

    /// [LIMIT-8] Whether one more may wait at a resource.
    pub(crate) fn check_queue(&self, resource: u32) -> Result<(), Refusal> {
        #[cfg(feature = "planted")]
        if lockstead_types::planted::is(lockstead_types::planted::Bug::NoWaiterLimit) {
            return Ok(());
        }
        // [LIMIT-8] Conversions count as well.
        if self.queue(resource).is_some_and(|q| q.len() >= self.limits.waiters_per_resource) {
            return Err(Refusal::Limit(LimitName::WaitersPerResource));
        }
        Ok(())
    }

    /// Whether a request that cannot be granted now is refused: it said so, or [DEAD-9] its lockspace does. `age`: that of the
    /// transaction it is for.
    pub(crate) fn never_waits(&self, space: u16, age: Option<Age>, wait: Wait, flags: Flags) -> bool {
        let by_policy = match self.spaces.get(space).map(|e| e.space.deadlock) {
            Some(DeadlockPolicy::NoWait) => true,
            // [PREVENT-4] Without an age it cannot be said for whom it may wait. [DEAD-5] NODLCKWT: nobody asks.
            Some(DeadlockPolicy::WaitDie | DeadlockPolicy::WoundWait) => age.is_none() && !flags.has(Flags::NODLCKWT),
            Some(DeadlockPolicy::Detect | DeadlockPolicy::Timeout) | None => false,
        };
        by_policy || wait == Wait::Never || flags.has(Flags::NOQUEUE)
    }

    /// The mode to grant at once, and whether it is the alternative one.
    fn decide_new(
        &self,
        resource: Option<u32>,
        space: u16,
        asker: Option<&Asker<'_>>,
        req: &LockRequest<'_>,
    ) -> Option<(Mode, bool)> {
        let want = mode_of(req.claim);
        let Some(resource) = resource else {
            return (!self.is_frozen_name(req.space, req.name)).then_some((want, false));
        };
        let modes = &self.spaces.get(space)?.space.modes;
        let fits = |mode: Mode| {
            let what = match req.claim {
                Claim::Mode(_) => What::Mode(mode),
                Claim::Permits { take, .. } => What::Permits(take),
            };
            let mut standing = match asker {
                Some(asker) => self.standing_beside(resource, asker, mode, Place::Arriving),
                None => self.standing(resource, Place::Arriving),
            };
            standing.held_back = self.is_held_back(resource, NIL, asker, u64::MAX, None, mode);
            may_grant(modes, &Ask { what, held: None, flags: req.flags }, &standing)
        };
        if fits(want) {
            return Some((want, false));
        }
        // [GRANT-9] ALTPR, ALTCW: the alternative mode, if that can be granted.
        self.alternative(resource, want, req.flags)
            .filter(|m| self.check_legal(resource, asker, *m).is_ok() && fits(*m))
            .map(|m| (m, true))
    }

    fn make_requested(&mut self, resource: u32, owner: OwnerId, req: &LockRequest<'_>) -> u32 {
        let alone = req.owner == OwnerRef::Alone;
        let permits = matches!(req.claim, Claim::Permits { .. });
        let traits = Traits::of(req.flags).with_if(alone, Traits::ALONE).with_if(permits, Traits::PERMITS);
        let l = self.make_lock(resource, owner.0, mode_of(req.claim), traits);
        if req.tag != 0 {
            self.side_mut(l).tag = req.tag;
        }
        if let Claim::Permits { take, of } = req.claim {
            self.side_mut(l).more = take;
            self.extra_mut(resource).permits.get_or_insert(Pool { of, taken: 0 });
        }
        l
    }

    /// A number larger than that of every request before.
    pub(crate) fn next_ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }
}

/// [FLAG-9] ALTPR and ALTCW need such a mode in the lockspace, and a mode to be the alternative of; [PERMIT-5] permits
/// have none.
pub(crate) fn check_alternatives(entry: &SpaceEntry, is_mode: bool, flags: Flags) -> Result<(), Refusal> {
    let [pr, cw] = entry.alternatives;
    let missing = (flags.has(Flags::ALTPR) && pr.is_none()) || (flags.has(Flags::ALTCW) && cw.is_none());
    let of_permits = !is_mode && (flags.has(Flags::ALTPR) || flags.has(Flags::ALTCW));
    // [FLAG-9] No such mode; [PERMIT-5] or permits.
    if missing || of_permits { Err(Refusal::Invalid) } else { Ok(()) }
}
