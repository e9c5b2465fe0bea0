//! What members of a group ask of its locks.

use alloc::{boxed::Box, vec::Vec};

use lockstead_table::{Found, Outcome, OwnerId};
use lockstead_types::{
    Flags, GroupId, LockId, ModeTable, RequestId, Time, Token,
    message::Reclaim,
    peer::{PeerLock, PeerOwner},
    refusal::Refusal,
    reply::{Grant, Value},
    request::{Claim, ConvertRequest, LockRequest, ReleaseRequest, Wait},
    rows::LockReport,
};

use crate::{
    effects::WaitEnd,
    groups::{Waiter, Want},
    node::Node,
};

impl Node {
    pub(crate) fn on_group_lock(
        &mut self,
        now: Time,
        at: u32,
        id: RequestId,
        group: GroupId,
        request: &LockRequest<'_>,
    ) {
        let GroupId(group) = group;
        let outcome = self.try_group_lock(now, (at, id), group, request);
        self.on_group_outcome(now, (at, id), group, outcome);
    }

    /// A member asks for a lock. What it waits for is noted here.
    pub(crate) fn try_group_lock(
        &mut self,
        now: Time,
        (at, id): (u32, RequestId),
        group: u32,
        request: &LockRequest<'_>,
    ) -> Result<Outcome, Refusal> {
        let owner = self.owner_of_member(at, group)?;
        let never = request.wait == Wait::Never || request.flags.has(Flags::NOQUEUE);
        let Some(found) = self.table.find(owner, request.space, request.name, request.tag) else {
            return self.ask_for_group(now, owner, group, (at, id), request);
        };
        let modes = self.table.space(request.space).ok_or(Refusal::NoLockspace)?.modes.clone();
        match (found.held, found.wanted) {
            // [GROUP-2] What the group has is shared at once, without queueing, whoever waits. Not while its own conversion waits:
            // its grant would change mode and token under the newcomer ([GROUP-7]).
            (Some(held), None) if covers(&modes, held, request.claim) && !self.table.is_frozen_lock(found.lock) => {
                let grant = self.shared_grant(owner, held, &found, request.flags)?;
                self.add_use(at, group, found.lock);
                Ok(Outcome::Granted(grant))
            }
            // [GROUP-10] A claim, or a report that is still to come, may take it away: nobody new counts on it before the thaw.
            // [GROUP-3] What the group waits for is waited for together.
            (Some(known), None) | (None, Some(known)) if covers(&modes, known, request.claim) => {
                if never {
                    return Err(Refusal::WouldWait);
                }
                let waiter = self.new_waiter(now, group, (at, id), request);
                self.groups.add_waiter(group, found.lock, waiter);
                Ok(Outcome::Queued(found.lock))
            }
            // A stronger mode is asked by converting.
            _ => Err(Refusal::Busy),
        }
    }

    /// Asks the table, for the first member that wants the lock.
    fn ask_for_group(
        &mut self,
        now: Time,
        owner: OwnerId,
        group: u32,
        (at, id): (u32, RequestId),
        request: &LockRequest<'_>,
    ) -> Result<Outcome, Refusal> {
        // The wait of each member is timed here: others may join it and wait longer.
        let never = request.wait == Wait::Never || request.flags.has(Flags::NOQUEUE);
        let wait = if never { Wait::Never } else { Wait::Forever };
        let outcome = self.table.lock(now, owner, 0, &LockRequest { wait, ..*request }, &mut self.fx)?;
        match &outcome {
            Outcome::Granted(grant) => {
                self.groups.add_shared(group, grant.lock, Some(grant.claim));
                self.add_use(at, group, grant.lock);
            }
            Outcome::Queued(lock) => {
                self.groups.add_shared(group, *lock, None);
                let waiter = self.new_waiter(now, group, (at, id), request);
                self.groups.add_waiter(group, *lock, waiter);
            }
            // A new lock holds nothing that it could lose.
            Outcome::Demoted { why, .. } => return Err(*why),
        }
        Ok(outcome)
    }

    fn new_waiter(&self, now: Time, group: u32, (at, id): (u32, RequestId), request: &LockRequest<'_>) -> Waiter {
        let until = match request.wait {
            Wait::For(span) => Some(now.after(span)),
            Wait::Never | Wait::Forever => None,
        };
        let asked = PeerLock {
            space: request.space,
            name: request.name.into(),
            claim: request.claim,
            wait: request.wait,
            flags: request.flags,
            owner: PeerOwner::Group(self.groups.name(group).into()),
            tag: request.tag,
            priority: request.priority,
        };
        Waiter { at, id, until, want: Want::Lock(Box::new(asked)) }
    }

