//! A session over a connection: `lockstead-client-core` with a socket, a clock and a task.
//!
//! Whoever submits a request encodes it straight into the connection's buffer, under one short mutex. Alone, it also writes
//! it at once; where others are under way, the driver task writes for all that submit in the same turn of the runtime.

mod driver;
mod rota;
mod socket;

use core::{sync::atomic::AtomicU64, sync::atomic::Ordering, task::Waker, time::Duration};
use std::{io, os::fd::OwnedFd, sync::Arc};

use lockstead_client_core::{Config, Ending, Input, Lease, Output, Session};
use lockstead_types::{
    Flags, LockId, Refusal, RequestId, SessionId, Span, Time,
    message::ClientMessage,
    report::Meta,
    request::{Op, ReleaseRequest},
};
use lockstead_wire::{FIRST_FRAME_BYTES, FrameWriter};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    Error, Lost, Tried, Trouble, clock,
    desk::{Cleanup, Desk, News, SlotKey, Ticket, Undo},
    endpoint::Endpoint,
    link::{Asked, cancel_of},
};
use rota::Rota;
use socket::Socket;

/// How to connect.
pub(crate) struct Settings {
    pub(crate) endpoints: Vec<Endpoint>,
    /// Whether to begin with the first of them, or with any.
    pub(crate) in_order: bool,
    pub(crate) ttl: Span,
    pub(crate) guard: Span,
    pub(crate) meta: Meta,
    pub(crate) connect_timeout: Duration,
    /// Whether endpoints are tried again until then.
    pub(crate) patient: bool,
}

/// Clocks of client and node may run this far apart, parts per million.
const RHO_PPM: u32 = 10_000;
/// Requests one session may have open.
const BACKLOG: u32 = 1_000_000;
/// What is not written yet beyond this is written by whoever adds to it.
const FLUSH_BYTES: usize = 64 * 1024;

/// Opens a session; gives up after the connect timeout.
pub(crate) async fn connect(settings: Settings) -> Result<Arc<Remote>, Error> {
    let timeout = settings.connect_timeout;
    let shared = Arc::new(Shared::new(settings, random_id()?));
    // From here on the session is left again if this future is dropped.
    let remote = Arc::new(Remote { shared: Arc::clone(&shared) });
    shared.act(|_, _| ());
    tokio::spawn(driver::drive(Arc::clone(&shared)));
    let opened = tokio::time::timeout(timeout, shared.opened.notified()).await;
    let inner = shared.inner.lock();
    if let (Ok(()), None, true) = (opened, inner.desk.lost(), inner.core.deadline().is_some()) {
        drop(inner);
        return Ok(remote);
    }
    let ending = inner.core.ending();
    let tried = inner.rota.tried();
    drop(inner);
    remote.kill();
    Err(match (ending, &tried[..]) {
        // Turned away for good, or by the only one there is.
        (Some(Ending::Rejected(why)), _) => Error::Rejected(why),
        (_, [Tried { why: Trouble::Rejected(why), .. }]) => Error::Rejected(*why),
        _ => Error::Connect { tried },
    })
}

/// A session, for everything made from it. Dropping it says goodbye.
pub(crate) struct Remote {
    shared: Arc<Shared>,
}

/// What callers and the driver share.
struct Shared {
    session: SessionId,
    /// Nanoseconds of [`clock::now`] until which the client may act; 0 where the session is not open or over.
    deadline: AtomicU64,
    opened: Notify,
    /// The session came to a node.
    arrived: Notify,
    /// There is something for the driver to do.
    work: Notify,
    inner: Mutex<Inner>,
}

struct Inner {
    core: Session,
    desk: Desk,
    out: Vec<u8>,
    /// Bytes of `out` that are written.
    written: usize,
    writer: FrameWriter,
    socket: Option<Arc<Socket>>,
    connect_wanted: bool,
    /// The driver will flush before it sleeps: nobody need wake it.
    driver_awake: bool,
    opened: bool,
    patient: bool,
    rota: Rota,
    /// Whether requests flow, as of the last look.
    live: bool,
    /// Why the connection is left is known to `rota`, or no fault of the endpoint.
    explained: bool,
}

