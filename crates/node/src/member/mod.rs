//! A node that is a member of a cluster: home of its sessions, master of its slots, and the messages between the two roles
//! on all nodes, itself included.
//!
//! ```text
//!             home                                          master
//!   client -> forward.rs --- Request, Claim ------------>  guests.rs -> table
//!             copies.rs
//!   client <- replies.rs <-- Reply, Notice, Claimed -----  guests.rs <- table
//!             report.rs  --- Report, ReportDone -------->  recovery.rs      (when a slot's master changes)
//! ```
//!
//! What the members agree on comes as commands (`directory.rs`, `epochs.rs`); how messages get across is in `link.rs` and
//! `peers.rs`; when this node may act at all in `authority.rs`. Rules: CLUSTER in `docs/semantics.md`.

mod affinity;
mod again;
mod asks;
mod attached;
mod authority;
mod batch;
mod check;
mod copies;
mod cycles;
mod directory;
mod early;
mod epochs;
mod fates;
mod forward;
mod giving;
mod guests;
mod keep;
mod link;
mod peers;
mod probes;
mod proposals;
mod recovery;
mod replies;
mod report;
mod requests;
mod seal;
mod shared;
mod stuck;
mod watchers;

use alloc::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    vec::Vec,
};

use lockstead_cluster::State;
use lockstead_types::{
    ConnId, NodeId, SessionId, Slot, SpaceId, Span, Time,
    peer::{HomeGeneration, Incarnation, PeerMessage, SlotGeneration},
    space::slot_key,
};

use self::{
    affinity::Uses, asks::Asks, attached::Attached, cycles::Cycles, forward::Forwards, guests::Guests, keep::Keeping,
    link::Link, peers::Peer, probes::Probes, proposals::Proposals, recovery::Recoveries, report::Reports, seal::Sealer,
    stuck::Stalls, watchers::Watchers,
};
pub(crate) use self::{copies::Copies, directory::Arrival, forward::For};
use crate::node::{Hashing, Node, soonest};

/// What a node needs to know to be a member.
#[derive(Clone, Debug)]
pub struct MemberConfig {
    /// Which start of the node this is: as its own `Start`, once applied, says.
    pub incarnation: Incarnation,
    /// What the members agreed on, up to and including that `Start`.
    pub state: State,
    /// Locks it reports, takes back, or hears of as taken back, in one turn where their slots have a new master: [`ROWS_A_TURN`] but
    /// in tests.
    pub rows_a_turn: usize,
    /// So long at most a member may act, by any clock, that has not applied what this one has ([MEMBER-13]).
    pub staleness: Span,
}

/// What a node does of a recovery before it serves others again: a millisecond, about.
pub const ROWS_A_TURN: usize = 1_024;

/// What a node has because it is a member.
pub(crate) struct Member {
    pub(crate) me: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) state: State,
    /// Until when, exclusively, this node may act.
    pub(crate) authority: Time,
    /// Whether it could when it last looked.
    pub(crate) acting: bool,
    /// Who led the group when this node last heard.
    pub(crate) leader: Option<NodeId>,
    pub(crate) links: BTreeMap<NodeId, Link>,
    pub(crate) peers: BTreeMap<ConnId, Peer>,
    /// Messages to itself.
    pub(crate) loopback: VecDeque<PeerMessage>,
    pub(crate) copies: Copies,
    pub(crate) forwards: Forwards,
    pub(crate) guests: Guests,
    /// Guests of which the directory as it is here does not know, by the version it has to reach before that says anything.
    pub(crate) strangers: BTreeSet<(u64, SessionId)>,
    pub(crate) recoveries: Recoveries,
    pub(crate) reports: Reports,
    pub(crate) rows_a_turn: usize,
    pub(crate) staleness: Span,
    /// Rows handled in this turn.
    pub(crate) worked: usize,
    /// Messages wait for the next turn.
    pub(crate) pausing: bool,
    pub(crate) proposals: Proposals,
    /// Sessions on their way to this node.
    pub(crate) arrivals: BTreeMap<SessionId, Arrival>,
    pub(crate) asks: Asks,
    pub(crate) attached: Attached,
    pub(crate) watchers: Watchers,
    pub(crate) sealer: Sealer,
    pub(crate) uses: Uses,
    pub(crate) keeping: Keeping,
    pub(crate) stalls: Stalls,
    pub(crate) probes: Probes,
    pub(crate) cycles: Cycles,
}

impl Member {
    pub(crate) fn new(me: NodeId, config: MemberConfig, delay: Span, hashing: Hashing) -> Member {
        Member {
            me,
            incarnation: config.incarnation,
            sealer: Sealer::new(&config.state.key),
            state: config.state,
            authority: Time::ZERO,
            acting: false,
            leader: None,
            links: BTreeMap::new(),
            peers: BTreeMap::new(),
            loopback: VecDeque::new(),
            copies: Copies::new(hashing),
            forwards: Forwards::new(),
            guests: Guests::new(),
            strangers: BTreeSet::new(),
            recoveries: Recoveries::new(),
            reports: Reports::default(),
            rows_a_turn: config.rows_a_turn.max(1),
            staleness: config.staleness,
            worked: 0,
            pausing: false,
            proposals: Proposals::new(),
            arrivals: BTreeMap::new(),
            asks: Asks::default(),
            attached: Attached::default(),
            watchers: Watchers::default(),
            uses: Uses::default(),
            keeping: Keeping::default(),
            stalls: Stalls::new(delay),
            probes: Probes::default(),
            cycles: Cycles::default(),
        }
    }

