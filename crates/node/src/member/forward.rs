//! Requests on their way to a master: kept until they are answered, sent again where the master changes.
//!
//! A request about a slot goes to its master, be that this node itself. Until the answer is here it is a [`Forward`]. What it
//! does to the home's copy is done when it is sent, in the direction that is safe if the answer never comes: a release
//! drops the claim, a conversion leaves what old and new mode have in common.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use lockstead_types::{
    Flags, LockId, Mode, RequestId, Slot, Span, Time,
    peer::{OwnedClaim, PeerLock, PeerMessage, PeerOp, SlotGeneration},
    refusal::Refusal,
    reply::Reply,
    request::{Claim, ConvertRequest, LockRequest, ReleaseRequest, Stood, Target, Wait},
};

use super::master_up;
use crate::{
    effects::WaitEnd,
    ledger::{Pend, Waiting},
    node::Node,
};

/// All requests on their way, by session and number.
pub(crate) struct Forwards {
    pub(crate) map: BTreeMap<Key, Forward>,
    /// When a bounded wait is over, should its master not say so.
    timers: BTreeSet<(Time, Key)>,
    /// How many are about each copy.
    about: BTreeMap<u32, u32>,
    /// How many are not sent.
    unsent: usize,
    orders: u64,
    silent: u64,
}

/// Session and request.
pub(crate) type Key = (u32, RequestId);

/// A request on its way.
pub(crate) struct Forward {
    /// Those of a slot keep this order, however often they are sent.
    pub(crate) order: u64,
    pub(crate) slot: Slot,
    /// Under which generation of the slot it was sent; `None` while it cannot be.
    pub(crate) sent: Option<SlotGeneration>,
    pub(crate) whose: For,
    pub(crate) what: What,
    /// The master has it in a queue: this is its ticket.
    pub(crate) queued: Option<u64>,
    /// Of a new lock, once it queued.
    pub(crate) copy: Option<u32>,
    /// When a bounded wait is over.
    pub(crate) until: Option<Time>,
}

/// Who wants to know.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum For {
    Client,
    /// A request for several locks.
    Many(u32),
    /// Nobody: what it obtains is released.
    Nobody,
}

/// What is asked; locks by their copies.
pub(crate) enum What {
    Lock(PeerLock),
    Convert {
        copy: u32,
        mode: Mode,
        wait: Wait,
        flags: Flags,
        value: Option<Box<[u8]>>,
        /// What the client believes it holds meanwhile, once this was sent.
        before: Option<Claim>,
        /// The slot has a new master since this was sent, which knows the lock as the copy was lowered.
        lowered: bool,
    },
    Release {
        copy: u32,
        flags: Flags,
        value: Option<Box<[u8]>>,
        /// Whether success is told to nobody.
        one_way: bool,
    },
    CancelCopy(u32),
    CancelRequest(RequestId),
    Read(u32),
    Claim(OwnedClaim),
    /// Something about a lock that has gone since it was sent.
    Answer,
}

/// Set in the numbers of requests that no client made.
const SILENT_BIT: u64 = 1 << 62;
/// So much longer than asked a wait goes on before the home ends it in its master's stead.
const GRACE: Span = Span::from_millis(500);

impl Forwards {
    pub(crate) fn new() -> Forwards {
        Forwards {
            map: BTreeMap::new(),
            timers: BTreeSet::new(),
            about: BTreeMap::new(),
            unsent: 0,
            orders: 0,
            silent: 0,
        }
    }

    pub(crate) fn silent_id(&mut self) -> RequestId {
        self.silent += 1;
        RequestId(SILENT_BIT | self.silent)
    }