impl Shared {
    fn new(settings: Settings, session: SessionId) -> Shared {
        let config = Config {
            session,
            ttl: settings.ttl,
            meta: settings.meta,
            rho_ppm: RHO_PPM,
            guard: settings.guard,
            backlog: BACKLOG,
            seed: (session.0 >> 64) as u64,
        };
        let first = if settings.in_order { 0 } else { session.0 as usize };
        let rota = Rota::new(settings.endpoints, first);
        Shared {
            session,
            deadline: AtomicU64::new(0),
            opened: Notify::new(),
            arrived: Notify::new(),
            work: Notify::new(),
            inner: Mutex::new(Inner::new(Session::new(config, clock::now()), rota, settings.patient)),
        }
    }
}

impl Remote {
    pub(crate) fn submit(&self, op: &Op<'_>) -> Result<Asked, Refusal> {
        self.shared.act(|inner, now| {
            let slot = inner.desk.open();
            match inner.core.request(now, op, slot.to_u64()) {
                Ok(request) => Ok(Asked::Ticket(Ticket { slot, request })),
                Err(why) => {
                    inner.desk.cancel(slot);
                    Err(why)
                }
            }
        })
    }

    pub(crate) fn post(&self, op: &Op<'_>) {
        // Refused only where there is nothing to do any more: the lock or the session is gone.
        self.shared.act(|inner, now| inner.core.request(now, op, NOBODY).ok());
    }

    /// The guard of a lock is gone: it is released, where it was not, and its news forgotten.
    pub(crate) fn drop_lock(&self, lock: LockId, held: bool) {
        self.shared.act(|inner, now| {
            if held {
                let release = ReleaseRequest { lock, flags: Flags::FORCEUNLOCK, value: None };
                inner.core.request(now, &Op::Release { release, one_way: true }, NOBODY).ok();
            }
            inner.desk.forget(lock);
        });
    }

    pub(crate) fn abandon(&self, ticket: Ticket, undo: Undo) {
        self.shared.act(|inner, now| match inner.desk.abandon(ticket.slot, undo) {
            Some(cleanup) => inner.clean_up(now, cleanup),
            None => {
                if let Some(op) = cancel_of(ticket, undo) {
                    inner.core.request(now, &op, NOBODY).ok();
                }
            }
        });
    }

    pub(crate) fn lease(&self) -> Lease {
        if self.check().is_err() {
            return Lease::Lost;
        }
        self.shared.inner.lock().core.lease(clock::now())
    }

    pub(crate) fn check(&self) -> Result<(), Lost> {
        let deadline = self.shared.deadline.load(Ordering::Acquire);
        // [SESS-4] The clock is read here and now. A timer would not do: a process that was stopped beyond its lease and
        // continued may run this before any timer fires.
        if clock::now().as_nanos() < deadline {
            return Ok(());
        }
        let lost = self.shared.act(|inner, now| {
            inner.core.handle(now, Input::Tick);
            inner.core.ending()
        });
        match lost {
            Some(ending) => Err(lost_by(ending)),
            None => Err(self.shared.inner.lock().desk.lost().unwrap_or(Lost::Deadline)),
        }
    }

    pub(crate) fn left(&self) -> Span {
        Time::from_nanos(self.shared.deadline.load(Ordering::Acquire)).since(clock::now())
    }

    pub(crate) fn with_desk<R>(&self, f: impl FnOnce(&mut Desk) -> R) -> R {
        f(&mut self.shared.inner.lock().desk)
    }

    pub(crate) async fn close(&self) -> Result<(), Error> {
        self.shared.act(|inner, now| inner.core.goodbye(now));
        let lost = core::future::poll_fn(|cx| self.with_desk(|desk| desk.poll_lost(cx.waker()))).await;
        if lost == Lost::Closed { Ok(()) } else { Err(Error::Lost(lost)) }
    }

