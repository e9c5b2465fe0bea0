//! What a new master does before it decides for the slots it got: it takes back what is held there and grants nothing new
//! until everybody who could hold something has said so or has ended.
//!
//! ```text
//!   epoch applied                 all homes reported, all homeless sessions claimed or ended
//!        |                                             |
//!   FROZEN: queues accept, reports restore    --->   THAWED: queues are served
//! ```
//!
//! Rules: [CLUSTER-7].

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use lockstead_table::Claimant;
use lockstead_types::{
    LockId, NodeId, RequestId, SessionId, Slot, SlotSet, SpaceId, Time,
    peer::{Fates, HomeGeneration, Incarnation, PeerMessage, PeerOp, SlotGeneration, ValueReport},
    refusal::Refusal,
    rows::{LockReport, LockRows},
};

use super::Member;
use crate::node::Node;

/// All recoveries of this node, by the epoch in which each began.
pub(crate) struct Recoveries {
    map: BTreeMap<u32, Recovery>,
}

pub(crate) struct Recovery {
    slots: SlotSet,
    /// Members that have not reported; one that starts anew is another one.
    homes: BTreeSet<(NodeId, Incarnation)>,
    /// Sessions that may have locks nobody has reported: their home is gone, or they have not claimed all at a new one.
    sessions: BTreeSet<SessionId>,
    /// Who decided for each slot before.
    former: BTreeMap<Slot, (NodeId, Incarnation)>,
    /// Slots whose former master has reported, and so every value block there is.
    complete: SlotSet,
    /// Value blocks that may have been written since their last known value.
    doubtful: Vec<(SpaceId, Box<[u8]>)>,
    /// Writes to value blocks, with what the same sessions asked behind them, that wait for the slot's former master.
    early: Vec<Early>,
    began: Time,
}

/// A request that came too early.
pub(crate) struct Early {
    pub(crate) from: NodeId,
    pub(crate) key: (SessionId, HomeGeneration, RequestId),
    pub(crate) place: (Slot, SlotGeneration),
    pub(crate) op: PeerOp,
}

impl Recovery {
    /// Whether the former master of a slot lives and has not given it up yet, as far as this node has heard.
    fn awaits_former(&self, slot: Slot) -> bool {
        self.slots.has(slot) && self.former.get(&slot).is_some_and(|former| self.homes.contains(former))
    }
}

impl Recoveries {
    pub(crate) fn new() -> Recoveries {
        Recoveries { map: BTreeMap::new() }
    }

    /// Slots that wait.
    pub(crate) fn slots(&self) -> SlotSet {
        self.map.values().fold(SlotSet::EMPTY, |mut all, r| {
            all.insert_all(&r.slots);
            all
        })
    }

    /// Since when the oldest has waited.
    pub(crate) fn since(&self) -> Option<Time> {
        self.map.values().map(|r| r.began).min()
    }
}

impl Member {
    /// Whether a session is still to say that it has claimed all at the newest home known of it.
    fn must_claim(&self, session: SessionId) -> bool {
        let Some(entry) = self.state.sessions.get(&session) else { return false };
        let guest = self.guests.find(session).and_then(|at| self.guests.get(at));
        guest.is_none_or(|g| !g.has_claimed() || g.generation < entry.generation)
    }
}

impl Node {
    /// This node is the new master of `slots`.
    pub(crate) fn begin_recovery(&mut self, now: Time, slots: SlotSet, moved: &[(Slot, NodeId, Incarnation)]) {
        let Some(member) = &mut self.member else { return };
        if slots.is_empty() {
            return;
        }
        // [CLUSTER-7] Nothing new before everybody has reported: s holds x, its home is slow to report; another is granted x.
        #[cfg(feature = "planted")]
        let slots = if lockstead_types::planted::is(lockstead_types::planted::Bug::InheritedUnfrozen) {
            SlotSet::EMPTY
        } else {
            slots
        };
        self.table.freeze_slots(&slots);
        let homes = member.state.up().collect();
        let sessions = member.state.homeless().map(|(id, _)| id).collect();
        #[cfg(feature = "planted")]
        let sessions = if lockstead_types::planted::is(lockstead_types::planted::Bug::HomelessForgotten) {
            BTreeSet::new()
        } else {
            sessions
        };
        let former = moved.iter().filter(|(slot, ..)| slots.has(*slot)).map(|(s, node, i)| (*s, (*node, *i))).collect();
        let (complete, doubtful) = (SlotSet::EMPTY, Vec::new());
        let early = Vec::new();
        let recovery = Recovery { slots, homes, sessions, former, complete, doubtful, early, began: now };
        let taken = recovery.slots.clone();
        member.recoveries.map.insert(member.state.epoch, recovery);
        self.counters.recoveries += 1;
        self.restore_kept(&taken);
    }

