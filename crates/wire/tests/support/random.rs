//! Random messages from a seed.

use std::sync::LazyLock;

use lockstead_types::{
    Age, Flags, GroupId, LimitName, LockId, Mode, NodeId, Refusal, RequestId, Seal, Sealed, SessionId, SpaceId, Span,
    Token,
    hierarchy::{Escalate, EscalateLevel, Escalation, Hierarchy},
    message::{Attached, ClientMessage, Reclaim, Rejection, ServerMessage, Welcome},
    mode::{ModeSpec, ModeTableSpec},
    reply::{Change, ChangeEvent, Grant, Notice, PathGrant, Queued, Reply, Revoked, SpaceInfo, Value},
    report::{
        DeadlockReport, Deadlocks, Holder, LeftOut, LockRow, MemberRow, MemberStage, MemberStatus, Meta, NodeStatus,
        Report, ResourceDetail, ResourceRow, SessionRow, VictimReason, WaitEdge, Waits,
    },
    request::{
        Claim, ClusterOrder, ConvertRequest, LockRequest, MemberOrder, Op, OwnerRef, Query, ReleaseRequest, SlotRef,
        Stood, Target, Wait,
    },
    slot::Slot,
    space::{DeadlockPolicy, Mastering, ModeChoice, QueuePolicy, SpaceSpec, VictimPolicy},
    transaction::{Discipline, Part, Resume, Savepoint, TransactionStage},
};

/// SplitMix64.
pub(crate) struct Rng(pub(crate) u64);

