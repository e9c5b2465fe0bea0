//! Who should have how many slots, and the fewest moves that get there.

use alloc::{collections::BTreeMap, vec, vec::Vec};

use lockstead_types::{
    NodeId, Slot,
    peer::{Incarnation, SlotGeneration},
    slot::{SLOTS, SlotSet},
};

use crate::state::{MemberState, SlotEntry, State};

/// Slots and weight of those who may have slots.
pub(crate) type Shares = BTreeMap<NodeId, (u32, u32)>;

/// Gives `count` slots one by one to whoever is furthest below its share, of equals the lowest number. Returns the takers in
/// order; nobody where nobody has weight.
pub(crate) fn fill(shares: &mut Shares, count: usize) -> Vec<NodeId> {
    let mut takers = Vec::with_capacity(count);
    let able = shares.iter_mut().filter(|(_, (_, weight))| *weight > 0);
    // (2n + 1) / weight: the divisor of Webster's method, which rounds each share to the nearest whole slot.
    let mut able: Vec<Able<'_>> = able
        .map(|(node, (slots, weight))| {
            let odd = 2 * u64::from(*slots) + 1;
            Able { node: *node, odd, weight: u64::from(*weight), slots }
        })
        .collect();
    for _ in 0..count {
        let next = able.iter_mut().min_by(|a, b| (a.odd * b.weight).cmp(&(b.odd * a.weight)));
        let Some(next) = next else { break };
        next.odd += 2;
        *next.slots += 1;
        takers.push(next.node);
    }
    takers
}

/// One that may take slots.
struct Able<'a> {
    node: NodeId,
    odd: u64,
    weight: u64,
    slots: &'a mut u32,
}

/// What each slot's master is, for whoever asks of all slots: a map of the members would be searched four thousand times.
pub(crate) struct Roster(Vec<Standing>);

#[derive(Copy, Clone, Default)]
struct Standing {
    /// The start in which it takes part.
    up: Option<Incarnation>,
    /// A seat that has never started.
    awaited: bool,
}

impl Roster {
    fn of(&self, slot: &SlotEntry) -> Standing {
        self.0.get(usize::from(slot.master.0)).copied().unwrap_or_default()
    }

    /// Whether a slot's master takes part.
    pub(crate) fn is_up(&self, slot: &SlotEntry) -> bool {
        self.of(slot).up == Some(slot.incarnation)
    }

    /// Whether a slot belongs to a seat that has never started: nobody has anything there.
    pub(crate) fn awaits(&self, slot: &SlotEntry) -> bool {
        self.of(slot).awaited
    }
}

/// How often each comes.
pub(crate) fn tally(nodes: impl Iterator<Item = NodeId>) -> BTreeMap<NodeId, u32> {
    let mut counts: Vec<u32> = Vec::new();
    for NodeId(node) in nodes {
        let at = usize::from(node);
        if at >= counts.len() {
            counts.resize(at + 1, 0);
        }
        if let Some(count) = counts.get_mut(at) {
            *count += 1;
        }
    }
    let counted = counts.into_iter().enumerate().filter(|(_, count)| *count > 0);
    counted.map(|(node, count)| (NodeId(node as u16), count)).collect()
}

impl State {
    /// The members, by number.
    pub(crate) fn roster(&self) -> Roster {
        let numbers = self.members.last_key_value().map_or(0, |(node, _)| usize::from(node.0) + 1);
        let mut roster = vec![Standing::default(); numbers];
        for (node, member) in &self.members {
            let up = (member.state != MemberState::Down).then_some(member.incarnation);
            if let Some(place) = roster.get_mut(usize::from(node.0)) {
                *place = Standing { up, awaited: member.incarnation == Incarnation(0) };
            }
        }
        Roster(roster)
    }

    /// Slots and weight of each who may take slots: members that are up; where none is, draining ones, so that the last
    /// node serves. Slots of an earlier start are not counted: they are to be given away.
    pub(crate) fn shares(&self) -> Shares {
        let roster = self.roster();
        let spread = tally(self.slots.iter().filter(|slot| roster.is_up(slot)).map(|slot| slot.master));
        let of = |state| -> Shares {
            let able = self.members.iter().filter(|(_, member)| member.state == state && member.weight > 0);
            able.map(|(node, member)| (*node, (spread.get(node).copied().unwrap_or(0), member.weight))).collect()
        };
        let up = of(MemberState::Up);
        if up.is_empty() { of(MemberState::Draining) } else { up }
    }

