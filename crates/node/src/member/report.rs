//! What a node does as home when slots change their master: it tells each new master, in one closed manifest an epoch, what
//! its sessions have there. In turns, so that a home of a million locks goes on serving what has not moved.
//!
//! The bad interleaving that the order here prevents: this node reports a lock; its old master, which has not heard of the
//! epoch, grants another session's conflicting request on another lock of that slot and the answer arrives here after
//! the report; the new master would not know of it. So from the epoch on nothing the old master says about the slot
//! counts ([CLUSTER-6]), and what it had not answered is asked again: once all is reported, and not before, or the new master
//! would take a request for a second lock of a session whose first it has not heard of.

use alloc::{
    collections::{BTreeMap, VecDeque},
    vec::Vec,
};

use lockstead_types::{
    LockId, NodeId, RequestId, SessionId, Slot, SlotSet, Span, Time,
    peer::{Fates, HomeGeneration, Incarnation, PeerMessage, ValueReport, WaitReport, Written},
    reply::{Revoked, Value},
    request::{Claim, Wait},
    rows::{LockReport, LockRows},
};

use super::{
    Member,
    copies::{Copy, InGroup},
    fates::Awaited,
    forward::{For, Forward, Forwards, Key, What},
    giving::{Given, GivenUp},
    master_up,
};
use crate::{node::Node, session::Stage};

/// Bytes of one message, about, before its last row; no row is longer than a few values, so that it fits a frame by far.
const MESSAGE_BYTES: usize = 64 * 1_024;
/// Rows of one message at most.
const MESSAGE_ROWS: usize = 1_024;
/// Sessions of one message at most.
const MESSAGE_SESSIONS: usize = 4_096;
/// Bytes of one turn, about.
const TURN_BYTES: usize = 256 * 1_024;

/// What this node has to report, and is to be answered.
#[derive(Default)]
pub(crate) struct Reports {
    /// Those that are not complete, the earliest epoch first. A slot is in one of them at most.
    due: VecDeque<Reporting>,
    /// Writes whose fates are to be known before their slots are reported.
    pub(super) awaited: BTreeMap<Key, Awaited>,
    /// The copies of reports that are not answered, in their order.
    unanswered: BTreeMap<(NodeId, u32), Unanswered>,
}

struct Unanswered {
    incarnation: Incarnation,
    /// [`NOBODYS`] for a lock that is no copy of this home.
    copies: VecDeque<u32>,
}

const NOBODYS: u32 = u32::MAX;

/// The reports of an epoch.
struct Reporting {
    epoch: u32,
    slots: SlotSet,
    /// What is told beside the copies.
    given: VecDeque<(Slot, Given)>,
    unsettled: Vec<Slot>,
    /// Sessions that were about to claim what they have when it began.
    returning: Vec<(SessionId, HomeGeneration)>,
    /// The copies not looked at yet. None comes to these slots before all is told.
    next: u32,
    end: u32,
    manifests: BTreeMap<NodeId, Manifest>,
}

/// What goes to one new master next.
#[derive(Default)]
struct Manifest {
    rows: LockRows,
    copies: Vec<u32>,
    values: Vec<ValueReport>,
    value_bytes: usize,
    /// Who was introduced last.
    introduced: Option<u32>,
}

impl Manifest {
    fn bytes(&self) -> usize {
        self.rows.bytes() + self.value_bytes
    }

    fn is_full(&self) -> bool {
        self.rows.len() + self.values.len() >= MESSAGE_ROWS || self.bytes() >= MESSAGE_BYTES
    }
}

impl Reports {
    /// Whether anything is to be told now.
    pub(crate) fn are_due(&self, forwards: &Forwards) -> bool {
        self.next_due(forwards).is_some()
    }

    /// Which is to be told next.
    fn next_due(&self, forwards: &Forwards) -> Option<usize> {
        let open = || self.awaited.iter().filter(|(key, awaited)| awaited.is_open(forwards.map.get(key)));
        self.due.iter().position(|reporting| !open().any(|(_, awaited)| reporting.slots.has(awaited.slot)))
    }

    fn strip(&mut self, moved: &SlotSet) {
        self.due.iter_mut().for_each(|reporting| reporting.slots.remove_all(moved));
    }
}

impl Member {
    /// Whether a slot has a new master that has not been told all yet. Nothing about it is asked meanwhile.
    pub(crate) fn is_reporting(&self, slot: Slot) -> bool {
        self.reports.due.iter().any(|reporting| reporting.slots.has(slot))
    }

