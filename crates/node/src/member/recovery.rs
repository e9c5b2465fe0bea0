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
    LockId, NodeId, SessionId, Slot, SlotSet, SpaceId, Time,
    peer::{Fates, Incarnation, PeerMessage, ValueReport, Written},
    refusal::Refusal,
    request::Claim,
    rows::{LockReport, LockRows},
};

use super::{Member, early::Early, guests::GuestWait};
use crate::node::Node;

/// All recoveries of this node, by the epoch in which each began.
pub(crate) struct Recoveries {
    pub(super) map: BTreeMap<u32, Recovery>,
    /// Questions of homes whether all is done that they had asked before, while something of theirs is set aside.
    pub(super) syncs: Vec<(NodeId, Incarnation, u64)>,
}

pub(crate) struct Recovery {
    slots: SlotSet,
    /// Members that have not reported; one that starts anew is another one.
    homes: BTreeSet<(NodeId, Incarnation)>,
    /// Nodes that went before they had reported.
    silent: BTreeSet<NodeId>,
    /// Sessions that may have locks nobody has reported: their home is gone, or they have not claimed all at a new one.
    sessions: Missing,
    /// Sessions that ended since it began, and not with a goodbye: what they may have written is in doubt.
    crashed: BTreeSet<SessionId>,
    /// Who decided for each slot before.
    former: BTreeMap<Slot, (NodeId, Incarnation)>,
    /// Slots whose former master has reported, and so every value block there is.
    complete: SlotSet,
    /// Value blocks that may have been written since their last known value.
    doubtful: Vec<(SpaceId, Box<[u8]>)>,
    /// Those that are, should this home not report.
    writers: Vec<(NodeId, SpaceId, Box<[u8]>)>,
    /// What reads or writes value blocks, with what the same sessions asked behind it, and waits for all homes.
    pub(super) early: Vec<Early>,
    began: Time,
}

/// Sessions that are waited for.
#[derive(Default)]
struct Missing {
    left: BTreeSet<SessionId>,
    /// There were some: what they gave up and did not say is not known.
    were_any: bool,
}

impl Missing {
    fn add(&mut self, sessions: impl IntoIterator<Item = SessionId>) {
        self.left.extend(sessions);
        self.were_any |= !self.left.is_empty();
    }
}

impl Recovery {
    /// Whether somebody may still say what there is in a slot's value blocks.
    pub(super) fn awaits_homes(&self, slot: Slot) -> bool {
        self.slots.has(slot) && !self.homes.is_empty()
    }

    /// These homes will not report: what their sessions may have written is in doubt.
    fn homes_died(&mut self, up: &BTreeSet<(NodeId, Incarnation)>) {
        self.silent.extend(self.homes.difference(up).map(|(node, _)| *node));
        let lost = self.writers.extract_if(.., |(home, ..)| self.silent.contains(home));
        self.doubtful.extend(lost.map(|(_, space, name)| (space, name)));
    }

    /// Waits for these homes alone. Whether they were the last to be waited for.
    fn keep_homes(&mut self, keep: impl Fn(&(NodeId, Incarnation)) -> bool) -> bool {
        let before = self.homes.len();
        self.homes.retain(keep);
        before > 0 && self.homes.is_empty()
    }
}

impl Recoveries {
    pub(crate) fn new() -> Recoveries {
        Recoveries { map: BTreeMap::new(), syncs: Vec::new() }
    }

    /// Slots that wait.
    pub(crate) fn slots(&self) -> SlotSet {
        self.map.values().fold(SlotSet::EMPTY, |mut all, r| {
            all.insert_all(&r.slots);
            all
        })
    }

    /// Whether any slot waits.
    pub(crate) fn any(&self) -> bool {
        self.map.values().any(|r| !r.slots.is_empty())
    }

    /// Since when the oldest has waited.
    pub(crate) fn since(&self) -> Option<Time> {
        self.map.values().map(|r| r.began).min()
    }
}

