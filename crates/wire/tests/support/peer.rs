//! Messages between nodes: their kinds, one sample or more of each, random ones.

use lockstead_types::{
    Flags, LimitName, LockId, Mode, NodeId, Refusal, RequestId, SessionId, Slot, SpaceId, Span, Token,
    chase::{Confirmation, CycleEdge, EdgeId, PeerEdge, PeerWait, WaitId},
    peer::{
        Envelope, Fates, HomeGeneration, Incarnation, OwnedClaim, PeerLock, PeerMessage, PeerOp, PeerOrder, PeerOwner,
        PeerQuery, SlotGeneration, ValueReport, WaitReport, Written,
    },
    reply::{Grant, Notice, Queued, Reply, Revoked, Value},
    report::{Meta, Report},
    request::{Claim, Stood, Target, Wait},
    rows::{GroupUse, LockReport, LockRows},
    slot::SLOTS,
};

use super::{random::Rng, samples};

kinds!(peer_kind, PEER_KINDS, PeerMessage {
    PeerMessage::Hello { .. } => "hello",
    PeerMessage::Ack => "ack",
    PeerMessage::Alive => "alive",
    PeerMessage::Introduce { .. } => "introduce",
    PeerMessage::Request { op: PeerOp::Lock(_), .. } => "request: lock",
    PeerMessage::Request { op: PeerOp::Convert { .. }, .. } => "request: convert",
    PeerMessage::Request { op: PeerOp::Release { .. }, .. } => "request: release",
    PeerMessage::Request { op: PeerOp::Cancel(_), .. } => "request: cancel",
    PeerMessage::Request { op: PeerOp::ReadValue(_), .. } => "request: read-value",
    PeerMessage::Part { .. } => "part",
    PeerMessage::Aged { .. } => "aged",
    PeerMessage::ReleaseMany { .. } => "release-many",
    PeerMessage::Wounded { .. } => "wounded",
    PeerMessage::Report { .. } => "report",
    PeerMessage::ReportDone { .. } => "report-done",
    PeerMessage::Claim { .. } => "claim",
    PeerMessage::ClaimsDone { .. } => "claims-done",
    PeerMessage::Again { .. } => "again",
    PeerMessage::Reply { .. } => "reply",
    PeerMessage::Stale { .. } => "stale",
    PeerMessage::Notice { .. } => "notice",
    PeerMessage::Restored { .. } => "restored",
    PeerMessage::Claimed { .. } => "claimed",
    PeerMessage::Ask { query: PeerQuery::Resources { .. }, .. } => "ask: resources",
    PeerMessage::Ask { query: PeerQuery::Resource { .. }, .. } => "ask: resource",
    PeerMessage::Ask { query: PeerQuery::Waits, .. } => "ask: waits",
    PeerMessage::Ask { query: PeerQuery::Sessions { .. }, .. } => "ask: sessions",
    PeerMessage::Ask { query: PeerQuery::Deadlocks, .. } => "ask: deadlocks",
    PeerMessage::Ask { query: PeerQuery::Status, .. } => "ask: status",
    PeerMessage::Ask { query: PeerQuery::Sync, .. } => "ask: sync",
    PeerMessage::Ask { query: PeerQuery::Flush, .. } => "ask: flush",
    PeerMessage::Answer { .. } => "answer",
    PeerMessage::Order { order: PeerOrder::ForceRelease { .. }, .. } => "order: force-release",
    PeerMessage::Order { order: PeerOrder::Purge { .. }, .. } => "order: purge",
    PeerMessage::Order { order: PeerOrder::Watch { .. }, .. } => "order: watch",
    PeerMessage::Order { order: PeerOrder::Unwatch { .. }, .. } => "order: unwatch",
    PeerMessage::Obeyed { .. } => "obeyed",
    PeerMessage::Stuck { .. } => "stuck",
    PeerMessage::Probe { .. } => "probe",
    PeerMessage::Cycle { .. } => "cycle",
    PeerMessage::Confirm { .. } => "confirm",
    PeerMessage::Confirmed { found: Confirmation::Found(_), .. } => "confirmed: found",
    PeerMessage::Confirmed { found: Confirmation::Gone, .. } => "confirmed: gone",
    PeerMessage::Confirmed { found: Confirmation::Busy, .. } => "confirmed: busy",
    PeerMessage::Victim { .. } => "victim",
    PeerMessage::Resolved { .. } => "resolved",
});

