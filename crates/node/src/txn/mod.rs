//! Transactions: one at a time of a session, whose locks are released together.
//!
//! To the tables a transaction is its session: one owner, one thread of control. What is kept here, at the session's home, is which of the
//! session's locks belong to it, in which order they came, and what is under way for it. What a lockspace demands of it is in
//! `discipline.rs`, how all is released in `release.rs`, what masters know of its age in `ages.rs`.

mod ages;
mod discipline;
mod release;

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use lockstead_types::{
    Age, LockId, NodeId, RequestId, Time,
    refusal::Refusal,
    reply::{Notice, Reply},
    request::{LockRequest, Op, OwnerRef},
    transaction::{Part, Resume, Savepoint, TransactionStage},
};

use crate::node::Node;

/// The transaction of a session.
pub(crate) struct Txn {
    age: Age,
    /// Begun with the age of an earlier try, or come from another home, where it may have been.
    again: bool,
    stage: TransactionStage,
    /// How many locks it has been granted.
    granted: u64,
    /// Its locks. One that the session has released may still be among them.
    locks: BTreeMap<LockId, Part>,
    /// Requests without their last answer.
    pending: BTreeMap<RequestId, Asked>,
    /// How far it is in three steps: the highest of what it has asked for.
    step: discipline::Step,
    /// The rollback that waits for the last of `pending`.
    rollback: Option<Rollback>,
    /// Masters that know its age.
    told: BTreeSet<NodeId>,
}

/// What a request of a transaction asks.
enum Asked {
    /// New locks, in the order of the answer; whether each is the statement's.
    Locks(Vec<bool>),
    Conversion,
    /// A release, and what the lock was.
    Release(LockId, Part),
    /// A lock that is claimed at a new home.
    Claim(Part),
}

struct Rollback {
    id: RequestId,
    /// From which lock on; `None` for all, and then the transaction is over.
    to: Option<Savepoint>,
}

/// All transactions of which something is to be done at the end of a step.
#[derive(Default)]
pub(crate) struct Txns {
    /// Sessions whose rollback may go on.
    unfinished: Vec<u32>,
    /// How many have begun here.
    begun: u32,
}

impl Txn {
    fn new(age: Age, again: bool) -> Txn {
        Txn {
            age,
            again,
            stage: TransactionStage::Growing,
            granted: 0,
            locks: BTreeMap::new(),
            pending: BTreeMap::new(),
            step: discipline::Step::default(),
            rollback: None,
            told: BTreeSet::new(),
        }
    }

    pub(crate) fn part(&self, lock: LockId) -> Option<Part> {
        self.locks.get(&lock).copied()
    }

    /// A lock of a statement is needed until the end.
    pub(crate) fn keep_to_the_end(&mut self, lock: LockId) {
        if let Some(part) = self.locks.get_mut(&lock) {
            part.statement = false;
        }
    }

    /// A lock has become part of another one.
    pub(crate) fn forget_lock(&mut self, lock: LockId) {
        self.locks.remove(&lock);
    }

    pub(crate) fn add_lock(&mut self, lock: LockId, statement: bool) {
        // A lock that is claimed comes with the number it had.
        self.locks.insert(lock, Part { number: self.granted, statement });
        self.granted = self.granted.saturating_add(1);
    }

    /// Takes note of the last answer to one of its requests. [TXN-7] What ends because the transaction does says so.
    fn on_answer(&mut self, id: RequestId, reply: Reply) -> Reply {
        if matches!(reply, Reply::Queued(_)) {
            return reply;
        }
        let Some(asked) = self.pending.remove(&id) else { return reply };
        match (&asked, &reply) {
            (Asked::Locks(parts), Reply::Granted(grant)) => {
                self.add_lock(grant.lock, parts.first().copied().unwrap_or_default());
            }
            (Asked::Locks(parts), Reply::GrantedMany(grants)) => {
                for (grant, statement) in grants.iter().zip(parts) {
                    self.add_lock(grant.lock, *statement);
                }
            }
            (Asked::Release(lock, part), Reply::Refused(_)) => {
                self.locks.insert(*lock, *part);
            }
            _ => {}
        }
        let over = self.stage == TransactionStage::Aborted || self.rollback.is_some();
        match reply {
            Reply::Cancelled if over => Reply::Refused(Refusal::Aborted),
            Reply::Demoted { held, why: None } if over => Reply::Demoted { held, why: Some(Refusal::Aborted) },
            reply => reply,
        }
    }
}

