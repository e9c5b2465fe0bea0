//! Requests without an answer: in order, each once, kept until the node is known to have had them.

use alloc::{collections::VecDeque, vec::Vec};

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use lockstead_types::{
    Flags, LockId, Mode, RequestId, Time,
    message::ClientMessage,
    request::{Op, ReleaseRequest, Stood},
};

use crate::{
    groups::GroupNumber,
    op::{Class, Owned, Wiring},
};

/// For whom a request is.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum For {
    /// The application, which knows it by this number.
    App { key: u64 },
    /// The application, which lets go of one use of several: it is told of a release, though a conversion writes its value.
    LetGo { key: u64 },
    /// The same of one that nobody waits for the answer to.
    LetGone,
    /// The session itself: joining a group again after a restart.
    Regroup(GroupNumber),
    /// The session itself: going on with its transaction after a restart.
    Resume,
    /// The session itself: watching again after a restart, or undoing what a claim gave too late.
    Nobody,
}

/// A request that has no last answer.
#[derive(Debug)]
pub(crate) struct Request {
    /// The number the application knows; the one it is sent under differs after a restart of the node.
    pub(crate) known_as: RequestId,
    pub(crate) whose: For,
    pub(crate) op: Owned,
    /// The lock, once the node has said that it waits.
    pub(crate) queued: Option<LockId>,
    /// Its place in the queue, where another home could be told.
    pub(crate) place: Option<Place>,
}

/// Where a request stands.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Place {
    pub(crate) ticket: u64,
    pub(crate) since: Time,
    /// The home that was told, under the number the request has.
    pub(crate) told: Option<u32>,
}

/// A one-way release, kept until the node is known to have seen it.
#[derive(Copy, Clone, Debug)]
pub(crate) struct OneWay {
    id: RequestId,
    /// The node's id: a release is never carried to another home.
    wire: LockId,
    flags: Flags,
}

/// What is to be sent next.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Turn {
    Request(RequestId),
    OneWay(OneWay),
}

impl Turn {
    fn id(self) -> RequestId {
        match self {
            Turn::Request(id) => id,
            Turn::OneWay(one_way) => one_way.id,
        }
    }
}

pub(crate) struct Requests {
    newest: RequestId,
    /// What may wait and is not sent yet, in order: see [`Requests::promote`].
    later: VecDeque<(RequestId, Request)>,
    /// The same for conversions, which go before new locks.
    later_conversions: VecDeque<(RequestId, Request)>,
    /// What the node gives while requests flow, 0 while they do not.
    credit: u32,
    /// Of `open`, those that may wait.
    may_wait: u32,
    last_sent: RequestId,
    /// The newest number that was ever sent: what is sent again has a lower one.
    furthest: RequestId,
    open: HashMap<RequestId, Request, FixedState>,
    one_way: VecDeque<OneWay>,
    /// To be sent, in the order of their numbers.
    turns: VecDeque<Turn>,
    /// Of `open`, how many were sent over this connection or are known to the node.
    sent: u32,
    /// Numbers that changed with a restart, by the number the application knows.
    renamed: HashMap<RequestId, RequestId, FixedState>,
}

impl Requests {
    pub(crate) fn new() -> Requests {
        Requests {
            newest: RequestId(0),
            later: VecDeque::new(),
            later_conversions: VecDeque::new(),
            credit: 0,
            may_wait: 0,
            last_sent: RequestId(0),
            furthest: RequestId(0),
            open: HashMap::with_hasher(FixedState::default()),
            one_way: VecDeque::new(),
            turns: VecDeque::new(),
            sent: 0,
            renamed: HashMap::with_hasher(FixedState::default()),
        }
    }

    pub(crate) fn next_id(&mut self) -> RequestId {
        self.newest = RequestId(self.newest.0.wrapping_add(1));
        self.newest
    }

    /// Takes a request to be sent in its turn.
    pub(crate) fn push(&mut self, whose: For, op: Owned) -> RequestId {
        let id = self.next_id();
        let request = Request { known_as: id, whose, op, queued: None, place: None };
        let (locks, conversions) = (!self.later.is_empty(), !self.later_conversions.is_empty());
        match request.op.class() {
            // While there is room nothing is left for later.
            Class::NewLock if self.has_room() => self.send_in_turn(id, request),
            Class::NewLock => self.later.push_back((id, request)),
            Class::Conversion if self.has_room_to_convert() => self.send_in_turn(id, request),
            Class::Conversion => self.later_conversions.push_back((id, request)),
            // It stays behind what was asked before it.
            Class::Sync if locks => self.later.push_back((id, request)),
            Class::Sync if conversions => self.later_conversions.push_back((id, request)),
            Class::Sync | Class::AtOnce => {
                self.open.insert(id, request);
                self.turns.push_back(Turn::Request(id));
            }
        }
        id
    }