    pub(crate) fn add(&mut self, key: Key, slot: Slot, whose: For, what: What, until: Option<Time>) {
        self.remove(key);
        self.orders += 1;
        self.unsent += 1;
        let order = self.orders;
        if let Some(copy) = what.copy() {
            *self.about.entry(copy).or_insert(0) += 1;
        }
        self.timers.extend(until.map(|t| (t.after(GRACE), key)));
        self.map.insert(key, Forward { order, slot, sent: None, whose, what, queued: None, copy: None, until });
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<Forward> {
        let forward = self.map.remove(&key)?;
        self.unsent -= usize::from(forward.sent.is_none());
        self.forget_about(forward.what.copy());
        if let Some(until) = forward.until {
            self.timers.remove(&(until.after(GRACE), key));
        }
        Some(forward)
    }

    fn forget_about(&mut self, copy: Option<u32>) {
        let Some(copy) = copy else { return };
        if let Some(count) = self.about.get_mut(&copy) {
            *count -= 1;
            if *count == 0 {
                self.about.remove(&copy);
            }
        }
    }

    /// How many requests about a copy are on their way.
    pub(crate) fn count_about(&self, copy: u32) -> u32 {
        self.about.get(&copy).copied().unwrap_or(0)
    }

    /// Those of a session that are about a copy.
    pub(crate) fn about(&self, at: u32, copy: u32) -> Vec<Key> {
        if self.count_about(copy) == 0 {
            return Vec::new();
        }
        let all = self.map.range((at, RequestId(0))..=(at, RequestId(u64::MAX)));
        all.filter(|(_, f)| f.what.copy() == Some(copy)).map(|(key, _)| *key).collect()
    }

    /// A request goes on without its copy: only its answer is still wanted.
    pub(crate) fn detach(&mut self, key: Key) {
        let Some(forward) = self.map.get_mut(&key) else { return };
        let what = core::mem::replace(&mut forward.what, What::Answer);
        self.forget_about(what.copy());
    }

    pub(crate) fn next_timer(&self) -> Option<Time> {
        self.timers.first().map(|(time, _)| *time)
    }

    fn pop_due(&mut self, now: Time) -> Option<Key> {
        let (_, key) = *self.timers.first().filter(|(time, _)| *time <= now)?;
        self.timers.pop_first();
        if let Some(forward) = self.map.get_mut(&key) {
            forward.until = None;
        }
        Some(key)
    }

    /// Those of a session.
    pub(crate) fn of_session(&self, at: u32) -> Vec<Key> {
        self.map.range((at, RequestId(0))..=(at, RequestId(u64::MAX))).map(|(key, _)| *key).collect()
    }

    pub(crate) fn set_sent(&mut self, key: Key, sent: Option<SlotGeneration>) {
        let Some(forward) = self.map.get_mut(&key) else { return };
        self.unsent += usize::from(forward.sent.is_some());
        forward.sent = sent;
        self.unsent -= usize::from(sent.is_some());
    }

    /// [CLUSTER-12] Whether an earlier one of the same session and slot is not sent: a release and the lock after it must not
    /// change places.
    fn is_behind(&self, key: Key) -> bool {
        let Some(forward) = self.map.get(&key) else { return false };
        let own = usize::from(forward.sent.is_none());
        let (at, _) = key;
        let earlier = |f: &Forward| f.sent.is_none() && f.slot == forward.slot && f.order < forward.order;
        self.unsent > own && self.map.range((at, RequestId(0))..=(at, RequestId(u64::MAX))).any(|(_, f)| earlier(f))
    }

    /// Those not sent yet, in their order.
    pub(crate) fn unsent(&self) -> Vec<Key> {
        if self.unsent == 0 {
            return Vec::new();
        }
        let unsent = self.map.iter().filter(|(_, f)| f.sent.is_none());
        let mut found: Vec<(u64, Key)> = unsent.map(|(key, f)| (f.order, *key)).collect();
        found.sort_unstable();
        found.into_iter().map(|(_, key)| key).collect()
    }
}

impl What {
    /// A conversion as a client asks for it. `before`: what the copy holds, of one that a master was sent already.
    pub(crate) fn convert(copy: u32, request: &ConvertRequest<'_>, before: Option<Claim>) -> What {
        What::Convert {
            copy,
            mode: request.mode,
            wait: request.wait,
            flags: request.flags,
            value: request.value.map(Into::into),
            before,
            lowered: false,
        }
    }

