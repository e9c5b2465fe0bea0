//! Groups at a home: which of its sessions are attached to which, and under what number these know them. Other nodes know a group by its
//! name, and its members only where they use or wait for a lock of it (`shared.rs`).

use alloc::{boxed::Box, collections::BTreeMap, vec::Vec};

use lockstead_types::{
    Flags, GroupId, LimitName, RequestId, Time,
    peer::PeerOwner,
    refusal::Refusal,
    reply::Reply,
    request::{LockRequest, OwnerRef},
};

use super::forward::{For, Key, What};
use crate::{effects::WaitEnd, node::Node};

/// The groups of this home's sessions.
#[derive(Default)]
pub(crate) struct Attached {
    numbers: BTreeMap<Box<[u8]>, u32>,
    groups: BTreeMap<u32, Here>,
    /// The newest number given; none is used twice.
    newest: u32,
}

struct Here {
    name: Box<[u8]>,
    /// How many of this home's sessions are members.
    members: u32,
}

impl Attached {
    pub(crate) fn len(&self) -> usize {
        self.groups.len()
    }

    fn leave(&mut self, group: u32) {
        let Some(here) = self.groups.get_mut(&group) else { return };
        here.members -= 1;
        if here.members == 0
            && let Some(here) = self.groups.remove(&group)
        {
            self.numbers.remove(&here.name);
        }
    }

    /// `members_of`: how many sessions say that they are members of a group.
    pub(crate) fn check(&self, members_of: impl Fn(u32) -> usize) -> Result<(), &'static str> {
        let known = |(number, here): (&u32, &Here)| {
            here.members > 0
                && members_of(*number) == here.members as usize
                && self.numbers.get(&here.name) == Some(number)
        };
        let sound = self.groups.len() == self.numbers.len() && self.groups.iter().all(known);
        if sound { Ok(()) } else { Err("members of a group are miscounted") }
    }
}

impl Node {
    /// A session attaches: nobody but its home is told, since a group without locks has nothing that anybody could see.
    pub(crate) fn attach_here(&mut self, at: u32, id: RequestId, name: &[u8]) {
        match self.try_attach_here(at, name) {
            Ok(group) => self.answer(at, id, Reply::Group(GroupId(group))),
            Err(why) => self.refuse(at, id, why),
        }
    }

    pub(crate) fn try_attach_here(&mut self, at: u32, name: &[u8]) -> Result<u32, Refusal> {
        let limits = &self.config.limits;
        if name.is_empty() {
            return Err(Refusal::Invalid);
        }
        if name.len() > limits.name_bytes as usize {
            return Err(Refusal::TooLong);
        }
        let (Some(member), Some(session)) = (&mut self.member, self.sessions.get_mut(at)) else {
            return Err(Refusal::Lost);
        };
        let attached = &mut member.attached;
        let known = attached.numbers.get(name).copied();
        // [GROUP-1] Attaching twice is attaching once.
        if let Some(group) = known.filter(|group| session.extra().is_some_and(|e| e.groups.contains(group))) {
            return Ok(group);
        }
        let group = match known {
            Some(group) => group,
            None if attached.len() >= limits.groups as usize => return Err(Refusal::Limit(LimitName::Groups)),
            None => attached.newest.checked_add(1).ok_or(Refusal::Limit(LimitName::Groups))?,
        };
        let here = attached.groups.entry(group).or_insert(Here { name: name.into(), members: 0 });
        if here.members >= limits.members_per_group {
            return Err(Refusal::Limit(LimitName::MembersPerGroup));
        }
        here.members += 1;
        attached.newest = attached.newest.max(group);
        attached.numbers.insert(name.into(), group);
        session.extra_or_new().groups.insert(group);
        Ok(group)
    }

