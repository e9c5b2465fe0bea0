//! Answers and notices become events.

use std::sync::Arc;

use lockstead_types::{
    GroupId, LockId, Refusal, RequestId, Token,
    reply::{Grant, Notice, Reply},
    report::Report,
    request::Claim,
};

use super::{
    Player,
    book::{KnownLock, LockKey, SpaceView},
    path::not_announced,
    refused, said,
};
use crate::{
    command::{LockName, TransactionVerb},
    event::{Event, LockEvent, TransactionEvent},
    show::{People, Queues},
};

/// What the answers to a request are about.
#[derive(Clone, Debug)]
pub(super) enum Intent {
    Lock { key: LockKey, claim: Claim, queued: Option<LockId> },
    LockAll { keys: Vec<(LockKey, Claim)> },
    Path(LockKey),
    Convert { lock: KnownLock, claim: Claim, queued: bool },
    Unlock(KnownLock),
    Cancel { name: Box<[u8]>, tag: u32 },
    Value(KnownLock),
    Show { space: Arc<SpaceView>, name: Box<[u8]> },
    Use(String),
    Group(Box<[u8]>),
    Detach(GroupId, Box<[u8]>),
    Purge,
    Transaction(TransactionVerb),
}

impl Intent {
    pub(super) fn is_queued(&self) -> bool {
        matches!(
            self,
            Intent::Lock { queued: Some(_), .. }
                | Intent::Convert { queued: true, .. }
                | Intent::LockAll { .. }
                | Intent::Path(_)
        )
    }

    /// Whether the answer decides what later words mean.
    pub(super) fn changes_words(&self) -> bool {
        matches!(self, Intent::Use(_) | Intent::Group(_) | Intent::Detach(..) | Intent::Transaction(_))
    }

    /// Whether the first answer, which has not come, decides which lock a name means.
    pub(super) fn decides_on(&self, space: &SpaceView, lock: &LockName) -> bool {
        match self {
            Intent::Lock { key, queued: None, .. } => key.is(space, lock),
            Intent::Unlock(entry) => entry.space.id == space.id && *entry.name == *lock.name && entry.tag == lock.tag,
            _ => false,
        }
    }

    /// Whether it is a request for several locks that waits and names this one.
    pub(super) fn waits_for_all_with(&self, space: &SpaceView, lock: &LockName) -> bool {
        match self {
            Intent::LockAll { keys } => keys.iter().any(|(key, _)| key.is(space, lock)),
            Intent::Path(key) => key.is(space, lock),
            _ => false,
        }
    }
}

impl Player {
    /// An answer to a request of this session.
    pub fn on_reply(&mut self, request: RequestId, reply: Reply, people: &dyn People) -> Vec<Event> {
        let Some(at) = self.pending.iter().position(|(id, _)| *id == request) else { return Vec::new() };
        if let Reply::Queued(queued) = reply {
            return self.on_queued(at, queued.lock);
        }
        let (_, intent) = self.pending.remove(at);
        match intent {
            Intent::Lock { key, queued, .. } => vec![self.end_lock(&key, queued, reply)],
            Intent::LockAll { keys } => self.end_lock_all(&keys, reply),
            Intent::Path(key) => self.end_path(&key, reply),
            Intent::Convert { lock, .. } => vec![self.end_convert(&lock, reply)],
            Intent::Unlock(entry) => vec![self.end_unlock(&entry, &reply)],
            // The request that was cancelled says so itself.
            Intent::Cancel { name, tag } => {
                refusal(&reply).map(|why| said(&name, tag, LockEvent::Refused(why))).into_iter().collect()
            }
            Intent::Value(entry) => vec![match reply {
                Reply::Value(value) => entry.says(LockEvent::Value(value)),
                other => entry.says(LockEvent::Refused(refusal(&other).unwrap_or(Refusal::Invalid))),
            }],
            Intent::Show { space, name } => vec![self.end_show(&space, &name, &reply, people)],
            Intent::Use(name) => self.end_use(&name, &reply).into_iter().collect(),
            Intent::Group(name) => self.end_group(name, &reply).into_iter().collect(),
            Intent::Detach(group, name) => self.end_detach(group, &name, &reply).into_iter().collect(),
            Intent::Transaction(verb) => vec![self.end_transaction(&verb, &reply)],
            Intent::Purge => vec![match reply {
                Reply::Purged(count) => Event::Purged(count),
                other => refused(b"purge", refusal(&other).unwrap_or(Refusal::Invalid)),
            }],
        }
    }

    /// News of this session.
    pub fn on_notice(&mut self, notice: &Notice) -> Vec<Event> {
        match notice {
            Notice::Blocking { lock, claim } => {
                let blocking = |entry: &KnownLock| entry.says(LockEvent::Blocking(entry.text(*claim)));
                self.book.by_id(*lock).map(blocking).into_iter().collect()
            }
            Notice::Revoked { lock, why } => {
                self.book.remove(*lock).map(|entry| entry.says(LockEvent::Lost(*why))).into_iter().collect()
            }
            // A script sets no watches.
            Notice::Changed(_) | Notice::Resync => Vec::new(),
            Notice::Aborted => vec![Event::Transaction(TransactionEvent::Aborted)],
        }
    }

    /// The session was lost, with all it held and waited for. Said once.
    pub fn on_lost(&mut self) -> Vec<Event> {
        if self.lost {
            return Vec::new();
        }
        self.lost = true;
        self.book.entries_mut().clear();
        self.pending.clear();
        vec![Event::SessionLost]
    }

