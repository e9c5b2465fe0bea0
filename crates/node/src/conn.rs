//! Connections, from the first byte to the session they carry.

use alloc::{collections::BTreeSet, vec::Vec};

use hashbrown::HashMap;
use lockstead_types::{ConnId, Span, Time};

use crate::{node::Hashing, principal::Principal};

/// How long a connection may be without a session.
pub(crate) const SESSION_WITHIN: Span = Span::from_secs(10);

pub(crate) struct Conn {
    pub(crate) local: bool,
    pub(crate) principal: Principal,
    pub(crate) state: ConnState,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum ConnState {
    /// Nothing was said yet.
    New { until: Time },
    /// Hello was said.
    Greeted { until: Time },
    /// Carries a session.
    Open(u32),
    /// Its session ended. What the client sent before it knew is ignored; it may open another.
    Over { until: Time },
}

impl ConnState {
    fn until(self) -> Option<Time> {
        match self {
            ConnState::New { until } | ConnState::Greeted { until } | ConnState::Over { until } => Some(until),
            ConnState::Open(_) => None,
        }
    }
}

/// All connections.
pub(crate) struct Conns {
    map: HashMap<ConnId, Conn, Hashing>,
    /// Those without a session, by when they must have one.
    timers: BTreeSet<(Time, ConnId)>,
}

impl Conns {
    pub(crate) fn new(hashing: Hashing) -> Conns {
        Conns { map: HashMap::with_hasher(hashing), timers: BTreeSet::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    pub(crate) fn get(&self, conn: ConnId) -> Option<&Conn> {
        self.map.get(&conn)
    }

    /// Adds a connection; one of the same number is replaced.
    pub(crate) fn add(&mut self, conn: ConnId, value: Conn) {
        self.remove(conn);
        self.timers.extend(value.state.until().map(|t| (t, conn)));
        self.map.insert(conn, value);
    }

    pub(crate) fn remove(&mut self, conn: ConnId) -> Option<Conn> {
        let value = self.map.remove(&conn)?;
        if let Some(until) = value.state.until() {
            self.timers.remove(&(until, conn));
        }
        Some(value)
    }

    pub(crate) fn set_state(&mut self, conn: ConnId, state: ConnState) {
        let Some(value) = self.map.get_mut(&conn) else { return };
        if let Some(until) = value.state.until() {
            self.timers.remove(&(until, conn));
        }
        self.timers.extend(state.until().map(|t| (t, conn)));
        value.state = state;
    }

    pub(crate) fn next_timer(&self) -> Option<Time> {
        self.timers.first().map(|(time, _)| *time)
    }

    /// A connection that has no session though its time is over.
    pub(crate) fn idle(&self, now: Time) -> Option<ConnId> {
        self.timers.first().filter(|(time, _)| *time <= now).map(|(_, conn)| *conn)
    }

    /// All numbers, in order.
    pub(crate) fn ids(&self) -> Vec<ConnId> {
        let mut ids: Vec<ConnId> = self.map.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// Whether a connection carries this session.
    pub(crate) fn carries(&self, conn: ConnId, at: u32) -> bool {
        self.get(conn).is_some_and(|c| c.state == ConnState::Open(at))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (ConnId, &Conn)> {
        self.map.iter().map(|(id, conn)| (*id, conn))
    }

    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let due = |(id, conn): (ConnId, &Conn)| conn.state.until().map(|t| (t, id));
        if self.iter().filter_map(due).count() != self.timers.len() {
            return Err("timers of connections are miscounted");
        }
        if self.iter().filter_map(due).any(|timer| !self.timers.contains(&timer)) {
            return Err("a connection without a session has no timer");
        }
        Ok(())
    }
}
