//! I6, by the token of what was released. A master whose slots are frozen may take back what was given up since it was reported,
//! until it has heard that the session has gone to another home, and what that claims: what counts is what it holds when it serves again.

use crate::judge::{GrantTruth, Row};

pub(crate) const STATEMENT: &str = "a release that was acknowledged never comes back";

/// A lock with a token of before is held, again.
pub(crate) fn restored(grant: &GrantTruth, row: &Row) -> Result<(), String> {
    if grant.release_acknowledged {
        Err(format!("{row:?} is held though its release was acknowledged"))
    } else {
        Ok(())
    }
}
