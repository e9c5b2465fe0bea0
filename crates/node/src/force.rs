//! What operators may do to others: each guarded by knowledge of what is undone, and written to the audit log with a reason.

use alloc::format;

use lockstead_types::{RequestId, SessionId, SpaceId, Time, Token, name::escape, refusal::Refusal, reply::Reply};

use crate::{ending::Cause, node::Node};

impl Node {
    pub(crate) fn on_force_release(
        &mut self,
        now: Time,
        at: u32,
        id: RequestId,
        space: SpaceId,
        name: &[u8],
        token: Token,
        reason: &str,
    ) {
        let released =
            self.check_reason(reason).and_then(|()| self.table.force_release(now, space, name, token, &mut self.fx));
        match released {
            Ok(lock) => {
                let what = format!("lock {} on {} with token {token} released by force", lock.0, escape(name));
                self.audit_request(at, &what, Some(reason));
                self.answer(at, id, Reply::Released);
            }
            Err(why) => self.refuse(at, id, why),
        }
        self.tell_effects(now);
    }

    pub(crate) fn on_end_session(&mut self, now: Time, at: u32, id: RequestId, session: SessionId, reason: &str) {
        let found = self.check_reason(reason).and_then(|()| self.sessions.find(session).ok_or(Refusal::NotHeld));
        match found {
            Ok(other) => {
                self.audit_request(at, &format!("session {session} ended by force"), Some(reason));
                // First, since it may be one's own.
                self.answer(at, id, Reply::Done);
                self.end_session(now, other, Cause::Forced);
            }
            Err(why) => self.refuse(at, id, why),
        }
    }

    pub(crate) fn on_purge(&mut self, now: Time, at: u32, id: RequestId, space: SpaceId, session: Option<SessionId>) {
        if self.table.space(space).is_none() {
            return self.refuse(at, id, Refusal::NoLockspace);
        }
        let purged = self.table.purge(now, space, session, &mut self.fx);
        let of = session.map(|s| format!(" of session {s}")).unwrap_or_default();
        self.audit_request(at, &format!("{purged} orphans{of} purged in lockspace number {}", space.0), None);
        self.answer(at, id, Reply::Purged(purged));
        self.tell_effects(now);
    }

    pub(crate) fn check_reason(&self, reason: &str) -> Result<(), Refusal> {
        if reason.trim().is_empty() {
            return Err(Refusal::Invalid);
        }
        if reason.len() > self.config.limits.meta_bytes as usize {
            return Err(Refusal::TooLong);
        }
        Ok(())
    }
}
