//! Persistent lockspaces at a master: what changes the value block of a resource, or whether somebody may write it, is agreed on by
//! the members before anybody is told. A file of its own, since nothing else in the lock manager waits for a disk.
//!
//! ```text
//!   table changed --> Keep proposed --> applied --> answers that were given since go out, in their order
//! ```

use alloc::{
    boxed::Box,
    collections::{BTreeMap, VecDeque},
    vec::Vec,
};

use lockstead_cluster::{Command, Kept, Refused};
use lockstead_types::{
    LockId, NodeId, Slot, SlotSet, SpaceId, Time,
    peer::PeerMessage,
    reply::{Notice, Reply, Value},
};

use super::proposals::Subject;
use crate::node::Node;

/// A resource of a persistent lockspace.
pub(crate) type Place = (SpaceId, Box<[u8]>);

/// What is being agreed on, and who waits to be told.
#[derive(Default)]
pub(crate) struct Keeping {
    /// Counts changes: an answer that came after change n waits for all changes up to it.
    newest: u64,
    changes: BTreeMap<Place, Changing>,
    /// Resources that changed while their slot was being taken over: looked at when it is thawed.
    later: Vec<Place>,
    held: VecDeque<Held>,
}

struct Changing {
    slot: Slot,
    /// Its oldest change that is not agreed on.
    since: u64,
    /// As proposed.
    proposed: Kept,
    /// Changed again since.
    again: Option<u64>,
}

/// A message that may not go out yet.
struct Held {
    slot: Slot,
    after: u64,
    to: NodeId,
    message: PeerMessage,
}

impl Keeping {
    /// The oldest change of a slot that is not agreed on.
    fn oldest(&self, slot: Slot) -> Option<u64> {
        self.changes.values().filter(|c| c.slot == slot).map(|c| c.since).min()
    }

    /// Whether a grant of this lock waits to be told.
    fn grants(&self, lock: LockId) -> Option<Slot> {
        let of = |message: &PeerMessage| match message {
            PeerMessage::Reply { reply: Reply::Granted(grant), .. } => grant.lock == lock,
            _ => false,
        };
        self.held.iter().find(|held| of(&held.message)).map(|held| held.slot)
    }
}

impl Node {
    /// Looks at what has changed since it last looked, and proposes it.
    pub(crate) fn keep_changes(&mut self, now: Time) {
        let Some(member) = &mut self.member else { return };
        if !self.table.has_touched() && member.keeping.later.is_empty() {
            return;
        }
        let mut places = core::mem::take(&mut member.keeping.later);
        places.extend(self.table.take_touched());
        places.sort_unstable();
        places.dedup();
        for place in places {
            self.keep_change(now, place);
        }
    }

    fn keep_change(&mut self, now: Time, place: Place) {
        let Some(slot) = self.slot_of(place.0, &place.1) else { return };
        let frozen = self.table.is_frozen_slot(slot);
        let Some(member) = &mut self.member else { return };
        let Some(entry) = member.state.master(slot) else { return };
        if (entry.master, entry.incarnation) != (member.me, member.incarnation) {
            return;
        }
        if frozen {
            member.keeping.later.push(place);
            return;
        }
        let present = kept_now(&self.table, &place);
        if let Some(changing) = member.keeping.changes.get_mut(&place) {
            if changing.proposed != present || changing.again.is_some() {
                member.keeping.newest += 1;
                changing.again.get_or_insert(member.keeping.newest);
            }
            return;
        }
        let (space, name) = (place.0, place.1.to_vec());
        let known = member.state.kept.get(&space).and_then(|of| of.get(&place.1)).cloned().unwrap_or_default();
        if known == present {
            return;
        }
        member.keeping.newest += 1;
        let since = member.keeping.newest;
        member.keeping.changes.insert(place, Changing { slot, since, proposed: present.clone(), again: None });
        let command = Command::Keep { space, slot, generation: entry.generation, name, kept: present };
        self.propose(now, Subject::Keep(since), command);
    }

