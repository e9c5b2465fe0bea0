//! What all threads of a server share, and a turn: take the node's lock once, let it handle a batch, give the lock back,
//! write every connection that got something.

use std::sync::Arc;

use core::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU64, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

use lockstead_node::Input;
use lockstead_types::{ConnId, Limits, Span, Time, mode::ModeTableSpec};
use lockstead_wire::DecodeLimits;
use parking_lot::Mutex;

use crate::{
    clock,
    cluster::Cluster,
    guarded::{Afterwards, Core},
    net::conn::Accepted,
    server::Failed,
    stats::{Stats, add},
    sync::SyncQueue,
};

/// What all threads share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) core: Mutex<Core>,
    pub(crate) limits: Limits,
    pub(crate) decode: DecodeLimits,
    pub(crate) mode_tables: Vec<ModeTableSpec>,
    pub(crate) loops: Vec<LoopHandle>,
    /// One for each event loop, and one for all other threads.
    pub(crate) stats: Vec<Stats>,
    pub(crate) sync: SyncQueue,
    /// What a member of a cluster has besides; `None` for a node alone.
    pub(crate) cluster: Option<Arc<Cluster>>,
    /// Connections that exist, whatever their state.
    pub(crate) connections: AtomicUsize,
    /// Whether an event loop is spinning: one is enough, and more would take the cores from the clients.
    pub(crate) spinning: AtomicBool,
    /// Of the thread that tells the node what the members agreed on.
    pub(crate) feed: Pulse,
    phase: AtomicU8,
    deadline: AtomicU64,
}

/// The way to an event loop from outside.
#[derive(Debug)]
pub(crate) struct LoopHandle {
    waker: mio::Waker,
    pulse: Pulse,
    commands: Mutex<Vec<Command>>,
}

/// When a thread was last seen to be about its work.
#[derive(Debug)]
pub(crate) struct Pulse(AtomicU64);

/// What an event loop is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// A connection is yours.
    Adopt(Accepted),
    /// The node has done with a connection.
    Close(ConnId),
}

/// How far the server is on its way out.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub(crate) enum Phase {
    /// It serves.
    Serving,
    /// It finishes what it has begun.
    Stopping,
    /// Every thread ends at once.
    Halted,
}

/// The node cannot go on.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Halted;

impl Shared {
    pub(crate) fn new(
        core: Core,
        limits: &Limits,
        mode_tables: Vec<ModeTableSpec>,
        loops: Vec<LoopHandle>,
        cluster: Option<Arc<Cluster>>,
    ) -> Shared {
        Shared {
            cluster,
            core: Mutex::new(core),
            limits: limits.clone(),
            decode: DecodeLimits::of_node(limits),
            mode_tables,
            stats: (0..=loops.len()).map(|_| Stats::default()).collect(),
            loops,
            sync: SyncQueue::default(),
            connections: AtomicUsize::new(0),
            spinning: AtomicBool::new(false),
            feed: Pulse::new(),
            phase: AtomicU8::new(Phase::Serving as u8),
            deadline: AtomicU64::new(u64::MAX),
        }
    }

