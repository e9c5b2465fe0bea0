//! The steward: what the leader of the membership group does about members that fall silent, sessions without a home and slots
//! that are unevenly spread. It exists while its node leads and is made anew at each election, so nothing it believes outlives
//! its term.
//!
//! Authority, and why no two nodes have it for one slot. A node acts until a discounted T_auth after it *sent* a renewal that the
//! leader confirmed; the leader confirms only after a round with a quorum that began after the receipt. Three cases:
//! the same leader evicts no sooner than T_auth after the receipt, which is after the sending; a later leader was elected after that
//! round, and evicts no sooner than T_auth after its election; and once a leader has proposed to evict a member it confirms
//! nothing for it any more, since the proposal may be committed at any time ([`Steward::on_renewal`] says no).

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use lockstead_types::{NodeId, SessionId, Span, Time, peer::Incarnation};

use crate::{
    command::{Command, EndWhy},
    spread::Absent,
    state::State,
};

/// How a steward goes about it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct StewardConfig {
    /// How long a confirmed renewal lets a member act, by the leader's clock. All nodes of a cluster have the same.
    pub t_auth: Span,
    /// How long slots of a seat that has never started wait for it.
    pub absent: Span,
    /// Slots a planned move takes at once.
    pub batch: usize,
    /// Between two planned moves: the new masters hear of all holders meanwhile.
    pub settle: Span,
    /// After which a proposal that has had no effect is made again.
    pub retry: Span,
}

impl Default for StewardConfig {
    fn default() -> StewardConfig {
        StewardConfig {
            t_auth: Span::from_secs(3),
            absent: Span::from_secs(10),
            batch: 64,
            settle: Span::from_millis(250),
            retry: Span::from_secs(1),
        }
    }
}

/// Sessions ended by one poll.
const ENDED_AT_ONCE: usize = 512;

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct Steward {
    config: StewardConfig,
    /// When it was last without knowledge: its election, or the end of a time in which it was not polled.
    blind: Time,
    polled: Time,
    /// Since when the cluster is known to be formed.
    formed: Option<Time>,
    members: BTreeMap<NodeId, Watched>,
    /// Homes that are not up and have sessions in the directory, with the instant each was first seen so.
    lost_homes: BTreeMap<(NodeId, Incarnation), Time>,
    /// The epoch in which lost homes were looked for.
    searched: u32,
    /// Sessions whose end was proposed, and when.
    ended: BTreeMap<SessionId, Time>,
    moved: Option<Time>,
    /// The epoch in which slots were found even, and how those of absent seats were counted.
    even: Option<(u32, Absent)>,
}

/// What is known of a member that is up.
#[derive(Copy, Clone, Debug)]
struct Watched {
    incarnation: Incarnation,
    fate: Fate,
}

#[derive(Copy, Clone, Debug)]
enum Fate {
    /// Last heard of then, or first seen.
    Heard(Time),
    /// Its eviction was proposed then: it is not renewed any more.
    Condemned(Time),
}

impl Steward {
    /// The steward of a leader that was elected just now.
    #[must_use]
    pub fn new(config: StewardConfig, elected: Time) -> Steward {
        Steward {
            config,
            blind: elected,
            polled: elected,
            formed: None,
            members: BTreeMap::new(),
            lost_homes: BTreeMap::new(),
            searched: 0,
            ended: BTreeMap::new(),
            moved: None,
            even: None,
        }
    }

    /// Whether a renewal may be confirmed. It was received at `received`, a round with a quorum has begun after that and ended well,
    /// and `state` has all that was committed before the round. Nothing may come between a yes and the sending of it but
    /// delay.
    #[must_use]
    pub fn on_renewal(&mut self, received: Time, state: &State, node: NodeId, incarnation: Incarnation) -> bool {
        if !state.is_up(node, incarnation) {
            return false;
        }
        match self.members.get_mut(&node).filter(|watched| watched.incarnation == incarnation) {
            #[cfg(feature = "planted")]
            Some(Watched { fate: Fate::Condemned(_), .. })
                if lockstead_types::planted::is(lockstead_types::planted::Bug::CondemnedRenewed) =>
            {
                true
            }
            // [MEMBER-2]
            Some(Watched { fate: Fate::Condemned(_), .. }) => false,
            Some(Watched { fate: Fate::Heard(at), .. }) => {
                *at = (*at).max(received);
                true
            }
            None => {
                self.members.insert(node, Watched { incarnation, fate: Fate::Heard(received) });
                true
            }
        }
    }