    /// The report to go on with, and its place.
    fn take_due(&mut self) -> Option<(usize, Reporting)> {
        let at = self.reports.next_due(&self.forwards)?;
        Some((at, self.reports.due.remove(at)?))
    }

    /// Whether a copy is of a slot that has a new master, which has not been told of it yet: what another says about it is void.
    pub(crate) fn is_unreported(&self, copy: &Copy) -> bool {
        let due = self.reports.due.iter().find(|reporting| reporting.slots.has(copy.slot));
        due.is_some_and(|reporting| reporting.epoch != copy.reported)
    }
}

impl Node {
    /// Slots have a new master: reports to it begin. `given_up`: what this node knows as their master of before.
    pub(crate) fn report(&mut self, now: Time, former: &[(Slot, NodeId, Incarnation)], given_up: GivenUp) {
        let moved: &SlotSet = &former.iter().map(|(slot, ..)| *slot).collect();
        // [CLUSTER-6] At once, however long the report takes, but for what [CLUSTER-22] waits for.
        let doubtful = self.settle_forwards(now, former);
        let Some(member) = &mut self.member else { return };
        let GivenUp { mut given, unsettled } = given_up;
        given.extend(doubtful);
        let masters = moved.iter().filter_map(|slot| master_up(&member.state, slot));
        let manifests: BTreeMap<NodeId, Manifest> = masters.map(|(master, _)| (master, Manifest::default())).collect();
        let state = &member.state;
        member.reports.unanswered.retain(|(node, _), reported| state.is_up(*node, reported.incarnation));
        // Those of before are not told any more: their masters have nothing to do with these slots.
        member.reports.strip(moved);
        if manifests.is_empty() {
            return;
        }
        let (epoch, end) = (member.state.epoch, member.copies.places());
        let (slots, given) = (moved.clone(), VecDeque::from(given));
        let returning = self.sessions.iter().filter(|(_, s)| s.stage == Stage::Returning);
        let returning = returning.map(|(_, s)| (s.id, s.home)).collect();
        let reporting = Reporting { epoch, slots, given, unsettled, returning, next: 0, end, manifests };
        member.reports.due.push_back(reporting);
        self.report_on(now);
    }

    /// Goes on with what is to be reported, for one turn.
    pub(crate) fn report_on(&mut self, now: Time) {
        self.settle_fates(now);
        let Some(member) = &mut self.member else { return };
        let (mut rows, mut bytes) = (member.rows_a_turn, TURN_BYTES);
        while let Some((at, mut reporting)) = self.member.as_mut().and_then(|m| m.take_due()) {
            while let Some(took) = self.report_next(now, &mut reporting) {
                (rows, bytes) = (rows.saturating_sub(1), bytes.saturating_sub(took));
                if rows == 0 || bytes == 0 {
                    if let Some(member) = &mut self.member {
                        member.reports.due.insert(at, reporting);
                    }
                    return;
                }
            }
            self.finish_report(now, reporting);
        }
    }

    /// Tells one thing more: how many bytes it took, `None` where nothing is left.
    fn report_next(&mut self, now: Time, reporting: &mut Reporting) -> Option<usize> {
        if let Some((slot, given)) = reporting.given.pop_front() {
            return Some(self.report_given(now, reporting, slot, given));
        }
        let at = self.member.as_ref()?.copies.next_in(&reporting.slots, reporting.next, reporting.end)?;
        reporting.next = at + 1;
        Some(self.report_copy(now, reporting, at))
    }

    fn report_given(&mut self, now: Time, reporting: &mut Reporting, slot: Slot, given: Given) -> usize {
        let Some((master, _)) = self.member.as_ref().and_then(|m| master_up(&m.state, slot)) else { return 1 };
        // It has gone on.
        let Some(manifest) = reporting.manifests.get_mut(&master).filter(|_| reporting.slots.has(slot)) else {
            return 1;
        };
        let before = manifest.bytes();
        match given {
            Given::Orphan(orphan) => {
                manifest.rows.push(orphan.report());
                manifest.copies.push(NOBODYS);
            }
            Given::Value(value) => {
                manifest.value_bytes += size_of::<ValueReport>() + value.name.len() + value.value.bytes.len();
                manifest.values.push(value);
            }
        }
        let took = manifest.bytes() - before;
        self.send_full(now, reporting, master);
        took
    }

