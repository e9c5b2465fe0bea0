//! Locks of owners that are several, as groups are: what one more of them reports or claims of a lock that the owner has here
//! already. Apart from `restore`, since there a report is of another lock and here of the same one, of which it may know more.

use alloc::vec::Vec;

use lockstead_types::{LockId, Refusal, Time, request::Claim, rows::LockReport};

use crate::{Effect, OwnerId, Table, block::mode_of, lock::State, reclaim::Held, table::Call};

impl Table {
    /// Takes over what a report says of the lock that its owner has on that name under that tag: who held it a moment ago
    /// knows its newest token and mode, who waits may want more than the first who said so. `origin` comes back with the end of
    /// a conversion, as of [`Table::restore`].
    ///
    /// # Errors
    /// `Lost` where the slot is not frozen, the owner has no such lock, a newer grant gave less, or a conflicting lock has a higher
    /// token; `Busy` where the two want what neither covers, or hold what no mode is both of; `NoLockspace`, `BadMode`, `Invalid`, `TooLong` where the report
    /// cannot be of this table. The lock is as before then.
    pub fn merge(
        &mut self,
        now: Time,
        owner: OwnerId,
        report: &LockReport<'_>,
        origin: u64,
        fx: &mut Vec<Effect>,
    ) -> Result<LockId, Refusal> {
        let space = self.spaces.find(report.space).ok_or(Refusal::NoLockspace)?;
        // [SLOT-5] Only while frozen: later, others may have been granted it.
        if !self.is_frozen_name(report.space, report.name) {
            return Err(Refusal::Lost);
        }
        self.check_report(space, report, false)?;
        let named = self.named(space, report.name)?;
        let resource = self.find_resource(space, named.name).0.ok_or(Refusal::Lost)?;
        let l = self.lock_of(resource, owner, report.tag, named.extent.as_ref()).ok_or(Refusal::Lost)?;
        for claim in [report.held, report.wanted.as_ref().map(|w| w.claim)].into_iter().flatten() {
            self.check_kind(resource, claim)?;
        }
        if let Some(claim) = report.held {
            let mut call = Call::new(now, fx);
            self.hold_more(&mut call, l, Held { claim, token: report.token })?;
        }
        if let Some(wait) = &report.wanted {
            match (self.locks[l].state, report.held) {
                (State::Granted, Some(_)) => self.wait_again(now, l, wait, origin, wait.demoted),
                (State::Waiting, None) => self.want_more(l, wait.claim, wait.ticket)?,
                // It waits for what its owner has by now, or converts already.
                _ => {}
            }
        }
        if let (Some(claim), Some(value), false) = (report.held, &report.value, self.is_partial(l)) {
            self.learn_from_holder(resource, Held { claim, token: report.token }, value);
        }
        Ok(self.id(l))
    }

    /// A lock holds what another report of it says, where that is more.
    fn hold_more(&mut self, call: &mut Call<'_>, l: u32, held: Held) -> Result<(), Refusal> {
        if !self.locks[l].is_held() {
            return self.hold_waiting(call, l, held);
        }
        let (mode, token) = (self.locks[l].mode, self.token(l));
        let present = self.claim(l, mode);
        let more = !self.covers(l, present, held.claim);
        if !more && held.token <= token {
            return Ok(());
        }
        // [GROUP-9] The newest grant is the one in force; of one grant the member that knows most of it is right.
        if more && held.token < token {
            return Err(Refusal::Lost);
        }
        let resource = self.locks[l].resource;
        // Of what is held already the rivals have been driven out.
        let mut rivals = self.rivals(resource, self.asker(l).as_ref(), held)?;
        let claim = if more { self.both(l, held.claim, present).ok_or(Refusal::Busy)? } else { present };
        let held = Held { claim, ..held };
        rivals.retain(|rival| *rival != l);
        self.remove_held(l, mode);
        self.locks[l].mode = mode_of(claim);
        self.touch(resource);
        self.add_held(l, mode_of(claim));
        self.set_token(l, held.token);
        self.drive_out(call, l, rivals);
        Ok(())
    }

    /// A lock that waits was granted before to another of those that wait for it.
    fn hold_waiting(&mut self, call: &mut Call<'_>, l: u32, held: Held) -> Result<(), Refusal> {
        let resource = self.locks[l].resource;
        let wanted = self.claim(l, self.locks[l].mode);
        if matches!((wanted, held.claim), (Claim::Permits { .. }, _) if wanted != held.claim) {
            return Err(Refusal::Busy);
        }
        let rivals = self.rivals(resource, self.asker(l).as_ref(), held)?;
        self.leave(l);
        self.locks[l].mode = mode_of(held.claim);
        self.hold_again(call, l, held, rivals);
        Ok(())
    }

    /// A lock that waits does so for what covers all that its owners want, and where the first of them stood.
    fn want_more(&mut self, l: u32, claim: Claim, ticket: u64) -> Result<(), Refusal> {
        let present = self.claim(l, self.locks[l].mode);
        let covered = self.covers(l, present, claim);
        if !covered && !self.covers(l, claim, present) {
            return Err(Refusal::Busy);
        }
        let Some(mut wait) = self.leave(l) else { return Err(Refusal::Lost) };
        if !covered {
            (self.locks[l].mode, wait.want) = (mode_of(claim), mode_of(claim));
        }
        if ticket != 0 && ticket < wait.ticket {
            wait.ticket = ticket;
        }
        let resource = self.locks[l].resource;
        if let Some(deadline) = wait.deadline {
            self.deadlines.insert((deadline, l));
        }
        self.side_mut(l).wait = Some(wait);
        self.enter(l, State::Waiting, crate::slab::NIL);
        let queue = self.queue_mut(resource);
        (queue.straight, queue.restored, queue.told_for) = (false, true, None);
        Ok(())
    }

    /// What excludes what either excludes, and no more.
    ///
    /// Members that have asked to let go of different parts of what their group has claim each what they asked to keep, whatever came
    /// of it: nobody can tell that it was refused for the other's sake. Neither covers the other, and both count on it.
    fn both(&self, l: u32, one: Claim, other: Claim) -> Option<Claim> {
        if self.covers(l, one, other) {
            return Some(one);
        }
        let (Claim::Mode(one), Claim::Mode(other)) = (one, other) else { return None };
        let modes = self.modes_of(self.locks[l].resource);
        let joined = modes.join(one, other)?;
        let exact = modes.conflicts_of(joined) == modes.conflicts_of(one).union(modes.conflicts_of(other))
            && modes.blocked_by(joined) == modes.blocked_by(one).union(modes.blocked_by(other));
        exact.then_some(Claim::Mode(joined))
    }

    fn covers(&self, l: u32, claim: Claim, other: Claim) -> bool {
        match (claim, other) {
            (Claim::Mode(claim), Claim::Mode(other)) => {
                claim == other || self.modes_of(self.locks[l].resource).is_down(claim, other)
            }
            (claim, other) => claim == other,
        }
    }

    /// Whether a lock is in a frozen slot.
    #[must_use]
    pub fn is_frozen_lock(&self, lock: LockId) -> bool {
        self.find_any(lock).is_some_and(|l| self.is_frozen_at(self.locks[l].resource))
    }
}
