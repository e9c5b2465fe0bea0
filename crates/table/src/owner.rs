//! Owners and the list of each one's locks. Locks that wait stand before those held, so that a deadlock search finds
//! them without walking what an owner holds.

use alloc::vec::Vec;

use lockstead_types::SessionId;

use crate::{
    OwnerId,
    lock::Lock,
    prevent::Txn,
    slab::{NIL, Slab},
};

/// The owner of orphans: never handed out, so that no request can speak for it.
pub(crate) const ORPHANS: u32 = 0;

/// An owner.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    pub(crate) live: bool,
    pub(crate) label: Option<SessionId>,
    pub(crate) txn: Txn,
    pub(crate) first: u32,
    pub(crate) locks: u32,
    pub(crate) pending: u32,
}

/// All owners.
#[derive(Clone, Debug)]
pub(crate) struct Owners {
    all: Vec<Owner>,
    free: Vec<u32>,
}

impl Owners {
    pub(crate) fn new() -> Owners {
        let orphans = Owner { live: true, label: None, txn: Txn::Outside, first: NIL, locks: 0, pending: 0 };
        Owners { all: alloc::vec![orphans], free: Vec::new() }
    }

    pub(crate) fn add(&mut self) -> u32 {
        let owner = Owner { live: true, label: None, txn: Txn::Outside, first: NIL, locks: 0, pending: 0 };
        if let Some(index) = self.free.pop() {
            self.all[index as usize] = owner;
            return index;
        }
        self.all.push(owner);
        (self.all.len() - 1) as u32
    }

    pub(crate) fn remove(&mut self, index: u32) {
        self.all[index as usize].live = false;
        self.free.push(index);
    }

    /// How many there are, not counting the owner of orphans.
    pub(crate) fn count(&self) -> u64 {
        (self.all.len() - self.free.len() - 1) as u64
    }

    /// The owner a caller speaks of, unless it ended or never was.
    pub(crate) fn find(&self, id: OwnerId) -> Option<&Owner> {
        self.all.get(id.0 as usize).filter(|o| o.live && id.0 != ORPHANS)
    }

    pub(crate) fn find_mut(&mut self, id: OwnerId) -> Option<&mut Owner> {
        self.all.get_mut(id.0 as usize).filter(|o| o.live && id.0 != ORPHANS)
    }

    pub(crate) fn get(&self, index: u32) -> &Owner {
        &self.all[index as usize]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Owner)> {
        self.all.iter().enumerate().map(|(i, o)| (i as u32, o)).filter(|(_, o)| o.live)
    }

    /// Puts a lock into its owner's list: at the front if it waits for something, else at the back.
    pub(crate) fn link(&mut self, locks: &mut Slab<Lock>, index: u32) {
        let (owner, pending) = (locks[index].owner, locks[index].is_pending());
        let owner = &mut self.all[owner as usize];
        owner.locks += 1;
        owner.pending += u32::from(pending);
        let first = owner.first;
        if first == NIL {
            locks[index].owner_next = index;
            locks[index].owner_prev = index;
            owner.first = index;
            return;
        }
        let last = locks[first].owner_prev;
        locks[index].owner_next = first;
        locks[index].owner_prev = last;
        locks[last].owner_next = index;
        locks[first].owner_prev = index;
        if pending {
            owner.first = index;
        }
    }

    /// Takes a lock out of its owner's list. `pending` says whether it stood among those that wait.
    pub(crate) fn unlink(&mut self, locks: &mut Slab<Lock>, index: u32, pending: bool) {
        let Lock { owner, owner_next: next, owner_prev: prev, .. } = locks[index];
        let owner = &mut self.all[owner as usize];
        owner.locks -= 1;
        owner.pending -= u32::from(pending);
        if next == index {
            owner.first = NIL;
        } else {
            locks[next].owner_prev = prev;
            locks[prev].owner_next = next;
            if owner.first == index {
                owner.first = next;
            }
        }
    }
}
