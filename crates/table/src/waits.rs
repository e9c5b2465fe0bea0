//! Joining and leaving queues, and how a wait ends other than by a grant: cancelled, too late, refused.

use alloc::vec::Vec;

use lockstead_types::{Flags, LockId, Mode, Refusal, Time, reply::ChangeEvent, request};

use crate::{
    Effect, Outcome, OwnerId, Table,
    lock::{State, Traits, Wait},
    slab::NIL,
    store::Ring,
    table::Call,
};

/// How a wait ends without a grant.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Cancelled,
    Refused(Refusal),
}

/// What a request that begins to wait is made of.
pub(crate) struct Pending {
    pub(crate) origin: u64,
    pub(crate) want: Mode,
    pub(crate) flags: Flags,
    pub(crate) wait: request::Wait,
    pub(crate) priority: i8,
    pub(crate) ticket: u64,
    pub(crate) demoted: bool,
    pub(crate) value: Option<alloc::boxed::Box<[u8]>>,
}

impl Table {
    /// Puts a new lock, or one that holds, into the queue of those that wait.
    pub(crate) fn begin_wait(&mut self, call: &mut Call<'_>, l: u32, pending: Pending) {
        let resource = self.locks[l].resource;
        let converting = self.locks[l].state == State::Granted;
        let deadline = match pending.wait {
            request::Wait::For(span) => Some(call.now.after(span)),
            request::Wait::Never | request::Wait::Forever => None,
        };
        let (mut at, mut rank) = (NIL, self.rank(resource, call.now, pending.priority));
        if converting {
            // [CONV-3] Behind the conversions that wait, [GRANT-7] or with HEADQUE before them.
            if pending.flags.has(Flags::HEADQUE) {
                at = self.head(resource, Ring::Converting);
            }
            self.leave(l);
            #[cfg(feature = "planted")]
            if lockstead_types::planted::is(lockstead_types::planted::Bug::OldModeFirst) {
                let old = self.locks[l].mode;
                self.remove_held(l, old);
                self.locks[l].mode = Mode(0);
                self.add_held(l, Mode(0));
            }
        } else {
            (at, rank) = self.place_in_line(resource, pending.flags, rank);
            self.locks[l].mode = pending.want;
        }
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, l));
        }
        self.side_mut(l).wait = Some(Wait {
            origin: pending.origin,
            want: pending.want,
            flags: pending.flags,
            since: call.now,
            deadline,
            ticket: pending.ticket,
            rank,
            priority: pending.priority,
            overtaken: 0,
            demoted: pending.demoted,
            held_up: self.is_frozen_at(resource),
            value: pending.value,
        });
        self.enter(l, if converting { State::Converting } else { State::Waiting }, at);
        self.changed(call, l, ChangeEvent::Waiting);
        // [PREVENT-1] Before holders are told that somebody waits.
        if self.dies_at_once(l) {
            return self.end_wait(call, l, End::Refused(Refusal::Aborted));
        }
        self.suspect(call, l);
    }

    /// Puts a lock that is in no queue into one, before `at`, at the end for [`NIL`].
    pub(crate) fn enter(&mut self, l: u32, state: State, at: u32) {
        let resource = self.locks[l].resource;
        self.locks[l].state = state;
        let ring = match state {
            State::Converting => Ring::Converting,
            State::Waiting => Ring::Waiting,
            State::Granted | State::Vacant => Ring::Granted,
        };
        self.link_before(ring, l, at);
        self.owners.link(&mut self.locks, l);
        self.touch(resource);
        if state == State::Granted {
            self.granted += 1;
            if self.locks[l].traits.has(Traits::EXTENT) {
                self.note_turn(l);
            }
            return;
        }
        let (want, flags) = self.wait(l).map_or((self.locks[l].mode, Flags::NONE), |w| (w.want, w.flags));
        let due = self.is_due(l);
        let queue = self.queue_mut(resource);
        queue.add_wanted(want);
        queue.irregular += u32::from(is_irregular(flags));
        queue.due += u32::from(due);
        if state == State::Converting {
            queue.converting += 1;
            self.converting += 1;
        } else {
            queue.waiting += 1;
            queue.straight &= at == NIL;
            self.waiting += 1;
        }
        self.note_turn(l);
    }

    /// Takes a lock out of its queue. What it holds it still holds; its wait, if any, is handed out.
    pub(crate) fn leave(&mut self, l: u32) -> Option<Wait> {
        let (resource, state) = (self.locks[l].resource, self.locks[l].state);
        self.owners.unlink(&mut self.locks, l, state != State::Granted);
        self.touch(resource);
        if state == State::Granted {
            self.unlink(Ring::Granted, l);
            self.granted -= 1;
            self.locks[l].state = State::Vacant;
            return None;
        }
        let due = self.is_due(l);
        let wait = self.take_wait(l);
        let ring = if state == State::Converting { Ring::Converting } else { Ring::Waiting };
        self.unlink(ring, l);
        self.locks[l].state = State::Vacant;
        let queue = self.queue_mut(resource);
        if let Some(wait) = &wait {
            queue.remove_wanted(wait.want);
            queue.irregular -= u32::from(is_irregular(wait.flags));
        }
        queue.due -= u32::from(due);
        if state == State::Converting {
            queue.converting -= 1;
            self.converting -= 1;
        } else {
            queue.waiting -= 1;
            queue.straight |= queue.waiting == 0;
            self.waiting -= 1;
        }
        let queue = self.queue_mut(resource);
        if queue.len() == 0 {
            // [BLOCK-3] Grants are not counted against it while nothing waits: who holds when the next one comes was not told.
            queue.told_for = None;
        }
        self.note_turn(l);
        wait
    }

    /// Ends a wait without a grant: a waiting lock goes, a converting one is held in its old mode again ([CANCEL-1],
    /// [CANCEL-2]). The queues are not served yet.
    pub(crate) fn end_wait(&mut self, call: &mut Call<'_>, l: u32, end: End) {
        let (owner, id) = (OwnerId(self.locks[l].owner), self.id(l));
        let converting = self.locks[l].state == State::Converting;
        self.changed(call, l, ChangeEvent::Cancelled);
        let Some(wait) = self.leave(l) else { return };
        #[cfg(feature = "planted")]
        let converting = converting && {
            let freed = lockstead_types::planted::is(lockstead_types::planted::Bug::CancelFrees);
            if freed {
                let old = self.locks[l].mode;
                self.remove_held(l, old);
            }
            !freed
        };
        if converting {
            self.enter(l, State::Granted, NIL);
            // It is among those that are told again: nobody was told for it while it converted.
            self.queue_mut(self.locks[l].resource).told_for = None;
        } else {
            self.free_lock(l);
        }
        // [DEAD-12] The old mode is gone, and the holder must hear of it: another may hold what conflicts with it by now.
        let demoted = wait.demoted.then(|| self.claim(l, self.locks[l].mode));
        let origin = wait.origin;
        match (end, demoted) {
            (End::Refused(why), None) if call.caller == l => call.answer = Some(Err(why)),
            (End::Refused(why), Some(held)) if call.caller == l => {
                call.answer = Some(Ok(Outcome::Demoted { held, why }))
            }
            (End::Refused(why), demoted) => call.fx.push(Effect::Refused { owner, origin, lock: id, demoted, why }),
            (End::Cancelled, demoted) => call.fx.push(Effect::Cancelled { owner, origin, lock: id, demoted }),
        }
    }

    /// Stops what a lock waits for. The request that waited ends with [`Effect::Cancelled`].
    ///
    /// # Errors
    /// `NotHeld` where the owner has no such lock, or nothing is pending on it ([CANCEL-3]).
    pub fn cancel(&mut self, now: Time, owner: OwnerId, lock: LockId, fx: &mut Vec<Effect>) -> Result<(), Refusal> {
        // [CANCEL-3] Nothing pending: nothing to cancel.
        let l = self.find_lock(owner, lock).filter(|l| self.locks[*l].is_pending()).ok_or(Refusal::NotHeld)?;
        let resource = self.locks[l].resource;
        let mut call = Call::new(now, fx);
        // [CANCEL-1] A waiting request goes; [CANCEL-2] a conversion goes back to the mode it had.
        self.end_wait(&mut call, l, End::Cancelled);
        // [CANCEL-4] Those behind it may go now.
        self.settle(&mut call, resource);
        self.resolve(&mut call);
        Ok(())
    }

    /// When [`Table::expire`] has something to do next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        self.deadlines.first().map(|(time, _)| *time)
    }

    /// Ends the waits whose deadline has come, in the order of their deadlines ([CANCEL-5]).
    pub fn expire(&mut self, now: Time, fx: &mut Vec<Effect>) {
        let mut call = Call::new(now, fx);
        while let Some(&(deadline, l)) = self.deadlines.first() {
            if deadline > now {
                break;
            }
            let resource = self.locks[l].resource;
            // [CANCEL-5] Too late: refused `timeout`, as if cancelled.
            self.end_wait(&mut call, l, End::Refused(Refusal::Timeout));
            self.settle(&mut call, resource);
        }
        self.resolve(&mut call);
    }
}

/// Whether one that waits can be served from behind another: NOORDER, and EXPEDITE that came during a freeze, may be
/// granted, CONVDEADLK demoted.
pub(crate) fn is_irregular(flags: Flags) -> bool {
    flags.has(Flags::NOORDER) || flags.has(Flags::CONVDEADLK) || flags.has(Flags::EXPEDITE)
}
