//! What a look at the state shows. Plain data, made when asked for.

use alloc::{boxed::Box, string::String, vec::Vec};

use crate::{
    ids::{GroupId, LockId, NodeId, SessionId, SpaceId},
    request::Claim,
    slot::Slot,
    space::SpaceSpec,
    time::Span,
    token::Token,
};

/// An answer to a [`crate::request::Query`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Report {
    /// Resources.
    Resources {
        /// The rows.
        rows: Vec<ResourceRow>,
        /// What to ask with as `from` for further ones; `None` where that was all.
        next: Option<u64>,
    },
    /// One resource, `None` where no lock is on it.
    Resource(Option<Box<ResourceDetail>>),
    /// Who waits for whom.
    Waits(Waits),
    /// Sessions; `more` where there are further ones.
    Sessions {
        /// The rows.
        rows: Vec<SessionRow>,
        /// Whether the rows stop because an answer holds no more.
        more: bool,
    },
    /// Deadlocks.
    Deadlocks(Deadlocks),
    /// The node.
    Status(Box<NodeStatus>),
    /// Lockspaces with their numbers.
    Spaces(Vec<(SpaceId, SpaceSpec)>),
    /// The members of the cluster, as this node knows; none of a node alone.
    Members(Vec<MemberRow>),
}

/// A member of the cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberRow {
    /// Which.
    pub node: NodeId,
    /// Whether it takes part.
    pub state: MemberStage,
    /// How often it has started.
    pub incarnation: u32,
    /// Its share of the slots against others; 0 for a witness.
    pub weight: u32,
    /// Slots it is master of.
    pub slots: u32,
    /// Slots that are pinned to it, also while it is down.
    pub pinned: Vec<Slot>,
    /// Slots it is master of because it uses them.
    pub used: u32,
    /// Sessions it is home of.
    pub sessions: u32,
    /// The identity of its data.
    pub identity: u128,
    /// Where other nodes reach it.
    pub peer_address: String,
    /// Where clients reach it.
    pub client_address: String,
}

/// Whether a member takes part.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum MemberStage {
    /// It has not started yet, or was put out.
    Down,
    /// It takes part.
    Up,
    /// It takes part and gets no slots.
    Draining,
}

/// A resource in a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ResourceRow {
    /// Its name.
    pub name: Box<[u8]>,
    /// Locks granted, conversions under way included.
    pub granted: u32,
    /// Conversions that wait.
    pub converting: u32,
    /// New requests that wait.
    pub waiting: u32,
    /// The strongest claim granted.
    pub strongest: Option<Claim>,
}

/// A resource with its queues.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ResourceDetail {
    /// Its name.
    pub name: Box<[u8]>,
    /// The node that decides for it.
    pub master: NodeId,
    /// The slot its name falls into; `None` of a node alone, which has no slots.
    pub slot: Option<Slot>,
    /// Locks granted and not converting, in the order they were granted.
    pub granted: Vec<LockRow>,
    /// Conversions that wait, in the order they will be granted.
    pub converting: Vec<LockRow>,
    /// New requests that wait, in the order they will be granted.
    pub waiting: Vec<LockRow>,
    /// How many more there are at the end of each queue, where an answer does not hold all ([`queue_shares`]).
    pub left_out: LeftOut,
    /// Its value block, where one was written.
    pub value: Option<crate::reply::Value>,
}

/// Locks of a resource that an answer has no room for, queue by queue.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct LeftOut {
    /// Granted and not converting.
    pub granted: u32,
    /// Conversions that wait.
    pub converting: u32,
    /// New requests that wait.
    pub waiting: u32,
}

/// How many locks of each queue an answer shows that has room for `room`, by how many there are: a short queue is shown
/// whole, the long ones share what is left, so that no crowd of one kind hides the others. [WIRE-8]
#[must_use]
pub fn queue_shares(lengths: [usize; 3], room: usize) -> [usize; 3] {
    let mut shares = lengths;
    let mut shortest_first: [&mut usize; 3] = shares.each_mut();
    shortest_first.sort_unstable();
    let (mut room, mut queues) = (room, 3);
    for share in shortest_first {
        *share = (*share).min(room / queues);
        room -= *share;
        queues -= 1;
    }
    shares
}

/// A lock of a resource.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LockRow {
    /// Its id.
    pub lock: LockId,
    /// The part of the resource it is of, as that stands behind the name; empty where it is of the whole.
    pub extent: String,
    /// What is held, if anything.
    pub held: Option<Claim>,
    /// What is waited for, if anything.
    pub wanted: Option<Claim>,
    /// The token held, [`Token::NONE`] where none is.
    pub token: Token,
    /// Who.
    pub holder: Holder,
    /// How long it has been in its queue; `None` where the node does not know: it took the lock back after a restart, or from
    /// another node.
    pub since: Option<Span>,
}

/// Who has or wants a lock, for people.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Holder {
    /// The session; `None` for an orphan or an ended one.
    pub session: Option<SessionId>,
    /// The group, where a group owns the lock.
    pub group: Option<GroupId>,
    /// The member that is home of the session, as the lock's master knows; `None` of a node alone.
    pub home: Option<NodeId>,
    /// The lock's tag.
    pub tag: u32,
    /// What the session said of itself.
    pub meta: Meta,
}

