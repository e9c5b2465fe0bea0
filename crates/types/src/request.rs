//! What a client may ask. Requests borrow names and values from wherever they were decoded; nothing is copied before
//! the lock manager decides to keep it.

use alloc::{boxed::Box, string::String, vec::Vec};

use crate::{
    age::Age,
    flags::Flags,
    ids::{GroupId, LockId, NodeId, RequestId, SessionId, SpaceId},
    mode::Mode,
    slot::Slot,
    space::SpaceSpec,
    time::Span,
    token::Token,
    transaction::{Resume, Savepoint},
};

/// What is asked of a resource.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Claim {
    /// A mode of the lockspace's table.
    Mode(Mode),
    /// Some of the resource's permits.
    Permits {
        /// How many to take, at least one.
        take: u32,
        /// How many the resource has. All who ask must say the same number ([PERMIT-2]).
        of: u32,
    },
}

/// How long a request may wait. One choice, so that no two flags can disagree.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum Wait {
    /// Not at all.
    Never,
    /// So long from when the node received it.
    For(Span),
    /// As long as the session lives.
    #[default]
    Forever,
}

/// Where a request stood that has waited at the session's former home.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Stood {
    /// [`crate::reply::Queued::ticket`].
    pub ticket: u64,
    /// Since it was told, by the clock of the client.
    pub waited: Span,
}

/// Who will own the lock.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum OwnerRef {
    /// The session: all its locks are one owner's, which deadlock search treats as one thread of control. One lock per
    /// lockspace, name and tag.
    #[default]
    Session,
    /// The session, but this lock stands alone: it never makes a cycle with other locks of the session, and the session
    /// may have any number like it on one name. For programs in which many tasks share a session.
    Alone,
    /// A group the session is attached to.
    Group(GroupId),
    /// The session, for its transaction: released with the others when that ends.
    Transaction,
    /// The session, for a statement of its transaction: released at the end of the statement, at the latest with the transaction.
    Statement,
}

impl OwnerRef {
    /// Whether the lock belongs to the session's transaction.
    #[must_use]
    pub fn is_in_transaction(self) -> bool {
        matches!(self, OwnerRef::Transaction | OwnerRef::Statement)
    }
}

/// A new lock.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct LockRequest<'a> {
    /// The lockspace.
    pub space: SpaceId,
    /// The resource, raw bytes, at least one.
    pub name: &'a [u8],
    /// Mode or permits.
    pub claim: Claim,
    /// How long to wait. [`Flags::NOQUEUE`] means [`Wait::Never`] whatever stands here.
    pub wait: Wait,
    /// Flags of a new request.
    pub flags: Flags,
    /// Who will own it.
    pub owner: OwnerRef,
    /// Tells apart several locks of one owner on one name (`as=ID`); 0 where there is but one.
    pub tag: u32,
    /// In `fair` lockspaces, higher goes first ([FAIR-3]).
    pub priority: i8,
}

/// A conversion of a lock that is held.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct ConvertRequest<'a> {
    /// The lock.
    pub lock: LockId,
    /// The mode to have.
    pub mode: Mode,
    /// How long to wait.
    pub wait: Wait,
    /// Flags of a conversion.
    pub flags: Flags,
    /// What to write to the value block, where [VALUE-1] says that this conversion writes. Needs VALBLK.
    pub value: Option<&'a [u8]>,
}

/// A release.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct ReleaseRequest<'a> {
    /// The lock.
    pub lock: LockId,
    /// Flags of a release.
    pub flags: Flags,
    /// What to write to the value block, where the mode held writes. Needs VALBLK.
    pub value: Option<&'a [u8]>,
}

/// Which lock to cancel: one whose id is known, or the one a request is about.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// A lock.
    Lock(LockId),
    /// Whatever this request of the same session is waiting for.
    Request(RequestId),
}

