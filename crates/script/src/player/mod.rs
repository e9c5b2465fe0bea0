//! One session of a script: turns its verbs into operations on the service, and answers and notices into events.
//!
//! A script names a lock by the name of its resource; the service names it by an id that only an answer brings. The
//! player keeps what the session holds and waits for, and nothing else: whether something is granted, busy or refused is
//! the service's to say. It has no transport. Whoever has one calls [`Player::plan`], sends the operation, tells the
//! player its number ([`Player::sent`]) and hands over every answer and notice.

mod answer;
mod book;
mod path;
mod txn;

use std::sync::Arc;

use lockstead_types::{
    GroupId, ModeTable, NodeId, Refusal, RequestId, SpaceId,
    reply::SpaceInfo,
    request::{Claim, ConvertRequest, LockRequest, Op, OwnerRef, Query, ReleaseRequest, Target},
};

pub use self::book::{KnownLock, SpaceView};
use self::{
    answer::Intent,
    book::{Book, LockKey},
    txn::Txn,
};
use crate::{
    command::{LockName, LockOptions, OwnerWord, Verb, Want, WantedClaim},
    event::{Event, LockEvent},
};

/// The lockspace every session starts in.
pub const DEFAULT_SPACE: &str = "default";

/// What to do for a verb.
#[derive(Debug)]
pub enum Step<'a> {
    /// Send this, then tell [`Player::sent`] its number and the intent.
    Send(Box<Op<'a>>, PlannedIntent),
    /// The first answer to this request must come before the verb can be understood: wait for it and plan again. A
    /// request that waits in a queue has an answer at once, so this never waits for a lock.
    After(RequestId),
    /// Nothing to send: this is all that comes of it.
    Say(Vec<Event>),
    /// The transport's business: `on`, `kill`, `bye`, `sleep`, `sync`.
    Transport,
}

/// What the answers to an operation will be about. Only [`Player::sent`] looks inside.
#[derive(Debug)]
pub struct PlannedIntent(Intent);

/// One session.
#[derive(Debug)]
pub struct Player {
    node: Option<NodeId>,
    /// The lockspace in use.
    space: Arc<SpaceView>,
    book: Book,
    groups: Vec<(GroupId, Box<[u8]>)>,
    txn: Txn,
    /// Requests whose last answer has not come, in the order they were sent.
    pending: Vec<(RequestId, Intent)>,
    lost: bool,
}

impl Player {
    /// A session in the default lockspace, as the service describes it, connected to `node` where that is known.
    ///
    /// # Errors
    /// The service described a mode table that is none.
    pub fn new(node: Option<NodeId>, default: &SpaceInfo) -> Result<Player, lockstead_types::mode::ModeTableError> {
        let space = Arc::new(SpaceView::new(DEFAULT_SPACE, default)?);
        let (book, groups, txn, pending) = (Book::default(), Vec::new(), Txn::default(), Vec::new());
        Ok(Player { node, space, book, groups, txn, pending, lost: false })
    }

    /// Whether the session was lost; every verb of it is refused then.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// The locks the session has or waits for.
    #[must_use]
    pub fn locks(&self) -> &[KnownLock] {
        self.book.entries()
    }

    /// The same, to give them new ids after a restart of the node.
    pub fn locks_mut(&mut self) -> &mut Vec<KnownLock> {
        self.book.entries_mut()
    }

    /// The name of a group the session is attached to.
    #[must_use]
    pub fn group_name(&self, group: GroupId) -> Option<&[u8]> {
        self.groups.iter().find(|(id, _)| *id == group).map(|(_, name)| &**name)
    }

    /// The groups the session is attached to.
    pub fn groups(&self) -> impl Iterator<Item = (GroupId, &[u8])> {
        self.groups.iter().map(|(id, name)| (*id, &**name))
    }

