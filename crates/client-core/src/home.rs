//! Which home the session has, how it comes to another one, and what it means to be turned away: [HOME-1] and on.

use lockstead_types::{
    Time,
    message::{Attached, Rejection},
};

use crate::{
    lease::Granted,
    session::{Ending, Event, Phase, Session},
};

/// What is known of the session's home.
#[derive(Default)]
pub(crate) struct Home {
    /// The newest number heard; `None` before the first attach.
    number: Option<u32>,
    /// Attaches whose answers were not waited for: a node may get to them at any time.
    abandoned: u32,
}

/// How an attach came out.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Entry {
    /// The home is the one of before.
    Same,
    /// It is another one, or the same node after a restart: it knows no lock of the session.
    New,
}

impl Home {
    pub(crate) fn number(&self) -> Option<u32> {
        self.number
    }

    /// Takes the home that an attach was answered with; `None` where it is none of the session's any more.
    pub(crate) fn enter(&mut self, attached: &Attached) -> Option<Entry> {
        // [HOME-2] The session was at N1, attached at N2, which claims all; the connection breaks, and N1 has not heard of it:
        // it goes on with grants that N2's masters have given up. So an older home is refused, and so is a newer one that
        // does not ask for claims.
        match self.number {
            Some(known) if attached.home < known || (attached.home > known && !attached.reclaim) => None,
            Some(known) if attached.home == known => Some(Entry::Same),
            _ => {
                self.number = Some(attached.home);
                Some(Entry::New)
            }
        }
    }

    pub(crate) fn abandon(&mut self) {
        self.abandoned = self.abandoned.saturating_add(1);
    }

    /// Whether an attach of our own may be what took the session away from this connection. Each explains that once.
    fn explain(&mut self) -> bool {
        let may = self.abandoned > 0;
        self.abandoned = self.abandoned.saturating_sub(1);
        may
    }
}

impl Session {
    /// Goes to another node: drops the connection, not the session, and connects again at once. Whoever drives it chooses the
    /// endpoint, and gives up an attempt that is under way. `false`, and nothing is done, where the session is a local one, which
    /// its node's socket carries ([SESS-7]), or is over.
    pub fn move_on(&mut self, now: Time) -> bool {
        self.expire(now);
        let local = self.node.as_ref().is_some_and(|n| n.local);
        match self.phase {
            Phase::Leaving | Phase::Over(_) => return false,
            _ if local || self.is_leaving() => return false,
            Phase::Connecting => return true,
            Phase::Waiting { .. } => {}
            Phase::Greeting { .. } | Phase::Opening { .. } | Phase::Returning(_) | Phase::Live(_) => {
                self.note_abandoned();
                self.forget_returning();
                self.events.push_back(Event::Disconnect);
            }
        }
        // Nothing failed: there is nothing to wait out.
        self.tries = 0;
        self.phase = Phase::Connecting;
        self.events.push_back(Event::Connect);
        self.tell_lease(now);
        true
    }

    pub(crate) fn on_attached(&mut self, now: Time, attached: &Attached) {
        let Phase::Opening { sent } = self.phase else { return };
        let Some(entry) = self.home.enter(attached) else { return self.on_nonsense(now) };
        if self.lease.is_none() {
            // The open before this one had arrived, its answer had not.
            self.events.push_back(Event::Opened);
            self.lease = Some(Granted::new(attached.ttl, sent, self.clock()));
        }
        self.tries = 0;
        if attached.reclaim {
            self.start_returning(now, attached.ttl, sent, entry);
        } else {
            self.renew_lease(attached.ttl, sent);
            self.requests.resend_after(attached.seen);
            self.go_live(sent);
            self.on_watches_interrupted();
        }
    }

    pub(crate) fn on_rejected(&mut self, now: Time, why: Rejection) {
        self.events.push_back(Event::Rejected(why));
        match why {
            // [HOME-4] A node that was slow came to an attach of which the client had given up waiting for the answer.
            Rejection::Superseded if self.home.explain() => self.leave(now),
            // Another process acts under this session's id (a copied virtual machine, a fork): not ours any more.
            Rejection::Superseded => self.end(now, Ending::Ended),
            // Where nothing is held, to try again is no use to anybody.
            Rejection::Version | Rejection::Denied | Rejection::Protocol | Rejection::FrameTooLong
                if self.lease.is_none() =>
            {
                self.end(now, Ending::Rejected(why));
            }
            // [HOME-5] The node closes the connection, and keeps the session, also a local one. Another node may not turn it away.
            _ => {
                // [HOME-4] It may have asked the others for the session by then.
                self.note_abandoned();
                self.leave(now);
            }
        }
    }

    fn leave(&mut self, now: Time) {
        self.events.push_back(Event::Disconnect);
        self.retry(now);
    }

    /// An attach without an answer may still have its effect.
    pub(crate) fn note_abandoned(&mut self) {
        if matches!(self.phase, Phase::Opening { .. }) {
            self.home.abandon();
        }
    }
}
