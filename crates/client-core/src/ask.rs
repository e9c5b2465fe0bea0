//! The application's requests on their way in and out.

use lockstead_types::{
    GroupId, LimitName, LockId, Mode, Refusal, RequestId, Time,
    reply::Reply,
    request::{Claim, ConvertRequest, Op, Target, Wait},
};

use crate::{
    groups::Groups,
    locks::{Lock, Locks},
    op::{Owned, Wiring},
    requests::{For, Requests, Turn},
    session::{Event, Phase, Session},
    txn::end_of,
};

/// One-way releases that may be unconfirmed before the node is asked to confirm them.
const UNCONFIRMED_MAX: usize = 1_024;

/// What a release is to the node.
enum Letting {
    Told,
    /// Of a use that it does not count, of a lock that is held so.
    Untold(Mode),
}

impl Session {
    /// Asks. The answers come with `key`, in [`crate::Output::Answer`]. A one-way release is answered at once with nothing.
    ///
    /// # Errors
    /// [`Refusal::Lost`] where the session is over or leaving, [`Refusal::NotHeld`] where it does not know the lock or group,
    /// `limit:in-flight` where [`crate::Config::backlog`] is reached. Nothing was asked then.
    pub fn request(&mut self, now: Time, op: &Op<'_>, key: u64) -> Result<RequestId, Refusal> {
        self.expire(now);
        if self.is_leaving() || matches!(self.phase, Phase::Over(_)) {
            self.tell_lease(now);
            return Err(Refusal::Lost);
        }
        self.check_known(op)?;
        if let Op::Cancel(Target::Request(target)) = op
            && let Some(recalled) = self.requests.recall(*target)
        {
            // It was not sent yet: there is nothing to ask the node.
            let id = self.requests.next_id();
            self.settle(recalled, Reply::Cancelled);
            self.answer(For::App { key }, id, Reply::Cancelled);
            return Ok(id);
        }
        // What ends a transaction gets through however much is open.
        if let Some(end) = end_of(op) {
            return Ok(self.request_end(end, key));
        }
        match op {
            // With one that is still to be sent it must not take the lock's number away.
            Op::Release { release, one_way: true } if release.value.is_none() && !self.is_let_go(release.lock) => {
                return Ok(self.release_one_way(now, release.lock, release.flags));
            }
            _ if self.requests.open_count() >= self.config.backlog as usize => {
                return Err(Refusal::Limit(LimitName::InFlight));
            }
            // [RESTART-8] Dropped from the claims before the release is sent.
            Op::Release { release, .. } => match self.start_release(release.lock) {
                Letting::Told => {}
                Letting::Untold(_) if release.value.is_none() => {
                    let id = self.requests.next_id();
                    self.answer(For::App { key }, id, Reply::Released);
                    return Ok(id);
                }
                Letting::Untold(mode) => {
                    let (lock, flags, value) = (release.lock, release.flags, release.value);
                    let write = ConvertRequest { lock, mode, wait: Wait::Never, flags, value };
                    let one_way = matches!(op, Op::Release { one_way: true, .. });
                    let whose = if one_way { For::LetGone } else { For::LetGo { key } };
                    return Ok(self.requests.push(whose, Owned::of(&Op::Convert(write))));
                }
            },
            _ => {}
        }
        // A one-way release that writes a value is sent as one that is answered, so that it is repeated until it was done.
        let whose = if matches!(op, Op::Release { one_way: true, .. }) { For::Nobody } else { For::App { key } };
        Ok(self.requests.push(whose, Owned::of(op)))
    }

    /// The request could not be put into bytes: it is answered with a refusal, and was not sent.
    pub fn refuse_unsent(&mut self, id: RequestId, why: Refusal) {
        self.settle_local(id, Reply::Refused(why));
    }

    fn check_known(&self, op: &Op<'_>) -> Result<(), Refusal> {
        let known = match op {
            Op::Convert(convert) => self.is_ours(convert.lock),
            Op::Release { release, .. } => self.is_ours(release.lock),
            Op::Cancel(Target::Lock(lock)) => self.is_ours(*lock),
            Op::ReadValue(lock) => self.is_ours(*lock),
            Op::GroupDetach(group) => self.groups.has(*group),
            _ => true,
        };
        if known { Ok(()) } else { Err(Refusal::NotHeld) }
    }