    pub(crate) fn shared_grant(
        &self,
        owner: OwnerId,
        held: Claim,
        found: &Found,
        flags: Flags,
    ) -> Result<Grant, Refusal> {
        let value = match flags.has(Flags::VALBLK) {
            true => Some(self.table.read_value(owner, found.lock)?),
            false => None,
        };
        Ok(Grant {
            lock: found.lock,
            claim: held,
            token: found.token,
            value,
            demoted: false,
            alternative: false,
            seal: None,
        })
    }

    pub(crate) fn on_group_convert(
        &mut self,
        now: Time,
        at: u32,
        id: RequestId,
        group: u32,
        request: &ConvertRequest<'_>,
    ) {
        let outcome = self.try_group_convert(now, (at, id), group, request);
        self.on_group_outcome(now, (at, id), group, outcome);
    }

    pub(crate) fn try_group_convert(
        &mut self,
        now: Time,
        (at, id): (u32, RequestId),
        group: u32,
        request: &ConvertRequest<'_>,
    ) -> Result<Outcome, Refusal> {
        let owner = self.owner_of_user(at, group, request.lock)?;
        let others = self.groups.users_of(group, request.lock) > 1;
        // [GROUP-7] Nobody changes a lock under another user's feet: a weaker mode takes away what that one relies on, a
        // stronger one brings a new token, and with the old one that one would be refused at what it guards.
        if others && !self.stays_as_it_is(group, request) {
            return Err(Refusal::Busy);
        }
        // [GROUP-7] Members that come while it waits would share a mode that CONVDEADLK may let go of, unsaid to them.
        if request.flags.has(Flags::CONVDEADLK) {
            return Err(Refusal::Invalid);
        }
        let outcome = self.table.convert(now, owner, 0, request, &mut self.fx)?;
        match &outcome {
            Outcome::Granted(grant) => {
                if let Some(shared) = self.groups.shared_mut(group, grant.lock) {
                    shared.held = Some(grant.claim);
                }
            }
            // One member asks, so the table can time it.
            Outcome::Queued(lock) => {
                self.groups.add_waiter(group, *lock, Waiter { at, id, until: None, want: Want::Conversion });
            }
            // Never for a group: CONVDEADLK was refused above.
            Outcome::Demoted { .. } => {}
        }
        Ok(outcome)
    }

    /// Whether a conversion only reads or writes the value block.
    fn stays_as_it_is(&self, group: u32, request: &ConvertRequest<'_>) -> bool {
        self.groups.shared(group, request.lock).and_then(|s| s.held) == Some(Claim::Mode(request.mode))
    }

    /// A member lets go of a lock. [GROUP-5] It is released with its last user.
    pub(crate) fn release_group_use(
        &mut self,
        now: Time,
        at: u32,
        group: u32,
        release: &ReleaseRequest<'_>,
    ) -> Result<(), Refusal> {
        let lock = release.lock;
        let Ok(owner) = self.owner_of_user(at, group, lock) else {
            // Not a user, but perhaps one that waits.
            let forced = release.flags.has(Flags::FORCEUNLOCK);
            return if forced { self.cancel_group_waits(now, at, group, lock) } else { Err(Refusal::NotHeld) };
        };
        let members = self.groups.map.get_mut(&group).map(|g| &mut g.members);
        let uses = members.and_then(|m| m.get_mut(&at)).and_then(|m| m.uses.get_mut(&lock));
        let last_use = uses.as_ref().is_none_or(|n| **n <= 1);
        let last_user = self.groups.users_of(group, lock) <= 1;
        #[cfg(feature = "planted")]
        let last_user = last_user || lockstead_types::planted::is(lockstead_types::planted::Bug::GroupLockGoes);
        if last_use && last_user {
            self.table.release(now, owner, release, &mut self.fx)?;
            self.lock_is_gone(now, group, lock);
            self.tidy_member(now, group, at);
            return Ok(());
        }
        self.write_value_in_place(now, owner, group, release)?;
        if !last_use {
            let member = self.groups.map.get_mut(&group).and_then(|g| g.members.get_mut(&at));
            if let Some(count) = member.and_then(|m| m.uses.get_mut(&lock)) {
                *count -= 1;
            }
            return Ok(());
        }
        // What this member still waits for on this lock goes with its use.
        let _none_waits = self.cancel_group_waits(now, at, group, lock);
        if let Some(value) = self.groups.map.get_mut(&group) {
            value.members.get_mut(&at).and_then(|m| m.uses.remove(&lock));
            value.locks.get_mut(&lock).map(|shared| shared.users.remove(&at));
        }
        self.tidy_member(now, group, at);
        Ok(())
    }

