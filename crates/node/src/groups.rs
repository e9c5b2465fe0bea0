//! Groups: who is a member, and which of its locks each member uses.
//!
//! To the table a group is one owner. Here stands who shares: a lock of the group has users, members who asked for it and have
//! not released it, and waiters. It is released when its last user is gone. What members ask is in `group_requests.rs`.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use hashbrown::HashMap;
use lockstead_table::{Ending, OwnerId};
use lockstead_types::{
    Flags, GroupId, LimitName, LockId, RequestId, Time,
    refusal::Refusal,
    reply::{Reply, Revoked},
    request::{Claim, ReleaseRequest},
};

use crate::{
    effects::WaitEnd,
    ledger::Pend,
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
    /// Waits of members that end by time: when, session, request. The table only sees one wait for all of them.
    pub(crate) timers: BTreeSet<(Time, u32, RequestId)>,
}

pub(crate) struct Group {
    pub(crate) name: Box<[u8]>,
    pub(crate) owner: OwnerId,
    /// Each member with the locks it uses, and how often it asked for each.
    pub(crate) members: BTreeMap<u32, BTreeMap<LockId, u32>>,
    pub(crate) locks: BTreeMap<LockId, Shared>,
}

/// A lock of a group.
pub(crate) struct Shared {
    /// What is held, once it was granted; then waiters wait for a conversion of it.
    pub(crate) held: Option<Claim>,
    pub(crate) users: BTreeSet<u32>,
    pub(crate) waiters: Vec<Waiter>,
}

/// A member's request that waits for a lock of its group.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Waiter {
    pub(crate) session: u32,
    pub(crate) id: RequestId,
    pub(crate) until: Option<Time>,
}

