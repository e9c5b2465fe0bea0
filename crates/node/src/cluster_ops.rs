//! What operators do about the members of a cluster, and the look at who they are. The order becomes a command; who gave it is
//! answered when the members have agreed on it or refused it.

use alloc::{collections::BTreeMap, format, string::String, vec::Vec};

use lockstead_cluster::{Command, Member, MemberState, Place, PlaceWhy, Refused, Seat, State};
use lockstead_types::{
    NodeId, RequestId, Slot, Time,
    name::escape,
    refusal::Refusal,
    reply::Reply,
    report::{MemberRow, MemberStage, MemberStatus},
    request::{ClusterOrder, MemberOrder, SlotRef},
    space::slot_key,
};

use crate::node::Node;

impl Node {
    /// An order about the members. A node alone has none.
    pub(crate) fn on_cluster_order(&mut self, now: Time, at: u32, id: RequestId, order: &ClusterOrder) {
        let command = self.check_reason(&order.reason).and_then(|()| {
            let state = self.cluster_state().ok_or(Refusal::Invalid)?;
            self.check_slot_ref(&order.what)?;
            command(state, &order.what)
        });
        match command {
            Ok(command) => {
                self.audit_request(at, &format!("asked that {}", words(&order.what)), Some(&order.reason));
                self.propose_for(now, at, id, command);
            }
            Err(why) => self.refuse(at, id, why),
        }
    }

    /// A slot can be named by a name of a lockspace that exists.
    fn check_slot_ref(&self, what: &MemberOrder) -> Result<(), Refusal> {
        match what {
            MemberOrder::Pin { slot: SlotRef::Name { space, .. }, .. }
            | MemberOrder::Unpin(SlotRef::Name { space, .. }) => {
                self.table.space(*space).map(|_| ()).ok_or(Refusal::NoLockspace)
            }
            _ => Ok(()),
        }
    }

    /// The members agreed on a command, or refused it: who ordered it is answered.
    pub(crate) fn settle_cluster_order(&mut self, command: &Command, refused: Option<Refused>) {
        for (at, id) in self.proposers(command) {
            match refused.map(refusal) {
                None => self.answer(at, id, Reply::Done),
                Some(why) => self.refuse(at, id, why),
            }
        }
    }

    pub(crate) fn on_led(&mut self, by: NodeId) {
        if let Some(member) = &mut self.member {
            member.leader = Some(by);
        }
    }

    /// This node as a member, in numbers.
    pub(crate) fn member_status(&self, now: Time) -> Option<MemberStatus> {
        let member = self.member.as_ref()?;
        let (recovering, since) = self.recovering_slots();
        Some(MemberStatus {
            incarnation: member.incarnation.0,
            members: short(member.state.members.len()),
            up: short(member.state.up().count()),
            leader: member.leader,
            authority: member.authority.since(now),
            slots: short(member.state.slots_of(member.me).len()),
            recovering: short(recovering),
            recovering_for: since.map_or(lockstead_types::Span::ZERO, |since| now.since(since)),
        })
    }

    /// The members as this node knows them, also while it has no authority; none of a node alone.
    #[must_use]
    pub fn member_rows(&self) -> Vec<MemberRow> {
        let Some(state) = self.cluster_state() else { return Vec::new() };
        let slots = state.spread();
        let mut sessions: BTreeMap<NodeId, usize> = BTreeMap::new();
        state.sessions.values().for_each(|session| *sessions.entry(session.home).or_default() += 1);
        let count = |node| {
            (slots.get(&node).map_or(0, |slots| *slots as usize), sessions.get(&node).copied().unwrap_or_default())
        };
        state.members.iter().map(|(node, member)| row(state, *node, member, count(*node))).collect()
    }
}

/// Whether a command is an operator's.
pub(crate) fn is_order(command: &Command) -> bool {
    matches!(
        command,
        Command::Admit { .. }
            | Command::Drain { .. }
            | Command::Remove { .. }
            | Command::Pin { .. }
            | Command::Unpin { .. }
            | Command::Weigh { .. }
    )
}

