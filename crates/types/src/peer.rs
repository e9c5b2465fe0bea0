//! What nodes say to each other, as meaning. `lockstead-wire` maps it to bytes and back; `docs/messages.md` has a line on
//! each: from, to, purpose.
//!
//! A *home* is the node a session is connected to; a *master* decides for a slot. Every session message names the
//! session and the generation of its home; every message about a resource names its slot and the slot's generation.
//! Messages between two incarnations of nodes arrive in order, each once, also over a connection that broke: the link
//! numbers them ([`Envelope::seq`]) and repeats what was not acknowledged.

use alloc::{boxed::Box, string::String, vec::Vec};

use crate::{
    age::Age,
    chase::{Confirmation, EdgeId, PeerEdge, PeerWait, WaitId},
    flags::Flags,
    ids::{LockId, NodeId, RequestId, SessionId, SpaceId},
    message::Reclaim,
    refusal::Refusal,
    reply::{Notice, Reply, Value},
    report::{DeadlockReport, Meta, Report},
    request::{Claim, ConvertRequest, LockRequest, Op, OwnerRef, ReleaseRequest, Stood, Target, Wait},
    rows::LockRows,
    slot::Slot,
    time::Span,
    token::Token,
};

/// The version of the protocol between nodes.
pub const PEER_VERSION: u16 = 1;

/// How often a node has started, as the membership group counts it. A node that starts again is another one to its peers.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Incarnation(pub u32);

/// Which home of a session: rises whenever it changes, and is never one that a session of this id had before.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct HomeGeneration(pub u32);

/// How often the master of a slot has changed.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct SlotGeneration(pub u32);

/// A message with what every message carries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Envelope {
    /// Number of the message on this link, from 1; 0 for those that are not repeated: `Hello`, `Ack` and `Alive`.
    pub seq: u64,
    /// The newest message received in order from the other side.
    pub ack: u64,
    /// The epoch of the sender. A receiver that has not reached it leaves the message for later.
    pub epoch: u32,
    /// The sender's SCN; the receiver's becomes at least as large.
    pub scn: u64,
    /// The message.
    pub message: PeerMessage,
}

