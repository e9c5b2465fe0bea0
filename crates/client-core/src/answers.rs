//! What the node answers and tells, with the node's ids turned into the session's own.

use lockstead_types::{
    Flags, GroupId, LockId, Refusal, RequestId, Time,
    reply::{Grant, Notice, Queued, Reply, Revoked},
    request::OwnerRef,
};

use crate::{
    locks::{Held, Lock, sealed_by},
    op::{NewLock, Owned, Rare},
    requests::{For, Place, Request},
    session::{Event, Phase, Session},
};

impl Session {
    pub(crate) fn on_reply(&mut self, now: Time, id: RequestId, reply: Reply) {
        if self.is_claim_answer(id) {
            return self.on_claim_answered(now, id, reply);
        }
        if !matches!(self.phase, Phase::Live(_) | Phase::Leaving | Phase::Returning(_)) {
            return self.on_nonsense(now);
        }
        // [SESS-17] The node has released it by now, or will.
        if matches!(
            (&self.phase, &reply),
            (Phase::Leaving, Reply::Granted(_) | Reply::GrantedMany(_) | Reply::GrantedPath(_))
        ) {
            return;
        }
        self.answers += 1;
        // Requests take effect in their order: whatever came before this one was seen.
        self.requests.confirm(id);
        if let Reply::Queued(queued) = reply {
            self.on_queued(now, id, queued);
        } else if let Some(request) = self.requests.remove(id) {
            let regroup = matches!(request.whose, For::Regroup(_) | For::Resume);
            self.settle(request, reply);
            if regroup {
                self.on_regrouped(now);
            }
        }
        self.acknowledge_if_many();
    }

    fn on_queued(&mut self, now: Time, id: RequestId, Queued { lock: wire, ticket }: Queued) {
        let home = self.home.number();
        let Some(request) = self.requests.get_mut(id) else { return };
        let (whose, known_as, queued) = (request.whose, request.known_as, request.queued);
        // Of several names at once only the node knows which it waits for, and it gives the others back.
        if ticket != 0 && !matches!(request.op, Owned::Many(_)) {
            let since = request.place.map_or(now, |place| place.since);
            request.place = Some(Place { ticket, since, told: home });
        }
        let lock = match (&request.op, queued) {
            // Asked again after a restart: the application knows already that it waits.
            (_, Some(lock)) => {
                if matches!(self.locks.get(lock), Some(Lock::Waiting)) {
                    self.locks.set_wire(lock, wire);
                }
                return;
            }
            (Owned::Lock(_), None) => self.locks.add(wire, Lock::Waiting),
            (Owned::Convert { lock, .. }, None) => *lock,
            _ => return,
        };
        if let Some(request) = self.requests.get_mut(id) {
            request.queued = Some(lock);
        }
        self.answer(whose, known_as, Reply::Queued(Queued { lock, ticket }));
    }

    /// The last answer to a request.
    pub(crate) fn settle(&mut self, request: Request, reply: Reply) {
        let Request { known_as, whose, op, queued, .. } = request;
        let reply = match (op, reply) {
            (Owned::Lock(asked), Reply::Granted(grant)) => Reply::Granted(self.on_granted(asked, queued, grant)),
            (Owned::Lock(_), refused) => {
                if let Some(lock) = queued {
                    self.locks.remove(lock);
                }
                refused
            }
            (Owned::Many(asked), Reply::GrantedMany(grants)) => {
                let granted = asked.into_iter().zip(grants).map(|(a, g)| self.on_granted(a, None, g));
                Reply::GrantedMany(granted.collect())
            }
            (Owned::Path(asked), Reply::GrantedPath(path)) => Reply::GrantedPath(self.on_path_granted(&asked, path)),
            (Owned::Convert { lock, .. }, reply) if matches!(whose, For::LetGo { .. }) => self.on_let_go(lock, reply),
            (Owned::Convert { .. }, reply) if matches!(whose, For::LetGone) => reply,
            (Owned::Convert { lock, .. }, Reply::Granted(grant)) => {
                let part = self.part_of_lock(lock);
                if let Some(held) = self.locks.get_mut(lock).and_then(Lock::held_mut) {
                    let weaker = held.is_weakened_by(&grant);
                    held.claim = grant.claim;
                    held.take_grant(&grant);
                    held.weakened = false;
                    if weaker {
                        self.note_release(part);
                    }
                }
                Reply::Granted(Grant { lock, ..grant })
            }
            // [DEAD-12] What is claimed after a restart must be what is held.
            (Owned::Convert { lock, .. }, Reply::Demoted { held: left, why }) => {
                if let Some(held) = self.locks.get_mut(lock).and_then(Lock::held_mut) {
                    held.claim = left;
                    held.weakened = false;
                }
                Reply::Demoted { held: left, why }
            }
            (Owned::Convert { lock, .. }, Reply::Refused(why)) => self.without_conversion(lock, Some(why)),
            (Owned::Convert { lock, .. }, Reply::Cancelled) => self.without_conversion(lock, None),
            (Owned::Release { lock, .. }, Reply::Refused(why))
                if matches!(whose, For::Nobody) && is_of_the_value(why) =>
            {
                self.release_without_value(lock);
                Reply::Refused(why)
            }
            (Owned::Release { lock, .. }, reply) => {
                if reply == Reply::Released {
                    self.note_release(self.part_of_lock(lock));
                }
                self.on_release_answered(lock, &reply);
                reply
            }
            (Owned::Rare(rare), reply) => self.settle_rare(whose, *rare, reply),
            (_, reply) => reply,
        };
        self.answer(whose, known_as, reply);
    }