/// What names and values are cut from.
static POOL: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut rng = Rng(7);
    (0..70_000).map(|_| rng.next() as u8).collect()
});

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub(crate) fn yes(&mut self) -> bool {
        self.next() & 1 == 1
    }

    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// A number, often at an edge.
    pub(super) fn number(&mut self) -> u64 {
        match self.below(4) {
            0 => self.pick(&[0, 1, u64::from(u32::MAX), u64::MAX]),
            1 => self.next() & 0xFF,
            _ => self.next(),
        }
    }

    pub(super) fn n32(&mut self) -> u32 {
        self.number() as u32
    }

    pub(super) fn maybe<T>(&mut self, make: impl FnOnce(&mut Rng) -> T) -> Option<T> {
        self.yes().then(|| make(self))
    }

    pub(super) fn list<T>(&mut self, mut make: impl FnMut(&mut Rng) -> T) -> Vec<T> {
        (0..self.below(4)).map(|_| make(self)).collect()
    }

    pub(super) fn name(&mut self) -> &'static [u8] {
        let longest = self.pick(&[1, 8, 40, 300, 65_535]);
        let length = self.below(longest + 1);
        &POOL[..][self.below(1000)..][..length]
    }

    pub(super) fn value(&mut self) -> &'static [u8] {
        let longest = self.pick(&[0, 64, 65_536]);
        &POOL[..self.below(longest + 1)]
    }

    pub(super) fn text(&mut self) -> &'static str {
        self.pick(&["", "a", "orders", "gr\u{fc}n \u{2713} \u{1F512}", "\0", "a somewhat longer text, with spaces"])
    }

    pub(super) fn string(&mut self) -> String {
        self.text().to_owned()
    }

    pub(super) fn span(&mut self) -> Span {
        Span::from_nanos(self.number())
    }

    pub(super) fn token(&mut self) -> Token {
        Token::from_u64(self.number() >> 1).expect("63 bits")
    }

    pub(super) fn lock_id(&mut self) -> LockId {
        LockId(self.number())
    }

    pub(super) fn space(&mut self) -> SpaceId {
        SpaceId(self.n32())
    }

    pub(super) fn session(&mut self) -> SessionId {
        SessionId(u128::from(self.number()) << 64 | u128::from(self.number()))
    }

    pub(super) fn mode(&mut self) -> Mode {
        Mode(self.below(32) as u8)
    }

    pub(super) fn claim(&mut self) -> Claim {
        if self.yes() { Claim::Mode(self.mode()) } else { Claim::Permits { take: self.n32(), of: self.n32() } }
    }

    pub(super) fn flags(&mut self) -> Flags {
        let all = Flags::ALL.iter().fold(0, |bits, (flag, _)| bits | flag.0);
        Flags(self.next() as u32 & all & self.pick(&[0, u32::MAX]))
    }

    pub(super) fn wait(&mut self) -> Wait {
        match self.below(3) {
            0 => Wait::Never,
            1 => Wait::For(self.span()),
            _ => Wait::Forever,
        }
    }

    pub(super) fn meta(&mut self) -> Meta {
        let (host, pid, program, purpose) = (self.string(), self.n32(), self.string(), self.string());
        Meta { host, pid, program, purpose, within: self.maybe(Rng::session) }
    }

    pub(super) fn lock(&mut self) -> LockRequest<'static> {
        LockRequest {
            space: self.space(),
            name: self.name(),
            claim: self.claim(),
            wait: self.wait(),
            flags: self.flags(),
            owner: match self.below(5) {
                0 => OwnerRef::Session,
                1 => OwnerRef::Alone,
                2 => OwnerRef::Transaction,
                3 => OwnerRef::Statement,
                _ => OwnerRef::Group(GroupId(self.n32())),
            },
            tag: self.n32(),
            priority: self.next() as i8,
        }
    }

    pub(super) fn query(&mut self) -> Query<'static> {
        match self.below(8) {
            0 => Query::Resources {
                space: self.space(),
                prefix: self.name(),
                from: u64::from(self.n32()) << self.below(32),
            },
            1 => Query::Resource { space: self.space(), name: self.name() },
            2 => Query::Waits,
            3 => Query::Sessions { after: self.maybe(Rng::session) },
            4 => Query::Deadlocks,
            5 => Query::Status,
            6 => Query::Members,
            _ => Query::Spaces,
        }
    }

    fn member_order(&mut self) -> MemberOrder {
        let node = NodeId(self.next() as u16);
        match self.below(6) {
            0 => MemberOrder::Drain(node),
            1 => MemberOrder::Remove(node),
            2 => MemberOrder::Pin { slot: self.slot_ref(), node },
            3 => MemberOrder::Unpin(self.slot_ref()),
            4 => MemberOrder::Weigh { node, weight: self.n32() },
            _ => MemberOrder::Admit {
                node,
                identity: self.session().0,
                peer_address: self.string(),
                client_address: self.string(),
                weight: self.n32(),
            },
        }
    }

    fn slot_ref(&mut self) -> SlotRef {
        if self.yes() {
            SlotRef::Number(Slot(self.below(4_096) as u16))
        } else {
            SlotRef::Name { space: self.space(), name: self.name().into() }
        }
    }

    fn member_row(&mut self) -> MemberRow {
        MemberRow {
            node: NodeId(self.next() as u16),
            state: self.pick(&[MemberStage::Down, MemberStage::Up, MemberStage::Draining]),
            incarnation: self.n32(),
            weight: self.n32(),
            slots: self.n32(),
            pinned: self.list(|r| Slot(r.below(4_096) as u16)),
            used: self.n32(),
            sessions: self.n32(),
            identity: self.session().0,
            peer_address: self.string(),
            client_address: self.string(),
        }
    }

    pub(super) fn op(&mut self) -> Op<'static> {
        match self.below(26) {
            0 => Op::Lock(self.lock()),
            1 => Op::LockMany(self.list(Rng::lock)),
            2 => Op::Convert(self.convert()),
            3 => {
                let (flags, value) = (self.flags(), self.maybe(Rng::value));
                Op::Release { release: ReleaseRequest { lock: self.lock_id(), flags, value }, one_way: self.yes() }
            }
            4 => Op::Cancel(if self.yes() {
                Target::Lock(self.lock_id())
            } else {
                Target::Request(RequestId(self.number()))
            }),
            5 => Op::ReadValue(self.lock_id()),
            6 => Op::Sync,
            7 => Op::GroupAttach { name: self.name() },
            8 => Op::GroupDetach(GroupId(self.n32())),
            9 => Op::SpaceOpen { name: self.text() },
            10 => Op::SpaceCreate(self.space_spec().into()),
            11 => Op::SpaceDrop { name: self.text(), force: self.yes() },
            12 => Op::Purge { space: self.space(), session: self.maybe(Rng::session) },
            13 => Op::ForceRelease { space: self.space(), name: self.name(), token: self.token(), reason: self.text() },
            14 => Op::EndSession { session: self.session(), reason: self.text() },
            15 => Op::Query(self.query()),
            16 => Op::Watch { space: self.space(), prefix: self.name() },
            17 => Op::Unwatch,
            18 => Op::Begin { age: self.maybe(Rng::age) },
            19 => Op::Resume(Resume {
                age: self.age(),
                granted: self.number(),
                stage: self.pick(&[TransactionStage::Growing, TransactionStage::Shrinking, TransactionStage::Aborted]),
            }),
            20 => Op::Commit,
            21 => Op::Rollback { to: self.maybe(|r| Savepoint(r.number())) },
            22 => Op::Savepoint,
            23 => Op::EndStatement,
            24 => Op::LockPath(self.lock()),
            _ => Op::Cluster(Box::new(ClusterOrder { what: self.member_order(), reason: self.string() })),
        }
    }

    fn convert(&mut self) -> ConvertRequest<'static> {
        ConvertRequest {
            lock: self.lock_id(),
            mode: self.mode(),
            wait: self.wait(),
            flags: self.flags(),
            value: self.maybe(Rng::value),
        }
    }

    pub(super) fn age(&mut self) -> Age {
        Age { scn: self.number(), tie: self.number() }
    }

    pub(super) fn stood(&mut self) -> Stood {
        Stood { ticket: self.number(), waited: self.span() }
    }

    pub(crate) fn client(&mut self) -> ClientMessage<'static> {
        let (session, ttl) = (self.session(), self.span());
        match self.below(17) {
            0 => ClientMessage::Hello { version: self.next() as u16 },
            1 => ClientMessage::Open { session, ttl, meta: self.meta() },
            2 => ClientMessage::Attach { session, ttl, meta: self.meta(), answers: self.number() },
            3 => ClientMessage::Reclaim {
                id: RequestId(self.number()),
                claim: Reclaim {
                    space: self.space(),
                    name: self.name(),
                    held: self.claim(),
                    token: self.token(),
                    lock: self.lock_id(),
                    tag: self.n32(),
                    alone: self.yes(),
                    group: self.maybe(Rng::name),
                    part: self.maybe(|r| Part { number: r.number(), statement: r.yes() }),
                    flags: self.flags(),
                },
                sealed: self.maybe(|r| Sealed { claim: r.claim(), seal: r.seal() }),
            },
            4 => ClientMessage::ReclaimDone,
            5 => ClientMessage::Renew { seq: self.number() },
            6 => ClientMessage::Ack { answers: self.number() },
            7 => ClientMessage::Goodbye,
            8 => ClientMessage::Again {
                id: RequestId(self.number()),
                stood: self.stood(),
                op: if self.yes() { Op::Lock(self.lock()) } else { Op::Convert(self.convert()) },
            },
            _ => ClientMessage::Request { id: RequestId(self.number()), op: self.op() },
        }
    }

    pub(super) fn block(&mut self) -> Value {
        Value { bytes: self.value().into(), invalid: self.yes() }
    }

    fn seal(&mut self) -> Seal {
        Seal(core::array::from_fn(|_| self.next() as u8))
    }

    pub(super) fn grant(&mut self) -> Grant {
        Grant {
            lock: self.lock_id(),
            claim: self.claim(),
            token: self.token(),
            value: self.maybe(Rng::block),
            demoted: self.yes(),
            alternative: self.yes(),
            seal: self.maybe(Rng::seal),
        }
    }

    pub(super) fn modes(&mut self) -> ModeTableSpec {
        ModeTableSpec {
            name: self.string(),
            modes: self.list(|r| ModeSpec {
                name: r.string(),
                aliases: r.list(Rng::string),
                writes: r.yes(),
                intent: r.maybe(Rng::string),
            }),
            relation: self.list(Rng::string),
            shortcuts: [self.string(), self.string(), self.string()],
        }
    }

    pub(super) fn space_spec(&mut self) -> SpaceSpec {
        SpaceSpec {
            name: self.string(),
            modes: if self.yes() { ModeChoice::BuiltIn(self.string()) } else { ModeChoice::Custom(self.modes()) },
            policy: if self.yes() {
                QueuePolicy::Vms
            } else {
                QueuePolicy::Fair { overtakes: self.next() as u16, ageing: self.span() }
            },
            deadlock: self.pick(&[
                DeadlockPolicy::Detect,
                DeadlockPolicy::Timeout,
                DeadlockPolicy::NoWait,
                DeadlockPolicy::WaitDie,
                DeadlockPolicy::WoundWait,
            ]),
            victim: self.pick(&[
                VictimPolicy::Requester,
                VictimPolicy::Youngest,
                VictimPolicy::FewestLocks,
                VictimPolicy::LowestPriority,
            ]),
            value_bytes: self.n32(),
            levels: self.next() as u8,
            extents: self.yes(),
            mastering: self.pick(&[Mastering::Spread, Mastering::Affinity]),
            persistent: self.yes(),
            discipline: self.pick(&Discipline::ALL.map(|(discipline, _)| discipline)),
            hierarchy: self.maybe(Rng::tree),
        }
    }

    fn tree(&mut self) -> Box<Hierarchy> {
        let level = if self.yes() { EscalateLevel::Parent } else { EscalateLevel::Level(self.next() as u8) };
        let escalate = Escalate { level, at: self.n32(), retry: self.n32() };
        let escalation = if self.yes() { Escalation::Off } else { Escalation::To(escalate) };
        Box::new(Hierarchy { levels: self.list(Rng::string), escalation })
    }

    pub(super) fn row(&mut self) -> LockRow {
        LockRow {
            lock: self.lock_id(),
            extent: self.string(),
            held: self.maybe(Rng::claim),
            wanted: self.maybe(Rng::claim),
            token: self.token(),
            holder: Holder {
                session: self.maybe(Rng::session),
                group: self.maybe(|r| GroupId(r.n32())),
                home: self.maybe(|r| NodeId(r.next() as u16)),
                tag: self.n32(),
                meta: self.meta(),
            },
            since: self.maybe(Rng::span),
        }
    }

    pub(super) fn deadlock(&mut self) -> DeadlockReport {
        DeadlockReport {
            number: self.number(),
            ago: self.span(),
            cycle: self.list(Rng::edge),
            left_out: self.n32(),
            victim: self.lock_id(),
            why: self.pick(&[
                VictimReason::Conversion,
                VictimReason::ClosedCycle,
                VictimReason::Youngest,
                VictimReason::FewestLocks,
                VictimReason::LowestPriority,
            ]),
        }
    }

    pub(super) fn edge(&mut self) -> WaitEdge {
        WaitEdge {
            space: self.space(),
            name: self.name().into(),
            waiter: self.row(),
            blocker: self.row(),
            hard: self.yes(),
        }
    }

    pub(super) fn session_row(&mut self) -> SessionRow {
        SessionRow {
            session: self.session(),
            home: NodeId(self.next() as u16),
            local: self.yes(),
            connected: self.yes(),
            ttl: self.span(),
            left: self.span(),
            age: self.span(),
            locks: self.n32(),
            principal: self.string(),
            meta: self.meta(),
        }
    }

    pub(super) fn status(&mut self) -> NodeStatus {
        NodeStatus {
            node: NodeId(self.next() as u16),
            epoch: self.n32(),
            version: self.string(),
            uptime: self.span(),
            frozen_for: self.span(),
            sessions: self.n32(),
            groups: self.n32(),
            spaces: self.n32(),
            resources: self.number(),
            granted: self.number(),
            converting: self.number(),
            waiting: self.number(),
            orphans: self.number(),
            token: self.token(),
            member: self.maybe(Rng::member_status),
            counters: self.list(|r| (r.string(), r.number())),
        }
    }

    fn member_status(&mut self) -> MemberStatus {
        MemberStatus {
            incarnation: self.n32(),
            members: self.n32(),
            up: self.n32(),
            leader: self.maybe(|r| NodeId(r.next() as u16)),
            authority: self.span(),
            slots: self.n32(),
            recovering: self.n32(),
            recovering_for: self.span(),
        }
    }

    pub(super) fn report(&mut self) -> Report {
        match self.below(8) {
            0 => Report::Resources {
                rows: self.list(|r| ResourceRow {
                    name: r.name().into(),
                    granted: r.n32(),
                    converting: r.n32(),
                    waiting: r.n32(),
                    strongest: r.maybe(Rng::claim),
                }),
                next: self.maybe(Rng::n32).map(u64::from),
            },
            1 => Report::Resource(self.maybe(|r| {
                Box::new(ResourceDetail {
                    name: r.name().into(),
                    master: NodeId(r.next() as u16),
                    slot: r.maybe(|r| Slot(r.below(4_096) as u16)),
                    granted: r.list(Rng::row),
                    converting: r.list(Rng::row),
                    waiting: r.list(Rng::row),
                    left_out: LeftOut { granted: r.n32(), converting: r.n32(), waiting: r.n32() },
                    value: r.maybe(Rng::block),
                })
            })),
            2 => Report::Waits(Waits {
                edges: self.list(Rng::edge),
                waiting: self.number(),
                more: self.yes(),
                taking_over: self.n32(),
            }),
            3 => Report::Sessions { rows: self.list(Rng::session_row), more: self.yes() },
            4 => Report::Deadlocks(Deadlocks { reports: self.list(Rng::deadlock), left_out: self.n32() }),
            5 => Report::Status(Box::new(self.status())),
            6 => Report::Members(self.list(Rng::member_row)),
            _ => Report::Spaces(self.list(|r| (r.space(), r.space_spec()))),
        }
    }

    pub(super) fn refusal(&mut self) -> Refusal {
        let limit = Refusal::Limit(self.pick(LimitName::ALL));
        let intent = Refusal::Intent { level: self.next() as u8, mode: Mode(self.below(32) as u8) };
        self.pick(&[
            limit,
            Refusal::WouldWait,
            Refusal::Timeout,
            Refusal::Deadlock,
            Refusal::NotHeld,
            Refusal::BadMode,
            Refusal::TooLong,
            Refusal::Denied,
            Refusal::Lost,
            Refusal::Invalid,
            Refusal::Busy,
            Refusal::NoQuorum,
            Refusal::NoLockspace,
            Refusal::Exists,
            Refusal::Phase,
            intent,
            Refusal::Sublocks,
            Refusal::Aborted,
        ])
    }

    pub(super) fn reply(&mut self) -> Reply {
        match self.below(20) {
            0 => Reply::Queued(Queued { lock: self.lock_id(), ticket: self.number() }),
            1 => Reply::Granted(self.grant()),
            2 => Reply::GrantedMany(self.list(Rng::grant)),
            3 => Reply::Released,
            4 => Reply::Cancelled,
            5 => Reply::Value(self.block()),
            6 => Reply::Done,
            7 => Reply::Group(GroupId(self.n32())),
            8 => {
                let (modes, value_bytes) = (self.modes(), self.n32());
                let hierarchy = self.maybe(Rng::tree);
                Reply::Space(Box::new(SpaceInfo { space: self.space(), modes, value_bytes, hierarchy }))
            }
            9 => Reply::Purged(self.n32()),
            10 => Reply::Refused(self.refusal()),
            11 => Reply::Demoted { held: self.claim(), why: (self.below(2) == 0).then(|| self.refusal()) },
            12 => Reply::Begun(self.age()),
            13 => Reply::Savepoint(Savepoint(self.number())),
            14 => Reply::GrantedPath(PathGrant { grants: self.list(Rng::grant), escalated: self.yes() }),
            _ => Reply::Report(Box::new(self.report())),
        }
    }

    pub(super) fn notice(&mut self) -> Notice {
        match self.below(5) {
            3 => Notice::Aborted,
            0 => Notice::Blocking { lock: self.lock_id(), claim: self.claim() },
            1 => Notice::Revoked {
                lock: self.lock_id(),
                why: self.pick(&[
                    Revoked::Forced,
                    Revoked::SpaceDropped,
                    Revoked::SessionEnded,
                    Revoked::GroupEnded,
                    Revoked::Superseded,
                ]),
            },
            2 => Notice::Changed(Box::new(Change {
                space: self.space(),
                name: self.name().into(),
                lock: self.lock_id(),
                session: self.maybe(Rng::session),
                event: self.pick(&[
                    ChangeEvent::Granted,
                    ChangeEvent::Waiting,
                    ChangeEvent::Released,
                    ChangeEvent::Cancelled,
                ]),
                claim: self.claim(),
                token: self.token(),
            })),
            _ => Notice::Resync,
        }
    }

    pub(crate) fn server(&mut self) -> ServerMessage {
        match self.below(16) {
            0 => ServerMessage::Welcome(Welcome {
                version: self.next() as u16,
                node: NodeId(self.next() as u16),
                epoch: self.n32(),
                local: self.yes(),
                credit: self.n32(),
                frame_bytes: self.n32(),
            }),
            1 => ServerMessage::Rejected {
                why: self.pick(&[
                    Rejection::Version,
                    Rejection::Protocol,
                    Rejection::FrameTooLong,
                    Rejection::Credit,
                    Rejection::Full,
                    Rejection::SlowReader,
                    Rejection::Idle,
                    Rejection::Stopping,
                    Rejection::Superseded,
                    Rejection::Denied,
                    Rejection::NoAuthority,
                ]),
            },
            2 => ServerMessage::Opened { ttl: self.span() },
            3 => ServerMessage::Attached(Attached {
                ttl: self.span(),
                seen: RequestId(self.number()),
                reclaim: self.yes(),
                home: self.n32(),
                groups: self.list(|r| GroupId(r.n32())),
            }),
            4 => ServerMessage::Ended,
            5 => ServerMessage::Renewed { seq: self.number() },
            6 => ServerMessage::Bye,
            7..=9 => ServerMessage::Notice(self.notice()),
            _ => ServerMessage::Reply { id: RequestId(self.number()), reply: self.reply() },
        }
    }
}
