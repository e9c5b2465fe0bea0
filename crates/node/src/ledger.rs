//! What a session asked and was answered: gives every request one effect and loses no answer.
//!
//! Both sides count answers. The node logs each answer until the client says that it has received so many, and repeats
//! the rest after an attach. Requests that wait are kept beside the log. Nothing else is kept of a request: whether a
//! number was seen before is told by the newest number alone, since clients number upwards.

use alloc::{collections::VecDeque, vec::Vec};

use lockstead_types::{
    LockId, RequestId, Time,
    reply::{Grant, Reply},
    report::{Report, ResourceDetail},
};

/// A request that waits.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Waiting {
    pub(crate) id: RequestId,
    pub(crate) since: Time,
    pub(crate) pend: Pend,
}

/// What a request waits for.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Pend {
    /// A lock of the session itself, or its conversion.
    Lock(LockId),
    /// Several locks at once.
    Many(u32),
    /// The answer of a master.
    Forward,
    /// A lock of a group, or its conversion.
    Group { group: u32, lock: LockId },
}

/// An acknowledgement of answers that were never given.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Overcount;

#[derive(Default)]
pub(crate) struct Ledger {
    seen: RequestId,
    /// Answers the client has received, as far as it said.
    acked: u64,
    log: VecDeque<(RequestId, Reply)>,
    /// Answers of the log that end a request.
    finals: u32,
    /// Bytes of the log's answers on the heap, roughly.
    weight: u64,
    /// By number.
    waits: VecDeque<Waiting>,
}

impl Ledger {
    /// The newest request seen.
    pub(crate) fn seen(&self) -> RequestId {
        self.seen
    }

    /// Takes note of a request. `false` where its number, or a newer one, came before: then it has had its effect, and its
    /// answer was sent, is in the log, or is still to come ([SESS-6]).
    pub(crate) fn try_admit(&mut self, id: RequestId) -> bool {
        let new = id > self.seen;
        if new {
            self.seen = id;
        }
        new
    }

    /// Whether a request waits, or its answer may not have arrived.
    pub(crate) fn knows(&self, id: RequestId) -> bool {
        self.waiting(id).is_some() || self.log.iter().any(|(answered, _)| *answered == id)
    }

    /// Requests without an answer, and with answers not acknowledged.
    pub(crate) fn in_flight(&self) -> u64 {
        self.waits.len() as u64 + u64::from(self.finals)
    }

    /// Bytes kept for answers not acknowledged, beyond a small constant each.
    pub(crate) fn weight(&self) -> u64 {
        self.weight
    }

    /// How many answers were given.
    pub(crate) fn answered(&self) -> u64 {
        self.acked.saturating_add(self.log.len() as u64)
    }

    pub(crate) fn acked(&self) -> u64 {
        self.acked
    }

    pub(crate) fn log_answer(&mut self, id: RequestId, reply: Reply) {
        if !matches!(reply, Reply::Queued(_)) {
            self.finals = self.finals.saturating_add(1);
        }
        self.weight = self.weight.saturating_add(heap_bytes(&reply));
        self.log.push_back((id, reply));
    }

    /// The client has received `answers` answers. Fewer than it said before changes nothing.
    pub(crate) fn on_ack(&mut self, answers: u64) -> Result<(), Overcount> {
        if answers > self.answered() {
            return Err(Overcount);
        }
        while self.acked < answers {
            let Some((_, reply)) = self.log.pop_front() else { break };
            if !matches!(reply, Reply::Queued(_)) {
                self.finals = self.finals.saturating_sub(1);
            }
            self.weight = self.weight.saturating_sub(heap_bytes(&reply));
            self.acked += 1;
        }
        Ok(())
    }

    /// Starts the count again at 0 with the first answer of the log.
    pub(crate) fn restart_count(&mut self) {
        self.acked = 0;
    }

    /// Answers not acknowledged, in the order they were given.
    pub(crate) fn unacknowledged(&self) -> impl Iterator<Item = &(RequestId, Reply)> {
        self.log.iter()
    }

    pub(crate) fn wait(&mut self, waiting: Waiting) {
        let at = self.waits.partition_point(|w| w.id < waiting.id);
        self.waits.insert(at, waiting);
    }

    pub(crate) fn waiting(&self, id: RequestId) -> Option<&Waiting> {
        self.waits.get(self.waits.partition_point(|w| w.id < id)).filter(|w| w.id == id)
    }

    pub(crate) fn end_wait(&mut self, id: RequestId) -> Option<Waiting> {
        let at = self.waits.partition_point(|w| w.id < id);
        self.waits.get(at).filter(|w| w.id == id)?;
        self.waits.remove(at)
    }

    pub(crate) fn waits(&self) -> impl Iterator<Item = &Waiting> {
        self.waits.iter()
    }

