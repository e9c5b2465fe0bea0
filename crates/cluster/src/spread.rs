//! Who should have how many slots, and the fewest moves that get there.

use alloc::{collections::BTreeMap, vec::Vec};

use lockstead_types::{NodeId, Slot, peer::SlotGeneration, slot::SLOTS};

use crate::state::{MemberState, State};

/// Slots and weight of those who may have slots.
pub(crate) type Shares = BTreeMap<NodeId, (u32, u32)>;

/// Gives `count` slots one by one to whoever is furthest below its share, of equals the lowest number. Returns the takers in
/// order; nobody where nobody has weight.
pub(crate) fn fill(shares: &mut Shares, count: usize) -> Vec<NodeId> {
    let mut takers = Vec::with_capacity(count);
    for _ in 0..count {
        // (2n + 1) / weight: the divisor of Webster's method, which rounds each share to the nearest whole slot.
        let next = shares.iter().filter(|(_, (_, weight))| *weight > 0).min_by(|(_, a), (_, b)| {
            let (left, right) = (u64::from(2 * a.0 + 1), u64::from(2 * b.0 + 1));
            (left * u64::from(b.1)).cmp(&(right * u64::from(a.1)))
        });
        let Some(node) = next.map(|(node, _)| *node) else { break };
        if let Some((slots, _)) = shares.get_mut(&node) {
            *slots += 1;
        }
        takers.push(node);
    }
    takers
}

impl State {
    /// Slots and weight of each who may take slots: members that are up; where none is, draining ones, so that the last
    /// node serves. Slots of an earlier start are not counted: they are to be given away.
    pub(crate) fn shares(&self) -> Shares {
        let mut spread = BTreeMap::new();
        for slot in self.slots.iter().filter(|slot| self.is_up(slot.master, slot.incarnation)) {
            *spread.entry(slot.master).or_insert(0) += 1;
        }
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
            let free: Vec<Slot> =
                Slot::all().filter(|slot| self.master(*slot).is_some_and(|now| self.awaits(&now))).collect();
            if !free.is_empty() {
                let takers = fill(&mut shares, free.len());
                return free.into_iter().zip(takers).filter_map(|(slot, to)| self.planned(slot, to)).collect();
            }
        }
        self.level(&shares, most)
    }

    fn level(&self, shares: &Shares, most: usize) -> Vec<(Slot, SlotGeneration, NodeId)> {
        // [MEMBER-12] What belongs to somebody counts as part of its share, and goes there first.
        let placed: BTreeMap<Slot, NodeId> = self.places.keys().filter_map(|s| Some((*s, self.place(*s)?))).collect();
        let homeward = placed
            .iter()
            .filter(|(slot, to)| self.master(**slot).is_some_and(|now| now.master != **to && !self.awaits(&now)));
        let homeward: Vec<(Slot, NodeId)> = homeward.map(|(slot, to)| (*slot, *to)).collect();
        let free = |slot: &Slot| !placed.contains_key(slot);
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
    fn lacks(&self, shares: &Shares, placed: &BTreeMap<Slot, NodeId>) -> BTreeMap<NodeId, u32> {
        let awaited = self.slots.iter().filter(|slot| self.awaits(slot)).count();
        let own = |node: &NodeId| u32::try_from(placed.values().filter(|to| *to == node).count()).unwrap_or(u32::MAX);
        let mut targets: Shares = shares.iter().map(|(node, (_, weight))| (*node, (own(node), *weight))).collect();
        fill(&mut targets, SLOTS.saturating_sub(awaited + placed.len()));
        targets.into_iter().map(|(node, (slots, _))| (node, slots - own(&node))).collect()
    }

    /// How many of some slots each node has.
    fn spread_of(&self, of: impl Fn(&Slot) -> bool) -> BTreeMap<NodeId, u32> {
        let mut spread = BTreeMap::new();
        for now in Slot::all().filter(of).filter_map(|slot| self.master(slot)) {
            *spread.entry(now.master).or_insert(0) += 1;
        }
        spread
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
        let leaving = Slot::all().filter(of).filter(|slot| {
            let Some(now) = self.master(*slot).filter(|now| self.is_up(now.master, now.incarnation)) else {
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