impl Groups {
    pub(crate) fn new(hashing: Hashing) -> Groups {
        Groups {
            map: BTreeMap::new(),
            by_name: BTreeMap::new(),
            newest: 0,
            locks: HashMap::with_hasher(hashing),
            timers: BTreeSet::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    pub(crate) fn next_timer(&self) -> Option<Time> {
        self.timers.first().map(|(time, ..)| *time)
    }

    /// The group of this member that has a lock.
    pub(crate) fn having(&self, at: u32, lock: LockId) -> Option<u32> {
        let group = *self.locks.get(&lock)?;
        self.map.get(&group)?.members.contains_key(&at).then_some(group)
    }

    pub(crate) fn name(&self, group: u32) -> &[u8] {
        self.map.get(&group).map_or(&[], |g| &g.name)
    }

    /// Forgets a lock, whoever uses it. Returns its waiters.
    pub(crate) fn forget_lock(&mut self, group: u32, lock: LockId) -> Option<Shared> {
        self.locks.remove(&lock);
        let value = self.map.get_mut(&group)?;
        let shared = value.locks.remove(&lock)?;
        for user in &shared.users {
            if let Some(uses) = value.members.get_mut(user) {
                uses.remove(&lock);
            }
        }
        for waiter in &shared.waiters {
            self.timers.remove(&(waiter.until.unwrap_or_default(), waiter.session, waiter.id));
        }
        Some(shared)
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
        let known = self.groups.by_name.get(name).copied();
        let group = match known {
            Some(group) => group,
            None if self.groups.len() >= limits.groups as usize => return Err(Refusal::Limit(LimitName::Groups)),
            None => self.new_group(name)?,
        };
        let value = self.groups.map.get_mut(&group).ok_or(Refusal::NotHeld)?;
        let full = value.members.len() >= self.config.limits.members_per_group as usize;
        if full && !value.members.contains_key(&at) {
            return Err(Refusal::Limit(LimitName::MembersPerGroup));
        }
        // [GROUP-1] Attaching twice is attaching once.
        value.members.entry(at).or_default();
        if let Some(session) = self.sessions.get_mut(at) {
            session.extra_or_new().groups.insert(group);
        }
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
        if let Some(extra) = self.sessions.get_mut(at).and_then(|s| s.extra_mut()) {
            extra.groups.remove(&group);
        }
        self.tell_effects(now);
    }

    /// The session ends.
    pub(crate) fn leave_all_groups(&mut self, now: Time, at: u32, ending: Ending) {
        let Some(extra) = self.sessions.get_mut(at).and_then(|s| s.extra_mut()) else { return };
        for group in core::mem::take(&mut extra.groups) {
            self.leave_group(now, at, group, ending);
        }
    }

    /// A member goes: its waits end, its uses end.
    fn leave_group(&mut self, now: Time, at: u32, group: u32, ending: Ending) {
        let waits: Vec<(RequestId, LockId)> = self.sessions.get(at).map_or(Vec::new(), |session| {
            let of_group = |pend| match pend {
                Pend::Group { group: g, lock } if g == group => Some(lock),
                Pend::Group { .. } | Pend::Lock(_) | Pend::Many(_) | Pend::Forward => None,
            };
            session.ledger.waits().filter_map(|w| of_group(w.pend).map(|lock| (w.id, lock))).collect()
        });
        for (id, lock) in waits {
            self.end_member_wait(now, at, group, lock, id, WaitEnd::Cancelled);
        }
        let Some(value) = self.groups.map.get_mut(&group) else { return };
        let uses = value.members.remove(&at).unwrap_or_default();
        let owner = value.owner;
        // [GROUP-6] The last member's leaving ends the group, as a session's end ends the session.
        if value.members.is_empty() {
            self.end_group(now, group, owner, ending);
            return;
        }
        for lock in uses.into_keys() {
            let last = self.groups.map.get_mut(&group).and_then(|g| g.locks.get_mut(&lock)).is_some_and(|shared| {
                shared.users.remove(&at);
                shared.users.is_empty()
            });
            if last {
                // [GROUP-5] A member that died as the only user of a lock may have left what it guards half done: its value block
                // is invalid, as if the owner had died.
                let flags = match ending {
                    Ending::Crash => Flags::FORCEUNLOCK.with(Flags::IVVALBLK),
                    Ending::Goodbye => Flags::FORCEUNLOCK,
                };
                self.groups.forget_lock(group, lock);
                let release = ReleaseRequest { lock, flags, value: None };
                let _gone_already = self.table.release(now, owner, &release, &mut self.fx);
            }
        }
    }

    fn end_group(&mut self, now: Time, group: u32, owner: OwnerId, ending: Ending) {
        let Some(value) = self.groups.map.remove(&group) else { return };
        self.groups.by_name.remove(&value.name);
        for lock in value.locks.keys() {
            self.groups.locks.remove(lock);
        }
        self.owners.set(owner, Whose::Nobody);
        self.table.end_owner(now, owner, ending, &mut self.fx);
    }

    /// The wait of a lock or of its conversion has ended, for all members that wait for it.
    pub(crate) fn end_group_waits(&mut self, now: Time, group: u32, lock: LockId, end: &WaitEnd) {
        let Some(shared) = self.groups.map.get_mut(&group).and_then(|g| g.locks.get_mut(&lock)) else { return };
        let was_held = shared.held.is_some();
        let granted = match end {
            WaitEnd::Granted(grant) => Some(grant.claim),
            WaitEnd::Refused(_) | WaitEnd::Cancelled | WaitEnd::Demoted { .. } => None,
        };
        shared.held = granted.or(shared.held);
        let waiters = core::mem::take(&mut shared.waiters);
        for waiter in &waiters {
            self.groups.timers.remove(&(waiter.until.unwrap_or_default(), waiter.session, waiter.id));
            if granted.is_some() && !was_held {
                self.add_use(waiter.session, group, lock);
            }
            let waiting = self.sessions.get_mut(waiter.session).and_then(|s| s.ledger.end_wait(waiter.id));
            if let Some(waiting) = waiting {
                self.answer_wait(now, waiter.session, waiting, end.clone());
            }
        }
        if granted.is_none() && !was_held {
            self.groups.forget_lock(group, lock);
        }
        // Granted though the last who waited has gone.
        if granted.is_some() && !was_held && waiters.is_empty() {
            self.release_for_nobody(now, group, lock);
        }
    }

    fn release_for_nobody(&mut self, now: Time, group: u32, lock: LockId) {
        let Some(owner) = self.groups.map.get(&group).map(|g| g.owner) else { return };
        self.groups.forget_lock(group, lock);
        let release = ReleaseRequest { lock, flags: Flags::FORCEUNLOCK, value: None };
        let _gone_already = self.table.release(now, owner, &release, &mut self.fx);
    }

    pub(crate) fn add_use(&mut self, at: u32, group: u32, lock: LockId) {
        let Some(value) = self.groups.map.get_mut(&group) else { return };
        let (Some(shared), Some(uses)) = (value.locks.get_mut(&lock), value.members.get_mut(&at)) else { return };
        shared.users.insert(at);
        let count = uses.entry(lock).or_insert(0);
        *count = count.saturating_add(1);
    }

    pub(crate) fn tell_group_blocking(&mut self, group: u32, lock: LockId, claim: Claim) {
        let Some(shared) = self.groups.map.get(&group).and_then(|g| g.locks.get(&lock)) else { return };
        // [GROUP-4] Every user is told: any of them may be the one that can let go.
        let users: Vec<u32> = shared.users.iter().copied().collect();
        for user in users {
            self.notify_blocking(user, lock, claim);
        }
    }

    pub(crate) fn on_group_revoked(&mut self, now: Time, group: u32, lock: LockId, why: Revoked) {
        self.end_group_waits(now, group, lock, &WaitEnd::Refused(Refusal::Lost));
        let Some(shared) = self.groups.forget_lock(group, lock) else { return };
        for user in shared.users {
            self.notify_revoked(user, lock, why);
        }
    }

    /// Repeats to one member, who was away, whom its group's locks keep waiting.
    pub(crate) fn repeat_group_blocking(&mut self, group: u32, at: u32, conn: lockstead_types::ConnId) {
        let Some(value) = self.groups.map.get(&group) else { return };
        let Some(uses) = value.members.get(&at) else { return };
        let mut fx = Vec::new();
        self.table.repeat_blocking(value.owner, &mut fx);
        for effect in fx {
            if let lockstead_table::Effect::Blocking { lock, claim, .. } = effect
                && uses.contains_key(&lock)
            {
                let notice = lockstead_types::reply::Notice::Blocking { lock, claim };
                let message = lockstead_types::message::ServerMessage::Notice(notice);
                self.outputs.push_back(crate::io::Output::Send { conn, message });
            }
        }
    }
}
