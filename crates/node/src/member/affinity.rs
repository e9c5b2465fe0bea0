//! Slots that go to the node that uses them: a master counts who asks for names of lockspaces with `affinity`, and gives a slot
//! to the one member that asks more than all others together. A file of its own, since only here does use decide anything.
//!
//! Hysteresis, so that no slot goes to and fro: the user must ask more than twice as often as all others together, and often; a
//! slot stays for [`STAY`], and its new master counts anew, with some credit for itself. Two nodes that use a slot equally never
//! move it.

use alloc::{collections::BTreeMap, vec, vec::Vec};

use lockstead_cluster::{Command, PlaceWhy};
use lockstead_types::{
    NodeId, Slot, SpaceId, Span, Time,
    peer::{PeerOp, SlotGeneration},
    space::Mastering,
};

use super::{Member, proposals::Subject};
use crate::node::Node;

/// How often the counts are looked at, and halved.
const LOOK: Span = Span::from_secs(5);
/// How long a slot that is used stays with a master at least before it goes to another user.
const STAY: Span = Span::from_secs(10);
/// So many requests since about two looks make a user.
const ENOUGH: u32 = 32;
/// Slots given away at once.
const BATCH: usize = 32;

/// Who uses the slots of this master.
#[derive(Default)]
pub(crate) struct Uses {
    slots: BTreeMap<Slot, Use>,
    /// When to look again; `None` while nothing is counted.
    look: Option<Time>,
}

/// Who uses one slot under one generation.
struct Use {
    generation: SlotGeneration,
    since: Time,
    /// Requests of each home, halved at each look.
    homes: Vec<(NodeId, u32)>,
}

impl Uses {
    pub(crate) fn next_timer(&self) -> Option<Time> {
        self.look
    }

    fn note(&mut self, now: Time, slot: Slot, generation: SlotGeneration, home: NodeId) {
        let fresh = || Use { generation, since: now, homes: Vec::new() };
        let known = self.slots.entry(slot).or_insert_with(fresh);
        if known.generation != generation {
            *known = fresh();
        }
        match known.homes.iter_mut().find(|(node, _)| *node == home) {
            Some((_, count)) => *count = count.saturating_add(1),
            None => known.homes.push((home, 1)),
        }
        self.look.get_or_insert(now.after(LOOK));
    }

    /// Slots that another member uses more than all others together, the most used first.
    fn coveted(&self, now: Time, me: NodeId) -> Vec<(Slot, SlotGeneration, NodeId)> {
        let wanted = |(slot, known): (&Slot, &Use)| {
            let (home, most) = *known.homes.iter().max_by_key(|(node, count)| (*count, core::cmp::Reverse(*node)))?;
            let all = known.homes.iter().fold(0_u32, |sum, (_, count)| sum.saturating_add(*count));
            // [MEMBER-11] Twice as much as the others: with as much as they, the slot would come back when chance turns.
            let clear = most >= ENOUGH && most / 2 > all.saturating_sub(most);
            let due = now >= known.since.after(STAY);
            (home != me && clear && due).then_some((most, *slot, known.generation, home))
        };
        let mut found: Vec<_> = self.slots.iter().filter_map(wanted).collect();
        found.sort_unstable_by_key(|(most, slot, ..)| (core::cmp::Reverse(*most), *slot));
        found.into_iter().map(|(_, slot, generation, home)| (slot, generation, home)).collect()
    }

    fn halve(&mut self) {
        self.slots.retain(|_, known| {
            known.homes.iter_mut().for_each(|(_, count)| *count /= 2);
            known.homes.retain(|(_, count)| *count > 0);
            !known.homes.is_empty()
        });
    }
}

impl Member {
    /// What was proposed because of use has its fate.
    pub(crate) fn settle_uses(&mut self, command: &Command) {
        let subject = match command {
            Command::Attract { .. } => Subject::Attract,
            Command::Forsake { .. } => Subject::Forsake,
            _ => return,
        };
        if self.proposals.is(subject, command) {
            self.proposals.settled(subject);
        }
    }

