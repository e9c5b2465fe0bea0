//! The engine in this process: the same API over a node behind one mutex, without sockets.
//!
//! A lock that is free is granted before `lock()` returns to its caller for the first time: no task, no thread and no wake
//! is involved. A waiter is woken by whoever lets go. A thread exists only while some wait has a deadline.

use core::{sync::atomic::AtomicBool, sync::atomic::AtomicU64, sync::atomic::Ordering, task::Waker};
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use lockstead_client_core::Lease;
use lockstead_node::{Input, Node, NodeConfig, Output, Principal};
use lockstead_types::{
    ConnId, Flags, Limits, LockId, NodeId, Refusal, RequestId, SessionId, Span, Time,
    message::{ClientMessage, PROTOCOL_VERSION, ServerMessage},
    reply::Reply,
    report::Meta,
    request::{Op, ReleaseRequest},
};
use parking_lot::{Condvar, Mutex};

use crate::{
    Client, Lost, clock,
    desk::{Cleanup, Desk, SlotKey, Ticket, Undo},
    link::{Asked, Link, cancel_of},
};

/// Deadlines further away than this are none: an embedded session's lease never ends.
const FAR: Span = Span::from_secs(365 * 24 * 3600);
/// The coarse clock may be behind by so much.
const TIMER_SLACK: core::time::Duration = core::time::Duration::from_millis(5);

/// A lock manager in this process.
///
/// It keeps nothing on disk: its tokens rise for as long as it lives and begin again with the next one, so they fence
/// nothing that outlives the process. Its sessions have no lease and no deadline; they end with their last handle.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
    core: Mutex<Core>,
    /// A deadline came that is nearer than the one the timer thread sleeps to.
    nearer: Condvar,
}

struct Core {
    node: Node,
    members: Vec<Option<Member>>,
    connections: u64,
    /// What the timer thread sleeps to, while there is one.
    timer: Option<Time>,
    /// Kept between calls, so that waking costs no allocation.
    cleanups: Vec<(ConnId, Cleanup)>,
}

/// A session as the engine keeps it.
struct Member {
    conn: ConnId,
    desk: Desk,
    newest: u64,
    waiting: HashMap<RequestId, SlotKey, FixedState>,
    over: Arc<AtomicBool>,
}

impl Engine {
    /// An engine with the lockspace `default`, without a data directory.
    #[must_use]
    pub fn embedded() -> Engine {
        Engine::with_limits(Limits::default())
    }

    /// An engine with these limits. Limits of leases and of requests in flight do not apply to it.
    #[must_use]
    pub fn with_limits(mut limits: Limits) -> Engine {
        limits.ttl_max = Span::MAX;
        limits.in_flight = u32::MAX;
        let config = NodeConfig {
            node: NodeId(1),
            epoch: 1,
            limits,
            hash_seed: hash_seed(),
            version: env!("CARGO_PKG_VERSION").into(),
            spaces: Vec::new(),
            recorded: Vec::new(),
            ttl_max_recorded: Span::ZERO,
            durable: false,
            member: None,
        };
        let core = Core {
            node: Node::new(config, clock::coarse()),
            members: Vec::new(),
            connections: 0,
            timer: None,
            cleanups: Vec::new(),
        };
        Engine { shared: Arc::new(Shared { core: Mutex::new(core), nearer: Condvar::new() }) }
    }

    /// A session with this process' metadata.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client_for("")
    }

    /// A session with a purpose, shown to whoever asks who holds a lock.
    #[must_use]
    pub fn client_for(&self, purpose: &str) -> Client {
        Client::from_link(Link::Embedded(Arc::new(self.open(crate::meta::of_process(None, purpose, None)))))
    }

    fn open(&self, meta: Meta) -> EmbeddedSession {
        let mut wakers = Vec::new();
        let mut core = self.shared.core.lock();
        let core = &mut *core;
        let over = Arc::new(AtomicBool::new(false));
        let conn = core.add(&over);
        core.connections += 1;
        let id = SessionId(u128::from(core.connections));
        let now = clock::coarse();
        core.node.handle(now, Input::Connected { conn, local: true, principal: Principal::Embedded });
        let hello = ClientMessage::Hello { version: PROTOCOL_VERSION };
        let open = ClientMessage::Open { session: id, ttl: Span::MAX, meta };
        core.node.handle(now, Input::Message { conn, message: hello });
        core.node.handle(now, Input::Message { conn, message: open });
        core.settle(now, &mut wakers);
        EmbeddedSession { shared: Arc::clone(&self.shared), conn, id, over }
    }

    /// Proves the whole state; for tests.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        self.shared.core.lock().node.check()
    }
}

