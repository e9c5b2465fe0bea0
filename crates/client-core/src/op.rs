//! Requests as the session keeps them: owned, so that they can be sent again, and with the application's own ids of locks
//! and groups, which are put into the node's only when a request is sent.

use alloc::{boxed::Box, string::String, vec::Vec};

use lockstead_types::{
    Age, Flags, GroupId, LockId, Mode, SessionId, SpaceId, Token,
    request::{Claim, ClusterOrder, ConvertRequest, LockRequest, Op, OwnerRef, Query, ReleaseRequest, Target, Wait},
    space::SpaceSpec,
    transaction::{Resume, Savepoint},
};

/// An owned request. The frequent ones stand for themselves, the others behind a box, to keep the type small.
#[derive(Clone, Debug)]
pub(crate) enum Owned {
    Lock(NewLock),
    Many(Vec<NewLock>),
    Path(NewLock),
    Convert { lock: LockId, mode: Mode, wait: Wait, flags: Flags, value: Option<Box<[u8]>> },
    Release { lock: LockId, flags: Flags, value: Option<Box<[u8]>> },
    Cancel(Target),
    ReadValue(LockId),
    Rare(Box<Rare>),
}

/// How a request takes part in the credit.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Class {
    /// May wait for others for any time.
    NewLock,
    /// May wait too, and others may wait for it.
    Conversion,
    /// Answered at once, but not before what came before it.
    Sync,
    /// Answered at once.
    AtOnce,
}

#[derive(Clone, Debug)]
pub(crate) struct NewLock {
    pub(crate) space: SpaceId,
    pub(crate) name: Box<[u8]>,
    pub(crate) claim: Claim,
    pub(crate) wait: Wait,
    pub(crate) flags: Flags,
    pub(crate) owner: OwnerRef,
    pub(crate) tag: u32,
    pub(crate) priority: i8,
}

/// `Unclaimed` is a release that may have had its effect: done once all masters have heard that the lock is not claimed ([HOME-8]).
#[derive(Clone, Debug)]
pub(crate) enum Rare {
    Sync,
    Unclaimed(LockId),
    GroupAttach {
        name: Box<[u8]>,
    },
    GroupDetach(GroupId),
    SpaceOpen {
        name: String,
    },
    SpaceCreate(Box<SpaceSpec>),
    SpaceDrop {
        name: String,
        force: bool,
    },
    Purge {
        space: SpaceId,
        session: Option<SessionId>,
    },
    ForceRelease {
        space: SpaceId,
        name: Box<[u8]>,
        token: Token,
        reason: String,
    },
    EndSession {
        session: SessionId,
        reason: String,
    },
    Query(OwnedQuery),
    Watch {
        space: SpaceId,
        prefix: Box<[u8]>,
    },
    Unwatch,
    Cluster(Box<ClusterOrder>),
    Begin {
        age: Option<Age>,
    },
    Resume(Resume),
    Savepoint,
    /// With the locks that it is to release, as far as they were held when it was asked.
    End {
        end: End,
        locks: Vec<LockId>,
    },
}

/// The end of the transaction, or of a part of it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Commit,
    Rollback { to: Option<Savepoint> },
    Statement,
}

#[derive(Clone, Debug)]
pub(crate) enum OwnedQuery {
    Resources { space: SpaceId, prefix: Box<[u8]>, from: u64 },
    Resource { space: SpaceId, name: Box<[u8]> },
    Waits,
    Sessions { after: Option<SessionId> },
    Deadlocks,
    Status,
    Spaces,
    Members,
}

/// Puts the application's ids into the node's.
pub(crate) trait Wiring {
    /// `None` where the lock is gone, or not yet taken back after a restart.
    fn lock(&self, lock: LockId) -> Option<LockId>;
    /// `None` where the group is gone.
    fn group(&self, group: GroupId) -> Option<GroupId>;
    /// The number under which a request was last sent.
    fn request(&self, target: Target) -> Option<Target>;
}

