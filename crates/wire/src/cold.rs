//! How everything looks that is not in the hot records: metadata, specs, reports, notices. Numbers here are the protocol;
//! the order of variants in `lockstead-types` is not.

use alloc::{boxed::Box, string::String, vec::Vec};

use lockstead_types::{
    Age, Flags, GroupId, LimitName, LockId, NodeId, Refusal, RequestId, Seal, Sealed, SessionId, SpaceId, Span, Token,
    hierarchy::{Escalate, EscalateLevel, Escalation, Hierarchy},
    message::{Attached, Reclaim, Rejection, Welcome},
    mode::{ModeSpec, ModeTableSpec},
    reply::{Change, ChangeEvent, Notice, Queued, Revoked, SpaceInfo, Value},
    report::{
        DeadlockReport, Deadlocks, Holder, LeftOut, LockRow, MemberRow, MemberStage, MemberStatus, Meta, NodeStatus,
        Report, ResourceDetail, ResourceRow, SessionRow, VictimReason, WaitEdge, Waits,
    },
    request::{Claim, ClusterOrder, MemberOrder, Query, SlotRef, Stood, Target},
    slot::Slot,
    space::{DeadlockPolicy, Mastering, ModeChoice, QueuePolicy, SpaceSpec, VictimPolicy},
    transaction::{Discipline, Part, Resume, TransactionStage},
};

use crate::{
    error::{DecodeError, EncodeError},
    field::{Field, Reader, choice, record},
};

choice!(Claim, "claim" { 0 = Mode(mode), 1 = Permits { take, of } });
choice!(Target, "target" { 0 = Lock(lock), 1 = Request(id) });

choice!(Query<'a>, "query" {
    0 = Resources { space, prefix, from },
    1 = Resource { space, name },
    2 = Waits,
    3 = Sessions { after },
    4 = Deadlocks,
    5 = Status,
    6 = Spaces,
    7 = Members,
});

record!(Reclaim<'a> {
    space: SpaceId,
    name: &'a [u8],
    held: Claim,
    token: Token,
    lock: LockId,
    tag: u32,
    alone: bool,
    group: Option<&'a [u8]>,
    part: Option<Part>,
    flags: Flags,
});

record!(Age { scn: u64, tie: u64 });
record!(Part { number: u64, statement: bool });
record!(Resume { age: Age, granted: u64, stage: TransactionStage });
choice!(TransactionStage, "stage of a transaction" { 0 = Growing, 1 = Shrinking, 2 = Aborted });
choice!(Discipline, "discipline" { 0 = Strict, 1 = TwoPhase, 2 = ThreePhase, 3 = Free });
record!(Queued { lock: LockId, ticket: u64 });
record!(Stood { ticket: u64, waited: Span });
record!(Sealed { claim: Claim, seal: Seal });

impl Field<'_> for Seal {
    const MIN: usize = 16;

    fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.extend_from_slice(&self.0);
        Ok(())
    }

    fn get(r: &mut Reader<'_>) -> Result<Seal, DecodeError> {
        r.array().map(Seal)
    }
}

record!(Welcome { version: u16, node: NodeId, epoch: u32, local: bool, credit: u32, frame_bytes: u32 });
record!(Attached { ttl: Span, seen: RequestId, reclaim: bool, home: u32, groups: Vec<GroupId> });

choice!(Rejection, "rejection" {
    0 = Version,
    1 = Protocol,
    2 = FrameTooLong,
    3 = Credit,
    4 = Full,
    5 = SlowReader,
    6 = Idle,
    7 = Stopping,
    8 = Superseded,
    9 = Denied,
    10 = NoAuthority,
});

choice!(Refusal, "refusal" {
    0 = WouldWait,
    1 = Timeout,
    2 = Deadlock,
    3 = NotHeld,
    4 = BadMode,
    5 = TooLong,
    6 = Denied,
    7 = Limit(name),
    8 = Lost,
    9 = Invalid,
    10 = Busy,
    11 = NoQuorum,
    12 = NoLockspace,
    13 = Exists,
    14 = Phase,
    15 = Intent { level, mode },
    16 = Sublocks,
    17 = Aborted,
});

