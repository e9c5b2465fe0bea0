//! Slots: the unit of mastership. Every resource belongs to one of 4,096, by its lockspace and name.
//!
//! Which slot a name belongs to is a contract between all nodes of a cluster, whatever their version: the test vectors
//! below must never change.

use crate::ids::SpaceId;

/// How many slots there are.
pub const SLOTS: usize = 4_096;

/// A slot: below [`SLOTS`].
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Slot(pub u16);

impl Slot {
    /// The slot of a name. `seed` is the cluster's own, chosen when it was formed, so that nobody outside can choose names that
    /// all fall into one slot.
    #[must_use]
    pub fn of(seed: u64, space: SpaceId, name: &[u8]) -> Slot {
        let mut hash = mix(seed ^ (u64::from(space.0) << 32) ^ name.len() as u64);
        let mut chunks = name.chunks_exact(8);
        for chunk in &mut chunks {
            if let Ok(word) = <[u8; 8]>::try_from(chunk) {
                hash = mix(hash ^ u64::from_le_bytes(word));
            }
        }
        let rest = chunks.remainder().iter().rev().fold(0_u64, |word, byte| (word << 8) | u64::from(*byte));
        hash = mix(hash ^ rest).wrapping_add(seed.rotate_left(32));
        Slot((mix(hash) >> 52) as u16)
    }

    /// All slots.
    pub fn all() -> impl Iterator<Item = Slot> {
        (0..SLOTS as u16).map(Slot)
    }
}

/// A bijection of 64 bits without fixed structure (the finisher of `SplitMix64`).
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A set of slots.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SlotSet {
    bits: [u64; SLOTS / 64],
}

impl SlotSet {
    /// No slot.
    pub const EMPTY: SlotSet = SlotSet { bits: [0; SLOTS / 64] };

    /// Every slot.
    pub const FULL: SlotSet = SlotSet { bits: [u64::MAX; SLOTS / 64] };

    /// Adds a slot.
    pub fn insert(&mut self, slot: Slot) {
        if let Some(word) = self.bits.get_mut(usize::from(slot.0) / 64) {
            *word |= 1 << (slot.0 % 64);
        }
    }

    /// Takes a slot out.
    pub fn remove(&mut self, slot: Slot) {
        if let Some(word) = self.bits.get_mut(usize::from(slot.0) / 64) {
            *word &= !(1 << (slot.0 % 64));
        }
    }

    /// Whether it has a slot.
    #[must_use]
    pub fn has(&self, slot: Slot) -> bool {
        self.bits.get(usize::from(slot.0) / 64).is_some_and(|word| word & (1 << (slot.0 % 64)) != 0)
    }

    /// Adds all slots of another.
    pub fn insert_all(&mut self, other: &SlotSet) {
        self.bits.iter_mut().zip(other.bits).for_each(|(mine, theirs)| *mine |= theirs);
    }

    /// Takes all slots of another out.
    pub fn remove_all(&mut self, other: &SlotSet) {
        self.bits.iter_mut().zip(other.bits).for_each(|(mine, theirs)| *mine &= !theirs);
    }

    /// Takes all slots out that are not in another.
    pub fn keep_only(&mut self, other: &SlotSet) {
        self.bits.iter_mut().zip(other.bits).for_each(|(mine, theirs)| *mine &= theirs);
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bits.iter().all(|word| *word == 0)
    }

    /// How many it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bits.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Its slots, in order.
    pub fn iter(&self) -> impl Iterator<Item = Slot> + '_ {
        (0_u16..).step_by(64).zip(self.bits).flat_map(|(first, mut word)| {
            core::iter::from_fn(move || {
                let bit = word.trailing_zeros() as u16;
                word &= word.checked_sub(1)?;
                Some(Slot(first + bit))
            })
        })
    }
}

impl Default for SlotSet {
    fn default() -> SlotSet {
        SlotSet::EMPTY
    }
}

impl FromIterator<Slot> for SlotSet {
    fn from_iter<I: IntoIterator<Item = Slot>>(slots: I) -> SlotSet {
        let mut set = SlotSet::EMPTY;
        slots.into_iter().for_each(|slot| set.insert(slot));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{format, vec::Vec};

    #[test]
    fn slots_of_names_never_change() {
        let of = |seed, space, name: &[u8]| Slot::of(seed, SpaceId(space), name).0;
        let seen = [of(0, 0, b"a"), of(0, 0, b"orders/7"), of(1, 0, b"a"), of(0, 1, b"a"), of(7, 3, &[0; 64])];
        assert_eq!(seen, VECTORS);
    }

    const VECTORS: [u16; 5] = [3173, 1646, 994, 2809, 1717];

    #[test]
    fn a_zero_at_the_end_is_another_name() {
        assert_ne!(Slot::of(5, SpaceId(0), b"x"), Slot::of(5, SpaceId(0), b"x\0"));
    }

    #[test]
    fn names_spread_evenly() {
        let mut counts = [0_u32; SLOTS];
        for n in 0..409_600 {
            counts[usize::from(Slot::of(99, SpaceId(0), format!("resource-{n}").as_bytes()).0)] += 1;
        }
        // 100 a slot expected, deviation 10.
        assert!(counts.iter().all(|c| (40..=170).contains(c)), "{:?}", counts.iter().max());
    }

    #[test]
    fn a_set_is_a_set() {
        let mut set: SlotSet = [Slot(0), Slot(63), Slot(64), Slot(4_095)].into_iter().collect();
        assert_eq!((set.len(), set.is_empty()), (4, false));
        assert!(set.has(Slot(63)) && !set.has(Slot(1)));
        set.remove(Slot(63));
        assert_eq!(set.iter().collect::<Vec<_>>(), [Slot(0), Slot(64), Slot(4_095)]);
        let all = SlotSet::FULL;
        let (mut some, one) = (all.clone(), SlotSet::from_iter([Slot(64)]));
        some.keep_only(&set);
        assert_eq!(some, set);
        some.keep_only(&one);
        assert_eq!(some, one);
        set.remove_all(&all);
        assert!(set.is_empty());
        assert_eq!(all.len(), SLOTS);
    }
}
