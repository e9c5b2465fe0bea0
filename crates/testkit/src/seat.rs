//! One session of a scenario, from the client's side: its connection, its numbers, what it has seen and not yet printed.

use lockstead_node::Principal;
use lockstead_script::{Event, Player};
use lockstead_types::{ConnId, RequestId, SessionId, Span, Time, reply::Reply, report::Meta};

/// The lease a session asks for when a scenario says nothing else.
pub(crate) const TTL: Span = Span::from_secs(10);

/// Numbers of claims after a restart; requests never reach them.
const FIRST_CLAIM: u64 = 1 << 62;

/// A session of a scenario.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) name: String,
    /// Over a local connection: its end ends the session.
    pub(crate) local: bool,
    pub(crate) principal: Principal,
    /// The lease to ask for.
    pub(crate) ttl: Span,
    /// The session it will say it runs within.
    pub(crate) within: Option<SessionId>,
    /// Whether it renews its lease; a stopped process does not.
    pub(crate) renews: bool,
    /// The session, from its first use to its goodbye.
    pub(crate) life: Option<Life>,
    /// What it saw since the last barrier.
    pub(crate) unprinted: Vec<String>,
}

/// An open session.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) session: SessionId,
    /// `None` while its connection is broken.
    pub(crate) conn: Option<ConnId>,
    pub(crate) phase: Phase,
    pub(crate) next_request: u64,
    /// How many answers it received, as both sides count them.
    pub(crate) answers: u64,
    /// The lease granted.
    pub(crate) ttl: Span,
    pub(crate) renew_at: Time,
    /// `None` until the default lockspace is known.
    pub(crate) player: Option<Player>,
    /// The answer to a request that no verb made.
    pub(crate) raw: Option<(RequestId, Option<Reply>)>,
}

/// How far a connection has come.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// Hello, open or attach are under way.
    Greeting,
    /// Requests may be sent.
    Open,
    /// The session is no more: lost, killed or turned away.
    Over,
}

impl Seat {
    pub(crate) fn new(name: &str, number: usize) -> Seat {
        Seat {
            name: name.to_owned(),
            local: true,
            principal: Principal::Local { uid: 1000, gid: 1000, pid: pid(number) },
            ttl: TTL,
            within: None,
            renews: true,
            life: None,
            unprinted: Vec::new(),
        }
    }

    pub(crate) fn see(&mut self, events: Vec<Event>) {
        for event in events {
            self.unprinted.extend(event.lines().into_iter().map(|line| format!("{}: {line}", self.name)));
        }
    }

    pub(crate) fn say(&mut self, line: &str) {
        self.unprinted.push(format!("{}: {line}", self.name));
    }

    /// What the session says of itself.
    pub(crate) fn meta(&self) -> Meta {
        let pid = match self.principal {
            Principal::Local { pid, .. } => pid,
            Principal::Address(_) | Principal::Embedded => 1,
        };
        let (host, program, purpose) = ("host".into(), "scenario".into(), self.name.clone());
        Meta { host, pid, program, purpose, within: self.within }
    }
}

impl Life {
    pub(crate) fn new(session: SessionId, conn: ConnId, ttl: Span) -> Life {
        Life {
            session,
            conn: Some(conn),
            phase: Phase::Greeting,
            next_request: 1,
            answers: 0,
            ttl,
            renew_at: Time::ZERO,
            player: None,
            raw: None,
        }
    }

    pub(crate) fn number(&mut self) -> RequestId {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        id
    }

    /// The number under which the lock at a place of the player's list is claimed.
    pub(crate) fn claim_number(at: usize) -> RequestId {
        RequestId(FIRST_CLAIM + at as u64)
    }

    /// The place of the lock in the player's list that an answer to a claim is about.
    pub(crate) fn claimed(id: RequestId) -> Option<usize> {
        id.0.checked_sub(FIRST_CLAIM).map(|at| at as usize)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Open && self.conn.is_some()
    }
}

/// A process number that is the same on every run.
fn pid(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(0).saturating_add(100)
}