choice!(LimitName, "limit" {
    0 = NameBytes,
    1 = ValueBytes,
    2 = Resources,
    3 = Locks,
    4 = LocksPerSession,
    5 = WaitersPerResource,
    6 = Permits,
    7 = NamesPerRequest,
    8 = Sessions,
    9 = Groups,
    10 = MembersPerGroup,
    11 = Spaces,
    12 = Orphans,
    13 = DeadlockReports,
    14 = DeadlockEdges,
    15 = InFlight,
    16 = Watches,
    17 = RowsPerAnswer,
    18 = MetaBytes,
    19 = Connections,
    20 = FrameBytes,
    21 = OutputBytes,
    22 = TtlMin,
    23 = TtlMax,
    24 = DeadlockDelay,
});

/// Host, pid, program, purpose, within. The three texts are measured together before any is copied.
impl<'a> Field<'a> for Meta {
    const MIN: usize = 11;

    fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let Meta { host, pid, program, purpose, within } = self;
        host.put(out)?;
        pid.put(out)?;
        program.put(out)?;
        purpose.put(out)?;
        within.put(out)
    }

    fn get(r: &mut Reader<'a>) -> Result<Meta, DecodeError> {
        let at = r.at();
        let host = <&str>::get(r)?;
        let pid = u32::get(r)?;
        let program = <&str>::get(r)?;
        let purpose = <&str>::get(r)?;
        let length = host.len() + program.len() + purpose.len();
        let max = r.limits().meta_bytes;
        if length > max {
            return Err(DecodeError::TooLong { at, field: "metadata", length, max });
        }
        let within = Field::get(r)?;
        Ok(Meta { host: host.into(), pid, program: program.into(), purpose: purpose.into(), within })
    }
}

record!(ClusterOrder { what: MemberOrder, reason: String });
choice!(MemberOrder, "order about a member" {
    0 = Admit { node, identity, peer_address, client_address, weight },
    1 = Drain(node),
    2 = Remove(node),
    3 = Pin { slot, node },
    4 = Unpin(slot),
    5 = Weigh { node, weight },
});
choice!(SlotRef, "reference to a slot" { 0 = Number(slot), 1 = Name { space, name } });

record!(Value { bytes: Box<[u8]>, invalid: bool });

record!(ModeTableSpec { name: String, modes: Vec<ModeSpec>, relation: Vec<String>, shortcuts: [String; 3] });
record!(ModeSpec { name: String, aliases: Vec<String>, writes: bool, intent: Option<String> });
record!(SpaceInfo { space: SpaceId, modes: ModeTableSpec, value_bytes: u32, hierarchy: Option<Box<Hierarchy>> });
record!(Hierarchy { levels: Vec<String>, escalation: Escalation });
choice!(Escalation, "escalation" { 0 = Off, 1 = To(escalate) });
record!(Escalate { level: EscalateLevel, at: u32, retry: u32 });
choice!(EscalateLevel, "level of escalation" { 0 = Parent, 1 = Level(level) });
record!(SpaceSpec {
    name: String,
    modes: ModeChoice,
    policy: QueuePolicy,
    deadlock: DeadlockPolicy,
    victim: VictimPolicy,
    value_bytes: u32,
    levels: u8,
    extents: bool,
    mastering: Mastering,
    persistent: bool,
    discipline: Discipline,
    hierarchy: Option<Box<Hierarchy>>,
});
choice!(ModeChoice, "choice of modes" { 0 = BuiltIn(name), 1 = Custom(spec) });
choice!(QueuePolicy, "queue policy" { 0 = Vms, 1 = Fair { overtakes, ageing } });
choice!(DeadlockPolicy, "deadlock policy" { 0 = Detect, 1 = Timeout, 2 = NoWait, 3 = WaitDie, 4 = WoundWait });
choice!(Mastering, "mastering" { 0 = Spread, 1 = Affinity });
choice!(VictimPolicy, "victim policy" { 0 = Requester, 1 = Youngest, 2 = FewestLocks, 3 = LowestPriority });

