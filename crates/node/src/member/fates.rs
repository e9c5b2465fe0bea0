//! Writes to value blocks that were under way when their slot was moved: whether they were made their former master knows, if it
//! lives, and says so ([CLUSTER-22]). A file of its own, since nothing else a former master says is listened to ([CLUSTER-6]).
//!
//! ```text
//!   sent to M1   slot moves to M2   M1 answers (made), or `Stale` (not made)   all is reported to M2
//!       |               |                          |                                   |
//!       +---------------+---- nothing about the slot is reported, for a moment --------+
//! ```
//!
//! Without this: M1 got the message, or did not; the home cannot know, so M2 has to flag the value block though nobody died.

use lockstead_types::{
    NodeId, Slot, Span, Time,
    peer::{Incarnation, SlotGeneration},
};

use super::{
    Member,
    forward::{Forward, Forwards, Key, What},
    master_up,
    report::doubtful_write,
};
use crate::node::Node;

/// So long the former master is waited for. Its answer takes a way there and back; a link that does not come back, or a member
/// that lost its authority, must not keep the slots from their new master.
const PATIENCE: Span = Span::from_millis(500);

/// A write whose fate its former master knows.
pub(crate) struct Awaited {
    pub(crate) slot: Slot,
    master: (NodeId, Incarnation),
    generation: SlotGeneration,
    until: Time,
}

impl Awaited {
    /// Whether the answer is still to come: it is neither answered nor in a queue, nor forgotten with its session.
    pub(crate) fn is_open(&self, forward: Option<&Forward>) -> bool {
        forward.is_some_and(|f| f.sent == Some(self.generation) && f.queued.is_none())
    }
}

impl Member {
    /// [CLUSTER-22] Whether a write's former master is to be heard before anything about its slot is reported.
    pub(crate) fn awaits_fate(&mut self, now: Time, key: Key, former: Option<(NodeId, Incarnation)>) -> bool {
        let Some(forward) = self.forwards.map.get(&key) else { return false };
        let (slot, Some(generation)) = (forward.slot, forward.sent) else { return false };
        let under_way = forward.queued.is_none() && doubtful_write(forward, &self.copies).is_some();
        if !under_way || master_up(&self.state, slot).is_none() {
            self.reports.awaited.remove(&key);
            return false;
        }
        // The slot may go on while its first master is waited for.
        let known = self.reports.awaited.get(&key).filter(|a| a.generation == generation);
        let (master, until) = known.map_or((former, now.after(PATIENCE)), |a| (Some(a.master), a.until));
        match master.filter(|(node, start)| self.state.is_up(*node, *start)) {
            Some(master) => {
                self.reports.awaited.insert(key, Awaited { slot, master, generation, until });
                true
            }
            None => {
                self.reports.awaited.remove(&key);
                false
            }
        }
    }

    /// When the next of them is waited for no more.
    pub(crate) fn fates_due(&self) -> Option<Time> {
        self.reports.awaited.values().map(|awaited| awaited.until).min()
    }

    /// The former master did not make it: the lock is as it was before it was asked.
    ///
    /// Where an earlier master was asked before that one, and nobody knows whether it made it, the lock went on as lowered, and stays so.
    /// Without this: M1 makes it and is not heard; M2 is told of the lock as lowered, and gives the slot up before it has answered; M3 would be told
    /// of it as it was at first, which M1 or M2 may have granted others since.
    pub(crate) fn undo_unmade(&mut self, key: Key) {
        let (Some(_), Some(forward)) = (self.reports.awaited.remove(&key), self.forwards.map.get_mut(&key)) else {
            return;
        };
        if let What::Convert { copy, before, lowered: false, .. } = &mut forward.what
            && let (Some(copy), Some(before)) = (self.copies.get_mut(*copy), before.take())
        {
            copy.held = Some(before);
        }
    }
}

impl Node {
    /// Goes on without those that are waited for no more.
    pub(crate) fn settle_fates(&mut self, now: Time) {
        let Some(member) = &mut self.member else { return };
        if member.reports.awaited.is_empty() {
            return;
        }
        let forwards: &Forwards = &member.forwards;
        let over = |key: &Key, awaited: &Awaited| now >= awaited.until || !awaited.is_open(forwards.map.get(key));
        let over = member.reports.awaited.iter().filter(|(key, awaited)| over(key, awaited)).map(|(key, _)| *key);
        let over: alloc::vec::Vec<Key> = over.collect();
        over.into_iter().for_each(|key| self.give_up_fate(now, key));
    }

    /// The same of a session that goes to another home.
    pub(crate) fn give_up_fates(&mut self, now: Time, session: u32) {
        let Some(member) = &self.member else { return };
        let its = member.reports.awaited.keys().filter(|(at, _)| *at == session).copied();
        let its: alloc::vec::Vec<Key> = its.collect();
        its.into_iter().for_each(|key| self.give_up_fate(now, key));
    }

    /// Whether it was made nobody will say, if it has no answer.
    fn give_up_fate(&mut self, now: Time, key: Key) {
        let Some(member) = &mut self.member else { return };
        let Some(awaited) = member.reports.awaited.remove(&key) else { return };
        let unanswered = member.forwards.map.get(&key).is_some_and(|f| f.sent == Some(awaited.generation));
        if unanswered && let Some((slot, doubtful)) = self.settle_forward(now, key) {
            self.report_too(slot, doubtful);
        }
    }
}
