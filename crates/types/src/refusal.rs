//! Why a request was not done. A refusal is an expected answer, never a failure of the service.

use core::fmt;

use crate::limits::LimitName;

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
    /// The intents above are not held.
    Intent,
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
            Refusal::Intent => "intent",
            Refusal::Sublocks => "sublocks",
            Refusal::Aborted => "aborted",
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