    /// The epoch changed: slots may have gone on, members may have died before they reported.
    pub(crate) fn revise_recoveries(&mut self, now: Time, lost: &SlotSet) {
        let Some(member) = &mut self.member else { return };
        let state = &member.state;
        let up: BTreeSet<(NodeId, Incarnation)> = state.up().collect();
        let homeless: Vec<SessionId> = state.homeless().map(|(id, _)| id).collect();
        for recovery in member.recoveries.map.values_mut() {
            recovery.slots.remove_all(lost);
            let silent = recovery.homes.iter().any(|home| !up.contains(home));
            recovery.homes.retain(|home| up.contains(home));
            // [CLUSTER-7] What a home that died did not report, its sessions must.
            #[cfg(feature = "planted")]
            let silent = silent && !lockstead_types::planted::is(lockstead_types::planted::Bug::SilentHomeForgotten);
            if silent {
                recovery.sessions.extend(&homeless);
            }
        }
        self.handle_early(now);
        self.try_thaw(now);
    }

    /// A home says what its sessions have.
    pub(crate) fn on_report(
        &mut self,
        now: Time,
        from: NodeId,
        epoch: u32,
        rows: &LockRows,
        values: Vec<ValueReport>,
        returning: &[SessionId],
    ) {
        let Some(member) = &mut self.member else { return };
        member.worked += rows.len() + values.len() + returning.len();
        // [CLUSTER-7] One that has claimed all at a newer home meanwhile will not say so again: nobody would ever end the wait for it.
        let waited: Vec<SessionId> = returning.iter().filter(|s| member.must_claim(**s)).copied().collect();
        let recovery = member.recoveries.map.get_mut(&epoch);
        let slots = recovery.map(|recovery| {
            recovery.sessions.extend(waited);
            recovery.slots.clone()
        });
        let mut fates = Vec::new();
        for row in rows.iter() {
            let restored = slots.as_ref().and_then(|slots| self.restore_row(now, from, (epoch, slots), &row));
            add_fate(&mut fates, restored.filter(|_| !row.orphan));
        }
        for value in values {
            if self.recovering(epoch, self.slot_of(value.space, &value.name)) {
                self.restore_value_report(from, epoch, value);
            }
        }
        // First what the locks are called here: what their home is told of one it could not place it would not believe.
        if !fates.is_empty() {
            self.send_peer(now, from, PeerMessage::Restored { epoch, fates });
        }
        self.tell_effects(now);
    }

    /// Takes one lock back; `None` where it is not this recovery's.
    fn restore_row(
        &mut self,
        now: Time,
        from: NodeId,
        (epoch, slots): (u32, &SlotSet),
        row: &LockReport<'_>,
    ) -> Option<Result<LockId, Refusal>> {
        let slot = self.slot_of(row.space, row.name).filter(|slot| slots.has(*slot))?;
        self.counters.locks_recovered += 1;
        if row.orphan {
            return Some(self.table.restore(now, Claimant::Orphan(row.session), row, 0, &mut self.fx));
        }
        let member = self.member.as_mut()?;
        let at = member.guests.find(row.session?)?;
        let guest = member.guests.get(at)?;
        if guest.home != from {
            // Its session has gone on to another home since, and claims there what it has. Until it has, it must be waited for: this
            // node may not have applied yet that it moved, and then nobody else says so.
            if let (false, Some(session)) = (guest.has_claimed(), row.session) {
                member.recoveries.map.get_mut(&epoch)?.sessions.insert(session);
            }
            return None;
        }
        let owner = guest.owner;
        let origin = row.wanted.as_ref().map_or(0, |wanted| wanted.id.0);
        let restored = self.table.restore(now, Claimant::Owner(owner), row, origin, &mut self.fx);
        if let (Ok(lock), Some(wanted)) = (&restored, &row.wanted) {
            member.guests.get_mut(at)?.waits.insert(wanted.id, (*lock, slot));
        }
        Some(restored)
    }

    /// A value block as its former master knows it, or one that a home has asked somebody to write who never said whether it was.
    fn restore_value_report(&mut self, from: NodeId, epoch: u32, report: ValueReport) {
        let ValueReport { space, name, value, written } = report;
        if written {
            self.table.restore_value(space, &name, &value, false);
            let recovery = self.member.as_mut().and_then(|m| m.recoveries.map.get_mut(&epoch));
            if let Some(recovery) = recovery {
                recovery.doubtful.push((space, name));
            }
            return;
        }
        let slot = self.slot_of(space, &name);
        let recovery = self.member.as_ref().and_then(|m| m.recoveries.map.get(&epoch));
        let former = slot.and_then(|slot| recovery?.former.get(&slot)).is_some_and(|(node, _)| *node == from);
        self.table.restore_value(space, &name, &value, former);
    }

    /// A home has reported all.
    pub(crate) fn on_report_done(&mut self, now: Time, from: NodeId, epoch: u32, unsettled: &[Slot]) {
        let Some(member) = &mut self.member else { return };
        let Some(incarnation) = member.state.members.get(&from).map(|m| m.incarnation) else { return };
        if let Some(recovery) = member.recoveries.map.get_mut(&epoch) {
            recovery.homes.remove(&(from, incarnation));
            #[cfg(feature = "planted")]
            if lockstead_types::planted::is(lockstead_types::planted::Bug::ThawAtFirst) {
                recovery.homes.clear();
            }
            let settled = |slot: &Slot| !unsettled.contains(slot);
            let its = recovery.former.iter().filter(|(s, former)| **former == (from, incarnation) && settled(s));
            recovery.complete.insert_all(&its.map(|(slot, _)| *slot).collect());
        }
        self.handle_early(now);
        self.try_thaw(now);
    }

