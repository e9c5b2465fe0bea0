//! What a session sees, and how it is printed. The form is a contract: scripts compare it.

use core::fmt;

use lockstead_types::{
    Refusal, Token, name,
    reply::{Revoked, Value},
};

use crate::show::Queues;

/// One thing a session sees.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// About a lock.
    Lock {
        /// The resource.
        name: Box<[u8]>,
        /// `as=ID`, 0 where there is none.
        tag: u32,
        /// What.
        what: LockEvent,
    },
    /// A verb that is about no lock was refused.
    Refused {
        /// The lockspace, group or verb.
        word: String,
        /// Why.
        why: Refusal,
    },
    /// The session could not go to another node, and goes on where it can.
    NotMoved {
        /// Which.
        to: String,
        /// Why not, in words.
        why: String,
    },
    /// So many orphans were dropped.
    Purged(u32),
    /// The session's transaction.
    Transaction(TransactionEvent),
    /// The queues of a resource.
    Shown(Box<Queues>),
    /// The session and all it held is lost.
    SessionLost,
}

/// What became of the session's transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TransactionEvent {
    /// It has begun.
    Begun,
    /// It was committed.
    Committed,
    /// It was rolled back.
    RolledBack,
    /// What came after a savepoint was rolled back.
    RolledBackTo(String),
    /// A savepoint was set.
    Savepoint(String),
    /// The locks of a statement were released.
    StatementEnded,
    /// It was aborted, and can only be rolled back.
    Aborted,
}

impl fmt::Display for TransactionEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TransactionEvent::Begun => f.write_str("transaction begun"),
            TransactionEvent::Committed => f.write_str("transaction committed"),
            TransactionEvent::RolledBack => f.write_str("transaction rolled back"),
            TransactionEvent::RolledBackTo(name) => write!(f, "transaction rolled back to {name}"),
            TransactionEvent::Savepoint(name) => write!(f, "savepoint {name}"),
            TransactionEvent::StatementEnded => f.write_str("statement ended"),
            TransactionEvent::Aborted => f.write_str("transaction aborted"),
        }
    }
}

/// What a session sees of a lock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LockEvent {
    /// A lock or conversion was granted.
    Granted {
        /// The mode, or `permits=TAKE/OF`.
        claim: String,
        /// The fencing token.
        token: Token,
        /// The value block, where the grant read it.
        value: Option<Value>,
        /// It fell back to the null mode on the way.
        demoted: bool,
        /// The alternative mode was granted.
        alternative: bool,
    },
    /// It waits for this.
    Waiting(String),
    /// It keeps this from being granted.
    Blocking(String),
    /// It needs no lock of its own: one above it covers it.
    Covered {
        /// The name of that one.
        by: Box<[u8]>,
    },
    /// All that was held below has become part of it.
    TookIn,
    /// What is above it is not held as it must be.
    NotAnnounced {
        /// The name of that.
        above: Box<[u8]>,
        /// The mode it must be held in.
        mode: String,
    },
    /// It was released.
    Released,
    /// Its waiting was cancelled.
    Cancelled,
    /// Its request was refused.
    Refused(Refusal),
    /// Its conversion was refused, or cancelled where there is no reason, after it had fallen back to the null mode.
    Demoted {
        /// Why.
        why: Option<Refusal>,
    },
    /// The value block.
    Value(Value),
    /// It was taken away.
    Lost(Revoked),
}

impl Event {
    /// The event as it is printed behind `SESSION: `, one line except for [`Event::Shown`].
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        match self {
            Event::Lock { name, tag, what } => {
                let tag = if *tag == 0 { String::new() } else { format!(" as={tag}") };
                vec![format!("{} {what}{tag}", shown_name(name))]
            }
            Event::Refused { word, why } => vec![format!("{} refused {why}", shown_name(word.as_bytes()))],
            Event::NotMoved { to, why } => vec![format!("not moved to {to}: {why}")],
            Event::Purged(count) => vec![format!("purged {count}")],
            Event::Transaction(what) => vec![what.to_string()],
            Event::Shown(queues) => queues.lines(),
            Event::SessionLost => vec!["session lost".to_owned()],
        }
    }
}