    /// Gives back what a burst left behind. Called once a lease, so that a busy session keeps its room.
    pub(crate) fn shrink(&mut self) {
        if self.log.is_empty() && self.log.capacity() > ROOM_KEPT {
            self.log = VecDeque::new();
        }
        if self.waits.is_empty() && self.waits.capacity() > ROOM_KEPT {
            self.waits = VecDeque::new();
        }
    }

    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let finals = self.log.iter().filter(|(_, r)| !matches!(r, Reply::Queued(_))).count();
        if finals as u64 != u64::from(self.finals) {
            return Err("final answers are miscounted");
        }
        if self.log.iter().map(|(_, r)| heap_bytes(r)).sum::<u64>() != self.weight {
            return Err("the weight of the log is miscounted");
        }
        let ids: Vec<RequestId> = self.waits.iter().map(|w| w.id).collect();
        if !ids.is_sorted_by(|a, b| a < b) || ids.iter().any(|id| *id > self.seen) {
            return Err("waits are out of order");
        }
        Ok(())
    }
}

/// Room an idle session may keep, entries.
const ROOM_KEPT: usize = 4;

/// What an answer holds on the heap, roughly: the bound is about the order of magnitude.
fn heap_bytes(reply: &Reply) -> u64 {
    const ROW: usize = 256;
    let detail = |d: &ResourceDetail| ROW * (d.granted.len() + d.converting.len() + d.waiting.len() + 1);
    let value_of = |grant: &Grant| grant.value.as_ref().map_or(0, |v| v.bytes.len());
    let bytes = match reply {
        Reply::Granted(grant) => value_of(grant),
        Reply::GrantedPath(path) => path.grants.len() * ROW,
        Reply::GrantedMany(grants) => grants.iter().map(|g| ROW + value_of(g)).sum(),
        Reply::Value(value) => value.bytes.len(),
        Reply::Space(_) => 16 * ROW,
        Reply::Report(report) => match &**report {
            Report::Resources { rows, .. } => rows.len() * ROW,
            Report::Resource(found) => found.as_deref().map_or(0, detail),
            Report::Waits(waits) => waits.edges.len() * 2 * ROW,
            Report::Sessions { rows, .. } => rows.len() * ROW,
            Report::Deadlocks(found) => found.reports.iter().map(|r| (r.cycle.len() + 1) * 2 * ROW).sum(),
            Report::Status(_) => 16 * ROW,
            Report::Spaces(spaces) => spaces.len() * 2 * ROW,
            Report::Members(rows) => rows.len() * 2 * ROW,
        },
        Reply::Queued(_)
        | Reply::Released
        | Reply::Cancelled
        | Reply::Done
        | Reply::Group(_)
        | Reply::Begun(_)
        | Reply::Savepoint(_)
        | Reply::Purged(_)
        | Reply::Refused(_)
        | Reply::Demoted { .. } => 0,
    };
    bytes as u64
}

#[cfg(test)]
mod tests {
    use lockstead_types::reply::Queued;

    use super::*;

    const ID: fn(u64) -> RequestId = RequestId;

    #[test]
    fn a_number_counts_once_and_gaps_are_allowed() {
        let mut ledger = Ledger::default();
        assert!(ledger.try_admit(ID(1)));
        assert!(!ledger.try_admit(ID(1)));
        assert!(ledger.try_admit(ID(7)));
        assert!(!ledger.try_admit(ID(3)));
        assert_eq!(ledger.seen(), ID(7));
    }

    #[test]
    fn answers_stay_until_counted() {
        let mut ledger = Ledger::default();
        ledger.log_answer(ID(1), Reply::Queued(Queued { lock: LockId(9), ticket: 0 }));
        ledger.log_answer(ID(2), Reply::Done);
        ledger.log_answer(ID(1), Reply::Released);
        assert_eq!((ledger.answered(), ledger.in_flight()), (3, 2));
        assert_eq!(ledger.on_ack(2), Ok(()));
        assert_eq!(ledger.on_ack(1), Ok(()), "late acknowledgements are harmless");
        assert_eq!(ledger.on_ack(4), Err(Overcount));
        assert_eq!(ledger.unacknowledged().collect::<Vec<_>>(), [&(ID(1), Reply::Released)]);
        assert_eq!((ledger.acked(), ledger.answered()), (2, 3));
        assert_eq!(ledger.check(), Ok(()));
    }

    #[test]
    fn a_long_wait_holds_nothing_back() {
        let mut ledger = Ledger::default();
        assert!(ledger.try_admit(ID(1)));
        ledger.wait(Waiting { id: ID(1), since: Time::ZERO, pend: Pend::Lock(LockId(1)) });
        for n in 2..10_000 {
            assert!(ledger.try_admit(ID(n)));
            ledger.log_answer(ID(n), Reply::Done);
            assert_eq!(ledger.on_ack(n - 1), Ok(()));
            assert_eq!(ledger.in_flight(), 1);
        }
        assert_eq!(ledger.end_wait(ID(1)).map(|w| w.pend), Some(Pend::Lock(LockId(1))));
        assert_eq!(ledger.end_wait(ID(1)), None);
    }
}