impl core::fmt::Debug for Engine {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Engine")
    }
}

/// A session with an engine.
pub(crate) struct EmbeddedSession {
    shared: Arc<Shared>,
    conn: ConnId,
    id: SessionId,
    over: Arc<AtomicBool>,
}

impl EmbeddedSession {
    pub(crate) fn submit(&self, op: &Op<'_>) -> Result<Asked, Refusal> {
        let mut wakers = Vec::new();
        let mut core = self.shared.core.lock();
        let now = clock::coarse();
        let asked = core.ask(self.conn, now, op, &mut wakers);
        if matches!(asked, Ok(Asked::Ticket(_))) {
            self.shared.watch_the_clock(&mut core, now);
        }
        drop(core);
        wake_all(wakers);
        asked
    }

    pub(crate) fn post(&self, op: &Op<'_>) {
        let mut wakers = Vec::new();
        let mut core = self.shared.core.lock();
        core.tell(self.conn, clock::coarse(), op, &mut wakers);
        drop(core);
        wake_all(wakers);
    }

    /// The guard of a lock is gone: it is released, where it was not, and its news forgotten.
    pub(crate) fn drop_lock(&self, lock: LockId, held: bool) {
        let mut wakers = Vec::new();
        let mut core = self.shared.core.lock();
        if held {
            let release = ReleaseRequest { lock, flags: Flags::FORCEUNLOCK, value: None };
            core.tell(self.conn, clock::coarse(), &Op::Release { release, one_way: true }, &mut wakers);
        }
        if let Some(member) = core.member(self.conn) {
            member.desk.forget(lock);
        }
        drop(core);
        wake_all(wakers);
    }

    pub(crate) fn abandon(&self, ticket: Ticket, undo: Undo) {
        let mut wakers = Vec::new();
        let mut core = self.shared.core.lock();
        let now = clock::coarse();
        if let Some(member) = core.member(self.conn) {
            match member.desk.abandon(ticket.slot, undo) {
                Some(cleanup) => core.cleanups.push((self.conn, cleanup)),
                None => {
                    if let Some(op) = cancel_of(ticket, undo) {
                        core.tell(self.conn, now, &op, &mut wakers);
                    }
                }
            }
        }
        core.settle(now, &mut wakers);
        drop(core);
        wake_all(wakers);
    }

    pub(crate) fn lease(&self) -> Lease {
        if self.over.load(Ordering::Acquire) { Lease::Lost } else { Lease::Held }
    }

    pub(crate) fn check(&self) -> Result<(), Lost> {
        if !self.over.load(Ordering::Acquire) {
            return Ok(());
        }
        Err(self.with_desk(|desk| desk.lost()).unwrap_or(Lost::Closed))
    }

    pub(crate) fn with_desk<R>(&self, f: impl FnOnce(&mut Desk) -> R) -> R {
        let mut core = self.shared.core.lock();
        match core.member(self.conn) {
            Some(member) => f(&mut member.desk),
            // Only while the session itself is being dropped.
            None => f(&mut Desk::new()),
        }
    }

    /// Says goodbye: orphans stay, everything else is released.
    pub(crate) fn close(&self) {
        self.leave(Input::Message { conn: self.conn, message: ClientMessage::Goodbye });
    }

    /// Ends as a crash would.
    pub(crate) fn kill(&self) {
        self.leave(Input::Disconnected { conn: self.conn });
    }

