//! Persistent lockspaces at a master: what changes the value block of a resource, or whether somebody may write it, is agreed on by
//! the members before anybody is told. A file of its own, since nothing else in the lock manager waits for a disk.
//!
//! ```text
//!   table changed --> Keep proposed --> applied --> answers that were given since go out, in their order
//! ```

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet, VecDeque},
    vec::Vec,
};

use lockstead_cluster::{Command, Kept, Refused, State};
use lockstead_types::{
    LockId, NodeId, Slot, SlotSet, SpaceId, Time,
    peer::PeerMessage,
    reply::{Notice, Reply, Value},
};

use super::{Member, proposals::Subject};
use crate::node::Node;

/// A resource of a persistent lockspace.
type Resource = (SpaceId, Box<[u8]>);

/// What is being agreed on, and who waits to be told.
#[derive(Default)]
pub(crate) struct Keeping {
    /// Counts changes: an answer that came after change n waits for all changes up to it.
    newest: u64,
    /// Counts what was proposed.
    order: u64,
    changes: BTreeMap<(Slot, Resource), Changing>,
    /// Resources that changed while their slot was being taken over: looked at when it is thawed.
    later: Vec<Resource>,
    /// Resources whose writer was lost under a master before, which is not agreed on yet.
    lost: BTreeSet<(Slot, Resource)>,
    /// What may not go out yet, by slot, in the order of what it came after.
    held: BTreeMap<Slot, VecDeque<Held>>,
}

struct Changing {
    /// Its oldest change that is not agreed on.
    since: u64,
    /// As proposed.
    proposed: Kept,
    /// The oldest change since that.
    again: Option<u64>,
}

/// A message that may not go out yet.
struct Held {
    after: u64,
    to: NodeId,
    message: PeerMessage,
}

impl Keeping {
    /// The oldest change of a slot that is not agreed on.
    fn oldest(&self, slot: Slot) -> Option<u64> {
        let first = (slot, (SpaceId(0), Box::default()));
        let of_slot = self.changes.range(first..).take_while(|((other, _), _)| *other == slot);
        of_slot.map(|(_, changing)| changing.since).min()
    }

    /// The next message of a slot that waits for nothing any more.
    fn next_told(&mut self, slot: Slot) -> Option<Held> {
        let oldest = self.oldest(slot);
        let held = self.held.get_mut(&slot)?;
        let next = held.pop_front_if(|held| oldest.is_none_or(|oldest| held.after < oldest));
        if held.is_empty() {
            self.held.remove(&slot);
        }
        next
    }

    /// Whether a grant of this lock waits to be told.
    fn grants(&self, lock: LockId) -> Option<Slot> {
        let of = |message: &PeerMessage| match message {
            PeerMessage::Reply { reply: Reply::Granted(grant), .. } => grant.lock == lock,
            _ => false,
        };
        self.held.iter().find(|(_, held)| held.iter().any(|held| of(&held.message))).map(|(slot, _)| *slot)
    }
}

/// What is kept of a resource whose slot goes.
pub(crate) struct Agreed {
    pub(crate) value: Value,
    /// The homes that ask again for what was written since; `None` where somebody may have written for whom nobody asks.
    pub(crate) askers: Option<BTreeSet<NodeId>>,
}

impl Member {
    /// What was done in a slot since a change, and is undone now, is asked of the new master by the homes that have had no answer:
    /// these. `None` where not all of them are there.
    ///
    /// Without this: s releases its lock with a value at its old home, from which it has gone; the slot moves before that is agreed on;
    /// at its new home s claims nothing, and the value of before is read as valid. A session that ended is like that too.
    fn asked_again_by(&self, slot: Slot, since: u64) -> Option<BTreeSet<NodeId>> {
        let held = self.keeping.held.get(&slot).into_iter().flatten().filter(|held| held.after >= since);
        let askers = held.filter_map(|held| match held.message {
            PeerMessage::Reply { session, home, .. } => Some((session, home, held.to)),
            _ => None,
        });
        let is_home = |session, home| {
            let entry = self.state.sessions.get(&session);
            // One that is not in the directory yet has its first home; one that is in it no more asks for nothing.
            entry.map_or(self.guests.find(session).is_some(), |entry| {
                entry.generation <= home && self.state.is_up(entry.home, entry.incarnation)
            })
        };
        let homes = askers.map(|(session, home, to)| is_home(session, home).then_some(to));
        homes.collect::<Option<BTreeSet<NodeId>>>().filter(|homes| !homes.is_empty())
    }
}

impl Node {
    /// Looks at what has changed since it last looked, and proposes it.
    pub(crate) fn keep_changes(&mut self, now: Time) {
        if self.table.has_touched() {
            for resource in self.table.take_touched() {
                self.keep_change(now, resource);
            }
        }
    }

    /// Slots were thawed: the same for what changed in them before.
    pub(crate) fn keep_thawed(&mut self, now: Time) {
        let later = self.member.as_mut().map(|m| core::mem::take(&mut m.keeping.later)).unwrap_or_default();
        for resource in later {
            self.keep_change(now, resource);
        }
    }

