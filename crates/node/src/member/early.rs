//! What comes too early for a new master: whoever reads or writes a value block during a recovery waits until all homes have
//! said what they know of it. A file of its own, since nothing else that is carried out during the freeze waits for them.
//!
//! Rules: [CLUSTER-21], [CLUSTER-10].

use alloc::vec::Vec;

use lockstead_types::{
    Flags, NodeId, RequestId, SessionId, Slot, Time,
    peer::{HomeGeneration, PeerOp, SlotGeneration},
    request::Stood,
};

use super::recovery::{Recoveries, Recovery};
use crate::node::Node;

/// A request to a master; one that came too early waits.
pub(crate) struct Early {
    pub(crate) from: NodeId,
    pub(crate) key: (SessionId, HomeGeneration, RequestId),
    pub(crate) place: (Slot, SlotGeneration),
    pub(crate) op: PeerOp,
    /// Where it stood, of one that its client says again.
    pub(crate) stood: Option<Stood>,
}

impl Recoveries {
    /// Whether a home has asked for something that is not done yet.
    fn has_early_of(&self, home: NodeId) -> bool {
        self.map.values().any(|r| r.early.iter().any(|early| early.from == home))
    }
}

impl Node {
    /// [CLUSTER-21] Sets aside what reads or writes a value block now, while not all homes have reported. With it whatever its
    /// session asks of the slot behind it ([CLUSTER-12]).
    ///
    /// Without this: the former master has not heard that it is that no more, and tells a reader what was there before a write that
    /// is done here; or it has not said here yet what there is, and a reader is told that nobody knows.
    pub(crate) fn set_aside(&mut self, early: Early) -> Option<Early> {
        let (slot, _) = early.place;
        let (session, ..) = early.key;
        let waits = |r: &Recovery| r.awaits_homes(slot);
        let is_behind = |r: &Recovery| r.early.iter().any(|e| e.key.0 == session && e.place.0 == slot);
        let Some(recoveries) = self.member.as_ref().map(|m| &m.recoveries.map) else { return Some(early) };
        let found = recoveries.iter().find(|(_, r)| waits(r));
        let found = found.filter(|(_, r)| is_behind(r) || self.moves_value(&early.op)).map(|(epoch, _)| *epoch);
        let recovery = found.and_then(|epoch| self.member.as_mut()?.recoveries.map.get_mut(&epoch));
        let Some(recovery) = recovery else { return Some(early) };
        recovery.early.push(early);
        None
    }

    /// Whether a request may read or write a value block during a freeze: one that waits for the thaw does so then.
    fn moves_value(&self, op: &PeerOp) -> bool {
        let with_value = |flags: Flags| flags.has(Flags::VALBLK) || flags.has(Flags::IVVALBLK);
        match op {
            PeerOp::ReadValue(_) => true,
            PeerOp::Release { flags, .. } => with_value(*flags),
            PeerOp::Convert { lock, mode, flags, .. } => with_value(*flags) && self.table.is_down(*lock, *mode),
            PeerOp::Lock(_) | PeerOp::Cancel(_) => false,
        }
    }

    /// Takes up again what was set aside, where nobody is waited for any more.
    pub(crate) fn handle_early(&mut self, now: Time) {
        let Some(member) = self.member.as_mut().filter(|m| m.acting) else { return };
        let mut due = Vec::new();
        for recovery in member.recoveries.map.values_mut() {
            let early = core::mem::take(&mut recovery.early);
            let (stay, go): (Vec<Early>, Vec<Early>) =
                early.into_iter().partition(|e| recovery.awaits_homes(e.place.0));
            recovery.early = stay;
            due.extend(go);
        }
        for early in due {
            self.on_peer_request(now, early);
        }
        self.handle_syncs(now);
    }

    /// [CLUSTER-10] Sets a home's question aside while something it had asked before is.
    pub(crate) fn set_sync_aside(&mut self, from: NodeId, ask: u64) -> bool {
        let Some(member) = &mut self.member else { return false };
        let aside = member.recoveries.has_early_of(from);
        if let (true, Some(home)) = (aside, member.state.members.get(&from)) {
            member.recoveries.syncs.push((from, home.incarnation, ask));
        }
        aside
    }

    fn handle_syncs(&mut self, now: Time) {
        let Some(member) = &mut self.member else { return };
        let syncs = core::mem::take(&mut member.recoveries.syncs);
        let (stay, go): (Vec<_>, Vec<_>) =
            syncs.into_iter().partition(|(from, ..)| member.recoveries.has_early_of(*from));
        member.recoveries.syncs = stay;
        for (from, incarnation, ask) in go {
            // One that has started anew has not asked this.
            if self.member.as_ref().is_some_and(|m| m.state.is_up(from, incarnation)) {
                self.flush(now, from, ask);
            }
        }
    }
}