const SESSION: SessionId = SessionId(0x0011_2233_4455_6677_8899_AABB_CCDD_EEFF);
const OTHER: SessionId = SessionId(0x42);
const HOME: HomeGeneration = HomeGeneration(3);
const LOCK: LockId = LockId(0x0000_0002_0000_0005);
const SPACE: SpaceId = SpaceId(3);
const SLOT: Slot = Slot(1_646);
const GENERATION: SlotGeneration = SlotGeneration(8);
const ID: RequestId = RequestId(7);
const PR: Claim = Claim::Mode(Mode(3));
const EX: Claim = Claim::Mode(Mode(5));

/// Every message between nodes, by name; the name starts with its kind.
pub(crate) fn samples() -> Vec<(&'static str, Envelope)> {
    let all =
        links().into_iter().chain(to_master()).chain(recovery()).chain(to_home()).chain(operators()).chain(cycles());
    all.map(|(name, message)| {
        let seq = if matches!(name, "hello" | "ack" | "alive") { 0 } else { 12 };
        (name, Envelope { seq, ack: 11, epoch: 5, scn: 0x0102_0304_0506_0708, message })
    })
    .collect()
}

fn links() -> Vec<(&'static str, PeerMessage)> {
    let hello = PeerMessage::Hello {
        version: 1,
        node: NodeId(2),
        incarnation: Incarnation(4),
        to: (NodeId(1), Incarnation(9)),
        received: 11,
    };
    vec![("hello", hello), ("ack", PeerMessage::Ack), ("alive", PeerMessage::Alive)]
}

fn to_master() -> Vec<(&'static str, PeerMessage)> {
    let request =
        |op| PeerMessage::Request { session: SESSION, home: HOME, id: ID, slot: SLOT, generation: GENERATION, op };
    let meta =
        Meta { host: "db1".into(), pid: 4711, program: "nightly".into(), purpose: "r\u{e9}index".into(), within: None };
    let principal = "uid 1000".into();
    let lock = PeerLock {
        space: SpaceId(0),
        name: (*b"orders/7").into(),
        claim: EX,
        wait: Wait::Forever,
        flags: Flags::NONE,
        owner: PeerOwner::Session,
        tag: 0,
        priority: 0,
    };
    let full = PeerLock {
        wait: Wait::For(Span::from_secs(2)),
        owner: PeerOwner::Alone,
        tag: 77,
        priority: -3,
        space: SPACE,
        ..lock.clone()
    };
    let (wait, flags) = (Wait::Forever, Flags::VALBLK);
    let value = Some((*b"state").into());
    vec![
        ("introduce", PeerMessage::Introduce { version: 41, session: SESSION, home: HOME, principal, meta }),
        ("request: lock", request(PeerOp::Lock(lock.clone()))),
        ("request: lock with everything", request(PeerOp::Lock(full))),
        ("request: convert", request(PeerOp::Convert { lock: LOCK, mode: Mode(0), wait, flags, value: value.clone() })),
        ("request: release", request(PeerOp::Release { lock: LOCK, flags: Flags::NONE, value: None, one_way: true })),
        ("request: release with a value", request(PeerOp::Release { lock: LOCK, flags, value, one_way: false })),
        ("request: cancel", request(PeerOp::Cancel(Target::Request(RequestId(6))))),
        ("request: read-value", request(PeerOp::ReadValue(LOCK))),
        ("request: lock of a group", request(PeerOp::Lock(PeerLock { owner: team(), ..lock }))),
        ("aged", PeerMessage::Aged { session: SESSION, home: HOME, age: Some(samples::AGE) }),
        ("aged no more", PeerMessage::Aged { session: SESSION, home: HOME, age: None }),
        (
            "release-many",
            PeerMessage::ReleaseMany { session: SESSION, home: HOME, locks: vec![(SLOT, GENERATION, LOCK)] },
        ),
        ("wounded", PeerMessage::Wounded { session: SESSION, home: HOME, age: samples::AGE }),
        ("part", PeerMessage::Part { session: SESSION, home: HOME, lost: true }),
    ]
}