    fn keep_change(&mut self, now: Time, resource: Resource) {
        let Some(slot) = self.slot_of(resource.0, &resource.1) else { return };
        let frozen = self.table.is_frozen_slot(slot);
        let Some(member) = &mut self.member else { return };
        let Some(entry) = member.state.master(slot) else { return };
        if (entry.master, entry.incarnation) != (member.me, member.incarnation) {
            return;
        }
        let mut present = kept_now(&self.table, &resource);
        if frozen {
            member.keeping.later.push(resource.clone());
            if !member.has_heard_homes(slot) {
                return;
            }
            // [PERSIST-2] What is written before the thaw is told before the thaw. Who may write is not known whole until then: one
            // without a home may claim its lock yet.
            //
            // Without this: M2 takes a slot over and makes a write that M1 was asked for, and answers; it gives the slot up before it has proposed
            // that at the thaw, and M3 is told of the value of before.
            present.written |= kept_of(&member.state, &resource).written;
        }
        let key = (slot, resource);
        if let Some(changing) = member.keeping.changes.get_mut(&key) {
            if changing.proposed != present || changing.again.is_some() {
                member.keeping.newest += 1;
                changing.again.get_or_insert(member.keeping.newest);
            }
            return;
        }
        member.keeping.newest += 1;
        let since = member.keeping.newest;
        self.propose_kept(now, key, since, present);
    }

    /// Proposes what is to be kept of a resource from change `since` on, where the members keep another thing.
    fn propose_kept(&mut self, now: Time, key: (Slot, Resource), since: u64, kept: Kept) {
        let Some(member) = &mut self.member else { return };
        let (slot, (space, name)) = &key;
        let (slot, space, name) = (*slot, *space, name.to_vec());
        let known = kept_of(&member.state, &key.1);
        let Some(entry) = member.state.master(slot).filter(|_| known != kept) else { return };
        member.keeping.changes.insert(key, Changing { since, proposed: kept.clone(), again: None });
        member.keeping.order += 1;
        let order = member.keeping.order;
        let command = Command::Keep { space, slot, generation: entry.generation, order, name, kept };
        self.propose(now, Subject::Keep(since), command);
    }

    /// The members agreed on it, or not: whoever waited for it is told.
    pub(crate) fn settle_keep(&mut self, now: Time, command: &Command, refused: Option<Refused>) {
        let Command::Keep { space, slot, name, .. } = command else { return };
        let key = (*slot, (*space, name.as_slice().into()));
        let Some(member) = &mut self.member else { return };
        let Some(since) = member.keeping.changes.get(&key).map(|changing| changing.since) else { return };
        if !member.proposals.is(Subject::Keep(since), command) {
            return;
        }
        member.proposals.settled(Subject::Keep(since));
        // [PERSIST-6] What was proposed later about another resource of the slot came before it: it is said again.
        let overtaken = refused == Some(Refused::Outdated);
        if refused.is_none() {
            member.keeping.lost.remove(&key);
        }
        let again = member
            .keeping
            .changes
            .remove(&key)
            .and_then(|changing| if overtaken { Some(changing.since) } else { changing.again });
        if refused == Some(Refused::Full) {
            let what = alloc::format!("lockspace number {}: more is to be kept than the members keep", space.0);
            self.audit(what);
        }
        // Under the number of the change, and no newer one: what it caused waits for that number, and would go out before it.
        if let Some(again) = again {
            let present = kept_now(&self.table, &key.1);
            self.propose_kept(now, key, again, present);
        }
        while let Some(Held { to, message, .. }) = self.member.as_mut().and_then(|m| m.keeping.next_told(*slot)) {
            self.send_peer(now, to, message);
        }
    }

    /// [PERSIST-2] Sends a guest's home what it is to be told, once what it tells is agreed on.
    pub(crate) fn tell_home(&mut self, now: Time, slot: Option<Slot>, to: NodeId, message: PeerMessage) {
        self.keep_changes(now);
        let Some(member) = &mut self.member else { return };
        let keeping = &mut member.keeping;
        if let Some(slot) = slot.filter(|slot| keeping.oldest(*slot).is_some()) {
            let after = keeping.newest;
            keeping.held.entry(slot).or_default().push_back(Held { after, to, message });
        } else {
            self.send_peer(now, to, message);
        }
    }

    /// The slot whose messages a notice must not overtake.
    pub(crate) fn slot_of_notice(&self, notice: &Notice) -> Option<Slot> {
        match notice {
            Notice::Blocking { lock, .. } | Notice::Revoked { lock, .. } => self.member.as_ref()?.keeping.grants(*lock),
            Notice::Changed(_) | Notice::Resync | Notice::Aborted => None,
        }
    }