/// From a node to another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PeerMessage {
    /// First on every connection, from both sides.
    Hello {
        /// The newest version the sender speaks.
        version: u16,
        /// Who it is.
        node: NodeId,
        /// Which start of it.
        incarnation: Incarnation,
        /// Whom it believes it is speaking to; another incarnation ends the connection.
        to: (NodeId, Incarnation),
        /// The newest message it has received from that incarnation; those after it are repeated.
        received: u64,
    },
    /// Only acknowledges.
    Ack,
    /// Only says that the sender lives.
    Alive,

    // ------------------------------------------------------------ home to master
    /// Who a session is; before its first request to a master.
    Introduce {
        /// How many commands its home had applied, so that a master knows whether one without the session has yet to hear of it or
        /// heard of its end already.
        version: u64,
        /// The session.
        session: SessionId,
        /// Of its home.
        home: HomeGeneration,
        /// Text of the principal.
        principal: String,
        /// What it says of itself.
        meta: Meta,
    },
    /// A request of a session. Answered with `Reply` or `Stale`, unless it is a one-way release.
    Request {
        /// The session.
        session: SessionId,
        /// Of its home.
        home: HomeGeneration,
        /// Its number.
        id: RequestId,
        /// Where.
        slot: Slot,
        /// As the home knows it.
        generation: SlotGeneration,
        /// What.
        op: PeerOp,
    },
    /// The session's transaction has begun, or ended: before the first request of it to a master, where that may need it.
    Aged {
        /// The session.
        session: SessionId,
        /// Of its home.
        home: HomeGeneration,
        /// How old the transaction is; `None` where it has ended.
        age: Option<Age>,
    },
    /// What a transaction has here is released, all of it in one message. No answer comes.
    ReleaseMany {
        /// The session.
        session: SessionId,
        /// Of its home.
        home: HomeGeneration,
        /// The locks, as the master numbers them, each with its slot as the home knows it.
        locks: Vec<(Slot, SlotGeneration, LockId)>,
    },
    /// A session has ended, by its own goodbye or by the directory: its locks are released, without waiting for the directory.
    Part {
        /// The session.
        session: SessionId,
        /// Of its home.
        home: HomeGeneration,
        /// Whether it was lost: what it was writing is not to be trusted.
        lost: bool,
    },
    /// What sessions of the sender have in slots that the receiver has inherited in `epoch`. The bulk of recovery.
    Report {
        /// The epoch in which the receiver became master.
        epoch: u32,
        /// The locks.
        rows: LockRows,
        /// Value blocks, from a master that gave the slot up alive.
        values: Vec<ValueReport>,
        /// Sessions that had attached to the sender when the epoch began, and did not claim all their locks there.
        returning: Vec<SessionId>,
    },
    /// All of `Report` for this epoch has been sent.
    ReportDone {
        /// The epoch.
        epoch: u32,
        /// Slots the sender gave up before it knew itself what was held there: it vouches for no value block in them.
        unsettled: Vec<Slot>,
    },
    /// A lock that a session claims whose former home is gone. Answered with `Claimed`.
    Claim {
        /// The session.
        session: SessionId,
        /// Of its new home.
        home: HomeGeneration,
        /// The number to answer under.
        id: RequestId,
        /// Where.
        slot: Slot,
        /// As the home knows it.
        generation: SlotGeneration,
        /// The lock.
        claim: OwnedClaim,
    },
    /// A `Request` of a lock or conversion that waited when its session left its former home. It goes on where it stood.
    Again {
        /// The session.
        session: SessionId,
        /// Of its new home.
        home: HomeGeneration,
        /// Its number.
        id: RequestId,
        /// Where.
        slot: Slot,
        /// As the home knows it.
        generation: SlotGeneration,
        /// Where it stood.
        stood: Stood,
        /// What.
        op: PeerOp,
    },
    /// The session has claimed all its locks; what else it had here is released.
    ClaimsDone {
        /// The session.
        session: SessionId,
        /// Of its new home.
        home: HomeGeneration,
    },

    // ------------------------------------------------------------ master to home
    /// An answer to `Request`. `Queued` is followed by one other.
    Reply {
        /// The session.
        session: SessionId,
        /// Of its home.
        home: HomeGeneration,
        /// To which request.
        id: RequestId,
        /// The generation of the slot under which it was decided; the home ignores one that is not the newest it knows.
        generation: SlotGeneration,
        /// The answer, lock ids being the master's.
        reply: Reply,
    },
    /// The receiver is not, or no longer, master under this generation: nothing was done.
    Stale {
        /// The session.
        session: SessionId,
        /// Of its home.
        home: HomeGeneration,
        /// Which request.
        id: RequestId,
        /// The generation it came with.
        generation: SlotGeneration,
    },
    /// News for a session.
    Notice {
        /// The session.
        session: SessionId,
        /// Of its home.
        home: HomeGeneration,
        /// The news, lock ids being the master's.
        notice: Notice,
    },
    /// The transaction of that age must give way to an older one: it is aborted.
    Wounded {
        /// The session.
        session: SessionId,
        /// Of its home.
        home: HomeGeneration,
        /// Which transaction: the session may be in another one by now.
        age: Age,
    },
    /// What became of locks of `Report`s: of those of this epoch that were not answered yet the first, in their order.
    Restored {
        /// The epoch of the reports.
        epoch: u32,
        /// What became of them.
        fates: Vec<Fates>,
    },
    /// An answer to `Claim`.
    Claimed {
        /// The session.
        session: SessionId,
        /// Of its home.
        home: HomeGeneration,
        /// To which.
        id: RequestId,
        /// The generation of the slot.
        generation: SlotGeneration,
        /// `Granted` or `Refused`; `None` where the receiver of the claim is not the master.
        reply: Option<Reply>,
    },

    // ------------------------------------------------------------ any to any
    /// A question about what this node masters or is home of.
    Ask {
        /// Number of the question.
        ask: u64,
        /// What.
        query: PeerQuery,
    },
    /// The answer.
    Answer {
        /// Number of the question.
        ask: u64,
        /// What was found.
        report: Report,
    },
    /// Something to do on all nodes or at a master, by an operator.
    Order {
        /// Number of the order.
        ask: u64,
        /// Who gives it, for the audit log.
        by: String,
        /// What.
        order: PeerOrder,
    },
    /// The answer to an order.
    Obeyed {
        /// Number of the order.
        ask: u64,
        /// `Done`, `Released`, `Purged` or `Refused`.
        reply: Reply,
    },

    // ------------------------------------------------------------ cycles over several masters
    /// A session has waited for long, from its home to all masters that may have locks of it. Each takes the place of the one before.
    Stuck {
        /// The session.
        session: SessionId,
        /// Of its home.
        home: HomeGeneration,
        /// What it waits for, all at once.
        waits: Vec<PeerWait>,
        /// How many locks it has.
        locks: u32,
    },
    /// Somebody waits for a session that is stuck: does what that waits for wait for it in the end? From the master of a lock of it
    /// to the master of what it waits for, and on from there.
    Probe {
        /// The session.
        origin: SessionId,
        /// Who began.
        by: NodeId,
        /// Number of the probe, of who began it.
        number: u64,
        /// Where to go on.
        wait: WaitId,
        /// How it came there, from the first wait of the session on.
        path: Vec<PeerEdge>,
    },
    /// A cycle was found, edge by edge, not all at one time. To the master of one of them, the same whoever has found it.
    Cycle {
        /// Each leads to the owner of the next one's wait, the last to that of the first.
        edges: Vec<PeerEdge>,
    },
    /// Whether these edges of a cycle are still there; their waits are set aside for the sender if so. Answered with `Confirmed`.
    Confirm {
        /// Number of the question.
        ask: u64,
        /// The edges at the receiver.
        edges: Vec<EdgeId>,
    },
    /// The answer.
    Confirmed {
        /// Number of the question.
        ask: u64,
        /// What was found.
        found: Confirmation,
    },
    /// A wait that was set aside is the victim of its cycle: it is refused `deadlock`.
    Victim {
        /// Under which number it was set aside.
        ask: u64,
        /// The wait.
        wait: WaitId,
        /// What is to be told and kept.
        report: Box<DeadlockReport>,
    },
    /// What was set aside under this number is not any more.
    Resolved {
        /// The number.
        ask: u64,
        /// Whether the cycle is broken, gone or given up, and not only put off: what is left of it is searched again.
        over: bool,
    },
}