/// What a session says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Meta {
    /// Host name.
    pub host: String,
    /// Process id.
    pub pid: u32,
    /// Name of the program.
    pub program: String,
    /// What for, in its own words.
    pub purpose: String,
    /// The session it runs within: that one gives up nothing before this one has ended ([DEAD-13]).
    pub within: Option<SessionId>,
}

/// Who waits for whom, or the part of it that an answer holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Waits {
    /// The edges, those of one lock together.
    pub edges: Vec<WaitEdge>,
    /// How many locks wait in all, also those that wait for nobody, as in a freeze.
    pub waiting: u64,
    /// Whether there are edges that the answer does not hold.
    pub more: bool,
    /// Slots that are being taken over from another node: who waits there is told only once that is done.
    pub taking_over: u32,
}

/// One edge of who waits for whom.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WaitEdge {
    /// The lockspace.
    pub space: SpaceId,
    /// The resource.
    pub name: Box<[u8]>,
    /// The lock that waits.
    pub waiter: LockRow,
    /// The lock it waits for.
    pub blocker: LockRow,
    /// Hard: the blocker holds. Soft: the blocker only waits earlier in the same queue.
    pub hard: bool,
}

/// A session in a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionRow {
    /// Its id.
    pub session: SessionId,
    /// The node it is connected to.
    pub home: NodeId,
    /// Whether it is local (Unix socket, in process) or remote.
    pub local: bool,
    /// Whether it is connected now.
    pub connected: bool,
    /// Its lease.
    pub ttl: Span,
    /// How much of the lease is left.
    pub left: Span,
    /// How long ago it was opened.
    pub age: Span,
    /// Locks it holds or waits for.
    pub locks: u32,
    /// Who the transport says it is.
    pub principal: String,
    /// What it says of itself.
    pub meta: Meta,
}

/// The deadlocks a node remembers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Deadlocks {
    /// The reports, oldest first.
    pub reports: Vec<DeadlockReport>,
    /// How many older ones the answer does not hold.
    pub left_out: u32,
}

/// A deadlock that was found, and who paid.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeadlockReport {
    /// 1, 2, 3 ... since the node started.
    pub number: u64,
    /// How long ago.
    pub ago: Span,
    /// The cycle: each edge's blocker is the next edge's waiter (the same owner).
    pub cycle: Vec<WaitEdge>,
    /// How many more edges the cycle has, after those.
    pub left_out: u32,
    /// The lock whose wait was refused.
    pub victim: LockId,
    /// Why it was that one.
    pub why: VictimReason,
}

/// Why a request was the victim.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum VictimReason {
    /// A conversion deadlock on one resource: the newcomer.
    Conversion,
    /// The request that closed the cycle.
    ClosedCycle,
    /// It began to wait last, or its transaction began last.
    Youngest,
    /// Its owner had the fewest locks.
    FewestLocks,
    /// It had the lowest priority.
    LowestPriority,
}

/// A node, in numbers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeStatus {
    /// Which node.
    pub node: NodeId,
    /// The present numbered membership; of a single node, how often it started with this data directory.
    pub epoch: u32,
    /// Version of the program.
    pub version: String,
    /// How long it has run.
    pub uptime: Span,
    /// For how much longer at most only locks of before the restart are taken back, zero when open.
    pub frozen_for: Span,
    /// Sessions.
    pub sessions: u32,
    /// Groups.
    pub groups: u32,
    /// Lockspaces.
    pub spaces: u32,
    /// Resources with locks.
    pub resources: u64,
    /// Locks granted.
    pub granted: u64,
    /// Conversions waiting.
    pub converting: u64,
    /// New requests waiting.
    pub waiting: u64,
    /// Orphans among the granted.
    pub orphans: u64,
    /// The newest token given.
    pub token: Token,
    /// What it is in its cluster; `None` of a node alone.
    pub member: Option<MemberStatus>,
    /// Counters since the start, with their names, in a fixed order.
    pub counters: Vec<(String, u64)>,
}

/// A node as a member of its cluster.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct MemberStatus {
    /// Which start of the node this is.
    pub incarnation: u32,
    /// Members.
    pub members: u32,
    /// Members that take part.
    pub up: u32,
    /// The member that leads the membership group, as far as this node has heard.
    pub leader: Option<NodeId>,
    /// For how much longer it may act without hearing from the leader.
    pub authority: Span,
    /// Slots it is master of.
    pub slots: u32,
    /// Slots among them whose holders have not all reported yet: nothing new is granted there.
    pub recovering: u32,
    /// Since when the first of those waits.
    pub recovering_for: Span,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_queue_is_shown_whole_and_long_ones_share() {
        assert_eq!(queue_shares([1, 0, 8_000], 1_000), [1, 0, 999]);
        assert_eq!(queue_shares([5_000, 2, 8_000], 1_000), [499, 2, 499]);
        assert_eq!(queue_shares([3, 4, 5], 12), [3, 4, 5]);
        assert_eq!(queue_shares([9, 9, 9], 1), [0, 0, 1]);
        assert_eq!(queue_shares([9, 0, 0], 0), [0, 0, 0]);
    }
}
