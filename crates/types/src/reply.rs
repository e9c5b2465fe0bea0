//! What a client is answered and told.

use alloc::{boxed::Box, vec::Vec};

use crate::{
    age::Age,
    hierarchy::Hierarchy,
    ids::{GroupId, LockId, SessionId, SpaceId},
    mode::ModeTableSpec,
    refusal::Refusal,
    report::Report,
    request::Claim,
    seal::Seal,
    token::Token,
    transaction::Savepoint,
};

/// A value block as read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Value {
    /// Its bytes; empty where nothing was ever written.
    pub bytes: Box<[u8]>,
    /// Whether the last writer died before it could write: the bytes are those of an earlier write.
    pub invalid: bool,
}

/// A grant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    /// The lock.
    pub lock: LockId,
    /// What was granted; the mode may be the alternative one ([`Grant::alternative`]).
    pub claim: Claim,
    /// Its fencing token. A down-conversion keeps the token it had ([TOKEN-3]).
    pub token: Token,
    /// The value block, where [VALUE-1] says that this grant reads it and VALBLK was given.
    pub value: Option<Value>,
    /// A conversion deadlock was resolved by CONVDEADLK: the lock fell back to the null mode before it was granted this.
    pub demoted: bool,
    /// The mode is the one of ALTPR or ALTCW, not the one asked for.
    pub alternative: bool,
    /// What proves it to other members, where one gave it.
    pub seal: Option<Seal>,
}

/// What locks a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PathGrant {
    /// The locks on it as they are held now, the root's first. The last is that of the resource itself; where there are fewer than
    /// its name has components, the last is of a resource above in a mode that covers it, and it has none of its own ([HIER-5]).
    pub grants: Vec<Grant>,
    /// Whether all that was held below the last of them has become part of it, and is gone ([ESC-1]).
    pub escalated: bool,
}

/// A request that waits.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Queued {
    /// The id of the lock meanwhile.
    pub lock: LockId,
    /// Its place among those that wait for the resource: who came later has a greater one. A client that comes to another home
    /// says it there ([`crate::request::Stood`]). 0 of a node alone, where there is no other.
    pub ticket: u64,
}

/// The answer to a request. `Queued` is followed by one other; every other ends the request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// It waits.
    Queued(Queued),
    /// A lock or conversion was granted.
    Granted(Grant),
    /// All locks of an all-or-nothing request were granted, in the order they were asked for.
    GrantedMany(Vec<Grant>),
    /// A path was locked.
    GrantedPath(PathGrant),
    /// Released; whether the value block was written.
    Released,
    /// A cancel took effect, or a cancelled request ends with this.
    Cancelled,
    /// The value block of a lock.
    Value(Value),
    /// A `Sync`, `Unwatch`, `Watch`, `SpaceDrop`, `Commit`, `Rollback` or `EndStatement` was done.
    Done,
    /// A transaction has begun, of this age.
    Begun(Age),
    /// A savepoint.
    Savepoint(Savepoint),
    /// Attached to a group.
    Group(GroupId),
    /// A lockspace, found or created.
    Space(Box<SpaceInfo>),
    /// How many locks a purge dropped.
    Purged(u32),
    /// What a query found.
    Report(Box<Report>),
    /// Not done.
    Refused(Refusal),
    /// A conversion ended without its grant, and its lock holds less than before: CONVDEADLK had let go of the old mode
    /// ([DEAD-12]), or the node restarted before it answered, and less was claimed ([RESTART-13]).
    Demoted {
        /// What the lock holds now.
        held: Claim,
        /// Why the conversion was not granted, `None` where it was cancelled.
        why: Option<Refusal>,
    },
}

/// What a client must know of a lockspace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SpaceInfo {
    /// Its number on this node.
    pub space: SpaceId,
    /// Its mode table.
    pub modes: ModeTableSpec,
    /// Bytes of its value blocks.
    pub value_bytes: u32,
    /// How its resources lie above one another.
    pub hierarchy: Option<Box<Hierarchy>>,
}

/// News that answers no request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    /// Somebody waits for this lock and cannot be granted `claim` while it is held (a blocking AST).
    Blocking {
        /// The lock that is in the way.
        lock: LockId,
        /// What cannot be granted; of several waiting, the strongest ([BLOCK-2]).
        claim: Claim,
    },
    /// The lock was taken away.
    Revoked {
        /// The lock.
        lock: LockId,
        /// By whom.
        why: Revoked,
    },
    /// A watched resource changed.
    Changed(Box<Change>),
    /// The session's transaction was aborted, for an older one: it can only be rolled back, and tried again.
    Aborted,
    /// Changes were dropped because they came faster than they were read: look again.
    Resync,
}

/// Why a lock was taken away.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Revoked {
    /// An operator released it by force.
    Forced,
    /// Its lockspace was dropped.
    SpaceDropped,
    /// Its session was ended.
    SessionEnded,
    /// Its group ended.
    GroupEnded,
    /// Another holder's claim, with a higher token, conflicted with it after a restart.
    Superseded,
}

/// One change of a watched resource.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// The lockspace.
    pub space: SpaceId,
    /// The resource.
    pub name: Box<[u8]>,
    /// The lock.
    pub lock: LockId,
    /// Its session; `None` for an orphan.
    pub session: Option<SessionId>,
    /// What happened.
    pub event: ChangeEvent,
    /// What is held or waited for after it.
    pub claim: Claim,
    /// The token held, [`Token::NONE`] where none is.
    pub token: Token,
}

/// What happened to a watched resource.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum ChangeEvent {
    /// Granted, or a conversion was.
    Granted,
    /// Began to wait.
    Waiting,
    /// Released, or its session ended.
    Released,
    /// Stopped waiting without a grant.
    Cancelled,
}