    /// Whether a master may have acted on it.
    pub(crate) fn was_sent(&self) -> bool {
        matches!(self, What::Convert { before: Some(_), .. })
    }

    /// The copy it is about, where it needs to know the master's id of it.
    pub(crate) fn copy(&self) -> Option<u32> {
        match self {
            What::Convert { copy, .. } | What::Release { copy, .. } | What::CancelCopy(copy) | What::Read(copy) => {
                Some(*copy)
            }
            What::Lock(_) | What::CancelRequest(_) | What::Claim(_) | What::Answer => None,
        }
    }
}

impl Node {
    // ------------------------------------------------------------ what clients ask

    pub(crate) fn forward_lock(&mut self, now: Time, at: u32, id: RequestId, request: &LockRequest<'_>) {
        if let Err(why) = self.try_forward_lock(now, at, id, For::Client, request) {
            self.refuse(at, id, why);
        }
    }

    pub(crate) fn try_forward_lock(
        &mut self,
        now: Time,
        at: u32,
        id: RequestId,
        whose: For,
        request: &LockRequest<'_>,
    ) -> Result<(), Refusal> {
        let (lock, slot) = self.plan_lock(at, request)?;
        let until = deadline(now, request.wait);
        self.begin(now, (at, id), slot, whose, What::Lock(lock), until);
        Ok(())
    }

    /// A request for a new lock as it goes to its master; what can be refused without the master is refused here, so that nothing is
    /// kept for it.
    pub(crate) fn plan_lock(&self, at: u32, request: &LockRequest<'_>) -> Result<(PeerLock, Slot), Refusal> {
        self.check_forward(at, request.name.len())?;
        if self.table.space(request.space).is_none() {
            return Err(Refusal::NoLockspace);
        }
        let owner = self.plan_owner(at, request)?;
        let lock = PeerLock {
            space: request.space,
            name: request.name.into(),
            claim: request.claim,
            wait: request.wait,
            flags: request.flags,
            owner,
            tag: request.tag,
            priority: request.priority,
        };
        let slot = self.slot_of(request.space, request.name).ok_or(Refusal::NoQuorum)?;
        Ok((lock, slot))
    }

    pub(crate) fn forward_convert(&mut self, now: Time, at: u32, id: RequestId, request: &ConvertRequest<'_>) {
        let copy = match self.usable_copy(at, request.lock) {
            Ok(copy) => copy,
            Err(why) => return self.refuse(at, id, why),
        };
        // [GROUP-8] As of new locks.
        if request.flags.has(Flags::PERSISTENT) && self.is_in_group(copy) {
            return self.refuse(at, id, Refusal::Invalid);
        }
        let what = What::convert(copy, request, None);
        self.begin_on_copy(now, at, id, copy, what, deadline(now, request.wait));
    }

    pub(crate) fn forward_release(
        &mut self,
        now: Time,
        at: u32,
        id: RequestId,
        release: &ReleaseRequest<'_>,
        one_way: bool,
    ) {
        let copy = match self.usable_copy(at, release.lock) {
            Ok(copy) => copy,
            Err(why) => return self.refuse(at, id, why),
        };
        let value = release.value.map(Into::into);
        let what = What::Release { copy, flags: release.flags, value, one_way };
        self.begin_on_copy(now, at, id, copy, what, None);
    }

    pub(crate) fn forward_read(&mut self, now: Time, at: u32, id: RequestId, lock: LockId) {
        match self.usable_copy(at, lock) {
            Ok(copy) => self.begin_on_copy(now, at, id, copy, What::Read(copy), None),
            Err(why) => self.refuse(at, id, why),
        }
    }

