//! Whether two extents overlap, a million random pairs of ranges and a million of predicates, against looking at every key and every row
//! there is. And that each is read again from its name as it was.

use core::ops::Bound;

use lockstead_types::extent::{Condition, Extent, Interval, canonical, split};

const PAIRS: u32 = 1_000_000;

struct Dice(u64);

impl Dice {
    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// All keys of at most `len` bytes of so few that ends meet often, the least of all bytes among them.
fn keys(len: usize) -> Vec<Vec<u8>> {
    let (mut all, mut last) = (vec![Vec::new()], vec![Vec::new()]);
    for _ in 0..len {
        last = last.iter().flat_map(|key| [0, b'a', b'b'].map(|byte| [&key[..], &[byte]].concat())).collect();
        all.extend(last.iter().cloned());
    }
    all
}

/// Every interval whose ends are of these, with the keys that a bound at each end leaves: each stands for one bit.
fn intervals(ends: &[Vec<u8>], universe: &[Vec<u8>]) -> Vec<(Interval, u128)> {
    let bounds = |key: &Vec<u8>| [Bound::Included(key.clone()), Bound::Excluded(key.clone())];
    let bounds: Vec<Bound<Vec<u8>>> = ends.iter().flat_map(bounds).chain([Bound::Unbounded]).collect();
    let mut all = Vec::new();
    for (lo, hi) in bounds.iter().flat_map(|lo| bounds.iter().map(move |hi| (lo, hi))) {
        let (lo, hi) = (lo.as_ref().map(Vec::as_slice), hi.as_ref().map(Vec::as_slice));
        let within = |key: &[u8]| {
            let above = match lo {
                Bound::Unbounded => true,
                Bound::Included(lo) => key >= lo,
                Bound::Excluded(lo) => key > lo,
            };
            above
                && match hi {
                    Bound::Unbounded => true,
                    Bound::Included(hi) => key <= hi,
                    Bound::Excluded(hi) => key < hi,
                }
        };
        let set = universe.iter().enumerate().filter(|(_, key)| within(key)).fold(0, |set, (at, _)| set | 1u128 << at);
        match Interval::new(lo, hi) {
            Some(interval) => all.push((interval, set)),
            None => assert_eq!(set, 0, "{lo:?} {hi:?} has keys in it"),
        }
    }
    all
}

fn written_and_read(extent: &Extent) {
    let name = extent.name_in(b"table");
    assert_eq!(split(&name).as_ref(), Ok(&(&b"table"[..], extent.clone())), "{}", extent.text());
    assert_eq!(canonical(&name).as_ref(), Ok(&name));
}

#[test]
fn ranges_overlap_where_they_have_a_key_in_common() {
    // [RANGE-2] Every end is a key of the universe, and so is the least key above it: what two ranges have in common is there.
    let ranges: Vec<(Extent, u128)> =
        intervals(&keys(2), &keys(3)).into_iter().map(|(interval, set)| (Extent::range(interval), set)).collect();
    ranges.iter().for_each(|(range, _)| written_and_read(range));
    let (mut dice, mut apart) = (Dice(1), 0);
    for _ in 0..PAIRS {
        let (a, in_a) = &ranges[dice.below(ranges.len())];
        let (b, in_b) = &ranges[dice.below(ranges.len())];
        assert_eq!(a.overlaps(b), in_a & in_b != 0, "{} {}", a.text(), b.text());
        apart += u32::from(in_a & in_b == 0);
    }
    assert!((PAIRS / 10..PAIRS * 9 / 10).contains(&apart), "{apart} of {PAIRS} do not overlap");
    println!("{PAIRS} pairs of {} ranges, {apart} of them apart", ranges.len());
}

#[test]
fn predicates_overlap_where_a_row_meets_both() {
    // [PRED-1] Rows of three attributes and a key, each any of thirteen values.
    let universe = keys(2);
    let (intervals, everything) = (intervals(&keys(1), &universe), (1u128 << universe.len()) - 1);
    let predicate = |dice: &mut Dice| {
        let mut sets = [everything; 4];
        let mut conditions = Vec::new();
        for (at, attribute) in [&b""[..], b"a", b"b", b"c"].into_iter().enumerate() {
            if dice.below(2) == 0 {
                let (values, set) = intervals[dice.below(intervals.len())].clone();
                sets[at] = set;
                conditions.push(Condition { attribute: attribute.into(), values });
            }
        }
        conditions.reverse();
        (Extent::of(conditions).expect("at most four"), sets)
    };
    let (mut dice, mut apart) = (Dice(2), 0);
    let predicates: Vec<(Extent, [u128; 4])> = (0..20_000).map(|_| predicate(&mut dice)).collect();
    predicates.iter().for_each(|(predicate, _)| written_and_read(predicate));
    for _ in 0..PAIRS {
        let (a, in_a) = &predicates[dice.below(predicates.len())];
        let (b, in_b) = &predicates[dice.below(predicates.len())];
        // A row is in both where each of its values is.
        let row = in_a.iter().zip(in_b).all(|(a, b)| a & b != 0);
        assert_eq!(a.overlaps(b), row, "{} {}", a.text(), b.text());
        apart += u32::from(!row);
    }
    assert!((PAIRS / 10..PAIRS * 9 / 10).contains(&apart), "{apart} of {PAIRS} do not overlap");
    println!("{PAIRS} pairs of predicates, {apart} of them apart");
}

#[test]
fn numbers_are_in_the_order_of_numbers() {
    let bytes = |lo, hi| Extent::range(Interval::numbers(lo, hi).expect("not empty"));
    assert!(!bytes(0, Some(9)).overlaps(&bytes(9, Some(10))));
    assert!(bytes(0, Some(10)).overlaps(&bytes(9, None)));
    assert!(bytes(255, Some(257)).overlaps(&bytes(256, Some(300))));
    assert_eq!(bytes(4_096, Some(8_192)).text(), "[#4096,#8192)");
    assert_eq!(bytes(5, Some(6)).text(), "[#5,#6)");
    written_and_read(&bytes(u64::MAX - 1, Some(u64::MAX)));
    assert_eq!(Interval::numbers(7, Some(7)), None);
}