    /// Whether a use of a lock was released that is not answered.
    fn is_let_go(&self, lock: LockId) -> bool {
        self.locks.get(lock).and_then(Lock::held).is_some_and(|held| held.leaving > 0)
    }

    fn is_ours(&self, lock: LockId) -> bool {
        matches!(self.locks.get(lock), Some(Lock::Waiting | Lock::Held(_) | Lock::TakenIn))
    }

    fn release_one_way(&mut self, now: Time, id: LockId, flags: lockstead_types::Flags) -> RequestId {
        if let Some(Lock::TakenIn) = self.locks.get(id) {
            return self.requests.next_id();
        }
        let home = self.home.number();
        let wire = self.locks.wire_of(id);
        match (wire, self.locks.get_mut(id)) {
            // One without a number at the node is to be claimed, and no use beyond the first is counted then.
            (wire, Some(Lock::Held(held))) if held.uses > 1 => {
                let counted = held.drop_use();
                return match wire.filter(|_| counted) {
                    Some(wire) => self.requests.push_one_way(wire, flags),
                    None => self.requests.next_id(),
                };
            }
            (None, Some(lock @ Lock::Held(_))) if lock.held().is_some_and(|h| h.claimed_in == home) => {
                if let Lock::Held(held) = core::mem::replace(lock, Lock::Waiting) {
                    *lock = Lock::Dropped(held);
                }
                return self.requests.next_id();
            }
            _ => {}
        }
        self.note_release(self.part_of_lock(id));
        // A waiting lock's place stays until its request is answered.
        if !matches!(self.locks.get(id), Some(Lock::Waiting)) {
            self.locks.remove(id);
        }
        let Some(wire) = wire else { return self.requests.next_id() };
        if self.requests.unconfirmed() >= UNCONFIRMED_MAX {
            self.renew_early(now);
        }
        self.requests.push_one_way(wire, flags)
    }

    fn start_release(&mut self, id: LockId) -> Letting {
        let Some(lock) = self.locks.get_mut(id) else { return Letting::Told };
        match core::mem::replace(lock, Lock::Waiting) {
            Lock::Held(mut held) if held.uses > 1 => {
                let (counted, claim) = (held.drop_use(), held.claim);
                held.leaving += u32::from(counted);
                *lock = Lock::Held(held);
                match claim {
                    Claim::Mode(mode) if !counted => Letting::Untold(mode),
                    // Permits have no value block to write.
                    Claim::Permits { .. } if !counted => Letting::Untold(Mode(0)),
                    _ => Letting::Told,
                }
            }
            Lock::Held(held) => {
                *lock = Lock::Releasing(held);
                Letting::Told
            }
            other => {
                *lock = other;
                Letting::Told
            }
        }
    }

    /// A request whose lock or group is gone (a restart of the node, a revocation) is answered here.
    pub(crate) fn on_unsendable(&mut self, turn: Turn) {
        let Turn::Request(id) = turn else { return };
        let Some(request) = self.requests.get_mut(id) else { return };
        let reply = match &request.op {
            // What the node forgot is released.
            Owned::Release { .. } => Reply::Released,
            _ => Reply::Refused(Refusal::NotHeld),
        };
        self.settle_local(id, reply);
    }

    pub(crate) fn settle_local(&mut self, id: RequestId, reply: Reply) {
        if let Some(request) = self.requests.remove(id) {
            self.settle(request, reply);
        }
    }

    pub(crate) fn answer(&mut self, whose: For, request: RequestId, reply: Reply) {
        if let For::App { key } | For::LetGo { key } = whose {
            self.events.push_back(Event::Answer { request, key, reply });
        }
    }

    pub(crate) fn wiring(&self) -> Wires<'_> {
        Wires { locks: &self.locks, groups: &self.groups, requests: &self.requests }
    }
}

/// The node's ids of everything.
pub(crate) struct Wires<'a> {
    locks: &'a Locks,
    groups: &'a Groups,
    requests: &'a Requests,
}

impl Wiring for Wires<'_> {
    fn lock(&self, lock: LockId) -> Option<LockId> {
        self.locks.wire_of(lock)
    }

    fn group(&self, group: GroupId) -> Option<GroupId> {
        self.groups.wire_of(group)
    }

    fn request(&self, target: Target) -> Option<Target> {
        match target {
            Target::Lock(lock) => self.locks.wire_of(lock).map(Target::Lock),
            Target::Request(id) => Some(Target::Request(self.requests.sent_as(id))),
        }
    }
}
