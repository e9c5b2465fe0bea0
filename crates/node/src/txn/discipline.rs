//! What a lockspace demands of transactions: when one may acquire, convert and release.

use lockstead_types::{
    LockId, Mode, ModeTable, RequestId,
    refusal::Refusal,
    request::{Claim, ConvertRequest, LockRequest, Wait},
    transaction::{Discipline, TransactionStage},
};

use super::Asked;
use crate::node::Node;

/// How far a transaction is in three steps ([TXN-5]).
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) enum Step {
    /// Modes that several hold together.
    #[default]
    Shared,
    /// Modes that one holds beside readers.
    Update,
    /// Modes that shut out readers.
    Exclusive,
}

impl Step {
    /// In which step a mode is asked for.
    fn of(modes: &ModeTable, mode: Mode) -> Step {
        let readers = |m: &Mode| modes.compatible(*m, *m) && Some(*m) != modes.null();
        if modes.compatible(mode, mode) {
            Step::Shared
        } else if modes.modes().filter(readers).any(|reader| modes.compatible(reader, mode)) {
            Step::Update
        } else {
            Step::Exclusive
        }
    }
}

/// Whether a new lock may be asked for; the step the transaction is in then.
pub(super) fn may_acquire(
    discipline: Discipline,
    modes: &ModeTable,
    stage: TransactionStage,
    step: Step,
    request: &LockRequest<'_>,
) -> Result<Step, Refusal> {
    // [TXN-4] Nothing more after the first release.
    if discipline == Discipline::TwoPhase && stage == TransactionStage::Shrinking {
        return Err(Refusal::Phase);
    }
    if discipline != Discipline::ThreePhase {
        return Ok(step);
    }
    let asked = match request.claim {
        Claim::Mode(mode) if modes.has(mode) => Step::of(modes, mode),
        Claim::Mode(_) | Claim::Permits { .. } => Step::Shared,
    };
    // [TXN-5] What shuts out readers is come to by a conversion alone.
    if asked < step || asked == Step::Exclusive || request.wait == Wait::Forever {
        return Err(Refusal::Phase);
    }
    Ok(asked)
}

impl Node {
    pub(super) fn admit_conversion(
        &mut self,
        at: u32,
        id: RequestId,
        request: &ConvertRequest<'_>,
    ) -> Result<(), Refusal> {
        let Some((discipline, held)) = self.of_txn(at, request.lock) else { return Ok(()) };
        let (space, held) = held;
        let Some(modes) = self.table.space(space).map(|s| s.modes.clone()) else { return Ok(()) };
        let Some(txn) = self.txn_mut(at) else { return Ok(()) };
        let Claim::Mode(held) = held else { return Ok(()) };
        if !modes.has(request.mode) {
            return Ok(());
        }
        let down = modes.is_down(held, request.mode);
        if !down {
            txn.check_open()?;
        }
        match discipline {
            // To write the value block one converts to the mode held.
            _ if held == request.mode => {}
            // [TXN-2] To hold less is to release.
            Discipline::Strict | Discipline::ThreePhase if down => return Err(Refusal::Phase),
            Discipline::TwoPhase if down => txn.stage = txn.stage.shrinking(),
            Discipline::TwoPhase if txn.stage == TransactionStage::Shrinking => return Err(Refusal::Phase),
            Discipline::ThreePhase => {
                let (from, to) = (Step::of(&modes, held), Step::of(&modes, request.mode));
                // [TXN-5] One step at a time, and none back.
                let leap = to == Step::Exclusive && from == Step::Shared;
                if to < txn.step || leap || request.wait == Wait::Forever {
                    return Err(Refusal::Phase);
                }
                txn.step = to;
            }
            Discipline::Strict | Discipline::TwoPhase | Discipline::Free => {}
        }
        txn.pending.insert(id, Asked::Conversion);
        Ok(())
    }

    pub(super) fn admit_release(&mut self, at: u32, id: RequestId, lock: LockId) -> Result<(), Refusal> {
        let Some((discipline, _)) = self.of_txn(at, lock) else { return Ok(()) };
        let Some(txn) = self.txn_mut(at) else { return Ok(()) };
        let Some(part) = txn.locks.get(&lock).copied() else { return Ok(()) };
        match discipline {
            // [TXN-6]
            _ if part.statement => {}
            // [TXN-2] Others must not see what it may still undo.
            Discipline::Strict | Discipline::ThreePhase => return Err(Refusal::Phase),
            Discipline::TwoPhase => txn.stage = txn.stage.shrinking(),
            Discipline::Free => {}
        }
        txn.locks.remove(&lock);
        txn.pending.insert(id, Asked::Release(lock, part));
        Ok(())
    }

    /// A lock that is claimed says how far its transaction had come.
    pub(super) fn note_step(&mut self, at: u32, lock: LockId) {
        let Some((_, (space, Claim::Mode(held)))) = self.of_txn(at, lock) else { return };
        let Some(step) = self.table.space(space).map(|s| Step::of(&s.modes, held)) else { return };
        if let Some(txn) = self.txn_mut(at) {
            txn.step = txn.step.max(step);
        }
    }

    /// What is demanded for a lock of the session's transaction, where it is, and what is held.
    fn of_txn(&self, at: u32, lock: LockId) -> Option<(Discipline, (lockstead_types::SpaceId, Claim))> {
        self.txn(at)?.locks.get(&lock)?;
        let (space, held) = match &self.member {
            Some(member) => {
                let copy = member.copies.get(member.copies.find(at, lock)?)?;
                (copy.space, copy.held?)
            }
            None => self.table.held(lock)?,
        };
        Some((self.spaces.get(space)?.discipline, (space, held)))
    }
}

#[cfg(test)]
mod tests {
    use lockstead_types::tables::built_in;

    use super::Step;

    #[test]
    fn every_mode_has_its_step() {
        let steps = |table: &str| -> alloc::vec::Vec<Step> {
            let modes = built_in(table).expect("built in");
            modes.modes().map(|mode| Step::of(&modes, mode)).collect()
        };
        use Step::{Exclusive, Shared, Update};
        assert_eq!(steps("vms"), [Shared, Shared, Shared, Shared, Update, Exclusive]);
        assert_eq!(steps("granular"), [Shared, Shared, Shared, Update, Update, Exclusive]);
        assert_eq!(steps("rw"), [Shared, Exclusive]);
    }
}