    pub(crate) fn forward_cancel(&mut self, now: Time, at: u32, id: RequestId, target: Target) {
        let copies = self.member.as_ref().map(|m| &m.copies);
        let found = match target {
            Target::Lock(lock) => copies.and_then(|c| c.find(at, lock)).map(What::CancelCopy),
            Target::Request(request) => Some(What::CancelRequest(request)),
        };
        match found {
            // Of a lock of a group one member waits beside others: its own request is meant.
            Some(What::CancelCopy(copy)) if self.is_in_group(copy) => {
                let wait = self.member.as_ref().and_then(|m| m.copies.get(copy)?.wait);
                match wait {
                    Some(request) => self.cancel_forward(now, at, id, request),
                    None => self.refuse(at, id, Refusal::NotHeld),
                }
            }
            Some(What::CancelCopy(copy)) => self.begin_on_copy(now, at, id, copy, What::CancelCopy(copy), None),
            Some(What::CancelRequest(request)) => self.cancel_forward(now, at, id, request),
            _ => self.refuse(at, id, Refusal::NotHeld),
        }
    }

    /// Cancels whatever a request waits for.
    fn cancel_forward(&mut self, now: Time, at: u32, id: RequestId, request: RequestId) {
        let Some(member) = &self.member else { return };
        let Some(forward) = member.forwards.map.get(&(at, request)).filter(|f| f.whose != For::Nobody) else {
            return self.refuse(at, id, Refusal::NotHeld);
        };
        // Nobody but this node knows of it yet.
        if forward.sent.is_none() && forward.queued.is_none() && matches!(forward.what, What::Lock(_)) {
            self.end_forward(now, (at, request), WaitEnd::Cancelled);
            self.counters.cancels += 1;
            return self.answer(at, id, Reply::Cancelled);
        }
        let slot = forward.slot;
        self.begin(now, (at, id), slot, For::Client, What::CancelRequest(request), None);
    }

    /// Converts a lock on the way down a path. `Err` where it is refused at once.
    pub(crate) fn forward_raise(
        &mut self,
        now: Time,
        (at, id): Key,
        many: u32,
        request: &ConvertRequest<'_>,
    ) -> Result<(), Refusal> {
        self.check_forward(at, 0)?;
        let member = self.member.as_ref().ok_or(Refusal::NotHeld)?;
        let copy = member.copies.find(at, request.lock).ok_or(Refusal::NotHeld)?;
        let slot = member.copies.get(copy).map(|copy| copy.slot).ok_or(Refusal::NotHeld)?;
        let until = deadline(now, request.wait);
        self.begin(now, (at, id), slot, For::Many(many), What::convert(copy, request, None), until);
        Ok(())
    }

    /// Takes back what a path in vain has made of a lock.
    pub(crate) fn bring_back(&mut self, now: Time, at: u32, request: &ConvertRequest<'_>) {
        let Some(member) = &mut self.member else { return };
        let Some(copy) = member.copies.find(at, request.lock) else { return };
        let Some(slot) = member.copies.get(copy).map(|copy| copy.slot) else { return };
        let id = member.forwards.silent_id();
        self.begin(now, (at, id), slot, For::Nobody, What::convert(copy, request, None), None);
    }

    /// Gives back a lock that a request for several has obtained in vain.
    pub(crate) fn give_back(&mut self, now: Time, at: u32, lock: LockId) {
        if let Some(copy) = self.member.as_ref().and_then(|m| m.copies.find(at, lock)) {
            self.release_copy(now, copy);
        }
    }

    /// Gives back a lock that nobody here wants.
    pub(crate) fn release_copy(&mut self, now: Time, copy: u32) {
        let Some(member) = &mut self.member else { return };
        let Some(found) = member.copies.get(copy) else { return };
        let (at, slot) = (found.session, found.slot);
        let id = member.forwards.silent_id();
        let what = What::Release { copy, flags: Flags::FORCEUNLOCK, value: None, one_way: true };
        self.begin(now, (at, id), slot, For::Nobody, what, None);
    }

