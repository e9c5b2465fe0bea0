//! Applying a command: which slots belong to one member whatever an even spread says, and the weights the spread goes by.

use alloc::{vec, vec::Vec};

use lockstead_types::{NodeId, Slot, peer::SlotGeneration, slot::SLOTS};

use crate::{
    apply::WEIGHT,
    command::{Change, Refused},
    state::{MemberState, Place, PlaceWhy, State},
};

impl State {
    pub(crate) fn pin(&mut self, slot: Slot, node: NodeId) -> Result<Vec<Change>, Refused> {
        let member = self.members.get(&node).ok_or(Refused::Unknown)?;
        if usize::from(slot.0) >= SLOTS || member.weight == 0 {
            return Err(Refused::Invalid);
        }
        let place = Place { node, why: PlaceWhy::Pinned };
        if self.places.get(&slot) == Some(&place) {
            return Ok(Vec::new());
        }
        // What nodes do about a place they do in an epoch.
        self.raise_epoch(1)?;
        self.places.insert(slot, place);
        Ok(vec![Change::Epoch { moved: Vec::new() }])
    }

    pub(crate) fn unpin(&mut self, slot: Slot) -> Result<Vec<Change>, Refused> {
        if self.places.get(&slot).is_none_or(|place| place.why != PlaceWhy::Pinned) {
            return Err(Refused::Unknown);
        }
        self.raise_epoch(1)?;
        self.places.remove(&slot);
        Ok(vec![Change::Epoch { moved: Vec::new() }])
    }

    pub(crate) fn weigh(&mut self, node: NodeId, weight: u32) -> Result<Vec<Change>, Refused> {
        let was = self.members.get(&node).ok_or(Refused::Unknown)?.weight;
        if was == weight {
            return Ok(Vec::new());
        }
        // [MEMBER-10] A witness has no slots and votes by other rules: that is decided when it is let in.
        if was == 0 || weight == 0 || weight > WEIGHT {
            return Err(Refused::Invalid);
        }
        self.raise_epoch(1)?;
        if let Some(member) = self.members.get_mut(&node) {
            member.weight = weight;
        }
        Ok(vec![Change::Epoch { moved: Vec::new() }])
    }

    pub(crate) fn attract(&mut self, slots: &[(Slot, SlotGeneration, NodeId)]) -> Result<Vec<Change>, Refused> {
        let moves = self.plan_moves(slots)?;
        for (slot, to) in &moves {
            if self.places.get(slot).is_some_and(|place| place.why == PlaceWhy::Pinned) {
                return Err(Refused::Exists);
            }
            let coming = moves.iter().filter(|(_, other)| other == to).count();
            if coming > self.room(*to) {
                return Err(Refused::Full);
            }
        }
        self.raise_epoch(1)?;
        for (slot, node) in &moves {
            self.places.insert(*slot, Place { node: *node, why: PlaceWhy::Used });
        }
        Ok(vec![Change::Epoch { moved: moves.into_iter().filter_map(|(slot, to)| self.give(slot, to)).collect() }])
    }

    pub(crate) fn forsake(&mut self, slots: &[(Slot, SlotGeneration)]) -> Result<Vec<Change>, Refused> {
        let left: Vec<Slot> = slots
            .iter()
            .filter(|(slot, generation)| {
                let here = self.master(*slot).filter(|now| now.generation == *generation);
                let place = self.places.get(slot).filter(|place| place.why == PlaceWhy::Used);
                here.zip(place).is_some_and(|(now, place)| now.master == place.node)
            })
            .map(|(slot, _)| *slot)
            .collect();
        if left.is_empty() {
            return Ok(Vec::new());
        }
        self.raise_epoch(1)?;
        self.places.retain(|slot, _| !left.contains(slot));
        Ok(vec![Change::Epoch { moved: Vec::new() }])
    }

    /// [MEMBER-11] How many more slots a member may get because it uses them: with them it has twice its share at most.
    #[must_use]
    pub fn room(&self, node: NodeId) -> usize {
        let up = self.members.values().filter(|member| member.state == MemberState::Up);
        let all: usize = up.map(|member| member.weight as usize).sum();
        let Some(weight) = self.members.get(&node).map(|member| member.weight as usize) else { return 0 };
        let share = (SLOTS * weight).checked_div(all).unwrap_or(0);
        (2 * share).saturating_sub(self.slots.iter().filter(|slot| slot.master == node).count())
    }

    /// What members used that are not up any more is not theirs when they come back.
    pub(crate) fn forget_uses(&mut self) {
        let members = &self.members;
        let up = |node: &NodeId| members.get(node).is_some_and(|member| member.state == MemberState::Up);
        self.places.retain(|_, place| place.why == PlaceWhy::Pinned || up(&place.node));
    }
}