    fn settle_rare(&mut self, whose: For, rare: Rare, reply: Reply) -> Reply {
        match (rare, reply) {
            (Rare::GroupAttach { name }, Reply::Group(wire)) => match whose {
                For::Regroup(number) => {
                    self.groups.set_wire(number, wire);
                    Reply::Group(number.known_as())
                }
                _ => Reply::Group(self.groups.add(wire, &name)),
            },
            (Rare::Begin { .. }, Reply::Begun(age)) => {
                self.on_begun(age);
                Reply::Begun(age)
            }
            (Rare::Resume(_), reply) => {
                self.on_resumed(&reply);
                reply
            }
            (Rare::End { end, locks }, reply) => {
                self.on_end_answered(end, locks, &reply);
                reply
            }
            (Rare::Unclaimed(lock), reply) => {
                self.on_release_answered(lock, &Reply::Released);
                if reply == Reply::Done { Reply::Released } else { reply }
            }
            (Rare::GroupDetach(group), reply) => {
                self.on_detached(group);
                reply
            }
            (Rare::Watch { space, prefix }, Reply::Done) => {
                let known = self.watches.iter().any(|(s, p)| *s == space && *p == prefix);
                if !known {
                    self.watches.push((space, prefix));
                }
                Reply::Done
            }
            (Rare::SpaceOpen { .. } | Rare::SpaceCreate(_), Reply::Space(info)) => {
                self.spaces.note(&info);
                Reply::Space(info)
            }
            (Rare::Unwatch, reply) => {
                self.watches.clear();
                reply
            }
            (_, reply) => reply,
        }
    }

    fn on_granted(&mut self, asked: NewLock, queued: Option<LockId>, grant: Grant) -> Grant {
        let wire = grant.lock;
        let in_group = matches!(asked.owner, OwnerRef::Group(_));
        // A member that asks for what its group has is given the same lock.
        if let Some(same) = self.locks.by_wire(wire).filter(|same| in_group && Some(*same) != queued)
            && let Some(Lock::Held(held)) = self.locks.get_mut(same)
        {
            held.uses = held.uses.saturating_add(1);
            // Who claimed less than the group has is told what that is.
            held.claim = grant.claim;
            held.take_grant(&grant);
            if let Some(lock) = queued {
                self.locks.remove(lock);
            }
            return Grant { lock: same, ..grant };
        }
        let part = self.part_of(&asked);
        let held = Lock::Held(Held {
            space: asked.space,
            name: asked.name,
            claim: grant.claim,
            token: grant.token,
            sealed: sealed_by(&grant),
            tag: asked.tag,
            owner: asked.owner,
            part,
            flags: Held::kept_flags(asked.flags),
            uses: 1,
            uncounted: 0,
            leaving: 0,
            claimed_in: None,
            weakened: false,
        });
        let lock = match queued {
            Some(lock) => {
                self.locks.set_wire(lock, wire);
                if let Some(place) = self.locks.get_mut(lock) {
                    *place = held;
                }
                lock
            }
            None => self.locks.add(wire, held),
        };
        Grant { lock, ..grant }
    }

