//! Sessions of this home that have waited for long: the masters of their locks are told, so that those can find cycles over several
//! masters ([DEAD-14]). Whoever waits for less costs nothing here but a timer.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use lockstead_types::{
    NodeId, RequestId, Span, Time,
    chase::{PeerWait, WaitId},
    limits::SESSIONS_WITHIN,
    peer::PeerMessage,
};

use super::{
    Member,
    copies::Copy,
    forward::{Forward, What},
};
use crate::{
    authorize::{self, Decision},
    node::Node,
};

/// What is told holds for so long. It is said again while it lasts: masters change, and messages about cycles get lost with nodes.
pub(crate) const AGAIN: Span = Span::from_secs(1);
/// So many waits of a session are told of at most.
const WAITS_TOLD: usize = 1_024;

/// The sessions of this home that wait.
pub(crate) struct Stalls {
    /// When each is looked at next.
    due: BTreeSet<(Time, u32)>,
    by_session: BTreeMap<u32, Stall>,
    /// Whether any of them ever stood within another.
    nested: bool,
    /// So long a session waits before anybody is told.
    delay: Span,
    /// The longest the delay grows.
    most: Span,
}

struct Stall {
    due: Time,
    /// Whether masters were told.
    told: bool,
}

impl Stalls {
    /// `most`: the longest delay; a tenth of it is the shortest.
    pub(crate) fn new(most: Span) -> Stalls {
        let (due, by_session) = (BTreeSet::new(), BTreeMap::new());
        Stalls { due, by_session, nested: false, delay: most.scaled(1, 10), most }
    }

    pub(crate) fn next_timer(&self) -> Option<Time> {
        self.due.first().map(|(time, _)| *time)
    }

    /// Looks at a session again then, or earlier if that was meant before.
    fn schedule(&mut self, session: u32, due: Time) {
        let stall = self.by_session.entry(session).or_insert(Stall { due, told: false });
        self.due.remove(&(stall.due, session));
        stall.due = stall.due.min(due);
        self.due.insert((stall.due, session));
    }

    fn pop_due(&mut self, now: Time) -> Option<(u32, bool)> {
        let (_, session) = *self.due.first().filter(|(time, _)| *time <= now)?;
        self.due.pop_first();
        let stall = self.by_session.remove(&session)?;
        Some((session, stall.told))
    }

    /// [DEAD-16] Waits that end by themselves are no cycles: there is less hurry than was thought.
    fn was_in_vain(&mut self) {
        self.delay = self.delay.scaled(5, 4).min(self.most);
    }

    /// [DEAD-16] There are cycles.
    pub(crate) fn was_right(&mut self) {
        self.delay = self.delay.scaled(1, 2).max(self.most.scaled(1, 10));
    }
}

impl Member {
    /// What a session waits for at its masters, as one thread of control ([DEAD-4]).
    fn waits_of(&self, at: u32) -> Vec<PeerWait> {
        let all = self.forwards.map.range((at, RequestId(0))..=(at, RequestId(u64::MAX)));
        all.filter_map(|(_, forward)| self.wait_of(forward)).take(WAITS_TOLD).collect()
    }

    fn wait_of(&self, forward: &Forward) -> Option<PeerWait> {
        let (ticket, copy) = self.waiting_copy(forward)?;
        let (node, lock) = copy.place?;
        Some(PeerWait { node, wait: WaitId { lock, ticket } })
    }

    fn waiting_copy(&self, forward: &Forward) -> Option<(u64, &Copy)> {
        let ticket = forward.queued?;
        let copy = match &forward.what {
            What::Lock(_) => forward.copy,
            What::Convert { copy, .. } => Some(*copy),
            _ => None,
        };
        // [GROUP-12] A group is another thread of control, at each master for itself.
        let copy = self.copies.get(copy?).filter(|copy| !copy.alone && copy.group.is_none())?;
        Some((ticket, copy))
    }

