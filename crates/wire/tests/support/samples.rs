//! One message or more of every kind, with fixed content: what the golden bytes are of.

use lockstead_types::{
    Age, Flags, GroupId, LimitName, LockId, Mode, NodeId, Refusal, RequestId, Seal, Sealed, SessionId, SpaceId, Span,
    Token,
    hierarchy::{Escalate, EscalateLevel, Escalation, Hierarchy},
    message::{Attached, ClientMessage, Reclaim, Rejection, ServerMessage, Welcome},
    mode::ModeTableSpec,
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
    tables::built_in,
    transaction::{Discipline, Part, Resume, Savepoint, TransactionStage},
};

const SESSION: SessionId = SessionId(0x0011_2233_4455_6677_8899_AABB_CCDD_EEFF);
const LOCK: LockId = LockId(0x0000_0002_0000_0005);
pub(super) const AGE: Age = Age { scn: 0x0000_0100_0000_0007, tie: 9 };
const TTL: Span = Span::from_secs(10);
const SPACE: SpaceId = SpaceId(3);
const PR: Claim = Claim::Mode(Mode(3));
const EX: Claim = Claim::Mode(Mode(5));
const SEAL: Seal = Seal([0xA0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xAF]);
const PERMITS: Claim = Claim::Permits { take: 2, of: 10 };

fn token() -> Token {
    Token::new(1, 9).expect("in range")
}

fn meta() -> Meta {
    let (host, program, purpose) = ("db1".into(), "nightly".into(), "r\u{e9}index".into());
    Meta { host, pid: 4711, program, purpose, within: None }
}

fn inner() -> Meta {
    Meta { within: Some(SessionId(0xFF)), ..meta() }
}

fn request(op: Op<'static>) -> ClientMessage<'static> {
    ClientMessage::Request { id: RequestId(7), op }
}

pub(crate) fn lock() -> LockRequest<'static> {
    LockRequest {
        space: SpaceId(0),
        name: b"orders/7",
        claim: EX,
        wait: Wait::Forever,
        flags: Flags::NONE,
        owner: OwnerRef::Session,
        tag: 0,
        priority: 0,
    }
}

fn custom_modes() -> ModeTableSpec {
    let mut modes = built_in("rw").expect("built in").spec().clone();
    modes.modes[0].intent = Some("R".into());
    modes
}

fn space_specs() -> [SpaceSpec; 2] {
    let custom = SpaceSpec {
        name: "pages".into(),
        modes: ModeChoice::Custom(custom_modes()),
        policy: QueuePolicy::FAIR,
        deadlock: DeadlockPolicy::NoWait,
        victim: VictimPolicy::FewestLocks,
        value_bytes: 256,
        levels: 2,
        extents: true,
        mastering: Mastering::Affinity,
        persistent: true,
        discipline: Discipline::TwoPhase,
        hierarchy: Some(tree()),
    };
    [SpaceSpec::named("plain"), custom]
}

fn tree() -> Box<Hierarchy> {
    let escalation = Escalation::To(Escalate { level: EscalateLevel::Level(0), at: 5_000, retry: 1_250 });
    Box::new(Hierarchy { levels: vec!["table".into(), "row".into()], escalation })
}

fn preventing(deadlock: DeadlockPolicy) -> SpaceSpec {
    SpaceSpec { deadlock, ..SpaceSpec::named("ordered") }
}

/// Every message of a client, by name; the name starts with its kind.
pub(crate) fn client() -> Vec<(&'static str, ClientMessage<'static>)> {
    let mut samples = vec![
        ("hello", ClientMessage::Hello { version: 1 }),
        ("open", ClientMessage::Open { session: SESSION, ttl: TTL, meta: meta() }),
        ("open within another", ClientMessage::Open { session: SESSION, ttl: TTL, meta: inner() }),
        ("attach", ClientMessage::Attach { session: SESSION, ttl: TTL, meta: meta(), answers: 12 }),
        ("reclaim", reclaim(PR, true, None, Flags::PERSISTENT)),
        ("reclaim of a group", reclaim(PERMITS, false, Some(b"crew"), Flags::NONE)),
        ("reclaim with a seal", sealed(reclaim(PR, false, None, Flags::NONE))),
        ("reclaim of a transaction", in_transaction(reclaim(PR, false, None, Flags::NONE))),
        ("again: lock", again(Op::Lock(lock()))),
        ("reclaim-done", ClientMessage::ReclaimDone),
        ("renew", ClientMessage::Renew { seq: 0x0102_0304_0506_0708 }),
        ("ack", ClientMessage::Ack { answers: 12 }),
        ("goodbye", ClientMessage::Goodbye),
    ];
    samples.extend(requests().into_iter().map(|(name, op)| (name, request(op))));
    samples
}