    /// One turn of `thread`: `before` runs with the lock held, then the node handles `inputs`.
    ///
    /// The clock is read once and under the lock, so that the node never sees it go back.
    pub(crate) fn turn<'a>(
        &self,
        thread: usize,
        after: &mut Afterwards,
        before: impl FnOnce(&mut Core, Time),
        inputs: impl Iterator<Item = Input<'a>>,
    ) -> Result<(), Halted> {
        let mut core = self.core.lock();
        if core.halted().is_some() {
            return Err(Halted);
        }
        let now = clock::now();
        before(&mut core, now);
        core.handle_all(now, inputs, after);
        let halted = core.halted().is_some();
        let deadline = core.node.poll_deadline().map_or(u64::MAX, Time::as_nanos);
        self.deadline.store(deadline, Release);
        drop(core);
        if halted {
            self.advance(Phase::Halted);
            return Err(Halted);
        }
        self.finish(thread, after);
        Ok(())
    }

    /// A turn of a thread that is no event loop: it does not wait for the node's deadline, so whoever does must look again
    /// where that has come closer.
    pub(crate) fn turn_outside<'a>(&self, inputs: impl Iterator<Item = Input<'a>>) -> Result<(), Halted> {
        let before = self.deadline();
        let done = self.turn(self.loops.len(), &mut Afterwards::default(), |_, _| {}, inputs);
        if done.is_ok()
            && self.deadline() < before
            && let Some(first) = self.loops.first()
        {
            first.wake();
        }
        done
    }

    /// What is done after the lock was given back.
    fn finish(&self, thread: usize, after: &mut Afterwards) {
        let stats = &self.stats[thread];
        if !after.opened.is_empty() || after.compact {
            self.sync.push(core::mem::take(&mut after.opened), after.compact);
            after.compact = false;
        }
        for outbox in after.touched.drain(..) {
            outbox.flush(stats);
        }
        for outbox in after.closing.drain(..) {
            // Without anything to write the flush above did not come by.
            outbox.flush(stats);
            self.command(outbox.owner, Command::Close(outbox.conn));
        }
        if let Some(cluster) = &self.cluster {
            after.proposals.drain(..).for_each(|command| cluster.propose(&command));
            if core::mem::take(&mut after.peer_lost) {
                cluster.ring();
            }
        }
        if after.slow > 0 {
            add(&stats.cut_slow, core::mem::take(&mut after.slow));
        }
    }

    /// When the node must be given a tick. Whoever moved it closer sleeps no longer than that itself.
    pub(crate) fn deadline(&self) -> Time {
        Time::from_nanos(self.deadline.load(Acquire))
    }

    /// Tells an event loop something and wakes it.
    pub(crate) fn command(&self, to: usize, command: Command) {
        if let Some(handle) = self.loops.get(to) {
            handle.commands.lock().push(command);
            handle.wake();
        }
    }

    /// An event loop is about its work.
    pub(crate) fn beat(&self, index: usize) {
        if let Some(handle) = self.loops.get(index) {
            handle.pulse.beat();
        }
    }

    /// A thread that is needed for decisions and has not been about its work for so long; nothing where all are.
    pub(crate) fn stuck(&self, longer_than: Span) -> Option<&'static str> {
        let now = clock::now();
        if self.loops.iter().any(|handle| handle.pulse.is_older(now, longer_than)) {
            return Some("an event loop");
        }
        self.feed.is_older(now, longer_than).then_some("the feed of the membership group")
    }

    /// What an event loop was told.
    pub(crate) fn take_commands(&self, of: usize) -> Vec<Command> {
        self.loops.get(of).map(|handle| core::mem::take(&mut *handle.commands.lock())).unwrap_or_default()
    }

    /// How far the server is on its way out.
    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Acquire) {
            0 => Phase::Serving,
            1 => Phase::Stopping,
            _ => Phase::Halted,
        }
    }

    /// Goes on to a later phase and wakes everybody.
    pub(crate) fn advance(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, AcqRel);
        self.sync.wake();
        for handle in &self.loops {
            handle.wake();
        }
    }

    /// Stops at once because something could not be made durable.
    pub(crate) fn halt(&self, why: String) {
        self.core.lock().halt(Failed::Broken(why));
        self.advance(Phase::Halted);
    }

    /// Stops at once because the cluster goes on without this start of the node.
    pub(crate) fn halt_out(&self) {
        self.core.lock().halt(Failed::Out);
        self.advance(Phase::Halted);
    }

    /// Counters of threads that are no event loop.
    pub(crate) fn other_stats(&self) -> &Stats {
        &self.stats[self.loops.len()]
    }

    /// Counts a connection, or refuses it where there are too many.
    pub(crate) fn admit_connection(&self) -> bool {
        let most = usize::try_from(self.limits.connections).unwrap_or(usize::MAX);
        self.connections.fetch_update(Relaxed, Relaxed, |n| (n < most).then_some(n + 1)).is_ok()
    }

    /// A connection is gone.
    pub(crate) fn forget_connection(&self) {
        self.connections.fetch_sub(1, Relaxed);
    }
}

impl Pulse {
    fn new() -> Pulse {
        Pulse(AtomicU64::new(clock::now().as_nanos()))
    }

    pub(crate) fn beat(&self) {
        self.0.store(clock::now().as_nanos(), Relaxed);
    }

    fn is_older(&self, now: Time, than: Span) -> bool {
        now.since(Time::from_nanos(self.0.load(Relaxed))) > than
    }
}

impl LoopHandle {
    pub(crate) fn new(waker: mio::Waker) -> LoopHandle {
        LoopHandle { waker, pulse: Pulse::new(), commands: Mutex::new(Vec::new()) }
    }

    pub(crate) fn wake(&self) {
        // An eventfd that cannot be written is full: then the event loop is awake already.
        let _ = self.waker.wake();
    }
}
