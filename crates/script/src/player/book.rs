//! What a session holds and waits for, by the names a script uses.

use std::sync::Arc;

use lockstead_types::{
    Flags, LockId, ModeTable, SpaceId, Token,
    mode::ModeTableError,
    reply::SpaceInfo,
    request::{Claim, OwnerRef},
    transaction::Part,
};

use crate::{
    command::LockName,
    event::{Event, LockEvent},
    show::claim_text,
};

/// A lockspace as a session knows it.
#[derive(Debug)]
pub struct SpaceView {
    /// Its number.
    pub id: SpaceId,
    /// Its name.
    pub name: String,
    /// Its modes.
    pub modes: ModeTable,
}

impl SpaceView {
    pub(super) fn new(name: &str, info: &SpaceInfo) -> Result<SpaceView, ModeTableError> {
        Ok(SpaceView { id: info.space, name: name.to_owned(), modes: ModeTable::new(info.modes.clone())? })
    }
}

/// What a lock was asked for with.
#[derive(Clone, Debug)]
pub(super) struct LockKey {
    pub(super) space: Arc<SpaceView>,
    pub(super) name: Box<[u8]>,
    pub(super) tag: u32,
    pub(super) group: Option<Box<[u8]>>,
    pub(super) owner: OwnerRef,
    pub(super) flags: Flags,
}

impl LockKey {
    pub(super) fn is(&self, space: &SpaceView, lock: &LockName) -> bool {
        let group = lock.group.is_none() || self.group.as_deref() == lock.group.as_deref();
        self.space.id == space.id && *self.name == *lock.name && self.tag == lock.tag && group
    }

    pub(super) fn says(&self, what: LockEvent) -> Event {
        Event::Lock { name: self.name.clone(), tag: self.tag, what }
    }

    pub(super) fn text(&self, claim: Claim) -> String {
        claim_text(&self.space.modes, claim)
    }
}

/// A lock the session has or waits for.
#[derive(Clone, Debug)]
pub struct KnownLock {
    /// Its id.
    pub lock: LockId,
    /// The lockspace.
    pub space: Arc<SpaceView>,
    /// The resource.
    pub name: Box<[u8]>,
    /// `as=ID`.
    pub tag: u32,
    /// The group that owns it, where one does.
    pub group: Option<Box<[u8]>>,
    /// Whether it stands alone.
    pub alone: bool,
    /// Which lock of the session's transaction it is.
    pub part: Option<Part>,
    /// The flags it was asked for with.
    pub flags: Flags,
    /// What is held; `None` while its first request waits.
    pub held: Option<Claim>,
    /// The token of the grant.
    pub token: Token,
}

impl KnownLock {
    fn is(&self, space: &SpaceView, lock: &LockName) -> bool {
        self.space.id == space.id && *self.name == *lock.name && self.tag == lock.tag
    }

    pub(super) fn says(&self, what: LockEvent) -> Event {
        Event::Lock { name: self.name.clone(), tag: self.tag, what }
    }

    pub(super) fn text(&self, claim: Claim) -> String {
        claim_text(&self.space.modes, claim)
    }
}

/// The locks of a session.
#[derive(Default, Debug)]
pub(super) struct Book {
    entries: Vec<KnownLock>,
}

impl Book {
    pub(super) fn entries(&self) -> &[KnownLock] {
        &self.entries
    }

    pub(super) fn entries_mut(&mut self) -> &mut Vec<KnownLock> {
        &mut self.entries
    }

    /// The lock a script means by a name: of the group it says, or the session's own, or else of any group.
    pub(super) fn find(&self, space: &SpaceView, lock: &LockName) -> Option<&KnownLock> {
        let mut named = self.entries.iter().filter(|e| e.is(space, lock));
        match &lock.group {
            Some(group) => named.find(|e| e.group.as_deref() == Some(group.as_slice())),
            None => named.clone().find(|e| e.group.is_none()).or_else(|| named.next()),
        }
    }

    pub(super) fn by_id(&self, lock: LockId) -> Option<&KnownLock> {
        self.entries.iter().find(|e| e.lock == lock)
    }

    pub(super) fn remove(&mut self, lock: LockId) -> Option<KnownLock> {
        let at = self.entries.iter().position(|e| e.lock == lock)?;
        Some(self.entries.remove(at))
    }

    /// A lock that waits or was granted; where it is known already, its state changes.
    pub(super) fn put(&mut self, lock: LockId, key: &LockKey, held: Option<Claim>, token: Token, part: Option<Part>) {
        match self.entries.iter_mut().find(|e| e.lock == lock) {
            Some(entry) => (entry.held, entry.token, entry.part) = (held, token, part),
            None => {
                let LockKey { space, name, tag, group, owner, flags } = key.clone();
                let alone = owner == OwnerRef::Alone;
                self.entries.push(KnownLock { lock, space, name, tag, group, alone, part, flags, held, token });
            }
        }
    }

    pub(super) fn convert(&mut self, lock: LockId, held: Claim, token: Token) {
        if let Some(entry) = self.entries.iter_mut().find(|e| e.lock == lock) {
            (entry.held, entry.token) = (Some(held), token);
        }
    }

    pub(super) fn leave_group(&mut self, group: &[u8]) {
        self.entries.retain(|e| e.group.as_deref() != Some(group));
    }
}