/// An operation of a client on the service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op<'a> {
    /// A new lock.
    Lock(LockRequest<'a>),
    /// Several new locks of modes or permits, all or none, each name once. All share the wait of the first.
    LockMany(Vec<LockRequest<'a>>),
    /// A lock of a resource of a hierarchy for the session's transaction, and the intents of its mode on all above it. Answered with
    /// `GrantedPath`.
    LockPath(LockRequest<'a>),
    /// Convert a lock.
    Convert(ConvertRequest<'a>),
    /// Release a lock. Answered with `Released`, unless sent one-way.
    Release {
        /// The release.
        release: ReleaseRequest<'a>,
        /// Whether no answer is wanted where it succeeds.
        one_way: bool,
    },
    /// Stop waiting: a waiting lock goes, a converting one goes back to its old mode.
    Cancel(Target),
    /// Read the value block of a lock that is held, in any mode.
    ReadValue(LockId),
    /// Answered when everything this session asked before has had all its effects.
    Sync,
    /// Join a group by name, creating it if need be.
    GroupAttach {
        /// Its name, raw bytes.
        name: &'a [u8],
    },
    /// Begin a transaction. Answered with `Begun`.
    Begin {
        /// The age it had when it was tried before, so that it gets older each time and wins in the end; `None` for a new one.
        age: Option<Age>,
    },
    /// Go on with a transaction at another home. Answered with `Begun`.
    Resume(Resume),
    /// End the transaction: all its locks are released.
    Commit,
    /// End the transaction, whatever it waits for, or only what came after a savepoint of it. The locks in question are released.
    Rollback {
        /// Up to which point, `None` for all.
        to: Option<Savepoint>,
    },
    /// Mark a point to which the transaction can be rolled back. Answered with `Savepoint`.
    Savepoint,
    /// Release the locks of the transaction's statement.
    EndStatement,
    /// Leave a group. The last member's leaving ends it and releases its locks.
    GroupDetach(GroupId),
    /// Find a lockspace by name.
    SpaceOpen {
        /// Its name.
        name: &'a str,
    },
    /// Create a lockspace.
    SpaceCreate(Box<SpaceSpec>),
    /// Drop a lockspace that holds no lock; with `force`, whatever it holds.
    SpaceDrop {
        /// Its name.
        name: &'a str,
        /// Whether to drop it though locks are held; their holders are told they lost them.
        force: bool,
    },
    /// Drop orphans of a lockspace: all, or those of one session that is gone.
    Purge {
        /// The lockspace.
        space: SpaceId,
        /// The session whose orphans, `None` for all.
        session: Option<SessionId>,
    },
    /// Take a lock from its holder. Guarded: the token must be the lock's, and a reason is kept.
    ForceRelease {
        /// The lockspace.
        space: SpaceId,
        /// The resource.
        name: &'a [u8],
        /// The token of the grant to undo.
        token: Token,
        /// Why, for the record; not empty.
        reason: &'a str,
    },
    /// End another session at once, as if its lease had run out. For operators.
    EndSession {
        /// The session.
        session: SessionId,
        /// Why, for the record; not empty.
        reason: &'a str,
    },
    /// Look.
    Query(Query<'a>),
    /// Be told of every change on resources of a lockspace whose names start with a prefix.
    Watch {
        /// The lockspace.
        space: SpaceId,
        /// The first bytes of the names, none for all.
        prefix: &'a [u8],
    },
    /// Stop all watches of this session.
    Unwatch,
    /// Change who is a member of the cluster. For operators.
    Cluster(Box<ClusterOrder>),
}

/// What an operator does about the members of a cluster. Done when the members have agreed on it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClusterOrder {
    /// What.
    pub what: MemberOrder,
    /// Why, for the record; not empty.
    pub reason: String,
}

/// A change of the members.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MemberOrder {
    /// A node may start as a member; also one again whose data was lost, while it is down.
    Admit {
        /// Its number.
        node: NodeId,
        /// The identity of its data.
        identity: u128,
        /// Where other nodes reach it.
        peer_address: String,
        /// Where clients reach it.
        client_address: String,
        /// Its share of the slots against others; 0 for a witness.
        weight: u32,
    },
    /// A member gives its slots to others and gets none any more; it stays a member.
    Drain(NodeId),
    /// A member that is down is forgotten.
    Remove(NodeId),
    /// A member masters a slot whenever it is up.
    Pin {
        /// Which slot.
        slot: SlotRef,
        /// The member.
        node: NodeId,
    },
    /// A slot goes where an even spread says again.
    Unpin(SlotRef),
    /// A member gets another share of the slots.
    Weigh {
        /// Which.
        node: NodeId,
        /// Its share against others, at least 1.
        weight: u32,
    },
}

/// A slot, or the one a name falls into.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SlotRef {
    /// By its number.
    Number(Slot),
    /// By a name.
    Name {
        /// The lockspace.
        space: SpaceId,
        /// The resource.
        name: Box<[u8]>,
    },
}

/// A look at the state. Answers hold a bounded number of rows; ask again with `after` set to the last for more.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Query<'a> {
    /// Resources with locks, in no particular order. An answer is the work of a bounded time, so it may hold few rows, or none,
    /// though there are more.
    Resources {
        /// The lockspace.
        space: SpaceId,
        /// The first bytes of the names, none for all.
        prefix: &'a [u8],
        /// Where to go on: 0 first, then what the last answer said. A resource that is there all the while is shown once.
        from: u64,
    },
    /// One resource with its three queues.
    Resource {
        /// The lockspace.
        space: SpaceId,
        /// The resource.
        name: &'a [u8],
    },
    /// Every wait-for edge.
    Waits,
    /// Sessions, by id.
    Sessions {
        /// Only ids above this one.
        after: Option<SessionId>,
    },
    /// Deadlock reports kept, oldest first.
    Deadlocks,
    /// The node: epoch, counts, counters.
    Status,
    /// Lockspaces.
    Spaces,
    /// The members of the cluster; a node alone knows none.
    Members,
}
