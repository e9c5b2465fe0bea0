//! I18, for what can be counted from outside, and that a client which keeps to its credit is never turned away for it.

use lockstead_types::message::Rejection;

use crate::judge::Row;

pub(crate) const STATEMENT: &str =
    "every queue, buffer, table and count is bounded, and who keeps to the bounds is served";

/// Somebody new waits. Those count that have waited since before this step: in one step a node may become master and take
/// back what waited elsewhere.
pub(crate) fn waiters(before: &[Row], rows: &[Row], name: u8, most: u32) -> Result<(), String> {
    let waits = |row: &&Row| row.name == name && row.wanted.is_some();
    let still = |row: &&Row| rows.iter().filter(waits).any(|now| now.lock == row.lock);
    let count = before.iter().filter(waits).filter(still).count();
    if count as u64 >= u64::from(most) {
        Err(format!("one more waits for resource {name} beside {count}, {most} may"))
    } else {
        Ok(())
    }
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
