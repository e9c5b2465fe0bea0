//! The commands that change what a cluster agrees on, and what each changed.

use alloc::{string::String, vec::Vec};

use lockstead_types::{
    NodeId, SessionId, Slot, SpaceId, Span,
    peer::{HomeGeneration, Incarnation, SlotGeneration},
    space::SpaceSpec,
};

use crate::kept::Kept;

/// What a node is when it takes its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seat {
    /// Which node.
    pub node: NodeId,
    /// A random number kept with its data: a node whose data was wiped or replaced has another.
    pub identity: u128,
    /// Where other nodes reach it.
    pub peer_address: String,
    /// Where clients reach it.
    pub client_address: String,
    /// Its share of the slots against others; 0 for a witness, which votes and masters nothing.
    pub weight: u32,
}

/// A change of what the cluster agrees on. Applied whole or refused whole, and harmless when repeated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Forms the cluster. Refused where it is formed.
    Form {
        /// A random number: seeds the slots of names.
        seed: u64,
        /// A random key for what clients are given to prove their claims with.
        key: [u8; 32],
        /// The first members; they are up only once each has said `Start`.
        seats: Vec<Seat>,
        /// Lockspaces from the start; `default` is added where it is absent.
        spaces: Vec<SpaceSpec>,
    },
    /// An operator lets a node in, or lets one in again whose data was lost.
    Admit {
        /// The node. One with the same number that is up is refused.
        seat: Seat,
    },
    /// A member starts: it gets the next incarnation, and the one before is out. Its slots go to whoever the slot map then names.
    Start {
        /// Which node.
        node: NodeId,
        /// Its identity; another one than was admitted is refused.
        identity: u128,
        /// Drawn at random for this start, so that a repeated command is recognised.
        nonce: u64,
        /// The nonce of its start before, 0 before its first: data that does not know of the newest is older than what this node
        /// has promised since, and is refused.
        after: u64,
        /// Where it now is; empty where as before.
        peer_address: String,
        /// Where clients now reach it; empty where as before.
        client_address: String,
    },
    /// An epoch without a member. Said by the steward, after the member's authority has run out, or by the member itself, which
    /// thereby promises to do nothing more; by nobody else.
    Evict {
        /// Which.
        node: NodeId,
        /// Which start of it; another one stays.
        incarnation: Incarnation,
    },
    /// A member goes by its own will or an operator's: its slots are handed over, it stays a member without slots.
    Drain {
        /// Which.
        node: NodeId,
        /// Which start of it.
        incarnation: Incarnation,
    },
    /// A member that is down is forgotten. One with slots is refused, and one that is up, draining or not: a drained one
    /// that stops says `Evict` of itself.
    Remove {
        /// Which.
        node: NodeId,
    },
    /// Slots change their master, all or none; the map is as the mover saw it or nothing happens.
    Move {
        /// Each slot with its generation and its new master.
        slots: Vec<(Slot, SlotGeneration, NodeId)>,
    },
    /// A session opens.
    OpenSession {
        /// Which.
        session: SessionId,
        /// Where.
        home: NodeId,
        /// Which start of it; refused where that is not up.
        incarnation: Incarnation,
        /// Its lease.
        ttl: Span,
        /// Text of the principal: only the same one may attach.
        principal: String,
        /// Whether it came over a connection whose end ends it.
        local: bool,
    },
    /// A session has come to another node.
    RehomeSession {
        /// Which.
        session: SessionId,
        /// The generation it has; another one is refused.
        from: HomeGeneration,
        /// Where it is now.
        home: NodeId,
        /// Which start of it.
        incarnation: Incarnation,
    },
    /// A session ends.
    EndSession {
        /// Which.
        session: SessionId,
        /// The generation it has; another one is refused, since it has come to another node meanwhile.
        home: HomeGeneration,
        /// Why.
        why: EndWhy,
    },
    /// A lockspace is created. Refused where the name is taken.
    CreateSpace {
        /// How it is set up.
        spec: SpaceSpec,
        /// Drawn at random, so that who asked recognises its own.
        nonce: u64,
    },
    /// A lockspace is dropped.
    DropSpace {
        /// Its number.
        space: SpaceId,
        /// Whether at once, with all that is in it. Otherwise it is closing: each master refuses new locks in it, and whoever
        /// asked proposes this again, forced, when all are empty.
        force: bool,
    },
    /// An operator says which member is to master a slot whenever it is up.
    Pin {
        /// The slot.
        slot: Slot,
        /// The member.
        node: NodeId,
    },
    /// A slot goes where an even spread says again. Refused where it is not pinned.
    Unpin {
        /// The slot.
        slot: Slot,
    },
    /// A member gets another share of the slots. Not from 0 or to it: a witness is admitted as one.
    Weigh {
        /// Which.
        node: NodeId,
        /// Its share against others.
        weight: u32,
    },
    /// A master gives slots to members that use them more than all others together, all or none, as it saw them. They stay there,
    /// whatever an even spread says, until that one goes or `Forsake` is said. Refused for slots that are pinned, and where a
    /// member would have more than twice its share.
    Attract {
        /// Each slot with its generation and the member that uses it.
        slots: Vec<(Slot, SlotGeneration, NodeId)>,
    },
    /// Slots that came to their master because it used them are used no more.
    Forsake {
        /// The slots; those that are elsewhere by now are left alone.
        slots: Vec<(Slot, SlotGeneration)>,
    },
    /// What is kept of a resource of a persistent lockspace, said by the master of its slot.
    Keep {
        /// The lockspace.
        space: SpaceId,
        /// The slot of the name.
        slot: Slot,
        /// The slot's generation; under another one somebody else knows better.
        generation: SlotGeneration,
        /// Rises with each thing the master says about the slot.
        order: u64,
        /// The resource.
        name: Vec<u8>,
        /// What is to be kept; nothing where it is all empty.
        kept: Kept,
    },
    /// The epoch jumps, after an operator gave up the lost majority.
    RaiseEpoch {
        /// By how much.
        by: u32,
    },
}

