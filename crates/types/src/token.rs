//! Fencing tokens.

use core::fmt;

/// A fencing token: `epoch << 40 | sequence`, never above 2^63 - 1, so it fits a SQL `BIGINT`.
///
/// Tokens of conflicting grants on one resource strictly increase, also over restarts of a node ([TOKEN-1]). A client
/// cannot choose or raise one. In JSON a token is a string, since 2^53 is the largest whole number there.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Token(u64);

impl Token {
    /// Bits of the sequence within an epoch.
    pub const SEQUENCE_BITS: u32 = 40;
    /// Largest sequence of an epoch. A node that nears it asks for a new epoch first.
    pub const SEQUENCE_MAX: u64 = (1 << Self::SEQUENCE_BITS) - 1;
    /// Largest epoch.
    pub const EPOCH_MAX: u32 = (1 << (63 - Self::SEQUENCE_BITS)) - 1;
    /// No token: older than every granted one.
    pub const NONE: Token = Token(0);

    /// The token of `sequence` in `epoch`, or `None` where either is out of range.
    #[must_use]
    pub const fn new(epoch: u32, sequence: u64) -> Option<Token> {
        if epoch > Self::EPOCH_MAX || sequence > Self::SEQUENCE_MAX {
            return None;
        }
        Some(Token(((epoch as u64) << Self::SEQUENCE_BITS) | sequence))
    }

    /// The token a number stands for, or `None` for a number above 2^63 - 1.
    #[must_use]
    pub const fn from_u64(n: u64) -> Option<Token> {
        if n > i64::MAX as u64 { None } else { Some(Token(n)) }
    }

    /// The token as one number.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The numbered membership in which it was granted.
    #[must_use]
    pub const fn epoch(self) -> u32 {
        (self.0 >> Self::SEQUENCE_BITS) as u32
    }

    /// Its place within the epoch.
    #[must_use]
    pub const fn sequence(self) -> u64 {
        self.0 & Self::SEQUENCE_MAX
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
