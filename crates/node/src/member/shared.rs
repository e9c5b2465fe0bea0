//! Groups at a master: their members are guests, who come and go with their homes. What a member may do and what it is told is the same as
//! at a node alone (`groups.rs`, `group_requests.rs`); here stands what only a master has to do for it: take over what homes report, let
//! waits go on that come from elsewhere, and say whose homes know of a lock.

use alloc::vec::Vec;

use lockstead_table::{Claimant, Outcome};
use lockstead_types::{
    LockId, NodeId, RequestId, Slot, Time,
    peer::{PeerLock, PeerOp, PeerOwner, SlotGeneration, WaitReport},
    refusal::Refusal,
    reply::{Queued, Reply},
    request::{ConvertRequest, Stood},
    rows::{GroupUse, LockReport},
};

use super::guests::GuestWait;
use crate::{
    effects::WaitEnd,
    groups::{Waiter, Want},
    node::Node,
};

impl Node {
    /// A member asks for a lock of its group.
    pub(crate) fn lock_in_group(
        &mut self,
        now: Time,
        (at, id): (u32, RequestId),
        group: &[u8],
        lock: &PeerLock,
    ) -> Result<Outcome, Refusal> {
        let group = self.enter_group(at, group)?;
        let outcome = self.try_group_lock(now, (at, id), group, &lock.request());
        self.tidy_member(now, group, at);
        outcome
    }

    /// Takes over what a home says of a lock that one of its sessions uses, or waits for, as a member of a group.
    pub(crate) fn restore_shared(
        &mut self,
        now: Time,
        (at, slot): (u32, Slot),
        group: &GroupUse,
        row: &LockReport<'_>,
    ) -> Result<LockId, Refusal> {
        let number = self.enter_group(at, &group.name)?;
        let restored = self.restore_for_member(now, (at, number), slot, group, row);
        self.tidy_member(now, number, at);
        restored
    }

    fn restore_for_member(
        &mut self,
        now: Time,
        (at, group): (u32, u32),
        slot: Slot,
        named: &GroupUse,
        row: &LockReport<'_>,
    ) -> Result<LockId, Refusal> {
        let owner = self.groups.map.get(&group).map(|g| g.owner).ok_or(Refusal::Lost)?;
        // The wait of each member is timed by itself, but of a conversion there is one.
        let timed = |wait: &WaitReport| match row.held {
            None => WaitReport { left: None, ..wait.clone() },
            Some(_) => wait.clone(),
        };
        let report = LockReport { wanted: row.wanted.as_ref().map(timed), group: None, ..row.clone() };
        let lock = if self.table.find(owner, row.space, row.name, row.tag).is_some() {
            self.table.merge(now, owner, &report, 0, &mut self.fx)?
        } else {
            let lock = self.table.restore(now, Claimant::Owner(owner), &report, 0, &mut self.fx)?;
            self.groups.add_shared(group, lock, row.held);
            lock
        };
        self.look_at_shared(owner, group, row.space, row.name, row.tag);
        if row.held.is_some() {
            self.end_conversions_of_others(now, at, group, lock);
            (0..named.uses.max(1)).for_each(|_| self.add_use(at, group, lock));
        }
        if let Some(wait) = &row.wanted {
            self.wait_as_reported(now, (at, group), (lock, slot), wait, row);
        }
        Ok(lock)
    }

    fn wait_as_reported(
        &mut self,
        now: Time,
        (at, group): (u32, u32),
        (lock, slot): (LockId, Slot),
        wait: &WaitReport,
        row: &LockReport<'_>,
    ) {
        let asked = PeerLock {
            space: row.space,
            name: row.name.into(),
            claim: wait.claim,
            wait: lockstead_types::request::Wait::Forever,
            flags: wait.flags,
            owner: PeerOwner::Group(self.groups.name(group).into()),
            tag: row.tag,
            priority: wait.priority,
        };
        let (until, want) = match row.held {
            Some(_) => (None, Want::Conversion),
            None => (wait.left.map(|left| now.after(left)), Want::Lock(asked.into())),
        };
        self.groups.add_waiter(group, lock, Waiter { at, id: wait.id, until, want });
        let ticket = self.table.ticket_of(lock).unwrap_or(wait.ticket);
        if let Some(guest) = self.member.as_mut().and_then(|m| m.guests.get_mut(at)) {
            guest.waits.insert(wait.id, GuestWait { lock, slot, ticket });
        }
    }