    /// Tells of one copy; of one of before, nothing ([`Member::is_unreported`]).
    fn report_copy(&mut self, now: Time, reporting: &mut Reporting, at: u32) -> usize {
        let Some(member) = &mut self.member else { return 1 };
        member.copies.forget_place(at);
        let Some(copy) = member.copies.get_mut(at).filter(|copy| copy.reported != reporting.epoch) else { return 1 };
        #[cfg(feature = "planted")]
        if copy.held.is_none() && lockstead_types::planted::is(lockstead_types::planted::Bug::WaiterDropped) {
            return 1;
        }
        copy.reported = reporting.epoch;
        let (session, slot, wait) = (copy.session, copy.slot, copy.wait);
        let Some((master, _)) = master_up(&member.state, slot) else { return 1 };
        let Some(manifest) = reporting.manifests.get_mut(&master) else { return 1 };
        if manifest.introduced.replace(session) != Some(session) {
            self.introduce(now, session, master);
        }
        let wanted = wait.and_then(|id| self.wanted(now, (session, id)));
        let (Some(member), Some(whose)) = (&mut self.member, self.sessions.get(session)) else { return 1 };
        let Some(copy) = member.copies.get(at) else { return 1 };
        if copy.held.is_none() && wanted.is_none() {
            // What it waits for has ended here since the slot moved.
            if let Some(id) = wait {
                member.forwards.remove((session, id));
            }
            self.drop_copy(Some(at));
            return 1;
        }
        // [GROUP-11] Another member may have written it since.
        let doubtful = copy.group.is_some();
        let value = copy.value.clone().map(|value| Value { invalid: value.invalid || doubtful, ..value });
        let row = LockReport {
            session: Some(whose.id),
            orphan: false,
            space: copy.space,
            name: &copy.name,
            held: copy.held,
            token: copy.token,
            before: copy.before,
            wanted,
            tag: copy.tag,
            alone: copy.alone,
            flags: copy.flags,
            value,
            group: copy.group.as_deref().map(InGroup::as_report),
        };
        let before = manifest.bytes();
        manifest.rows.push(row);
        manifest.copies.push(at);
        let took = manifest.bytes() - before;
        self.send_full(now, reporting, master);
        took
    }

    /// A wait that its client says again while its slot is reported goes along.
    pub(crate) fn report_again(&mut self, now: Time, key: Key, copy: u32, slot: Slot) {
        let Some(member) = &mut self.member else { return };
        let Some((_, generation)) = master_up(&member.state, slot) else { return };
        let Some(at) = member.reports.due.iter().position(|reporting| reporting.slots.has(slot)) else { return };
        let Some(mut reporting) = member.reports.due.remove(at) else { return };
        // The lock may have been told of already: then its conversion is asked for when the new master has answered.
        if member.copies.get(copy).is_some_and(|copy| copy.reported != reporting.epoch) {
            member.forwards.set_sent(key, Some(generation));
            if let Some(What::Convert { lowered, .. }) = member.forwards.map.get_mut(&key).map(|f| &mut f.what) {
                *lowered = true;
            }
            self.report_copy(now, &mut reporting, copy);
        }
        if let Some(member) = &mut self.member {
            member.reports.due.insert(at, reporting);
        }
    }

    /// A session goes to another home: what of its locks is to be reported is reported now, since nobody here will know of them.
    pub(crate) fn report_leaving(&mut self, now: Time, session: u32) {
        self.give_up_fates(now, session);
        let Some(member) = &mut self.member else { return };
        for mut reporting in core::mem::take(&mut member.reports.due) {
            let Some(member) = &self.member else { return };
            let due = |at: &u32| {
                member.copies.get(*at).is_some_and(|c| reporting.slots.has(c.slot) && c.reported != reporting.epoch)
            };
            let copies: Vec<u32> = member.copies.of_session(session).filter(due).collect();
            for at in copies {
                self.report_copy(now, &mut reporting, at);
            }
            if let Some(member) = &mut self.member {
                member.reports.due.push_back(reporting);
            }
        }
    }

    fn send_full(&mut self, now: Time, reporting: &mut Reporting, master: NodeId) {
        if let Some(manifest) = reporting.manifests.get_mut(&master).filter(|m| m.is_full()) {
            self.send_manifest(now, reporting.epoch, master, manifest);
        }
    }