    fn on_queued(&mut self, at: usize, lock: LockId) -> Vec<Event> {
        match &mut self.pending[at].1 {
            Intent::Lock { key, claim, queued } => {
                *queued = Some(lock);
                self.book.put(lock, key, None, Token::NONE, None);
                vec![key.says(LockEvent::Waiting(key.text(*claim)))]
            }
            Intent::Convert { lock, claim, queued } => {
                *queued = true;
                vec![lock.says(LockEvent::Waiting(lock.text(*claim)))]
            }
            _ => Vec::new(),
        }
    }

    fn end_lock(&mut self, key: &LockKey, queued: Option<LockId>, reply: Reply) -> Event {
        if let Reply::Granted(grant) = reply {
            let part = self.txn.next_part(key.owner);
            self.book.put(grant.lock, key, Some(grant.claim), grant.token, part);
            return key.says(granted(key.text(grant.claim), grant));
        }
        if let Some(lock) = queued {
            self.book.remove(lock);
        }
        if let Reply::Refused(Refusal::Intent { level, mode }) = reply {
            return key.says(not_announced(key, level, mode));
        }
        key.says(without_grant(&reply))
    }

    fn end_lock_all(&mut self, keys: &[(LockKey, Claim)], reply: Reply) -> Vec<Event> {
        if let Reply::GrantedMany(grants) = reply {
            let each = keys.iter().zip(grants).map(|((key, _), grant)| {
                let part = self.txn.next_part(key.owner);
                self.book.put(grant.lock, key, Some(grant.claim), grant.token, part);
                key.says(granted(key.text(grant.claim), grant))
            });
            return each.collect();
        }
        keys.iter().map(|(key, _)| key.says(without_grant(&reply))).collect()
    }

    fn end_convert(&mut self, entry: &KnownLock, reply: Reply) -> Event {
        match reply {
            Reply::Granted(grant) => {
                self.book.convert(entry.lock, grant.claim, grant.token);
                entry.says(granted(entry.text(grant.claim), grant))
            }
            Reply::Demoted { held, why } => {
                // A conversion down: the token stays.
                let token = self.book.by_id(entry.lock).map_or(entry.token, |known| known.token);
                self.book.convert(entry.lock, held, token);
                entry.says(LockEvent::Demoted { why })
            }
            other => {
                self.forget_if_gone(entry, &other);
                entry.says(without_grant(&other))
            }
        }
    }

    fn end_unlock(&mut self, entry: &KnownLock, reply: &Reply) -> Event {
        if *reply == Reply::Released {
            self.book.remove(entry.lock);
            return entry.says(LockEvent::Released);
        }
        self.forget_if_gone(entry, reply);
        entry.says(without_grant(reply))
    }

    /// The service does not know the lock any more: neither do we.
    fn forget_if_gone(&mut self, entry: &KnownLock, reply: &Reply) {
        if *reply == Reply::Refused(Refusal::NotHeld) {
            self.book.remove(entry.lock);
        }
    }

    fn end_show(&self, space: &SpaceView, name: &[u8], reply: &Reply, people: &dyn People) -> Event {
        match reply {
            Reply::Report(report) => match &**report {
                Report::Resource(detail) => {
                    Event::Shown(Box::new(Queues::new(name, detail.as_deref(), self.node, &space.modes, people)))
                }
                _ => said(name, 0, LockEvent::Refused(Refusal::Invalid)),
            },
            other => said(name, 0, without_grant(other)),
        }
    }

    fn end_use(&mut self, name: &str, reply: &Reply) -> Option<Event> {
        let view = match reply {
            Reply::Space(info) => SpaceView::new(name, info).map_err(|_| Refusal::Invalid),
            other => Err(refusal(other).unwrap_or(Refusal::Invalid)),
        };
        match view {
            Ok(view) => {
                self.space = Arc::new(view);
                None
            }
            Err(why) => Some(refused(name.as_bytes(), why)),
        }
    }

    fn end_group(&mut self, name: Box<[u8]>, reply: &Reply) -> Option<Event> {
        let Reply::Group(group) = reply else {
            return Some(refused(&name, refusal(reply).unwrap_or(Refusal::Invalid)));
        };
        self.groups.retain(|(_, n)| *n != name);
        self.groups.push((*group, name));
        None
    }

    fn end_detach(&mut self, group: GroupId, name: &[u8], reply: &Reply) -> Option<Event> {
        if let Some(why) = refusal(reply) {
            return Some(refused(name, why));
        }
        self.groups.retain(|(id, _)| *id != group);
        self.book.leave_group(name);
        None
    }
}

pub(super) fn granted(claim: String, grant: Grant) -> LockEvent {
    let Grant { token, value, demoted, alternative, .. } = grant;
    LockEvent::Granted { claim, token, value, demoted, alternative }
}

/// A request ended without a grant.
pub(super) fn without_grant(reply: &Reply) -> LockEvent {
    match reply {
        Reply::Cancelled => LockEvent::Cancelled,
        Reply::Refused(why) => LockEvent::Refused(*why),
        // An answer that belongs to another kind of request: the service broke the protocol.
        _ => LockEvent::Refused(Refusal::Invalid),
    }
}

fn refusal(reply: &Reply) -> Option<Refusal> {
    match reply {
        Reply::Refused(why) => Some(*why),
        _ => None,
    }
}
