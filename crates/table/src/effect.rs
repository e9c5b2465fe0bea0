//! What calls give back: the outcome for the caller, the effects on others, and the shapes of what is looked up.

use alloc::{boxed::Box, sync::Arc, vec::Vec};

use lockstead_types::{
    LockId, ModeTable, Refusal, SessionId, SpaceId, Token,
    reply::{ChangeEvent, Grant, Revoked},
    report::DeadlockReport,
    request::Claim,
    space::{DeadlockPolicy, QueuePolicy, VictimPolicy},
};

/// An owner of locks, numbered densely by the table. The node maps sessions and groups to owners. The number of an
/// owner that ended is used again.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct OwnerId(pub u32);

/// Whose a lock is that goes from one table to another.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Claimant {
    /// An owner's.
    Owner(OwnerId),
    /// Nobody's any more: an orphan, and of which session.
    Orphan(Option<SessionId>),
}

/// A lockspace as the table knows it.
#[derive(Clone, Debug)]
pub struct Space {
    /// Its modes.
    pub modes: Arc<ModeTable>,
    /// How queues are served.
    pub policy: QueuePolicy,
    /// What is done about deadlocks.
    pub deadlock: DeadlockPolicy,
    /// Who dies in a cycle.
    pub victim: VictimPolicy,
    /// Bytes of its value blocks; 0 for the default of the limits.
    pub value_bytes: u32,
    /// By how many components of a name its slot is found; 0 for the whole name.
    pub levels: u8,
    /// Whether a name can be of a part of a resource.
    pub extents: bool,
    /// Whether value blocks outlive the last lock, and changes of them are told ([`crate::Table::take_touched`]).
    pub persistent: bool,
}

/// How an owner ends. Either way its waiting requests go, and its PERSISTENT locks become orphans; its other locks are
/// released.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Ending {
    /// It said so: value blocks stay valid ([VALUE-9]).
    Goodbye,
    /// It was lost: a writing mode it held leaves the value block invalid ([VALUE-8]).
    Crash,
}

/// What a request came to at once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Granted.
    Granted(Grant),
    /// It waits; an effect with its origin will end the wait.
    Queued(LockId),
    /// A conversion was refused, and its lock holds less than before ([DEAD-12]).
    Demoted {
        /// What it holds now.
        held: Claim,
        /// Why.
        why: Refusal,
    },
}

/// What else a call caused, in order. `origin` is what the caller gave with the request that waits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// A waiting request or conversion was granted.
    Granted {
        /// Whose.
        owner: OwnerId,
        /// Of which request.
        origin: u64,
        /// What.
        grant: Grant,
    },
    /// A waiting request or conversion ended without a grant: its time was over, it was a deadlock's victim, its owner
    /// or lockspace ended, its lock was taken away.
    Refused {
        /// Whose.
        owner: OwnerId,
        /// Of which request.
        origin: u64,
        /// Of which lock. A new request's lock is gone; a conversion's is held in its old mode, unless a `Revoked` follows.
        lock: LockId,
        /// What it holds instead of its old mode, where CONVDEADLK let go of that ([DEAD-12]).
        demoted: Option<Claim>,
        /// Why.
        why: Refusal,
    },
    /// A waiting request or conversion ended because its owner cancelled it, or released the lock with FORCEUNLOCK.
    Cancelled {
        /// Whose.
        owner: OwnerId,
        /// Of which request.
        origin: u64,
        /// Of which lock.
        lock: LockId,
        /// As of `Refused`.
        demoted: Option<Claim>,
    },
    /// Blocking notice to a holder.
    Blocking {
        /// Whose lock is in the way.
        owner: OwnerId,
        /// Which.
        lock: LockId,
        /// Of what.
        claim: Claim,
    },
    /// A held lock was taken away.
    Revoked {
        /// Whose.
        owner: OwnerId,
        /// Which.
        lock: LockId,
        /// Why.
        why: Revoked,
    },
    /// A cycle was found and broken. The victim's own `Refused`, or the `Err(Deadlock)` of the call, comes beside it.
    Deadlock {
        /// The cycle. Holders carry the tag only; they, `number` and `ago` are the caller's to fill in, who keeps it.
        report: Box<DeadlockReport>,
        /// The owners of waiter and blocker of each edge of the report.
        owners: Vec<(OwnerId, OwnerId)>,
    },
    /// An older transaction waits for what this owner has: it is to end its own ([PREVENT-3]). What it waited for ends beside it.
    Wounded {
        /// Whose.
        owner: OwnerId,
    },
    /// Only while watching: every change of every lock.
    Changed {
        /// Whose, `None` for an orphan.
        owner: Option<OwnerId>,
        /// The lockspace.
        space: SpaceId,
        /// The resource.
        name: Box<[u8]>,
        /// The lock.
        lock: LockId,
        /// What happened.
        event: ChangeEvent,
        /// What is held or waited for after it; of a released lock what was.
        claim: Claim,
        /// The token held, [`Token::NONE`] where none is.
        token: Token,
    },
}

/// Counts of what is there now.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Resources.
    pub resources: u64,
    /// Locks held and not converting, orphans included.
    pub granted: u64,
    /// Conversions that wait.
    pub converting: u64,
    /// New requests that wait.
    pub waiting: u64,
    /// Orphans.
    pub orphans: u64,
    /// Owners.
    pub owners: u64,
}

/// What [`crate::Table::find`] found.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// The lock.
    pub lock: LockId,
    /// What is held, if anything.
    pub held: Option<Claim>,
    /// What is waited for, if anything.
    pub wanted: Option<Claim>,
    /// The token held, [`Token::NONE`] where none is.
    pub token: Token,
}