    /// What a user writes as it lets go, though the lock stays with others: a conversion to the mode that is held.
    pub(crate) fn write_value_in_place(
        &mut self,
        now: Time,
        owner: OwnerId,
        group: u32,
        release: &ReleaseRequest<'_>,
    ) -> Result<(), Refusal> {
        if release.value.is_none() && !release.flags.has(Flags::IVVALBLK) {
            return Ok(());
        }
        let held = self.groups.shared(group, release.lock).and_then(|shared| shared.held);
        let Some(Claim::Mode(mode)) = held else { return Ok(()) };
        let flags = Flags(release.flags.0 & !Flags::FORCEUNLOCK.0).with(Flags::NOQUEUE);
        let convert = ConvertRequest { lock: release.lock, mode, wait: Wait::Never, flags, value: release.value };
        self.table.convert(now, owner, 0, &convert, &mut self.fx).map(|_| ())
    }

    /// Ends the waits of one member for one lock.
    pub(crate) fn cancel_group_waits(&mut self, now: Time, at: u32, group: u32, lock: LockId) -> Result<(), Refusal> {
        let shared = self.groups.shared(group, lock).ok_or(Refusal::NotHeld)?;
        let own: Vec<RequestId> = shared.waiters.iter().filter(|w| w.at == at).map(|w| w.id).collect();
        if own.is_empty() {
            return Err(Refusal::NotHeld);
        }
        for id in own {
            self.end_member_wait(now, at, group, lock, id, WaitEnd::Cancelled);
        }
        Ok(())
    }

    pub(crate) fn cancel_group_wait(
        &mut self,
        now: Time,
        at: u32,
        group: u32,
        lock: LockId,
        id: RequestId,
    ) -> Result<(), Refusal> {
        self.end_member_wait(now, at, group, lock, id, WaitEnd::Cancelled);
        Ok(())
    }

    /// Ends the waits of members whose time is over.
    pub(crate) fn expire_group_waits(&mut self, now: Time) {
        while let Some(timer) = self.groups.timers.first_entry().filter(|timer| timer.key().0 <= now) {
            let ((_, at, id), lock) = timer.remove_entry();
            if let Some(group) = self.groups.locks.get(&lock).copied() {
                self.end_member_wait(now, at, group, lock, id, WaitEnd::Refused(Refusal::Timeout));
                self.tell_effects(now);
            }
        }
    }

    pub(crate) fn read_group_value(&self, at: u32, group: u32, lock: LockId) -> Result<Value, Refusal> {
        let owner = self.owner_of_user(at, group, lock)?;
        self.table.read_value(owner, lock)
    }

    /// A claim of a member.
    pub(crate) fn reclaim_for_group(
        &mut self,
        now: Time,
        at: u32,
        name: &[u8],
        claim: &Reclaim<'_>,
    ) -> Result<Grant, Refusal> {
        let group = if self.is_member() { self.enter_group(at, name)? } else { self.try_group_attach(at, name)? };
        let owner = self.owner_of_member(at, group)?;
        let claimed = self.claim_for_group(now, (at, group), owner, claim);
        if let Ok(grant) = &claimed {
            let lock = grant.lock;
            let known =
                self.groups.map.get(&group).and_then(|g| g.members.get(&at)).map(|m| m.uses.contains_key(&lock));
            // At a master a claim brings back one use, however often it comes.
            if !self.is_member() || known == Some(false) || self.is_unclaimed(at, lock) {
                self.add_use(at, group, lock);
            }
        }
        self.tidy_member(now, group, at);
        claimed
    }