fn team() -> PeerOwner {
    PeerOwner::Group((*b"team").into())
}

fn recovery() -> Vec<(&'static str, PeerMessage)> {
    let value = Value { bytes: (*b"state").into(), invalid: false };
    let held = LockReport {
        session: Some(SESSION),
        orphan: false,
        space: SPACE,
        name: b"orders/7",
        held: Some(PR),
        token: token(),
        before: Token::NONE,
        wanted: None,
        tag: 4,
        alone: true,
        flags: Flags::PERSISTENT,
        value: Some(value.clone()),
        group: None,
    };
    let wanted = WaitReport {
        id: ID,
        claim: EX,
        flags: Flags::QUECVT,
        left: Some(Span::from_millis(250)),
        waited: Span::from_secs(1),
        demoted: true,
        ticket: 31,
        priority: 2,
        value: Some((*b"new").into()),
    };
    let converting = LockReport { wanted: Some(wanted), session: None, orphan: true, value: None, ..held.clone() };
    let plain = LockReport { tag: 0, alone: false, flags: Flags::NONE, value: None, ..held.clone() };
    let converted = LockReport { before: Token::new(1, 8).expect("in range"), ..plain.clone() };
    let group = Some(GroupUse { name: (*b"team").into(), uses: 2 });
    let shared = LockReport { group, alone: false, ..plain.clone() };
    let shared =
        PeerMessage::Report { epoch: 6, rows: [shared].into_iter().collect(), values: vec![], returning: vec![] };
    let rows = [plain.clone(), plain, held, converting, converted].into_iter().collect();
    let values = vec![ValueReport { space: SPACE, name: (*b"orders/7").into(), value, written: Written::Perhaps }];
    let claim = OwnedClaim {
        space: SPACE,
        name: (*b"orders/7").into(),
        held: Claim::Permits { take: 2, of: 10 },
        token: token(),
        lock: LOCK,
        tag: 4,
        owner: PeerOwner::Session,
        flags: Flags::NONE,
    };
    let in_group = OwnedClaim { owner: team(), ..claim.clone() };
    let claims =
        |claim| PeerMessage::Claim { session: SESSION, home: HOME, id: ID, slot: SLOT, generation: GENERATION, claim };
    let again = PeerMessage::Again {
        session: SESSION,
        home: HOME,
        id: ID,
        slot: SLOT,
        generation: GENERATION,
        stood: Stood { ticket: 31, waited: Span::from_millis(250) },
        op: PeerOp::Cancel(Target::Lock(LOCK)),
    };
    vec![
        ("report", PeerMessage::Report { epoch: 6, rows, values, returning: vec![SESSION, OTHER] }),
        ("report of a group", shared),
        ("report-done", PeerMessage::ReportDone { epoch: 6, unsettled: vec![Slot(9)] }),
        ("claim", claims(claim)),
        ("claim of a group", claims(in_group)),
        ("claims-done", PeerMessage::ClaimsDone { session: SESSION, home: HOME }),
        ("again", again),
    ]
}

fn to_home() -> Vec<(&'static str, PeerMessage)> {
    let grant =
        Grant { lock: LOCK, claim: EX, token: token(), value: None, demoted: false, alternative: false, seal: None };
    let reply = |reply| PeerMessage::Reply { session: SESSION, home: HOME, id: ID, generation: GENERATION, reply };
    let notice = |notice| PeerMessage::Notice { session: SESSION, home: HOME, notice };
    let claimed = |reply| PeerMessage::Claimed { session: SESSION, home: HOME, id: ID, generation: GENERATION, reply };
    let fates = vec![
        Fates::Restored { first: LOCK, count: 256 },
        Fates::Refused { why: Refusal::NotHeld, count: 1 },
        Fates::Passed { count: 2 },
    ];
    vec![
        ("reply", reply(Reply::Granted(grant.clone()))),
        ("reply queued", reply(Reply::Queued(Queued { lock: LOCK, ticket: 31 }))),
        ("reply refused", reply(Reply::Refused(Refusal::Limit(LimitName::Locks)))),
        ("stale", PeerMessage::Stale { session: SESSION, home: HOME, id: ID, generation: GENERATION }),
        ("notice", notice(Notice::Blocking { lock: LOCK, claim: EX })),
        ("notice revoked", notice(Notice::Revoked { lock: LOCK, why: Revoked::Superseded })),
        ("restored", PeerMessage::Restored { epoch: 6, fates }),
        ("claimed", claimed(Some(Reply::Granted(grant)))),
        ("claimed by none", claimed(None)),
    ]
}