    fn send_manifest(&mut self, now: Time, epoch: u32, master: NodeId, manifest: &mut Manifest) {
        let Some(member) = &mut self.member else { return };
        let Manifest { rows, copies, values, .. } = core::mem::take(manifest);
        if let Some(incarnation) = member.state.members.get(&master).map(|m| m.incarnation) {
            let fresh = || Unanswered { incarnation, copies: VecDeque::new() };
            member.reports.unanswered.entry((master, epoch)).or_insert_with(fresh).copies.extend(copies);
        }
        self.send_peer(now, master, PeerMessage::Report { epoch, rows, values, returning: Vec::new() });
    }

    /// All is told: the rest goes out, and that it was all.
    fn finish_report(&mut self, now: Time, reporting: Reporting) {
        let Some(me) = self.member.as_ref().map(|m| m.me) else { return };
        let Reporting { epoch, unsettled, mut returning, mut manifests, .. } = reporting;
        // Who has claimed all here since is in the rows. Who has left may have claimed nothing anywhere yet.
        returning.retain(|(id, home)| {
            let here = self.session_here(*id, *home).and_then(|at| self.sessions.get(at));
            here.is_none_or(|session| session.stage == Stage::Returning)
        });
        // One's own last: what it makes must find all others on their way.
        let own = manifests.remove(&me).map(|manifest| (me, manifest));
        for (master, mut manifest) in manifests.into_iter().chain(own) {
            if !manifest.rows.is_empty() || !manifest.values.is_empty() {
                self.send_manifest(now, epoch, master, &mut manifest);
            }
            for some in returning.chunks(MESSAGE_SESSIONS) {
                let returning = some.iter().map(|(id, _)| *id).collect();
                let (rows, values) = (LockRows::new(), Vec::new());
                self.send_peer(now, master, PeerMessage::Report { epoch, rows, values, returning });
            }
            self.send_peer(now, master, PeerMessage::ReportDone { epoch, unsettled: unsettled.clone() });
        }
        self.send_unsent(now);
    }

    /// A node that has just started has nothing to report to masters of slots that its start has moved, and says so.
    pub(crate) fn report_nothing(&mut self, now: Time) {
        let Some(member) = &self.member else { return };
        let epoch = member.state.epoch;
        for node in super::up_nodes(&member.state) {
            self.send_peer(now, node, PeerMessage::ReportDone { epoch, unsettled: Vec::new() });
        }
    }

    /// What became of locks this node reported to a new master.
    pub(crate) fn on_restored(&mut self, now: Time, from: NodeId, epoch: u32, fates: Vec<Fates>) {
        let Some(member) = &mut self.member else { return };
        let Some(mut reported) = member.reports.unanswered.remove(&(from, epoch)) else { return };
        let before = reported.copies.len();
        for fate in fates {
            let (Fates::Restored { count, .. } | Fates::Refused { count, .. } | Fates::Passed { count }) = fate;
            let count = (count as usize).min(reported.copies.len());
            for (n, at) in (0_u64..).zip(reported.copies.drain(..count)) {
                let Some(member) = &mut self.member else { return };
                // An answer to an earlier report: the slot has gone on since. Or the lock is gone.
                let Some(copy) = member.copies.get(at).filter(|c| c.reported == epoch) else { continue };
                if member.is_unreported(copy) {
                    continue;
                }
                match fate {
                    Fates::Restored { first, .. } => member.copies.set_place(at, from, LockId(first.0.wrapping_add(n))),
                    Fates::Refused { .. } => self.lose_copy(now, at, Revoked::Superseded),
                    Fates::Passed { .. } => {}
                }
            }
        }
        let Some(member) = &mut self.member else { return };
        member.worked += before - reported.copies.len();
        if !reported.copies.is_empty() {
            member.reports.unanswered.insert((from, epoch), reported);
        }
        self.send_unsent(now);
    }

    fn wanted(&self, now: Time, key: Key) -> Option<WaitReport> {
        let (_, id) = key;
        wait_report(now, id, self.waited(now, key), self.member.as_ref()?.forwards.map.get(&key)?)
    }

    /// Tells the new master of a slot this, too.
    pub(crate) fn report_too(&mut self, slot: Slot, given: Given) {
        let due = self.member.iter_mut().flat_map(|m| &mut m.reports.due);
        if let Some(reporting) = due.into_iter().find(|reporting| reporting.slots.has(slot)) {
            reporting.given.push_back((slot, given));
        }
    }