    /// [CLUSTER-24] A member's wait of before goes on under the number it has at its session's new home. `false` where the request is to be
    /// looked at like a new one.
    pub(crate) fn goes_on_in_group(
        &mut self,
        now: Time,
        (at, group): (u32, u32),
        (old, id): (RequestId, RequestId),
        (lock, stood, place): (LockId, Stood, (Slot, SlotGeneration)),
        op: &PeerOp,
    ) -> bool {
        let owner = self.groups.map.get(&group).map(|g| g.owner);
        let asks = match op {
            PeerOp::Lock(asked) => Some(Want::Lock(asked.clone().into())),
            PeerOp::Convert { lock, mode, wait, flags, value } => {
                let value = value.as_deref();
                let asked = ConvertRequest { lock: *lock, mode: *mode, wait: *wait, flags: *flags, value };
                let waits = owner.and_then(|owner| self.table.conversion_goes_on(owner, 0, &asked));
                waits.map(|_| Want::Conversion)
            }
            _ => None,
        };
        if !asks.is_some_and(|asks| self.groups.renumber(lock, at, (old, id), &asks)) {
            self.end_member_wait(now, at, group, lock, old, WaitEnd::Cancelled);
            return false;
        }
        let (slot, _) = place;
        let ticket = self.table.ticket_of(lock).unwrap_or(stood.ticket);
        self.go_on_as(at, id, GuestWait { lock, slot, ticket });
        self.reply_guest(now, at, id, place, Reply::Queued(Queued { lock, ticket }));
        true
    }

    /// [CLUSTER-24] The grant that ended a member's wait, of which its client has not heard.
    pub(crate) fn tell_unheard_in_group(
        &mut self,
        now: Time,
        (at, id): (u32, RequestId),
        (stood, place): (Stood, (Slot, SlotGeneration)),
    ) -> bool {
        let Some(guest) = self.member.as_ref().and_then(|m| m.guests.get(at)) else { return true };
        let (slot, _) = place;
        let unheard = guest.unheard.iter().find(|(of, _)| *of == (slot, stood.ticket));
        let grant = unheard
            .map(|(_, grant)| grant.clone())
            .filter(|grant| self.is_unclaimed(at, grant.lock) && self.table.token_of(grant.lock) == Some(grant.token));
        let Some(grant) = grant else { return false };
        let Some(group) = self.groups.having(at, grant.lock) else { return false };
        self.add_use(at, group, grant.lock);
        self.reply_guest(now, at, id, place, Reply::Granted(grant));
        true
    }

    /// Waits of which the session's new home cannot say which it means: it asks again, and joins in what the group waits for.
    pub(crate) fn end_untold(&mut self, now: Time, at: u32, untold: Vec<(RequestId, LockId)>) {
        for (id, lock) in untold {
            if let Some(group) = self.groups.having(at, lock) {
                self.end_member_wait(now, at, group, lock, id, WaitEnd::Cancelled);
            }
        }
    }

    /// A guest has given back what it did not claim.
    pub(crate) fn tidy_guest(&mut self, now: Time, at: u32) {
        let groups = self.member.as_ref().and_then(|m| m.guests.get(at)).map(|guest| guest.groups.clone());
        for group in groups.unwrap_or_default() {
            self.tidy_member(now, group, at);
        }
    }

    /// The homes that tell a new master of a lock of a group. `None` where some member that uses it has no home that does.
    pub(crate) fn homes_of_users(&self, group: u32, lock: LockId) -> Option<Vec<NodeId>> {
        let shared = self.groups.shared(group, lock)?;
        shared.users.iter().map(|at| self.home_telling(*at, lock)).collect()
    }

    /// A lock of a group has gone to another master with its slot: nobody here uses it or waits for it any more.
    pub(crate) fn give_up_shared(&mut self, now: Time, group: u32, lock: LockId) {
        let Some(shared) = self.groups.forget_lock(group, lock) else { return };
        let waiters = shared.waiters.iter().chain(&shared.joiners).map(|waiter| waiter.at);
        let members: Vec<u32> = shared.users.iter().copied().chain(waiters).collect();
        members.into_iter().for_each(|at| self.tidy_member(now, group, at));
    }
}
