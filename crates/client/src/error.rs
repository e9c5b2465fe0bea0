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
    /// No endpoint could be reached, or none answered in time, or all turned this client away. Is the service running, and is
    /// the address right?
    Connect {
        /// Each endpoint, and what its last try came to; the one that was tried last at the end.
        tried: Vec<Tried>,
    },
    /// The node answered and turned this client away.
    Rejected(Rejection),
    /// The node said something the protocol does not allow. A defect there or here; the connection was cut.
    Protocol(String),
    /// The caller's mistake: an endpoint, mode or name that makes no sense.
    Config(String),
}

/// An endpoint, and why it was of no use.
#[derive(Debug)]
pub struct Tried {
    /// The endpoint, as written.
    pub endpoint: String,
    /// What its last try came to.
    pub why: Trouble,
}

/// Why an endpoint was of no use.
#[derive(Debug)]
#[non_exhaustive]
pub enum Trouble {
    /// It could not be reached, or the connection broke.
    Io(io::Error),
    /// The node there turned this client away.
    Rejected(Rejection),
    /// It said nothing in time, or nothing that makes sense.
    NoAnswer,
    /// There was no time left for it.
    NotTried,
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.endpoint, self.why)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Io(e) => e.fmt(f),
            Trouble::Rejected(why) => write!(f, "turned away: {}", why.text()),
            Trouble::NoAnswer => f.write_str("no answer in time"),
            Trouble::NotTried => f.write_str("not tried"),
        }
    }
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
            Error::Connect { tried } => {
                f.write_str("cannot reach ")?;
                for (at, tried) in tried.iter().enumerate() {
                    write!(f, "{}{tried}", if at == 0 { "" } else { "; " })?;
                }
                Ok(())
            }
            Error::Rejected(why) => write!(f, "turned away by the node: {}", why.text()),
            Error::Protocol(what) => write!(f, "protocol broken: {what}"),
            Error::Config(what) => write!(f, "bad configuration: {what}"),
        }
    }
}

impl core::error::Error for Error {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Error::Connect { tried } => tried.iter().rev().find_map(|tried| match &tried.why {
                Trouble::Io(e) => Some(e as &(dyn core::error::Error + 'static)),
                _ => None,
            }),
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
