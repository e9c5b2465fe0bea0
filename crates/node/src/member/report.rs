//! What a node does as home and as former master when slots change their master: it tells each new master, in one closed
//! manifest an epoch, what its sessions have there.
//!
//! The bad interleaving that the order here prevents: this node reports a lock; its old master, which has not heard of the
//! epoch, grants another session's conflicting request on another lock of that slot and the answer arrives here after
//! the report; the new master would not know of it. So from the report on nothing the old master says about the slot
//! counts ([CLUSTER-6]), and what it had not answered is asked again.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use lockstead_table::Claimant;
use lockstead_types::{
    LockId, NodeId, RequestId, Slot, SlotSet, Time,
    peer::{LockReport, PeerMessage, ValueReport, WaitReport},
    reply::Value,
    request::{Claim, Wait},
};

use super::{
    forward::{For, Forward, Key, What},
    master_up,
};
use crate::{node::Node, session::Stage};

/// Rows of one message at most.
const ROWS: usize = 256;

/// What goes to one new master.
#[derive(Default)]
struct Manifest {
    rows: Vec<LockReport>,
    values: Vec<ValueReport>,
}

impl Node {
    /// Slots have a new master: reports to it. `given_up`: what this node knows as their master of before.
    pub(crate) fn report(&mut self, now: Time, moved: &SlotSet, given_up: GivenUp) {
        let Some(member) = &self.member else { return };
        let (epoch, me) = (member.state.epoch, member.me);
        let mut manifests: BTreeMap<NodeId, Manifest> = BTreeMap::new();
        for slot in moved.iter() {
            if let Some((master, _)) = master_up(&member.state, slot) {
                manifests.entry(master).or_default();
            }
        }
        let GivenUp { given, unsettled } = given_up;
        for (slot, given) in given {
            let Some((master, _)) = master_up(&member.state, slot) else { continue };
            let manifest = manifests.entry(master).or_default();
            match given {
                Given::Orphan(row) => manifest.rows.push(row),
                Given::Value(value) => manifest.values.push(value),
            }
        }
        self.report_copies(now, moved, &mut manifests);
        let returning: Vec<_> =
            self.sessions.iter().filter(|(_, s)| s.stage == Stage::Returning).map(|(_, s)| s.id).collect();
        // One's own last: what it makes must find all others on their way.
        let masters: Vec<NodeId> = manifests.keys().copied().filter(|n| *n != me).chain([me]).collect();
        for master in masters {
            let Some(manifest) = manifests.remove(&master) else { continue };
            let Manifest { rows, mut values } = manifest;
            let mut rows = rows.into_iter().peekable();
            while rows.peek().is_some() || !values.is_empty() {
                let rows: Vec<LockReport> = rows.by_ref().take(ROWS).collect();
                let values: Vec<ValueReport> = values.drain(..values.len().min(ROWS)).collect();
                self.send_peer(now, master, PeerMessage::Report { epoch, rows, values });
            }
            self.send_peer(
                now,
                master,
                PeerMessage::ReportDone { epoch, returning: returning.clone(), unsettled: unsettled.clone() },
            );
        }
    }

    /// A node that has just started has nothing to report to masters of slots that its start has moved, and says so.
    pub(crate) fn report_nothing(&mut self, now: Time) {
        let Some(member) = &self.member else { return };
        let epoch = member.state.epoch;
        for node in super::up_nodes(&member.state) {
            self.send_peer(now, node, PeerMessage::ReportDone { epoch, returning: Vec::new(), unsettled: Vec::new() });
        }
    }

    fn report_copies(&mut self, now: Time, moved: &SlotSet, manifests: &mut BTreeMap<NodeId, Manifest>) {
        self.settle_forwards(now, moved, manifests);
        let Some(member) = &mut self.member else { return };
        let epoch = member.state.epoch;
        let copies: Vec<u32> = member.copies.iter().filter(|(_, c)| moved.has(c.slot)).map(|(at, _)| at).collect();
        #[cfg(feature = "planted")]
        let copies: Vec<u32> = {
            let dropped = lockstead_types::planted::is(lockstead_types::planted::Bug::WaiterDropped);
            let waits = |at: &u32| member.copies.get(*at).is_some_and(|c| c.held.is_none());
            copies.into_iter().filter(|at| !dropped || !waits(at)).collect()
        };
        let mut seen: BTreeSet<(u32, NodeId)> = BTreeSet::new();
        for at in copies {
            let Some(member) = &mut self.member else { return };
            let lock = member.copies.id(at);
            let Some(session) = member.copies.get(at).map(|copy| copy.session) else { continue };
            let Some(id) = self.sessions.get(session).map(|s| s.id) else { continue };
            let Some(copy) = member.copies.get_mut(at) else { continue };
            let Some((master, _)) = master_up(&member.state, copy.slot) else { continue };
            copy.reported = epoch;
            let key = copy.wait.map(|id| (session, id));
            let since = key.and_then(|(at, id)| self.sessions.get(at)?.ledger.waiting(id)).map_or(now, |w| w.since);
            let wanted = key.and_then(|(at, id)| wait_report(now, id, since, member.forwards.map.get(&(at, id))?));
            let row = LockReport {
                session: Some(id),
                orphan: false,
                lock,
                space: copy.space,
                name: copy.name.clone(),
                held: copy.held,
                token: copy.token,
                wanted,
                tag: copy.tag,
                alone: copy.alone,
                flags: copy.flags,
                value: copy.value.clone(),
            };
            if seen.insert((session, master)) {
                self.introduce(now, session, master);
            }
            manifests.entry(master).or_default().rows.push(row);
        }
    }

