//! I20, of claims alone: that a lock which no member granted to a session is not given to it for the asking. Who may do what
//! else is asked in one place and tested there.

use lockstead_types::{RequestId, reply::Reply};

pub(crate) const STATEMENT: &str =
    "no operation takes effect without an allow decision: a claim of what no member granted is refused";

/// A lie was answered.
pub(crate) fn answered(id: RequestId, reply: &Reply) -> Result<(), String> {
    match reply {
        Reply::Granted(grant) => Err(format!("a forged claim (number {:x}) was granted: {grant:?}", id.0)),
        _ => Ok(()),
    }
}
