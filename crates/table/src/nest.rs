//! Owners within owners: what the search for cycles knows of waiting outside the table.
//!
//! A wrapper runs a command, and the command is another wrapper: the outer one gives up nothing before the inner one has
//! ended, though no queue shows it. Kept is only who is within whom, which the node says; that it is an edge is derived
//! when a search comes by (`deadlock`). Apart from [`crate::owner`], since nearly no owner has any of it.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    vec::Vec,
};

use lockstead_types::{Time, limits::SESSIONS_WITHIN};

use crate::{Effect, OwnerId, Table, table::Call};

/// Who is within whom. No owner is within itself, however far out one goes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Nest {
    /// By the inner one.
    outer: BTreeMap<u32, u32>,
    /// The same, the other way: the outer one, then the inner one.
    inner: BTreeSet<(u32, u32)>,
}

impl Table {
    /// Says that `outer` gives up nothing before `inner` has ended ([DEAD-13]). Whether it counts: not where one of them is
    /// not there, `inner` stands within somebody already, `outer` stands within `inner`, or too many within each other.
    pub fn set_outer(&mut self, now: Time, inner: OwnerId, outer: OwnerId, fx: &mut Vec<Effect>) -> bool {
        let live = self.owners.find(inner).is_some() && self.owners.find(outer).is_some();
        if !live || !self.nest.add(inner.0, outer.0) {
            return false;
        }
        // What is within may wait already.
        let mut call = Call::new(now, fx);
        self.resolve_owner(&mut call, outer);
        true
    }
}

impl Nest {
    fn add(&mut self, inner: u32, outer: u32) -> bool {
        // A ring of owners within each other would be a cycle in which nobody waits, and no victim ends it. What lies
        // further out than the walk goes cannot be told from a ring.
        let deep = self.outwards(outer).count() >= SESSIONS_WITHIN;
        if deep || self.outer.contains_key(&inner) || self.outwards(outer).any(|o| o == inner) {
            return false;
        }
        self.outer.insert(inner, outer);
        self.inner.insert((outer, inner));
        true
    }

    /// Forgets an owner that ends: nothing is within it any more, and it is within nothing.
    pub(crate) fn remove(&mut self, owner: u32) {
        if let Some(outer) = self.outer.remove(&owner) {
            self.inner.remove(&(outer, owner));
        }
        let within: Vec<u32> = self.inner_of(owner).collect();
        for inner in within {
            self.inner.remove(&(owner, inner));
            self.outer.remove(&inner);
        }
    }

    /// The owner, the one it is within, and so on: never longer than that, whatever a peer makes up.
    pub(crate) fn outwards(&self, owner: u32) -> impl Iterator<Item = u32> {
        core::iter::successors(Some(owner), |o| self.outer.get(o).copied()).take(SESSIONS_WITHIN)
    }

    /// Those directly within an owner.
    pub(crate) fn inner_of(&self, owner: u32) -> impl Iterator<Item = u32> {
        self.inner.range((owner, 0)..=(owner, u32::MAX)).map(|(_, inner)| *inner)
    }

    /// Whether any is.
    pub(crate) fn has_inner(&self, owner: u32) -> bool {
        self.inner_of(owner).next().is_some()
    }

    /// For [`Table::check`]: both ways say the same, of owners that are there.
    pub(crate) fn check(&self, lives: impl Fn(u32) -> bool) -> Result<(), String> {
        if self.outer.len() != self.inner.len() || self.outer.iter().any(|(i, o)| !self.inner.contains(&(*o, *i))) {
            return Err("who is within whom differs by the way one looks".into());
        }
        match self.outer.iter().find(|(inner, outer)| !lives(**inner) || !lives(**outer)) {
            Some((inner, outer)) => Err(format!("owner {inner} is within {outer}, and one of them ended")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_within_itself_or_too_deep() {
        let mut nest = Nest::default();
        assert!(!nest.add(1, 1));
        assert!(nest.add(2, 1) && nest.add(3, 2));
        assert!(!nest.add(1, 3), "a ring");
        assert!(!nest.add(3, 1), "it is within somebody already");
        assert_eq!(nest.outwards(3).collect::<Vec<_>>(), [3, 2, 1]);
        nest.remove(2);
        assert!(!nest.has_inner(1) && !nest.has_inner(2));
        assert!(nest.add(1, 3), "no ring any more");
        let deep = (10..100).take_while(|n| nest.add(n + 1, *n)).count();
        assert_eq!(deep, SESSIONS_WITHIN - 1);
        assert_eq!(nest.check(|_| true), Ok(()));
    }
}