    /// Requests without their last answer, oldest first.
    pub fn unanswered(&self) -> impl Iterator<Item = RequestId> + '_ {
        self.pending.iter().map(|(id, _)| *id)
    }

    /// Whether the request has had an answer: `Queued`, or its last.
    #[must_use]
    pub fn has_first_answer(&self, request: RequestId) -> bool {
        self.pending.iter().all(|(id, intent)| *id != request || intent.is_queued())
    }

    /// What to do for a verb.
    #[must_use]
    pub fn plan<'a>(&'a self, verb: &'a Verb) -> Step<'a> {
        if let Some(step) = self.plan_transport(verb) {
            return step;
        }
        // A `use`, `group` or `detach` under way decides what the words of this line mean.
        if let Some((request, _)) = self.pending.iter().find(|(_, intent)| intent.changes_words()) {
            return Step::After(*request);
        }
        match verb {
            Verb::Lock { want, options } => self.plan_lock(want, options),
            Verb::LockPath { want, options } => match self.request(want, options) {
                Ok((request, key)) => Step::send(Op::LockPath(request), Intent::Path(key)),
                Err(why) => Step::Say(vec![said(&want.name, options.tag, LockEvent::Refused(why))]),
            },
            Verb::LockAll { wants, options } => self.plan_lock_all(wants, options),
            Verb::Convert { lock, mode, wait, flags, value } => self.with_lock(lock, |entry| {
                let Some(mode) = entry.space.modes.parse(mode) else {
                    return Step::Say(vec![entry.says(LockEvent::Refused(Refusal::BadMode))]);
                };
                let value = value.as_deref();
                let request = ConvertRequest { lock: entry.lock, mode, wait: *wait, flags: *flags, value };
                let claim = Claim::Mode(mode);
                Step::send(Op::Convert(request), Intent::Convert { lock: entry.clone(), claim, queued: false })
            }),
            Verb::Unlock { lock, flags, value } => self.with_lock(lock, |entry| {
                let release = ReleaseRequest { lock: entry.lock, flags: *flags, value: value.as_deref() };
                Step::send(Op::Release { release, one_way: false }, Intent::Unlock(entry.clone()))
            }),
            Verb::Cancel(lock) => self.plan_cancel(lock),
            Verb::Value(lock) => {
                self.with_lock(lock, |entry| Step::send(Op::ReadValue(entry.lock), Intent::Value(entry.clone())))
            }
            Verb::Show(name) => {
                let query = Query::Resource { space: self.space.id, name };
                Step::send(
                    Op::Query(query),
                    Intent::Show { space: Arc::clone(&self.space), name: name.as_slice().into() },
                )
            }
            Verb::Create(spec) => Step::send(Op::SpaceCreate(spec.clone()), Intent::Use(spec.name.clone())),
            Verb::Use(name) => Step::send(Op::SpaceOpen { name }, Intent::Use(name.clone())),
            Verb::Group(name) => Step::send(Op::GroupAttach { name }, Intent::Group(name.as_slice().into())),
            Verb::Detach(name) => match self.group(name) {
                Some(group) => Step::send(Op::GroupDetach(group), Intent::Detach(group, name.as_slice().into())),
                None => Step::Say(vec![refused(name, Refusal::NotHeld)]),
            },
            Verb::Purge => Step::send(Op::Purge { space: self.space.id, session: None }, Intent::Purge),
            Verb::Transaction(verb) => self.plan_transaction(verb),
            Verb::On(_) | Verb::Kill | Verb::Bye | Verb::Sleep(_) | Verb::Sync => Step::Transport,
        }
    }

    /// The operation of the last plan was sent under this number.
    pub fn sent(&mut self, request: RequestId, intent: PlannedIntent) {
        self.pending.push((request, intent.0));
    }

    /// The verbs that only the transport understands, and the end of a session that is lost: it may go (`bye`) and time
    /// may pass, nothing else.
    fn plan_transport(&self, verb: &Verb) -> Option<Step<'static>> {
        match verb {
            Verb::Bye | Verb::Sleep(_) | Verb::Sync => Some(Step::Transport),
            _ if self.lost => Some(Step::Say(refused_by_loss(verb))),
            Verb::On(_) | Verb::Kill => Some(Step::Transport),
            _ => None,
        }
    }

    fn plan_lock<'a>(&'a self, want: &'a Want, options: &LockOptions) -> Step<'a> {
        match self.request(want, options) {
            Ok((request, key)) => {
                Step::send(Op::Lock(request), Intent::Lock { key, claim: request.claim, queued: None })
            }
            Err(why) => Step::Say(vec![said(&want.name, options.tag, LockEvent::Refused(why))]),
        }
    }

    fn plan_lock_all<'a>(&'a self, wants: &'a [Want], options: &LockOptions) -> Step<'a> {
        let mut requests = Vec::with_capacity(wants.len());
        let mut keys = Vec::with_capacity(wants.len());
        for want in wants {
            match self.request(want, options) {
                Ok((request, key)) => {
                    keys.push((key, request.claim));
                    requests.push(request);
                }
                Err(why) => {
                    let all = wants.iter().map(|w| said(&w.name, options.tag, LockEvent::Refused(why)));
                    return Step::Say(all.collect());
                }
            }
        }
        Step::send(Op::LockMany(requests), Intent::LockAll { keys })
    }

    fn request<'a>(&self, want: &'a Want, options: &LockOptions) -> Result<(LockRequest<'a>, LockKey), Refusal> {
        let claim = match &want.claim {
            WantedClaim::Mode(word) => Claim::Mode(self.space.modes.parse(word).ok_or(Refusal::BadMode)?),
            WantedClaim::Permits { take, of } => Claim::Permits { take: *take, of: *of },
        };
        let (owner, group) = match &options.owner {
            word @ (OwnerWord::Unsaid | OwnerWord::Session | OwnerWord::Statement) => (self.txn.owner(word), None),
            OwnerWord::Alone => (OwnerRef::Alone, None),
            OwnerWord::Group(name) => {
                (OwnerRef::Group(self.group(name).ok_or(Refusal::NotHeld)?), Some(name.as_slice().into()))
            }
        };
        let key = LockKey {
            space: Arc::clone(&self.space),
            name: want.name.as_slice().into(),
            tag: options.tag,
            group,
            owner,
            flags: options.flags,
        };
        let LockOptions { tag, wait, flags, priority, .. } = *options;
        Ok((LockRequest { space: self.space.id, name: &want.name, claim, wait, flags, owner, tag, priority }, key))
    }

    /// What waits under that name: a lock whose id is known, or a request that has no id yet.
    fn plan_cancel<'a>(&'a self, lock: &'a LockName) -> Step<'a> {
        let many = self.pending.iter().find(|(_, intent)| intent.waits_for_all_with(&self.space, lock));
        if let (None, Some((request, _))) = (self.book.find(&self.space, lock), many) {
            let intent = Intent::Cancel { name: lock.name.as_slice().into(), tag: lock.tag };
            return Step::send(Op::Cancel(Target::Request(*request)), intent);
        }
        self.with_lock(lock, |entry| {
            let intent = Intent::Cancel { name: entry.name.clone(), tag: entry.tag };
            Step::send(Op::Cancel(Target::Lock(entry.lock)), intent)
        })
    }

    fn with_lock<'a>(&'a self, lock: &'a LockName, then: impl FnOnce(&'a KnownLock) -> Step<'a>) -> Step<'a> {
        if let Some((request, _)) = self.pending.iter().find(|(_, intent)| intent.decides_on(&self.space, lock)) {
            return Step::After(*request);
        }
        match self.book.find(&self.space, lock) {
            Some(entry) => then(entry),
            None => Step::Say(vec![said(&lock.name, lock.tag, LockEvent::Refused(Refusal::NotHeld))]),
        }
    }

    fn group(&self, name: &[u8]) -> Option<GroupId> {
        self.groups.iter().find(|(_, n)| **n == *name).map(|(id, _)| *id)
    }

    /// The number of the lockspace in use, for an operator's verbs.
    #[must_use]
    pub fn space(&self) -> SpaceId {
        self.space.id
    }

    /// The modes of the lockspace in use.
    #[must_use]
    pub fn modes(&self) -> &ModeTable {
        &self.space.modes
    }
}

