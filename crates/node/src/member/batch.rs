//! What a transaction has at masters goes in one message to each: at the home, and at the master. What goes one by one is in `forward`.

use alloc::{collections::BTreeMap, vec::Vec};

use lockstead_types::{
    Flags, LockId, NodeId, RequestId, SessionId, Slot, Time,
    peer::{HomeGeneration, PeerMessage, SlotGeneration},
    request::ReleaseRequest,
};

use super::{
    forward::{For, What},
    master_up,
};
use crate::{effects::WaitEnd, node::Node};

/// So many locks go in one message: what is longer than a megabyte keeps others waiting.
const BATCH_MAX: usize = 65_536;

/// Locks for one master.
type Batch = Vec<(Slot, SlotGeneration, LockId)>;

impl Node {
    /// Releases copies of a session, in this order at each master.
    pub(crate) fn release_at_masters(&mut self, now: Time, at: u32, locks: &[LockId]) {
        let mut batches: BTreeMap<NodeId, Batch> = BTreeMap::new();
        for lock in locks {
            let Some(member) = &mut self.member else { return };
            let Some(copy) = member.copies.find(at, *lock) else { continue };
            match self.settled(copy) {
                Some((master, entry)) => {
                    batches.entry(master).or_default().push(entry);
                    // [CLUSTER-5] It cannot be refused, so it is done with when it is sent.
                    self.drop_copy(Some(copy));
                }
                // On its way to another master, or something is under way about it.
                None => self.release_copy(now, copy),
            }
        }
        for (master, locks) in batches {
            let Some((session, home)) = self.introduce(now, at, master) else { continue };
            for locks in locks.chunks(BATCH_MAX) {
                self.send_peer(now, master, PeerMessage::ReleaseMany { session, home, locks: locks.to_vec() });
            }
        }
    }

    /// Where a lock is, if its master can be told now and nothing else about it is on its way.
    fn settled(&self, copy: u32) -> Option<(NodeId, (Slot, SlotGeneration, LockId))> {
        let member = self.member.as_ref()?;
        let found = member.copies.get(copy)?;
        let (master, generation) = master_up(&member.state, found.slot)?;
        let idle = member.forwards.count_about(copy) == 0 && found.wait.is_none() && !found.releasing;
        let (place, lock) = found.place?;
        let here = place == master && !member.is_reporting(found.slot);
        (idle && here).then_some((master, (found.slot, generation, lock)))
    }

    /// A home releases what a transaction had here.
    pub(crate) fn on_release_many(
        &mut self,
        now: Time,
        (session, home): (SessionId, HomeGeneration),
        locks: &[(Slot, SlotGeneration, LockId)],
    ) {
        let Some(at) = self.guest_of(session, home) else { return };
        let Some(owner) = self.guest_owner(at) else { return };
        for (slot, generation, lock) in locks {
            // [CLUSTER-4] Of a slot that has gone on the new master was not told of the lock.
            if !self.masters(*slot, *generation) {
                continue;
            }
            let release = ReleaseRequest { lock: *lock, flags: Flags::FORCEUNLOCK, value: None };
            if self.table.release(now, owner, &release, &mut self.fx).is_ok()
                && let Some(member) = &mut self.member
            {
                member.guests.forget_tokens(at, *lock);
            }
        }
        self.tell_effects(now);
    }

    /// Stops what a request of a session waits for, if it waits at a master, and tells nobody but by its own answer.
    pub(crate) fn cancel_forward_quietly(&mut self, now: Time, at: u32, id: RequestId) {
        let Some(member) = &mut self.member else { return };
        let Some(forward) = member.forwards.map.get(&(at, id)) else { return };
        // Nobody but this node knows of it yet.
        if forward.sent.is_none() && forward.queued.is_none() && matches!(forward.what, What::Lock(_)) {
            return self.end_forward(now, (at, id), WaitEnd::Cancelled);
        }
        if !matches!(forward.what, What::Lock(_) | What::Convert { .. }) {
            return;
        }
        let slot = forward.slot;
        let silent = member.forwards.silent_id();
        self.begin(now, (at, silent), slot, For::Nobody, What::CancelRequest(id), None);
    }
}