/// Why a session ended.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum EndWhy {
    /// It said goodbye.
    Goodbye,
    /// Its lease ran out, or its local connection ended.
    Expired,
    /// An operator ended it.
    Forced,
}

/// What a command that was applied changed, for those who must act on it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// A new epoch: members or slots changed.
    Epoch {
        /// Slots with a new generation, with the master each had before (and which start of it).
        moved: Vec<(Slot, NodeId, Incarnation)>,
    },
    /// A session is in the directory.
    SessionOpened {
        /// Which.
        session: SessionId,
    },
    /// A session has another home.
    SessionRehomed {
        /// Which.
        session: SessionId,
        /// Where it was.
        from: NodeId,
    },
    /// A session is out of the directory: masters drop its locks.
    SessionEnded {
        /// Which.
        session: SessionId,
        /// Where it was.
        home: NodeId,
        /// Of which generation.
        generation: HomeGeneration,
        /// Why.
        why: EndWhy,
    },
    /// A lockspace exists.
    SpaceCreated {
        /// Its number.
        space: SpaceId,
    },
    /// A lockspace takes no new locks.
    SpaceClosing {
        /// Its number.
        space: SpaceId,
    },
    /// A lockspace is gone.
    SpaceDropped {
        /// Its number.
        space: SpaceId,
    },
}

/// Why a command changed nothing.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Refused {
    /// The cluster is not formed yet, or is formed already.
    Formed,
    /// No such member, session, lockspace or slot.
    Unknown,
    /// Not as the proposer saw it: another incarnation, generation or identity.
    Outdated,
    /// It exists already.
    Exists,
    /// It still has slots, or is still up.
    InUse,
    /// Nothing would remain that may master.
    Last,
    /// Beyond a limit.
    Full,
    /// It makes no sense.
    Invalid,
}