impl<'a> Step<'a> {
    fn send(op: Op<'a>, intent: Intent) -> Step<'a> {
        Step::Send(Box::new(op), PlannedIntent(intent))
    }
}

fn said(name: &[u8], tag: u32, what: LockEvent) -> Event {
    Event::Lock { name: name.into(), tag, what }
}

fn refused(word: &[u8], why: Refusal) -> Event {
    Event::Refused { word: String::from_utf8_lossy(word).into_owned(), why }
}

/// A verb of a session that is lost.
fn refused_by_loss(verb: &Verb) -> Vec<Event> {
    let lock = |name: &[u8], tag| said(name, tag, LockEvent::Refused(Refusal::Lost));
    match verb {
        Verb::Lock { want, options } | Verb::LockPath { want, options } => vec![lock(&want.name, options.tag)],
        Verb::LockAll { wants, options } => wants.iter().map(|want| lock(&want.name, options.tag)).collect(),
        Verb::Convert { lock: l, .. } | Verb::Unlock { lock: l, .. } | Verb::Cancel(l) | Verb::Value(l) => {
            vec![lock(&l.name, l.tag)]
        }
        Verb::Show(name) => vec![lock(name, 0)],
        Verb::Create(spec) => vec![refused(spec.name.as_bytes(), Refusal::Lost)],
        Verb::Use(word) | Verb::On(word) => vec![refused(word.as_bytes(), Refusal::Lost)],
        Verb::Group(name) | Verb::Detach(name) => vec![refused(name, Refusal::Lost)],
        Verb::Transaction(verb) => vec![refused(verb.word().as_bytes(), Refusal::Lost)],
        Verb::Purge => vec![refused(b"purge", Refusal::Lost)],
        Verb::Kill | Verb::Bye | Verb::Sleep(_) | Verb::Sync => vec![refused(b"kill", Refusal::Lost)],
    }
}
