//! The transaction of the session: what of it another home must be told, and which locks go with it.
//!
//! The node decides; here stands the same count of grants as there, since both see them in one order.

use alloc::vec::Vec;

use lockstead_types::{
    Age, LockId, Refusal, RequestId,
    reply::{Notice, Reply, Revoked},
    request::{Op, OwnerRef},
    transaction::{Part, Resume, Savepoint, TransactionStage},
};

use crate::{
    locks::{Held, Lock},
    op::{End, NewLock, Owned, Rare},
    requests::For,
    session::{Event, Session},
};

/// The transaction as far as the node has said.
pub(crate) struct Txn {
    age: Age,
    granted: u64,
    stage: TransactionStage,
}

impl Txn {
    pub(crate) fn resume(&self) -> Resume {
        Resume { age: self.age, granted: self.granted, stage: self.stage }
    }
}

impl End {
    /// Which locks it releases.
    fn releases(self, part: Part) -> bool {
        match self {
            End::Commit | End::Rollback { to: None } => true,
            End::Rollback { to: Some(Savepoint(to)) } => part.number >= to,
            End::Statement => part.statement,
        }
    }

    fn is_of_all(self) -> bool {
        matches!(self, End::Commit | End::Rollback { to: None })
    }
}

impl Session {
    /// Asks for the end of the transaction, or of a part of it.
    pub(crate) fn request_end(&mut self, end: End, key: u64) -> RequestId {
        if matches!(end, End::Rollback { .. }) {
            self.recall_in_txn();
        }
        // [TXN-10] Whatever becomes of it, they are claimed no more.
        let locks = self.locks_of_txn(end);
        for lock in &locks {
            if let Some(lock) = self.locks.get_mut(*lock)
                && let Lock::Held(held) = core::mem::replace(lock, Lock::Waiting)
            {
                *lock = Lock::Releasing(held);
            }
        }
        self.requests.push(For::App { key }, Owned::Rare(Rare::End { end, locks }.into()))
    }

    /// What was not even sent would come to be part of the next transaction.
    fn recall_in_txn(&mut self) {
        for id in self.requests.unsent_where(is_in_txn) {
            if let Some(request) = self.requests.recall(id) {
                self.settle(request, Reply::Refused(Refusal::Aborted));
            }
        }
    }

    fn locks_of_txn(&self, end: End) -> Vec<LockId> {
        let wanted = |lock: &Lock| matches!(lock, Lock::Held(held) if held.part.is_some_and(|part| end.releases(part)));
        self.locks.ids_where(wanted).collect()
    }

    pub(crate) fn on_begun(&mut self, age: Age) {
        self.txn = Some(Txn { age, granted: 0, stage: TransactionStage::Growing });
    }

    pub(crate) fn on_resumed(&mut self, reply: &Reply) {
        // It goes on without what could not be taken along, which it must not.
        if !matches!(reply, Reply::Begun(_)) {
            self.on_aborted();
        }
    }

    pub(crate) fn on_aborted(&mut self) {
        if let Some(txn) = &mut self.txn {
            txn.stage = TransactionStage::Aborted;
        }
        self.events.push_back(Event::Notice(Notice::Aborted));
    }

    pub(crate) fn on_end_answered(&mut self, end: End, locks: Vec<LockId>, reply: &Reply) {
        if *reply != Reply::Done {
            self.keep_after_all(locks);
            return;
        }
        self.forget_taken_in(end.is_of_all());
        let gone = |lock: &Lock| lock.held().and_then(|held| held.part).is_some_and(|part| end.releases(part));
        let gone: Vec<LockId> = self.locks.ids_where(gone).collect();
        for lock in gone {
            self.locks.remove(lock);
        }
        if end.is_of_all() {
            self.txn = None;
        }
    }

    /// The end was refused: the transaction goes on, with all it had.
    fn keep_after_all(&mut self, locks: Vec<LockId>) {
        for id in locks {
            let known = self.locks.wire_of(id).is_some();
            if let Some(lock) = self.locks.get_mut(id)
                && let Lock::Releasing(held) = core::mem::replace(lock, Lock::Waiting)
            {
                *lock = Lock::Held(held);
                // [TXN-10] Its home died with the end that was asked first, and the next one was not claimed from: others may have it.
                if !known {
                    self.lose_lock(id, Revoked::Superseded);
                    self.on_aborted();
                }
            }
        }
    }

    /// Which lock of the transaction one is that was just granted.
    pub(crate) fn part_of(&mut self, asked: &NewLock) -> Option<Part> {
        let txn = self.txn.as_mut().filter(|_| asked.owner.is_in_transaction())?;
        let part = Part { number: txn.granted, statement: asked.owner == OwnerRef::Statement };
        txn.granted += 1;
        Some(part)
    }

    /// A lock of the transaction is released, or held in less than before: where the lockspace asks for two phases the second begins.
    pub(crate) fn note_release(&mut self, held: Option<Part>) {
        if let (Some(txn), Some(Part { statement: false, .. })) = (&mut self.txn, held) {
            txn.stage = txn.stage.shrinking();
        }
    }

    pub(crate) fn part_of_lock(&self, lock: LockId) -> Option<Part> {
        self.locks.get(lock).and_then(Lock::held).and_then(|held| held.part)
    }

    /// Another home is told of the transaction before locks are claimed there.
    pub(crate) fn push_resume(&mut self) -> u32 {
        let Some(resume) = self.txn.as_ref().map(Txn::resume) else { return 0 };
        let id = self.requests.push(For::Resume, Owned::Rare(Rare::Resume(resume).into()));
        self.events.push_back(Event::Regroup(id));
        1
    }

    /// Whether a transaction is open, as far as the node has said.
    #[must_use]
    pub fn transaction(&self) -> Option<Age> {
        self.txn.as_ref().map(|txn| txn.age)
    }
}

/// The end an operation asks for.
pub(crate) fn end_of(op: &Op<'_>) -> Option<End> {
    match op {
        Op::Commit => Some(End::Commit),
        Op::Rollback { to } => Some(End::Rollback { to: *to }),
        Op::EndStatement => Some(End::Statement),
        _ => None,
    }
}

/// Whether a request that is not sent yet belongs to the transaction.
fn is_in_txn(op: &Owned) -> bool {
    match op {
        Owned::Lock(lock) | Owned::Path(lock) => lock.owner.is_in_transaction(),
        Owned::Many(locks) => locks.iter().any(|lock| lock.owner.is_in_transaction()),
        _ => false,
    }
}

impl Held {
    /// Whether a grant of a conversion took something away, by its token.
    pub(crate) fn is_weakened_by(&self, grant: &lockstead_types::reply::Grant) -> bool {
        // [TOKEN-3] A conversion down keeps its token, one up has a new one.
        self.token == grant.token && self.claim != grant.claim
    }
}
