//! How sessions end. Nothing else ends one than what stands in [`Cause`].

use lockstead_table::Ending;
use lockstead_types::Time;

use crate::{io::Record, node::Node, owners::Whose, session::Stage};

/// Why a session ends.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Cause {
    /// Its client said so.
    Goodbye,
    /// The last process that held its local connection is gone.
    Crashed,
    /// Its lease ran out.
    Expired,
    /// An operator ended it.
    Forced,
}

impl Node {
    /// The lease of a session is over.
    pub(crate) fn on_expired(&mut self, now: Time, at: u32) {
        // [SESS-10] Only the node ends a session for want of renewal, and only when its own clock has advanced the full lease
        // since it accepted the newest renewal: `pop_expired` gave it out on that ground.
        self.end_session(now, at, Cause::Expired);
    }

    pub(crate) fn on_goodbye(&mut self, now: Time, conn: lockstead_types::ConnId, at: u32) {
        self.part(conn);
        if let Some(session) = self.sessions.get_mut(at) {
            session.conn = None;
        }
        self.end_session(now, at, Cause::Goodbye);
    }

    /// Ends a session: its requests go, its locks are released, its client is told where it is connected.
    pub(crate) fn end_session(&mut self, now: Time, at: u32, cause: Cause) {
        // [CLUSTER-8] Of a member's session the directory decides.
        if self.is_member() {
            return self.propose_end(now, at, cause);
        }
        let ending = match cause {
            Cause::Goodbye => Ending::Goodbye,
            Cause::Crashed | Cause::Expired | Cause::Forced => Ending::Crash,
        };
        self.count_end(cause);
        self.drop_manies(at);
        self.leave_all_groups(now, at, ending);
        self.drop_watches(at);
        let Some(session) = self.sessions.remove(at) else { return };
        if let Some(conn) = session.conn {
            self.tell_ended(now, conn);
        }
        self.record(Record::Ended { session: session.id });
        self.owners.set(session.owner, Whose::Ended(session.id));
        #[cfg(feature = "planted")]
        if cause == Cause::Expired && lockstead_types::planted::is(lockstead_types::planted::Bug::NeverExpire) {
            return;
        }
        self.table.end_owner(now, session.owner, ending, &mut self.fx);
        self.tell_effects(now);
        self.owners.set(session.owner, Whose::Nobody);
        if session.stage == Stage::Returning {
            self.on_returned(now);
        }
    }

    pub(crate) fn count_end(&mut self, cause: Cause) {
        match cause {
            Cause::Goodbye => self.counters.sessions_goodbye += 1,
            Cause::Crashed => self.counters.sessions_crashed += 1,
            Cause::Expired => self.counters.sessions_expired += 1,
            Cause::Forced => self.counters.sessions_forced += 1,
        }
    }
}