    /// At most `most` moves towards an even spread over the members that are up; none where it is even within a slot
    /// and nobody drains. `absent` counts slots of seats that never started among those to be moved, and moves them
    /// first and all at once: nobody is served there.
    pub(crate) fn moves(&self, most: usize, absent: Absent) -> Vec<(Slot, SlotGeneration, NodeId)> {
        let mut shares = self.shares();
        shares.retain(|node, _| self.members.get(node).is_some_and(|member| member.state == MemberState::Up));
        if shares.is_empty() {
            return Vec::new();
        }
        if absent == Absent::Moved {
            let roster = self.roster();
            let free: Vec<Slot> =
                Slot::all().filter(|slot| self.master(*slot).is_some_and(|now| roster.awaits(&now))).collect();
            if !free.is_empty() {
                let takers = fill(&mut shares, free.len());
                return free.into_iter().zip(takers).filter_map(|(slot, to)| self.planned(slot, to)).collect();
            }
        }
        self.level(&shares, most)
    }

    fn level(&self, shares: &Shares, most: usize) -> Vec<(Slot, SlotGeneration, NodeId)> {
        // [MEMBER-12] What belongs to somebody counts as part of its share, and goes there first.
        let placed: Vec<(Slot, NodeId)> = self.places.keys().filter_map(|s| Some((*s, self.place(*s)?))).collect();
        let roster = self.roster();
        let away = |slot: Slot, to| self.master(slot).is_some_and(|now| now.master != to && !roster.awaits(&now));
        let homeward: Vec<(Slot, NodeId)> = placed.iter().filter(|(slot, to)| away(*slot, *to)).copied().collect();
        let of_somebody: SlotSet = placed.iter().map(|(slot, _)| *slot).collect();
        let free = |slot: &Slot| !of_somebody.has(*slot);
        let lacks = self.lacks(shares, &placed);
        let spread = self.spread_of(free);
        // One slot more or less is not worth a move: otherwise nodes that come and go would shift the odd ones about.
        let even = spread.keys().chain(lacks.keys()).all(|node| {
            let slots = spread.get(node).copied().unwrap_or(0);
            match self.members.get(node).map(|member| member.state) {
                Some(MemberState::Draining) => slots == 0,
                Some(MemberState::Up) => slots.abs_diff(lacks.get(node).copied().unwrap_or(0)) <= 1,
                Some(MemberState::Down) | None => true,
            }
        });
        let mut moves = homeward;
        if !even {
            moves.extend(self.outward(&spread, &lacks, free));
        }
        moves.into_iter().take(most).filter_map(|(slot, to)| self.planned(slot, to)).collect()
    }

    /// How many slots that belong to nobody each should have, beside those that belong to it.
    fn lacks(&self, shares: &Shares, placed: &[(Slot, NodeId)]) -> BTreeMap<NodeId, u32> {
        let roster = self.roster();
        let awaited = self.slots.iter().filter(|slot| roster.awaits(slot)).count();
        let owned = tally(placed.iter().map(|(_, to)| *to));
        let own = |node: &NodeId| owned.get(node).copied().unwrap_or(0);
        let mut targets: Shares = shares.iter().map(|(node, (_, weight))| (*node, (own(node), *weight))).collect();
        fill(&mut targets, SLOTS.saturating_sub(awaited + placed.len()));
        targets.into_iter().map(|(node, (slots, _))| (node, slots - own(&node))).collect()
    }

    /// How many of some slots each node has.
    fn spread_of(&self, of: impl Fn(&Slot) -> bool) -> BTreeMap<NodeId, u32> {
        tally(Slot::all().filter(of).filter_map(|slot| self.master(slot)).map(|now| now.master))
    }

    /// From those who have more than they should to those who have less.
    fn outward(
        &self,
        spread: &BTreeMap<NodeId, u32>,
        lacks: &BTreeMap<NodeId, u32>,
        of: impl Fn(&Slot) -> bool,
    ) -> Vec<(Slot, NodeId)> {
        let has = |node: &NodeId| spread.get(node).copied().unwrap_or(0);
        let mut takers: Vec<NodeId> = Vec::new();
        for (node, target) in lacks {
            takers.extend((0..target.saturating_sub(has(node))).map(|_| *node));
        }
        let target = |node: &NodeId| lacks.get(node).copied().unwrap_or(0);
        let up = |node: &NodeId| self.members.get(node).is_some_and(|member| member.state != MemberState::Down);
        let mut over: BTreeMap<NodeId, u32> =
            spread.keys().filter(|node| up(node)).map(|node| (*node, has(node).saturating_sub(target(node)))).collect();
        let roster = self.roster();
        let leaving = Slot::all().filter(of).filter(|slot| {
            let Some(now) = self.master(*slot).filter(|now| roster.is_up(now)) else {
                return false;
            };
            match over.get_mut(&now.master) {
                Some(left) if *left > 0 => {
                    *left -= 1;
                    true
                }
                _ => false,
            }
        });
        leaving.zip(takers).collect()
    }

    fn planned(&self, slot: Slot, to: NodeId) -> Option<(Slot, SlotGeneration, NodeId)> {
        Some((slot, self.master(slot)?.generation, to))
    }
}

/// What becomes of slots whose seat has never started.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Absent {
    /// They wait for it.
    Awaited,
    /// Others get them.
    Moved,
}