impl Owned {
    /// A copy of a request, `one_way` aside.
    pub(crate) fn of(op: &Op<'_>) -> Owned {
        let rare = match op {
            Op::Lock(lock) => return Owned::Lock(NewLock::of(lock)),
            Op::LockPath(lock) => return Owned::Path(NewLock::of(lock)),
            Op::LockMany(locks) => return Owned::Many(locks.iter().map(NewLock::of).collect()),
            Op::Convert(c) => {
                let value = c.value.map(Into::into);
                return Owned::Convert { lock: c.lock, mode: c.mode, wait: c.wait, flags: c.flags, value };
            }
            Op::Release { release, .. } => {
                let value = release.value.map(Into::into);
                return Owned::Release { lock: release.lock, flags: release.flags, value };
            }
            Op::Cancel(target) => return Owned::Cancel(*target),
            Op::ReadValue(lock) => return Owned::ReadValue(*lock),
            Op::Sync => Rare::Sync,
            Op::GroupAttach { name } => Rare::GroupAttach { name: (*name).into() },
            Op::GroupDetach(group) => Rare::GroupDetach(*group),
            Op::SpaceOpen { name } => Rare::SpaceOpen { name: (*name).into() },
            Op::SpaceCreate(spec) => Rare::SpaceCreate(spec.clone()),
            Op::SpaceDrop { name, force } => Rare::SpaceDrop { name: (*name).into(), force: *force },
            Op::Purge { space, session } => Rare::Purge { space: *space, session: *session },
            Op::ForceRelease { space, name, token, reason } => {
                Rare::ForceRelease { space: *space, name: (*name).into(), token: *token, reason: (*reason).into() }
            }
            Op::EndSession { session, reason } => Rare::EndSession { session: *session, reason: (*reason).into() },
            Op::Query(query) => Rare::Query(OwnedQuery::of(*query)),
            Op::Watch { space, prefix } => Rare::Watch { space: *space, prefix: (*prefix).into() },
            Op::Unwatch => Rare::Unwatch,
            Op::Cluster(order) => Rare::Cluster(order.clone()),
            Op::Begin { age } => Rare::Begin { age: *age },
            Op::Resume(resume) => Rare::Resume(*resume),
            Op::Savepoint => Rare::Savepoint,
            Op::Commit => Rare::End { end: End::Commit, locks: Vec::new() },
            Op::Rollback { to } => Rare::End { end: End::Rollback { to: *to }, locks: Vec::new() },
            Op::EndStatement => Rare::End { end: End::Statement, locks: Vec::new() },
        };
        Owned::Rare(Box::new(rare))
    }

    pub(crate) fn class(&self) -> Class {
        match self {
            Owned::Lock(_) | Owned::Many(_) | Owned::Path(_) => Class::NewLock,
            Owned::Convert { .. } => Class::Conversion,
            Owned::Rare(rare) if matches!(**rare, Rare::Sync) => Class::Sync,
            // What was asked in the transaction is part of it.
            Owned::Rare(rare)
                if matches!(
                    **rare,
                    Rare::Begin { .. } | Rare::Savepoint | Rare::End { end: End::Commit | End::Statement, .. }
                ) =>
            {
                Class::Sync
            }
            _ => Class::AtOnce,
        }
    }

    /// Whether the node may keep it waiting.
    pub(crate) fn may_wait(&self) -> bool {
        matches!(self.class(), Class::NewLock | Class::Conversion)
    }

    /// Whether [`Owned::lend`] gives a request, without making it where that can be seen at once.
    pub(crate) fn is_sendable(&self, wiring: &impl Wiring) -> bool {
        match self {
            Owned::Lock(lock) if !matches!(lock.owner, OwnerRef::Group(_)) => true,
            Owned::Release { lock, .. } => wiring.lock(*lock).is_some(),
            other => other.lend(wiring).is_some(),
        }
    }

    /// The request with the node's ids; `None` where it speaks of a lock or group that is gone.
    pub(crate) fn lend(&self, wiring: &impl Wiring) -> Option<Op<'_>> {
        Some(match self {
            Owned::Lock(lock) => Op::Lock(lock.lend(wiring)?),
            Owned::Path(lock) => Op::LockPath(lock.lend(wiring)?),
            Owned::Many(locks) => Op::LockMany(locks.iter().map(|l| l.lend(wiring)).collect::<Option<_>>()?),
            Owned::Convert { lock, mode, wait, flags, value } => Op::Convert(ConvertRequest {
                lock: wiring.lock(*lock)?,
                mode: *mode,
                wait: *wait,
                flags: *flags,
                value: value.as_deref(),
            }),
            Owned::Release { lock, flags, value } => {
                let release = ReleaseRequest { lock: wiring.lock(*lock)?, flags: *flags, value: value.as_deref() };
                Op::Release { release, one_way: false }
            }
            Owned::Cancel(target) => Op::Cancel(wiring.request(*target)?),
            Owned::ReadValue(lock) => Op::ReadValue(wiring.lock(*lock)?),
            Owned::Rare(rare) => rare.lend(wiring)?,
        })
    }
}

