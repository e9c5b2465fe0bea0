//! Locking a path: a resource of a hierarchy and the intents above it, in one request. It is a request for several locks (`many.rs`)
//! whose parts are the levels of one name, root to leaf; of what its transaction holds already it asks for nothing, or for more of
//! it.

use alloc::{boxed::Box, vec::Vec};

use lockstead_table::Outcome;
use lockstead_types::{
    Flags, LockId, Mode, ModeTable, RequestId, Time,
    hierarchy::{Hierarchy, path_ends},
    refusal::Refusal,
    reply::{Grant, PathGrant, Reply},
    request::{Claim, ConvertRequest, LockRequest, OwnerRef, ReleaseRequest, Wait},
};

use crate::{
    effects::WaitEnd,
    ledger::Waiting,
    many::{Many, Part, Until},
    node::Node,
};

/// What a path has of the levels it came by.
pub(crate) struct Path {
    /// The mode asked for its last resource.
    pub(crate) mode: Mode,
    pub(crate) asks: Asks,
    /// Locks of its transaction that it made stronger.
    raised: Vec<Raised>,
    /// Whether many locks have become one on its way.
    pub(crate) escalated: bool,
}

/// What is asked for the level it is at.
#[derive(Copy, Clone)]
pub(crate) enum Asks {
    /// Nothing yet.
    Nothing,
    /// A lock of its own.
    New,
    /// More of the lock that is there, which has this much.
    More(Mode),
    /// That the lock that is there takes in all below.
    Escalation,
    /// Nothing, before another path of the session has what it asked there.
    Parked,
}

/// A lock that was made stronger.
struct Raised {
    level: usize,
    lock: LockId,
    from: Mode,
    /// [`crate::tree::Entry::relied_on`] since.
    relied_on: u32,
}

/// What there is to do at a level.
pub(crate) enum Level {
    /// Nothing more.
    Next,
    /// To wait.
    Waits,
    /// To ask for a lock.
    Lock,
}

/// Flags that make sense for all levels.
const FLAGS: u32 = Flags::NOQUEUE.0 | Flags::NODLCKWT.0 | Flags::NODLCKBLK.0 | Flags::NOBAST.0;

impl Node {
    pub(crate) fn on_lock_path(&mut self, now: Time, at: u32, id: RequestId, request: &LockRequest<'_>) {
        match self.plan_path(request) {
            Ok((mode, parts)) => {
                let path = Path { mode, asks: Asks::Nothing, raised: Vec::new(), escalated: false };
                self.begin_many(now, at, id, (Until::of(now, request), parts), Some(Box::new(path)));
            }
            Err(why) => self.refuse(at, id, why),
        }
    }

    fn plan_path(&self, request: &LockRequest<'_>) -> Result<(Mode, Vec<Part>), Refusal> {
        let known = self.table.space(request.space).ok_or(Refusal::NoLockspace)?;
        let tree = self.spaces.tree(request.space).ok_or(Refusal::Invalid)?;
        if request.name.len() > self.config.limits.name_bytes as usize {
            return Err(Refusal::TooLong);
        }
        let Claim::Mode(mode) = request.claim else { return Err(Refusal::Invalid) };
        if !known.modes.has(mode) {
            return Err(Refusal::BadMode);
        }
        if request.flags.0 & !FLAGS != 0 || request.tag != 0 {
            return Err(Refusal::Invalid);
        }
        let ends = path_ends(request.name, tree.levels.len()).ok_or(Refusal::Invalid)?;
        // [HIER-2] Below something only what can be announced there.
        let intent = known.modes.intent(mode);
        if ends.len() > 1 && intent.is_none() {
            return Err(Refusal::BadMode);
        }
        let last = ends.len().saturating_sub(1);
        let part = |(place, end): (usize, &usize)| Part {
            space: request.space,
            name: request.name.get(..*end).unwrap_or(request.name).into(),
            claim: Claim::Mode(intent.filter(|_| place < last).unwrap_or(mode)),
            flags: Flags(request.flags.0 & !Flags::NOQUEUE.0),
            owner: request.owner,
            tag: 0,
            priority: request.priority,
            place,
            grant: None,
        };
        Ok((mode, ends.iter().enumerate().map(part).collect()))
    }