    /// Goes to that endpoint, and waits until the session is there, or elsewhere.
    pub(crate) async fn move_to(&self, endpoint: Endpoint) -> Result<(), Error> {
        self.check().map_err(Error::Lost)?;
        let moved = self.shared.act(|inner, now| {
            if inner.rota.current() == Some(&endpoint) && inner.core.is_live() {
                return true;
            }
            if !inner.core.move_on(now) {
                return false;
            }
            inner.explained = inner.socket.is_some();
            inner.rota.prefer(endpoint.clone());
            true
        });
        // An attempt to connect elsewhere may be under way.
        self.shared.work.notify_one();
        if !moved {
            return Err(self.check().map_or_else(Error::Lost, |()| Error::Refused(Refusal::Busy)));
        }
        loop {
            let mut arrived = core::pin::pin!(self.shared.arrived.notified());
            // From here on no arrival is missed.
            arrived.as_mut().enable();
            self.check().map_err(Error::Lost)?;
            if let Some(outcome) = self.shared.inner.lock().whether_at(&endpoint) {
                return outcome;
            }
            arrived.await;
        }
    }

    pub(crate) fn kill(&self) {
        let mut wakers = Vec::new();
        let mut inner = self.shared.inner.lock();
        inner.desk.lose_all(Lost::Closed, &mut wakers);
        inner.hang_up();
        self.shared.deadline.store(0, Ordering::Release);
        drop(inner);
        self.shared.work.notify_one();
        wake_all(wakers);
    }

    pub(crate) fn unix_socket(&self) -> Option<OwnedFd> {
        self.shared.inner.lock().socket.as_ref()?.unix_copy()
    }

    pub(crate) fn session_id(&self) -> SessionId {
        self.shared.session
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        // Written at once where the socket takes it, so that the goodbye goes out even if the runtime ends with us.
        self.shared.act(|inner, now| {
            inner.core.goodbye(now);
            inner.pump(now, &mut Vec::new());
            inner.flush();
        });
        self.shared.work.notify_one();
    }
}

/// The key of requests whose answer nobody waits for.
const NOBODY: u64 = u64::MAX;

impl Shared {
    /// Does something with the session, then everything that follows from it.
    fn act<R>(&self, f: impl FnOnce(&mut Inner, Time) -> R) -> R {
        let mut wakers = Vec::new();
        let mut inner = self.inner.lock();
        let now = clock::now();
        let result = f(&mut inner, now);
        inner.pump(now, &mut wakers);
        self.publish(&mut inner);
        let wake = inner.after_submit();
        drop(inner);
        if wake {
            self.work.notify_one();
        }
        wake_all(wakers);
        result
    }

    /// The deadline as callers see it.
    fn publish(&self, inner: &mut Inner) {
        let deadline = match inner.desk.lost() {
            Some(_) => 0,
            None => inner.core.deadline().map_or(0, Time::as_nanos),
        };
        self.deadline.store(deadline, Ordering::Release);
        let live = inner.core.is_live();
        if core::mem::replace(&mut inner.live, live) != live && live {
            inner.rota.worked();
            self.arrived.notify_waiters();
        }
        if inner.desk.lost().is_some() {
            self.arrived.notify_waiters();
        }
        let given_up = !inner.patient && inner.core.deadline().is_none() && inner.rota.all_failed();
        if core::mem::take(&mut inner.opened) || inner.desk.lost().is_some() || given_up {
            self.opened.notify_one();
        }
    }
}

impl Inner {
    fn new(core: Session, rota: Rota, patient: bool) -> Inner {
        Inner {
            core,
            desk: Desk::new(),
            out: Vec::new(),
            written: 0,
            writer: FrameWriter::new(FIRST_FRAME_BYTES),
            socket: None,
            connect_wanted: false,
            driver_awake: false,
            opened: false,
            patient,
            rota,
            live: false,
            explained: false,
        }
    }

    /// Whether the session has come to that endpoint, or to another one; `None` while it is under way.
    fn whether_at(&self, endpoint: &Endpoint) -> Option<Result<(), Error>> {
        if !self.core.is_live() {
            return None;
        }
        let there = self.rota.current() == Some(endpoint);
        Some(if there { Ok(()) } else { Err(Error::Connect { tried: self.rota.tried() }) })
    }

