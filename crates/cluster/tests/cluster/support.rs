//! Clusters for tests: made by commands, and checked after each.

use lockstead_cluster::{Change, Command, Refused, Seat, State};
use lockstead_types::{NodeId, SessionId, Span, peer::Incarnation, space::SpaceSpec};

/// A state that is proven after each command.
#[derive(Default)]
pub(crate) struct Group {
    pub(crate) state: State,
    nonce: u64,
}

impl Group {
    /// A cluster whose members, given with their weights, are formed and not started.
    pub(crate) fn formed(weights: &[u32]) -> Group {
        let mut group = Group::default();
        let seats = (1..).zip(weights).map(|(node, weight)| seat(node, *weight)).collect();
        let spaces = vec![SpaceSpec::named("orders")];
        group.must(&Command::Form { seed: 7, key: [3; 32], seats, spaces });
        group
    }

    /// The same, all started.
    pub(crate) fn up(weights: &[u32]) -> Group {
        let mut group = Group::formed(weights);
        (1..).zip(weights).for_each(|(node, _)| group.start(node));
        group
    }

    pub(crate) fn try_apply(&mut self, command: &Command) -> Result<Vec<Change>, Refused> {
        let before = self.state.clone();
        let fate = self.state.apply(command);
        let proven = self.state.check().and_then(|()| self.state.check_after(&before));
        assert_eq!(proven, Ok(()), "after {command:?}");
        if fate.is_err() {
            assert_eq!(self.state, State { version: before.version + 1, ..before }, "a refused command: {command:?}");
        }
        fate
    }

    pub(crate) fn must(&mut self, command: &Command) -> Vec<Change> {
        self.try_apply(command).unwrap_or_else(|why| panic!("{command:?}: {why:?}"))
    }

    pub(crate) fn start(&mut self, node: u16) {
        self.nonce += 1;
        self.must(&start(node, self.state.members[&NodeId(node)].nonce, self.nonce));
    }

    pub(crate) fn evict(&mut self, node: u16) {
        self.must(&Command::Evict { node: NodeId(node), incarnation: self.incarnation(node) });
    }

    pub(crate) fn drain(&mut self, node: u16) {
        self.must(&Command::Drain { node: NodeId(node), incarnation: self.incarnation(node) });
    }

    pub(crate) fn open(&mut self, session: u128, home: u16, ttl: Span) {
        self.must(&open(session, home, self.incarnation(home), ttl));
    }

    pub(crate) fn incarnation(&self, node: u16) -> Incarnation {
        self.state.members[&NodeId(node)].incarnation
    }

    /// Slots of nodes 1, 2, ...
    pub(crate) fn spread(&self) -> Vec<u32> {
        let spread = self.state.spread();
        self.state.members.keys().map(|node| spread.get(node).copied().unwrap_or(0)).collect()
    }
}

pub(crate) fn seat(node: u16, weight: u32) -> Seat {
    Seat {
        node: NodeId(node),
        identity: u128::from(node) + 1_000,
        peer_address: format!("peer-{node}:1"),
        client_address: format!("client-{node}:1"),
        weight,
    }
}

pub(crate) fn start(node: u16, after: u64, nonce: u64) -> Command {
    Command::Start {
        node: NodeId(node),
        identity: u128::from(node) + 1_000,
        nonce,
        after,
        peer_address: String::new(),
        client_address: String::new(),
    }
}

pub(crate) fn open(session: u128, home: u16, incarnation: Incarnation, ttl: Span) -> Command {
    Command::OpenSession {
        session: SessionId(session),
        home: NodeId(home),
        incarnation,
        ttl,
        principal: "someone".into(),
        local: false,
    }
}