    /// Looks at what the transaction has at the next level of a path.
    pub(crate) fn next_level(&mut self, now: Time, many: u32, wait: Wait) -> Level {
        let Some(value) = self.manies.slab.get_mut(many) else { return Level::Waits };
        let at = value.session;
        let (Some(part), Some(path)) = (value.parts.get(value.granted), value.path.as_deref_mut()) else {
            return Level::Waits;
        };
        let (space, name, want, leaf) = (part.space, part.name.clone(), part.claim, path.mode);
        path.asks = Asks::Nothing;
        let Claim::Mode(want) = want else { return Level::Waits };
        // [HIER-4] Another path of this session asks there: what it gets serves both.
        if self.tree(at).is_some_and(|tree| tree.is_busy(space, &name)) || self.is_leaving(at, space, &name) {
            self.park(now, many);
            return Level::Waits;
        }
        let Some(entry) = self.tree(at).and_then(|tree| tree.get(space, &name)).copied() else {
            if let Some(path) = self.manies.slab.get_mut(many).and_then(|value| value.path.as_deref_mut()) {
                path.asks = Asks::New;
            }
            self.tree_or_new(at).begin(space, &name);
            return Level::Lock;
        };
        let Some(held) = self.mode_held(at, entry.lock) else {
            self.park(now, many);
            return Level::Waits;
        };
        let Some(modes) = self.table.space(space).map(|known| known.modes.clone()) else { return Level::Waits };
        // [HIER-5] Nothing below needs a lock of its own, and what is above announces it already.
        if let Some(levels) = self.covered_at(many, &modes, leaf) {
            if let Some(value) = self.manies.slab.get_mut(many) {
                value.parts.truncate(levels);
            }
            while self.level_of(many).is_some() {
                self.pass(many, at);
            }
            return Level::Next;
        }
        if let Some(mode) = self.escalation_at(many) {
            self.ask_more(now, many, (entry.lock, mode), (Wait::Never, Asks::Escalation));
            return self.asked(many);
        }
        if modes.is_enough(held, want) {
            self.pass(many, at);
            return Level::Next;
        }
        match modes.raised(held, want) {
            Some(mode) => self.ask_more(now, many, (entry.lock, mode), (wait, Asks::More(held))),
            None => self.fail_many(now, many, WaitEnd::Refused(Refusal::BadMode)),
        }
        self.asked(many)
    }

    /// How many levels of a path there are down to one that covers what is asked for, if all of them are held.
    fn covered_at(&self, many: u32, modes: &ModeTable, leaf: Mode) -> Option<usize> {
        let value = self.manies.slab.get(many)?;
        let tree = self.tree(value.session)?;
        for (level, part) in (1..).zip(&value.parts).skip(value.granted) {
            let held = self.mode_held(value.session, tree.get(part.space, &part.name)?.lock)?;
            if modes.covers(held, leaf) {
                return Some(level);
            }
        }
        None
    }

    fn asked(&self, many: u32) -> Level {
        let waits = |value: &Many| value.path.as_ref().is_some_and(|path| !matches!(path.asks, Asks::Nothing));
        if self.manies.slab.get(many).is_none_or(waits) { Level::Waits } else { Level::Next }
    }