    // ------------------------------------------------------------ on the way

    fn begin_on_copy(&mut self, now: Time, at: u32, id: RequestId, copy: u32, what: What, until: Option<Time>) {
        let slot = self.member.as_ref().and_then(|m| m.copies.get(copy)).map(|c| c.slot);
        let Some(slot) = slot else { return self.refuse(at, id, Refusal::NotHeld) };
        if let Err(why) = self.check_forward(at, 0) {
            return self.refuse(at, id, why);
        }
        self.begin(now, (at, id), slot, For::Client, what, until);
    }

    pub(crate) fn begin(&mut self, now: Time, key: Key, slot: Slot, whose: For, what: What, until: Option<Time>) {
        let Some(member) = &mut self.member else { return };
        let tells = !matches!(what, What::Claim(_) | What::Release { one_way: true, .. });
        if let What::Release { copy, .. } = &what
            && let Some(copy) = member.copies.get_mut(*copy)
        {
            copy.begin_leaving();
        }
        member.forwards.add(key, slot, whose, what, until);
        if whose == For::Client && tells {
            let (at, id) = key;
            if let Some(session) = self.sessions.get_mut(at) {
                session.ledger.wait(Waiting { id, since: now, pend: Pend::Forward });
            }
        }
        self.send_forward(now, key);
    }

    /// Sends a request to the master of its slot, if that is known, may be spoken to, and knows the lock.
    pub(crate) fn send_forward(&mut self, now: Time, key: Key) {
        let Some(member) = &mut self.member else { return };
        if member.forwards.is_behind(key) {
            return;
        }
        let Some(forward) = member.forwards.map.get(&key) else { return };
        let Some((master, generation)) = master_up(&member.state, forward.slot) else { return };
        // [CLUSTER-6] Its master hears first what there is.
        if member.is_reporting(forward.slot) {
            return;
        }
        let place = match forward.what.copy() {
            Some(copy) => match member.copies.get(copy).and_then(|c| c.place) {
                Some((_, place)) => Some(place),
                None => return,
            },
            None => None,
        };
        member.forwards.set_sent(key, Some(generation));
        let sure = forward_is_alone(member, key);
        let Some(forward) = member.forwards.map.get_mut(&key) else { return };
        let (op, keeps) = forward.what.to_op(now, place, forward.until, sure);
        let ticket = forward.queued;
        let slot = forward.slot;
        match &mut forward.what {
            What::Convert { copy, mode, flags, before, .. } => {
                let (copy, mode, flags) = (*copy, *mode, *flags);
                let held = member.copies.get(copy).and_then(|c| c.held);
                *before = before.or(held);
                self.lower(copy, mode, flags);
            }
            What::Release { copy, .. } => {
                if let Some(copy) = member.copies.get_mut(*copy).filter(|copy| copy.group.is_none()) {
                    copy.releasing = true;
                }
            }
            _ => {}
        }
        let (at, id) = key;
        if !keeps {
            self.drop_sent_release(key);
        }
        let Some((session, home)) = self.introduce(now, at, master) else { return };
        let stood = ticket.map(|ticket| Stood { ticket, waited: self.waited(now, key) });
        let message = match op {
            // [CLUSTER-24] It waited at the session's former home: its client has said where it stood.
            Sent::Op(op) if let Some(stood) = stood => {
                PeerMessage::Again { session, home, id, slot, generation, stood, op }
            }
            Sent::Op(op) => PeerMessage::Request { session, home, id, slot, generation, op },
            Sent::Claim(claim) => PeerMessage::Claim { session, home, id, slot, generation, claim },
        };
        self.send_peer(now, master, message);
    }

