//! An event loop: one thread, its own epoll instance, the connections it reads.
//!
//! A turn: wait, read every ready connection once, decode everything, let the node handle it under its lock, write every
//! connection that got something (`Shared::turn`). The first loop also accepts, and hands connections round.

use core::{
    sync::atomic::Ordering::{AcqRel, Acquire, Release},
    time::Duration,
};
use std::{
    collections::{HashMap, VecDeque},
    io::{self, ErrorKind},
    os::fd::AsRawFd,
    sync::Arc,
    thread,
};

use lockstead_node::Input;
use lockstead_types::{ConnId, Span, Time, message::Rejection};
use lockstead_wire::{DecodeError, LINK_FRAME_BYTES};
use mio::{Events, Interest, Poll, Registry, Token, event::Event, unix::SourceFd};

use super::{
    conn::{Accepted, Conn, Kind, Stage},
    listener::Listener,
    outbox::{Outbox, turn_away},
    reader::{Buffers, Read, ReadLimits, decode, recycle},
};
use crate::{
    clock,
    guarded::Afterwards,
    logging::LogBound,
    shared::{Command, Phase, Shared},
    stats::{Stats, add},
};

/// A client must say hello within so long. How long it may then be without a session is the node's to say.
const HELLO_WITHIN: Span = Span::from_secs(5);
/// A connection that the node has done with waits so long for its peer to read the last words and close.
const LINGER: Span = Span::from_secs(2);
/// How long a graceful stop waits for connections to take what they were sent.
const STOP_WITHIN: Span = Span::from_secs(2);
/// After an accept that failed for want of resources the next try waits so long.
const ACCEPT_PAUSE: Span = Span::from_millis(100);
/// Bytes waiting to be written to another node. A node that does not take so much for so long is given up; what it has not
/// acknowledged is kept by the link itself and repeated over the next connection.
const LINK_OUTPUT_BYTES: u32 = 256 * 1_048_576;
/// Connections accepted in one turn.
const ACCEPT_BATCH: usize = 64;
/// Bytes read in one turn before the other ready connections wait for the next.
const TURN_BYTES: usize = 512 * 1_024;
/// No loop sleeps longer: epoll's clock stands still while the machine is suspended, the node's does not.
const SLEEP_MAX: Span = Span::from_secs(1);

pub(crate) const WAKER: Token = Token(usize::MAX);
const LISTENERS: usize = usize::MAX - 64;

/// An event loop.
#[derive(Debug)]
pub(crate) struct EventLoop {
    index: usize,
    shared: Arc<Shared>,
    poll: Poll,
    registry: Arc<Registry>,
    listeners: Vec<Listener>,
    accepting: bool,
    accept_again: Option<Time>,
    next_owner: usize,
    conns: HashMap<ConnId, Conn>,
    ready: Vec<ConnId>,
    buffers: Buffers,
    hello_due: VecDeque<(Time, ConnId)>,
    linger_due: VecDeque<(Time, ConnId)>,
    adopting: Vec<Accepted>,
    idle: Vec<ConnId>,
    after: Afterwards,
    spin: Span,
    spin_until: Time,
    inputs: Vec<Input<'static>>,
}

static ACCEPT_LOG: LogBound = LogBound::new();
static CUT_LOG: LogBound = LogBound::new();

impl EventLoop {
    /// A loop on its own `poll`. Listeners are given to the first only.
    pub(crate) fn new(
        index: usize,
        shared: Arc<Shared>,
        poll: Poll,
        listeners: Vec<Listener>,
        spin: Span,
    ) -> io::Result<EventLoop> {
        let registry = Arc::new(poll.registry().try_clone()?);
        for (i, listener) in listeners.iter().enumerate() {
            let token = Token(LISTENERS + i);
            registry.register(&mut SourceFd(&listener.fd().as_raw_fd()), token, Interest::READABLE)?;
        }
        Ok(EventLoop {
            index,
            shared,
            poll,
            registry,
            listeners,
            accepting: false,
            accept_again: None,
            next_owner: 0,
            conns: HashMap::new(),
            ready: Vec::new(),
            buffers: Buffers::default(),
            hello_due: VecDeque::new(),
            linger_due: VecDeque::new(),
            adopting: Vec::new(),
            idle: Vec::new(),
            after: Afterwards::default(),
            spin,
            spin_until: Time::ZERO,
            inputs: Vec::new(),
        })
    }

