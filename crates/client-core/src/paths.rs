//! Paths of a hierarchy: the locks that come with one, and those that have become part of a lock above them. Their home keeps the
//! book of what lies below what; here stands what another home must be told.

use alloc::vec::Vec;

use lockstead_types::{
    LockId,
    hierarchy::{is_below, path_ends},
    reply::{Grant, PathGrant},
    request::OwnerRef,
};

use crate::{
    locks::{Held, Lock, sealed_by},
    op::NewLock,
    session::Session,
};

impl Session {
    /// A path is locked: the locks on it are known, new or as they are now.
    pub(crate) fn on_path_granted(&mut self, asked: &NewLock, path: PathGrant) -> PathGrant {
        let ends = path_ends(&asked.name, usize::MAX).unwrap_or_default();
        let PathGrant { grants, escalated } = path;
        let named = grants.into_iter().zip(ends);
        let grants: Vec<Grant> = named
            .map(|(grant, end)| self.on_level_granted(asked, asked.name.get(..end).unwrap_or(&asked.name), grant))
            .collect();
        if let (true, Some(last)) = (escalated, grants.last()) {
            self.take_in_below(last.lock);
        }
        PathGrant { grants, escalated }
    }

    fn on_level_granted(&mut self, asked: &NewLock, name: &[u8], grant: Grant) -> Grant {
        let wire = grant.lock;
        let known = self.locks.by_wire(wire);
        if let Some(lock) = known
            && let Some(Lock::Held(held)) = self.locks.get_mut(lock)
        {
            held.claim = grant.claim;
            held.weakened = false;
            held.take_grant(&grant);
            // [HIER-3] As at its home: what was a statement's is needed until the end.
            if let Some(part) = held.part.as_mut().filter(|_| asked.owner == OwnerRef::Transaction) {
                part.statement = false;
            }
            return Grant { lock, ..grant };
        }
        let part = self.part_of(asked);
        let held = Held {
            space: asked.space,
            name: name.into(),
            claim: grant.claim,
            token: grant.token,
            sealed: sealed_by(&grant),
            tag: asked.tag,
            owner: asked.owner,
            part,
            flags: Held::kept_flags(asked.flags),
            uses: 1,
            uncounted: 0,
            leaving: 0,
            claimed_in: None,
            weakened: false,
        };
        let lock = self.locks.add(wire, Lock::Held(held));
        Grant { lock, ..grant }
    }

    /// [ESC-1] All that is held below a lock has become part of it.
    fn take_in_below(&mut self, above: LockId) {
        let Some(Lock::Held(held)) = self.locks.get(above) else { return };
        let (space, name) = (held.space, held.name.clone());
        let mut lasting = false;
        let below = |lock: &Lock| lock.held().is_some_and(|held| held.space == space && is_below(&held.name, &name));
        let gone: Vec<LockId> = self.locks.ids_where(below).collect();
        for lock in gone {
            lasting |= self.part_of_lock(lock).is_some_and(|part| !part.statement);
            match self.locks.get(lock) {
                // Its release is answered as that of a lock that is gone.
                Some(Lock::Releasing(_)) | None => {}
                Some(_) => self.locks.take_in(lock),
            }
        }
        // [ESC-2]
        if let (true, Some(Lock::Held(held))) = (lasting, self.locks.get_mut(above))
            && let Some(part) = &mut held.part
        {
            part.statement = false;
        }
    }

    /// With the transaction go the names of what has become part of its locks.
    pub(crate) fn forget_taken_in(&mut self, over: bool) {
        if !over {
            return;
        }
        let gone: Vec<LockId> = self.locks.ids_where(|lock| matches!(lock, Lock::TakenIn)).collect();
        for lock in gone {
            self.locks.remove(lock);
        }
    }
}
