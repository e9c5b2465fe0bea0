//! I4, by the true order of grants: the gate knows tokens alone, and must come to the same.

use lockstead_types::{Mode, ModeTable};

use crate::{judge::Truth, resource::Operation};

pub(crate) const STATEMENT: &str =
    "a resource that checks tokens never applies an operation after one of a later conflicting grant";

/// An operation was applied.
pub(crate) fn applied(truth: &mut Truth, modes: &ModeTable, operation: Operation) -> Result<(), String> {
    let name = &mut truth.names[usize::from(operation.name)];
    let Some(grant) = name.tokens.get(&operation.token) else {
        return Err(format!("{operation:?} carries a token that was never granted"));
    };
    let order = grant.order;
    for (number, last) in name.applied.iter().enumerate() {
        let conflict = !modes.compatible(operation.mode, Mode(number as u8))
            || !modes.compatible(Mode(number as u8), operation.mode);
        if conflict && *last > order {
            return Err(format!("stale: {operation:?}, granted as number {order}, after one granted as number {last}"));
        }
    }
    let place = &mut name.applied[usize::from(operation.mode.0)];
    *place = (*place).max(order);
    Ok(())
}
