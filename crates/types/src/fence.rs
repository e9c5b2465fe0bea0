//! The check a guarded resource makes, without clocks ([FENCE-1]).

use crate::{
    mode::{MODES_MAX, Mode, ModeTable},
    token::Token,
};

/// The highest token applied, for each mode. A guarded resource keeps one, as durably as its data, and asks it before
/// every operation, reads included.
///
/// An operation of `(token, mode)` is applied iff no token above `token` was applied in a mode that conflicts with
/// `mode`. One single high-water mark would be wrong for shared modes: a live shared holder with an older token would be
/// refused as soon as a newer, compatible one wrote.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FenceGate {
    table: ModeTable,
    highest: [Token; MODES_MAX],
}

/// An operation was not applied: a newer conflicting grant was seen.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Stale {
    /// The token that was offered.
    pub token: Token,
    /// The newer one.
    pub newer: Token,
    /// The mode it was seen in.
    pub mode: Mode,
}

impl core::fmt::Display for Stale {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "token {} is stale: a conflicting grant with token {} was seen", self.token, self.newer)
    }
}

impl core::error::Error for Stale {}

impl FenceGate {
    /// A gate that has seen nothing.
    #[must_use]
    pub fn new(table: ModeTable) -> FenceGate {
        FenceGate { table, highest: [Token::NONE; MODES_MAX] }
    }

    /// A gate that goes on from [`FenceGate::marks`] of an earlier one. Modes beyond the slice have seen nothing.
    #[must_use]
    pub fn restore(table: ModeTable, marks: &[Token]) -> FenceGate {
        let mut gate = FenceGate::new(table);
        for (slot, mark) in gate.highest.iter_mut().zip(marks) {
            *slot = *mark;
        }
        gate
    }

    /// The highest token applied in each mode of the table: what to keep with the data.
    #[must_use]
    pub fn marks(&self) -> &[Token] {
        &self.highest[..self.table.count()]
    }

    /// Admits an operation and remembers it, or refuses it. Call it in the same atomic step that applies the operation.
    ///
    /// # Errors
    /// [`Stale`] where a conflicting grant with a higher token was admitted before, or the mode is none of the table.
    pub fn admit(&mut self, token: Token, mode: Mode) -> Result<(), Stale> {
        if !self.table.has(mode) {
            return Err(Stale { token, newer: Token::NONE, mode });
        }
        // [FENCE-1] H[m'] <= t for every m' incompatible with m, whichever of the two was asked first.
        let rivals = self.table.conflicts_of(mode).union(self.table.blocked_by(mode));
        #[cfg(feature = "planted")]
        let rivals = if crate::planted::is(crate::planted::Bug::GateSharedOnly) {
            rivals.without(Mode(3)).without(Mode(1))
        } else {
            rivals
        };
        for rival in rivals.iter() {
            let newer = self.highest[usize::from(rival.0)];
            if newer > token {
                return Err(Stale { token, newer, mode: rival });
            }
        }
        let mark = &mut self.highest[usize::from(mode.0)];
        *mark = (*mark).max(token);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::built_in;

    fn t(n: u64) -> Token {
        Token::new(1, n).expect("in range")
    }

    #[test]
    fn shared_holders_do_not_refuse_each_other() {
        let table = built_in("vms").expect("built in");
        let (pr, ex) = (table.shared(), table.exclusive());
        let mut gate = FenceGate::new(table);
        assert_eq!(gate.admit(t(5), pr), Ok(()));
        assert_eq!(gate.admit(t(4), pr), Ok(()), "an older live shared holder");
        assert_eq!(gate.admit(t(3), ex), Err(Stale { token: t(3), newer: t(5), mode: pr }));
        assert_eq!(gate.admit(t(6), ex), Ok(()));
        assert_eq!(gate.admit(t(5), pr), Err(Stale { token: t(5), newer: t(6), mode: ex }));
    }

    #[test]
    fn a_restored_gate_goes_on() {
        let table = built_in("rw").expect("built in");
        let w = table.exclusive();
        let mut gate = FenceGate::new(table.clone());
        assert_eq!(gate.admit(t(9), w), Ok(()));
        let mut again = FenceGate::restore(table, gate.marks());
        assert!(again.admit(t(8), w).is_err());
        assert!(again.admit(t(9), w).is_ok(), "the same holder goes on");
    }
}
