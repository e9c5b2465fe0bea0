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
        let awaited = self.slots.iter().filter(|slot| self.awaits(slot)).count();
        let mut targets: Shares = shares.iter().map(|(node, (_, weight))| (*node, (0, *weight))).collect();
        fill(&mut targets, SLOTS - awaited);
        let target = |node: &NodeId| targets.get(node).map_or(0, |(slots, _)| *slots);
        let mut spread = self.spread();
        shares.keys().for_each(|node| {
            spread.entry(*node).or_insert(0);
        });
        // One slot more or less is not worth a move: otherwise nodes that come and go would shift the odd ones about.
        let even = spread.iter().all(|(node, slots)| match self.members.get(node).map(|member| member.state) {
            Some(MemberState::Draining) => *slots == 0,
            Some(MemberState::Up) => slots.abs_diff(target(node)) <= 1,
            Some(MemberState::Down) | None => true,
        });
        if even {
            return Vec::new();
        }
        let mut takers: Vec<NodeId> = Vec::new();
        for node in shares.keys() {
            let lacks = target(node).saturating_sub(spread.get(node).copied().unwrap_or(0));
            takers.extend((0..lacks).map(|_| *node));
        }
        let mut over: BTreeMap<NodeId, u32> = spread
            .iter()
            .filter(|(node, _)| self.members.get(node).is_some_and(|member| member.state != MemberState::Down))
            .map(|(node, slots)| (*node, slots.saturating_sub(target(node))))
            .collect();
        let leaving = Slot::all().filter(|slot| {
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
        leaving.zip(takers).take(most).filter_map(|(slot, to)| self.planned(slot, to)).collect()
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