impl fmt::Display for LockEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockEvent::Granted { claim, token, value, demoted, alternative } => {
                write!(f, "granted {claim} token={token}")?;
                if let Some(value) = value {
                    write!(f, " value={}", Shown(value))?;
                }
                f.write_str(if *demoted { " demoted" } else { "" })?;
                f.write_str(if *alternative { " alt" } else { "" })
            }
            LockEvent::Waiting(claim) => write!(f, "waiting {claim}"),
            LockEvent::Blocking(claim) => write!(f, "blocking {claim}"),
            LockEvent::Covered { by } => write!(f, "covered by {}", shown_name(by)),
            LockEvent::TookIn => f.write_str("took in what was below"),
            LockEvent::NotAnnounced { above, mode } => write!(f, "refused intent: {mode} on {}", shown_name(above)),
            LockEvent::Released => f.write_str("released"),
            LockEvent::Cancelled => f.write_str("cancelled"),
            LockEvent::Refused(why) => write!(f, "refused {why}"),
            LockEvent::Demoted { why: Some(why) } => write!(f, "refused {why} demoted"),
            LockEvent::Demoted { why: None } => f.write_str("cancelled demoted"),
            LockEvent::Value(value) => write!(f, "value {}", Shown(value)),
            LockEvent::Lost(why) => write!(f, "lost {}", revoked_word(*why)),
        }
    }
}

/// A name as it is printed: escaped, `""` where it is empty, which only a refused request can have.
fn shown_name(name: &[u8]) -> String {
    if name.is_empty() { "\"\"".to_owned() } else { name::escape(name) }
}

/// A value block as it is printed: escaped, `""` where it is empty, `invalid` behind it where it is.
pub(crate) struct Shown<'a>(pub(crate) &'a Value);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = name::escape(&self.0.bytes);
        f.write_str(if text.is_empty() { "\"\"" } else { &text })?;
        f.write_str(if self.0.invalid { " invalid" } else { "" })
    }
}

/// Why a lock was taken away, in one word.
#[must_use]
pub const fn revoked_word(why: Revoked) -> &'static str {
    match why {
        Revoked::Forced => "forced",
        Revoked::SpaceDropped => "lockspace-dropped",
        Revoked::SessionEnded => "session-ended",
        Revoked::GroupEnded => "group-ended",
        Revoked::Superseded => "superseded",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(what: LockEvent) -> String {
        Event::Lock { name: (*b"or ders").into(), tag: 0, what }.lines().join("|")
    }

    #[test]
    fn the_printed_form() {
        let value = |bytes: &[u8], invalid| Value { bytes: bytes.into(), invalid };
        let granted = |value, demoted, alternative| LockEvent::Granted {
            claim: "PR".into(),
            token: Token::new(1, 1).unwrap_or_default(),
            value,
            demoted,
            alternative,
        };
        for (what, text) in [
            (granted(None, false, false), "granted PR token=1099511627777"),
            (
                granted(Some(value(b"a b", true)), true, true),
                "granted PR token=1099511627777 value=a%20b invalid demoted alt",
            ),
            (granted(Some(value(b"", false)), false, false), "granted PR token=1099511627777 value=\"\""),
            (LockEvent::Waiting("EX".into()), "waiting EX"),
            (LockEvent::Blocking("permits=3/10".into()), "blocking permits=3/10"),
            (LockEvent::Refused(Refusal::Limit(lockstead_types::LimitName::Locks)), "refused limit:locks"),
            (LockEvent::Demoted { why: Some(Refusal::Timeout) }, "refused timeout demoted"),
            (LockEvent::Demoted { why: None }, "cancelled demoted"),
            (LockEvent::Value(value(b"v", true)), "value v invalid"),
            (LockEvent::Lost(Revoked::Forced), "lost forced"),
        ] {
            assert_eq!(line(what), format!("or%20ders {text}"));
        }
        let tagged = Event::Lock { name: (*b"x").into(), tag: 4, what: LockEvent::Released };
        assert_eq!(tagged.lines(), ["x released as=4"]);
        assert_eq!(Event::SessionLost.lines(), ["session lost"]);
    }
}
