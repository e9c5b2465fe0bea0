//! I23, after everything a session is told.

use lockstead_client_core::{Lease, Session};
use lockstead_types::Time;

pub(crate) const STATEMENT: &str =
    "after its own deadline a client's library says that nothing is held, and lets no guarded call start";

pub(crate) fn told(session: &Session, now: Time) -> Result<(), String> {
    let passed = session.deadline().is_some_and(|deadline| now >= deadline);
    if passed && session.lease(now) != Lease::Lost {
        return Err("the deadline has passed, and the session says that it holds".into());
    }
    Ok(())
}
