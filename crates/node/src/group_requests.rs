//! What members of a group ask of its locks.

use alloc::{collections::BTreeSet, vec::Vec};

use lockstead_table::{Found, Outcome, OwnerId};
use lockstead_types::{
    Flags, GroupId, LockId, ModeTable, RequestId, Time,
    message::Reclaim,
    refusal::Refusal,
    reply::{Grant, Reply, Value},
    request::{Claim, ConvertRequest, LockRequest, ReleaseRequest, Wait},
};

use crate::{
    effects::WaitEnd,
    groups::{Shared, Waiter},
    ledger::{Pend, Waiting},
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
        if let Err(why) = self.try_group_lock(now, at, id, group, request) {
            self.refuse(at, id, why);
        }
        self.tell_effects(now);
    }

    fn try_group_lock(
        &mut self,
        now: Time,
        at: u32,
        id: RequestId,
        group: u32,
        request: &LockRequest<'_>,
    ) -> Result<(), Refusal> {
        let owner = self.owner_of_member(at, group)?;
        let never = request.wait == Wait::Never || request.flags.has(Flags::NOQUEUE);
        let until = match request.wait {
            Wait::For(span) => Some(now.after(span)),
            Wait::Never | Wait::Forever => None,
        };
        let waiter = Waiter { session: at, id, until };
        let Some(found) = self.table.find(owner, request.space, request.name, request.tag) else {
            return self.ask_for_group(now, owner, group, waiter, never, request);
        };
        let modes = self.table.space(request.space).ok_or(Refusal::NoLockspace)?.modes.clone();
        match (found.held, found.wanted) {
            // [GROUP-2] What the group has is shared at once, without queueing, whoever waits. Not while its own conversion waits:
            // its grant would change mode and token under the newcomer ([GROUP-7]).
            (Some(held), None) if covers(&modes, held, request.claim) => {
                let grant = self.shared_grant(owner, held, &found, request.flags)?;
                self.add_use(at, group, found.lock);
                self.counters.grants += 1;
                self.answer(at, id, Reply::Granted(grant));
                Ok(())
            }
            // [GROUP-3] What the group waits for is waited for together.
            (None, Some(wanted)) if covers(&modes, wanted, request.claim) => {
                if never {
                    return Err(Refusal::WouldWait);
                }
                self.wait_in_group(now, group, found.lock, waiter);
                Ok(())
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
        waiter: Waiter,
        never: bool,
        request: &LockRequest<'_>,
    ) -> Result<(), Refusal> {
        // The wait of each member is timed here: others may join it and wait longer.
        let wait = if never { Wait::Never } else { Wait::Forever };
        let outcome = self.table.lock(now, owner, 0, &LockRequest { wait, ..*request }, &mut self.fx)?;
        let lock = match &outcome {
            Outcome::Granted(grant) => grant.lock,
            Outcome::Queued(lock) => *lock,
            // A new lock holds nothing that it could lose.
            Outcome::Demoted { why, .. } => return Err(*why),
        };
        let held = match &outcome {
            Outcome::Granted(grant) => Some(grant.claim),
            Outcome::Queued(_) | Outcome::Demoted { .. } => None,
        };
        self.add_shared(group, lock, held);
        match outcome {
            Outcome::Granted(grant) => {
                self.add_use(waiter.session, group, lock);
                self.counters.grants += 1;
                self.answer(waiter.session, waiter.id, Reply::Granted(grant));
            }
            Outcome::Queued(_) => self.wait_in_group(now, group, lock, waiter),
            Outcome::Demoted { .. } => {}
        }
        Ok(())
    }

    fn add_shared(&mut self, group: u32, lock: LockId, held: Option<Claim>) {
        let shared = Shared { held, users: BTreeSet::new(), waiters: Vec::new() };
        if let Some(value) = self.groups.map.get_mut(&group) {
            value.locks.insert(lock, shared);
            self.groups.locks.insert(lock, group);
        }
    }

    fn shared_grant(&self, owner: OwnerId, held: Claim, found: &Found, flags: Flags) -> Result<Grant, Refusal> {
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

    fn wait_in_group(&mut self, now: Time, group: u32, lock: LockId, waiter: Waiter) {
        if let Some(shared) = self.groups.map.get_mut(&group).and_then(|g| g.locks.get_mut(&lock)) {
            shared.waiters.push(waiter);
            self.groups.timers.extend(waiter.until.map(|t| (t, waiter.session, waiter.id)));
        }
        self.queue(waiter.session, Waiting { id: waiter.id, since: now, pend: Pend::Group { group, lock } }, lock);
    }

    pub(crate) fn on_group_convert(
        &mut self,
        now: Time,
        at: u32,
        id: RequestId,
        group: u32,
        request: &ConvertRequest<'_>,
    ) {
        if let Err(why) = self.try_group_convert(now, at, id, group, request) {
            self.refuse(at, id, why);
        }
        self.tell_effects(now);
    }

    fn try_group_convert(
        &mut self,
        now: Time,
        at: u32,
        id: RequestId,
        group: u32,
        request: &ConvertRequest<'_>,
    ) -> Result<(), Refusal> {
        let owner = self.owner_of_user(at, group, request.lock)?;
        let others = self.users_of(group, request.lock) > 1;
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
        match outcome {
            Outcome::Granted(grant) => {
                if let Some(shared) = self.shared_mut(group, grant.lock) {
                    shared.held = Some(grant.claim);
                }
                self.counters.grants += 1;
                self.answer(at, id, Reply::Granted(grant));
            }
            // Never for a group: CONVDEADLK was refused above.
            Outcome::Demoted { held, why } => self.answer_demoted(at, id, held, Some(why)),
            // One member asks, so the table can time it.
            Outcome::Queued(lock) => {
                self.wait_in_group(now, group, lock, Waiter { session: at, id, until: None });
            }
        }
        Ok(())
    }

    /// Whether a conversion only reads or writes the value block.
    fn stays_as_it_is(&self, group: u32, request: &ConvertRequest<'_>) -> bool {
        self.shared(group, request.lock).and_then(|s| s.held) == Some(Claim::Mode(request.mode))
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
        let uses = self.groups.map.get_mut(&group).and_then(|g| g.members.get_mut(&at)).and_then(|m| m.get_mut(&lock));
        let last_use = uses.as_ref().is_none_or(|n| **n <= 1);
        if last_use && self.users_of(group, lock) <= 1 {
            self.table.release(now, owner, release, &mut self.fx)?;
            // A conversion that waited ends with FORCEUNLOCK; its request is answered before the lock is forgotten.
            self.end_group_waits(now, group, lock, &WaitEnd::Cancelled);
            self.groups.forget_lock(group, lock);
            return Ok(());
        }
        self.write_value_in_place(now, owner, group, release)?;
        if !last_use {
            let uses = self.groups.map.get_mut(&group).and_then(|g| g.members.get_mut(&at));
            if let Some(count) = uses.and_then(|m| m.get_mut(&lock)) {
                *count -= 1;
            }
            return Ok(());
        }
        // What this member still waits for on this lock goes with its use.
        let _none_waits = self.cancel_group_waits(now, at, group, lock);
        if let Some(value) = self.groups.map.get_mut(&group) {
            if let Some(uses) = value.members.get_mut(&at) {
                uses.remove(&lock);
            }
            if let Some(shared) = value.locks.get_mut(&lock) {
                shared.users.remove(&at);
            }
        }
        Ok(())
    }

    /// What a user writes as it lets go, though the lock stays with others: a conversion to the mode that is held.
    fn write_value_in_place(
        &mut self,
        now: Time,
        owner: OwnerId,
        group: u32,
        release: &ReleaseRequest<'_>,
    ) -> Result<(), Refusal> {
        if release.value.is_none() && !release.flags.has(Flags::IVVALBLK) {
            return Ok(());
        }
        let held = self.shared(group, release.lock).and_then(|shared| shared.held);
        let Some(Claim::Mode(mode)) = held else { return Ok(()) };
        let flags = Flags(release.flags.0 & !Flags::FORCEUNLOCK.0).with(Flags::NOQUEUE);
        let convert = ConvertRequest { lock: release.lock, mode, wait: Wait::Never, flags, value: release.value };
        self.table.convert(now, owner, 0, &convert, &mut self.fx).map(|_| ())
    }

    /// Ends the waits of one member for one lock.
    pub(crate) fn cancel_group_waits(&mut self, now: Time, at: u32, group: u32, lock: LockId) -> Result<(), Refusal> {
        let shared = self.groups.map.get(&group).and_then(|g| g.locks.get(&lock)).ok_or(Refusal::NotHeld)?;
        let own: Vec<RequestId> = shared.waiters.iter().filter(|w| w.session == at).map(|w| w.id).collect();
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

    /// Ends one member's wait. [GROUP-3] The group goes on waiting while another member does.
    pub(crate) fn end_member_wait(
        &mut self,
        now: Time,
        at: u32,
        group: u32,
        lock: LockId,
        id: RequestId,
        end: WaitEnd,
    ) {
        let Some(value) = self.groups.map.get_mut(&group) else { return };
        let owner = value.owner;
        let mut nobody_waits = false;
        if let Some(shared) = value.locks.get_mut(&lock) {
            shared.waiters.retain(|w| {
                let gone = w.session == at && w.id == id;
                if gone {
                    self.groups.timers.remove(&(w.until.unwrap_or_default(), at, id));
                }
                !gone
            });
            nobody_waits = shared.waiters.is_empty();
        }
        if let Some(waiting) = self.sessions.get_mut(at).and_then(|s| s.ledger.end_wait(id)) {
            self.answer_wait(now, at, waiting, end);
        }
        if nobody_waits {
            let _granted_meanwhile = self.table.cancel(now, owner, lock, &mut self.fx);
        }
    }

    /// Ends the waits of members whose time is over.
    pub(crate) fn expire_group_waits(&mut self, now: Time) {
        while let Some((_, at, id)) = self.groups.timers.first().copied().filter(|(until, ..)| *until <= now) {
            self.groups.timers.pop_first();
            let pend = self.sessions.get(at).and_then(|s| s.ledger.waiting(id)).map(|w| w.pend);
            if let Some(Pend::Group { group, lock }) = pend {
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
        let group = self.try_group_attach(at, name)?;
        let owner = self.owner_of_member(at, group)?;
        let grant = match self.table.find(owner, claim.space, claim.name, claim.tag) {
            None => {
                let grant = self.table.reclaim(now, owner, claim, &mut self.fx)?;
                self.add_shared(group, grant.lock, Some(grant.claim));
                grant
            }
            // [RESTART-12] Claims of members merge: the first brings the lock back, the others become users of it.
            Some(found) => {
                let modes = self.table.space(claim.space).ok_or(Refusal::NoLockspace)?.modes.clone();
                let held = found.held.filter(|held| covers(&modes, *held, claim.held)).ok_or(Refusal::Lost)?;
                self.shared_grant(owner, held, &found, Flags::NONE)?
            }
        };
        self.add_use(at, group, grant.lock);
        Ok(grant)
    }

    fn owner_of_member(&self, at: u32, group: u32) -> Result<OwnerId, Refusal> {
        let value = self.groups.map.get(&group).filter(|g| g.members.contains_key(&at));
        value.map(|g| g.owner).ok_or(Refusal::NotHeld)
    }

    fn owner_of_user(&self, at: u32, group: u32, lock: LockId) -> Result<OwnerId, Refusal> {
        let value = self.groups.map.get(&group).ok_or(Refusal::NotHeld)?;
        let uses = value.members.get(&at).is_some_and(|uses| uses.contains_key(&lock));
        if uses { Ok(value.owner) } else { Err(Refusal::NotHeld) }
    }

    fn users_of(&self, group: u32, lock: LockId) -> usize {
        self.shared(group, lock).map_or(0, |s| s.users.len())
    }

    fn shared(&self, group: u32, lock: LockId) -> Option<&Shared> {
        self.groups.map.get(&group)?.locks.get(&lock)
    }

    fn shared_mut(&mut self, group: u32, lock: LockId) -> Option<&mut Shared> {
        self.groups.map.get_mut(&group)?.locks.get_mut(&lock)
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