/// A request about one resource, owning its bytes: it crosses the network, and is kept until it is answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PeerOp {
    /// A new lock.
    Lock(PeerLock),
    /// Convert a lock.
    Convert {
        /// The lock, as the master numbers it.
        lock: LockId,
        /// The mode to have.
        mode: crate::mode::Mode,
        /// How long to wait.
        wait: Wait,
        /// Flags.
        flags: Flags,
        /// What to write to the value block.
        value: Option<Box<[u8]>>,
    },
    /// Release a lock.
    Release {
        /// The lock, as the master numbers it.
        lock: LockId,
        /// Flags.
        flags: Flags,
        /// What to write to the value block.
        value: Option<Box<[u8]>>,
        /// Whether no answer is wanted where it succeeds.
        one_way: bool,
    },
    /// Stop waiting.
    Cancel(Target),
    /// Read the value block.
    ReadValue(LockId),
}

/// A new lock, owning its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerLock {
    /// The lockspace.
    pub space: SpaceId,
    /// The resource.
    pub name: Box<[u8]>,
    /// Mode or permits.
    pub claim: Claim,
    /// How long to wait.
    pub wait: Wait,
    /// Flags.
    pub flags: Flags,
    /// Whose it is to be.
    pub owner: PeerOwner,
    /// Its tag.
    pub tag: u32,
    /// Priority.
    pub priority: i8,
}

/// Whose a lock is, or is to be, at a master.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PeerOwner {
    /// The session's.
    Session,
    /// The session's, and it stands alone.
    Alone,
    /// A group's that the session is attached to; nodes know a group by its name.
    Group(Box<[u8]>),
}

impl PeerOwner {
    /// Whether the lock stands alone.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        *self == PeerOwner::Alone
    }

    /// The name of the group whose it is.
    #[must_use]
    pub fn group(&self) -> Option<&[u8]> {
        match self {
            PeerOwner::Group(name) => Some(name),
            PeerOwner::Session | PeerOwner::Alone => None,
        }
    }
}

impl PeerLock {
    /// As a request to the table, where a group is an owner like any other.
    #[must_use]
    pub fn request(&self) -> LockRequest<'_> {
        LockRequest {
            space: self.space,
            name: &self.name,
            claim: self.claim,
            wait: self.wait,
            flags: self.flags,
            owner: if self.owner.is_alone() { OwnerRef::Alone } else { OwnerRef::Session },
            tag: self.tag,
            priority: self.priority,
        }
    }
}

impl PeerOp {
    /// As a request of a client.
    #[must_use]
    pub fn as_op(&self) -> Op<'_> {
        match self {
            PeerOp::Lock(lock) => Op::Lock(lock.request()),
            PeerOp::Convert { lock, mode, wait, flags, value } => Op::Convert(ConvertRequest {
                lock: *lock,
                mode: *mode,
                wait: *wait,
                flags: *flags,
                value: value.as_deref(),
            }),
            PeerOp::Release { lock, flags, value, one_way } => Op::Release {
                release: ReleaseRequest { lock: *lock, flags: *flags, value: value.as_deref() },
                one_way: *one_way,
            },
            PeerOp::Cancel(target) => Op::Cancel(*target),
            PeerOp::ReadValue(lock) => Op::ReadValue(*lock),
        }
    }
}