impl Node {
    pub(crate) fn txn(&self, at: u32) -> Option<&Txn> {
        self.sessions.get(at)?.extra()?.txn.as_deref()
    }

    pub(crate) fn txn_mut(&mut self, at: u32) -> Option<&mut Txn> {
        self.sessions.get_mut(at)?.extra_mut()?.txn.as_deref_mut()
    }

    // ------------------------------------------------------------ what clients ask

    pub(crate) fn on_begin(&mut self, now: Time, at: u32, id: RequestId, age: Option<Age>) {
        let Some(session) = self.session_id(at) else { return };
        // [TXN-1] Of two that begin here under one SCN the first is older.
        self.txns.begun = self.txns.begun.wrapping_add(1);
        let tie = (u64::from(self.txns.begun) << 32) | u64::from(session.0 as u32 ^ (session.0 >> 64) as u32);
        let new = Age { scn: self.table.last_token().as_u64(), tie };
        #[cfg(feature = "planted")]
        let age = age.filter(|_| !lockstead_types::planted::is(lockstead_types::planted::Bug::AgeLost));
        let (again, age) = (age.is_some(), age.unwrap_or(new));
        match self.start_txn(now, at, Txn::new(age, again)) {
            Ok(()) => {
                self.counters.transactions_begun += 1;
                self.answer(at, id, Reply::Begun(age));
                self.tell_effects(now);
            }
            Err(why) => self.refuse(at, id, why),
        }
    }

    /// [TXN-9] The transaction of a session that has come from another home, before it claims its locks.
    pub(crate) fn on_resume(&mut self, now: Time, at: u32, id: RequestId, resume: &Resume) {
        let Resume { age, granted, stage } = *resume;
        let returning = self.sessions.get(at).is_some_and(|s| s.stage == crate::session::Stage::Returning);
        // A home that was left before all was claimed may be come to again, with what it was told then.
        let started = match self.txn_mut(at).filter(|_| returning) {
            Some(txn) => {
                // [TXN-8] What was aborted here since it came stays so, though its client has not heard of it yet.
                let aborted = txn.stage == TransactionStage::Aborted;
                (txn.age, txn.granted) = (age, granted);
                txn.stage = if aborted { TransactionStage::Aborted } else { stage };
                Ok(())
            }
            None if !returning => Err(Refusal::Invalid),
            None => self.start_txn(now, at, Txn { stage, granted, ..Txn::new(age, true) }),
        };
        match started {
            Ok(()) => self.answer(at, id, Reply::Begun(age)),
            Err(why) => self.refuse(at, id, why),
        }
    }

    fn start_txn(&mut self, now: Time, at: u32, txn: Txn) -> Result<(), Refusal> {
        // [TXN-1] One at a time.
        if self.txn(at).is_some() {
            return Err(Refusal::Busy);
        }
        let age = txn.age;
        let session = self.sessions.get_mut(at).ok_or(Refusal::Lost)?;
        session.extra_or_new().txn = Some(Box::new(txn));
        self.set_age(now, at, Some(age));
        Ok(())
    }

    pub(crate) fn on_commit(&mut self, now: Time, at: u32, id: RequestId) {
        let txn = self.txn(at);
        let refused = match txn {
            None => Some(Refusal::Phase),
            Some(txn) if txn.stage == TransactionStage::Aborted || txn.rollback.is_some() => Some(Refusal::Aborted),
            // [TXN-3] What it still waits for it would get after its end.
            Some(txn) if txn.waits() => Some(Refusal::Busy),
            Some(_) => None,
        };
        if let Some(why) = refused {
            return self.refuse(at, id, why);
        }
        self.counters.transactions_committed += 1;
        self.end_txn(now, at);
        self.answer(at, id, Reply::Done);
        self.tell_effects(now);
    }

