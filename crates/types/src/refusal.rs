//! Why a request was not done. A refusal is an expected answer, never a failure of the service.

use core::fmt;

use crate::{limits::LimitName, mode::Mode};

/// The reason, as printed after `refused`.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Refusal {
    /// It would have to wait, and was not to.
    WouldWait,
    /// It waited as long as it was to.
    Timeout,
    /// It closed a cycle of waits, and was chosen as the victim.
    Deadlock,
    /// The lock named is not there, not the asker's, or not in a state that allows it.
    NotHeld,
    /// The mode is none of the lockspace's, or cannot be asked beside the modes there.
    BadMode,
    /// A name or value is longer than allowed.
    TooLong,
    /// The principal has no right to it.
    Denied,
    /// A bound was reached.
    Limit(LimitName),
    /// The session or lock was lost.
    Lost,
    /// The request makes no sense: flags that exclude each other, a permit count that differs, an empty name.
    Invalid,
    /// There is a lock of that owner, name and tag already, or a conversion of it is under way.
    Busy,
    /// The node may not decide now.
    NoQuorum,
    /// There is no such lockspace.
    NoLockspace,
    /// There is one of that name already.
    Exists,
    /// The transaction's discipline forbids it.
    Phase,
    /// What is above at this level, the root's 0, is not held in this mode, or in one that includes it.
    Intent {
        /// The level.
        level: u8,
        /// The mode.
        mode: Mode,
    },
    /// Sublocks are still held.
    Sublocks,
    /// The transaction was aborted.
    Aborted,
}

impl Refusal {
    /// The word, without the limit's name.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Refusal::WouldWait => "would-wait",
            Refusal::Timeout => "timeout",
            Refusal::Deadlock => "deadlock",
            Refusal::NotHeld => "not-held",
            Refusal::BadMode => "bad-mode",
            Refusal::TooLong => "too-long",
            Refusal::Denied => "denied",
            Refusal::Limit(_) => "limit",
            Refusal::Lost => "lost",
            Refusal::Invalid => "invalid",
            Refusal::Busy => "busy",
            Refusal::NoQuorum => "no-quorum",
            Refusal::NoLockspace => "no-lockspace",
            Refusal::Exists => "exists",
            Refusal::Phase => "phase",
            Refusal::Intent { .. } => "intent",
            Refusal::Sublocks => "sublocks",
            Refusal::Aborted => "aborted",
        }
    }

    /// What the word means, for people who meet it the first time.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Refusal::WouldWait => "it would have to wait, and was not to",
            Refusal::Timeout => "it waited as long as it was to",
            Refusal::Deadlock => "it was the victim of a deadlock: release what is held, and try again",
            Refusal::NotHeld => "there is no such lock, or it is another's, or nothing waits on it",
            Refusal::BadMode => "the lockspace has no such mode, or it cannot be asked for beside the modes there",
            Refusal::TooLong => "a name or value is longer than allowed",
            Refusal::Denied => "no right to it",
            Refusal::Limit(_) => "a bound of the node was reached",
            Refusal::Lost => "the session or the lock was lost",
            Refusal::Invalid => {
                "it makes no sense: flags that exclude each other, more permits than there are, or another number of them \
                 than others named, an empty name"
            }
            Refusal::Busy => {
                "there is a lock of this owner on that name already (convert it, or ask under another tag), or a \
                 conversion of it is under way"
            }
            Refusal::NoQuorum => "the node may not decide now",
            Refusal::NoLockspace => "there is no such lockspace",
            Refusal::Exists => "there is one of that name already",
            Refusal::Phase => "the discipline of the transaction forbids it, or no transaction is open",
            Refusal::Intent { .. } => {
                "what is above it is not held in a mode that says so: lock its path, or that first"
            }
            Refusal::Sublocks => "sublocks are still held",
            Refusal::Aborted => {
                "it would have to wait for an older transaction, or its own was aborted: roll back, and try again with the same age"
            }
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Limit(name) => write!(f, "limit:{name}"),
            other => f.write_str(other.word()),
        }
    }
}

impl core::error::Error for Refusal {}