fn reclaim(held: Claim, alone: bool, group: Option<&'static [u8]>, flags: Flags) -> ClientMessage<'static> {
    let claim = Reclaim {
        space: SPACE,
        name: b"orders/7",
        held,
        token: token(),
        lock: LOCK,
        tag: 4,
        alone,
        group,
        part: None,
        flags,
    };
    ClientMessage::Reclaim { id: RequestId(1), claim, sealed: None }
}

fn in_transaction(message: ClientMessage<'static>) -> ClientMessage<'static> {
    let ClientMessage::Reclaim { id, claim, sealed } = message else { unreachable!("a claim") };
    let part = Some(Part { number: 5, statement: true });
    ClientMessage::Reclaim { id, claim: Reclaim { part, ..claim }, sealed }
}

fn again(op: Op<'static>) -> ClientMessage<'static> {
    ClientMessage::Again { id: RequestId(7), stood: Stood { ticket: 31, waited: TTL }, op }
}

fn sealed(message: ClientMessage<'static>) -> ClientMessage<'static> {
    let ClientMessage::Reclaim { id, claim, .. } = message else { unreachable!("a claim") };
    ClientMessage::Reclaim { id, claim, sealed: Some(Sealed { claim: EX, seal: SEAL }) }
}

fn requests() -> Vec<(&'static str, Op<'static>)> {
    let mut ops = vec![("lock", Op::Lock(lock())), ("lock with everything", Op::Lock(full_lock()))];
    let permits = LockRequest { claim: PERMITS, wait: Wait::Never, owner: OwnerRef::Alone, ..lock() };
    ops.push(("lock of permits", Op::Lock(permits)));
    ops.push(("lock-path", Op::LockPath(LockRequest { owner: OwnerRef::Transaction, ..lock() })));
    ops.push(("lock-many", Op::LockMany(vec![lock(), permits])));
    ops.extend(conversions_and_releases());
    let [plain, custom] = space_specs();
    ops.extend([
        ("lock of a transaction", Op::Lock(LockRequest { owner: OwnerRef::Transaction, ..lock() })),
        ("lock of a statement", Op::Lock(LockRequest { owner: OwnerRef::Statement, ..lock() })),
        ("begin", Op::Begin { age: None }),
        ("begin again", Op::Begin { age: Some(AGE) }),
        ("resume", Op::Resume(Resume { age: AGE, granted: 6, stage: TransactionStage::Shrinking })),
        ("commit", Op::Commit),
        ("rollback", Op::Rollback { to: None }),
        ("rollback to a savepoint", Op::Rollback { to: Some(Savepoint(3)) }),
        ("savepoint", Op::Savepoint),
        ("end-statement", Op::EndStatement),
        ("cancel", Op::Cancel(Target::Lock(LOCK))),
        ("cancel of a request", Op::Cancel(Target::Request(RequestId(6)))),
        ("read-value", Op::ReadValue(LOCK)),
        ("sync", Op::Sync),
        ("group-attach", Op::GroupAttach { name: b"crew" }),
        ("group-detach", Op::GroupDetach(GroupId(2))),
        ("space-open", Op::SpaceOpen { name: "pages" }),
        ("space-create", Op::SpaceCreate(plain.into())),
        ("space-create with modes of its own", Op::SpaceCreate(custom.into())),
        ("space-create: wait-die", Op::SpaceCreate(preventing(DeadlockPolicy::WaitDie).into())),
        ("space-create: wound-wait", Op::SpaceCreate(preventing(DeadlockPolicy::WoundWait).into())),
        ("space-drop", Op::SpaceDrop { name: "pages", force: true }),
        ("purge", Op::Purge { space: SPACE, session: None }),
        ("purge of a session", Op::Purge { space: SPACE, session: Some(SESSION) }),
        ("force-release", Op::ForceRelease { space: SPACE, name: b"orders/7", token: token(), reason: "stuck" }),
        ("end-session", Op::EndSession { session: SESSION, reason: "gone" }),
        ("watch", Op::Watch { space: SPACE, prefix: b"orders/" }),
        ("unwatch", Op::Unwatch),
        ("query-resources", Op::Query(Query::Resources { space: SPACE, prefix: b"orders/", from: 4_096 })),
        ("query-resource", Op::Query(Query::Resource { space: SPACE, name: b"orders/7" })),
        ("query-waits", Op::Query(Query::Waits)),
        ("query-sessions", Op::Query(Query::Sessions { after: None })),
        ("query-sessions after one", Op::Query(Query::Sessions { after: Some(SESSION) })),
        ("query-deadlocks", Op::Query(Query::Deadlocks)),
        ("query-status", Op::Query(Query::Status)),
        ("query-spaces", Op::Query(Query::Spaces)),
        ("query-members", Op::Query(Query::Members)),
        ("cluster: drain", cluster_order(MemberOrder::Drain(NodeId(3)))),
        ("cluster: remove", cluster_order(MemberOrder::Remove(NodeId(3)))),
        ("cluster: admit", cluster_order(admit())),
        ("cluster: pin", cluster_order(MemberOrder::Pin { slot: by_name(), node: NodeId(3) })),
        ("cluster: unpin", cluster_order(MemberOrder::Unpin(SlotRef::Number(Slot(2_809))))),
        ("cluster: weigh", cluster_order(MemberOrder::Weigh { node: NodeId(3), weight: 300 })),
    ]);
    ops
}

fn cluster_order(what: MemberOrder) -> Op<'static> {
    Op::Cluster(Box::new(ClusterOrder { what, reason: "new host".into() }))
}

fn by_name() -> SlotRef {
    SlotRef::Name { space: SPACE, name: (*b"orders/7").into() }
}

fn admit() -> MemberOrder {
    MemberOrder::Admit {
        node: NodeId(4),
        identity: SESSION.0,
        peer_address: "10.0.0.4:7601".into(),
        client_address: "10.0.0.4:7600".into(),
        weight: 100,
    }
}

fn member_row() -> MemberRow {
    MemberRow {
        node: NodeId(4),
        state: MemberStage::Draining,
        incarnation: 3,
        weight: 100,
        slots: 1_365,
        pinned: vec![Slot(7), Slot(2_809)],
        used: 12,
        sessions: 12,
        identity: SESSION.0,
        peer_address: "10.0.0.4:7601".into(),
        client_address: "10.0.0.4:7600".into(),
    }
}

fn full_lock() -> LockRequest<'static> {
    LockRequest {
        space: SPACE,
        name: b"\x00\xFF raw",
        claim: PR,
        wait: Wait::For(Span::from_millis(1500)),
        flags: Flags::VALBLK.with(Flags::NOBAST),
        owner: OwnerRef::Group(GroupId(2)),
        tag: 77,
        priority: -3,
    }
}

fn conversions_and_releases() -> Vec<(&'static str, Op<'static>)> {
    let convert = ConvertRequest { lock: LOCK, mode: Mode(0), wait: Wait::Forever, flags: Flags::NONE, value: None };
    let full_convert = ConvertRequest {
        mode: Mode(5),
        wait: Wait::For(TTL),
        flags: Flags::VALBLK.with(Flags::QUECVT),
        value: Some(b"state"),
        ..convert
    };
    let release = ReleaseRequest { lock: LOCK, flags: Flags::NONE, value: None };
    let full_release = ReleaseRequest { flags: Flags::VALBLK, value: Some(b"state"), ..release };
    vec![
        ("convert", Op::Convert(convert)),
        ("convert with everything", Op::Convert(full_convert)),
        ("release", Op::Release { release, one_way: false }),
        ("release one-way", Op::Release { release, one_way: true }),
        ("release with everything", Op::Release { release: full_release, one_way: false }),
    ]
}

fn grant() -> Grant {
    Grant { lock: LOCK, claim: EX, token: token(), value: None, demoted: false, alternative: false, seal: None }
}

fn block(invalid: bool) -> Value {
    Value { bytes: (*b"state").into(), invalid }
}

/// Every message of a node, by name; the name starts with its kind.
pub(crate) fn server() -> Vec<(&'static str, ServerMessage)> {
    let welcome = Welcome { version: 1, node: NodeId(1), epoch: 5, local: true, credit: 4_096, frame_bytes: 1_048_576 };
    let attached =
        Attached { ttl: TTL, seen: RequestId(9), reclaim: true, home: 3, groups: vec![GroupId(2), GroupId(8)] };
    let change = Change {
        space: SPACE,
        name: (*b"orders/7").into(),
        lock: LOCK,
        session: Some(SESSION),
        event: ChangeEvent::Released,
        claim: EX,
        token: Token::NONE,
    };
    let mut samples = vec![
        ("welcome", ServerMessage::Welcome(welcome)),
        ("rejected", ServerMessage::Rejected { why: Rejection::Protocol }),
        ("rejected without authority", ServerMessage::Rejected { why: Rejection::NoAuthority }),
        ("opened", ServerMessage::Opened { ttl: TTL }),
        ("attached", ServerMessage::Attached(attached)),
        ("ended", ServerMessage::Ended),
        ("renewed", ServerMessage::Renewed { seq: 0x0102_0304_0506_0708 }),
        ("bye", ServerMessage::Bye),
        ("blocking", ServerMessage::Notice(Notice::Blocking { lock: LOCK, claim: EX })),
        ("blocking permits", ServerMessage::Notice(Notice::Blocking { lock: LOCK, claim: PERMITS })),
        ("revoked", ServerMessage::Notice(Notice::Revoked { lock: LOCK, why: Revoked::Forced })),
        ("changed", ServerMessage::Notice(Notice::Changed(Box::new(change)))),
        ("resync", ServerMessage::Notice(Notice::Resync)),
        ("aborted", ServerMessage::Notice(Notice::Aborted)),
    ];
    let replies = replies().into_iter().chain(reports().into_iter().map(|(n, r)| (n, Reply::Report(Box::new(r)))));
    samples.extend(replies.map(|(name, reply)| (name, ServerMessage::Reply { id: RequestId(7), reply })));
    samples
}

fn replies() -> Vec<(&'static str, Reply)> {
    let full = Grant { value: Some(block(true)), demoted: true, alternative: true, ..grant() };
    let permits = Grant { claim: PERMITS, value: Some(block(false)), ..grant() };
    let sealed = Grant { seal: Some(SEAL), ..permits.clone() };
    let info = SpaceInfo { space: SPACE, modes: custom_modes(), value_bytes: 64, hierarchy: Some(tree()) };
    vec![
        ("queued", Reply::Queued(Queued { lock: LOCK, ticket: 31 })),
        ("granted", Reply::Granted(grant())),
        ("granted with everything", Reply::Granted(full)),
        ("granted permits", Reply::Granted(permits.clone())),
        ("granted with a seal", Reply::Granted(Grant { seal: Some(SEAL), ..grant() })),
        ("granted permits with a seal", Reply::Granted(sealed)),
        ("granted-many", Reply::GrantedMany(vec![grant(), permits])),
        ("granted-path", Reply::GrantedPath(PathGrant { grants: vec![grant(), grant()], escalated: true })),
        ("refused intent", Reply::Refused(Refusal::Intent { level: 1, mode: Mode(2) })),
        ("released", Reply::Released),
        ("cancelled", Reply::Cancelled),
        ("demoted", Reply::Demoted { held: Claim::Mode(Mode(0)), why: Some(Refusal::Timeout) }),
        ("demoted, cancelled", Reply::Demoted { held: Claim::Mode(Mode(0)), why: None }),
        ("value", Reply::Value(block(false))),
        ("value invalid", Reply::Value(block(true))),
        ("done", Reply::Done),
        ("begun", Reply::Begun(AGE)),
        ("at-savepoint", Reply::Savepoint(Savepoint(3))),
        ("group", Reply::Group(GroupId(2))),
        ("space", Reply::Space(Box::new(info))),
        ("purged", Reply::Purged(31)),
        ("refused", Reply::Refused(Refusal::Timeout)),
        ("refused limit", Reply::Refused(Refusal::Limit(LimitName::InFlight))),
    ]
}

fn row(held: Option<Claim>, wanted: Option<Claim>) -> LockRow {
    let holder =
        Holder { session: Some(SESSION), group: Some(GroupId(2)), home: Some(NodeId(2)), tag: 4, meta: meta() };
    let token = if held.is_some() { token() } else { Token::NONE };
    LockRow { lock: LOCK, extent: "[10,20)".into(), held, wanted, token, holder, since: Some(Span::from_millis(250)) }
}

pub(super) fn edge() -> WaitEdge {
    let (waiter, blocker) = (row(None, Some(EX)), row(Some(PR), None));
    WaitEdge { space: SPACE, name: (*b"orders/7").into(), waiter, blocker, hard: true }
}

pub(super) fn deadlock() -> DeadlockReport {
    DeadlockReport {
        number: 1,
        ago: Span::from_secs(60),
        cycle: vec![edge()],
        left_out: 1,
        victim: LOCK,
        why: VictimReason::Youngest,
    }
}

fn reports() -> Vec<(&'static str, Report)> {
    let resource =
        ResourceRow { name: (*b"orders/7").into(), granted: 2, converting: 1, waiting: 4, strongest: Some(PR) };
    let detail = ResourceDetail {
        name: (*b"orders/7").into(),
        master: NodeId(1),
        slot: Some(Slot(2_809)),
        granted: vec![row(Some(PR), None)],
        converting: vec![row(Some(PR), Some(EX))],
        waiting: vec![row(None, Some(EX))],
        left_out: LeftOut { granted: 0, converting: 0, waiting: 7_312 },
        value: Some(block(false)),
    };
    let deadlock = deadlock();
    let spaces = space_specs().into_iter().zip(1..).map(|(spec, n)| (SpaceId(n), spec)).collect();
    vec![
        ("report-resources", Report::Resources { rows: vec![resource], next: Some(8_192) }),
        ("report-resource", Report::Resource(Some(Box::new(detail)))),
        ("report-resource without locks", Report::Resource(None)),
        ("report-waits", Report::Waits(Waits { edges: vec![edge()], waiting: 2, more: true, taking_over: 3 })),
        ("report-sessions", Report::Sessions { rows: vec![session_row()], more: false }),
        ("report-deadlocks", Report::Deadlocks(Deadlocks { reports: vec![deadlock], left_out: 3 })),
        ("report-status", Report::Status(Box::new(status()))),
        ("report-spaces", Report::Spaces(spaces)),
        ("report-members", Report::Members(vec![member_row()])),
    ]
}

fn session_row() -> SessionRow {
    SessionRow {
        session: SESSION,
        home: NodeId(3),
        local: true,
        connected: false,
        ttl: TTL,
        left: Span::from_secs(4),
        age: Span::from_secs(90),
        locks: 3,
        principal: "uid 1000 pid 4711".into(),
        meta: meta(),
    }
}

fn status() -> NodeStatus {
    NodeStatus {
        node: NodeId(1),
        epoch: 5,
        version: "0.1.0".into(),
        uptime: Span::from_secs(3_600),
        frozen_for: Span::ZERO,
        sessions: 1,
        groups: 2,
        spaces: 3,
        resources: 4,
        granted: 5,
        converting: 6,
        waiting: 7,
        orphans: 8,
        token: token(),
        member: Some(MemberStatus {
            incarnation: 3,
            members: 5,
            up: 4,
            leader: Some(NodeId(2)),
            authority: Span::from_millis(2_400),
            slots: 1_024,
            recovering: 64,
            recovering_for: Span::from_millis(12),
        }),
        counters: vec![("locks".into(), 9), ("releases".into(), 10)],
    }
}