impl NewLock {
    fn of(lock: &LockRequest<'_>) -> NewLock {
        NewLock {
            space: lock.space,
            name: lock.name.into(),
            claim: lock.claim,
            wait: lock.wait,
            flags: lock.flags,
            owner: lock.owner,
            tag: lock.tag,
            priority: lock.priority,
        }
    }

    fn lend(&self, wiring: &impl Wiring) -> Option<LockRequest<'_>> {
        let owner = match self.owner {
            OwnerRef::Group(group) => OwnerRef::Group(wiring.group(group)?),
            other => other,
        };
        Some(LockRequest {
            space: self.space,
            name: &self.name,
            claim: self.claim,
            wait: self.wait,
            flags: self.flags,
            owner,
            tag: self.tag,
            priority: self.priority,
        })
    }
}

impl Rare {
    fn lend(&self, wiring: &impl Wiring) -> Option<Op<'_>> {
        Some(match self {
            Rare::Sync | Rare::Unclaimed(_) => Op::Sync,
            Rare::GroupAttach { name } => Op::GroupAttach { name },
            Rare::GroupDetach(group) => Op::GroupDetach(wiring.group(*group)?),
            Rare::SpaceOpen { name } => Op::SpaceOpen { name },
            Rare::SpaceCreate(spec) => Op::SpaceCreate(spec.clone()),
            Rare::SpaceDrop { name, force } => Op::SpaceDrop { name, force: *force },
            Rare::Purge { space, session } => Op::Purge { space: *space, session: *session },
            Rare::ForceRelease { space, name, token, reason } => {
                Op::ForceRelease { space: *space, name, token: *token, reason }
            }
            Rare::EndSession { session, reason } => Op::EndSession { session: *session, reason },
            Rare::Query(query) => Op::Query(query.lend()),
            Rare::Watch { space, prefix } => Op::Watch { space: *space, prefix },
            Rare::Unwatch => Op::Unwatch,
            Rare::Cluster(order) => Op::Cluster(order.clone()),
            Rare::Begin { age } => Op::Begin { age: *age },
            Rare::Resume(resume) => Op::Resume(*resume),
            Rare::Savepoint => Op::Savepoint,
            Rare::End { end: End::Commit, .. } => Op::Commit,
            Rare::End { end: End::Rollback { to }, .. } => Op::Rollback { to: *to },
            Rare::End { end: End::Statement, .. } => Op::EndStatement,
        })
    }
}

impl OwnedQuery {
    fn of(query: Query<'_>) -> OwnedQuery {
        match query {
            Query::Resources { space, prefix, from } => OwnedQuery::Resources { space, prefix: prefix.into(), from },
            Query::Resource { space, name } => OwnedQuery::Resource { space, name: name.into() },
            Query::Waits => OwnedQuery::Waits,
            Query::Sessions { after } => OwnedQuery::Sessions { after },
            Query::Deadlocks => OwnedQuery::Deadlocks,
            Query::Status => OwnedQuery::Status,
            Query::Spaces => OwnedQuery::Spaces,
            Query::Members => OwnedQuery::Members,
        }
    }

    fn lend(&self) -> Query<'_> {
        match self {
            OwnedQuery::Resources { space, prefix, from } => Query::Resources { space: *space, prefix, from: *from },
            OwnedQuery::Resource { space, name } => Query::Resource { space: *space, name },
            OwnedQuery::Waits => Query::Waits,
            OwnedQuery::Sessions { after } => Query::Sessions { after: *after },
            OwnedQuery::Deadlocks => Query::Deadlocks,
            OwnedQuery::Status => Query::Status,
            OwnedQuery::Spaces => Query::Spaces,
            OwnedQuery::Members => Query::Members,
        }
    }
}
