//! What the home of a session sees to in hierarchies: that what is locked below is announced above, that nothing above goes
//! before what is below it, and that many locks become one.

use alloc::{boxed::Box, vec::Vec};

use lockstead_types::{
    Flags, LockId, Mode, ModeSet, RequestId, SpaceId, Time, Token,
    hierarchy::{Escalate, EscalateLevel, Escalation, path_ends},
    refusal::Refusal,
    reply::{Grant, Revoked},
    request::{Claim, ConvertRequest, LockRequest, Op, OwnerRef, Target},
    transaction::Discipline,
};

use crate::{
    effects::WaitEnd,
    ledger::Pend,
    node::Node,
    path::Asks,
    tree::{Absorbed, Tree},
};

impl Node {
    // ------------------------------------------------------------ what may be asked

    /// Whether a request may be made of a hierarchy, if it is of one.
    pub(crate) fn admit_to_tree(&self, at: u32, op: &Op<'_>) -> Result<(), Refusal> {
        if !self.spaces.has_trees() {
            return Ok(());
        }
        match op {
            Op::Lock(request) if self.spaces.tree(request.space).is_some() => self.check_announced(at, request),
            // [HIER-3] In their order of names it would not be seen what is announced by whom.
            Op::LockMany(requests) if requests.iter().any(|r| self.spaces.tree(r.space).is_some()) => {
                Err(Refusal::Invalid)
            }
            Op::Convert(request) => self.check_still_announced(at, request),
            Op::Release { release, .. } => self.check_nothing_below(at, release.lock),
            _ => Ok(()),
        }
    }

    /// [HIER-7] A lock that is asked for by itself needs what announces it.
    fn check_announced(&self, at: u32, request: &LockRequest<'_>) -> Result<(), Refusal> {
        let tree = self.spaces.tree(request.space).ok_or(Refusal::NoLockspace)?;
        let modes = &self.table.space(request.space).ok_or(Refusal::NoLockspace)?.modes;
        let ends = path_ends(request.name, tree.levels.len()).ok_or(Refusal::Invalid)?;
        let Claim::Mode(mode) = request.claim else { return Err(Refusal::Invalid) };
        // [HIER-3] Locks of others than the session are in no book of a home.
        let own = matches!(request.owner, OwnerRef::Session | OwnerRef::Transaction | OwnerRef::Statement);
        let odd = Flags(Flags::PERSISTENT.0 | Flags::ORPHAN.0 | Flags::ALTCW.0 | Flags::ALTPR.0);
        if !own || request.tag != 0 || request.flags.0 & odd.0 != 0 {
            return Err(Refusal::Invalid);
        }
        if !modes.has(mode) {
            return Err(Refusal::BadMode);
        }
        let free = self.spaces.get(request.space).is_some_and(|spec| spec.discipline == Discipline::Free);
        let above = ends.split_last().map(|(_, above)| above).unwrap_or_default();
        if free || above.is_empty() || modes.null() == Some(mode) {
            return Ok(());
        }
        let intent = modes.intent(mode).ok_or(Refusal::BadMode)?;
        for (level, end) in (0..).zip(above) {
            let entry = self.tree(at).and_then(|tree| tree.get(request.space, request.name.get(..*end)?));
            let held = entry.filter(|entry| entry.told).and_then(|entry| self.mode_held(at, entry.lock));
            match held {
                Some(held) if modes.covers(held, mode) => return Ok(()),
                Some(held) if modes.is_enough(held, intent) => {}
                Some(_) | None => return Err(Refusal::Intent { level, mode: intent }),
            }
        }
        Ok(())
    }

    /// [HIER-8] While something is below, a lock is not made weaker.
    fn check_still_announced(&self, at: u32, request: &ConvertRequest<'_>) -> Result<(), Refusal> {
        let Some((space, name)) = self.name_in_tree(at, request.lock) else { return Ok(()) };
        if request.flags.has(Flags::CONVDEADLK) {
            return Err(Refusal::Invalid);
        }
        let Some(entry) = self.tree(at).and_then(|tree| tree.get(space, &name)) else { return Ok(()) };
        let (Some(held), Some(known)) = (self.mode_held(at, request.lock), self.table.space(space)) else {
            return Ok(());
        };
        let weaker = known.modes.has(request.mode) && !known.modes.is_enough(request.mode, held);
        if weaker && (entry.below > 0 || entry.pins > 0) { Err(Refusal::Sublocks) } else { Ok(()) }
    }