    /// A session leaves a group: its waits end, and what it uses is given back ([GROUP-5]).
    pub(crate) fn detach_here(&mut self, now: Time, at: u32, id: RequestId, GroupId(group): GroupId) {
        let extra = self.sessions.get_mut(at).and_then(|s| s.extra_mut());
        let was_member = extra.is_some_and(|extra| extra.groups.remove(&group));
        let Some(member) = self.member.as_mut().filter(|_| was_member) else {
            return self.refuse(at, id, Refusal::NotHeld);
        };
        let name = member.attached.groups.get(&group).map(|here| here.name.clone()).unwrap_or_default();
        member.attached.leave(group);
        self.answer(at, id, Reply::Done);
        for key in self.asked_in(at, &name) {
            self.end_asked(now, key);
        }
        for copy in self.copies_in(at, &name) {
            let left =
                |node: &Node| node.member.as_ref().and_then(|m| m.copies.get(copy)).is_some_and(|c| !c.releasing);
            // As often as it was granted.
            while left(self) {
                self.release_copy(now, copy);
            }
        }
    }

    /// New locks of a group that a session has asked for.
    fn asked_in(&self, at: u32, name: &[u8]) -> Vec<Key> {
        let Some(member) = &self.member else { return Vec::new() };
        let of_group = |key: &Key| match member.forwards.map.get(key).map(|f| (&f.what, f.whose)) {
            Some((What::Lock(lock), For::Client)) => lock.owner.group() == Some(name),
            _ => false,
        };
        member.forwards.of_session(at).into_iter().filter(of_group).collect()
    }

    /// What a session has of a group.
    fn copies_in(&self, at: u32, name: &[u8]) -> Vec<u32> {
        let Some(member) = &self.member else { return Vec::new() };
        let of_group = |copy: &u32| {
            member
                .copies
                .get(*copy)
                .is_some_and(|c| c.held.is_some() && c.group.as_ref().is_some_and(|g| *g.name == *name))
        };
        member.copies.of_session(at).filter(of_group).collect()
    }

    /// Nobody here waits for it any more: what is granted all the same is given back.
    fn end_asked(&mut self, now: Time, key: Key) {
        let (at, id) = key;
        let Some(forward) = self.member.as_mut().and_then(|m| m.forwards.map.get_mut(&key)) else { return };
        if forward.sent.is_none() && forward.queued.is_none() {
            return self.end_forward(now, key, WaitEnd::Cancelled);
        }
        let queued = forward.queued.is_some();
        forward.whose = For::Nobody;
        if let Some(waiting) = self.sessions.get_mut(at).and_then(|s| s.ledger.end_wait(id)) {
            self.answer_wait(now, at, waiting, WaitEnd::Cancelled);
        }
        // Of one that is not queued its master says first that it is, or has granted it.
        if queued {
            self.abandon(now, key);
        }
    }

    /// The session is no longer this node's.
    pub(crate) fn detach_all(&mut self, at: u32) {
        let Some(extra) = self.sessions.get_mut(at).and_then(|s| s.extra_mut()) else { return };
        let groups = core::mem::take(&mut extra.groups);
        if let Some(member) = &mut self.member {
            groups.into_iter().for_each(|group| member.attached.leave(group));
        }
    }

    /// Whose a new lock is to be.
    pub(crate) fn plan_owner(&self, at: u32, request: &LockRequest<'_>) -> Result<PeerOwner, Refusal> {
        let GroupId(group) = match request.owner {
            OwnerRef::Session | OwnerRef::Transaction | OwnerRef::Statement => {
                return Ok(PeerOwner::Session);
            }
            OwnerRef::Alone => return Ok(PeerOwner::Alone),
            OwnerRef::Group(group) => group,
        };
        // [GROUP-1]
        let mine = self.sessions.get(at).and_then(|s| s.extra()).is_some_and(|extra| extra.groups.contains(&group));
        let here = self.member.as_ref().and_then(|m| m.attached.groups.get(&group)).filter(|_| mine);
        let here = here.ok_or(Refusal::NotHeld)?;
        // [GROUP-8] An orphan is what the last member leaves behind, and no master knows who that is.
        if request.flags.has(Flags::PERSISTENT) || request.flags.has(Flags::ORPHAN) {
            return Err(Refusal::Invalid);
        }
        Ok(PeerOwner::Group(here.name.clone()))
    }
}
