//! I21: which values a reader may find.
//!
//! Where nothing is injected no value is invalid, however slots move, with one exception: a start of a node that was master of slots, or home of
//! sessions, and is gone without having handed them over. That happens without a fault too: a node that starts and is told of more than it
//! can follow ends and starts anew, and slots may have been moved to the first start meanwhile, on which the value blocks were that
//! their former masters gave up.

use lockstead_types::{Token, reply::Value};

use crate::judge::NameTruth;

pub(crate) const STATEMENT: &str =
    "a value block that is read under a lock is the last one written under a writing mode, or is marked invalid";

/// A write that a program asked for.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Write {
    pub(crate) value: u64,
    /// Of the lock under which it was written.
    pub(crate) token: Token,
    /// True time at which it was asked for.
    pub(crate) asked: u64,
    /// True time at which it was known to be done.
    pub(crate) done: Option<u64>,
    /// Under a lock of a group, so that another program may have written under it at the same time.
    pub(crate) shared: bool,
}

/// A value was read; whatever was done before `since` must be seen. `calm`: nothing can have made it invalid.
pub(crate) fn read(truth: &NameTruth, value: &Value, since: u64, calm: bool) -> Result<(), String> {
    if value.invalid {
        return if calm { Err("a value is invalid though nobody died".into()) } else { Ok(()) };
    }
    let last = truth.writes.iter().rposition(|w| w.done.is_some_and(|done| done < since));
    let Ok(bytes) = <[u8; 8]>::try_from(&*value.bytes) else {
        let gone = last.is_none_or(|at| truth.writes[at].asked <= truth.emptied);
        return if gone {
            Ok(())
        } else {
            Err(format!("nothing was read after {:?}", truth.writes[last.unwrap_or(0)]))
        };
    };
    let number = u64::from_be_bytes(bytes);
    let Some(found) = truth.writes.iter().position(|w| w.value == number) else {
        return Err(format!("{number} was read, which nobody wrote"));
    };
    // A later write of the same or a later grant that was done before must not be missed.
    match last {
        Some(at)
            if truth.writes[at].token > truth.writes[found].token
                || (at > found
                    && truth.writes[at].token == truth.writes[found].token
                    && comes_after(&truth.writes[at], &truth.writes[found])) =>
        {
            Err(format!("{:?} was read after {:?}", truth.writes[found], truth.writes[at]))
        }
        _ => Ok(()),
    }
}

/// Of two writes under one token, the later asked for: whether it was made later, too.
fn comes_after(write: &Write, before: &Write) -> bool {
    !write.shared || before.done.is_some_and(|done| done < write.asked)
}