    /// Takes what may wait to be sent: new locks up to half of the credit, conversions up to three quarters.
    ///
    /// Without this, requests that wait could take all the credit of a session, and keep the release or conversion that they
    /// wait for from being sent: nothing would ever move again.
    fn promote(&mut self) {
        while self.has_room_to_convert()
            && let Some((known_as, request)) = self.later_conversions.pop_front()
        {
            self.send_in_turn(known_as, request);
        }
        while self.has_room()
            && let Some((known_as, request)) = self.later.pop_front()
        {
            self.send_in_turn(known_as, request);
        }
    }

    fn has_room(&self) -> bool {
        self.may_wait < self.credit.div_ceil(2)
    }

    fn has_room_to_convert(&self) -> bool {
        self.may_wait < self.credit - self.credit / 4
    }

    fn send_in_turn(&mut self, known_as: RequestId, request: Request) {
        // Numbers must rise in the order of sending; another request may have been numbered since this one was.
        let id = if known_as == self.newest { known_as } else { self.next_id() };
        if id != known_as {
            self.renamed.insert(known_as, id);
        }
        self.may_wait += u32::from(request.op.may_wait());
        self.open.insert(id, request);
        self.turns.push_back(Turn::Request(id));
    }

    /// What was not sent, by the numbers the application knows.
    pub(crate) fn unsent_where(&self, wanted: impl Fn(&Owned) -> bool) -> Vec<RequestId> {
        let unsent = self.later_conversions.iter().chain(&self.later);
        unsent.filter(|(_, request)| wanted(&request.op)).map(|(id, _)| *id).collect()
    }

    /// Takes back a request that was not sent, by the number the application knows.
    pub(crate) fn recall(&mut self, known_as: RequestId) -> Option<Request> {
        for queue in [&mut self.later, &mut self.later_conversions] {
            if let Some(at) = queue.iter().position(|(id, _)| *id == known_as) {
                return queue.remove(at).map(|(_, request)| request);
            }
        }
        None
    }

    pub(crate) fn push_one_way(&mut self, wire: LockId, flags: Flags) -> RequestId {
        let id = self.next_id();
        let one_way = OneWay { id, wire, flags };
        self.one_way.push_back(one_way);
        self.turns.push_back(Turn::OneWay(one_way));
        id
    }

    pub(crate) fn get_mut(&mut self, id: RequestId) -> Option<&mut Request> {
        self.open.get_mut(&id)
    }

    pub(crate) fn remove(&mut self, id: RequestId) -> Option<Request> {
        let request = self.open.remove(&id)?;
        self.sent = self.sent.saturating_sub(1);
        self.may_wait = self.may_wait.saturating_sub(u32::from(request.op.may_wait()));
        self.promote();
        if !self.renamed.is_empty() {
            self.renamed.remove(&request.known_as);
        }
        Some(request)
    }

    /// The number a request known to the application was last sent under.
    pub(crate) fn sent_as(&self, known_as: RequestId) -> RequestId {
        if self.renamed.is_empty() { known_as } else { self.renamed.get(&known_as).copied().unwrap_or(known_as) }
    }

    /// Whether anything is to be sent, and the credit left allows it.
    pub(crate) fn has_turn(&self, credit: u32) -> bool {
        // A one-way request takes no credit, but is turned away like any other where there is none.
        !self.turns.is_empty() && self.sent < credit
    }

    pub(crate) fn is_held_back(&self, credit: u32) -> bool {
        !self.turns.is_empty() && !self.has_turn(credit)
    }

    /// Whose turn it is. It is sent next, with [`Requests::message`].
    pub(crate) fn take_turn(&mut self) -> Option<Turn> {
        let turn = self.turns.pop_front()?;
        self.last_sent = match turn {
            Turn::OneWay(one_way) => one_way.id,
            Turn::Request(id) => {
                self.sent = self.sent.saturating_add(1);
                id
            }
        };
        self.furthest = self.furthest.max(self.last_sent);
        Some(turn)
    }

