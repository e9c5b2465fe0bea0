//! The state all nodes share.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec::Vec,
};

use lockstead_types::{
    NodeId, SessionId, Slot, SpaceId, Span,
    peer::{HomeGeneration, Incarnation, SlotGeneration},
    slot::SlotSet,
    space::SpaceSpec,
};

use crate::kept::Kept;

/// What the cluster agrees on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct State {
    /// How many commands were applied, refused ones too.
    pub version: u64,
    /// The numbered membership: rises whenever a member or a slot's master changes. 0 before the cluster is formed.
    pub epoch: u32,
    /// Seeds the slots of names.
    pub seed: u64,
    /// For proofs of claims.
    pub key: [u8; 32],
    /// All members, up or not.
    pub members: BTreeMap<NodeId, Member>,
    /// The incarnation that removed members had: one that is admitted again goes on counting.
    pub retired: BTreeMap<NodeId, Incarnation>,
    /// The master of each slot; empty before the cluster is formed, then [`lockstead_types::slot::SLOTS`] long.
    pub slots: Vec<SlotEntry>,
    /// Slots that belong to one member, whatever an even spread says.
    pub places: BTreeMap<Slot, Place>,
    /// Lockspaces.
    pub spaces: BTreeMap<SpaceId, SpaceSpec>,
    /// The newest number given to a lockspace.
    pub newest_space: u32,
    /// The nonce each lockspace was created with.
    pub space_nonces: BTreeMap<SpaceId, u64>,
    /// Lockspaces that are to be dropped once they are empty: masters refuse new locks in them.
    pub closing: BTreeSet<SpaceId>,
    /// Sessions that have not ended.
    pub sessions: BTreeMap<SessionId, SessionEntry>,
    /// The largest lease ever granted.
    pub ttl_max: Span,
    /// What is kept of resources of persistent lockspaces.
    pub kept: BTreeMap<SpaceId, BTreeMap<Box<[u8]>, Kept>>,
    /// The newest that was said of what is kept in a slot: under which generation, and its order.
    pub said: BTreeMap<Slot, (SlotGeneration, u64)>,
}

/// A member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Of its data.
    pub identity: u128,
    /// How often it has started; 0 before its first.
    pub incarnation: Incarnation,
    /// The nonce of its newest start.
    pub nonce: u64,
    /// Whether it takes part.
    pub state: MemberState,
    /// Its share of the slots; 0 for a witness.
    pub weight: u32,
    /// Where other nodes reach it.
    pub peer_address: String,
    /// Where clients reach it.
    pub client_address: String,
}

/// Whether a member takes part.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum MemberState {
    /// Not started yet, or evicted: it has no authority and no slots. It comes back with `Start`.
    Down,
    /// It takes part.
    Up,
    /// It takes part as a home and gets no slots: on its way out, or not yet in.
    Draining,
}

/// Who decides for a slot.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct SlotEntry {
    /// The master.
    pub master: NodeId,
    /// Which start of it.
    pub incarnation: Incarnation,
    /// Rises with every change.
    pub generation: SlotGeneration,
}

/// Where a slot belongs.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// The member that masters it while it is up.
    pub node: NodeId,
    /// Who says so.
    pub why: PlaceWhy,
}

/// Why a slot belongs to one member.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum PlaceWhy {
    /// An operator said so. It holds until an operator says otherwise; while the member is down others master the slot.
    Pinned,
    /// The member uses it most. Forgotten when the member goes.
    Used,
}

/// A session in the directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionEntry {
    /// The node it is connected to.
    pub home: NodeId,
    /// Which start of it. Where that is no longer up, the session is homeless: its client comes to another node, or it ends.
    pub incarnation: Incarnation,
    /// Rises each time the home changes, from a number that no earlier session of this id had.
    pub generation: HomeGeneration,
    /// Its lease.
    pub ttl: Span,
    /// Text of the principal.
    pub principal: String,
    /// Whether it came over a connection whose end ends it.
    pub local: bool,
}

impl State {
    /// Whether the cluster is formed.
    #[must_use]
    pub fn is_formed(&self) -> bool {
        self.epoch > 0
    }

    /// The master of a slot; `None` before the cluster is formed.
    #[must_use]
    pub fn master(&self, slot: Slot) -> Option<SlotEntry> {
        self.slots.get(usize::from(slot.0)).copied()
    }

    /// Members that take part, draining ones too, with the start they are in.
    pub fn up(&self) -> impl Iterator<Item = (NodeId, Incarnation)> + '_ {
        let up = self.members.iter().filter(|(_, member)| member.state != MemberState::Down);
        up.map(|(node, member)| (*node, member.incarnation))
    }

    /// Members that may get slots.
    pub fn masters(&self) -> impl Iterator<Item = (NodeId, Incarnation)> + '_ {
        let able = |member: &Member| member.state == MemberState::Up && member.weight > 0;
        self.members.iter().filter(move |(_, m)| able(m)).map(|(node, member)| (*node, member.incarnation))
    }

    /// Whether this start of a member takes part.
    #[must_use]
    pub fn is_up(&self, node: NodeId, incarnation: Incarnation) -> bool {
        self.members
            .get(&node)
            .is_some_and(|member| member.state != MemberState::Down && member.incarnation == incarnation)
    }

    /// Sessions whose home is no longer up.
    pub fn homeless(&self) -> impl Iterator<Item = (SessionId, &SessionEntry)> + '_ {
        let lost = self.sessions.iter().filter(|(_, entry)| !self.is_up(entry.home, entry.incarnation));
        lost.map(|(session, entry)| (*session, entry))
    }

    /// How many slots each node has; those without any are absent.
    #[must_use]
    pub fn spread(&self) -> BTreeMap<NodeId, u32> {
        crate::spread::tally(self.slots.iter().map(|slot| slot.master))
    }

    /// The slots of a node, whichever start of it has them.
    #[must_use]
    pub fn slots_of(&self, node: NodeId) -> SlotSet {
        Slot::all().filter(|slot| self.master(*slot).is_some_and(|now| now.master == node)).collect()
    }

    /// The member a slot belongs to, if that one can have it now.
    #[must_use]
    pub fn place(&self, slot: Slot) -> Option<NodeId> {
        let place = self.places.get(&slot)?;
        let able = |member: &Member| member.state == MemberState::Up && member.weight > 0;
        self.members.get(&place.node).is_some_and(able).then_some(place.node)
    }
}