fn operators() -> Vec<(&'static str, PeerMessage)> {
    let ask = |query| PeerMessage::Ask { ask: 4, query };
    let order = |order| PeerMessage::Order { ask: 5, by: "uid 0".into(), order };
    let name = || Box::from(*b"orders/7");
    let force = PeerOrder::ForceRelease { space: SPACE, name: name(), token: token(), reason: "stuck".into() };
    vec![
        ("ask: resources", ask(PeerQuery::Resources { space: SPACE, prefix: name(), from: 4_096 })),
        ("ask: resource", ask(PeerQuery::Resource { space: SPACE, name: name() })),
        ("ask: waits", ask(PeerQuery::Waits)),
        ("ask: sessions", ask(PeerQuery::Sessions { after: Some(SESSION) })),
        ("ask: deadlocks", ask(PeerQuery::Deadlocks)),
        ("ask: status", ask(PeerQuery::Status)),
        ("ask: sync", ask(PeerQuery::Sync)),
        ("ask: flush", ask(PeerQuery::Flush)),
        ("answer", PeerMessage::Answer { ask: 4, report: Report::Resource(None) }),
        ("order: force-release", order(force)),
        ("order: purge", order(PeerOrder::Purge { space: SPACE, session: None })),
        ("order: watch", order(PeerOrder::Watch { session: SESSION, space: SPACE, prefix: name() })),
        ("order: unwatch", order(PeerOrder::Unwatch { session: SESSION })),
        ("obeyed", PeerMessage::Obeyed { ask: 5, reply: Reply::Purged(3) }),
    ]
}

fn cycles() -> Vec<(&'static str, PeerMessage)> {
    let wait = WaitId { lock: LOCK, ticket: 70 };
    let edge = EdgeId { waiter: wait, blocker: LockId(0x0000_0001_0000_0002), mark: 71, hard: true };
    let here = PeerEdge { node: NodeId(2), edge };
    let found = CycleEdge { row: samples::edge(), priority: -3, locks: 4, age: Some(samples::AGE) };
    let confirmed = |found| PeerMessage::Confirmed { ask: 6, found };
    let stuck = vec![PeerWait { node: NodeId(3), wait }];
    vec![
        ("stuck", PeerMessage::Stuck { session: SESSION, home: HOME, waits: stuck, locks: 4 }),
        ("probe", PeerMessage::Probe { origin: SESSION, by: NodeId(1), number: 9, wait, path: vec![here] }),
        ("cycle", PeerMessage::Cycle { edges: vec![here] }),
        ("confirm", PeerMessage::Confirm { ask: 6, edges: vec![edge] }),
        ("confirmed: found", confirmed(Confirmation::Found(vec![found]))),
        ("confirmed: gone", confirmed(Confirmation::Gone)),
        ("confirmed: busy", confirmed(Confirmation::Busy)),
        ("victim", PeerMessage::Victim { ask: 6, wait, report: Box::new(samples::deadlock()) }),
        ("resolved", PeerMessage::Resolved { ask: 6, over: true }),
    ]
}

fn token() -> Token {
    Token::new(1, 9).expect("in range")
}

impl Rng {
    pub(crate) fn peer(&mut self) -> Envelope {
        Envelope {
            seq: self.number(),
            ack: self.number(),
            epoch: self.n32(),
            scn: self.number(),
            message: self.peer_message(),
        }
    }

