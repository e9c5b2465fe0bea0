//! How nodes name waits and edges to each other when they look for a cycle over several of them. Apart from `peer`, since tables
//! speak of them too.

use alloc::vec::Vec;

use crate::{
    age::Age,
    ids::{LockId, NodeId},
    report::WaitEdge,
};

/// A wait at a master. Another wait of the same lock has another ticket.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct WaitId {
    /// The lock, as its master calls it.
    pub lock: LockId,
    /// Its place in the queues.
    pub ticket: u64,
}

/// An edge at a master. One that ended and came to be again has another name.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct EdgeId {
    /// Who waits.
    pub waiter: WaitId,
    /// The lock it waits for, as its master calls it.
    pub blocker: LockId,
    /// Of a hard edge the blocker's token, of a soft one its ticket.
    pub mark: u64,
    /// Hard: the blocker holds. Soft: it waits before.
    pub hard: bool,
}

/// A wait at one of several masters.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct PeerWait {
    /// The master.
    pub node: NodeId,
    /// The wait there.
    pub wait: WaitId,
}

/// An edge at one of several masters.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct PeerEdge {
    /// The master.
    pub node: NodeId,
    /// The edge there.
    pub edge: EdgeId,
}

/// An edge of a cycle, found a second time at its master.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CycleEdge {
    /// For people.
    pub row: WaitEdge,
    /// The priority of the wait.
    pub priority: i8,
    /// How many locks its owner has, in all as far as its home has said so.
    pub locks: u32,
    /// How old its transaction is, as far as its home has said so.
    pub age: Option<Age>,
}

/// What a master says of the edges of a cycle that are said to be there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Confirmation {
    /// They are there, and their waits are set aside for who asked: in the order of the question.
    Found(Vec<CycleEdge>),
    /// One is there no more: the cycle is broken.
    Gone,
    /// A wait is part of another cycle that is just being broken; this one may be too, with it.
    Busy,
}
