//! What is to be sent over one connection. Any thread may append and write; the bytes leave in the order of appending.
//!
//! Appending happens while the node is locked, so the order of messages is the order of decisions. Writing happens after it
//! is unlocked, by whoever appended: the way to a grant crosses no thread. One thread writes at a time; another that
//! comes meanwhile leaves its bytes to it. Nobody holds the lock of an outbox over a system call, because a thread that
//! appends holds the node's.

use core::mem;
use std::{
    os::fd::{AsRawFd, OwnedFd},
    sync::Arc,
};

use lockstead_types::{
    ConnId,
    message::{Rejection, ServerMessage},
    peer::Envelope,
};
use lockstead_wire::{FrameWriter, split_frame};
use mio::{Interest, Registry, Token, unix::SourceFd};
use parking_lot::{Mutex, MutexGuard};
use rustix::net::{SendFlags, Shutdown, send, shutdown};

use crate::stats::{Stats, add};

/// A buffer that has grown beyond this is given back when it is empty.
const KEEP_BYTES: usize = 4_096;
/// A buffer that grows beyond this begins a new frame with the next message, so that a reader need not wait for the end of
/// a long one.
const FRAME_TARGET: usize = 65_536;

/// The sending side of a connection.
#[derive(Debug)]
pub(crate) struct Outbox {
    pub(crate) conn: ConnId,
    /// The event loop that reads the connection.
    pub(crate) owner: usize,
    fd: OwnedFd,
    registry: Arc<Registry>,
    bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// Whole frames that no thread has taken to write yet.
    pending: Vec<u8>,
    writer: FrameWriter,
    /// Taken to be written: what is left of it starts at `active_at`. A thread that writes takes it out.
    active: Vec<u8>,
    active_at: usize,
    /// Bytes that a thread has in hand, as of when it took them.
    in_hand: usize,
    writing: bool,
    /// The socket took no more; its event loop goes on when it does.
    blocked: bool,
    /// A thread that appended has not come to write yet.
    touched: bool,
}

/// How far a connection is on its way out.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Phase {
    Open,
    /// Too much is waiting: nothing is taken any more but the reason.
    Overflowed,
    /// It was answered in the peer's own protocol: nothing is taken any more.
    Answered,
    /// To be shut down when all is written.
    Closing,
    /// Shut down.
    Dead,
}

/// What came of appending.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Appended {
    /// It will be sent, or the connection is on its way out and it is not wanted.
    Fine,
    /// More than the limit is waiting: the connection must be cut.
    Overflow,
    /// The message fits no frame, and nothing else may stand for it: the connection must be cut.
    Unsendable,
}

/// An outbox locked for appending.
pub(crate) struct Appender<'a> {
    state: MutexGuard<'a, State>,
    bytes_max: usize,
}

impl Outbox {
    pub(crate) fn new(
        conn: ConnId,
        owner: usize,
        fd: OwnedFd,
        registry: Arc<Registry>,
        (bytes_max, frame_max): (u32, u32),
    ) -> Outbox {
        let state = State {
            phase: Phase::Open,
            pending: Vec::new(),
            writer: FrameWriter::new(frame_max),
            active: Vec::new(),
            active_at: 0,
            in_hand: 0,
            writing: false,
            blocked: false,
            touched: false,
        };
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        Outbox { conn, owner, fd, registry, bytes_max, state: Mutex::new(state) }
    }

    /// The connection itself.
    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Locks it to append.
    pub(crate) fn appender(&self) -> Appender<'_> {
        Appender { state: self.state.lock(), bytes_max: self.bytes_max }
    }

    /// Sends bytes of another protocol, and nothing after them.
    pub(crate) fn answer(&self, bytes: &[u8]) {
        let mut state = self.state.lock();
        if state.phase == Phase::Open {
            state.writer.finish();
            state.pending.extend_from_slice(bytes);
            state.phase = Phase::Answered;
        }
    }

    /// Forgets what is not yet on its way, so that the reason of a cut may still get through.
    pub(crate) fn overflow(&self) {
        let mut state = self.state.lock();
        if state.phase == Phase::Open {
            state.phase = Phase::Overflowed;
            state.pending = Vec::new();
            state.writer.finish();
            state.trim_active();
        }
    }

    /// Nothing is taken any more; what was taken is written, then the connection is shut down.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        if state.phase != Phase::Dead {
            state.phase = Phase::Closing;
        }
    }

    /// Whether nothing is left to write, or nothing can be.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.phase == Phase::Dead || (!state.writing && state.pending.is_empty() && state.active.is_empty())
    }

    /// The socket takes bytes again.
    pub(crate) fn on_writable(&self, stats: &Stats) {
        let mut state = self.state.lock();
        if !state.blocked {
            return;
        }
        state.blocked = false;
        let _ = self.register(Interest::READABLE);
        self.write_out(state, stats);
    }

    /// Writes what is waiting, unless another thread is at it or the socket takes no more.
    pub(crate) fn flush(&self, stats: &Stats) {
        let mut state = self.state.lock();
        state.touched = false;
        if !state.writing && !state.blocked && state.phase != Phase::Dead {
            self.write_out(state, stats);
        }
    }

    fn write_out(&self, mut state: MutexGuard<'_, State>, stats: &Stats) {
        state.writing = true;
        while let Some((mut bytes, mut at)) = state.take_active() {
            let sent = MutexGuard::unlocked(&mut state, || send_all(&self.fd, &bytes, &mut at, stats));
            if state.phase == Phase::Overflowed {
                bytes.truncate(frame_end(&bytes, at));
            }
            state.put_back(bytes, at);
            match sent {
                Sent::All => {}
                Sent::Blocked => {
                    add(&stats.writes_blocked, 1);
                    state.blocked = true;
                    state.writing = false;
                    // A mistake here would leave the connection stuck, not wrong: its lease and its peer's timers end it.
                    let _ = self.register(Interest::READABLE | Interest::WRITABLE);
                    return;
                }
                Sent::Broken => state.die(),
            }
        }
        state.writing = false;
        if state.phase == Phase::Closing {
            // The peer reads to the end of what was sent; the event loop waits a moment for it to close too.
            state.die();
            let _ = shutdown(&self.fd, Shutdown::Write);
        }
    }

    /// Registers for other events. Any thread may: the event loop's epoll instance takes changes while it waits.
    fn register(&self, interest: Interest) -> std::io::Result<()> {
        let token = Token(usize::try_from(self.conn.0).unwrap_or(usize::MAX));
        self.registry.reregister(&mut SourceFd(&self.fd.as_raw_fd()), token, interest)
    }
}