    /// What the members keep of a resource of which more is being agreed on.
    ///
    /// [PERSIST-5] Its slot goes to another master: what is not agreed on was told to nobody, and never is.
    pub(crate) fn agreed_value(&self, slot: Slot, space: SpaceId, name: &[u8]) -> Option<Agreed> {
        let member = self.member.as_ref()?;
        // Asked of every resource that goes, of which few or none are so: no key is made for nothing.
        if member.keeping.changes.is_empty() {
            return None;
        }
        let changing = member.keeping.changes.get(&(slot, (space, name.into())))?;
        let resource = (space, name.into());
        let kept = kept_of(&member.state, &resource);
        // One that gave its right up and wrote nothing is not missed.
        let present = kept_now(&self.table, &resource);
        let wrote = (&present.value, present.dubious) != (&kept.value, kept.dubious);
        let may_have_written = kept.written && wrote;
        let askers = if may_have_written { member.asked_again_by(slot, changing.since) } else { Some(BTreeSet::new()) };
        // [PERSIST-3] A writer was lost here, or before: that is known, though it is not agreed on.
        //
        // Without this: s releases its lock with a value that reaches nobody, since all nodes die; nobody claims the lock, and who waited behind it is
        // granted what it waits for; before it is agreed that the value is dubious, and so before that one is told, the slot moves: what was there
        // before is told as valid.
        let lost = kept.written && (present.dubious || member.keeping.lost.contains(&(slot, resource)));
        Some(Agreed { value: Value { bytes: kept.value.into(), invalid: kept.dubious || lost }, askers })
    }

    /// Slots have gone to other masters: who is to hear that, since their requests were not carried out as far as anybody knows.
    pub(crate) fn forget_kept(&mut self, slots: &SlotSet) -> Vec<(NodeId, PeerMessage)> {
        let Some(member) = &mut self.member else { return Vec::new() };
        member.keeping.lost.retain(|(slot, _)| !slots.has(*slot));
        let proposals = &mut member.proposals;
        member.keeping.changes.retain(|(slot, _), changing| {
            let gone = slots.has(*slot);
            if gone {
                proposals.settled(Subject::Keep(changing.since));
            }
            !gone
        });
        let gone = member.keeping.held.extract_if(.., |slot, _| slots.has(*slot));
        gone.flat_map(|(_, held)| held).filter_map(|Held { to, message, .. }| Some((to, undone(&message)?))).collect()
    }

    /// This node is the new master of slots: what is kept of their resources is what the living old master would say, unless somebody
    /// may have written since.
    pub(crate) fn restore_kept(&mut self, slots: &SlotSet) {
        let Some(member) = &self.member else { return };
        let mine = |space: SpaceId, name: &[u8]| self.slot_of(space, name).is_some_and(|slot| slots.has(slot));
        let all = member.state.kept.iter().flat_map(|(space, of)| of.iter().map(|(name, kept)| (*space, name, kept)));
        let mine: Vec<_> = all
            .filter(|(space, name, _)| mine(*space, name))
            .map(|(space, name, kept)| (space, name.clone(), kept.clone()))
            .collect();
        for (space, name, kept) in mine {
            let value = Value { bytes: kept.value.into(), invalid: kept.dubious };
            // [PERSIST-3]
            self.table.restore_value(space, &name, &value, !kept.written);
            if let Some(member) = &mut self.member {
                member.keeping.later.push((space, name));
            }
        }
    }

    /// What there is in the value blocks of slots that are taken over is known: where the last writer was lost, that is remembered until it is
    /// agreed on.
    pub(crate) fn note_lost_writers(&mut self, slots: &SlotSet) {
        let Some(member) = &self.member else { return };
        let written =
            member.state.kept.iter().flat_map(|(space, of)| of.iter().map(|(name, kept)| (*space, name, kept)));
        let lost = written.filter(|(_, _, kept)| kept.written && !kept.dubious).filter_map(|(space, name, _)| {
            let slot = self.slot_of(space, name).filter(|slot| slots.has(*slot))?;
            let (value, _) = self.table.value_and_writer(space, name);
            value.invalid.then(|| (slot, (space, name.clone())))
        });
        let lost: Vec<(Slot, Resource)> = lost.collect();
        if let Some(member) = &mut self.member {
            member.keeping.lost.extend(lost);
        }
    }
}

/// What the asker is told instead of an answer that may not go out.
fn undone(message: &PeerMessage) -> Option<PeerMessage> {
    match message {
        PeerMessage::Reply { session, home, id, generation, .. } => {
            Some(PeerMessage::Stale { session: *session, home: *home, id: *id, generation: *generation })
        }
        _ => None,
    }
}

fn kept_of(state: &State, (space, name): &Resource) -> Kept {
    state.kept.get(space).and_then(|of| of.get(name)).cloned().unwrap_or_default()
}

fn kept_now(table: &lockstead_table::Table, (space, name): &Resource) -> Kept {
    let (value, written) = table.value_and_writer(*space, name);
    Kept { value: value.bytes.into_vec(), dubious: value.invalid, written }
}
