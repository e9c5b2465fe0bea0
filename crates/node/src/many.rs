//! Several locks at once, all or none.
//!
//! The names are acquired one after another in one order for everybody, lockspace and then name, and the earlier ones are
//! held while a later one is waited for. So no two such requests wait for each other in a circle. The client sees only the end.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use lockstead_table::{Outcome, OwnerId};
use lockstead_types::{
    Flags, LimitName, LockId, RequestId, SpaceId, Time,
    refusal::Refusal,
    reply::{Grant, Reply},
    request::{Claim, LockRequest, OwnerRef, ReleaseRequest, Wait},
};

use crate::{
    effects::WaitEnd,
    ledger::{Pend, Waiting},
    node::Node,
    path::{Asks, Level, Path},
    session::Session,
    slab::Slab,
};

/// All requests of this kind under way.
pub(crate) struct Manies {
    pub(crate) slab: Slab<Many>,
    /// When a path that waits for another one of its session has waited long enough.
    pub(crate) parked: BTreeSet<(Time, u32)>,
    /// Sessions of which a path may go on.
    pub(crate) woken: Vec<u32>,
}

/// One request for several locks.
pub(crate) struct Many {
    pub(crate) session: u32,
    pub(crate) id: RequestId,
    pub(crate) until: Until,
    /// In the order of acquisition.
    pub(crate) parts: Vec<Part>,
    /// How many parts are granted: those before it. It is waited for the part at it.
    pub(crate) granted: usize,
    pub(crate) waiting: Option<LockId>,
    /// What somebody else waits for since one of the locks was granted ([MANY-3]).
    pub(crate) withheld: BTreeMap<LockId, Claim>,
    /// Of a path: the parts are the levels of one name.
    pub(crate) path: Option<Box<Path>>,
}

/// How long the whole may wait.
#[derive(Copy, Clone)]
pub(crate) enum Until {
    Now,
    At(Time),
    Ever,
}

pub(crate) struct Part {
    pub(crate) space: SpaceId,
    pub(crate) name: Box<[u8]>,
    pub(crate) claim: Claim,
    pub(crate) flags: Flags,
    pub(crate) owner: OwnerRef,
    pub(crate) tag: u32,
    pub(crate) priority: i8,
    /// Its place in the request.
    pub(crate) place: usize,
    pub(crate) grant: Option<Grant>,
}

impl Until {
    pub(crate) fn of(now: Time, request: &LockRequest<'_>) -> Until {
        match request.wait {
            _ if request.flags.has(Flags::NOQUEUE) => Until::Now,
            Wait::Never => Until::Now,
            Wait::For(span) => Until::At(now.after(span)),
            Wait::Forever => Until::Ever,
        }
    }

    fn left(self, now: Time) -> Wait {
        match self {
            Until::Now => Wait::Never,
            Until::At(time) => Wait::For(time.since(now)),
            Until::Ever => Wait::Forever,
        }
    }
}

impl Manies {
    pub(crate) fn new() -> Manies {
        Manies { slab: Slab::new(), parked: BTreeSet::new(), woken: Vec::new() }
    }

    pub(crate) fn next_timer(&self) -> Option<Time> {
        self.parked.first().map(|(time, _)| *time)
    }

    pub(crate) fn check(&self, sessions: &crate::session::Sessions) -> Result<(), &'static str> {
        for (many, value) in self.slab.iter() {
            let session = sessions.get(value.session).ok_or("an all-or-nothing request of no session")?;
            if session.extra().is_none_or(|e| !e.manies.contains(&many)) {
                return Err("a session does not know its all-or-nothing request");
            }
            if session.ledger.waiting(value.id).map(|w| w.pend) != Some(Pend::Many(many)) {
                return Err("an all-or-nothing request that nobody waits for");
            }
            if value.granted >= value.parts.len() {
                return Err("an all-or-nothing request waits for nothing");
            }
        }
        let known: usize = sessions.iter().filter_map(|(_, s)| s.extra()).map(|e| e.manies.len()).sum();
        if known != self.slab.len() {
            return Err("a session knows an all-or-nothing request that is gone");
        }
        Ok(())
    }
}