    /// Whether [`Requests::message`] has a message: asked first, and cheaper than it.
    pub(crate) fn is_sendable(&self, turn: Turn, wiring: &impl Wiring) -> bool {
        match turn {
            Turn::OneWay(_) => true,
            Turn::Request(id) => self.open.get(&id).is_some_and(|request| request.op.is_sendable(wiring)),
        }
    }

    /// The message; `None` where the request is gone, or speaks of a lock or group that is.
    pub(crate) fn message(&self, turn: Turn, wiring: &impl Wiring) -> Option<ClientMessage<'_>> {
        match turn {
            Turn::OneWay(OneWay { id, wire, flags }) => {
                let release = ReleaseRequest { lock: wire, flags, value: None };
                Some(ClientMessage::Request { id, op: Op::Release { release, one_way: true } })
            }
            Turn::Request(id) => {
                let op = self.open.get(&id)?.op.lend(wiring)?;
                Some(ClientMessage::Request { id, op })
            }
        }
    }

    /// The newest number that was sent.
    pub(crate) fn last_sent(&self) -> RequestId {
        self.last_sent
    }

    /// The node has seen everything up to `id`: one-way requests up to it have had their effect.
    pub(crate) fn confirm(&mut self, id: RequestId) {
        while self.one_way.front().is_some_and(|w| w.id <= id) {
            self.one_way.pop_front();
        }
    }

    pub(crate) fn unconfirmed(&self) -> usize {
        self.one_way.len()
    }

    pub(crate) fn open_count(&self) -> usize {
        self.open.len() + self.later.len() + self.later_conversions.len()
    }

    /// Conversions without an answer that a node may have seen, in their order.
    pub(crate) fn conversions_in_doubt(&self) -> Vec<(LockId, Mode, Flags)> {
        let sent =
            self.ids_where(|r| matches!(r.op, Owned::Convert { .. })).into_iter().filter(|id| *id <= self.furthest);
        let told = sent.filter_map(|id| match self.open.get(&id)?.op {
            Owned::Convert { lock, mode, flags, .. } => Some((lock, mode, flags)),
            _ => None,
        });
        told.collect()
    }

    /// Releases without an answer, and whether they write a value block.
    pub(crate) fn releases(&self) -> Vec<(RequestId, LockId, bool)> {
        let all = self.ids_where(|r| matches!(r.op, Owned::Release { .. }));
        let told = all.into_iter().filter_map(|id| match &self.open.get(&id)?.op {
            Owned::Release { lock, value, .. } => Some((id, *lock, value.is_some())),
            _ => None,
        });
        told.collect()
    }

    /// Releases without an answer that write a value block, and whether a node may have seen them.
    pub(crate) fn writes_with_release(&self) -> Vec<(RequestId, LockId, bool)> {
        let writes = self.ids_where(|r| matches!(r.op, Owned::Release { value: Some(_), .. }));
        let told = writes.into_iter().filter_map(|id| match self.open.get(&id)?.op {
            Owned::Release { lock, .. } => Some((id, lock, id <= self.furthest)),
            _ => None,
        });
        told.collect()
    }

    /// A new connection: what the node has not seen is sent again, in order ([SESS-6]).
    pub(crate) fn resend_after(&mut self, seen: RequestId) {
        self.confirm(seen);
        let mut ids: Vec<(RequestId, Turn)> = self.open.keys().map(|id| (*id, Turn::Request(*id))).collect();
        ids.extend(self.one_way.iter().map(|w| (w.id, Turn::OneWay(*w))));
        ids.retain(|(id, _)| *id > seen);
        #[cfg(feature = "planted")]
        if seen.0 > 0 && lockstead_types::planted::is(lockstead_types::planted::Bug::NotRepeated) {
            ids.clear();
        }
        ids.sort_unstable_by_key(|(id, _)| *id);
        let unseen = ids.iter().filter(|(_, turn)| matches!(turn, Turn::Request(_))).count();
        self.sent = (self.open.len() - unseen) as u32;
        self.turns = ids.into_iter().map(|(_, turn)| turn).collect();
    }

    /// Requests flow.
    pub(crate) fn flow(&mut self, credit: u32) {
        self.credit = credit;
        self.promote();
    }

    /// There is no connection: what may wait is kept, and can be recalled.
    pub(crate) fn pause(&mut self) {
        self.credit = 0;
    }

    /// Nothing of what is open is to be sent before [`Requests::renumber`].
    pub(crate) fn hold(&mut self) {
        self.turns.clear();
        self.sent = 0;
    }

    /// [RESTART-8] Another home: what was released there is not claimed here, and its ids mean other locks here.
    pub(crate) fn forget_one_way(&mut self) {
        self.one_way.clear();
    }

    /// After a restart: what has no answer is sent again, in the same order, under numbers above all that the session has
    /// used since. Without new numbers they would lie below those of the groups joined again, and be taken for seen.
    /// What `said` has, in order, was said already.
    pub(crate) fn renumber(&mut self, said: &[RequestId]) {
        let unsaid = self.open.keys().filter(|id| said.binary_search(id).is_err());
        let mut old: Vec<Turn> = unsaid.map(|id| Turn::Request(*id)).collect();
        old.extend(self.one_way.iter().map(|w| Turn::OneWay(*w)));
        old.sort_unstable_by_key(|turn| turn.id());
        let mut one_way = core::mem::take(&mut self.one_way);
        self.turns.clear();
        for turn in old {
            let new = self.next_id();
            match turn {
                Turn::Request(id) => {
                    let Some(request) = self.open.remove(&id) else { continue };
                    self.renamed.insert(request.known_as, new);
                    self.open.insert(new, request);
                    self.turns.push_back(Turn::Request(new));
                }
                Turn::OneWay(_) => {
                    let Some(release) = one_way.pop_front() else { continue };
                    let release = OneWay { id: new, ..release };
                    self.one_way.push_back(release);
                    self.turns.push_back(Turn::OneWay(release));
                }
            }
        }
        self.sent = said.iter().filter(|id| self.open.contains_key(*id)).count() as u32;
    }

    /// [CLUSTER-24] What waited elsewhere gets the numbers, above all others, under which this home is told where it stood. Once
    /// for each home: said twice there, it is one request.
    pub(crate) fn number_waits(&mut self, home: Option<u32>) {
        let elsewhere = |r: &Request| r.place.is_some_and(|place| place.told != home);
        for id in self.ids_where(elsewhere) {
            let new = self.next_id();
            let Some(mut request) = self.open.remove(&id) else { continue };
            if let Some(place) = &mut request.place {
                place.told = home;
            }
            self.renamed.insert(request.known_as, new);
            self.open.insert(new, request);
        }
    }

    /// What is to be said again to this home, in order.
    pub(crate) fn waits_to_tell(&self, home: Option<u32>, wiring: &impl Wiring) -> Vec<RequestId> {
        self.ids_where(|r| r.place.is_some_and(|place| place.told == home) && r.op.is_sendable(wiring))
    }

    /// A wait is said again: where it stood.
    pub(crate) fn tell_wait(&mut self, now: Time, id: RequestId) -> Option<Stood> {
        let Place { ticket, since, .. } = self.open.get(&id)?.place?;
        self.last_sent = self.last_sent.max(id);
        Some(Stood { ticket, waited: now.since(since) })
    }

    /// A request that waited elsewhere; `None` where it is over.
    pub(crate) fn again(&self, id: RequestId, stood: Stood, wiring: &impl Wiring) -> Option<ClientMessage<'_>> {
        let op = self.open.get(&id)?.op.lend(wiring)?;
        Some(ClientMessage::Again { id, stood, op })
    }

    /// It is not said again after all: its lock is gone.
    pub(crate) fn untell_wait(&mut self, id: RequestId) {
        if self.open.contains_key(&id) {
            self.sent = self.sent.saturating_sub(1);
            self.turns.push_front(Turn::Request(id));
        }
    }

    /// Everything that is open, in order.
    pub(crate) fn drain(&mut self) -> Vec<Request> {
        let mut all: Vec<(RequestId, Request)> = self.open.drain().collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        all.extend(self.later_conversions.drain(..));
        all.extend(self.later.drain(..));
        self.may_wait = 0;
        self.hold();
        self.forget_one_way();
        self.renamed.clear();
        all.into_iter().map(|(_, request)| request).collect()
    }

    pub(crate) fn ids_where(&self, wanted: impl Fn(&Request) -> bool) -> Vec<RequestId> {
        let mut ids: Vec<RequestId> = self.open.iter().filter(|(_, r)| wanted(r)).map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids
    }
}
