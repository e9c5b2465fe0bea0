//! What a session holds in hierarchies, by name: its home's book, in which ancestors and what is below them are found. To the
//! tables names that lie below one another have nothing to do with each other, and they may have different masters.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use core::ops::Bound;

use lockstead_types::{
    LockId, SpaceId,
    hierarchy::{is_below, parent_of},
};

/// The locks of a session in lockspaces that are hierarchies.
#[derive(Default)]
pub(crate) struct Tree {
    spaces: BTreeMap<SpaceId, BTreeMap<Box<[u8]>, Entry>>,
    /// Names for which a path of this session has asked: other paths that come by wait for the answer.
    busy: BTreeSet<(SpaceId, Box<[u8]>)>,
    /// Locks that have become part of one above, and are kept until the client knows.
    pub(crate) absorbed: Vec<Absorbed>,
}

/// A lock of a session.
#[derive(Copy, Clone)]
pub(crate) struct Entry {
    pub(crate) lock: LockId,
    /// How many locks are below.
    pub(crate) below: u32,
    /// Paths under way that go through it.
    pub(crate) pins: u32,
    /// How often something was locked that relies on it.
    pub(crate) relied_on: u32,
    /// Whether the client knows of it.
    pub(crate) told: bool,
    /// How many must be below before escalation is tried again.
    pub(crate) try_at: u32,
}

/// Locks that are gone for their client, once it has heard.
pub(crate) struct Absorbed {
    /// The lock above.
    pub(crate) above: LockId,
    /// It has heard when it has acknowledged so many answers; `None` before the one that tells it was given.
    pub(crate) after: Option<u64>,
    pub(crate) locks: Vec<LockId>,
}

impl Tree {
    pub(crate) fn is_empty(&self) -> bool {
        self.spaces.is_empty() && self.busy.is_empty() && self.absorbed.is_empty()
    }

    pub(crate) fn get(&self, space: SpaceId, name: &[u8]) -> Option<&Entry> {
        self.spaces.get(&space)?.get(name)
    }

    pub(crate) fn get_mut(&mut self, space: SpaceId, name: &[u8]) -> Option<&mut Entry> {
        self.spaces.get_mut(&space)?.get_mut(name)
    }

    /// Notes a lock that is held now. Where there is one of that name already it is the newer one that counts.
    pub(crate) fn add(&mut self, space: SpaceId, name: &[u8], lock: LockId, told: bool) {
        self.remove(space, name);
        let below = self.below(space, name).len() as u32;
        let entries = self.spaces.entry(space).or_default();
        entries.insert(name.into(), Entry { lock, below, pins: 0, relied_on: 0, told, try_at: 0 });
        let mut above = parent_of(name);
        while let Some(name) = above {
            if let Some(entry) = entries.get_mut(name) {
                entry.below = entry.below.saturating_add(1);
                entry.relied_on = entry.relied_on.wrapping_add(1);
            }
            above = parent_of(name);
        }
    }

    pub(crate) fn remove(&mut self, space: SpaceId, name: &[u8]) -> Option<Entry> {
        let entries = self.spaces.get_mut(&space)?;
        let gone = entries.remove(name)?;
        let mut above = parent_of(name);
        while let Some(name) = above {
            if let Some(entry) = entries.get_mut(name) {
                entry.below = entry.below.saturating_sub(1);
            }
            above = parent_of(name);
        }
        if entries.is_empty() {
            self.spaces.remove(&space);
        }
        Some(gone)
    }

    /// What a lock is on, whether it is still there or not.
    pub(crate) fn name_of(&self, lock: LockId) -> Option<(SpaceId, Box<[u8]>)> {
        let all =
            self.spaces.iter().flat_map(|(space, entries)| entries.iter().map(|(name, entry)| (*space, name, entry)));
        all.into_iter().find(|(.., entry)| entry.lock == lock).map(|(space, name, _)| (space, name.clone()))
    }

    /// All below a name, those further down after what they are below.
    pub(crate) fn below(&self, space: SpaceId, name: &[u8]) -> Vec<(Box<[u8]>, Entry)> {
        let Some(entries) = self.spaces.get(&space) else { return Vec::new() };
        let first = [name, b"/"].concat();
        let from = (Bound::Excluded(&*first), Bound::Unbounded);
        let found = entries.range::<[u8], _>(from).take_while(|(below, _)| is_below(below, name));
        found.map(|(below, entry)| (below.clone(), *entry)).collect()
    }

    pub(crate) fn begin(&mut self, space: SpaceId, name: &[u8]) {
        self.busy.insert((space, name.into()));
    }

    pub(crate) fn end(&mut self, space: SpaceId, name: &[u8]) {
        self.busy.remove(&(space, name.into()));
    }

    pub(crate) fn is_busy(&self, space: SpaceId, name: &[u8]) -> bool {
        !self.busy.is_empty() && self.busy.contains(&(space, name.into()))
    }

    /// Whether a path under way has to do with something below a name.
    pub(crate) fn is_busy_below(&self, space: SpaceId, name: &[u8]) -> bool {
        let asked = self.busy.iter().any(|(of, busy)| *of == space && is_below(busy, name));
        asked || self.below(space, name).iter().any(|(_, entry)| entry.pins > 0)
    }

    /// For those who prove the whole state.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        for (space, entries) in &self.spaces {
            for (name, entry) in entries {
                if entry.below as usize != self.below(*space, name).len() {
                    return Err("locks below a lock are miscounted");
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPACE: SpaceId = SpaceId(3);

    #[test]
    fn what_is_below_is_counted_whatever_comes_first() {
        let mut tree = Tree::default();
        let names: [&[u8]; 6] = [b"a/b/c", b"a", b"a/b", b"a/bc", b"b", b"a/b/d/e"];
        for (number, name) in (0..).zip(names) {
            tree.add(SPACE, name, LockId(number), true);
            assert_eq!(tree.check(), Ok(()));
        }
        let below = |tree: &Tree, name: &[u8]| tree.get(SPACE, name).map(|entry| entry.below);
        assert_eq!([below(&tree, b"a"), below(&tree, b"a/b"), below(&tree, b"b")], [Some(4), Some(2), Some(0)]);
        tree.remove(SPACE, b"a/b");
        assert_eq!((below(&tree, b"a"), tree.below(SPACE, b"a/b").len()), (Some(3), 2));
        for name in names {
            tree.remove(SPACE, name);
            assert_eq!(tree.check(), Ok(()));
        }
        assert!(tree.is_empty());
    }
}