impl Node {
    pub(crate) fn on_lock_many(&mut self, now: Time, at: u32, id: RequestId, requests: &[LockRequest<'_>]) {
        let (until, parts) = match self.plan_many(now, requests) {
            Ok(plan) => plan,
            Err(why) => return self.refuse(at, id, why),
        };
        self.begin_many(now, at, id, (until, parts), None);
    }

    pub(crate) fn begin_many(
        &mut self,
        now: Time,
        at: u32,
        id: RequestId,
        (until, parts): (Until, Vec<Part>),
        path: Option<Box<Path>>,
    ) {
        let many = Many { session: at, id, until, parts, granted: 0, waiting: None, withheld: BTreeMap::new(), path };
        let Some(many) = self.manies.slab.insert(many) else {
            return self.refuse(at, id, Refusal::Limit(LimitName::InFlight));
        };
        if let Some(session) = self.sessions.get_mut(at) {
            session.ledger.wait(Waiting { id, since: now, pend: Pend::Many(many) });
            session.extra_or_new().manies.insert(many);
        }
        self.acquire_next(now, many);
        self.tell_effects(now);
    }

    /// The parts in the order of acquisition.
    fn plan_many(&self, now: Time, requests: &[LockRequest<'_>]) -> Result<(Until, Vec<Part>), Refusal> {
        let first = requests.first().ok_or(Refusal::Invalid)?;
        if requests.len() > self.config.limits.names_per_request as usize {
            return Err(Refusal::Limit(LimitName::NamesPerRequest));
        }
        // [MANY-1] All share the wait of the first.
        let until = Until::of(now, first);
        // [MANY-6] Before anything is granted: afterwards no refusal could stand for an answer that cannot be sent.
        if self.answer_bytes(requests) > u64::from(self.config.limits.frame_bytes) {
            return Err(Refusal::Limit(LimitName::FrameBytes));
        }
        let mut parts = Vec::with_capacity(requests.len());
        for (place, request) in requests.iter().enumerate() {
            // A group's lock may be there already, shared with members who do not stop using it.
            if matches!(request.owner, OwnerRef::Group(_)) {
                return Err(Refusal::Invalid);
            }
            parts.push(Part {
                space: request.space,
                name: request.name.into(),
                claim: request.claim,
                flags: Flags(request.flags.0 & !Flags::NOQUEUE.0),
                owner: request.owner,
                tag: request.tag,
                priority: request.priority,
                place,
                grant: None,
            });
        }
        // [MANY-2] One order for all such requests, so that no two of them wait for each other; each name once.
        parts.sort_unstable_by(|a, b| (a.space, &a.name).cmp(&(b.space, &b.name)));
        if parts.windows(2).any(|pair| matches!(pair, [a, b] if a.space == b.space && a.name == b.name)) {
            return Err(Refusal::Invalid);
        }
        Ok((until, parts))
    }

    /// How long the answer may become, from above: each grant may carry the whole value block of its lockspace.
    fn answer_bytes(&self, requests: &[LockRequest<'_>]) -> u64 {
        const GRANT: u64 = 64;
        let value = |r: &LockRequest<'_>| match self.table.space(r.space) {
            Some(space) if r.flags.has(Flags::VALBLK) && space.value_bytes > 0 => space.value_bytes,
            Some(_) if r.flags.has(Flags::VALBLK) => self.config.limits.value_bytes,
            _ => 0,
        };
        requests.iter().map(|r| GRANT + u64::from(value(r))).sum::<u64>() + GRANT
    }

    /// Acquires until one must be waited for, all are there, or one is refused.
    pub(crate) fn acquire_next(&mut self, now: Time, many: u32) {
        loop {
            let Some(value) = self.manies.slab.get_mut(many) else { return };
            if value.granted >= value.parts.len() {
                return self.complete_many(now, many);
            }
            // [TXN-7] Its transaction wants nothing more; what stopped its last wait came too late for that.
            let (at, id) = (value.session, value.id);
            if self.is_of_ended_txn(at, id) {
                return self.fail_many(now, many, WaitEnd::Refused(Refusal::Aborted));
            }
            let Some(value) = self.manies.slab.get_mut(many) else { return };
            let Some(owner) = self.sessions.get(value.session).map(|s| s.owner) else { return };
            let wait = value.until.left(now);
            let (at, id) = (value.session, value.id);
            if value.path.is_some() {
                match self.next_level(now, many, wait) {
                    Level::Next => continue,
                    Level::Waits => return,
                    Level::Lock => {}
                }
            }
            if self.member.is_some() {
                return self.acquire_from_master(now, many, at, id, wait);
            }
            let Some(value) = self.manies.slab.get_mut(many) else { return };
            let Some(part) = value.parts.get(value.granted) else { return };
            let request = part.request(wait);
            match self.table.lock(now, owner, value.id.0, &request, &mut self.fx) {
                Ok(Outcome::Granted(grant)) => self.on_part_granted(many, grant),
                Ok(Outcome::Queued(lock)) => {
                    value.waiting = Some(lock);
                    self.counters.queued += 1;
                    return;
                }
                // A new lock holds nothing that it could lose.
                Ok(Outcome::Demoted { why, .. }) | Err(why) => return self.fail_many(now, many, WaitEnd::Refused(why)),
            }
        }
    }

    /// As a member: the next part is asked of its master, whose answer is the next step.
    fn acquire_from_master(&mut self, now: Time, many: u32, at: u32, id: RequestId, wait: Wait) {
        let Some(value) = self.manies.slab.get_mut(many) else { return };
        let Some(part) = value.parts.get(value.granted) else { return };
        let (name, request) = (part.name.clone(), part.request(wait));
        let request = LockRequest { name: &name, ..request };
        if let Err(why) = self.forward_part(now, at, id, many, &request) {
            self.fail_many(now, many, WaitEnd::Refused(why));
        }
    }

    /// The master has the part in a queue, under this id.
    pub(crate) fn on_many_queued(&mut self, many: u32, lock: LockId) {
        self.counters.queued += 1;
        if let Some(value) = self.manies.slab.get_mut(many) {
            value.waiting = Some(lock);
        }
    }

    /// What was waited for has come, or will not come.
    pub(crate) fn on_many_step(&mut self, now: Time, _at: u32, many: u32, end: WaitEnd) {
        match end {
            WaitEnd::Granted(grant) => {
                self.on_part_granted(many, grant);
                self.acquire_next(now, many);
            }
            // [ESC-3] It was tried: without it, then.
            _ if self.has_not_escalated(many) => self.acquire_next(now, many),
            WaitEnd::Refused(_) | WaitEnd::Cancelled | WaitEnd::Demoted { .. } => self.fail_many(now, many, end),
        }
    }

    fn on_part_granted(&mut self, many: u32, grant: Grant) {
        let Some(value) = self.manies.slab.get_mut(many) else { return };
        if value.path.is_some() { self.on_level_granted(many, grant) } else { value.on_granted(grant) }
    }

    fn complete_many(&mut self, now: Time, many: u32) {
        let Some((value, waiting)) = self.take_many(many) else { return };
        if value.path.is_some() {
            return self.complete_path(now, value, waiting);
        }
        let mut grants: Vec<(usize, Grant)> =
            value.parts.into_iter().filter_map(|p| p.grant.map(|g| (p.place, g))).collect();
        grants.sort_unstable_by_key(|(place, _)| *place);
        let grants: Vec<Grant> = grants.into_iter().map(|(_, grant)| grant).collect();
        self.counters.grants += grants.len() as u64;
        self.counters.waits.add(now.since(waiting.since));
        self.answer(value.session, value.id, Reply::GrantedMany(grants));
        // [MANY-3] Notices come after the client knows the locks they are about.
        for (lock, claim) in value.withheld {
            self.notify_blocking(value.session, lock, claim);
        }
    }

    /// Releases what was obtained, and answers.
    pub(crate) fn fail_many(&mut self, now: Time, many: u32, end: WaitEnd) {
        let Some((value, waiting)) = self.take_many(many) else { return };
        if value.path.is_some() {
            let at = value.session;
            self.undo_path(now, &value);
            return self.answer_wait(now, at, waiting, end);
        }
        let Some(owner) = self.sessions.get(value.session).map(|s| s.owner) else { return };
        let obtained = value.parts.iter().filter_map(|p| p.grant.as_ref()).map(|g| g.lock);
        // The one waited for is still there where the failure was that of another.
        if self.is_member() {
            let obtained: Vec<LockId> = obtained.collect();
            obtained.into_iter().for_each(|lock| self.give_back(now, value.session, lock));
            return self.answer_wait(now, value.session, waiting, end);
        }
        for lock in obtained.chain(value.waiting) {
            let release = ReleaseRequest { lock, flags: Flags::FORCEUNLOCK, value: None };
            let _gone_already = self.table.release(now, owner, &release, &mut self.fx);
        }
        self.answer_wait(now, value.session, waiting, end);
    }

    fn take_many(&mut self, many: u32) -> Option<(Many, Waiting)> {
        let value = self.manies.slab.remove(many)?;
        if let (Some(Path { asks: Asks::Parked, .. }), Until::At(time)) = (value.path.as_deref(), value.until) {
            self.manies.parked.remove(&(time, many));
        }
        let session = self.sessions.get_mut(value.session)?;
        if let Some(extra) = session.extra_mut() {
            extra.manies.remove(&many);
        }
        let waiting = session.ledger.end_wait(value.id)?;
        Some((value, waiting))
    }

    pub(crate) fn cancel_many(&mut self, now: Time, owner: OwnerId, many: u32) -> Result<(), Refusal> {
        if self.is_parked(many) {
            self.fail_many(now, many, WaitEnd::Cancelled);
            return Ok(());
        }
        let waiting = self.manies.slab.get(many).and_then(|m| m.waiting).ok_or(Refusal::NotHeld)?;
        self.table.cancel(now, owner, waiting, &mut self.fx)
    }

    /// Forgets the requests of a session that ends; the table drops its locks.
    pub(crate) fn drop_manies(&mut self, at: u32) {
        let Some(extra) = self.sessions.get_mut(at).and_then(Session::extra_mut) else { return };
        for many in core::mem::take(&mut extra.manies) {
            self.manies.slab.remove(many);
            self.manies.parked.retain(|(_, parked)| *parked != many);
        }
    }

    /// Whether a lock was obtained, or is waited for, by a request that is not complete.
    pub(crate) fn is_partial(&self, session: &Session, lock: LockId) -> bool {
        let manies = session.extra().into_iter().flat_map(|e| &e.manies);
        manies.filter_map(|many| self.manies.slab.get(*many)).any(|m| m.has(lock))
    }

    /// The incomplete request of a session that has obtained a lock.
    pub(crate) fn many_with(&self, at: u32, lock: LockId) -> Option<u32> {
        let extra = self.sessions.get(at)?.extra()?;
        extra.manies.iter().copied().find(|many| self.manies.slab.get(*many).is_some_and(|m| m.has(lock)))
    }

    /// [MANY-3] Keeps a notice back while its lock belongs to a request that is not complete: its client does not know the lock
    /// and could do nothing.
    pub(crate) fn try_withhold(&mut self, at: u32, lock: LockId, claim: Claim) -> bool {
        let Some(many) = self.many_with(at, lock).and_then(|many| self.manies.slab.get_mut(many)) else { return false };
        many.withheld.insert(lock, claim);
        true
    }
}

impl Part {
    fn request(&self, wait: Wait) -> LockRequest<'_> {
        LockRequest {
            space: self.space,
            name: &self.name,
            claim: self.claim,
            wait,
            flags: self.flags,
            owner: self.owner,
            tag: self.tag,
            priority: self.priority,
        }
    }
}

impl Many {
    fn on_granted(&mut self, grant: Grant) {
        self.waiting = None;
        if let Some(part) = self.parts.get_mut(self.granted) {
            part.grant = Some(grant);
        }
        self.granted += 1;
    }

    fn has(&self, lock: LockId) -> bool {
        let obtained = self.parts.iter().filter_map(|p| p.grant.as_ref());
        // A lock that a path only raises is its client's already.
        let asked = self.path.as_ref().is_none_or(|path| matches!(path.asks, Asks::New));
        (asked && self.waiting == Some(lock)) || obtained.map(|g| g.lock).any(|l| l == lock)
    }
}
