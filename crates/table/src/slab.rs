//! Storage of equal records in chunks that never move, addressed by 32-bit index, with a list of free places.

use alloc::vec::Vec;
use core::ops::{Index, IndexMut};

/// No record.
pub(crate) const NIL: u32 = u32::MAX;

const CHUNK_BITS: u32 = 12;
const CHUNK: usize = 1 << CHUNK_BITS;

/// Records in chunks: growing copies nothing, so no call ever pays for all the records there are.
#[derive(Clone, Debug)]
pub(crate) struct Slab<T> {
    chunks: Vec<Vec<T>>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Slab<T> {
        Slab { chunks: Vec::new(), free: Vec::new() }
    }

    /// Places in use and free.
    pub(crate) fn places(&self) -> u32 {
        let Some(last) = self.chunks.last() else { return 0 };
        ((self.chunks.len() - 1) * CHUNK + last.len()) as u32
    }

    /// Places in use.
    pub(crate) fn used(&self) -> u32 {
        self.places() - self.free.len() as u32
    }

    /// A free place, its record as it was left, or a new one of `fresh`. The caller has made sure, by a limit, that
    /// fewer than 2^32 - 1 places are in use.
    pub(crate) fn take(&mut self, fresh: impl FnOnce() -> T) -> u32 {
        if let Some(index) = self.free.pop() {
            return index;
        }
        let index = self.places();
        match self.chunks.last_mut() {
            Some(last) if last.len() < CHUNK => last.push(fresh()),
            _ => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(fresh());
                self.chunks.push(chunk);
            }
        }
        index
    }

    /// Gives a place back. The caller has left nothing in it that needs dropping.
    pub(crate) fn give(&mut self, index: u32) {
        self.free.push(index);
    }

    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        self.chunks.get((index >> CHUNK_BITS) as usize)?.get(index as usize % CHUNK)
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;

    fn index(&self, index: u32) -> &T {
        &self.chunks[(index >> CHUNK_BITS) as usize][index as usize % CHUNK]
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, index: u32) -> &mut T {
        &mut self.chunks[(index >> CHUNK_BITS) as usize][index as usize % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_used_again_and_never_move() {
        let mut slab: Slab<u32> = Slab::new();
        let places: Vec<u32> = (0..10_000).map(|i| slab.take(|| i)).collect();
        assert_eq!(slab.used(), 10_000);
        slab.give(places[77]);
        assert_eq!(slab.used(), 9_999);
        assert_eq!(slab.take(|| 5), places[77]);
        assert_eq!((slab[9_999], slab.get(10_000)), (9_999, None));
    }
}