    pub(crate) fn on_rollback(&mut self, now: Time, at: u32, id: RequestId, to: Option<Savepoint>) {
        let Some(txn) = self.txn_mut(at) else { return self.refuse(at, id, Refusal::Phase) };
        // [TXN-7] To end it all goes before to end a part of it.
        let part = txn.rollback.take_if(|known| to.is_none() && known.to.is_some());
        let refused = match to {
            _ if txn.rollback.is_some() => Some(Refusal::Busy),
            // [TXN-8] An aborted one has no points to go back to: others were promised all it holds.
            Some(_) if txn.stage == TransactionStage::Aborted => Some(Refusal::Aborted),
            Some(Savepoint(to)) if to > txn.granted => Some(Refusal::Invalid),
            _ => None,
        };
        if let Some(why) = refused {
            return self.refuse(at, id, why);
        }
        txn.rollback = Some(Rollback { id, to });
        if let Some(part) = part {
            self.refuse(at, part.id, Refusal::Aborted);
        }
        self.cancel_pending(now, at);
        self.tell_effects(now);
        self.txns.unfinished.push(at);
        self.finish_rollbacks(now);
    }

    pub(crate) fn on_savepoint(&mut self, at: u32, id: RequestId) {
        match self.txn(at) {
            Some(txn) if txn.stage == TransactionStage::Aborted => self.refuse(at, id, Refusal::Aborted),
            Some(txn) if txn.rollback.is_some() => self.refuse(at, id, Refusal::Aborted),
            Some(txn) => {
                let point = Savepoint(txn.granted);
                self.answer(at, id, Reply::Savepoint(point));
            }
            None => self.refuse(at, id, Refusal::Phase),
        }
    }

    /// [TXN-6] The locks of the statement go, whatever the discipline says of the others.
    pub(crate) fn on_end_statement(&mut self, now: Time, at: u32, id: RequestId) {
        let Some(txn) = self.txn_mut(at) else { return self.refuse(at, id, Refusal::Phase) };
        let of_statement: Vec<LockId> = txn.in_order(|part| part.statement);
        txn.locks.retain(|_, part| !part.statement);
        let of_statement = self.leaf_to_root(at, of_statement);
        self.release_all(now, at, &of_statement);
        self.release_absorbed_in(now, at, &of_statement);
        self.answer(at, id, Reply::Done);
        self.tell_effects(now);
    }

    // ------------------------------------------------------------ its requests

    /// Whether a request may be made in the session's transaction, if it belongs to it; then it is one of the transaction's until it is
    /// answered.
    pub(crate) fn admit_to_txn(&mut self, at: u32, id: RequestId, op: &Op<'_>) -> Result<(), Refusal> {
        let open = self.txn(at).is_some();
        match op {
            Op::Lock(request) => self.admit_locks(at, id, core::slice::from_ref(request)),
            Op::LockMany(requests) => self.admit_locks(at, id, requests),
            // [HIER-3] Of nobody but a transaction.
            Op::LockPath(request) if !request.owner.is_in_transaction() => Err(Refusal::Phase),
            Op::LockPath(request) => self.admit_locks(at, id, core::slice::from_ref(request)),
            Op::Convert(request) if open => self.admit_conversion(at, id, request),
            Op::Release { release, .. } if open => self.admit_release(at, id, release.lock),
            _ => Ok(()),
        }
    }