    /// Slots that came because this node uses them: it is their user until its count is used up.
    pub(crate) fn welcome_uses(&mut self, now: Time, command: &Command) {
        let Command::Attract { slots } = command else { return };
        for (slot, _, to) in slots.iter().filter(|(_, _, to)| *to == self.me) {
            let Some(generation) = self.state.master(*slot).map(|entry| entry.generation) else { continue };
            self.uses.slots.insert(*slot, Use { generation, since: now, homes: vec![(*to, ENOUGH)] });
            self.uses.look.get_or_insert(now.after(LOOK));
        }
    }

    /// Whether this start masters a slot under this generation.
    pub(super) fn masters(&self, slot: Slot, generation: SlotGeneration) -> bool {
        let own = (self.me, self.incarnation, generation);
        self.state.master(slot).is_some_and(|now| (now.master, now.incarnation, now.generation) == own)
    }

    /// The slots that are here because they are used here.
    fn used(&self) -> impl Iterator<Item = Slot> + '_ {
        let its = self.state.places.iter().filter(|(_, p)| p.node == self.me && p.why == PlaceWhy::Used);
        its.map(|(slot, _)| *slot)
    }

    /// What to give away now: a bounded number, to members that have room for it.
    fn given_away(&self, now: Time) -> Vec<(Slot, SlotGeneration, NodeId)> {
        let recovering = self.recoveries.slots();
        let mut room: BTreeMap<NodeId, usize> = BTreeMap::new();
        let mut given = Vec::new();
        for (slot, generation, home) in self.uses.coveted(now, self.me) {
            let pinned = self.state.places.get(&slot).is_some_and(|place| place.why == PlaceWhy::Pinned);
            let able = self.state.masters().any(|(node, _)| node == home);
            if pinned || !able || recovering.has(slot) || !self.masters(slot, generation) {
                continue;
            }
            let left = room.entry(home).or_insert_with(|| self.state.room(home));
            if *left > 0 && given.len() < BATCH {
                *left -= 1;
                given.push((slot, generation, home));
            }
        }
        given
    }

    /// Slots that came here by use and are not used at all any more.
    fn forsaken(&self) -> Vec<(Slot, SlotGeneration)> {
        let quiet = self.used().filter(|slot| !self.uses.slots.contains_key(slot));
        quiet.filter_map(|slot| Some((slot, self.state.master(slot)?.generation))).take(BATCH).collect()
    }
}

impl Node {
    /// A home asks for a lock, or to convert one.
    pub(crate) fn note_use(&mut self, now: Time, home: NodeId, slot: Slot, op: &PeerOp) {
        let space = match op {
            PeerOp::Lock(lock) => Some(lock.space),
            PeerOp::Convert { lock, .. } => self.table.space_of_lock(*lock),
            PeerOp::Release { .. } | PeerOp::Cancel(_) | PeerOp::ReadValue(_) => None,
        };
        let Some(member) = &mut self.member else { return };
        let goes = |space: SpaceId| member.state.spaces.get(&space).is_some_and(|s| s.mastering == Mastering::Affinity);
        if !space.is_some_and(goes) {
            return;
        }
        if let Some(generation) = member.state.master(slot).map(|entry| entry.generation) {
            member.uses.note(now, slot, generation, home);
        }
    }

    /// Gives slots to who uses them, and lets those go that nobody uses any more.
    pub(crate) fn look_at_uses(&mut self, now: Time) {
        let Some(member) = &mut self.member else { return };
        if member.uses.look.is_none_or(|look| now < look) {
            return;
        }
        let given = member.given_away(now);
        member.uses.halve();
        let forsaken = member.forsaken();
        let again = !member.uses.slots.is_empty() || member.used().next().is_some();
        member.uses.look = again.then(|| now.after(LOOK));
        if !given.is_empty() {
            self.counters.slots_attracted += given.len() as u64;
            self.propose(now, Subject::Attract, Command::Attract { slots: given });
        }
        if !forsaken.is_empty() {
            self.propose(now, Subject::Forsake, Command::Forsake { slots: forsaken });
        }
    }
}
