//! What is always true of the agreed state. Tests and the simulator ask after each command.

use alloc::{collections::BTreeSet, format, string::String};

use lockstead_types::{Token, peer::Incarnation, slot::SLOTS};

use crate::state::{MemberState, PlaceWhy, State};

impl State {
    /// Proves what must be true of one state.
    ///
    /// # Errors
    ///
    /// The first thing that is not.
    pub fn check(&self) -> Result<(), String> {
        if !self.is_formed() {
            let blank = State { version: self.version, ..State::default() };
            return if *self == blank { Ok(()) } else { Err("there is something before the cluster is formed".into()) };
        }
        ensure(self.epoch <= Token::EPOCH_MAX, || "the epoch is too large for tokens".into())?;
        self.check_members()?;
        self.check_slots()?;
        self.check_places()?;
        self.check_spaces()?;
        for (session, entry) in &self.sessions {
            let known = self
                .members
                .get(&entry.home)
                .map(|member| member.incarnation)
                .or(self.retired.get(&entry.home).copied());
            ensure(
                known.is_some_and(|newest| entry.incarnation <= newest && entry.incarnation > Incarnation(0)),
                || format!("session {session} has a home that never was"),
            )?;
            ensure(entry.ttl <= self.ttl_max, || format!("session {session} has a lease above the largest"))?;
        }
        Ok(())
    }

    /// Proves what must be true of a state and the one before it.
    ///
    /// # Errors
    ///
    /// The first thing that is not.
    pub fn check_after(&self, before: &State) -> Result<(), String> {
        ensure(self.version == before.version + 1, || "the version does not count".into())?;
        ensure(self.epoch >= before.epoch, || "the epoch falls".into())?;
        let changed = (&self.members, &self.slots, &self.places) != (&before.members, &before.slots, &before.places);
        ensure(!changed || self.epoch > before.epoch, || "members or slots changed in an epoch".into())?;
        for (at, (new, old)) in self.slots.iter().zip(&before.slots).enumerate() {
            let moved = (new.master, new.incarnation) != (old.master, old.incarnation);
            let generation = old.generation.0 + u32::from(moved);
            ensure(new.generation.0 == generation, || format!("slot {at} has the wrong generation"))?;
        }
        for (node, old) in &before.members {
            let new = self.members.get(node).map(|m| m.incarnation).or(self.retired.get(node).copied());
            ensure(new.is_some_and(|new| new >= old.incarnation), || format!("an incarnation of {} is lost", node.0))?;
        }
        for (session, old) in &before.sessions {
            if let Some(new) = self.sessions.get(session) {
                let moved = (new.home, new.incarnation) != (old.home, old.incarnation);
                ensure(!moved || new.generation > old.generation, || format!("session {session} moved unnoticed"))?;
            }
        }
        Ok(())
    }

    fn check_members(&self) -> Result<(), String> {
        for (node, member) in &self.members {
            let never = member.incarnation == Incarnation(0);
            ensure(!never || member.state == MemberState::Down, || format!("{} is up before it started", node.0))?;
            ensure(!self.retired.contains_key(node), || format!("{} is a member and removed", node.0))?;
        }
        Ok(())
    }

    fn check_slots(&self) -> Result<(), String> {
        ensure(self.slots.len() == SLOTS, || format!("{} slots", self.slots.len()))?;
        let (served, roster) = (!self.shares().is_empty(), self.roster());
        for (at, slot) in self.slots.iter().enumerate() {
            let member = self.members.get(&slot.master);
            let member = member.ok_or_else(|| format!("the master of slot {at} is no member"))?;
            ensure(slot.incarnation <= member.incarnation, || format!("slot {at} is with a start to come"))?;
            ensure(member.weight > 0, || format!("slot {at} is with a witness"))?;
            ensure(slot.generation.0 > 0, || format!("slot {at} has no generation"))?;
            let known = roster.is_up(slot) || roster.awaits(slot);
            ensure(!served || known, || format!("slot {at} is with a dead master"))?;
        }
        Ok(())
    }

    fn check_places(&self) -> Result<(), String> {
        for (slot, place) in &self.places {
            let member = self.members.get(&place.node);
            ensure(member.is_some_and(|m| m.weight > 0), || format!("slot {} belongs to nobody", slot.0))?;
            let up = member.is_some_and(|m| m.state == MemberState::Up);
            ensure(place.why == PlaceWhy::Pinned || up, || format!("slot {} is used by one that is gone", slot.0))?;
        }
        Ok(())
    }

    fn check_spaces(&self) -> Result<(), String> {
        let names: BTreeSet<&str> = self.spaces.values().map(|spec| spec.name.as_str()).collect();
        ensure(names.len() == self.spaces.len(), || "two lockspaces have one name".into())?;
        ensure(names.contains(crate::directory::DEFAULT), || "there is no default lockspace".into())?;
        ensure(self.spaces.keys().all(|space| space.0 <= self.newest_space), || "a lockspace to come".into())?;
        let known = self
            .space_nonces
            .keys()
            .chain(&self.closing)
            .chain(self.kept.keys())
            .all(|space| self.spaces.contains_key(space));
        ensure(known, || "something is kept of a lockspace that is gone".into())
    }
}

fn ensure(holds: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why()) }
}