    /// A session has left a home that has not reported: it must claim what it has, should that home never report.
    ///
    /// Without this: s moves from h1 to h2, which has reported before; h1 dies; nobody waits for s, and what it claims is granted
    /// to another before.
    pub(crate) fn await_rehomed(&mut self, session: SessionId, from: NodeId) {
        let Some(member) = &mut self.member else { return };
        if !member.must_claim(session) {
            return;
        }
        for recovery in member.recoveries.map.values_mut() {
            if recovery.homes.iter().any(|(home, _)| *home == from) {
                recovery.sessions.insert(session);
            }
        }
    }

    /// A session has claimed all it has, or has ended.
    pub(crate) fn on_session_reported(&mut self, now: Time, session: SessionId) {
        let Some(member) = &mut self.member else { return };
        for recovery in member.recoveries.map.values_mut() {
            recovery.sessions.remove(&session);
        }
        self.try_thaw(now);
    }

    /// This node may act again: what came to an end meanwhile.
    pub(crate) fn resume_recoveries(&mut self, now: Time) {
        self.handle_early(now);
        self.try_thaw(now);
    }

    fn try_thaw(&mut self, now: Time) {
        loop {
            let Some(member) = &mut self.member else { return };
            let done = |r: &Recovery| r.homes.is_empty() && r.sessions.is_empty() && r.early.is_empty();
            let Some(epoch) = member.recoveries.map.iter().find(|(_, r)| done(r)).map(|(e, _)| *e) else { return };
            let Some(recovery) = member.recoveries.map.remove(&epoch) else { return };
            self.counters.recovery_times.add(now.since(recovery.began));
            self.table.finish_values(&recovery.complete);
            for (space, name) in &recovery.doubtful {
                self.table.distrust_value(*space, name);
            }
            // Otherwise they are thawed with all others when it may act again.
            if self.may_act() {
                self.table.thaw_slots(now, &recovery.slots, &mut self.fx);
                self.keep_thawed(now);
                self.tell_effects(now);
            }
        }
    }

    /// [CLUSTER-21] Sets a write to a value block aside while the slot's former master may still say what was there before, to whoever
    /// reads it there in a mode that lets others write. With it whatever its session asks of the slot behind it ([CLUSTER-12]).
    pub(crate) fn set_aside(&mut self, early: Early) -> Option<Early> {
        let (slot, _) = early.place;
        let (session, ..) = early.key;
        let recoveries = self.member.as_mut().map(|m| m.recoveries.map.values_mut());
        let Some(recovery) = recoveries.into_iter().flatten().find(|r| r.awaits_former(slot)) else {
            return Some(early);
        };
        let writes =
            matches!(early.op, PeerOp::Release { value: Some(_), .. } | PeerOp::Convert { value: Some(_), .. });
        let behind = recovery.early.iter().any(|e| e.key.0 == session && e.place.0 == slot);
        if !writes && !behind {
            return Some(early);
        }
        recovery.early.push(early);
        None
    }

    /// Takes up again what was set aside, where nobody is waited for any more.
    fn handle_early(&mut self, now: Time) {
        let Some(member) = self.member.as_mut().filter(|m| m.acting) else { return };
        let mut due = Vec::new();
        for recovery in member.recoveries.map.values_mut() {
            let early = core::mem::take(&mut recovery.early);
            let (stay, go): (Vec<Early>, Vec<Early>) =
                early.into_iter().partition(|e| recovery.awaits_former(e.place.0));
            recovery.early = stay;
            due.extend(go);
        }
        for Early { from, key, place, op } in due {
            self.on_peer_request(now, from, key, place, op);
        }
    }

    fn recovering(&self, epoch: u32, slot: Option<Slot>) -> bool {
        let recovery = self.member.as_ref().and_then(|m| m.recoveries.map.get(&epoch));
        recovery.is_some_and(|r| slot.is_some_and(|s| r.slots.has(s)))
    }
}

/// Notes what became of the next lock of a report.
fn add_fate(fates: &mut Vec<Fates>, fate: Option<Result<LockId, Refusal>>) {
    match (fates.last_mut(), fate) {
        (Some(Fates::Restored { first, count }), Some(Ok(lock))) if first.0 + u64::from(*count) == lock.0 => {
            *count += 1
        }
        (Some(Fates::Refused { why, count }), Some(Err(other))) if *why == other => *count += 1,
        (Some(Fates::Passed { count }), None) => *count += 1,
        (_, Some(Ok(first))) => fates.push(Fates::Restored { first, count: 1 }),
        (_, Some(Err(why))) => fates.push(Fates::Refused { why, count: 1 }),
        (_, None) => fates.push(Fates::Passed { count: 1 }),
    }
}