choice!(Notice, "notice" {
    0 = Blocking { lock, claim },
    1 = Revoked { lock, why },
    2 = Changed(change),
    3 = Resync,
    4 = Aborted,
});
choice!(Revoked, "reason of a revocation" {
    0 = Forced,
    1 = SpaceDropped,
    2 = SessionEnded,
    3 = GroupEnded,
    4 = Superseded,
});
record!(Change {
    space: SpaceId,
    name: Box<[u8]>,
    lock: LockId,
    session: Option<SessionId>,
    event: ChangeEvent,
    claim: Claim,
    token: Token,
});
choice!(ChangeEvent, "event" { 0 = Granted, 1 = Waiting, 2 = Released, 3 = Cancelled });

choice!(Report, "report" {
    0 = Resources { rows, next },
    1 = Resource(detail),
    2 = Waits(waits),
    3 = Sessions { rows, more },
    4 = Deadlocks(found),
    5 = Status(status),
    6 = Spaces(spaces),
    7 = Members(rows),
});
record!(MemberRow {
    node: NodeId,
    state: MemberStage,
    incarnation: u32,
    weight: u32,
    slots: u32,
    pinned: Vec<Slot>,
    used: u32,
    sessions: u32,
    identity: u128,
    peer_address: String,
    client_address: String,
});
choice!(MemberStage, "state of a member" { 0 = Down, 1 = Up, 2 = Draining });
record!(ResourceRow { name: Box<[u8]>, granted: u32, converting: u32, waiting: u32, strongest: Option<Claim> });
record!(ResourceDetail {
    name: Box<[u8]>,
    master: NodeId,
    slot: Option<Slot>,
    granted: Vec<LockRow>,
    converting: Vec<LockRow>,
    waiting: Vec<LockRow>,
    left_out: LeftOut,
    value: Option<Value>,
});
record!(LeftOut { granted: u32, converting: u32, waiting: u32 });
record!(LockRow {
    lock: LockId,
    extent: String,
    held: Option<Claim>,
    wanted: Option<Claim>,
    token: Token,
    holder: Holder,
    since: Option<Span>,
});
record!(Holder {
    session: Option<SessionId>,
    group: Option<GroupId>,
    home: Option<NodeId>,
    tag: u32,
    meta: Meta,
});
record!(Waits { edges: Vec<WaitEdge>, waiting: u64, more: bool, taking_over: u32 });
record!(WaitEdge { space: SpaceId, name: Box<[u8]>, waiter: LockRow, blocker: LockRow, hard: bool });
record!(SessionRow {
    session: SessionId,
    home: NodeId,
    local: bool,
    connected: bool,
    ttl: Span,
    left: Span,
    age: Span,
    locks: u32,
    principal: String,
    meta: Meta,
});
record!(Deadlocks { reports: Vec<DeadlockReport>, left_out: u32 });
record!(DeadlockReport {
    number: u64,
    ago: Span,
    cycle: Vec<WaitEdge>,
    left_out: u32,
    victim: LockId,
    why: VictimReason,
});
choice!(VictimReason, "reason of a victim" {
    0 = Conversion,
    1 = ClosedCycle,
    2 = Youngest,
    3 = FewestLocks,
    4 = LowestPriority,
});
record!(NodeStatus {
    node: NodeId,
    epoch: u32,
    version: String,
    uptime: Span,
    frozen_for: Span,
    sessions: u32,
    groups: u32,
    spaces: u32,
    resources: u64,
    granted: u64,
    converting: u64,
    waiting: u64,
    orphans: u64,
    token: Token,
    member: Option<MemberStatus>,
    counters: Vec<(String, u64)>,
});
record!(MemberStatus {
    incarnation: u32,
    members: u32,
    up: u32,
    leader: Option<NodeId>,
    authority: Span,
    slots: u32,
    recovering: u32,
    recovering_for: Span,
});