    fn peer_message(&mut self) -> PeerMessage {
        let (session, home) = (self.session(), HomeGeneration(self.n32()));
        let (id, generation) = (RequestId(self.number()), SlotGeneration(self.n32()));
        let (epoch, ask) = (self.n32(), self.number());
        match self.below(35) {
            0 => PeerMessage::Hello {
                version: self.next() as u16,
                node: NodeId(self.next() as u16),
                incarnation: Incarnation(self.n32()),
                to: (NodeId(self.next() as u16), Incarnation(self.n32())),
                received: self.number(),
            },
            1 => PeerMessage::Ack,
            2 => PeerMessage::Alive,
            3 => PeerMessage::Introduce {
                version: self.number(),
                session,
                home,
                principal: self.string(),
                meta: self.meta(),
            },
            28..=30 => self.of_transaction(session, home),
            4 => PeerMessage::Part { session, home, lost: self.yes() },
            5 => PeerMessage::Report {
                epoch,
                rows: self.lock_rows(),
                values: self.list(Rng::value_report),
                returning: self.list(Rng::session),
            },
            6 => PeerMessage::ReportDone { epoch, unsettled: self.list(Rng::slot) },
            7 => {
                let (slot, claim) = (self.slot(), self.owned_claim());
                PeerMessage::Claim { session, home, id, slot, generation, claim }
            }
            8 => PeerMessage::ClaimsDone { session, home },
            9 | 10 => PeerMessage::Reply { session, home, id, generation, reply: self.reply() },
            11 => PeerMessage::Stale { session, home, id, generation },
            12 => PeerMessage::Notice { session, home, notice: self.notice() },
            13 => PeerMessage::Restored { epoch, fates: self.list(Rng::fates) },
            14 => PeerMessage::Claimed { session, home, id, generation, reply: self.maybe(Rng::reply) },
            15 | 16 => PeerMessage::Ask { ask, query: self.peer_query() },
            17 => PeerMessage::Answer { ask, report: self.report() },
            18 => PeerMessage::Order { ask, by: self.string(), order: self.peer_order() },
            20 => PeerMessage::Again {
                session,
                home,
                id,
                slot: self.slot(),
                generation,
                stood: self.stood(),
                op: self.peer_op(),
            },
            19 => PeerMessage::Obeyed { ask, reply: self.reply() },
            27 => PeerMessage::Stuck { session, home, waits: self.list(Rng::peer_wait), locks: self.n32() },
            21 => PeerMessage::Probe {
                origin: session,
                by: NodeId(self.next() as u16),
                number: ask,
                wait: self.wait_id(),
                path: self.list(Rng::peer_edge),
            },
            22 => PeerMessage::Cycle { edges: self.list(Rng::peer_edge) },
            23 => PeerMessage::Confirm { ask, edges: self.list(Rng::edge_id) },
            24 => PeerMessage::Confirmed { ask, found: self.confirmation() },
            25 => PeerMessage::Victim { ask, wait: self.wait_id(), report: Box::new(self.deadlock()) },
            26 => PeerMessage::Resolved { ask, over: self.yes() },
            _ => {
                let (slot, op) = (self.slot(), self.peer_op());
                PeerMessage::Request { session, home, id, slot, generation, op }
            }
        }
    }

    fn wait_id(&mut self) -> WaitId {
        WaitId { lock: self.lock_id(), ticket: self.number() }
    }

    fn edge_id(&mut self) -> EdgeId {
        EdgeId { waiter: self.wait_id(), blocker: self.lock_id(), mark: self.number(), hard: self.yes() }
    }

    fn peer_wait(&mut self) -> PeerWait {
        PeerWait { node: NodeId(self.next() as u16), wait: self.wait_id() }
    }

    fn peer_edge(&mut self) -> PeerEdge {
        PeerEdge { node: NodeId(self.next() as u16), edge: self.edge_id() }
    }

    fn confirmation(&mut self) -> Confirmation {
        match self.below(3) {
            0 => Confirmation::Gone,
            1 => Confirmation::Busy,
            _ => Confirmation::Found(self.list(|r| CycleEdge {
                row: r.edge(),
                priority: r.next() as i8,
                locks: r.n32(),
                age: r.maybe(Rng::age),
            })),
        }
    }

    fn slot(&mut self) -> Slot {
        Slot(self.below(SLOTS) as u16)
    }

    fn of_transaction(&mut self, session: SessionId, home: HomeGeneration) -> PeerMessage {
        match self.below(3) {
            0 => PeerMessage::Aged { session, home, age: self.maybe(Rng::age) },
            1 => {
                let locks = self.list(|r| (r.slot(), SlotGeneration(r.n32()), r.lock_id()));
                PeerMessage::ReleaseMany { session, home, locks }
            }
            _ => PeerMessage::Wounded { session, home, age: self.age() },
        }
    }