    fn claim_for_group(
        &mut self,
        now: Time,
        (at, group): (u32, u32),
        owner: OwnerId,
        claim: &Reclaim<'_>,
    ) -> Result<Grant, Refusal> {
        let Some(found) = self.table.find(owner, claim.space, claim.name, claim.tag) else {
            let grant = match self.is_member() {
                true => self.table.claim_in(now, owner, claim, &mut self.fx)?,
                false => self.table.reclaim(now, owner, claim, &mut self.fx)?,
            };
            self.groups.add_shared(group, grant.lock, Some(grant.claim));
            return Ok(grant);
        };
        let lock = found.lock;
        let alone = self.groups.shared(group, lock).is_some_and(|s| s.users.iter().all(|user| *user == at));
        if self.table.is_frozen_lock(lock) {
            // [RESTART-12] Claims of members merge: the first brings the lock back, the others become users of it.
            self.table.merge(now, owner, &as_report(claim), 0, &mut self.fx)?;
            self.look_at_shared(owner, group, claim.space, claim.name, claim.tag);
            self.end_conversions_of_others(now, at, group, lock);
        } else if !self.groups.shared(group, lock).is_some_and(|s| s.users.contains(&at)) {
            // [SLOT-8] Others may have been granted it meanwhile, its group's other members too.
            return Err(Refusal::Lost);
        } else if alone {
            let grant = self.table.claim_in(now, owner, claim, &mut self.fx)?;
            if let Some(shared) = self.groups.shared_mut(group, grant.lock) {
                shared.held = Some(grant.claim);
            }
            return Ok(grant);
        }
        let found = self.table.find(owner, claim.space, claim.name, claim.tag).ok_or(Refusal::Lost)?;
        let modes = self.table.space(claim.space).ok_or(Refusal::NoLockspace)?.modes.clone();
        let held = found.held.filter(|held| covers(&modes, *held, claim.held)).ok_or(Refusal::Lost)?;
        self.shared_grant(owner, held, &found, Flags::NONE)
    }

    /// [GROUP-7] Another user comes back to a lock that a member converts: that one asked while nobody knew of this user.
    pub(crate) fn end_conversions_of_others(&mut self, now: Time, at: u32, group: u32, lock: LockId) {
        let Some(shared) = self.groups.shared(group, lock).filter(|shared| shared.held.is_some()) else { return };
        let conversion = |w: &&Waiter| w.at != at && matches!(w.want, Want::Conversion);
        let ended: Vec<(u32, RequestId)> = shared.waiters.iter().filter(conversion).map(|w| (w.at, w.id)).collect();
        for (of, id) in ended {
            self.end_member_wait(now, of, group, lock, id, WaitEnd::Refused(Refusal::Busy));
        }
    }

    /// A lock of a group has become another in the table: what it holds now, and who waits for that.
    pub(crate) fn look_at_shared(
        &mut self,
        owner: OwnerId,
        group: u32,
        space: lockstead_types::SpaceId,
        name: &[u8],
        tag: u32,
    ) {
        let Some(found) = self.table.find(owner, space, name, tag) else { return };
        let Some(shared) = self.groups.shared_mut(group, found.lock) else { return };
        shared.held = found.held;
        if found.held.is_some() {
            let join = |w: &mut Waiter| matches!(w.want, Want::Lock(_));
            let joiners: Vec<Waiter> = shared.waiters.extract_if(.., join).collect();
            shared.joiners.extend(joiners);
            if !shared.joiners.is_empty() {
                self.groups.joined.insert(found.lock);
            }
        }
    }

    fn owner_of_member(&self, at: u32, group: u32) -> Result<OwnerId, Refusal> {
        let value = self.groups.map.get(&group).filter(|g| g.members.contains_key(&at));
        value.map(|g| g.owner).ok_or(Refusal::NotHeld)
    }

    fn owner_of_user(&self, at: u32, group: u32, lock: LockId) -> Result<OwnerId, Refusal> {
        let value = self.groups.map.get(&group).ok_or(Refusal::NotHeld)?;
        let uses = value.members.get(&at).is_some_and(|member| member.uses.contains_key(&lock));
        if uses { Ok(value.owner) } else { Err(Refusal::NotHeld) }
    }
}

/// A claim as a home would report it.
fn as_report<'a>(claim: &Reclaim<'a>) -> LockReport<'a> {
    LockReport {
        session: None,
        orphan: false,
        space: claim.space,
        name: claim.name,
        held: Some(claim.held),
        token: claim.token,
        before: Token::NONE,
        wanted: None,
        tag: claim.tag,
        alone: false,
        flags: claim.flags,
        value: None,
        group: None,
    }
}

/// Whether who holds `held` has all that `asked` would give.
fn covers(modes: &ModeTable, held: Claim, asked: Claim) -> bool {
    match (held, asked) {
        (Claim::Mode(held), Claim::Mode(asked)) => modes.has(asked) && modes.is_down(held, asked),
        (Claim::Permits { take, of }, Claim::Permits { take: asked, of: asked_of }) => of == asked_of && asked <= take,
        (Claim::Mode(_), Claim::Permits { .. }) | (Claim::Permits { .. }, Claim::Mode(_)) => false,
    }
}
