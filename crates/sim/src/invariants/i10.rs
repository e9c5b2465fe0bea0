//! I10, in the tables and over what is taken back after a failure.

use lockstead_types::{Flags, ModeTable};

use crate::judge::{GrantTruth, Row};

pub(crate) const STATEMENT: &str = "the old mode is held until the new one is granted, and after a failure the holder has one of the two with its token";

/// A lock under a token it had before.
pub(crate) fn kept(modes: &ModeTable, grant: &GrantTruth, row: &Row) -> Result<(), String> {
    // [GROUP-9] One member's conversion down may be granted before the others have said what they have of it.
    let Some(mode) = row.held.filter(|_| row.group.is_none()) else { return Ok(()) };
    // [PERSIST-5] What was not agreed on when the slot moved is undone, a conversion down as well. Nobody was told of it.
    if mode == grant.mode || modes.is_down(grant.mode, mode) || grant.undone == Some(mode) {
        Ok(())
    } else {
        Err(format!("{row:?} has the token of {:?}", grant.mode))
    }
}

/// The same lock a moment later.
pub(crate) fn step(modes: &ModeTable, before: &Row, row: &Row) -> Result<(), String> {
    // [GROUP-9] Of a group's lock another member may say more while the slot is frozen.
    let (Some(old), Some(new), None) = (before.held, row.held, row.group) else { return Ok(()) };
    // While it waits for what it wants, it has what it had.
    let Some(wanted) = row.wanted else { return Ok(()) };
    let meanwhile = modes.while_converting(old, wanted, Flags::NONE);
    if new == old || Some(new) == meanwhile { Ok(()) } else { Err(format!("{before:?} became {row:?}")) }
}