    /// Does what the session wants.
    fn pump(&mut self, now: Time, wakers: &mut Vec<Waker>) {
        loop {
            let Some(output) = self.core.poll_output() else { return };
            match output {
                Output::Send(message) => {
                    if let Err(id) = encode(&mut self.writer, &mut self.out, &message) {
                        self.core.refuse_unsent(id, Refusal::TooLong);
                    }
                }
                Output::Answer { key: NOBODY, .. } => {}
                Output::Answer { key, reply, .. } => {
                    let cleanup = self.desk.deliver(SlotKey::from_u64(key), reply, wakers);
                    self.clean_up(now, cleanup);
                }
                Output::Notice(notice) => self.desk.notice(notice, wakers),
                Output::LockLost { lock, why } => self.desk.lose_lock(lock, Lost::Revoked(why), wakers),
                Output::Lease(lease) => self.desk.feed(News::Lease(lease), wakers),
                Output::Connect => self.connect_wanted = true,
                Output::Disconnect => {
                    self.flush();
                    self.hang_up();
                    if !core::mem::take(&mut self.explained) {
                        self.rota.failed(now, Trouble::NoAnswer);
                    }
                }
                Output::Opened => self.opened = true,
                Output::Rejected(why) => {
                    self.explained = true;
                    self.rota.rejected(now, why);
                }
                Output::Over(ending) => {
                    self.connect_wanted = false;
                    self.desk.lose_all(lost_by(ending), wakers);
                }
            }
        }
    }

    /// Undoes what was granted to a future that is gone.
    fn clean_up(&mut self, now: Time, cleanup: Cleanup) {
        match cleanup {
            Cleanup::Nothing => {}
            Cleanup::Release(locks) => {
                for lock in locks {
                    let release = ReleaseRequest { lock, flags: Flags::NONE, value: None };
                    self.core.request(now, &Op::Release { release, one_way: true }, NOBODY).ok();
                }
            }
            Cleanup::RollBack => {
                self.core.request(now, &Op::Rollback { to: None }, NOBODY).ok();
            }
            Cleanup::Detach(group) => {
                self.core.request(now, &Op::GroupDetach(group), NOBODY).ok();
            }
        }
    }

    /// Writes at once what should not wait for the driver. Whether the driver must be woken for the rest.
    fn after_submit(&mut self) -> bool {
        if self.connect_wanted || self.desk.lost().is_some() {
            return true;
        }
        if self.out.is_empty() || self.socket.is_none() || self.driver_awake {
            return false;
        }
        // One request alone: nobody will add to the buffer before its answer comes.
        let alone = self.core.open_requests() == 1;
        if (alone || self.out.len() >= FLUSH_BYTES) && self.flush() {
            return false;
        }
        self.driver_awake = true;
        true
    }

    /// Writes what the socket takes without waiting; whether that was all.
    fn flush(&mut self) -> bool {
        // A frame of which a part is written must not grow.
        self.writer.finish();
        let Some(socket) = &self.socket else { return true };
        while let Some(rest) = self.out.get(self.written..).filter(|r| !r.is_empty()) {
            match socket.try_write(rest) {
                Ok(count) => self.written += count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return false,
                // It shows itself to the reading driver, which knows what to do about it. What is left cannot be written any more:
                // kept, it would have the driver try again and again, and its runtime never look whether there is anything to read.
                Err(_) => break,
            }
        }
        self.out.clear();
        self.written = 0;
        true
    }

    /// Forgets the connection and what was to be written to it.
    fn hang_up(&mut self) {
        self.socket = None;
        self.writer = FrameWriter::new(FIRST_FRAME_BYTES);
        self.out.clear();
        self.written = 0;
    }
}

/// `Err` names a request that does not fit a frame.
fn encode(writer: &mut FrameWriter, out: &mut Vec<u8>, message: &ClientMessage<'_>) -> Result<(), RequestId> {
    match (writer.client(out, message), message) {
        (Err(_), ClientMessage::Request { id, .. }) => Err(*id),
        // Everything else is far smaller than any frame.
        _ => Ok(()),
    }
}

fn lost_by(ending: Ending) -> Lost {
    match ending {
        Ending::Deadline => Lost::Deadline,
        Ending::Ended | Ending::Rejected(_) => Lost::Ended,
        Ending::Closed => Lost::Closed,
    }
}

fn random_id() -> Result<SessionId, Error> {
    let mut bytes = [0u8; 16];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(16) => Ok(SessionId(u128::from_ne_bytes(bytes))),
        Ok(_) => Err(Error::Config("the random source gave too little".into())),
        Err(e) => Err(Error::Config(format!("no random source: {e}"))),
    }
}

fn wake_all(wakers: Vec<Waker>) {
    for waker in wakers {
        waker.wake();
    }
}
