//! What can go wrong, told apart by who is wrong and what to do.

use core::fmt;
use std::io;

use lockstead_types::{Refusal, message::Rejection, reply::Revoked};

/// Why a call did not succeed.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The service said no. An expected answer: `would-wait` and `timeout` mean that somebody else has the lock,
    /// `deadlock` that this request was chosen as the victim (release what you hold, and try again).
    Refused(Refusal),
    /// The lock or its session is lost. Stop guarded work at once; connect again for a new session.
    Lost(Lost),
    /// No endpoint could be reached, or none answered in time. Is the service running, and is the address right?
    Connect {
        /// The endpoints that were tried.
        endpoints: String,
        /// What the last try failed with.
        source: io::Error,
    },
    /// The node answered and turned this client away.
    Rejected(Rejection),
    /// The node said something the protocol does not allow. A defect there or here; the connection was cut.
    Protocol(String),
    /// The caller's mistake: an endpoint, mode or name that makes no sense.
    Config(String),
}

/// A lock or session that is no longer held, and why.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Lost {
    /// The lease was not renewed before the client's own deadline.
    Deadline,
    /// The node does not know the session: its lease ran out there, or an operator ended it.
    Ended,
    /// This lock alone was taken away.
    Revoked(Revoked),
    /// The client was closed, or the lock released.
    Closed,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Lost::Deadline => "lost: the lease was not renewed in time",
            Lost::Ended => "lost: the node ended the session",
            Lost::Revoked(Revoked::Forced) => "lost: released by an operator",
            Lost::Revoked(Revoked::SpaceDropped) => "lost: its lockspace was dropped",
            Lost::Revoked(Revoked::SessionEnded) => "lost: its session was ended",
            Lost::Revoked(Revoked::GroupEnded) => "lost: its group ended",
            Lost::Revoked(Revoked::Superseded) => "lost: a newer grant conflicted after a restart",
            Lost::Closed => "lost: the client was closed",
        })
    }
}

impl core::error::Error for Lost {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Refused(why) => write!(f, "refused: {why}"),
            Error::Lost(why) => why.fmt(f),
            Error::Connect { endpoints, source } => write!(f, "cannot reach {endpoints}: {source}"),
            Error::Rejected(why) => write!(f, "turned away by the node: {}", why.text()),
            Error::Protocol(what) => write!(f, "protocol broken: {what}"),
            Error::Config(what) => write!(f, "bad configuration: {what}"),
        }
    }
}

impl core::error::Error for Error {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Error::Connect { source, .. } => Some(source),
            Error::Lost(why) => Some(why),
            Error::Refused(why) => Some(why),
            Error::Rejected(_) | Error::Protocol(_) | Error::Config(_) => None,
        }
    }
}

impl Error {
    /// The refusal, where the service said no.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Error::Refused(why) => Some(*why),
            _ => None,
        }
    }
}

impl From<Refusal> for Error {
    fn from(why: Refusal) -> Error {
        Error::Refused(why)
    }
}

impl From<Lost> for Error {
    fn from(why: Lost) -> Error {
        Error::Lost(why)
    }
}