impl Appender<'_> {
    /// Appends a message.
    pub(crate) fn append(&mut self, message: &ServerMessage) -> Appended {
        let state = &mut *self.state;
        match state.phase {
            Phase::Open => {}
            Phase::Overflowed if matches!(message, ServerMessage::Rejected { .. }) => {}
            Phase::Overflowed | Phase::Answered | Phase::Closing | Phase::Dead => return Appended::Fine,
        }
        if state.pending.len() > FRAME_TARGET {
            state.writer.finish();
        }
        if state.writer.server_fitting(&mut state.pending, message).is_err() {
            return Appended::Unsendable;
        }
        self.judge()
    }

    /// Appends a message to another node.
    pub(crate) fn append_peer(&mut self, envelope: &Envelope) -> Appended {
        let state = &mut *self.state;
        if state.phase != Phase::Open {
            return Appended::Fine;
        }
        if state.pending.len() > FRAME_TARGET {
            state.writer.finish();
        }
        if state.writer.peer(&mut state.pending, envelope).is_err() {
            return Appended::Unsendable;
        }
        self.judge()
    }

    fn judge(&self) -> Appended {
        let state = &*self.state;
        let waiting = state.pending.len() + state.active.len() - state.active_at + state.in_hand;
        if waiting > self.bytes_max && state.phase == Phase::Open { Appended::Overflow } else { Appended::Fine }
    }

    /// Whether the caller must see to it that it is written: true for the first that appends since the last flush.
    pub(crate) fn touch(&mut self) -> bool {
        !mem::replace(&mut self.state.touched, true)
    }
}

impl State {
    fn take_active(&mut self) -> Option<(Vec<u8>, usize)> {
        if self.active_at == self.active.len() {
            self.active.clear();
            self.active_at = 0;
            if self.active.capacity() > KEEP_BYTES {
                self.active = Vec::new();
            }
            if self.pending.is_empty() || self.phase == Phase::Dead {
                return None;
            }
            self.writer.finish();
            mem::swap(&mut self.active, &mut self.pending);
        }
        let at = mem::take(&mut self.active_at);
        let bytes = mem::take(&mut self.active);
        self.in_hand = bytes.len() - at;
        Some((bytes, at))
    }

    fn put_back(&mut self, bytes: Vec<u8>, at: usize) {
        self.active = bytes;
        self.active_at = at;
        self.in_hand = 0;
    }

    /// Keeps the rest of a frame that was begun, so that the peer can read what comes after it.
    fn trim_active(&mut self) {
        let end = frame_end(&self.active, self.active_at);
        self.active.truncate(end);
    }

    fn die(&mut self) {
        self.phase = Phase::Dead;
        self.pending = Vec::new();
        self.active = Vec::new();
        self.active_at = 0;
        self.writer.finish();
    }
}

enum Sent {
    All,
    Blocked,
    Broken,
}

fn send_all(fd: &OwnedFd, bytes: &[u8], at: &mut usize, stats: &Stats) -> Sent {
    while let Some(rest) = bytes.get(*at..).filter(|rest| !rest.is_empty()) {
        add(&stats.writes, 1);
        match send(fd, rest, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(n) => {
                add(&stats.bytes_sent, n as u64);
                *at += n;
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Sent::Blocked,
            Err(_) => return Sent::Broken,
        }
    }
    Sent::All
}

/// Where the frame that byte `at` stands in ends; `at` itself where it is between frames.
fn frame_end(bytes: &[u8], at: usize) -> usize {
    let mut end = 0;
    while end < at {
        match split_frame(bytes.get(end..).unwrap_or_default(), u32::MAX) {
            Ok(Some((_, length))) => end += length,
            Ok(None) | Err(_) => return bytes.len(),
        }
    }
    end
}

/// A connection that nobody wants: told why, as far as one write can, and closed.
pub(crate) fn turn_away(fd: &OwnedFd, why: Rejection) {
    let mut bytes = Vec::new();
    let message = ServerMessage::Rejected { why };
    if FrameWriter::new(u32::MAX).server(&mut bytes, &message).is_ok() {
        let _ = send(fd, &bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    }
    let _ = shutdown(fd, Shutdown::Write);
}
