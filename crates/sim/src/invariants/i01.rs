//! I1, in the table of each node.

use lockstead_types::ModeTable;

use crate::judge::Row;

pub(crate) const STATEMENT: &str = "at every master the modes granted on a resource are compatible with each other";

/// A lock was granted, or is held in another mode, beside the others of its table.
pub(crate) fn granted(modes: &ModeTable, rows: &[Row], row: &Row) -> Result<(), String> {
    let Some(mode) = row.held else { return Ok(()) };
    for other in rows.iter().filter(|other| other.name == row.name && other.lock != row.lock) {
        let Some(held) = other.held else { continue };
        if !modes.compatible(mode, held) || !modes.compatible(held, mode) {
            return Err(format!("{row:?} was granted beside {other:?}"));
        }
    }
    Ok(())
}