impl Member {
    /// Whether a slot that is being taken over waits for sessions alone, and this node may act: what there is in its value blocks is known.
    pub(super) fn has_heard_homes(&self, slot: Slot) -> bool {
        self.acting && self.recoveries.map.values().any(|r| r.slots.has(slot) && r.homes.is_empty())
    }

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
        let mut sessions = Missing::default();
        sessions.add(member.state.homeless().map(|(id, _)| id));
        #[cfg(feature = "planted")]
        if lockstead_types::planted::is(lockstead_types::planted::Bug::HomelessForgotten) {
            sessions = Missing::default();
        }
        let former = moved.iter().filter(|(slot, ..)| slots.has(*slot)).map(|(s, node, i)| (*s, (*node, *i))).collect();
        let recovery = Recovery {
            slots,
            homes,
            silent: BTreeSet::new(),
            sessions,
            crashed: BTreeSet::new(),
            former,
            complete: SlotSet::EMPTY,
            doubtful: Vec::new(),
            writers: Vec::new(),
            early: Vec::new(),
            began: now,
        };
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
        let mut heard = Vec::new();
        for (epoch, recovery) in &mut member.recoveries.map {
            recovery.slots.remove_all(lost);
            let silent = recovery.homes.iter().any(|home| !up.contains(home));
            recovery.homes_died(&up);
            if recovery.keep_homes(|home| up.contains(home)) {
                heard.push(*epoch);
            }
            // [CLUSTER-7] What a home that died did not report, its sessions must.
            #[cfg(feature = "planted")]
            let silent = silent && !lockstead_types::planted::is(lockstead_types::planted::Bug::SilentHomeForgotten);
            if silent {
                recovery.sessions.add(homeless.iter().copied());
            }
        }
        heard.into_iter().for_each(|epoch| self.settle_values(epoch));
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
            recovery.sessions.add(waited);
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
        let member = self.member.as_ref()?;
        let session = row.session?;
        let guest = member.guests.find(session).and_then(|at| Some((at, member.guests.get(at)?)));
        let Some((at, guest)) = guest.filter(|(_, guest)| guest.home == from) else {
            let claimed = guest.map(|(_, guest)| guest.has_claimed());
            self.pass_row(epoch, (session, claimed), row);
            return None;
        };
        let owner = guest.owner;
        if let Some(group) = &row.group {
            return Some(self.restore_shared(now, (at, slot), group, row));
        }
        let origin = row.wanted.as_ref().map_or(0, |wanted| wanted.id.0);
        let restored = self.table.restore(now, Claimant::Owner(owner), row, origin, &mut self.fx);
        if let (Ok(lock), Some(wanted)) = (&restored, &row.wanted) {
            let ticket = self.table.ticket_of(*lock).unwrap_or_default();
            self.member.as_mut()?.guests.get_mut(at)?.waits.insert(wanted.id, GuestWait { lock: *lock, slot, ticket });
        }
        if let Ok(lock) = restored {
            self.note_before(at, lock, row);
        }
        Some(restored)
    }

    /// A lock of a session that has gone on to another home since, where it claims what it has or has claimed it, or has ended.
    fn pass_row(&mut self, epoch: u32, (session, claimed): (SessionId, Option<bool>), row: &LockReport<'_>) {
        let modes = self.table.space(row.space).map(|space| &space.modes);
        let wrote = matches!((row.held, modes), (Some(Claim::Mode(mode)), Some(modes)) if modes.writes(mode));
        let Some(recovery) = self.member.as_mut().and_then(|m| m.recoveries.map.get_mut(&epoch)) else { return };
        // It must be waited for: this node may not have applied yet that it moved, and then nobody else says so.
        if claimed == Some(false) {
            recovery.sessions.add([session]);
        }
        // [SLOT-7] It may have given up its right to write meanwhile, with a value that reached nobody, and claim the rest.
        if wrote && (claimed.is_some() || recovery.crashed.contains(&session)) {
            recovery.doubtful.push((row.space, row.name.into()));
        }
    }

    /// A value block as its former master knows it, or one that a home has asked somebody to write who never said whether it was.
    fn restore_value_report(&mut self, from: NodeId, epoch: u32, report: ValueReport) {
        let ValueReport { space, name, value, written } = report;
        let slot = self.slot_of(space, &name);
        let Some(recovery) = self.member.as_mut().and_then(|m| m.recoveries.map.get_mut(&epoch)) else { return };
        let former = slot.and_then(|slot| recovery.former.get(&slot)).is_some_and(|(node, _)| *node == from);
        self.table.restore_value(space, &name, &value, former);
        match written {
            Written::No => {}
            Written::UnlessTold(home) if !recovery.silent.contains(&home) => recovery.writers.push((home, space, name)),
            Written::Perhaps | Written::UnlessTold(_) => recovery.doubtful.push((space, name)),
        }
    }

    /// A home has reported all.
    pub(crate) fn on_report_done(&mut self, now: Time, from: NodeId, epoch: u32, unsettled: &[Slot]) {
        let Some(member) = &mut self.member else { return };
        let Some(incarnation) = member.state.members.get(&from).map(|m| m.incarnation) else { return };
        let mut heard = false;
        if let Some(recovery) = member.recoveries.map.get_mut(&epoch) {
            let settled = |slot: &Slot| !unsettled.contains(slot);
            let its = recovery.former.iter().filter(|(s, former)| **former == (from, incarnation) && settled(s));
            recovery.complete.insert_all(&its.map(|(slot, _)| *slot).collect());
            heard = recovery.keep_homes(|home| *home != (from, incarnation));
            #[cfg(feature = "planted")]
            if lockstead_types::planted::is(lockstead_types::planted::Bug::ThawAtFirst) {
                heard |= recovery.keep_homes(|_| false);
            }
        }
        if heard {
            self.settle_values(epoch);
        }
        self.handle_early(now);
        self.try_thaw(now);
    }

    /// All homes have reported: what there is in the value blocks of a recovery's slots is known, as far as it ever will be.
    fn settle_values(&mut self, epoch: u32) {
        let Some(recovery) = self.member.as_mut().and_then(|m| m.recoveries.map.get_mut(&epoch)) else { return };
        let slots = recovery.slots.clone();
        self.table.finish_values(&recovery.complete);
        // Once, and not at the thaw: somebody may write until then.
        for (space, name) in core::mem::take(&mut recovery.doubtful) {
            self.table.distrust_value(space, &name);
        }
        self.note_lost_writers(&slots);
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
                recovery.sessions.add([session]);
            }
        }
    }

    /// A session has claimed all it has, or has ended.
    pub(crate) fn on_session_reported(&mut self, now: Time, session: SessionId) {
        let Some(member) = &mut self.member else { return };
        for recovery in member.recoveries.map.values_mut() {
            recovery.sessions.left.remove(&session);
        }
        self.try_thaw(now);
    }

    /// A session has ended without a goodbye: what is reported of it yet it may have written.
    pub(crate) fn note_crashed(&mut self, session: SessionId) {
        let Some(member) = &mut self.member else { return };
        for recovery in member.recoveries.map.values_mut().filter(|recovery| !recovery.homes.is_empty()) {
            recovery.crashed.insert(session);
        }
    }

    /// This node may act again: what came to an end meanwhile.
    pub(crate) fn resume_recoveries(&mut self, now: Time) {
        self.handle_early(now);
        self.try_thaw(now);
    }

    fn try_thaw(&mut self, now: Time) {
        loop {
            let Some(member) = &mut self.member else { return };
            let done = |r: &Recovery| r.homes.is_empty() && r.sessions.left.is_empty() && r.early.is_empty();
            let Some(epoch) = member.recoveries.map.iter().find(|(_, r)| done(r)).map(|(e, _)| *e) else { return };
            let Some(recovery) = member.recoveries.map.remove(&epoch) else { return };
            self.counters.recovery_times.add(now.since(recovery.began));
            // Sessions that came to other homes may have claimed locks on what nobody else had anything on.
            self.table.finish_values(&recovery.complete);
            // [SLOT-7] And others may have given up what they had, with a value that reached nobody.
            if recovery.sessions.were_any {
                let mut unsaid = recovery.slots.clone();
                unsaid.remove_all(&recovery.complete);
                self.table.distrust_unsaid(&unsaid);
            }
            // Otherwise they are thawed with all others when it may act again.
            if self.may_act() {
                self.table.thaw_slots(now, &recovery.slots, &mut self.fx);
                self.keep_thawed(now);
                self.tell_effects(now);
                self.admit_joiners(now);
            }
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
