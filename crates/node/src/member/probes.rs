//! The search for cycles over several masters: a probe goes along the waits, from master to master, until it comes to locks of the
//! session it began with ([DEAD-14]).
//!
//! ```text
//!   home of s: s has waited for long            master of a lock of s: who waits for it?        master of what s waits for
//!      Stuck { s waits at M1 } ------------->   somebody does: Probe { s, at M1 } ----------->  edges there lead to t, which
//!                                                                                               is stuck, too: Probe { s, at M3 }
//!   ... until the edges at a master lead to s again: Cycle, to the master of one of its edges (`cycles.rs`)
//! ```
//!
//! Every session of a cycle is stuck, so what comes last, of all that their homes say, finds all the others said already: a cycle is
//! found whichever that is. Who holds nothing that others wait for sends no probe, be there ever so many that wait for one lock.

use alloc::{
    collections::{BTreeSet, VecDeque},
    vec::Vec,
};

use lockstead_table::OwnerId;
use lockstead_types::{
    LockId, NodeId, SessionId, Span, Time,
    chase::{EdgeId, PeerEdge, PeerWait, WaitId},
    peer::{HomeGeneration, PeerMessage},
};

use super::{cycles::chief, stuck::AGAIN};
use crate::{node::Node, owners::Whose};

/// A cycle of more edges is not found.
pub(crate) const PATH_MAX: usize = 1_024;
/// Probes are known again for so long; by then they have arrived or are lost.
const KNOWN: Span = Span::from_secs(1);
/// So many are known again.
const KNOWN_MAX: usize = 100_000;

/// A guest that has waited for long, as its home said last.
pub(crate) struct Stuck {
    pub(crate) waits: Vec<PeerWait>,
    pub(crate) locks: u32,
    /// Then it holds no more, unless it was said again.
    until: Time,
}

/// Probes that came by.
#[derive(Default)]
pub(crate) struct Probes {
    /// The newest that began here.
    newest: u64,
    known: BTreeSet<Known>,
    by_age: VecDeque<(Time, Known)>,
}

/// Of one probe one way to each wait is enough.
type Known = (SessionId, NodeId, u64, LockId, u64);

impl Probes {
    /// Whether a probe comes to a wait for the first time.
    fn is_new(&mut self, now: Time, known: Known) -> bool {
        while self.by_age.front().is_some_and(|(at, _)| now.since(*at) > KNOWN || self.by_age.len() >= KNOWN_MAX) {
            if let Some((_, old)) = self.by_age.pop_front() {
                self.known.remove(&old);
            }
        }
        let new = self.known.insert(known);
        if new {
            self.by_age.push_back((now, known));
        }
        new
    }
}

impl Node {
    /// A session has waited for long: does anybody wait for it here?
    pub(crate) fn on_stuck(
        &mut self,
        now: Time,
        (session, home): (SessionId, HomeGeneration),
        waits: Vec<PeerWait>,
        locks: u32,
    ) {
        let Some(at) = self.guest_of(session, home) else { return };
        let Some(member) = &mut self.member else { return };
        let Some(guest) = member.guests.get_mut(at) else { return };
        // Twice as long as it takes to be said again, and some.
        let until = now.after(AGAIN.scaled(5, 2));
        let owner = guest.owner;
        guest.stuck = Some(Stuck { waits: waits.clone(), locks, until });
        // [DEAD-14] Who holds nothing here that others wait for closes no cycle through this master.
        if !self.table.is_waited_for(owner) {
            return;
        }
        let Some(member) = &mut self.member else { return };
        member.probes.newest += 1;
        let (by, number) = (member.me, member.probes.newest);
        // Waits at this master, too: one between two locks here may be the last of a cycle that leads on over other masters.
        //
        // Without this: a, who holds here, waits elsewhere for b, and b waits here for c; then c begins to wait here for a. The homes of a and
        // b have said so already, and the cycle is found when they say so again.
        for PeerWait { node, wait } in waits {
            self.send_probe(now, node, PeerMessage::Probe { origin: session, by, number, wait, path: Vec::new() });
        }
    }