    /// [HIER-8] Nothing above goes before what is below.
    fn check_nothing_below(&self, at: u32, lock: LockId) -> Result<(), Refusal> {
        let Some((space, name)) = self.name_in_tree(at, lock) else { return Ok(()) };
        let entry = self.tree(at).and_then(|tree| tree.get(space, &name));
        let busy = entry.is_some_and(|entry| entry.below > 0 || entry.pins > 0);
        if busy { Err(Refusal::Sublocks) } else { Ok(()) }
    }

    /// [HIER-8] What is to be released, with what lies below something else before it; locks of no hierarchy as they come.
    pub(crate) fn leaf_to_root(&self, at: u32, locks: Vec<LockId>) -> Vec<LockId> {
        if self.tree(at).is_none() {
            return locks;
        }
        let (mut in_tree, others): (Vec<LockId>, Vec<LockId>) =
            locks.into_iter().partition(|lock| self.name_in_tree(at, *lock).is_some());
        // What is above was granted before what is below.
        in_tree.reverse();
        in_tree.extend(others);
        in_tree
    }

    // ------------------------------------------------------------ the book

    pub(crate) fn tree(&self, at: u32) -> Option<&Tree> {
        self.sessions.get(at)?.extra()?.tree.as_deref()
    }

    fn tree_mut(&mut self, at: u32) -> Option<&mut Tree> {
        self.sessions.get_mut(at).and_then(|s| s.extra_mut()).and_then(|e| e.tree.as_deref_mut())
    }

    pub(crate) fn tree_or_new(&mut self, at: u32) -> &mut Tree {
        // A path belongs to a session that is there.
        self.sessions.tree_or_new(at)
    }

    /// What a lock of a hierarchy is on.
    pub(crate) fn name_in_tree(&self, at: u32, lock: LockId) -> Option<(SpaceId, Box<[u8]>)> {
        if !self.spaces.has_trees() {
            return None;
        }
        let (space, name) = match &self.member {
            Some(member) => {
                let copy = member.copies.get(member.copies.find(at, lock)?)?;
                (copy.space, &*copy.name)
            }
            None => self.table.name_of_lock(lock)?,
        };
        self.spaces.tree(space)?;
        Some((space, name.into()))
    }

    pub(crate) fn mode_held(&self, at: u32, lock: LockId) -> Option<Mode> {
        let claim = match &self.member {
            Some(member) => member.copies.get(member.copies.find(at, lock)?)?.held?,
            None => self.table.held(lock)?.1,
        };
        if let Claim::Mode(mode) = claim { Some(mode) } else { None }
    }

    /// Whether a lock of that name is being released.
    pub(crate) fn is_leaving(&self, at: u32, space: SpaceId, name: &[u8]) -> bool {
        let Some(entry) = self.tree(at).and_then(|tree| tree.get(space, name)) else { return false };
        let Some(member) = &self.member else { return false };
        let copy = member.copies.find(at, entry.lock).and_then(|copy| member.copies.get(copy));
        copy.is_none_or(|copy| copy.releasing)
    }

    /// A lock as it is held now.
    pub(crate) fn grant_as_held(&self, at: u32, lock: LockId) -> Option<Grant> {
        let plain = |claim, token: Token| Grant {
            lock,
            claim,
            token,
            value: None,
            demoted: false,
            alternative: false,
            seal: None,
        };
        let Some(member) = &self.member else {
            return Some(plain(self.table.held(lock)?.1, self.table.token_of(lock)?));
        };
        let found = member.copies.find(at, lock)?;
        let copy = member.copies.get(found)?;
        let mut grant = plain(copy.held?, copy.token);
        let session = self.sessions.get(at)?;
        if !session.is_embedded() {
            member.seal_grant(session.id, found, &mut grant);
        }
        Some(grant)
    }

    /// A lock was granted, or claimed.
    pub(crate) fn note_in_tree(&mut self, at: u32, lock: LockId) {
        let Some((space, name)) = self.name_in_tree(at, lock) else { return };
        let tree = self.tree_or_new(at);
        if tree.get(space, &name).is_none_or(|entry| entry.lock != lock) {
            tree.add(space, &name, lock, true);
        }
        self.manies.woken.push(at);
    }

    pub(crate) fn forget_in_tree(&mut self, at: u32, lock: LockId) {
        if let Some((space, name)) = self.name_in_tree(at, lock) {
            self.forget_name_in_tree(at, space, &name, lock);
        }
    }

