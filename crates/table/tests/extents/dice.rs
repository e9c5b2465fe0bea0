//! Random numbers, random parts, and the rows there are: what a part has in it is found by looking at each of them.

use core::ops::Bound;
use std::sync::Arc;

use lockstead_table::{Space, Table};
use lockstead_types::{
    Extent, Limits, SpaceId,
    extent::{Condition, Interval},
    space::{DeadlockPolicy, QueuePolicy, VictimPolicy},
    tables::built_in,
};

pub(crate) const HERE: SpaceId = SpaceId(1);

pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// SplitMix64.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    pub(crate) fn shuffle<T>(&mut self, all: &mut [T]) {
        for i in (1..all.len()).rev() {
            all.swap(i, self.below(i as u64 + 1) as usize);
        }
    }

    /// A part of the rows, and which of them are in it: a bit for each of sixteen keys with each of four colours.
    pub(crate) fn part(&mut self, predicates: bool) -> (Extent, u64) {
        let (mut conditions, mut rows) = (Vec::new(), u64::MAX);
        let mut narrow = |dice: &mut Dice, attribute: &[u8], values: u64, row_of: &dyn Fn(u64) -> u64| {
            let lo = dice.below(values);
            let hi = lo + 1 + dice.below((values - lo).min(6));
            let within = |row: u64| (lo..hi).contains(&row_of(row));
            rows &= (0..64).filter(|row| within(*row)).fold(0, |set, row| set | 1u64 << row);
            let (lo, hi) = ([b'a' + lo as u8], [b'a' + hi as u8]);
            let hi = if hi[0] == b'a' + values as u8 { Bound::Unbounded } else { Bound::Excluded(&hi[..]) };
            let values = Interval::new(Bound::Included(&lo), hi).expect("not empty");
            conditions.push(Condition { attribute: attribute.into(), values });
        };
        if !predicates || self.one_in(2) {
            narrow(self, b"", 16, &|row| row % 16);
        }
        if predicates && self.one_in(2) {
            narrow(self, b"colour", 4, &|row| row / 16);
        }
        if self.one_in(12) {
            return (Extent::default(), u64::MAX);
        }
        (Extent::of(conditions).expect("at most two"), rows)
    }
}

pub(crate) fn table(modes: &str, policy: QueuePolicy, deadlock: DeadlockPolicy, seed: u64) -> Table {
    let mut table = Table::new(Limits { orphans: 4, ..Limits::default() }, 2, seed);
    add_space(&mut table, modes, policy, deadlock);
    table
}

pub(crate) fn add_space(table: &mut Table, modes: &str, policy: QueuePolicy, deadlock: DeadlockPolicy) {
    let modes = Arc::new(built_in(modes).expect("built in"));
    let victim = VictimPolicy::Youngest;
    let space = Space { modes, policy, deadlock, victim, value_bytes: 0, levels: 0, extents: true, persistent: false };
    table.add_space(HERE, space);
}