    /// [DEAD-14] Waits here that were in a cycle which is over are looked at once more, each as if its session had just been said to be
    /// stuck: of what they are in besides, probes may have found nothing but that cycle.
    ///
    /// Without this: a waits for b, and b for c and for d, each of which waits for a; a probe goes one way to each, and finds the cycle
    /// with c; c pays, and a, b and d wait for each other until somebody says again that it is stuck.
    ///
    /// A cycle that was passed over goes another way from some wait of the one that is over, so where there is one way alone nothing is
    /// looked for; but from a wait whose way of before is gone itself, be it the only one.
    ///
    /// Without this: a waits behind b, and b for c, which waits for a and for d, which waits for b; b pays for one cycle, and a waits
    /// for c from then on, by another edge than the one the probe went along.
    pub(crate) fn search_again(&mut self, now: Time, waits: BTreeSet<WaitId>, turned: &BTreeSet<WaitId>) {
        for wait in waits {
            // What stands alone is a thread of its own, and in no cycle over several masters.
            let guest = self.table.waiting_thread(wait).and_then(|owner| self.guest_owning(owner));
            let Some(origin) = guest.map(|guest| guest.session) else { continue };
            if !turned.contains(&wait) && !self.is_forked(now, wait, origin) {
                continue;
            }
            let Some(member) = &mut self.member else { return };
            member.probes.newest += 1;
            let (by, number) = (member.me, member.probes.newest);
            self.on_probe(now, (origin, by, number), wait, &[]);
        }
    }

    /// Whether more than one way may lead on from a wait at this master.
    fn is_forked(&self, now: Time, wait: WaitId, origin: SessionId) -> bool {
        let chase = self.table.chase(wait, &|owner| self.is_sought(now, owner, origin));
        let waits =
            |owner| self.guest_owning(owner).and_then(|guest| guest.stuck.as_ref()).map_or(0, |s| s.waits.len());
        chase.forked || chase.reached.iter().any(|(owner, _)| waits(*owner) > 1)
    }

    fn send_probe(&mut self, now: Time, to: NodeId, probe: PeerMessage) {
        #[cfg(feature = "planted")]
        if lockstead_types::planted::is(lockstead_types::planted::Bug::ProbeLost) {
            return;
        }
        self.send_search(now, to, probe);
    }

    /// Sends one of the messages by which cycles are found and broken.
    pub(crate) fn send_search(&mut self, now: Time, to: NodeId, message: PeerMessage) {
        self.counters.probes += u64::from(to != self.config.node);
        self.send_peer(now, to, message);
    }

    /// Goes on from a wait at this master.
    pub(crate) fn on_probe(
        &mut self,
        now: Time,
        (origin, by, number): (SessionId, NodeId, u64),
        wait: WaitId,
        path: &[PeerEdge],
    ) {
        let Some(member) = &mut self.member else { return };
        let me = member.me;
        if !member.probes.is_new(now, (origin, by, number, wait.lock, wait.ticket)) {
            return;
        }
        for (owner, edges) in self.table.chase(wait, &|owner| self.is_sought(now, owner, origin)).reached {
            let here = |edge: &EdgeId| PeerEdge { node: me, edge: *edge };
            let path: Vec<PeerEdge> = path.iter().copied().chain(edges.iter().map(here)).collect();
            let Some(guest) = self.guest_owning(owner).filter(|_| path.len() <= PATH_MAX) else { continue };
            if guest.session == origin {
                self.found_cycle(now, path);
                continue;
            }
            let waits = guest.stuck.as_ref().map(|stuck| stuck.waits.clone()).unwrap_or_default();
            for PeerWait { node, wait } in waits.into_iter().filter(|wait| wait.node != me) {
                self.send_probe(now, node, PeerMessage::Probe { origin, by, number, wait, path: path.clone() });
            }
        }
    }

    /// Whether an owner is the one a probe began with, or one through whom it may go on elsewhere.
    fn is_sought(&self, now: Time, owner: OwnerId, origin: SessionId) -> bool {
        self.guest_owning(owner)
            .is_some_and(|guest| guest.session == origin || guest.stuck.as_ref().is_some_and(|stuck| now < stuck.until))
    }

    pub(crate) fn guest_owning(&self, owner: OwnerId) -> Option<&super::guests::Guest> {
        match self.owners.get(owner) {
            Whose::Guest(at) => self.member.as_ref()?.guests.get(at),
            _ => None,
        }
    }

    /// A cycle is found from several sides, and broken at one place.
    fn found_cycle(&mut self, now: Time, edges: Vec<PeerEdge>) {
        // One at this master alone was broken when it came to be.
        if edges.windows(2).all(|two| matches!(two, [a, b] if a.node == b.node)) {
            return;
        }
        if let Some(chief) = chief(&edges) {
            self.send_search(now, chief.node, PeerMessage::Cycle { edges });
        }
    }
}