    pub(crate) fn forget_name_in_tree(&mut self, at: u32, space: SpaceId, name: &[u8], lock: LockId) {
        let Some(tree) = self.tree_mut(at) else { return };
        if tree.get(space, name).is_some_and(|entry| entry.lock == lock) {
            tree.remove(space, name);
            self.manies.woken.push(at);
        }
    }

    /// A lock of a session was taken away.
    pub(crate) fn lose_lock(&mut self, now: Time, at: u32, lock: LockId, why: Revoked) {
        let name = self.tree(at).and_then(|tree| tree.name_of(lock));
        if let Some((space, name)) = name {
            self.lose_name_in_tree(now, at, (space, &name), lock, why);
        }
        self.notify_revoked(at, lock, why);
        self.on_lock_lost(now, at, lock);
    }

    /// [HIER-9] What is below is lost with what announced it: others may lock that as a whole now.
    pub(crate) fn lose_name_in_tree(
        &mut self,
        now: Time,
        at: u32,
        (space, name): (SpaceId, &[u8]),
        lock: LockId,
        why: Revoked,
    ) {
        if self.tree(at).and_then(|tree| tree.get(space, name)).is_none_or(|entry| entry.lock != lock) {
            return;
        }
        let below = self.tree(at).map(|tree| tree.below(space, name)).unwrap_or_default();
        self.forget_name_in_tree(at, space, name, lock);
        for (_, entry) in below.into_iter().rev() {
            // An incomplete path notices by itself.
            if entry.told && self.mode_held(at, entry.lock).is_some() {
                self.release_all(now, at, &[entry.lock]);
                self.notify_revoked(at, entry.lock, why);
                self.on_lock_lost(now, at, entry.lock);
            }
        }
    }

    /// Whether a request that is to be cancelled waited for another path of its session; then it is cancelled.
    pub(crate) fn cancel_parked(&mut self, now: Time, at: u32, target: Target) -> bool {
        let Target::Request(request) = target else { return false };
        match self.pend_of(at, request) {
            Some(Pend::Many(many)) if self.is_parked(many) => {
                self.fail_many(now, many, WaitEnd::Cancelled);
                true
            }
            _ => false,
        }
    }

    fn pend_of(&self, at: u32, request: RequestId) -> Option<Pend> {
        self.sessions.get(at)?.ledger.waiting(request).map(|waiting| waiting.pend)
    }

    // ------------------------------------------------------------ escalation

    /// [ESC-1] The mode to which the lock at the level of a path is to be raised, so that it takes in all below it; `None` where that is
    /// not to be tried.
    pub(crate) fn escalation_at(&self, many: u32) -> Option<Mode> {
        let Escalation::To(Escalate { level, at: many_are, .. }) = self.tree_of_path(many)?.escalation else {
            return None;
        };
        let value = self.manies.slab.get(many)?;
        let target = match level {
            EscalateLevel::Parent => value.parts.len().checked_sub(2)?,
            EscalateLevel::Level(level) => usize::from(level),
        };
        let (part, at) = (value.parts.get(value.granted)?, value.session);
        let entry = self.tree(at)?.get(part.space, &part.name)?;
        let due =
            value.granted == target && target + 1 < value.parts.len() && entry.below >= many_are.max(entry.try_at);
        let whole = due && entry.told && !self.tree(at)?.is_busy_below(part.space, &part.name);
        let txn = self.txn(at)?;
        // [ESC-2] Of one owner: what the session has outside of its transaction does not become part of it.
        txn.part(entry.lock).filter(|_| whole)?;
        let modes = &self.table.space(part.space)?.modes;
        let mut below = ModeSet::EMPTY.with(value.path.as_ref()?.mode);
        for (_, lower) in self.tree(at)?.below(part.space, &part.name) {
            txn.part(lower.lock)?;
            below = below.with(self.mode_held(at, lower.lock)?);
        }
        modes.cover(self.mode_held(at, entry.lock)?, below)
    }

