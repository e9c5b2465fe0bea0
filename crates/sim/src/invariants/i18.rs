//! I18, for what can be counted from outside, and that a client which keeps to its credit is never turned away for it.

use lockstead_types::message::Rejection;

use crate::judge::Row;

pub(crate) const STATEMENT: &str =
    "every queue, buffer, table and count is bounded, and who keeps to the bounds is served";

/// Somebody new waits.
pub(crate) fn waiters(rows: &[Row], name: u8, most: u32) -> Result<(), String> {
    let count = rows.iter().filter(|row| row.name == name && row.wanted.is_some()).count();
    if count as u64 > u64::from(most) { Err(format!("{count} wait for resource {name}, {most} may")) } else { Ok(()) }
}

pub(crate) fn rejected(why: Rejection) -> Result<(), String> {
    match why {
        Rejection::Credit
        | Rejection::Protocol
        | Rejection::FrameTooLong
        | Rejection::Version
        | Rejection::Denied
        | Rejection::Full => Err(format!("a client that keeps the protocol was turned away: {}", why.text())),
        _ => Ok(()),
    }
}