    /// What becomes of requests to the old master: a release is done, since its lock is not claimed again; one that queued goes on in
    /// the report; the rest is asked again.
    fn settle_forwards(&mut self, now: Time, moved: &SlotSet, manifests: &mut BTreeMap<NodeId, Manifest>) {
        let Some(member) = &self.member else { return };
        let about: Vec<Key> =
            member.forwards.map.iter().filter(|(_, f)| moved.has(f.slot)).map(|(key, _)| *key).collect();
        for key in about {
            let Some(member) = &mut self.member else { return };
            let Some(forward) = member.forwards.map.get(&key) else { continue };
            let Some((master, generation)) = master_up(&member.state, forward.slot) else { continue };
            if let What::Convert { before: Some(_), .. } = &forward.what
                && let Some(What::Convert { lowered, .. }) = member.forwards.map.get_mut(&key).map(|f| &mut f.what)
            {
                *lowered = true;
            }
            let Some(forward) = member.forwards.map.get(&key) else { continue };
            if let Some(doubtful) = doubtful_write(forward, &member.copies) {
                let written = forward.what.copy().and_then(|copy| member.copies.get_mut(copy));
                // Nor is what the copy knew from before: its new master must not take that for certain until the thaw.
                if let Some(copy) = written {
                    copy.value = Some(doubtful.value.clone());
                }
                manifests.entry(master).or_default().values.push(doubtful);
            }
            let Some(forward) = member.forwards.map.get(&key) else { continue };
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
                    self.drop_copy(master, copy);
                }
                What::Lock(_) | What::Convert { .. } if forward.queued.is_some() => {
                    member.forwards.set_sent(key, Some(generation));
                }
                _ => member.forwards.set_sent(key, None),
            }
        }
    }

    /// A release whose answer will not come: nobody claims the lock again, so it is done.
    fn finish_release(&mut self, now: Time, key: Key, copy: u32) {
        let Some(member) = &self.member else { return };
        let Some((found, one_way)) = member
            .copies
            .get(copy)
            .map(|c| c.slot)
            .zip(member.forwards.map.get(&key))
            .map(|(slot, f)| (slot, matches!(f.what, What::Release { one_way: true, .. })))
        else {
            return;
        };
        let master = master_up(&member.state, found).map_or(member.me, |(master, _)| master);
        let whose = member.forwards.map.get(&key).map_or(For::Nobody, |f| f.whose);
        self.on_release_answered(now, master, key, copy, (one_way, whose), lockstead_types::reply::Reply::Released);
    }

    /// A former master takes everything about these slots out of its table.
    pub(crate) fn give_up(&mut self, now: Time, slots: &SlotSet) -> GivenUp {
        let mut given = Vec::new();
        if slots.is_empty() {
            return GivenUp { given, unsettled: Vec::new() };
        }
        // What it was still taking back itself it may not know whole: an empty value block there says nothing.
        let mut unsettled = self.member.as_ref().map(|m| m.recoveries.slots()).unwrap_or_default();
        unsettled.keep_only(slots);
        let seed = self.member.as_ref().map_or(0, |m| m.state.seed);
        for resource in self.table.export_slots(now, slots) {
            let slot = Slot::of(seed, resource.space, resource.name);
            for lock in &resource.locks {
                let Claimant::Orphan(session) = lock.whose else { continue };
                let row = LockReport {
                    session,
                    orphan: true,
                    lock: LockId(0),
                    space: resource.space,
                    name: resource.name.into(),
                    held: lock.held,
                    token: lock.token,
                    wanted: None,
                    tag: lock.tag,
                    alone: lock.alone,
                    flags: lock.flags,
                    value: None,
                };
                given.push((slot, Given::Orphan(row)));
            }
            if let Some(value) = resource.value.filter(|_| !unsettled.has(slot)) {
                let value = ValueReport {
                    space: resource.space,
                    name: resource.name.into(),
                    value: value.clone(),
                    written: false,
                };
                given.push((slot, Given::Value(value)));
            }
        }
        self.table.drop_slots(slots);
        if let Some(member) = &mut self.member {
            member.guests.forget_waits(slots);
        }
        GivenUp { given, unsettled: unsettled.iter().collect() }
    }
}

/// What a node hands over with slots it was master of.
pub(crate) struct GivenUp {
    given: Vec<(Slot, Given)>,
    unsettled: Vec<Slot>,
}

/// What only the former master of a slot knows.
pub(crate) enum Given {
    Orphan(LockReport),
    Value(ValueReport),
}

fn wait_report(now: Time, id: RequestId, since: Time, forward: &Forward) -> Option<WaitReport> {
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
        (Wait::For(_), None) => Some(lockstead_types::Span::ZERO),
        (Wait::Never | Wait::Forever, _) => None,
    };
    let waited = now.since(since);
    Some(WaitReport { id, claim, flags, left, waited, demoted: false, ticket, priority, value })
}

/// A write to a value block of which nobody knows whether it took place.
fn doubtful_write(forward: &Forward, copies: &super::copies::Copies) -> Option<ValueReport> {
    forward.sent?;
    let (copy, value) = match &forward.what {
        What::Convert { copy, value: Some(value), .. } | What::Release { copy, value: Some(value), .. } => {
            (copies.get(*copy)?, value)
        }
        _ => return None,
    };
    let value = Value { bytes: value.clone(), invalid: true };
    Some(ValueReport { space: copy.space, name: copy.name.clone(), value, written: true })
}