    /// [HIER-4] The lock that is there is to have more.
    fn ask_more(&mut self, now: Time, many: u32, (lock, mode): (LockId, Mode), (wait, asks): (Wait, Asks)) {
        let Some(value) = self.manies.slab.get_mut(many) else { return };
        let (at, id) = (value.session, value.id);
        let Some(part) = value.parts.get(value.granted) else { return };
        let (space, name, flags) = (part.space, part.name.clone(), part.flags);
        if let Some(path) = value.path.as_deref_mut() {
            path.asks = asks;
        }
        let flags = if wait == Wait::Never { flags.with(Flags::NOQUEUE) } else { flags };
        let request = ConvertRequest { lock, mode, wait, flags, value: None };
        self.tree_or_new(at).begin(space, &name);
        if self.is_member() {
            if let Err(why) = self.forward_raise(now, (at, id), many, &request) {
                self.on_many_step(now, at, many, WaitEnd::Refused(why));
            }
            return;
        }
        let Some(owner) = self.sessions.get(at).map(|s| s.owner) else { return };
        match self.table.convert(now, owner, id.0, &request, &mut self.fx) {
            Ok(Outcome::Granted(grant)) => self.on_level_granted(many, grant),
            Ok(Outcome::Queued(lock)) => self.on_many_queued(many, lock),
            Ok(Outcome::Demoted { .. }) => self.fail_many(now, many, WaitEnd::Refused(Refusal::Invalid)),
            Err(_) if self.has_not_escalated(many) => {}
            Err(why) => self.fail_many(now, many, WaitEnd::Refused(why)),
        }
    }

    pub(crate) fn on_level_granted(&mut self, many: u32, grant: Grant) {
        let Some(value) = self.manies.slab.get_mut(many) else { return };
        let (at, level) = (value.session, value.granted);
        let Some(path) = value.path.as_deref_mut() else { return };
        let asked = core::mem::replace(&mut path.asks, Asks::Nothing);
        let Some(part) = value.parts.get_mut(level) else { return };
        let (space, name, lock) = (part.space, part.name.clone(), grant.lock);
        value.waiting = None;
        match asked {
            Asks::New => part.grant = Some(grant),
            Asks::Escalation => {
                path.escalated = true;
                value.parts.truncate(level + 1);
            }
            Asks::More(_) | Asks::Parked | Asks::Nothing => {}
        }
        let tree = self.tree_or_new(at);
        tree.end(space, &name);
        match asked {
            Asks::New => tree.add(space, &name, lock, false),
            Asks::More(from) => {
                let relied_on = tree.get(space, &name).map_or(0, |entry| entry.relied_on);
                let raised = Raised { level, lock, from, relied_on };
                if let Some(path) = self.manies.slab.get_mut(many).and_then(|value| value.path.as_deref_mut()) {
                    path.raised.push(raised);
                }
            }
            Asks::Escalation => self.take_in_below(at, space, &name),
            Asks::Parked | Asks::Nothing => {}
        }
        self.pin(many, at);
        self.manies.woken.push(at);
    }

    /// A lock that is there is enough.
    fn pass(&mut self, many: u32, at: u32) {
        let Some((space, name)) = self.level_of(many) else { return };
        if let Some(entry) = self.tree_or_new(at).get_mut(space, &name) {
            entry.relied_on = entry.relied_on.wrapping_add(1);
        }
        self.pin(many, at);
    }

    fn pin(&mut self, many: u32, at: u32) {
        let Some((space, name)) = self.level_of(many) else { return };
        if let Some(entry) = self.tree_or_new(at).get_mut(space, &name) {
            entry.pins = entry.pins.saturating_add(1);
        }
        if let Some(value) = self.manies.slab.get_mut(many) {
            value.granted += 1;
        }
    }

    pub(crate) fn level_of(&self, many: u32) -> Option<(lockstead_types::SpaceId, Box<[u8]>)> {
        let value = self.manies.slab.get(many)?;
        value.parts.get(value.granted).map(|part| (part.space, part.name.clone()))
    }