    /// What to propose now. To be asked a few times in each T_auth.
    pub fn poll(&mut self, now: Time, state: &State) -> Vec<Command> {
        if now.since(self.polled) > self.config.t_auth.scaled(1, 2) {
            // It was asleep, or its machine: renewals may lie unread. That is no reason to evict those who sent them.
            self.blind = now;
        }
        self.polled = now;
        if !state.is_formed() {
            return Vec::new();
        }
        let formed = *self.formed.get_or_insert(now);
        let mut commands = Vec::new();
        self.poll_members(now, state, &mut commands);
        self.poll_sessions(now, state, &mut commands);
        let absent = if now.since(formed) >= self.config.absent { Absent::Moved } else { Absent::Awaited };
        self.poll_moves(now, state, absent, &mut commands);
        commands
    }

    fn poll_members(&mut self, now: Time, state: &State, commands: &mut Vec<Command>) {
        let up: BTreeMap<NodeId, Incarnation> = state.up().collect();
        self.members.retain(|node, watched| up.get(node) == Some(&watched.incarnation));
        for (node, incarnation) in up {
            let watched = self.members.entry(node).or_insert(Watched { incarnation, fate: Fate::Heard(now) });
            // [MEMBER-1] [MEMBER-2]
            let due = match watched.fate {
                Fate::Heard(at) => at.max(self.blind).after(self.config.t_auth),
                Fate::Condemned(at) => at.after(self.config.retry),
            };
            #[cfg(feature = "planted")]
            let due = if lockstead_types::planted::is(lockstead_types::planted::Bug::EvictEarly) {
                due.before(self.config.t_auth.scaled(1, 2))
            } else {
                due
            };
            if now >= due {
                watched.fate = Fate::Condemned(now);
                commands.push(Command::Evict { node, incarnation });
            }
        }
    }

    /// [MEMBER-6] A session whose home is gone ends a full lease after that was seen: its client may have been renewed until then.
    fn poll_sessions(&mut self, now: Time, state: &State, commands: &mut Vec<Command>) {
        // A session loses its home only by an epoch, and none comes to a home that is not up.
        if self.searched == state.epoch && self.lost_homes.is_empty() {
            return;
        }
        self.searched = state.epoch;
        let mut seen = BTreeSet::new();
        let before = commands.len();
        for (session, entry) in state.homeless() {
            #[cfg(feature = "planted")]
            if lockstead_types::planted::is(lockstead_types::planted::Bug::HomelessStay) {
                break;
            }
            let home = (entry.home, entry.incarnation);
            seen.insert(home);
            let since = *self.lost_homes.entry(home).or_insert(now);
            #[cfg(feature = "planted")]
            let since = if lockstead_types::planted::is(lockstead_types::planted::Bug::HomelessEndedEarly) {
                since.before(entry.ttl.scaled(3, 4))
            } else {
                since
            };
            let asked = self.ended.get(&session).is_some_and(|at| now < at.after(self.config.retry));
            if now.since(since) >= entry.ttl && !asked && commands.len() - before < ENDED_AT_ONCE {
                self.ended.insert(session, now);
                commands.push(Command::EndSession { session, home: entry.generation, why: EndWhy::Expired });
            }
        }
        self.lost_homes.retain(|home, _| seen.contains(home));
        self.ended.retain(|session, _| state.sessions.contains_key(session));
    }

    fn poll_moves(&mut self, now: Time, state: &State, absent: Absent, commands: &mut Vec<Command>) {
        // Whoever is about to be evicted gives its slots to others anyway.
        let condemned = self.members.values().any(|watched| matches!(watched.fate, Fate::Condemned(_)));
        let even = self.even == Some((state.epoch, absent));
        if condemned || even || self.moved.is_some_and(|at| now < at.after(self.config.settle)) {
            return;
        }
        // [MEMBER-7]
        let slots = state.moves(self.config.batch, absent);
        if slots.is_empty() {
            self.even = Some((state.epoch, absent));
        } else {
            self.moved = Some(now);
            commands.push(Command::Move { slots });
        }
    }
}
