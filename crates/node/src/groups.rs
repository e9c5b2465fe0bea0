//! Groups: who is a member, and which of its locks each member uses.
//!
//! To the table a group is one owner. Here stands who shares: a lock of the group has users, members who asked for it and have
//! not released it, and waiters. It is released when its last user is gone. What members ask is in `group_requests.rs`, how they are
//! told in `group_members.rs`.
//!
//! Members are sessions where a node is alone. At a master they are guests, whoever's home they have, and are members as long as they use or
//! wait for a lock there: who else is attached the homes know (`member/attached.rs`).

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use hashbrown::HashMap;
use lockstead_table::{Ending, OwnerId};
use lockstead_types::{
    Flags, GroupId, LimitName, LockId, RequestId, Time,
    peer::PeerLock,
    refusal::Refusal,
    reply::{Notice, Reply, Revoked},
    request::{Claim, ReleaseRequest},
};

use crate::{
    effects::WaitEnd,
    node::{Hashing, Node},
    owners::Whose,
};

/// All groups.
pub(crate) struct Groups {
    pub(crate) map: BTreeMap<u32, Group>,
    by_name: BTreeMap<Box<[u8]>, u32>,
    /// The newest number given; none is used twice.
    newest: u32,
    /// Which group a lock belongs to.
    pub(crate) locks: HashMap<LockId, u32, Hashing>,
    /// Waits of members that end by time: when, whose, which; for what. The table only sees one wait for all of them.
    pub(crate) timers: BTreeMap<(Time, u32, RequestId), LockId>,
    /// Locks that members want to join in when their slots are thawed.
    pub(crate) joined: BTreeSet<LockId>,
}

pub(crate) struct Group {
    pub(crate) name: Box<[u8]>,
    pub(crate) owner: OwnerId,
    pub(crate) members: BTreeMap<u32, Membership>,
    pub(crate) locks: BTreeMap<LockId, Shared>,
}

/// What a member has.
#[derive(Default)]
pub(crate) struct Membership {
    /// The locks it uses, and how often it asked for each.
    pub(crate) uses: BTreeMap<LockId, u32>,
    pub(crate) waits: BTreeSet<(LockId, RequestId)>,
}

impl Membership {
    /// All locks it uses or waits for.
    pub(crate) fn locks(&self) -> impl Iterator<Item = LockId> {
        self.uses.keys().copied().chain(self.waits.iter().map(|(lock, _)| *lock))
    }
}

/// A lock of a group.
#[derive(Default)]
pub(crate) struct Shared {
    /// What is held, once it was granted; then waiters wait for a conversion of it.
    pub(crate) held: Option<Claim>,
    pub(crate) users: BTreeSet<u32>,
    pub(crate) waiters: Vec<Waiter>,
    /// Who asked for what is held while its slot was frozen ([GROUP-10]).
    pub(crate) joiners: Vec<Waiter>,
}

/// A member's request that waits for a lock of its group.
#[derive(Clone, Debug)]
pub(crate) struct Waiter {
    /// Whose.
    pub(crate) at: u32,
    pub(crate) id: RequestId,
    pub(crate) until: Option<Time>,
    pub(crate) want: Want,
}

#[derive(Clone, Debug)]
pub(crate) enum Want {
    Lock(Box<PeerLock>),
    Conversion,
}

impl Waiter {
    fn timer(&self) -> Option<(Time, u32, RequestId)> {
        self.until.map(|until| (until, self.at, self.id))
    }
}

impl Shared {
    fn all_waiters(&self) -> impl Iterator<Item = &Waiter> {
        self.waiters.iter().chain(&self.joiners)
    }
}