    /// All levels are there: the transaction has them, and its client is told.
    pub(crate) fn complete_path(&mut self, now: Time, value: Many, waiting: Waiting) {
        let at = value.session;
        let escalated = value.path.as_ref().is_some_and(|path| path.escalated);
        let (mut grants, mut known) = (Vec::with_capacity(value.parts.len()), Vec::new());
        for part in &value.parts {
            let entry = self.tree(at).and_then(|tree| tree.get(part.space, &part.name)).copied();
            let found = entry.and_then(|entry| Some((self.grant_as_held(at, entry.lock)?, entry.told)));
            // [HIER-6] It lost one on the way.
            let Some((grant, told)) = found else {
                self.undo_path(now, &value);
                return self.answer_wait(now, at, waiting, WaitEnd::Refused(Refusal::Lost));
            };
            known.push((grant.lock, told));
            grants.push(grant);
        }
        for part in &value.parts {
            if let Some(entry) = self.tree_or_new(at).get_mut(part.space, &part.name) {
                entry.pins = entry.pins.saturating_sub(1);
                entry.told = true;
            }
        }
        let statement = value.parts.first().is_some_and(|part| part.owner == OwnerRef::Statement);
        if let Some(txn) = self.txn_mut(at) {
            for (lock, told) in known {
                match (told, statement) {
                    // [HIER-3] What it was the first to ask for is the transaction's.
                    (false, _) => txn.add_lock(lock, statement),
                    (true, false) => txn.keep_to_the_end(lock),
                    (true, true) => {}
                }
            }
        }
        let late = self.hand_over(at, &grants);
        self.counters.grants += value.parts.iter().filter(|part| part.grant.is_some()).count() as u64;
        self.counters.waits.add(now.since(waiting.since));
        self.answer(at, value.id, Reply::GrantedPath(PathGrant { grants, escalated }));
        // [MANY-3]
        for (lock, claim) in value.withheld.into_iter().chain(late) {
            self.notify_blocking(at, lock, claim);
        }
        self.note_answered(now, at);
        self.manies.woken.push(at);
    }

    /// Locks that other paths under way were granted are the client's now, and so are the notices about them.
    fn hand_over(&mut self, at: u32, grants: &[Grant]) -> Vec<(LockId, Claim)> {
        let manies = self.sessions.get(at).and_then(|s| s.extra()).map(|extra| extra.manies.clone());
        let mut late = Vec::new();
        for many in manies.unwrap_or_default() {
            let Some(value) = self.manies.slab.get_mut(many).filter(|value| value.path.is_some()) else { continue };
            for grant in grants {
                let its = |part: &mut Part| part.grant.as_ref().is_some_and(|known| known.lock == grant.lock);
                for part in value.parts.iter_mut().filter_map(|part| its(part).then_some(part)) {
                    part.grant = None;
                }
                late.extend(value.withheld.remove(&grant.lock).map(|claim| (grant.lock, claim)));
            }
        }
        late
    }

    /// [HIER-6] Gives back what a path in vain has taken, leaf to root, and brings down what it has raised; but what others of its
    /// session rely on since stays.
    pub(crate) fn undo_path(&mut self, now: Time, value: &Many) {
        let at = value.session;
        let Some(owner) = self.sessions.get(at).map(|s| s.owner) else { return };
        let asks = value.path.as_ref().map_or(Asks::Nothing, |path| path.asks);
        if let (Some(part), Asks::New | Asks::More(_) | Asks::Escalation) = (value.parts.get(value.granted), asks) {
            self.tree_or_new(at).end(part.space, &part.name);
            self.stop_asking(now, at, value, asks);
        }
        let raised = value.path.as_ref().map(|path| path.raised.as_slice()).unwrap_or_default();
        let mut own = 0_u32;
        for (level, part) in value.parts.iter().enumerate().take(value.granted).rev() {
            let Some(entry) = self.tree_or_new(at).get_mut(part.space, &part.name) else { continue };
            entry.pins = entry.pins.saturating_sub(1);
            let entry = *entry;
            if !entry.told && entry.pins == 0 && entry.below == 0 {
                self.drop_level(now, at, (part.space, &part.name), entry.lock);
            }
            own += u32::from(part.grant.is_some());
            let unmoved = |r: &&Raised| {
                r.level == level && r.lock == entry.lock && r.relied_on.wrapping_add(own) == entry.relied_on
            };
            let Some(back) = raised.iter().find(unmoved).filter(|_| entry.pins == 0) else { continue };
            let request =
                ConvertRequest { lock: back.lock, mode: back.from, wait: Wait::Never, flags: Flags::NONE, value: None };
            if self.is_member() {
                self.bring_back(now, at, &request);
            } else {
                let _over = self.table.convert(now, owner, 0, &request, &mut self.fx);
            }
        }
        self.manies.woken.push(at);
    }

