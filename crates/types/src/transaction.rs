//! Transactions: what of one is said between a client and its home, and what a lockspace demands of one.
//!
//! A session runs one transaction at a time. Locks that are asked for as [`crate::request::OwnerRef::Transaction`] are the session's, and are
//! released together when the transaction ends. Its home keeps in which order they came; a client keeps the same, so that it can tell
//! another home ([`Resume`], [`Part`]).

use crate::age::Age;

/// When a transaction may release a lock before its end.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum Discipline {
    /// Never: histories are strict, and serializable where reads and writes are locked.
    #[default]
    Strict,
    /// Any time, and nothing more is acquired after the first release.
    TwoPhase,
    /// As [`Discipline::Strict`], and in three steps: modes that readers share, then those that one holds beside readers, then a conversion
    /// of one of these to a mode that excludes all. No wait is without a bound.
    ThreePhase,
    /// As it likes.
    Free,
}

impl Discipline {
    /// All, with the words they go by.
    pub const ALL: [(Discipline, &'static str); 4] = [
        (Discipline::Strict, "strict"),
        (Discipline::TwoPhase, "two-phase"),
        (Discipline::ThreePhase, "three-phase"),
        (Discipline::Free, "free"),
    ];

    /// The word.
    #[must_use]
    pub fn word(self) -> &'static str {
        Discipline::ALL.iter().find(|(discipline, _)| *discipline == self).map_or("", |(_, word)| word)
    }

    /// The inverse of [`Discipline::word`].
    #[must_use]
    pub fn parse(word: &str) -> Option<Discipline> {
        Discipline::ALL.iter().find(|(_, known)| *known == word).map(|(discipline, _)| *discipline)
    }
}

/// A point of a transaction: how many locks it had been granted until then.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Savepoint(pub u64);

/// Which lock of its transaction one is.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// How many had been granted before it.
    pub number: u64,
    /// Whether it ends with the statement.
    pub statement: bool,
}

/// A transaction that a session brings along to another home.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Resume {
    /// Its age.
    pub age: Age,
    /// How many locks it has been granted.
    pub granted: u64,
    /// How far it has come.
    pub stage: TransactionStage,
}

/// How far a transaction has come.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum TransactionStage {
    /// It acquires locks.
    #[default]
    Growing,
    /// It has released one ([`Discipline::TwoPhase`]).
    Shrinking,
    /// It was aborted, or has lost a lock: it can only be rolled back.
    Aborted,
}

impl TransactionStage {
    /// After a release.
    #[must_use]
    pub fn shrinking(self) -> TransactionStage {
        match self {
            TransactionStage::Growing | TransactionStage::Shrinking => TransactionStage::Shrinking,
            TransactionStage::Aborted => TransactionStage::Aborted,
        }
    }
}
