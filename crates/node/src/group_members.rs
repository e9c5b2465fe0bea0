//! Members of groups as this node knows them: sessions where it is alone, guests where it is a master. All that is different between
//! the two is here, so that no rule of groups is written twice.

use alloc::vec::Vec;

use lockstead_table::{Ending, Outcome};
use lockstead_types::{
    ConnId, LockId, RequestId, Span, Time,
    message::ServerMessage,
    refusal::Refusal,
    reply::{Notice, Queued, Reply},
    request::{LockRequest, Stood, Wait},
};

use crate::{
    effects::WaitEnd,
    groups::{Waiter, Want},
    io::Output,
    ledger::{Pend, Waiting},
    node::Node,
};

impl Node {
    /// The session, or the guest, knows that it is a member.
    pub(crate) fn note_group(&mut self, at: u32, group: u32) {
        match &mut self.member {
            Some(member) => {
                member.guests.get_mut(at).map(|guest| guest.groups.insert(group));
            }
            None => {
                self.sessions.get_mut(at).map(|session| session.extra_or_new().groups.insert(group));
            }
        }
    }

    pub(crate) fn forget_group(&mut self, at: u32, group: u32) {
        match &mut self.member {
            Some(member) => {
                member.guests.get_mut(at).map(|guest| guest.groups.remove(&group));
            }
            None => {
                self.sessions.get_mut(at).and_then(|s| s.extra_mut()).map(|extra| extra.groups.remove(&group));
            }
        }
    }

    /// The session ends.
    pub(crate) fn leave_all_groups(&mut self, now: Time, at: u32, ending: Ending) {
        let Some(extra) = self.sessions.get_mut(at).and_then(|s| s.extra_mut()) else { return };
        for group in core::mem::take(&mut extra.groups) {
            self.leave_group(now, at, group, ending);
        }
    }

    /// The final answer to a member's request that waited.
    pub(crate) fn tell_member_end(&mut self, now: Time, at: u32, id: RequestId, end: WaitEnd) {
        if self.is_member() {
            return self.tell_guest_end(now, at, id, end);
        }
        if let Some(waiting) = self.sessions.get_mut(at).and_then(|s| s.ledger.end_wait(id)) {
            self.answer_wait(now, at, waiting, end);
        }
    }

    pub(crate) fn notify_member(&mut self, now: Time, at: u32, notice: Notice) {
        match notice {
            notice if self.is_member() => self.notify_guest(now, at, notice),
            Notice::Blocking { lock, claim } => self.notify_blocking(at, lock, claim),
            Notice::Revoked { lock, why } => self.notify_revoked(at, lock, why),
            other => self.notify(at, other),
        }
    }

    /// Whether a member's session has come from elsewhere, and has not claimed its use of this lock; it counts as claimed from now on.
    pub(crate) fn take_unclaimed(&mut self, at: u32, lock: LockId) -> bool {
        let guest = self.member.as_mut().and_then(|m| m.guests.get_mut(at));
        guest.is_some_and(|guest| guest.unclaimed.remove(&lock))
    }

    pub(crate) fn is_unclaimed(&self, at: u32, lock: LockId) -> bool {
        let guest = self.member.as_ref().and_then(|m| m.guests.get(at));
        guest.is_some_and(|guest| guest.is_to_claim(lock))
    }

    /// A member that was away hears whom its group's locks keep waiting.
    pub(crate) fn repeat_group_blocking(&mut self, group: u32, at: u32, conn: ConnId) {
        for notice in self.group_blocking(group, at) {
            self.outputs.push_back(Output::Send { conn, message: ServerMessage::Notice(notice) });
        }
    }

    /// [GROUP-4] Who begins to use a lock of its group hears whom it keeps waiting: those before it were told when that one came.
    pub(crate) fn tell_newcomer(&mut self, now: Time, at: u32, lock: LockId) {
        if self.groups.having(at, lock).is_some()
            && let Some(claim) = self.table.blocking_now(lock)
        {
            self.notify_member(now, at, Notice::Blocking { lock, claim });
        }
    }

