//! I18, for what can be counted from outside, and that a client which keeps to its credit is never turned away for it.

use lockstead_types::message::Rejection;

use crate::judge::Row;

pub(crate) const STATEMENT: &str =
    "every queue, buffer, table and count is bounded, and who keeps to the bounds is served";

pub(crate) fn waiters(rows: &[Row], most: u32) -> Result<(), String> {
    let mut counts = [0_u32; 16];
    for row in rows.iter().filter(|row| row.wanted.is_some()) {
        counts[usize::from(row.name)] += 1;
    }
    match counts.iter().position(|count| *count > most) {
        Some(name) => Err(format!("{} wait for resource {name}, {most} may", counts[name])),
        None => Ok(()),
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
