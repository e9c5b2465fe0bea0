//! The `fair` queue policy: a bound on how often one that waits is passed, and an order of waiting requests by priority
//! with ageing.
//!
//! Proof of the bound B: `overtaken` of one that waits rises only by a grant that passes it ([`Table::count_overtakes`]).
//! While it is below B, one more makes it B at most. Once it is B, it is due, and whatever would pass it is held back
//! ([`Table::is_held_back`], asked by every decision), so it rises no more.

use lockstead_types::{Flags, Mode, Time, space::QueuePolicy};

use crate::{Table, extents::Asker, slab::NIL, store::Ring, table::Call};

impl Table {
    /// How many grants may pass one that waits; `None` under the `vms` policy, where any number may.
    pub(crate) fn overtakes_allowed(&self, resource: u32) -> Option<u16> {
        match self.space_of(resource).space.policy {
            QueuePolicy::Vms => None,
            QueuePolicy::Fair { overtakes, .. } => Some(overtakes),
        }
    }

    /// Whether it was overtaken as often as the bound allows.
    pub(crate) fn is_due(&self, index: u32) -> bool {
        let bound = self.overtakes_allowed(self.locks[index].resource);
        matches!((bound, self.wait(index)), (Some(bound), Some(wait)) if wait.overtaken >= bound)
    }

    /// [FAIR-1] Whether a grant of `mode` to one that came at `ticket`, and holds `held`, would pass one that is due.
    pub(crate) fn is_held_back(
        &self,
        resource: u32,
        me: u32,
        asker: Option<&Asker<'_>>,
        ticket: u64,
        held: Option<Mode>,
        mode: Mode,
    ) -> bool {
        match self.queue(resource) {
            Some(queue) if queue.due > 0 => {}
            _ => return false,
        }
        let mut all = self.ring(resource, Ring::Converting).chain(self.ring(resource, Ring::Waiting));
        let concerned = |w: u32| w != me && asker.is_none_or(|asker| self.concerns(asker, w));
        all.any(|w| self.is_due(w) && concerned(w) && self.passes(resource, w, ticket, held, mode))
    }

    /// Whether a grant of `mode` passes the waiting `w`: it came later, and neither does it conflict with nothing, nor
    /// is its holder in the way of `w` already, so that `w` waits for that holder in any case ([FAIR-4]).
    pub(crate) fn passes(&self, resource: u32, w: u32, ticket: u64, held: Option<Mode>, mode: Mode) -> bool {
        let Some(wait) = self.wait(w) else { return false };
        let entry = self.space_of(resource);
        // [FAIR-4] What is no overtaking.
        let harmless = entry.null == Some(mode) && self.pool(resource).is_none();
        let in_the_way = held.is_some_and(|h| entry.space.modes.conflicts_of(wait.want).contains(h));
        wait.ticket < ticket && !harmless && !in_the_way
    }

    /// Counts a grant against all it passed.
    pub(crate) fn count_overtakes(&mut self, call: &mut Call<'_>, index: u32, ticket: u64, held: Option<Mode>) {
        let (resource, mode) = (self.locks[index].resource, self.locks[index].mode);
        let Some(bound) = self.overtakes_allowed(resource) else { return };
        let Some(queue) = self.queue(resource) else { return };
        let head = self.head(resource, Ring::Waiting);
        if queue.straight && queue.converting == 0 && self.wait(head).is_some_and(|w| w.ticket > ticket) {
            return;
        }
        for ring in [Ring::Converting, Ring::Waiting] {
            let mut w = self.head(resource, ring);
            while w != NIL {
                if w != index && self.concern(index, w) && self.passes(resource, w, ticket, held, mode) {
                    self.count_overtake(call, w, bound);
                }
                w = self.after(self.head(resource, ring), w);
            }
        }
    }

    fn count_overtake(&mut self, call: &mut Call<'_>, w: u32, bound: u16) {
        let Some(wait) = self.wait_mut(w) else { return };
        debug_assert!(wait.overtaken < bound, "one that is due was passed");
        wait.overtaken = wait.overtaken.saturating_add(1);
        if wait.overtaken == bound {
            let resource = self.locks[w].resource;
            self.queue_mut(resource).due += 1;
            // [FAIR-2] Wherever it stands.
            self.wake(w);
            // Those it holds back from now on wait for it: a new edge.
            self.suspect(call, w);
        }
    }

    /// [FAIR-3] The place in a `fair` queue: the instant it came, moved back by the priority's worth of waiting.
    pub(crate) fn rank(&self, resource: u32, now: Time, priority: i8) -> i64 {
        let ageing = match self.space_of(resource).space.policy {
            QueuePolicy::Vms => 0,
            QueuePolicy::Fair { ageing, .. } => i64::try_from(ageing.as_nanos()).unwrap_or(i64::MAX),
        };
        let came = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX);
        // [FAIR-3] Static: it never has to be sorted again.
        came.saturating_sub(ageing.saturating_mul(i64::from(priority)))
    }

    /// The lock before which a new request joins the WAITING queue, [`NIL`] for its end; and its rank there.
    pub(crate) fn place_in_line(&self, resource: u32, flags: Flags, rank: i64) -> (u32, i64) {
        let head = self.head(resource, Ring::Waiting);
        let rank_of = |l: u32| self.wait(l).map_or(i64::MIN, |w| w.rank);
        // [GRANT-7] HEADQUE: before all others.
        if flags.has(Flags::HEADQUE) && head != NIL {
            return (head, rank.min(rank_of(head).saturating_sub(1)));
        }
        if self.overtakes_allowed(resource).is_none() {
            return (NIL, rank);
        }
        let mut before = NIL;
        let mut l = self.last(head);
        while l != NIL && rank_of(l) > rank {
            before = l;
            l = self.before(head, l);
        }
        (before, rank)
    }
}