    fn peer_op(&mut self) -> PeerOp {
        let (lock, flags, value) = (self.lock_id(), self.flags(), self.maybe(Rng::value).map(Box::from));
        match self.below(5) {
            0 => PeerOp::Lock(PeerLock {
                space: self.space(),
                name: self.name().into(),
                claim: self.claim(),
                wait: self.wait(),
                flags,
                owner: self.peer_owner(),
                tag: self.n32(),
                priority: self.next() as i8,
            }),
            1 => PeerOp::Convert { lock, mode: self.mode(), wait: self.wait(), flags, value },
            2 => PeerOp::Release { lock, flags, value, one_way: self.yes() },
            3 if self.yes() => PeerOp::Cancel(Target::Lock(lock)),
            3 => PeerOp::Cancel(Target::Request(RequestId(self.number()))),
            _ => PeerOp::ReadValue(lock),
        }
    }

    fn lock_rows(&mut self) -> LockRows {
        let mut rows = LockRows::new();
        for _ in 0..self.below(4) {
            let name = self.name();
            let group = self.maybe(|r| GroupUse { name: r.name().into(), uses: r.n32() });
            rows.push(LockReport {
                session: self.maybe(Rng::session),
                orphan: group.is_none() && self.yes(),
                space: self.space(),
                name,
                held: self.maybe(Rng::claim),
                token: self.token(),
                before: self.token(),
                wanted: self.maybe(Rng::wait_report),
                tag: self.n32(),
                alone: group.is_none() && self.yes(),
                flags: self.flags(),
                value: self.maybe(Rng::block),
                group,
            });
        }
        rows
    }

    fn wait_report(&mut self) -> WaitReport {
        WaitReport {
            id: RequestId(self.number()),
            claim: self.claim(),
            flags: self.flags(),
            left: self.maybe(Rng::span),
            waited: self.span(),
            demoted: self.yes(),
            ticket: self.number(),
            priority: self.next() as i8,
            value: self.maybe(Rng::value).map(Box::from),
        }
    }

    fn value_report(&mut self) -> ValueReport {
        let written = match self.below(3) {
            0 => Written::No,
            1 => Written::Perhaps,
            _ => Written::UnlessTold(NodeId(self.next() as u16)),
        };
        ValueReport { space: self.space(), name: self.name().into(), value: self.block(), written }
    }

    fn owned_claim(&mut self) -> OwnedClaim {
        OwnedClaim {
            space: self.space(),
            name: self.name().into(),
            held: self.claim(),
            token: self.token(),
            lock: self.lock_id(),
            tag: self.n32(),
            owner: self.peer_owner(),
            flags: self.flags(),
        }
    }

    fn peer_owner(&mut self) -> PeerOwner {
        match self.below(3) {
            0 => PeerOwner::Session,
            1 => PeerOwner::Alone,
            _ => PeerOwner::Group(self.name().into()),
        }
    }

    fn fates(&mut self) -> Fates {
        let count = self.n32();
        match self.below(3) {
            0 => Fates::Restored { first: self.lock_id(), count },
            1 => Fates::Refused { why: self.refusal(), count },
            _ => Fates::Passed { count },
        }
    }

    fn peer_query(&mut self) -> PeerQuery {
        match self.below(8) {
            0 => PeerQuery::Resources { space: self.space(), prefix: self.name().into(), from: self.n32() },
            1 => PeerQuery::Resource { space: self.space(), name: self.name().into() },
            2 => PeerQuery::Waits,
            3 => PeerQuery::Sessions { after: self.maybe(Rng::session) },
            4 => PeerQuery::Deadlocks,
            5 => PeerQuery::Status,
            6 => PeerQuery::Flush,
            _ => PeerQuery::Sync,
        }
    }

    fn peer_order(&mut self) -> PeerOrder {
        let (space, session) = (self.space(), self.session());
        match self.below(4) {
            0 => {
                PeerOrder::ForceRelease { space, name: self.name().into(), token: self.token(), reason: self.string() }
            }
            1 => PeerOrder::Purge { space, session: self.maybe(Rng::session) },
            2 => PeerOrder::Watch { session, space, prefix: self.name().into() },
            _ => PeerOrder::Unwatch { session },
        }
    }
}
