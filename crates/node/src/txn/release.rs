//! How what a transaction has is released: all of it at once, in one message for each master.

use alloc::vec::Vec;

use lockstead_types::{
    Flags, LockId, RequestId, Time,
    reply::Reply,
    request::ReleaseRequest,
    transaction::{Part, Savepoint},
};

use super::Rollback;
use crate::{effects::WaitEnd, ledger::Pend, node::Node};

impl Node {
    /// The transaction is over: what it has is released.
    pub(super) fn end_txn(&mut self, now: Time, at: u32) {
        let Some(txn) = self.sessions.get_mut(at).and_then(|s| s.extra_mut()).and_then(|e| e.txn.take()) else {
            return;
        };
        let locks = self.leaf_to_root(at, txn.in_order(|_| true));
        self.release_absorbed(now, at);
        self.release_all(now, at, &locks);
        self.forget_age(now, at, txn.told);
    }

    pub(crate) fn has_rollbacks_to_finish(&self) -> bool {
        !self.txns.unfinished.is_empty()
    }

    /// Rollbacks that nothing holds up any more.
    pub(crate) fn finish_rollbacks(&mut self, now: Time) {
        while let Some(at) = self.txns.unfinished.pop() {
            let Some(txn) = self.txn_mut(at).filter(|txn| txn.pending.is_empty()) else { continue };
            let Some(Rollback { id, to }) = txn.rollback.take() else { continue };
            match to {
                None => {
                    self.counters.transactions_rolled_back += 1;
                    self.end_txn(now, at);
                }
                Some(Savepoint(to)) => {
                    // [TXN-7] Conversions of what it had before stay.
                    let since = |part: &Part| part.number >= to;
                    let locks = txn.in_order(since);
                    txn.locks.retain(|_, part| !since(part));
                    let locks = self.leaf_to_root(at, locks);
                    self.release_all(now, at, &locks);
                    self.release_absorbed_in(now, at, &locks);
                }
            }
            self.answer(at, id, Reply::Done);
            self.tell_effects(now);
        }
    }

    /// Stops whatever a transaction waits for. Each request is answered for itself, now or later.
    pub(super) fn cancel_pending(&mut self, now: Time, at: u32) {
        let pending: Vec<RequestId> = self.txn(at).map(|txn| txn.pending.keys().copied().collect()).unwrap_or_default();
        for id in pending {
            let pend = self.sessions.get(at).and_then(|s| s.ledger.waiting(id)).map(|w| w.pend);
            match pend {
                Some(Pend::Many(many)) if self.is_parked(many) => self.fail_many(now, many, WaitEnd::Cancelled),
                // What a member waits for, of several names at once too, waits at a master.
                Some(Pend::Forward | Pend::Many(_)) if self.is_member() => self.cancel_forward_quietly(now, at, id),
                Some(Pend::Forward | Pend::Lock(_) | Pend::Many(_) | Pend::Group { .. }) => {
                    let _has_ended = self.cancel_request(now, at, id);
                }
                None => {}
            }
        }
    }

    /// Releases locks of a session, in this order.
    pub(crate) fn release_all(&mut self, now: Time, at: u32, locks: &[LockId]) {
        #[cfg(feature = "planted")]
        let locks = match locks {
            [rest @ .., _] if lockstead_types::planted::is(lockstead_types::planted::Bug::LockLeft) => rest,
            all => all,
        };
        self.counters.releases += locks.len() as u64;
        if self.is_member() {
            return self.release_at_masters(now, at, locks);
        }
        let Some(owner) = self.sessions.get(at).map(|s| s.owner) else { return };
        for lock in locks {
            self.forget_in_tree(at, *lock);
            let release = ReleaseRequest { lock: *lock, flags: Flags::FORCEUNLOCK, value: None };
            let _gone_already = self.table.release(now, owner, &release, &mut self.fx);
        }
    }
}