    /// Slots were thawed: who was to join in what their groups have there does so now ([GROUP-10]).
    pub(crate) fn admit_joiners(&mut self, now: Time) {
        let due: Vec<LockId> =
            self.groups.joined.iter().copied().filter(|lock| !self.table.is_frozen_lock(*lock)).collect();
        for lock in due {
            self.groups.joined.remove(&lock);
            let Some(group) = self.groups.locks.get(&lock).copied() else { continue };
            let Some(shared) = self.groups.shared_mut(group, lock) else { continue };
            let joiners = core::mem::take(&mut shared.joiners);
            self.groups.forget_waits(group, lock, &joiners);
            self.readmit(now, group, joiners);
            self.tell_effects(now);
        }
    }

    /// Looks again at requests of members whose lock is not what it was.
    pub(crate) fn readmit(&mut self, now: Time, group: u32, joiners: Vec<Waiter>) {
        let name = self.groups.name(group).to_vec();
        for Waiter { at, id, until, want } in joiners {
            let Want::Lock(asked) = want else { continue };
            let wait = until.map_or(Wait::Forever, |until| Wait::For(until.since(now)));
            let request = LockRequest { wait, ..asked.request() };
            let outcome =
                self.enter_group(at, &name).and_then(|group| self.try_group_lock(now, (at, id), group, &request));
            match outcome {
                Ok(Outcome::Granted(grant)) => {
                    let lock = grant.lock;
                    self.tell_member_end(now, at, id, WaitEnd::Granted(grant));
                    self.tell_newcomer(now, at, lock);
                }
                Ok(Outcome::Queued(lock)) => self.wait_elsewhere(now, (at, id), group, lock),
                Ok(Outcome::Demoted { why, .. }) | Err(why) => {
                    self.tell_member_end(now, at, id, WaitEnd::Refused(why));
                }
            }
            self.tidy_member(now, group, at);
        }
    }

    /// A member's request waits for another lock than the one it was told, of the same name.
    fn wait_elsewhere(&mut self, now: Time, (at, id): (u32, RequestId), group: u32, lock: LockId) {
        let Some(member) = &mut self.member else {
            if let Some(waiting) = self.sessions.get_mut(at).and_then(|s| s.ledger.end_wait(id)) {
                self.queue(at, Waiting { pend: Pend::Group { group, lock }, ..waiting }, lock);
            }
            return;
        };
        let Some(wait) = member.guests.get_mut(at).and_then(|guest| guest.waits.get_mut(&id)) else { return };
        wait.lock = lock;
        let (slot, stood) = (wait.slot, Stood { ticket: wait.ticket, waited: Span::ZERO });
        let Some(generation) = member.state.slots.get(usize::from(slot.0)).map(|s| s.generation) else { return };
        // [SLOT-6] It has waited here, or elsewhere, since it was told so.
        let stands = self.table.stand_again(now, lock, stood);
        let ticket = stands.or_else(|| self.table.ticket_of(lock)).unwrap_or(stood.ticket);
        self.reply_guest(now, at, id, (slot, generation), Reply::Queued(Queued { lock, ticket }));
    }

    /// The request of a member that a session makes, where the node is alone.
    pub(crate) fn on_group_outcome(
        &mut self,
        now: Time,
        (at, id): (u32, RequestId),
        group: u32,
        outcome: Result<Outcome, Refusal>,
    ) {
        match outcome {
            Ok(Outcome::Granted(grant)) => {
                let lock = grant.lock;
                self.counters.grants += 1;
                self.answer(at, id, Reply::Granted(grant));
                self.tell_newcomer(now, at, lock);
            }
            Ok(Outcome::Queued(lock)) => {
                self.queue(at, Waiting { id, since: now, pend: Pend::Group { group, lock } }, lock);
            }
            Ok(Outcome::Demoted { held, why }) => self.answer_demoted(at, id, held, Some(why)),
            Err(why) => self.refuse(at, id, why),
        }
        self.tell_effects(now);
    }
}