    pub(crate) fn next_timer(&self) -> Option<Time> {
        let links = self.links.values().filter_map(Link::next_chore).min();
        let lapse = self.acting.then_some(self.authority);
        let waits = self.acting.then(|| self.forwards.next_timer()).flatten();
        let greetings = self.peers.values().filter_map(Peer::due).min();
        let more = (self.reports.are_due(&self.forwards) || (self.pausing && self.acting)).then_some(Time::ZERO);
        let uses = self.acting.then(|| self.uses.next_timer()).flatten();
        let stuck = self.acting.then(|| soonest([self.stalls.next_timer(), self.cycles.next_timer()])).flatten();
        soonest([more, links, lapse, waits, greetings, uses, stuck, self.fates_due(), self.proposals.next_timer()])
    }
}

impl Node {
    /// What the cluster agrees on as far as this node knows; `None` for a node alone.
    #[must_use]
    pub fn cluster_state(&self) -> Option<&State> {
        self.member.as_ref().map(|m| &m.state)
    }

    /// Until when this node may act, exclusively; [`Time::ZERO`] before it ever could, and for a node alone.
    #[must_use]
    pub fn authority(&self) -> Time {
        self.member.as_ref().map_or(Time::ZERO, |m| m.authority)
    }

    /// Whether this start of the node has been put out of the cluster: it never acts again, and its process should start anew.
    #[must_use]
    pub fn is_out(&self) -> bool {
        self.member.as_ref().is_some_and(|m| !m.state.is_up(m.me, m.incarnation))
    }

    /// Slots this node is master of that do not grant yet, and since when the first has waited.
    #[must_use]
    pub fn recovering_slots(&self) -> (usize, Option<Time>) {
        self.member.as_ref().map_or((0, None), |m| (m.recoveries.slots().len(), m.recoveries.since()))
    }

    pub(crate) fn is_member(&self) -> bool {
        self.member.is_some()
    }

    pub(crate) fn slot_of(&self, space: SpaceId, name: &[u8]) -> Option<Slot> {
        let state = &self.member.as_ref()?.state;
        let (levels, extents) = self.table.space(space).map_or((0, false), |known| (known.levels, known.extents));
        (!state.slots.is_empty()).then(|| Slot::of(state.seed, space, slot_key(name, levels, extents)))
    }

    /// Whether this node is master of a slot under this generation.
    pub(crate) fn masters(&self, slot: Slot, generation: SlotGeneration) -> bool {
        #[cfg(feature = "planted")]
        if lockstead_types::planted::is(lockstead_types::planted::Bug::AnyGeneration) {
            return self.member.is_some();
        }
        self.member.as_ref().is_some_and(|member| member.masters(slot, generation))
    }

    /// A session this node is home of, under this generation.
    pub(crate) fn session_here(&self, session: SessionId, home: HomeGeneration) -> Option<u32> {
        let at = self.sessions.find(session)?;
        (self.sessions.get(at)?.home == home).then_some(at)
    }

    /// Says who a session is to a master that does not know, before anything else about it.
    pub(crate) fn introduce(&mut self, now: Time, at: u32, master: NodeId) -> Option<(SessionId, HomeGeneration)> {
        let member = self.member.as_ref()?;
        let (incarnation, version) = (member.state.members.get(&master)?.incarnation, member.state.version);
        let session = self.sessions.get_mut(at)?;
        let (id, home) = (session.id, session.home);
        if session.introduced.contains(&(master, incarnation)) {
            self.tell_age(now, at, master, (id, home));
            return Some((id, home));
        }
        session.introduced.retain(|(node, _)| *node != master);
        session.introduced.push((master, incarnation));
        let (principal, meta) = (alloc::format!("{}", session.principal), session.meta.clone());
        self.send_peer(now, master, PeerMessage::Introduce { version, session: id, home, principal, meta });
        self.untell_age(at, master);
        self.tell_age(now, at, master, (id, home));
        Some((id, home))
    }

    /// Handles what this node told itself, and what came from others and may be handled now.
    pub(crate) fn settle(&mut self, now: Time) {
        let Some(member) = &mut self.member else { return };
        (member.worked, member.pausing) = (0, false);
        loop {
            let Some(member) = &mut self.member else { return };
            // [CLUSTER-1] Also what it told itself waits.
            if !member.acting {
                return;
            }
            // A recovery may be long: whoever else wants something comes in between.
            if member.worked >= member.rows_a_turn {
                member.pausing = true;
                return;
            }
            if let Some(message) = member.loopback.pop_front() {
                let me = member.me;
                self.on_peer_payload(now, me, message);
                continue;
            }
            if !self.handle_inboxes(now) {
                return;
            }
        }
    }
}

/// The master of a slot with the slot's generation, if that start of it takes part.
pub(crate) fn master_up(state: &State, slot: Slot) -> Option<(NodeId, SlotGeneration)> {
    let entry = state.slots.get(usize::from(slot.0))?;
    state.is_up(entry.master, entry.incarnation).then_some((entry.master, entry.generation))
}

/// The members that take part, for those who change what they walk.
pub(crate) fn up_nodes(state: &State) -> Vec<NodeId> {
    state.up().map(|(id, _)| id).collect()
}
