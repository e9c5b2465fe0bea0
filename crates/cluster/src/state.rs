//! The state all nodes share.

use alloc::{collections::BTreeMap, string::String, vec::Vec};

use lockstead_types::{
    NodeId, SessionId, SpaceId, Span,
    peer::{HomeGeneration, Incarnation, SlotGeneration},
    space::SpaceSpec,
};

/// What the cluster agrees on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct State {
    /// How many commands were applied. Every message about a session says how far its sender was.
    pub version: u64,
    /// The numbered membership: rises whenever a member or a slot's master changes. 0 before the cluster is formed.
    pub epoch: u32,
    /// Seeds the slots of names.
    pub seed: u64,
    /// For proofs of claims.
    pub key: [u8; 32],
    /// All members, up or not.
    pub members: BTreeMap<NodeId, Member>,
    /// The master of each slot; empty before the cluster is formed, then [`lockstead_types::slot::SLOTS`] long.
    pub slots: Vec<SlotEntry>,
    /// Lockspaces.
    pub spaces: BTreeMap<SpaceId, SpaceSpec>,
    /// The newest number given to a lockspace.
    pub newest_space: u32,
    /// The nonce each lockspace was created with.
    pub space_nonces: BTreeMap<SpaceId, u64>,
    /// Sessions that have not ended.
    pub sessions: BTreeMap<SessionId, SessionEntry>,
    /// The largest lease ever granted.
    pub ttl_max: Span,
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

/// A session in the directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionEntry {
    /// The node it is connected to.
    pub home: NodeId,
    /// Which start of it. Where that is no longer up, the session is homeless: its client comes to another node, or it ends.
    pub incarnation: Incarnation,
    /// How often the home has changed.
    pub generation: HomeGeneration,
    /// Its lease.
    pub ttl: Span,
    /// Text of the principal.
    pub principal: String,
    /// Whether it came over a connection whose end ends it.
    pub local: bool,
}