    /// Runs until the server has stopped.
    pub(crate) fn run(mut self) {
        let mut events = Events::with_capacity(1_024);
        let mut stop_by = None;
        loop {
            if let Err(error) = self.wait(&mut events) {
                self.shared.halt(format!("an event loop cannot wait: {error}"));
                return;
            }
            self.shared.beat(self.index);
            match self.shared.phase() {
                Phase::Serving => {}
                Phase::Stopping => {
                    self.listeners.clear();
                    let now = clock::now();
                    let by = *stop_by.get_or_insert(now.after(STOP_WITHIN));
                    // One more turn may come after the one in which the stop was seen: what was read is answered.
                    let quiet = self.ready.is_empty() && self.conns.values().all(|conn| conn.outbox.is_idle());
                    if now >= by || (quiet && events.is_empty()) {
                        return;
                    }
                }
                Phase::Halted => return,
            }
            for event in &events {
                self.on_event(event);
            }
            self.on_commands();
            self.accept();
            self.on_due();
            if self.turn().is_err() {
                return;
            }
        }
    }

    fn stats(&self) -> &Stats {
        &self.shared.stats[self.index]
    }

    /// Waits for events. While there was work a moment ago it looks again and again instead of sleeping, since waking a
    /// core costs more than most turns.
    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        if !self.ready.is_empty() || self.accepting {
            return poll_once(&mut self.poll, events, Some(Duration::ZERO));
        }
        let now = clock::now();
        let spinning = &self.shared.spinning;
        if now < self.spin_until && spinning.compare_exchange(false, true, AcqRel, Acquire).is_ok() {
            let until = self.spin_until.min(self.due());
            let found = loop {
                poll_once(&mut self.poll, events, Some(Duration::ZERO))?;
                if !events.is_empty() {
                    break true;
                }
                // A client of the same host may be waiting for this very core.
                thread::yield_now();
                if clock::now() >= until {
                    break false;
                }
            };
            self.shared.spinning.store(false, Release);
            if found {
                return Ok(());
            }
        }
        let stopping = self.shared.phase() != Phase::Serving;
        let most = if stopping { Span::from_millis(5) } else { SLEEP_MAX };
        let sleep = self.due().since(clock::now()).min(most);
        if sleep > Span::ZERO {
            add(&self.stats().sleeps, 1);
        }
        // epoll counts milliseconds and mio rounds up: never early.
        poll_once(&mut self.poll, events, Some(sleep.into()))
    }

    /// When something must be done at the latest.
    fn due(&self) -> Time {
        let fronts = [&self.hello_due, &self.linger_due];
        let first = fronts.iter().filter_map(|queue| queue.front()).map(|(due, _)| *due);
        first.chain(self.accept_again).chain([self.shared.deadline()]).min().unwrap_or(Time::from_nanos(u64::MAX))
    }

    fn on_event(&mut self, event: &Event) {
        let token = event.token();
        if token == WAKER {
            return;
        }
        if token.0 >= LISTENERS {
            self.accepting = true;
            return;
        }
        let id = ConnId(token.0 as u64);
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if event.is_writable() {
            conn.outbox.on_writable(&self.shared.stats[self.index]);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            conn.ending |= event.is_read_closed() || event.is_error();
            if !conn.listed {
                conn.listed = true;
                self.ready.push(id);
            }
        }
    }

    fn on_commands(&mut self) {
        for command in self.shared.take_commands(self.index) {
            match command {
                Command::Adopt(accepted) => self.adopting.push(accepted),
                Command::Close(id) => {
                    if let Some(conn) = self.conns.get_mut(&id) {
                        conn.closing = true;
                        self.linger_due.push_back((clock::now().after(LINGER), id));
                        // Its peer may have closed already.
                        if !conn.listed {
                            conn.listed = true;
                            self.ready.push(id);
                        }
                    }
                }
            }
        }
    }

    /// Does what its time has come for.
    fn on_due(&mut self) {
        let now = clock::now();
        if self.accept_again.is_some_and(|again| again <= now) {
            self.accept_again = None;
            self.accepting = true;
        }
        while let Some((_, id)) = self.linger_due.pop_front_if(|(due, _)| *due <= now) {
            self.drop_conn(id);
        }
        while let Some((_, id)) = self.hello_due.pop_front_if(|(due, _)| *due <= now) {
            if self.conns.get(&id).is_some_and(|conn| conn.stage == Stage::New && !conn.closing) {
                self.idle.push(id);
            }
        }
    }

    fn accept(&mut self) {
        if !self.accepting || self.accept_again.is_some() {
            return;
        }
        self.accepting = false;
        for i in 0..self.listeners.len() {
            self.accepting |= self.accept_from(i);
        }
        self.accepting &= self.accept_again.is_none();
    }

    /// Whether more may be waiting; the listener tells of new ones only.
    fn accept_from(&mut self, listener: usize) -> bool {
        for _ in 0..ACCEPT_BATCH {
            let Some(listener) = self.listeners.get(listener) else { return false };
            match listener.accept() {
                Ok(accepted) => self.hand_round(accepted),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                Err(error) => {
                    let now = clock::now();
                    add(&self.stats().accept_errors, 1);
                    if ACCEPT_LOG.allows(now) {
                        tracing::warn!("cannot accept a connection, trying again soon: {error}");
                    }
                    // The connection that could not be accepted makes no second event.
                    self.accept_again = Some(now.after(ACCEPT_PAUSE));
                    return false;
                }
            }
        }
        true
    }

    fn hand_round(&mut self, accepted: Accepted) {
        if !self.shared.admit_connection() {
            add(&self.stats().turned_away, 1);
            turn_away(&accepted.fd, Rejection::Full);
            return;
        }
        add(&self.stats().accepted, 1);
        let owner = self.next_owner;
        self.next_owner = (owner + 1) % self.shared.loops.len();
        if owner == self.index {
            self.adopting.push(accepted);
        } else {
            self.shared.command(owner, Command::Adopt(accepted));
        }
    }

    /// Reads, decodes, and lets the node handle it all.
    fn turn(&mut self) -> Result<(), crate::shared::Halted> {
        let mut reads = self.read_ready();
        let mut outcomes = Vec::new();
        let mut inputs = recycle(core::mem::take(&mut self.inputs));
        let limits = ReadLimits {
            decode: &self.shared.decode,
            frame_bytes: self.shared.limits.frame_bytes,
            first_frame_bytes: 1_024u32.saturating_add(self.shared.limits.meta_bytes),
            mode_tables: &self.shared.mode_tables,
        };
        let messages = decode(&reads, limits, &mut inputs, &mut outcomes);
        let mut silent = Vec::new();
        for id in self.idle.drain(..) {
            add(&self.shared.stats[self.index].cut_idle, 1);
            match self.conns.get(&id).map(|conn| conn.kind) {
                Some(Kind::Client) => inputs.push(Input::Cut { conn: id, why: Rejection::Idle }),
                Some(Kind::Peer { .. }) => {
                    inputs.push(Input::PeerDisconnected { conn: id });
                    silent.push(id);
                }
                None => {}
            }
        }
        self.answer_foreign(&reads, &outcomes);
        let due = self.shared.deadline() <= clock::now();
        if inputs.is_empty() && self.adopting.is_empty() && !due {
            self.inputs = recycle(inputs);
            self.take_back(&mut reads, outcomes);
            return Ok(());
        }
        let adopting = core::mem::take(&mut self.adopting);
        let mut adopted = Vec::with_capacity(adopting.len());
        let (owner, registry) = (self.index, &self.registry);
        let limits = &self.shared.limits;
        let connect = |core: &mut crate::guarded::Core, now: Time| {
            for Accepted { fd, origin } in adopting {
                let kind = origin.kind();
                let bounds = match kind {
                    Kind::Client => (limits.output_bytes, limits.frame_bytes),
                    Kind::Peer { .. } => (LINK_OUTPUT_BYTES, LINK_FRAME_BYTES),
                };
                let outbox = |id, fd| Outbox::new(id, owner, fd, Arc::clone(registry), bounds);
                adopted.push((core.connect(now, fd, origin, outbox), kind));
            }
        };
        let done = self.shared.turn(self.index, &mut self.after, connect, inputs.drain(..));
        self.inputs = recycle(inputs);
        self.take_back(&mut reads, outcomes);
        silent.into_iter().for_each(|id| self.drop_conn(id));
        self.settle(adopted);
        self.stats().turn(messages);
        if messages > 0 && self.spin > Span::ZERO {
            self.spin_until = clock::now().after(self.spin);
        }
        done
    }

    fn read_ready(&mut self) -> Vec<Read> {
        let mut reads = Vec::with_capacity(self.ready.len().min(64));
        let mut bytes = 0;
        let mut taken = 0;
        for id in &self.ready {
            if bytes > TURN_BYTES {
                break;
            }
            taken += 1;
            let Some(conn) = self.conns.get_mut(id) else { continue };
            conn.listed = false;
            let read = Read::from(conn, &mut self.buffers);
            bytes += read.len();
            reads.push(read);
        }
        self.ready.drain(..taken);
        for read in &reads {
            if read.wants_more()
                && let Some(conn) = self.conns.get_mut(&read.conn)
            {
                conn.listed = true;
                self.ready.push(read.conn);
            }
        }
        reads
    }

    /// Tells a peer that speaks another protocol so in its own, before the node cuts it.
    fn answer_foreign(&self, reads: &[Read], outcomes: &[(usize, Stage, Option<DecodeError>)]) {
        for (read, (_, stage, fault)) in reads.iter().zip(outcomes) {
            let Some(fault) = fault else { continue };
            let Some(conn) = self.conns.get(&read.conn).filter(|conn| !conn.closing) else { continue };
            add(&self.stats().cut_protocol, 1);
            if CUT_LOG.allows(clock::now()) {
                tracing::info!(conn = read.conn.0, "connection cut: {fault}");
            }
            if let DecodeError::Foreign(foreign) = fault
                && *stage == Stage::New
                && let Some(bytes) = foreign.answer()
            {
                conn.outbox.answer(bytes);
            }
        }
    }

    /// Gives connections back what is left of their bytes, and drops those that ended.
    fn take_back(&mut self, reads: &mut Vec<Read>, outcomes: Vec<(usize, Stage, Option<DecodeError>)>) {
        let mut received = 0;
        for (mut read, (consumed, stage, fault)) in reads.drain(..).zip(outcomes) {
            (read.consumed, read.stage, read.fault) = (consumed, stage, fault);
            // A link with a fault is of no more use, and nobody at its other end waits for a word.
            let gone = read.is_gone() || (matches!(read.kind, Kind::Peer { .. }) && fault.is_some());
            let id = read.conn;
            let mut conn = self.conns.get_mut(&id);
            if let Some(conn) = &mut conn {
                received += read.len() - conn.partial.len();
                conn.stage = stage;
                conn.closing |= read.fault.is_some();
            }
            read.finish(conn, &mut self.buffers);
            if gone {
                self.drop_conn(id);
            }
        }
        add(&self.stats().bytes_received, received as u64);
    }

    /// Begins to listen to connections that the node has taken in.
    fn settle(&mut self, adopted: Vec<(Arc<Outbox>, Kind)>) {
        let now = clock::now();
        for (outbox, kind) in adopted {
            let id = outbox.conn;
            let token = Token(usize::try_from(id.0).unwrap_or(usize::MAX));
            let registered = self.registry.register(&mut SourceFd(&outbox.fd().as_raw_fd()), token, Interest::READABLE);
            let mut conn = Conn::new(outbox, kind);
            if let Err(error) = registered {
                if ACCEPT_LOG.allows(now) {
                    tracing::warn!("a connection cannot be waited for: {error}");
                }
                // Read once, it ends as if the peer had closed.
                conn.ending = true;
            }
            self.hello_due.push_back((now.after(HELLO_WITHIN), id));
            self.conns.insert(id, conn);
        }
    }

    fn drop_conn(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.remove(&id) {
            let _ = self.registry.deregister(&mut SourceFd(&conn.outbox.fd().as_raw_fd()));
            self.shared.forget_connection();
            add(&self.stats().closed, 1);
        }
    }
}

fn poll_once(poll: &mut Poll, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
    match poll.poll(events, timeout) {
        Err(error) if error.kind() == ErrorKind::Interrupted => {
            events.clear();
            Ok(())
        }
        other => other,
    }
}