    fn leave(&self, how: Input<'_>) {
        let mut wakers = Vec::new();
        let mut core = self.shared.core.lock();
        let now = clock::coarse();
        core.node.handle(now, how);
        if let Some(member) = core.member(self.conn) {
            member.end(Lost::Closed, &mut wakers);
        }
        core.settle(now, &mut wakers);
        drop(core);
        wake_all(wakers);
    }

    pub(crate) fn session_id(&self) -> SessionId {
        self.id
    }
}

impl Drop for EmbeddedSession {
    fn drop(&mut self) {
        if !self.over.load(Ordering::Acquire) {
            self.close();
        }
        self.shared.core.lock().remove(self.conn);
    }
}

impl Shared {
    /// Sees to it that a thread keeps the next deadline.
    fn watch_the_clock(self: &Arc<Self>, core: &mut Core, now: Time) {
        let Some(deadline) = core.next_deadline(now) else { return };
        match core.timer {
            Some(armed) if armed <= deadline => {}
            Some(_) => {
                core.timer = Some(deadline);
                self.nearer.notify_one();
            }
            None => {
                core.timer = Some(deadline);
                let shared = Arc::clone(self);
                let thread = std::thread::Builder::new().name("lockstead-timer".into());
                if thread.spawn(move || shared.keep_time()).is_err() {
                    // No thread to be had: the next caller that waits tries again.
                    core.timer = None;
                }
            }
        }
    }

    /// The timer thread: ends when no deadline is left.
    fn keep_time(&self) {
        let mut core = self.core.lock();
        loop {
            let now = clock::coarse();
            let Some(deadline) = core.next_deadline(now) else {
                core.timer = None;
                return;
            };
            core.timer = Some(deadline);
            if now < deadline {
                let pause = core::time::Duration::from(deadline.since(now)) + TIMER_SLACK;
                self.nearer.wait_for(&mut core, pause);
                continue;
            }
            let mut wakers = Vec::new();
            core.node.handle(now, Input::Tick);
            core.settle(now, &mut wakers);
            parking_lot::MutexGuard::unlocked(&mut core, || wake_all(wakers));
        }
    }
}

impl Core {
    /// Asks for a session, and gives what came of it at once.
    fn ask(&mut self, conn: ConnId, now: Time, op: &Op<'_>, wakers: &mut Vec<Waker>) -> Result<Asked, Refusal> {
        let member = self.member(conn).filter(|m| m.desk.lost().is_none()).ok_or(Refusal::Lost)?;
        member.newest += 1;
        let id = RequestId(member.newest);
        self.node.handle_request(now, conn, id, op);
        let mut answer = None;
        let mut slot = None;
        while let Some(output) = self.node.poll_output() {
            match output {
                Output::Send { conn: to, message: ServerMessage::Reply { id: of, reply } }
                    if to == conn && of == id && answer.is_none() =>
                {
                    answer = Some(reply);
                    if let (Some(Reply::Queued(_)), Some(member)) = (&answer, self.member(conn)) {
                        // A grant may follow in this very row of outputs: the slot must be there for it.
                        let opened = member.desk.open();
                        member.waiting.insert(id, opened);
                        slot = Some(opened);
                    }
                }
                other => self.dispatch(other, wakers),
            }
        }
        self.settle(now, wakers);
        let member = match answer {
            Some(reply) if slot.is_none() => return Ok(Asked::Answered(reply)),
            _ => self.member(conn).ok_or(Refusal::Lost)?,
        };
        let slot = match (slot, answer) {
            (Some(slot), Some(queued)) => {
                member.desk.deliver(slot, queued, wakers);
                slot
            }
            // Answered later, without a word that it waits: an all-or-nothing request.
            _ => {
                let slot = member.desk.open();
                member.waiting.insert(id, slot);
                slot
            }
        };
        Ok(Asked::Ticket(Ticket { slot, request: id }))
    }

    /// Asks for a session where nobody waits for the answer.
    fn tell(&mut self, conn: ConnId, now: Time, op: &Op<'_>, wakers: &mut Vec<Waker>) {
        let Some(member) = self.member(conn).filter(|m| m.desk.lost().is_none()) else { return };
        member.newest += 1;
        let id = RequestId(member.newest);
        self.node.handle_request(now, conn, id, op);
        self.settle(now, wakers);
    }