impl Groups {
    pub(crate) fn new(hashing: Hashing) -> Groups {
        Groups {
            map: BTreeMap::new(),
            by_name: BTreeMap::new(),
            newest: 0,
            locks: HashMap::with_hasher(hashing),
            timers: BTreeMap::new(),
            joined: BTreeSet::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    pub(crate) fn next_timer(&self) -> Option<Time> {
        self.timers.first_key_value().map(|((time, ..), _)| *time)
    }

    /// The group of this member that has a lock.
    pub(crate) fn having(&self, at: u32, lock: LockId) -> Option<u32> {
        let group = *self.locks.get(&lock)?;
        self.map.get(&group)?.members.contains_key(&at).then_some(group)
    }

    pub(crate) fn name(&self, group: u32) -> &[u8] {
        self.map.get(&group).map_or(&[], |g| &g.name)
    }

    pub(crate) fn shared(&self, group: u32, lock: LockId) -> Option<&Shared> {
        self.map.get(&group)?.locks.get(&lock)
    }

    pub(crate) fn shared_mut(&mut self, group: u32, lock: LockId) -> Option<&mut Shared> {
        self.map.get_mut(&group)?.locks.get_mut(&lock)
    }

    pub(crate) fn users_of(&self, group: u32, lock: LockId) -> usize {
        self.shared(group, lock).map_or(0, |s| s.users.len())
    }

    pub(crate) fn add_shared(&mut self, group: u32, lock: LockId, held: Option<Claim>) {
        if let Some(value) = self.map.get_mut(&group) {
            value.locks.insert(lock, Shared { held, ..Shared::default() });
            self.locks.insert(lock, group);
        }
    }

    /// Notes a wait: of one that joins in at the thaw, or of one for whom the table waits.
    pub(crate) fn add_waiter(&mut self, group: u32, lock: LockId, waiter: Waiter) {
        let Some(value) = self.map.get_mut(&group) else { return };
        let (Some(shared), Some(membership)) = (value.locks.get_mut(&lock), value.members.get_mut(&waiter.at)) else {
            return;
        };
        membership.waits.insert((lock, waiter.id));
        self.timers.extend(waiter.timer().map(|timer| (timer, lock)));
        if shared.held.is_some() && matches!(waiter.want, Want::Lock(_)) {
            shared.joiners.push(waiter);
            self.joined.insert(lock);
        } else {
            shared.waiters.push(waiter);
        }
    }

    /// Forgets that these wait.
    pub(crate) fn forget_waits(&mut self, group: u32, lock: LockId, waiters: &[Waiter]) {
        for waiter in waiters {
            if let Some(timer) = waiter.timer() {
                self.timers.remove(&timer);
            }
            let group = self.map.get_mut(&group);
            if let Some(membership) = group.and_then(|g| g.members.get_mut(&waiter.at)) {
                membership.waits.remove(&(lock, waiter.id));
            }
        }
    }

    /// Takes a wait away, and says whether the table waits for nobody any more.
    fn take_waiter(&mut self, group: u32, lock: LockId, (at, id): (u32, RequestId)) -> bool {
        let Some(shared) = self.shared_mut(group, lock) else { return false };
        let same = |w: &mut Waiter| w.at == at && w.id == id;
        let mut gone: Vec<Waiter> = shared.waiters.extract_if(.., same).collect();
        let nobody = !gone.is_empty() && shared.waiters.is_empty();
        gone.extend(shared.joiners.extract_if(.., same));
        self.forget_waits(group, lock, &gone);
        nobody
    }

    /// A wait has another number from here on. `false` where there is none that asks this.
    pub(crate) fn renumber(&mut self, lock: LockId, at: u32, ids: (RequestId, RequestId), asks: &Want) -> bool {
        let (old, new) = ids;
        let Some(value) = self.locks.get(&lock).and_then(|group| self.map.get_mut(group)) else { return false };
        let Some(shared) = value.locks.get_mut(&lock) else { return false };
        let mut all = shared.waiters.iter_mut().chain(&mut shared.joiners);
        let Some(waiter) = all.find(|w| w.at == at && w.id == old && w.want.is_same(asks)) else { return false };
        let timer = waiter.timer();
        waiter.id = new;
        if let Some((timer, again)) = timer.zip(waiter.timer()) {
            self.timers.remove(&timer);
            self.timers.insert(again, lock);
        }
        if let Some(membership) = value.members.get_mut(&at) {
            membership.waits.remove(&(lock, old));
            membership.waits.insert((lock, new));
        }
        true
    }

    /// Forgets a lock, whoever uses it or waits for it.
    pub(crate) fn forget_lock(&mut self, group: u32, lock: LockId) -> Option<Shared> {
        self.locks.remove(&lock);
        self.joined.remove(&lock);
        let value = self.map.get_mut(&group)?;
        let shared = value.locks.remove(&lock)?;
        for user in &shared.users {
            if let Some(membership) = value.members.get_mut(user) {
                membership.uses.remove(&lock);
            }
        }
        let waiters: Vec<Waiter> = shared.all_waiters().cloned().collect();
        self.forget_waits(group, lock, &waiters);
        Some(shared)
    }
}

impl Want {
    /// Whether two ask the same, for however long.
    fn is_same(&self, other: &Want) -> bool {
        match (self, other) {
            (Want::Lock(one), Want::Lock(other)) => PeerLock { wait: one.wait, ..(**other).clone() } == **one,
            (Want::Conversion, Want::Conversion) => true,
            (Want::Lock(_), Want::Conversion) | (Want::Conversion, Want::Lock(_)) => false,
        }
    }
}

impl Node {
    pub(crate) fn on_group_attach(&mut self, at: u32, id: RequestId, name: &[u8]) {
        match self.try_group_attach(at, name) {
            Ok(group) => self.answer(at, id, Reply::Group(GroupId(group))),
            Err(why) => self.refuse(at, id, why),
        }
    }

    /// Makes a session a member of a group, which comes into being with its first.
    pub(crate) fn try_group_attach(&mut self, at: u32, name: &[u8]) -> Result<u32, Refusal> {
        let limits = &self.config.limits;
        if name.is_empty() {
            return Err(Refusal::Invalid);
        }
        if name.len() > limits.name_bytes as usize {
            return Err(Refusal::TooLong);
        }
        let known = self.groups.by_name.get(name).and_then(|group| self.groups.map.get(group));
        if known.is_none() && self.groups.len() >= limits.groups as usize {
            return Err(Refusal::Limit(LimitName::Groups));
        }
        let full = known.is_some_and(|g| g.members.len() >= limits.members_per_group as usize);
        if full && known.is_some_and(|g| !g.members.contains_key(&at)) {
            return Err(Refusal::Limit(LimitName::MembersPerGroup));
        }
        self.enter_group(at, name)
    }

    /// The same without bounds: of a guest, whose home has looked at them, and of whoever was a member before.
    pub(crate) fn enter_group(&mut self, at: u32, name: &[u8]) -> Result<u32, Refusal> {
        let known = self.groups.by_name.get(name).copied();
        let group = known.map_or_else(|| self.new_group(name), Ok)?;
        // [GROUP-1] Attaching twice is attaching once.
        if let Some(value) = self.groups.map.get_mut(&group) {
            value.members.entry(at).or_default();
        }
        self.note_group(at, group);
        Ok(group)
    }

    fn new_group(&mut self, name: &[u8]) -> Result<u32, Refusal> {
        let number = self.groups.newest.checked_add(1).ok_or(Refusal::Limit(LimitName::Groups))?;
        self.groups.newest = number;
        let owner = self.table.add_owner();
        self.owners.set(owner, Whose::Group(number));
        let group = Group { name: name.into(), owner, members: BTreeMap::new(), locks: BTreeMap::new() };
        self.groups.map.insert(number, group);
        self.groups.by_name.insert(name.into(), number);
        Ok(number)
    }

    pub(crate) fn on_group_detach(&mut self, now: Time, at: u32, id: RequestId, group: GroupId) {
        let GroupId(group) = group;
        let member = self.groups.map.get(&group).is_some_and(|g| g.members.contains_key(&at));
        if !member {
            return self.refuse(at, id, Refusal::NotHeld);
        }
        self.answer(at, id, Reply::Done);
        self.leave_group(now, at, group, Ending::Goodbye);
        self.forget_group(at, group);
        self.tell_effects(now);
    }

    /// A member goes: its waits end, its uses end.
    pub(crate) fn leave_group(&mut self, now: Time, at: u32, group: u32, ending: Ending) {
        let Some(membership) = self.groups.map.get(&group).and_then(|g| g.members.get(&at)) else { return };
        let waits: Vec<(LockId, RequestId)> = membership.waits.iter().copied().collect();
        let locks: Vec<LockId> = membership.uses.keys().copied().collect();
        for (lock, id) in waits {
            self.end_member_wait(now, at, group, lock, id, WaitEnd::Cancelled);
        }
        let Some(value) = self.groups.map.get_mut(&group) else { return };
        let (owner, last) = (value.owner, value.members.len() <= 1);
        // [GROUP-6] The last member's leaving ends the group, as a session's end ends the session. A master does not know who else is one.
        if last && !self.is_member() {
            return self.end_group(now, group, owner, ending);
        }
        // [GROUP-5] A member that died as the only user of a lock may have left what it guards half done: its value block
        // is invalid, as if the owner had died.
        for lock in locks {
            let flags = match ending {
                Ending::Crash if self.groups.users_of(group, lock) <= 1 => Flags::FORCEUNLOCK.with(Flags::IVVALBLK),
                Ending::Crash | Ending::Goodbye => Flags::FORCEUNLOCK,
            };
            self.drop_uses(now, at, group, lock, flags);
        }
        if let Some(value) = self.groups.map.get_mut(&group) {
            value.members.remove(&at);
        }
        self.end_empty_group(now, group);
    }

    /// A member uses a lock no more, however often it was granted it.
    pub(crate) fn drop_uses(&mut self, now: Time, at: u32, group: u32, lock: LockId, flags: Flags) {
        let Some(owner) = self.groups.map.get(&group).map(|g| g.owner) else { return };
        let Some(shared) = self.groups.shared(group, lock).filter(|s| s.users.contains(&at)) else { return };
        let release = ReleaseRequest { lock, flags, value: None };
        if shared.users.len() <= 1 {
            let _gone_already = self.table.release(now, owner, &release, &mut self.fx);
            return self.lock_is_gone(now, group, lock);
        }
        let _not_while_it_converts = self.write_value_in_place(now, owner, group, &release);
        if let Some(value) = self.groups.map.get_mut(&group) {
            value.members.get_mut(&at).and_then(|m| m.uses.remove(&lock));
            value.locks.get_mut(&lock).map(|shared| shared.users.remove(&at));
        }
    }

    /// A lock is released: what waits for it ends, and who was to join in asks anew.
    pub(crate) fn lock_is_gone(&mut self, now: Time, group: u32, lock: LockId) {
        // A conversion that waited ends with FORCEUNLOCK; its request is answered before the lock is forgotten.
        self.end_group_waits(now, group, lock, &WaitEnd::Cancelled);
        if let Some(shared) = self.groups.forget_lock(group, lock) {
            self.readmit(now, group, shared.joiners);
        }
    }

    fn end_group(&mut self, now: Time, group: u32, owner: OwnerId, ending: Ending) {
        let Some(value) = self.groups.map.remove(&group) else { return };
        self.groups.by_name.remove(&value.name);
        for lock in value.locks.keys() {
            self.groups.locks.remove(lock);
            self.groups.joined.remove(lock);
        }
        self.owners.set(owner, Whose::Nobody);
        self.table.end_owner(now, owner, ending, &mut self.fx);
    }

    /// At a master a member is one that has something there, and so is a group.
    pub(crate) fn tidy_member(&mut self, now: Time, group: u32, at: u32) {
        if !self.is_member() {
            return;
        }
        let Some(value) = self.groups.map.get_mut(&group) else { return };
        if value.members.get(&at).is_some_and(|m| m.uses.is_empty() && m.waits.is_empty()) {
            value.members.remove(&at);
            self.forget_group(at, group);
            self.end_empty_group(now, group);
        }
    }

    fn end_empty_group(&mut self, now: Time, group: u32) {
        let Some(value) = self.groups.map.get(&group) else { return };
        if value.members.is_empty() {
            let owner = value.owner;
            self.end_group(now, group, owner, Ending::Goodbye);
        }
    }

    /// The wait of a lock or of its conversion has ended, for all members that wait for it.
    pub(crate) fn end_group_waits(&mut self, now: Time, group: u32, lock: LockId, end: &WaitEnd) {
        let Some(shared) = self.groups.shared_mut(group, lock) else { return };
        let was_held = shared.held.is_some();
        let granted = match end {
            WaitEnd::Granted(grant) => Some(grant.claim),
            WaitEnd::Refused(_) | WaitEnd::Cancelled | WaitEnd::Demoted { .. } => None,
        };
        shared.held = granted.or(shared.held);
        let waiters = core::mem::take(&mut shared.waiters);
        self.groups.forget_waits(group, lock, &waiters);
        for waiter in &waiters {
            if granted.is_some() && !was_held {
                self.add_use(waiter.at, group, lock);
            }
            self.tell_member_end(now, waiter.at, waiter.id, end.clone());
        }
        if granted.is_none() && !was_held {
            self.groups.forget_lock(group, lock);
        }
        // Granted though the last who waited has gone.
        if granted.is_some() && !was_held && waiters.is_empty() {
            self.release_for_nobody(now, group, lock);
        }
        waiters.iter().for_each(|waiter| self.tidy_member(now, group, waiter.at));
    }

    fn release_for_nobody(&mut self, now: Time, group: u32, lock: LockId) {
        let Some(owner) = self.groups.map.get(&group).map(|g| g.owner) else { return };
        self.groups.forget_lock(group, lock);
        let release = ReleaseRequest { lock, flags: Flags::FORCEUNLOCK, value: None };
        let _gone_already = self.table.release(now, owner, &release, &mut self.fx);
    }

    /// Ends one member's wait. [GROUP-3] The group goes on waiting while another member does.
    pub(crate) fn end_member_wait(
        &mut self,
        now: Time,
        at: u32,
        group: u32,
        lock: LockId,
        id: RequestId,
        end: WaitEnd,
    ) {
        let Some(owner) = self.groups.map.get(&group).map(|g| g.owner) else { return };
        let nobody_waits = self.groups.take_waiter(group, lock, (at, id));
        self.tell_member_end(now, at, id, end);
        // Where the table has granted it meanwhile it says so, and it is released.
        let cancelled = nobody_waits && self.table.cancel(now, owner, lock, &mut self.fx).is_ok();
        if cancelled && self.groups.shared(group, lock).is_some_and(|shared| shared.held.is_none()) {
            self.groups.forget_lock(group, lock);
        }
        self.tidy_member(now, group, at);
    }

    pub(crate) fn add_use(&mut self, at: u32, group: u32, lock: LockId) {
        // [CLUSTER-9] What its session has not claimed is not counted: it asks for it instead.
        let anew = self.take_unclaimed(at, lock);
        let Some(value) = self.groups.map.get_mut(&group) else { return };
        let (Some(shared), Some(member)) = (value.locks.get_mut(&lock), value.members.get_mut(&at)) else { return };
        if shared.users.insert(at) {
            // [GROUP-4]
            self.table.tell_anew(lock);
        }
        let count = member.uses.entry(lock).or_insert(0);
        *count = if anew { 1 } else { count.saturating_add(1) };
    }

    pub(crate) fn tell_group_blocking(&mut self, now: Time, group: u32, lock: LockId, claim: Claim) {
        let Some(shared) = self.groups.shared(group, lock) else { return };
        // [GROUP-4] Every user is told: any of them may be the one that can let go.
        let users: Vec<u32> = shared.users.iter().copied().collect();
        for user in users {
            self.notify_member(now, user, Notice::Blocking { lock, claim });
        }
    }

    pub(crate) fn on_group_revoked(&mut self, now: Time, group: u32, lock: LockId, why: Revoked) {
        self.end_group_waits(now, group, lock, &WaitEnd::Refused(Refusal::Lost));
        let Some(shared) = self.groups.forget_lock(group, lock) else { return };
        for user in &shared.users {
            self.notify_member(now, *user, Notice::Revoked { lock, why });
        }
        self.readmit(now, group, shared.joiners);
        shared.users.iter().for_each(|user| self.tidy_member(now, group, *user));
    }

    /// Whom its group's locks keep waiting, as far as one member is concerned, who was away.
    pub(crate) fn group_blocking(&mut self, group: u32, at: u32) -> Vec<Notice> {
        let Some(value) = self.groups.map.get(&group) else { return Vec::new() };
        let Some(member) = value.members.get(&at) else { return Vec::new() };
        let mut fx = Vec::new();
        self.table.repeat_blocking(value.owner, &mut fx);
        let its = fx.into_iter().filter_map(|effect| match effect {
            lockstead_table::Effect::Blocking { lock, claim, .. } => Some((lock, claim)),
            _ => None,
        });
        let its = its.filter(|(lock, _)| member.uses.contains_key(lock));
        its.map(|(lock, claim)| Notice::Blocking { lock, claim }).collect()
    }
}