    fn admit_locks(&mut self, at: u32, id: RequestId, requests: &[LockRequest<'_>]) -> Result<(), Refusal> {
        let own = requests.iter().filter(|r| r.owner.is_in_transaction()).count();
        if own == 0 {
            return Ok(());
        }
        // All of one request end together, so they belong together.
        if own < requests.len() {
            return Err(Refusal::Invalid);
        }
        let txn = self.txn(at).ok_or(Refusal::Phase)?;
        txn.check_open()?;
        let mut step = txn.step;
        for request in requests {
            let Some(spec) = self.spaces.get(request.space) else { continue };
            let Some(space) = self.table.space(request.space) else { continue };
            step = discipline::may_acquire(spec.discipline, &space.modes, txn.stage, step, request)?;
        }
        let txn = self.txn_mut(at).ok_or(Refusal::Phase)?;
        txn.step = step;
        let parts = requests.iter().map(|r| r.owner == OwnerRef::Statement).collect();
        txn.pending.insert(id, Asked::Locks(parts));
        Ok(())
    }

    /// The answer to a request of the session, as its transaction makes it.
    pub(crate) fn through_txn(&mut self, at: u32, id: RequestId, reply: Reply) -> Reply {
        let Some(txn) = self.txn_mut(at) else { return reply };
        let reply = txn.on_answer(id, reply);
        if txn.rollback.is_some() && txn.pending.is_empty() {
            self.txns.unfinished.push(at);
        }
        reply
    }

    /// A lock is claimed at a new home.
    pub(crate) fn note_claim(&mut self, at: u32, id: RequestId, part: Option<Part>) {
        if let (Some(txn), Some(part)) = (self.txn_mut(at), part) {
            txn.pending.insert(id, Asked::Claim(part));
        }
    }

    /// [TXN-9] A lock of the transaction was claimed, or not: then it has lost what it relies on.
    pub(crate) fn settle_claim(&mut self, now: Time, at: u32, id: RequestId, reply: &Reply) {
        let Some(txn) = self.txn_mut(at) else { return };
        let Some(Asked::Claim(part)) = txn.pending.remove(&id) else { return };
        let ready = txn.rollback.is_some() && txn.pending.is_empty();
        match reply {
            Reply::Granted(grant) => {
                txn.locks.insert(grant.lock, part);
                self.note_step(at, grant.lock);
            }
            _ => self.abort_txn(now, at),
        }
        if ready {
            self.txns.unfinished.push(at);
        }
    }

    /// A one-way release was done, of which no answer comes.
    pub(crate) fn settle_release(&mut self, at: u32, id: RequestId) {
        let Some(txn) = self.txn_mut(at) else { return };
        txn.pending.remove(&id);
        if txn.rollback.is_some() && txn.pending.is_empty() {
            self.txns.unfinished.push(at);
        }
    }

    /// Whether a request is one of a transaction that wants nothing more.
    pub(crate) fn is_of_ended_txn(&self, at: u32, id: RequestId) -> bool {
        self.txn(at).is_some_and(|txn| txn.check_open().is_err() && txn.pending.contains_key(&id))
    }

    // ------------------------------------------------------------ abort

    /// [TXN-8] The transaction can only be rolled back: an older one needs what it holds, or it has lost what it relies on.
    pub(crate) fn abort_txn(&mut self, now: Time, at: u32) {
        let Some(txn) = self.txn_mut(at) else { return };
        if txn.stage == TransactionStage::Aborted {
            return;
        }
        txn.stage = TransactionStage::Aborted;
        self.counters.transactions_aborted += 1;
        self.notify(at, Notice::Aborted);
        self.cancel_pending(now, at);
    }

    /// A lock was taken away from the session, or could not be claimed.
    pub(crate) fn on_lock_lost(&mut self, now: Time, at: u32, lock: LockId) {
        let lost = self.txn_mut(at).is_some_and(|txn| txn.locks.remove(&lock).is_some());
        if lost {
            self.abort_txn(now, at);
        }
    }

    /// Says again to a client that was away that its transaction was aborted.
    pub(crate) fn repeat_abort(&mut self, at: u32) {
        if self.txn(at).is_some_and(|txn| txn.stage == TransactionStage::Aborted) {
            self.notify(at, Notice::Aborted);
        }
    }
}

impl Txn {
    /// Whether anything may be asked in it.
    fn check_open(&self) -> Result<(), Refusal> {
        let over = self.stage == TransactionStage::Aborted || self.rollback.is_some();
        if over { Err(Refusal::Aborted) } else { Ok(()) }
    }

    /// Whether anything is under way that it would get after its end.
    fn waits(&self) -> bool {
        self.pending.values().any(|asked| !matches!(asked, Asked::Release(..)))
    }

    /// Locks of it in the order they came.
    fn in_order(&self, wanted: impl Fn(&Part) -> bool) -> Vec<LockId> {
        let mut found: Vec<(u64, LockId)> =
            self.locks.iter().filter(|(_, part)| wanted(part)).map(|(lock, part)| (part.number, *lock)).collect();
        found.sort_unstable();
        found.into_iter().map(|(_, lock)| lock).collect()
    }
}