    /// [CLUSTER-5] A one-way release that cannot be refused is done with when it is sent: the copy claims nothing any more.
    fn drop_sent_release(&mut self, key: Key) {
        let Some(member) = &mut self.member else { return };
        if let Some(Forward { what: What::Release { copy, .. }, .. }) = member.forwards.remove(key) {
            let lock = member.copies.id(copy);
            if let Some(gone) = member.copies.remove(copy) {
                self.forget_name_in_tree(gone.session, gone.space, &gone.name, lock);
            }
        }
        let (at, id) = key;
        self.settle_release(at, id);
    }

    /// [CLUSTER-5] What a conversion leaves for certain, as soon as it is sent: its answer may be lost with the master, who may have
    /// granted to others what the old mode excluded.
    pub(crate) fn lower(&mut self, copy: u32, mode: Mode, flags: Flags) {
        let Some(member) = &mut self.member else { return };
        let Some(found) = member.copies.get_mut(copy) else { return };
        let Some(space) = self.table.space(found.space) else { return };
        if let Some(Claim::Mode(held)) = found.held
            && let Some(left) = space.modes.while_converting(held, mode, flags)
        {
            #[cfg(feature = "planted")]
            let left = if lockstead_types::planted::is(lockstead_types::planted::Bug::CopyLoweredFirst) {
                Mode(0)
            } else {
                left
            };
            found.held = Some(Claim::Mode(left));
        }
    }

    /// Sends everything that could not be sent before, in its order.
    pub(crate) fn send_unsent(&mut self, now: Time) {
        let Some(member) = &self.member else { return };
        for key in member.forwards.unsent() {
            self.send_forward(now, key);
        }
    }

    /// A request that waits ends with this.
    pub(crate) fn end_forward(&mut self, now: Time, key: Key, end: WaitEnd) {
        let Some(member) = &mut self.member else { return };
        let Some(forward) = member.forwards.remove(key) else { return };
        let (at, id) = key;
        match forward.whose {
            For::Client => {
                if let Some(waiting) = self.sessions.get_mut(at).and_then(|s| s.ledger.end_wait(id)) {
                    self.answer_wait(now, at, waiting, end);
                }
            }
            For::Many(many) => self.on_many_step(now, at, many, end),
            For::Nobody => {}
        }
    }

    /// [CLUSTER-15] Ends waits in the stead of masters that do not answer in time. What they grant later is given back.
    pub(crate) fn expire_forwards(&mut self, now: Time) {
        loop {
            let Some(key) = self.member.as_mut().and_then(|m| m.forwards.pop_due(now)) else { return };
            let Some(member) = &mut self.member else { return };
            let Some(forward) = member.forwards.map.get_mut(&key) else { continue };
            // [CLUSTER-11] A conversion that was sent is ended by a master alone. Ended here, its grant might be on its way: the client
            // goes on with the old mode, of which the grant has taken something away.
            if matches!(forward.what, What::Convert { .. }) && forward.what.was_sent() {
                continue;
            }
            let (at, id) = key;
            let whose = core::mem::replace(&mut forward.whose, For::Nobody);
            let unsent = forward.sent.is_none() && forward.queued.is_none();
            if unsent {
                member.forwards.remove(key);
            }
            match whose {
                For::Client => {
                    if let Some(waiting) = self.sessions.get_mut(at).and_then(|s| s.ledger.end_wait(id)) {
                        self.answer_wait(now, at, waiting, WaitEnd::Refused(Refusal::Timeout));
                    }
                }
                For::Many(many) => self.on_many_step(now, at, many, WaitEnd::Refused(Refusal::Timeout)),
                For::Nobody => {}
            }
        }
    }