    /// What a path that fails for another reason still waits for.
    fn stop_asking(&mut self, now: Time, at: u32, value: &Many, asks: Asks) {
        if self.is_member() {
            return self.cancel_forward_quietly(now, at, value.id);
        }
        let (Some(owner), Some(lock)) = (self.sessions.get(at).map(|s| s.owner), value.waiting) else { return };
        if matches!(asks, Asks::New) {
            let release = ReleaseRequest { lock, flags: Flags::FORCEUNLOCK, value: None };
            let _gone_already = self.table.release(now, owner, &release, &mut self.fx);
        } else {
            let _over_already = self.table.cancel(now, owner, lock, &mut self.fx);
        }
    }

    fn drop_level(&mut self, now: Time, at: u32, (space, name): (lockstead_types::SpaceId, &[u8]), lock: LockId) {
        if self.is_member() {
            return self.give_back(now, at, lock);
        }
        self.forget_name_in_tree(at, space, name, lock);
        let Some(owner) = self.sessions.get(at).map(|s| s.owner) else { return };
        let release = ReleaseRequest { lock, flags: Flags::FORCEUNLOCK, value: None };
        let _gone_already = self.table.release(now, owner, &release, &mut self.fx);
    }

    // ------------------------------------------------------------ waiting for another path

    fn park(&mut self, now: Time, many: u32) {
        let Some(value) = self.manies.slab.get_mut(many) else { return };
        match value.until {
            Until::Now => return self.fail_many(now, many, WaitEnd::Refused(Refusal::WouldWait)),
            Until::At(time) if time <= now => {
                return self.fail_many(now, many, WaitEnd::Refused(Refusal::Timeout));
            }
            Until::At(time) => {
                self.manies.parked.insert((time, many));
            }
            Until::Ever => {}
        }
        if let Some(path) = self.manies.slab.get_mut(many).and_then(|value| value.path.as_deref_mut()) {
            path.asks = Asks::Parked;
        }
    }

    pub(crate) fn is_parked(&self, many: u32) -> bool {
        let path = self.manies.slab.get(many).and_then(|value| value.path.as_deref());
        path.is_some_and(|path| matches!(path.asks, Asks::Parked))
    }

    pub(crate) fn has_woken_paths(&self) -> bool {
        !self.manies.woken.is_empty()
    }

    /// Paths that waited for another one of their session.
    pub(crate) fn resume_paths(&mut self, now: Time) {
        while let Some(at) = self.manies.woken.pop() {
            let Some(extra) = self.sessions.get(at).and_then(|s| s.extra()) else { continue };
            let waiting: Vec<u32> = extra.manies.iter().copied().filter(|many| self.is_parked(*many)).collect();
            for many in waiting {
                self.manies.parked.retain(|(_, parked)| *parked != many);
                self.acquire_next(now, many);
            }
        }
        self.tell_effects(now);
    }

    pub(crate) fn expire_paths(&mut self, now: Time) {
        while let Some((_, many)) = self.manies.parked.first().copied().filter(|(time, _)| *time <= now) {
            self.manies.parked.pop_first();
            self.fail_many(now, many, WaitEnd::Refused(Refusal::Timeout));
        }
    }

    /// The levels of the lockspace of a path's request.
    pub(crate) fn tree_of_path(&self, many: u32) -> Option<&Hierarchy> {
        self.spaces.tree(self.manies.slab.get(many)?.parts.first()?.space)
    }
}
