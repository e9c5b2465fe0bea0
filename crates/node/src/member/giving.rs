//! What a node does as former master when it gives slots up alive: what only it knows, orphans and value blocks, it hands to
//! the reports, and takes all about the slots out of its table.

use alloc::{boxed::Box, collections::BTreeSet, vec::Vec};

use lockstead_table::{Claimant, ExportedResource, OwnerId};
use lockstead_types::{
    Flags, LockId, NodeId, SessionId, Slot, SlotSet, SpaceId, Time, Token,
    peer::{ValueReport, Written},
    reply::Value,
    request::Claim,
    rows::LockReport,
};

use super::keep::Agreed;
use crate::{node::Node, owners::Whose};

/// What a node hands over with slots it was master of.
pub(crate) struct GivenUp {
    pub(crate) given: Vec<(Slot, Given)>,
    pub(crate) unsettled: Vec<Slot>,
}

/// What only the former master of a slot knows.
pub(crate) enum Given {
    Orphan(Orphan),
    Value(ValueReport),
}

/// A lock without an owner.
pub(crate) struct Orphan {
    session: Option<SessionId>,
    space: SpaceId,
    name: Box<[u8]>,
    held: Option<Claim>,
    token: Token,
    tag: u32,
    alone: bool,
    flags: Flags,
}

impl Orphan {
    pub(crate) fn report(&self) -> LockReport<'_> {
        LockReport {
            session: self.session,
            orphan: true,
            space: self.space,
            name: &self.name,
            held: self.held,
            token: self.token,
            before: Token::NONE,
            wanted: None,
            tag: self.tag,
            alone: self.alone,
            flags: self.flags,
            value: None,
            group: None,
        }
    }
}

impl Node {
    /// A former master takes everything about these slots out of its table.
    pub(crate) fn give_up(&mut self, now: Time, slots: &SlotSet) -> GivenUp {
        let (mut given, mut gone) = (Vec::new(), Vec::new());
        if slots.is_empty() {
            return GivenUp { given, unsettled: Vec::new() };
        }
        // What it was still taking back itself it may not know whole: an empty value block there says nothing.
        let mut unsettled = self.member.as_ref().map(|m| m.recoveries.slots()).unwrap_or_default();
        unsettled.keep_only(slots);
        for resource in self.table.export_slots(now, slots) {
            let Some(slot) = self.slot_of(resource.space, resource.name) else { continue };
            for lock in &resource.locks {
                let session = match lock.whose {
                    Claimant::Orphan(session) => session,
                    Claimant::Owner(owner) => {
                        gone.push((owner, lock.lock));
                        continue;
                    }
                };
                let orphan = Orphan {
                    session,
                    space: resource.space,
                    name: resource.name.into(),
                    held: lock.held,
                    token: lock.token,
                    tag: lock.tag,
                    alone: lock.alone,
                    flags: lock.flags,
                };
                given.push((slot, Given::Orphan(orphan)));
            }
            let agreed = self.agreed_value(slot, resource.space, resource.name);
            let (value, writers) = match agreed {
                None => (resource.value.clone(), self.homes_of_writers(&resource)),
                Some(Agreed { value, askers }) => (Some(value), self.homes_of_undone(&resource, askers)),
            };
            let mut give = |value: Value, written: Written| {
                let value = ValueReport { space: resource.space, name: resource.name.into(), value, written };
                given.push((slot, Given::Value(value)));
            };
            match writers {
                None => give(Value { invalid: true, ..value.unwrap_or_default() }, Written::Perhaps),
                Some(_) if unsettled.has(slot) => {}
                Some(homes) if homes.is_empty() => value.into_iter().for_each(|value| give(value, Written::No)),
                Some(homes) => {
                    let value = value.unwrap_or_default();
                    homes.into_iter().for_each(|home| give(value.clone(), Written::UnlessTold(home)));
                }
            }
        }
        self.table.drop_slots(slots);
        let of_group = |(owner, lock): &(OwnerId, LockId)| match self.owners.get(*owner) {
            Whose::Group(group) => Some((group, *lock)),
            _ => None,
        };
        let shared: Vec<(u32, LockId)> = gone.iter().filter_map(of_group).collect();
        if let Some(member) = &mut self.member {
            for (owner, lock) in gone {
                if let Whose::Guest(at) = self.owners.get(owner) {
                    member.guests.forget_tokens(at, lock);
                }
            }
            member.guests.forget_waits(slots);
        }
        for (group, lock) in shared {
            self.give_up_shared(now, group, lock);
        }
        GivenUp { given, unsettled: unsettled.iter().collect() }
    }

    /// The homes that tell the new master of the locks there are in modes that write. `None` where no home tells of one: its client
    /// claims it, or has given it up, or is lost with it.
    ///
    /// [SLOT-7] Without this: a holds EX, its home dies, the slot moves; a releases with a value while it looks for another home,
    /// so it claims nothing; the new master never hears of the lock, and what was there before is read as valid. It is the same
    /// where the home dies after this, and before it tells.
    fn homes_of_writers(&self, resource: &ExportedResource<'_>) -> Option<BTreeSet<NodeId>> {
        let Some(space) = self.table.space(resource.space) else { return Some(BTreeSet::new()) };
        let writes = |held: Option<Claim>| matches!(held, Some(Claim::Mode(mode)) if space.modes.writes(mode));
        let mut homes = BTreeSet::new();
        for lock in resource.locks.iter().filter(|lock| writes(lock.held)) {
            match lock.whose {
                Claimant::Owner(owner) => homes.extend(self.told_by(owner, lock.lock)?),
                Claimant::Orphan(_) => homes.extend(self.member.as_ref().map(|member| member.me)),
            }
        }
        Some(homes)
    }

    /// The homes that tell of a lock.
    fn told_by(&self, owner: OwnerId, lock: LockId) -> Option<Vec<NodeId>> {
        match self.owners.get(owner) {
            Whose::Guest(at) => self.home_telling(at, lock).map(|home| alloc::vec![home]),
            Whose::Group(group) => self.homes_of_users(group, lock),
            Whose::Session(_) | Whose::Ended(_) | Whose::Nobody => self.member.as_ref().map(|m| alloc::vec![m.me]),
        }
    }

    /// The same where what was written last is undone: those that ask for it again are to be heard, too ([PERSIST-5]).
    ///
    /// Without this: s converts down with a value; the slot moves before that is agreed on; its home dies before it asks again; at
    /// another one s claims what it had lowered its lock to, asks again from there, which writes nothing, and the value of before is
    /// read as valid.
    fn homes_of_undone(
        &self,
        resource: &ExportedResource<'_>,
        askers: Option<BTreeSet<NodeId>>,
    ) -> Option<BTreeSet<NodeId>> {
        let (mut homes, writers) = (askers?, self.homes_of_writers(resource)?);
        homes.extend(writers);
        Some(homes)
    }

    /// The home that tells of a guest's lock.
    pub(crate) fn home_telling(&self, at: u32, lock: LockId) -> Option<NodeId> {
        let member = self.member.as_ref()?;
        let guest = member.guests.get(at)?;
        // One that is not in the directory yet has its first home.
        let Some(entry) = member.state.sessions.get(&guest.session) else { return Some(guest.home) };
        let is_home = entry.generation <= guest.generation && member.state.is_up(entry.home, entry.incarnation);
        (is_home && !guest.is_to_claim(lock)).then_some(entry.home)
    }
}