    fn on_release_answered(&mut self, id: LockId, reply: &Reply) {
        let Some(lock) = self.locks.get_mut(id) else { return };
        // Answers come in the order of asking: the last use is released last.
        if let Some(held) = lock.held_mut().filter(|held| held.leaving > 0) {
            held.leaving -= 1;
            held.uses += u32::from(is_wrong(reply));
            return;
        }
        match (core::mem::replace(lock, Lock::Waiting), reply) {
            // The release was wrong (a value too long), not the lock: it is held as before.
            (Lock::Releasing(held), reply) if is_wrong(reply) => *lock = Lock::Held(held),
            (Lock::Releasing(held), _) if held.uses > 1 => {
                *lock = Lock::Held(Held { uses: held.uses - 1, ..held });
            }
            (Lock::Releasing(_), _) => {
                self.locks.remove(id);
            }
            (other, _) => *lock = other,
        }
    }

    /// A release that nobody hears of was refused for what it was to write, or since a conversion waits: it is said again without a value.
    ///
    /// Without this: the lock is held as before, by a program that let go of it and never asks again.
    fn release_without_value(&mut self, lock: LockId) {
        let wire = self.locks.wire_of(lock);
        self.note_release(self.part_of_lock(lock));
        self.on_release_answered(lock, &Reply::Released);
        if let Some(wire) = wire {
            self.requests.push_one_way(wire, Flags::FORCEUNLOCK);
        }
    }

    /// What a use wrote as it was let go, the node counting it no more.
    fn on_let_go(&mut self, lock: LockId, reply: Reply) -> Reply {
        match (reply, self.locks.get_mut(lock).and_then(Lock::held_mut)) {
            (Reply::Granted(_), _) => Reply::Released,
            (reply, Some(held)) => {
                held.uses += u32::from(is_wrong(&reply));
                held.uncounted += u32::from(is_wrong(&reply));
                reply
            }
            (reply, None) => reply,
        }
    }

    fn on_detached(&mut self, group: GroupId) {
        let of_group = |lock: &Lock| lock.held().is_some_and(|h| h.owner == OwnerRef::Group(group));
        let gone: alloc::vec::Vec<LockId> = self.locks.ids_where(of_group).collect();
        for lock in gone {
            self.lose_lock(lock, Revoked::GroupEnded);
        }
        self.groups.remove(group);
    }

    pub(crate) fn lose_lock(&mut self, lock: LockId, why: Revoked) {
        let Some(Lock::Held(held)) = self.locks.remove(lock) else { return };
        self.events.push_back(Event::LockLost { lock, why });
        // Its transaction is aborted: what had become part of any of its locks may have been part of this one.
        if held.part.is_some() {
            let taken: alloc::vec::Vec<LockId> = self.locks.ids_where(|lock| matches!(lock, Lock::TakenIn)).collect();
            for lock in taken {
                self.locks.remove(lock);
                self.events.push_back(Event::LockLost { lock, why });
            }
        }
    }

    pub(crate) fn on_notice(&mut self, notice: Notice) {
        match notice {
            Notice::Blocking { lock, claim } => {
                // Of a lock that was released meanwhile, nobody wants to hear.
                if let Some(lock) = self.locks.by_wire(lock)
                    && let Some(Lock::Held(_)) = self.locks.get(lock)
                {
                    self.events.push_back(Event::Notice(Notice::Blocking { lock, claim }));
                }
            }
            Notice::Revoked { lock, why } => {
                let Some(lock) = self.locks.by_wire(lock) else { return };
                // [TXN-8] Should the end that was to release it be refused, it is not there any more.
                if matches!(self.locks.get(lock), Some(Lock::Releasing(held)) if held.part.is_some()) {
                    self.locks.remove(lock);
                    self.events.push_back(Event::LockLost { lock, why });
                    return;
                }
                if matches!(self.locks.get(lock), Some(Lock::Held(_))) {
                    self.events.push_back(Event::Notice(Notice::Revoked { lock, why }));
                    self.lose_lock(lock, why);
                }
            }
            Notice::Aborted => self.on_aborted(),
            other => self.events.push_back(Event::Notice(other)),
        }
    }
}

/// Whether a release may do without its value what it was refused with it.
fn is_of_the_value(why: Refusal) -> bool {
    matches!(why, Refusal::Busy | Refusal::TooLong | Refusal::Invalid)
}

/// Whether a release was refused for what it was, so that the lock is held as before.
fn is_wrong(reply: &Reply) -> bool {
    matches!(reply, Reply::Refused(why) if !matches!(why, Refusal::NotHeld | Refusal::Lost))
}