    /// What becomes of requests to the old master, but those whose fate it will say.
    fn settle_forwards(&mut self, now: Time, moved: &[(Slot, NodeId, Incarnation)]) -> Vec<(Slot, Given)> {
        let mut doubtful = Vec::new();
        let Some(member) = &mut self.member else { return doubtful };
        let former: BTreeMap<Slot, (NodeId, Incarnation)> =
            moved.iter().map(|(s, node, i)| (*s, (*node, *i))).collect();
        let about = member.forwards.map.iter().filter_map(|(key, f)| Some((*key, *former.get(&f.slot)?)));
        let about: Vec<_> = about.collect();
        for (key, former) in about {
            if !self.member.as_mut().is_some_and(|m| m.awaits_fate(now, key, Some(former))) {
                doubtful.extend(self.settle_forward(now, key));
            }
        }
        doubtful
    }

    /// What becomes of a request to the old master: a release is done, since its lock is not claimed again; one that queued goes on
    /// in the report; the rest is asked again. The value block it may have written, or not.
    pub(crate) fn settle_forward(&mut self, now: Time, key: Key) -> Option<(Slot, Given)> {
        let member = self.member.as_mut()?;
        let forward = member.forwards.map.get_mut(&key)?;
        let slot = forward.slot;
        let (_, generation) = master_up(&member.state, slot)?;
        if let What::Convert { before: Some(_), lowered, .. } = &mut forward.what {
            *lowered = true;
        }
        let write = doubtful_write(forward, &member.copies);
        // Nor is what the copy knew from before: its new master must not take that for certain until the thaw.
        let written = write.as_ref().and(forward.what.copy()).and_then(|copy| member.copies.get_mut(copy));
        if let (Some(copy), Some(write)) = (written, &write) {
            copy.value = Some(write.value.clone());
        }
        match &forward.what {
            // Its master is gone, and what it was about before.
            What::Answer => self.end_plain(key),
            // Not sent yet: it is reported as held, and released when its new master knows it.
            What::Release { .. } if forward.sent.is_none() => {}
            What::Release { copy, .. } => {
                let copy = *copy;
                self.finish_release(now, key, copy);
            }
            What::Lock(_) if forward.queued.is_some() && forward.whose == For::Nobody => {
                let copy = forward.copy;
                member.forwards.remove(key);
                self.drop_copy(copy);
            }
            What::Lock(_) | What::Convert { .. } if forward.queued.is_some() => {
                member.forwards.set_sent(key, Some(generation));
            }
            _ => member.forwards.set_sent(key, None),
        }
        write.map(|write| (slot, Given::Value(write)))
    }

    /// A release whose answer will not come: nobody claims the lock again, so it is done.
    fn finish_release(&mut self, now: Time, key: Key, copy: u32) {
        let Some(member) = &self.member else { return };
        let Some(forward) = member.forwards.map.get(&key).filter(|_| member.copies.get(copy).is_some()) else { return };
        let (whose, one_way) = (forward.whose, matches!(forward.what, What::Release { one_way: true, .. }));
        self.on_release_answered(now, key, copy, (one_way, whose), lockstead_types::reply::Reply::Released);
    }
}

fn wait_report(now: Time, id: RequestId, waited: Span, forward: &Forward) -> Option<WaitReport> {
    let ticket = forward.queued?;
    if forward.whose == For::Nobody {
        return None;
    }
    let (claim, flags, wait, priority, value) = match &forward.what {
        What::Lock(lock) => (lock.claim, lock.flags, lock.wait, lock.priority, None),
        What::Convert { mode, wait, flags, value, .. } => (Claim::Mode(*mode), *flags, *wait, 0, value.clone()),
        _ => return None,
    };
    let left = match (wait, forward.until) {
        (Wait::For(_), Some(until)) => Some(until.since(now)),
        (Wait::For(_), None) => Some(Span::ZERO),
        (Wait::Never | Wait::Forever, _) => None,
    };
    Some(WaitReport { id, claim, flags, left, waited, demoted: false, ticket, priority, value })
}

/// A write to a value block of which nobody knows whether it took place.
pub(crate) fn doubtful_write(forward: &Forward, copies: &super::copies::Copies) -> Option<ValueReport> {
    forward.sent?;
    let (copy, value) = match &forward.what {
        What::Convert { copy, value: Some(value), .. } | What::Release { copy, value: Some(value), .. } => {
            (copies.get(*copy)?, value)
        }
        _ => return None,
    };
    let value = Value { bytes: value.clone(), invalid: true };
    Some(ValueReport { space: copy.space, name: copy.name.clone(), value, written: Written::Perhaps })
}