/// What became of locks that were reported one after the other.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Fates {
    /// Taken back: the first under this id, the others under those that follow.
    Restored {
        /// The master's id of the first.
        first: LockId,
        /// How many.
        count: u32,
    },
    /// Not taken back.
    Refused {
        /// Why.
        why: Refusal,
        /// How many.
        count: u32,
    },
    /// Not looked at: their slots have gone on, their sessions are elsewhere, or they are orphans.
    Passed {
        /// How many.
        count: u32,
    },
}

/// A wait that goes on at a new master.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WaitReport {
    /// The request.
    pub id: RequestId,
    /// What is wanted.
    pub claim: Claim,
    /// Its flags.
    pub flags: Flags,
    /// How long it may still wait, `None` for ever.
    pub left: Option<Span>,
    /// How long it has waited, by the clock of the sender.
    pub waited: Span,
    /// CONVDEADLK has let go of the old mode already. A home does not know; a master that gives its slot up alive does.
    pub demoted: bool,
    /// Its place in the queue of the old master, 0 where that never said.
    pub ticket: u64,
    /// Priority.
    pub priority: i8,
    /// What its grant is to write to the value block.
    pub value: Option<Box<[u8]>>,
}

/// Whether a value block may have been written since it was what a report says.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Written {
    /// Not as far as its former master knows: whoever may write has no lock there.
    No,
    /// A home asked its master to write it and never heard whether it was, or who could have written it is lost: nobody knows the
    /// value now.
    Perhaps,
    /// A session of this home has a lock there in a mode that writes: no, if that home reports ([CLUSTER-7]), else perhaps.
    UnlessTold(NodeId),
}

/// A value block as the master knew it that gave the slot up, or as a home wanted it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ValueReport {
    /// The lockspace.
    pub space: SpaceId,
    /// The resource.
    pub name: Box<[u8]>,
    /// The value block.
    pub value: Value,
    /// Whether it may have been written since.
    pub written: Written,
}

/// A claim of a client, owning its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnedClaim {
    /// The lockspace.
    pub space: SpaceId,
    /// The resource.
    pub name: Box<[u8]>,
    /// What is held.
    pub held: Claim,
    /// The token of the grant.
    pub token: Token,
    /// The id the lock had.
    pub lock: LockId,
    /// Its tag.
    pub tag: u32,
    /// Whose it is.
    pub owner: PeerOwner,
    /// PERSISTENT, NODLCKBLK, NOBAST.
    pub flags: Flags,
}

impl OwnedClaim {
    /// As a client says it.
    #[must_use]
    pub fn as_reclaim(&self) -> Reclaim<'_> {
        Reclaim {
            space: self.space,
            name: &self.name,
            held: self.held,
            token: self.token,
            lock: self.lock,
            tag: self.tag,
            alone: self.owner.is_alone(),
            group: self.owner.group(),
            part: None,
            flags: self.flags,
        }
    }
}

/// A question of a node to another: what [`crate::request::Query`] asks, owning its bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PeerQuery {
    /// Resources it masters.
    Resources {
        /// The lockspace.
        space: SpaceId,
        /// The first bytes of the names.
        prefix: Box<[u8]>,
        /// Where to go on.
        from: u32,
    },
    /// One resource.
    Resource {
        /// The lockspace.
        space: SpaceId,
        /// The resource.
        name: Box<[u8]>,
    },
    /// Wait-for edges of resources it masters.
    Waits,
    /// Sessions it is home of.
    Sessions {
        /// Only ids above this one.
        after: Option<SessionId>,
    },
    /// Deadlock reports it keeps.
    Deadlocks,
    /// The node.
    Status,
    /// Answered when everything the asker sent before has had its effects, and these were sent.
    Sync,
    /// Answered at once, so behind everything sent before.
    Flush,
}

/// An order of an operator that another node carries out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PeerOrder {
    /// Take a lock from its holder.
    ForceRelease {
        /// The lockspace.
        space: SpaceId,
        /// The resource.
        name: Box<[u8]>,
        /// The token of the grant to undo.
        token: Token,
        /// Why.
        reason: String,
    },
    /// Drop orphans.
    Purge {
        /// The lockspace.
        space: SpaceId,
        /// Whose, `None` for all.
        session: Option<SessionId>,
    },
    /// Watch, for sessions of the asker: every change on resources whose names start so.
    Watch {
        /// The session.
        session: SessionId,
        /// The lockspace.
        space: SpaceId,
        /// The first bytes of the names.
        prefix: Box<[u8]>,
    },
    /// Stop all watches of a session.
    Unwatch {
        /// The session.
        session: SessionId,
    },
}