fn command(state: &State, what: &MemberOrder) -> Result<Command, Refusal> {
    match what {
        MemberOrder::Admit { node, identity, peer_address, client_address, weight } => {
            let seat = Seat {
                node: *node,
                identity: *identity,
                peer_address: peer_address.clone(),
                client_address: client_address.clone(),
                weight: *weight,
            };
            Ok(Command::Admit { seat })
        }
        MemberOrder::Drain(node) => {
            let incarnation = state.members.get(node).ok_or(Refusal::NotHeld)?.incarnation;
            Ok(Command::Drain { node: *node, incarnation })
        }
        MemberOrder::Remove(node) => Ok(Command::Remove { node: *node }),
        MemberOrder::Pin { slot, node } => Ok(Command::Pin { slot: slot_of(state, slot), node: *node }),
        MemberOrder::Unpin(slot) => Ok(Command::Unpin { slot: slot_of(state, slot) }),
        MemberOrder::Weigh { node, weight } => Ok(Command::Weigh { node: *node, weight: *weight }),
    }
}

fn slot_of(state: &State, slot: &SlotRef) -> Slot {
    match slot {
        SlotRef::Number(slot) => *slot,
        SlotRef::Name { space, name } => {
            let (levels, extents) = state.spaces.get(space).map_or((0, false), |spec| (spec.levels, spec.extents));
            Slot::of(state.seed, *space, slot_key(name, levels, extents))
        }
    }
}

fn refusal(why: Refused) -> Refusal {
    match why {
        Refused::Unknown => Refusal::NotHeld,
        Refused::Exists => Refusal::Exists,
        Refused::InUse | Refused::Last => Refusal::Busy,
        Refused::Outdated | Refused::Formed | Refused::Invalid | Refused::Full => Refusal::Invalid,
    }
}

fn words(what: &MemberOrder) -> String {
    match what {
        MemberOrder::Admit { node, identity, .. } => format!("node {} with identity {identity:032x} be let in", node.0),
        MemberOrder::Drain(node) => format!("node {} give up its slots", node.0),
        MemberOrder::Remove(node) => format!("node {} be removed", node.0),
        MemberOrder::Pin { slot, node } => format!("{} belong to node {}", slot_words(slot), node.0),
        MemberOrder::Unpin(slot) => format!("{} belong to nobody", slot_words(slot)),
        MemberOrder::Weigh { node, weight } => format!("node {} have the weight {weight}", node.0),
    }
}

fn slot_words(slot: &SlotRef) -> String {
    match slot {
        SlotRef::Number(slot) => format!("slot {}", slot.0),
        SlotRef::Name { space, name } => format!("the slot of {} in lockspace number {}", escape(name), space.0),
    }
}

fn row(state: &State, node: NodeId, member: &Member, (slots, sessions): (usize, usize)) -> MemberRow {
    MemberRow {
        node,
        state: match member.state {
            MemberState::Down => MemberStage::Down,
            MemberState::Up => MemberStage::Up,
            MemberState::Draining => MemberStage::Draining,
        },
        incarnation: member.incarnation.0,
        weight: member.weight,
        slots: short(slots),
        pinned: places(state, node, PlaceWhy::Pinned).collect(),
        used: short(places(state, node, PlaceWhy::Used).count()),
        sessions: short(sessions),
        identity: member.identity,
        peer_address: member.peer_address.clone(),
        client_address: member.client_address.clone(),
    }
}

/// The slots that belong to a member for a reason.
fn places(state: &State, node: NodeId, why: PlaceWhy) -> impl Iterator<Item = Slot> + '_ {
    let its = move |place: &Place| place.node == node && place.why == why;
    state.places.iter().filter(move |(_, place)| its(place)).map(|(slot, _)| *slot)
}

fn short(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
