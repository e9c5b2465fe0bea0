//! Storage of equal records in chunks that never move, addressed by 32-bit index, with a list of free places.

use alloc::{boxed::Box, vec::Vec};
use core::ops::{Index, IndexMut};

/// No record.
pub(crate) const NIL: u32 = u32::MAX;

/// Small enough that no call pays much for a new chunk, which is filled at once.
const CHUNK_BITS: u32 = 10;
const CHUNK: usize = 1 << CHUNK_BITS;

/// Records in chunks: growing copies nothing, so no call ever pays for all the records there are. A chunk's length is in
/// its type: records are looked up so often that a second check of bounds would show.
#[derive(Clone, Debug)]
pub(crate) struct Slab<T> {
    chunks: Vec<Box<[T; CHUNK]>>,
    /// Places that were ever in use.
    places: u32,
    free: Vec<u32>,
    /// How often a record may have been changed.
    #[cfg(feature = "edits")]
    edits: u64,
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Slab<T> {
        Slab {
            chunks: Vec::new(),
            places: 0,
            free: Vec::new(),
            #[cfg(feature = "edits")]
            edits: 0,
        }
    }

    /// Rises whenever a record may have been changed.
    #[cfg(feature = "edits")]
    pub(crate) fn edits(&self) -> u64 {
        self.edits
    }

    /// Places in use and free.
    pub(crate) fn places(&self) -> u32 {
        self.places
    }

    /// Places in use.
    pub(crate) fn used(&self) -> u32 {
        self.places - self.free.len() as u32
    }

    /// A free place, its record as it was left, or a new one of `fresh`. The caller has made sure, by a limit, that
    /// fewer than 2^32 - 1 places are in use.
    pub(crate) fn take(&mut self, fresh: impl FnMut() -> T) -> u32 {
        self.free.pop().unwrap_or_else(|| self.grow(fresh))
    }

    #[cold]
    fn grow(&mut self, mut fresh: impl FnMut() -> T) -> u32 {
        let index = self.places;
        if index as usize == self.chunks.len() * CHUNK {
            let chunk: Vec<T> = (0..CHUNK).map(|_| fresh()).collect();
            self.chunks.extend(chunk.try_into());
        }
        self.places += 1;
        index
    }

    /// Gives a place back. The caller has left nothing in it that needs dropping.
    pub(crate) fn give(&mut self, index: u32) {
        self.free.push(index);
    }

    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        Some(&self.chunks.get((index >> CHUNK_BITS) as usize)?[index as usize % CHUNK])
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
        #[cfg(feature = "edits")]
        {
            self.edits += 1;
        }
        &mut self.chunks[(index >> CHUNK_BITS) as usize][index as usize % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_used_again_and_never_move() {
        let mut slab: Slab<u32> = Slab::new();
        let places: Vec<u32> = (0..10_000).map(|_| slab.take(|| 0)).collect();
        assert!(places.iter().copied().eq(0..10_000));
        places.iter().for_each(|i| slab[*i] = *i);
        assert_eq!(slab.used(), 10_000);
        slab.give(places[77]);
        assert_eq!(slab.used(), 9_999);
        assert_eq!(slab.take(|| 5), places[77]);
        assert_eq!((slab[9_999], slab.get(20_000)), (9_999, None));
    }
}