    /// [ESC-3] Whether it was escalation that a path has been refused; then it goes on without, and the next try comes later.
    pub(crate) fn has_not_escalated(&mut self, many: u32) -> bool {
        let Some((space, name)) = self.level_of(many) else { return false };
        let Some(value) = self.manies.slab.get_mut(many) else { return false };
        let at = value.session;
        let Some(path) = value.path.as_deref_mut().filter(|path| matches!(path.asks, Asks::Escalation)) else {
            return false;
        };
        (path.asks, value.waiting) = (Asks::Nothing, None);
        let retry = match self.tree_of_path(many).map(|tree| tree.escalation) {
            Some(Escalation::To(escalate)) => escalate.retry,
            _ => u32::MAX,
        };
        let tree = self.tree_or_new(at);
        tree.end(space, &name);
        if let Some(entry) = tree.get_mut(space, &name) {
            entry.try_at = entry.below.saturating_add(retry);
        }
        self.counters.escalations_tried += 1;
        self.counters.escalations_failed += 1;
        self.manies.woken.push(at);
        true
    }

    /// [ESC-1] A lock has been raised so that it covers all its transaction holds below.
    pub(crate) fn take_in_below(&mut self, at: u32, space: SpaceId, name: &[u8]) {
        let Some(tree) = self.tree(at) else { return };
        let Some(above) = tree.get(space, name).map(|entry| entry.lock) else { return };
        let below = tree.below(space, name);
        let tree = self.tree_or_new(at);
        for (name, _) in &below {
            tree.remove(space, name);
        }
        let locks: Vec<LockId> = below.iter().map(|(_, entry)| entry.lock).collect();
        self.counters.escalations_tried += 1;
        self.counters.escalations_done += 1;
        self.counters.locks_escalated += locks.len() as u64;
        if let Some(txn) = self.txn_mut(at) {
            // [ESC-2] It ends with the last of what it stands for.
            if locks.iter().any(|lock| txn.part(*lock).is_some_and(|part| !part.statement)) {
                txn.keep_to_the_end(above);
            }
            locks.iter().for_each(|lock| txn.forget_lock(*lock));
        }
        // Released when the client has heard of it: see `release_heard_of`.
        self.tree_or_new(at).absorbed.push(Absorbed { above, after: None, locks });
    }

    /// The answer that tells of an escalation was given.
    pub(crate) fn note_answered(&mut self, now: Time, at: u32) {
        let Some(session) = self.sessions.get_mut(at) else { return };
        let answered = session.ledger.answered();
        let embedded = session.is_embedded();
        let Some(tree) = session.extra_mut().and_then(|extra| extra.tree.as_deref_mut()) else { return };
        for absorbed in &mut tree.absorbed {
            absorbed.after.get_or_insert(answered);
        }
        if embedded {
            self.release_absorbed(now, at);
        }
    }

    /// [ESC-4] Releases what has become part of another lock once its client has acknowledged that.
    ///
    /// Without this: what was below is released, and its home dies before the client has heard; the client claims the lock above as it
    /// was, and then what was below, which another has got meanwhile.
    pub(crate) fn release_heard_of(&mut self, now: Time, at: u32) {
        let Some(session) = self.sessions.get_mut(at) else { return };
        let acked = session.ledger.acked();
        let Some(tree) = session.extra_mut().and_then(|extra| extra.tree.as_deref_mut()) else { return };
        let heard = |absorbed: &mut Absorbed| absorbed.after.is_some_and(|after| after <= acked);
        let gone: Vec<LockId> = tree.absorbed.extract_if(.., heard).flat_map(|absorbed| absorbed.locks).collect();
        self.release_taken_in(now, at, &gone);
    }

    /// What was above has been released, for all it stands for.
    pub(crate) fn release_absorbed_in(&mut self, now: Time, at: u32, above: &[LockId]) {
        let Some(tree) = self.tree_mut(at) else { return };
        let gone = tree.absorbed.extract_if(.., |absorbed| above.contains(&absorbed.above));
        let gone: Vec<LockId> = gone.flat_map(|absorbed| absorbed.locks).collect();
        self.release_taken_in(now, at, &gone);
    }

    /// Releases all of it: its transaction ends.
    pub(crate) fn release_absorbed(&mut self, now: Time, at: u32) {
        let Some(tree) = self.tree_mut(at) else { return };
        let gone: Vec<LockId> = tree.absorbed.drain(..).flat_map(|absorbed| absorbed.locks).collect();
        self.release_taken_in(now, at, &gone);
    }

    fn release_taken_in(&mut self, now: Time, at: u32, locks: &[LockId]) {
        if locks.is_empty() {
            return;
        }
        self.release_all(now, at, locks);
        self.tell_effects(now);
    }
}