    /// A copy the client may speak of: its lock is not part of an incomplete request for several, and not being released.
    pub(crate) fn usable_copy(&self, at: u32, lock: LockId) -> Result<u32, Refusal> {
        let member = self.member.as_ref().ok_or(Refusal::NotHeld)?;
        let session = self.sessions.get(at).ok_or(Refusal::Lost)?;
        if session.has_manies() && self.is_partial(session, lock) {
            return Err(Refusal::NotHeld);
        }
        let copy = member.copies.find(at, lock).ok_or(Refusal::NotHeld)?;
        let usable = member.copies.get(copy).is_some_and(|c| !c.releasing);
        if usable { Ok(copy) } else { Err(Refusal::NotHeld) }
    }

    fn is_in_group(&self, copy: u32) -> bool {
        self.member.as_ref().and_then(|m| m.copies.get(copy)).is_some_and(|copy| copy.group.is_some())
    }

    pub(crate) fn check_forward(&self, at: u32, name_bytes: usize) -> Result<(), Refusal> {
        let member = self.member.as_ref().ok_or(Refusal::Invalid)?;
        let limits = &self.config.limits;
        if name_bytes > limits.name_bytes as usize {
            return Err(Refusal::TooLong);
        }
        let full = member.links.values().any(|link| link.is_full());
        let many = member.copies.len() >= limits.locks as usize;
        if full {
            return Err(Refusal::Limit(lockstead_types::LimitName::OutputBytes));
        }
        if many {
            return Err(Refusal::Limit(lockstead_types::LimitName::Locks));
        }
        self.sessions.get(at).map(|_| ()).ok_or(Refusal::Lost)
    }
}

/// As it goes to a master.
enum Sent {
    Op(PeerOp),
    Claim(OwnedClaim),
}

impl What {
    /// As it goes to a master now, and whether an answer comes in any case. `settled`: nothing waits for the lock, so that a plain
    /// release of it cannot be refused.
    fn to_op(&self, now: Time, place: Option<LockId>, until: Option<Time>, settled: bool) -> (Sent, bool) {
        let lock = place.unwrap_or(LockId(0));
        let left = |wait: Wait| match (wait, until) {
            (Wait::For(_), Some(until)) => Wait::For(until.since(now)),
            // Its time was over already.
            (Wait::For(_), None) => Wait::For(Span::ZERO),
            _ => wait,
        };
        match self {
            What::Lock(request) => {
                let op = PeerOp::Lock(PeerLock { wait: left(request.wait), ..request.clone() });
                (Sent::Op(op), true)
            }
            What::Convert { mode, wait, flags, value, .. } => {
                let op = PeerOp::Convert { lock, mode: *mode, wait: left(*wait), flags: *flags, value: value.clone() };
                (Sent::Op(op), true)
            }
            What::Release { flags, value, one_way, .. } => {
                let one_way = *one_way && settled && value.is_none();
                (Sent::Op(PeerOp::Release { lock, flags: *flags, value: value.clone(), one_way }), !one_way)
            }
            What::CancelCopy(_) => (Sent::Op(PeerOp::Cancel(Target::Lock(lock))), true),
            What::CancelRequest(request) => (Sent::Op(PeerOp::Cancel(Target::Request(*request))), true),
            What::Read(_) => (Sent::Op(PeerOp::ReadValue(lock)), true),
            What::Claim(claim) => (Sent::Claim(claim.clone()), true),
            // Never sent again: what it was about is gone.
            What::Answer => (Sent::Op(PeerOp::Cancel(Target::Request(RequestId(0)))), true),
        }
    }
}

/// Whether a request about a lock is the only one, and nothing waits for the lock: then a plain release cannot be refused.
fn forward_is_alone(member: &super::Member, key: Key) -> bool {
    let copy = member.forwards.map.get(&key).and_then(|f| f.what.copy());
    copy.is_some_and(|c| {
        member.forwards.count_about(c) <= 1
            && member.copies.get(c).is_some_and(|copy| copy.wait.is_none() && copy.group.is_none())
    })
}

pub(crate) fn deadline(now: Time, wait: Wait) -> Option<Time> {
    match wait {
        Wait::For(span) => Some(now.after(span)),
        Wait::Never | Wait::Forever => None,
    }
}
