//! I3, over everything that was ever granted.

use lockstead_types::{ModeTable, Token};

use crate::judge::{NameTruth, Row};

pub(crate) const STATEMENT: &str =
    "tokens of a resource strictly rise over conflicting grants and never repeat, whatever dies, restarts or moves";

/// A token that was never seen before.
pub(crate) fn fresh(modes: &ModeTable, truth: &NameTruth, row: &Row) -> Result<(), String> {
    let Some(mode) = row.held else { return Ok(()) };
    for (number, highest) in truth.highest.iter().enumerate() {
        let other = lockstead_types::Mode(number as u8);
        let conflict = !modes.compatible(mode, other) || !modes.compatible(other, mode);
        if conflict && *highest >= row.token && *highest != Token::NONE {
            return Err(format!("{row:?} was granted after token {highest} in mode {number}"));
        }
    }
    Ok(())
}
