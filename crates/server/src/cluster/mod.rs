//! A node as a member of a cluster: the peer port, the links to other nodes, the way in and the way out.
//!
//! | file | does |
//! |---|---|
//! | `door.rs` | accepts on the peer port, and tells links from connections of the membership group |
//! | `dialer.rs` | connects to the members that the node wants a link to |
//! | `start.rs` | forms the cluster or comes back into it, up to the node's own `Start` |
//! | `feed.rs` | gives the node what the members agreed on, in order |
//! | `leave.rs` | hands slots over before a stop |
//! | `members.rs` | who the members are, for a node that may have been removed |
//! | `threads.rs` | keeps their threads together |
//! | `who.rs` | who a node is, for those who form a cluster |
//!
//! Links themselves are connections of the event loops like those of clients, so that the way to a grant crosses no thread.

pub(crate) mod dialer;
pub(crate) mod door;
pub(crate) mod feed;
pub(crate) mod leave;
pub(crate) mod members;
pub(crate) mod start;
pub(crate) mod threads;
pub(crate) mod who;

use core::{
    fmt,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    time::Duration,
};
use std::sync::{Arc, Weak};

use lockstead_cluster::Command;
use lockstead_membership::Membership;
use lockstead_types::{NodeId, Span, Time};
use parking_lot::{Condvar, Mutex, RwLock};

use crate::{
    clock,
    logging::LogBound,
    net::conn::Accepted,
    shared::{self, Shared},
};

/// Clock rates of nodes differ by so many thousandths at most.
const RHO: u64 = 10;
/// For reading clocks and for what happens between looking and acting.
const GUARD: Span = Span::from_millis(50);

/// Until when a node may act whose renewal, sent at `sent` by its own clock, was confirmed for `t_auth` by the leader's: before any other may take its place,
/// although the leader's clock may run faster and its own slower.
pub(crate) fn authority(t_auth: Span, sent: Time) -> Time {
    let discounted = Span::from_nanos(t_auth.as_nanos() / (1_000 + RHO) * (1_000 - RHO));
    sent.after(discounted.less(GUARD))
}

/// A thread that decides turns at least once a second, also where nothing happens. One that has not for so long is stuck.
const STUCK: Span = Span::from_secs(2);

static STUCK_LOG: LogBound = LogBound::new();

/// [MEMBER-9] Whether the threads that decide go about their work. Where one does not, others must take this node's place: its
/// renewals come from yet other threads, and would keep its slots for as long as the process is there.
fn works(server: &Shared) -> bool {
    let stuck = server.stuck(STUCK);
    if let Some(what) = stuck
        && STUCK_LOG.allows(clock::now())
    {
        tracing::error!("{what} of this node is stuck: its authority is not renewed");
    }
    stuck.is_none()
}

/// Who this node is in the cluster.
#[derive(Clone, Debug)]
pub(crate) struct Me {
    pub(crate) node: NodeId,
    pub(crate) identity: u128,
    pub(crate) peer_address: String,
    pub(crate) client_address: String,
    pub(crate) weight: u32,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("me", &self.me).finish_non_exhaustive()
    }
}

/// What the threads of a member share beside what all threads of a server do.
pub(crate) struct Cluster {
    pub(crate) me: Me,
    /// `None` once it has ended.
    membership: RwLock<Option<Membership>>,
    /// Whether this node knows of a cluster that is formed.
    pub(crate) formed: AtomicBool,
    /// Where links go, once the node is there.
    server: Mutex<Weak<Shared>>,
    next_owner: AtomicUsize,
    stopped: AtomicBool,
    waker: mio::Waker,
    bell: Mutex<bool>,
    rung: Condvar,
}

impl Cluster {
    pub(crate) fn new(me: Me, membership: Membership, waker: mio::Waker) -> Cluster {
        // Known before anybody can ask: the first seat founds a cluster if all others say that there is none.
        let formed = AtomicBool::new(membership.status().begun);
        Cluster {
            me,
            membership: RwLock::new(Some(membership)),
            formed,
            server: Mutex::new(Weak::new()),
            next_owner: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            waker,
            bell: Mutex::new(false),
            rung: Condvar::new(),
        }
    }

    /// From here on links are taken in.
    pub(crate) fn open(&self, server: &Arc<Shared>) {
        *self.server.lock() = Arc::downgrade(server);
        let server = Arc::downgrade(server);
        let works = move || server.upgrade().is_some_and(|server| works(&server));
        self.with_membership(|group| group.renew_while(works));
    }

    /// The server, once the node is there.
    pub(crate) fn server(&self) -> Option<Arc<Shared>> {
        self.server.lock().upgrade()
    }

    /// Gives a link to an event loop, or drops it where there is none yet.
    pub(crate) fn adopt(&self, link: Accepted) {
        let Some(server) = self.server() else { return };
        let owner = self.next_owner.fetch_add(1, Relaxed) % server.loops.len().max(1);
        server.connections.fetch_add(1, Relaxed);
        server.command(owner, shared::Command::Adopt(link));
    }

    /// Proposes a command to the members. It may get lost.
    pub(crate) fn propose(&self, command: &Command) {
        if let Some(membership) = &*self.membership.read() {
            membership.propose(command);
        }
    }

    /// Does something with the membership group, while it is there.
    pub(crate) fn with_membership<T>(&self, look: impl FnOnce(&Membership) -> T) -> Option<T> {
        self.membership.read().as_ref().map(look)
    }

    /// Ends this node's part in the membership group.
    pub(crate) fn end_membership(&self) {
        drop(self.membership.write().take());
    }

    /// Ends the threads of the peer port.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Relaxed);
        let _ = self.waker.wake();
        self.ring();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Relaxed)
    }

    /// Something about links or members has changed: whoever dials looks again.
    pub(crate) fn ring(&self) {
        *self.bell.lock() = true;
        self.rung.notify_all();
    }

    /// Waits for the bell.
    pub(crate) fn wait_for_bell(&self, at_most: Duration) {
        let mut bell = self.bell.lock();
        if !*bell {
            self.rung.wait_for(&mut bell, at_most);
        }
        *bell = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authority_ends_before_the_leader_may_think_so() {
        let sent = Time::from_nanos(1_000_000_000);
        let lasts = authority(Span::from_secs(3), sent).since(sent);
        // 3 s of a clock 1 % too fast are 2.97 s; a clock 1 % too slow shows 2.94 s meanwhile.
        assert!(lasts < Span::from_millis(2_941) && lasts > Span::from_millis(2_800), "{lasts:?}");
    }
}