    /// Takes everything to its place, until nothing follows any more.
    fn settle(&mut self, now: Time, wakers: &mut Vec<Waker>) {
        loop {
            while let Some(output) = self.node.poll_output() {
                self.dispatch(output, wakers);
            }
            let Some((conn, cleanup)) = self.cleanups.pop() else { return };
            match cleanup {
                Cleanup::Nothing => {}
                Cleanup::Release(locks) => {
                    for lock in locks {
                        let release = ReleaseRequest { lock, flags: Flags::NONE, value: None };
                        self.request(conn, now, &Op::Release { release, one_way: true });
                    }
                }
                Cleanup::RollBack => self.request(conn, now, &Op::Rollback { to: None }),
                Cleanup::Detach(group) => self.request(conn, now, &Op::GroupDetach(group)),
            }
        }
    }

    fn request(&mut self, conn: ConnId, now: Time, op: &Op<'_>) {
        let Some(member) = self.member(conn) else { return };
        member.newest += 1;
        let id = RequestId(member.newest);
        self.node.handle_request(now, conn, id, op);
    }

    fn dispatch(&mut self, output: Output, wakers: &mut Vec<Waker>) {
        let Output::Send { conn, message } = output else { return };
        match message {
            ServerMessage::Reply { id, reply } => {
                let Some(member) = self.member(conn) else { return };
                let slot = match &reply {
                    Reply::Queued(_) => member.waiting.get(&id).copied(),
                    _ if member.waiting.is_empty() => None,
                    _ => member.waiting.remove(&id),
                };
                if let Some(slot) = slot {
                    let cleanup = member.desk.deliver(slot, reply, wakers);
                    if cleanup != Cleanup::Nothing {
                        self.cleanups.push((conn, cleanup));
                    }
                }
            }
            ServerMessage::Notice(notice) => {
                if let Some(member) = self.member(conn) {
                    member.desk.notice(notice, wakers);
                }
            }
            ServerMessage::Ended | ServerMessage::Rejected { .. } => {
                if let Some(member) = self.member(conn) {
                    member.end(Lost::Ended, wakers);
                }
            }
            _ => {}
        }
    }

    fn next_deadline(&self, now: Time) -> Option<Time> {
        self.node.poll_deadline().filter(|deadline| deadline.since(now) < FAR)
    }

    fn add(&mut self, over: &Arc<AtomicBool>) -> ConnId {
        let index = self.members.iter().position(Option::is_none).unwrap_or(self.members.len());
        // The place is found by the low half; the high half keeps the number from being used twice.
        let conn = ConnId((self.connections << 32) | index as u64);
        let member = Member {
            conn,
            desk: Desk::new(),
            newest: 0,
            waiting: HashMap::with_hasher(FixedState::default()),
            over: Arc::clone(over),
        };
        if index == self.members.len() {
            self.members.push(Some(member));
        } else {
            self.members[index] = Some(member);
        }
        conn
    }

    fn remove(&mut self, conn: ConnId) {
        if self.member(conn).is_some() {
            self.members[(conn.0 & 0xffff_ffff) as usize] = None;
        }
    }

    fn member(&mut self, conn: ConnId) -> Option<&mut Member> {
        self.members.get_mut((conn.0 & 0xffff_ffff) as usize)?.as_mut().filter(|m| m.conn == conn)
    }
}

impl Member {
    fn end(&mut self, why: Lost, wakers: &mut Vec<Waker>) {
        self.over.store(true, Ordering::Release);
        self.desk.lose_all(why, wakers);
    }
}

/// Differs between engines and processes; that an outsider could learn it matters little within one process.
fn hash_seed() -> u64 {
    static ENGINES: AtomicU64 = AtomicU64::new(1);
    clock::now().as_nanos() ^ ENGINES.fetch_add(1, Ordering::Relaxed).rotate_left(32)
}

#[inline]
fn wake_all(wakers: Vec<Waker>) {
    if wakers.is_empty() {
        return;
    }
    for waker in wakers {
        waker.wake();
    }
}