    /// The members agreed on it, or not: whoever waited for it is told.
    pub(crate) fn settle_keep(&mut self, now: Time, command: &Command, refused: Option<Refused>) {
        let Command::Keep { space, name, .. } = command else { return };
        let place: Place = (*space, name.as_slice().into());
        let Some(member) = &mut self.member else { return };
        let Some(since) = member.keeping.changes.get(&place).map(|changing| changing.since) else { return };
        if !member.proposals.is(Subject::Keep(since), command) {
            return;
        }
        member.proposals.settled(Subject::Keep(since));
        let again = member.keeping.changes.remove(&place).and_then(|changing| changing.again);
        if refused == Some(Refused::Full) {
            let what = alloc::format!("lockspace number {}: more is to be kept than the members keep", space.0);
            self.audit(what);
        }
        if again.is_some() {
            self.keep_change(now, place);
        }
        self.tell_kept(now);
    }

    /// Sends what waits for nothing any more.
    fn tell_kept(&mut self, now: Time) {
        loop {
            let Some(member) = &mut self.member else { return };
            let keeping = &mut member.keeping;
            let free = |held: &Held| keeping.oldest(held.slot).is_none_or(|oldest| held.after < oldest);
            let Some(at) = keeping.held.iter().position(free) else { return };
            let Some(Held { to, message, .. }) = keeping.held.remove(at) else { return };
            self.send_peer(now, to, message);
        }
    }

    /// [PERSIST-2] Sends a guest's home what it is to be told, once what it tells is agreed on.
    pub(crate) fn tell_home(&mut self, now: Time, slot: Option<Slot>, to: NodeId, message: PeerMessage) {
        self.keep_changes(now);
        let Some(member) = &mut self.member else { return };
        let keeping = &mut member.keeping;
        if let Some(slot) = slot.filter(|slot| keeping.oldest(*slot).is_some()) {
            keeping.held.push_back(Held { slot, after: keeping.newest, to, message });
        } else {
            self.send_peer(now, to, message);
        }
    }

    /// The slot whose messages a notice must not overtake.
    pub(crate) fn slot_of_notice(&self, notice: &Notice) -> Option<Slot> {
        match notice {
            Notice::Blocking { lock, .. } | Notice::Revoked { lock, .. } => self.member.as_ref()?.keeping.grants(*lock),
            Notice::Changed(_) | Notice::Resync => None,
        }
    }

    /// Slots have gone to other masters, who are asked again.
    pub(crate) fn forget_kept(&mut self, slots: &SlotSet) {
        let Some(member) = &mut self.member else { return };
        let proposals = &mut member.proposals;
        member.keeping.changes.retain(|_, changing| {
            let gone = slots.has(changing.slot);
            if gone {
                proposals.settled(Subject::Keep(changing.since));
            }
            !gone
        });
        member.keeping.held.retain(|held| !slots.has(held.slot));
    }

    /// This node is the new master of slots: what is kept of their resources is what the living old master would say, unless somebody
    /// may have written since.
    pub(crate) fn restore_kept(&mut self, slots: &SlotSet) {
        let Some(member) = &self.member else { return };
        let all = member
            .state
            .kept
            .iter()
            .flat_map(|(space, of)| of.iter().map(|(name, kept)| (*space, name.clone(), kept.clone())));
        let mine: Vec<_> =
            all.filter(|(space, name, _)| self.slot_of(*space, name).is_some_and(|slot| slots.has(slot))).collect();
        for (space, name, kept) in mine {
            let value = Value { bytes: kept.value.into(), invalid: kept.dubious };
            // [PERSIST-3]
            self.table.restore_value(space, &name, &value, !kept.written);
            if let Some(member) = &mut self.member {
                member.keeping.later.push((space, name));
            }
        }
    }
}

fn kept_now(table: &lockstead_table::Table, (space, name): &Place) -> Kept {
    let (value, written) = table.value_and_writer(*space, name);
    Kept { value: value.bytes.into_vec(), dubious: value.invalid, written }
}