    /// Whether a session waits at a slot whose new master has not told yet where.
    fn waits_unplaced(&self, at: u32) -> bool {
        let mut all = self.forwards.map.range((at, RequestId(0))..=(at, RequestId(u64::MAX)));
        all.any(|(_, forward)| self.waiting_copy(forward).is_some_and(|(_, copy)| copy.place.is_none()))
    }
}

impl Node {
    /// A request of a session has begun to wait at its master.
    pub(crate) fn note_stall(&mut self, now: Time, at: u32) {
        let Some(member) = &mut self.member else { return };
        let Some(session) = self.sessions.get(at) else { return };
        member.stalls.nested |= session.meta.within.is_some();
        let due = now.after(member.stalls.delay);
        member.stalls.schedule(at, due);
    }

    /// Tells the masters of those that have waited for long enough.
    pub(crate) fn look_at_stalls(&mut self, now: Time) {
        while let Some((at, told)) = self.member.as_mut().and_then(|m| m.stalls.pop_due(now)) {
            let Some(member) = &mut self.member else { return };
            let waits = member.waits_of(at);
            // Without this: a waits, and its slot moves; it is looked at before the new master has told the wait's place, is in no wait, and
            // is looked at no more: nobody ever hears that it is stuck.
            if waits.is_empty() && self.sessions.get(at).is_some() && member.waits_unplaced(at) {
                let due = now.after(member.stalls.delay);
                member.stalls.schedule(at, due);
                continue;
            }
            if waits.is_empty() || self.sessions.get(at).is_none() {
                if told {
                    member.stalls.was_in_vain();
                }
                continue;
            }
            member.stalls.schedule(at, now.after(AGAIN));
            if let Some(stall) = member.stalls.by_session.get_mut(&at) {
                stall.told = true;
            }
            let nested = member.stalls.nested;
            self.tell_stuck(now, at, &waits);
            if nested {
                self.outer_sessions(at).into_iter().for_each(|outer| {
                    let waits = self.waits_within(outer);
                    self.tell_stuck(now, outer, &waits);
                });
            }
        }
    }

    /// Tells all masters that know a session what it waits for. One that all its locks are at finds its cycles there by itself, but not
    /// those that lead through it and on over other masters.
    fn tell_stuck(&mut self, now: Time, at: u32, waits: &[PeerWait]) {
        let Some(member) = &self.member else { return };
        let Some(session) = self.sessions.get(at) else { return };
        let locks = u32::try_from(member.copies.count_of(at)).unwrap_or(u32::MAX);
        let masters: Vec<NodeId> = session.introduced.iter().map(|(node, _)| *node).collect();
        let (session, home) = (session.id, session.home);
        for master in masters {
            self.send_search(now, master, PeerMessage::Stuck { session, home, waits: waits.to_vec(), locks });
        }
    }

    /// [DEAD-13] The sessions that give up nothing before this one has ended, of those that are here.
    fn outer_sessions(&self, at: u32) -> Vec<u32> {
        let outer = |at: &u32| {
            let session = self.sessions.get(*at)?;
            let outer = self.sessions.find(session.meta.within.filter(|outer| *outer != session.id)?)?;
            let allowed = authorize::decide_within(&session.principal, &self.sessions.get(outer)?.principal);
            (allowed == Decision::Allow).then_some(outer)
        };
        core::iter::successors(outer(&at), outer).take(SESSIONS_WITHIN).take_while(|outer| *outer != at).collect()
    }

    /// What a session and those within it wait for.
    fn waits_within(&self, at: u32) -> Vec<PeerWait> {
        let Some(member) = &self.member else { return Vec::new() };
        let inner = member.stalls.by_session.keys().filter(|inner| self.outer_sessions(**inner).contains(&at));
        let all = core::iter::once(&at).chain(inner).flat_map(|session| member.waits_of(*session));
        all.take(WAITS_TOLD).collect()
    }
}
