//! A planned move takes everything along: who holds, who waits and in which order, orphans, value blocks; and holds up the moved
//! slot alone.

use lockstead_types::{
    Flags, Slot, SpaceId, Span,
    message::{ClientMessage, ServerMessage},
    reply::{Grant, Reply, Value},
    request::{Claim, ConvertRequest, LockRequest, Op, ReleaseRequest, Wait},
};

use crate::rig::{Client, Cluster, EX, NL, PR, granted, is_queued, is_released, request};

/// The slot of a name goes to a node.
fn master(cluster: &Cluster, name: &[u8]) -> u16 {
    cluster.state.slots[usize::from(Slot::of(7, SpaceId(0), name).0)].master.0
}

/// Holds a name and leaves a value there: EX, then down to PR with it.
fn writes(cluster: &mut Cluster, client: &mut Client, name: &[u8], value: &[u8]) -> Grant {
    let held = cluster.ask(client, Op::Lock(LockRequest { flags: Flags::VALBLK, ..request(name, EX) }));
    let lock = granted(&held).expect("free").lock;
    let down = ConvertRequest { lock, mode: PR, wait: Wait::Never, flags: Flags::VALBLK, value: Some(value) };
    granted(&cluster.ask(client, Op::Convert(down))).expect("down is always granted")
}

fn reads(told: &[ServerMessage]) -> Option<Value> {
    told.iter().find_map(|m| match m {
        ServerMessage::Reply { reply: Reply::Value(value), .. } => Some(value.clone()),
        _ => None,
    })
}

#[test]
fn a_move_keeps_queues_values_and_tokens() {
    let mut cluster = Cluster::of(3);
    let name = cluster.name_at(2);
    let (mut a, mut b, mut c, mut d) = (cluster.open(1, 1), cluster.open(3, 2), cluster.open(2, 3), cluster.open(3, 4));
    let held = writes(&mut cluster, &mut a, &name, b"state");
    assert!(is_queued(&cluster.lock(&mut b, &name, EX)));
    assert!(is_queued(&cluster.lock(&mut c, &name, PR)));
    assert!(is_queued(&cluster.lock(&mut d, &name, EX)));
    for to in [1, 3, 2, 3] {
        cluster.move_to(&name, to);
        assert_eq!(master(&cluster, &name), to);
    }
    for client in [&b, &c, &d] {
        assert_eq!(cluster.told(client.conn), [], "all wait on");
    }
    let told = cluster.ask(&mut a, Op::ReadValue(held.lock));
    let value = reads(&told).unwrap_or_else(|| panic!("{told:?}"));
    assert_eq!((&value.bytes[..], value.invalid), (&b"state"[..], false));
    // In the order in which they came, with tokens that rise.
    cluster.told(a.conn);
    let mut newest = held.token;
    let mut lock = held.lock;
    let mut holder = a;
    for next in [b, c, d] {
        assert!(is_released(&cluster.release(&mut holder, lock)));
        let grant = granted(&cluster.told(next.conn)).expect("its turn");
        assert!(grant.token > newest);
        (newest, lock, holder) = (grant.token, grant.lock, next);
    }
}

#[test]
fn a_move_keeps_orphans() {
    let mut cluster = Cluster::of(3);
    let name = cluster.name_at(2);
    let (mut a, mut b) = (cluster.open(1, 1), cluster.open(3, 2));
    let persistent = LockRequest { flags: Flags::PERSISTENT, ..request(&name, EX) };
    let held = granted(&cluster.ask(&mut a, Op::Lock(persistent))).expect("free");
    cluster.say(&a, ClientMessage::Goodbye);
    cluster.move_to(&name, 3);
    cluster.move_to(&name, 1);
    assert!(is_queued(&cluster.lock(&mut b, &name, PR)), "it blocks on");
    let mut c = cluster.open(2, 3);
    let adopt = LockRequest { flags: Flags::ORPHAN, ..request(&name, EX) };
    let adopted = granted(&cluster.ask(&mut c, Op::Lock(adopt))).expect("it is there");
    assert!(adopted.token > held.token);
    assert!(is_released(&cluster.release(&mut c, adopted.lock)));
    assert!(granted(&cluster.told(b.conn)).is_some_and(|g| g.claim == Claim::Mode(PR)));
}

#[test]
fn a_move_holds_up_the_moved_slot_alone() {
    let mut cluster = Cluster::of(3);
    let (name, beside, elsewhere) = (cluster.name_at(2), cluster.name_at(1), cluster.name_at(3));
    let (mut a, mut b) = (cluster.open(1, 1), cluster.open(2, 2));
    let held = cluster.locked(&mut a, &name, EX);
    // What one home has is still on its way to the new master.
    cluster.cut.insert((3, 1));
    cluster.move_to(&name, 1);
    for other in [&beside, &elsewhere] {
        let grant = cluster.locked(&mut b, other, EX);
        assert!(is_released(&cluster.release(&mut b, grant.lock)), "other slots of the new master, and of others");
    }
    assert!(is_released(&cluster.release(&mut a, held.lock)), "and releases are carried out");
    assert!(is_queued(&cluster.lock(&mut a, &name, EX)), "nothing new in the slot");
    cluster.join(3, 1);
    assert!(granted(&cluster.told(a.conn)).is_some_and(|g| g.token > held.token));
}

#[test]
fn a_move_keeps_a_conversion_that_waits() {
    let mut cluster = Cluster::of(3);
    let name = cluster.name_at(2);
    let (mut a, mut b, mut c) = (cluster.open(1, 1), cluster.open(3, 2), cluster.open(2, 3));
    let mine = cluster.locked(&mut a, &name, PR);
    let other = cluster.locked(&mut b, &name, PR);
    assert!(is_queued(&cluster.convert(&mut a, mine.lock, EX)));
    assert!(is_queued(&cluster.lock(&mut c, &name, PR)), "behind the conversion");
    cluster.move_to(&name, 3);
    cluster.move_to(&name, 1);
    assert_eq!((cluster.told(a.conn), cluster.told(c.conn)), (vec![], vec![]));
    cluster.told(b.conn);
    assert!(is_released(&cluster.release(&mut b, other.lock)));
    let up = granted(&cluster.told(a.conn)).expect("converted");
    assert_eq!((up.lock, up.claim), (mine.lock, Claim::Mode(EX)));
    assert!(is_released(&cluster.release(&mut a, mine.lock)));
    assert!(granted(&cluster.told(c.conn)).is_some());
}

#[test]
fn what_reads_or_writes_a_value_during_a_move_waits_for_all_homes() {
    let mut cluster = Cluster::of(4);
    let name = cluster.name_at(2);
    let (mut a, mut b, mut c) = (cluster.open(1, 1), cluster.open(3, 2), cluster.open(1, 3));
    let held = writes(&mut cluster, &mut a, &name, b"state");
    let held = granted(&cluster.convert(&mut a, held.lock, NL)).expect("down");
    let beside = LockRequest { flags: Flags::VALBLK, ..request(&name, NL) };
    let beside = granted(&cluster.ask(&mut b, Op::Lock(beside))).expect("fits all").lock;
    let writer = granted(&cluster.ask(&mut c, Op::Lock(LockRequest { flags: Flags::VALBLK, ..request(&name, EX) })));
    let writer = writer.expect("fits all").lock;
    // The new master waits for what a home has that has nothing there.
    cluster.fall_behind(4);
    cluster.move_to(&name, 3);
    assert_eq!(cluster.ask(&mut a, Op::ReadValue(held.lock)), [], "the new master may not have heard all");
    let same = ConvertRequest { lock: beside, mode: NL, wait: Wait::Never, flags: Flags::VALBLK, value: None };
    assert_eq!(cluster.ask(&mut b, Op::Convert(same)), [], "that reads, too");
    assert_eq!(cluster.release(&mut b, beside), [], "and this is behind it");
    assert_eq!(cluster.ask(&mut b, Op::Sync), [], "so not all is done");
    cluster.catch_up(4);
    let valid = |read: Option<Value>| assert_eq!(read, Some(Value { bytes: b"state"[..].into(), invalid: false }));
    valid(reads(&cluster.told(a.conn)));
    let told = cluster.told(b.conn);
    valid(granted(&told).expect("down").value);
    assert!(matches!(
        told[1..],
        [ServerMessage::Reply { reply: Reply::Released, .. }, ServerMessage::Reply { reply: Reply::Done, .. },]
    ));
    // Again, with a write, and a reader behind it.
    cluster.fall_behind(4);
    cluster.move_to(&name, 1);
    let release = ReleaseRequest { lock: writer, flags: Flags::VALBLK, value: Some(b"new") };
    assert_eq!(cluster.ask(&mut c, Op::Release { release, one_way: false }), []);
    assert_eq!(cluster.ask(&mut a, Op::ReadValue(held.lock)), []);
    cluster.catch_up(4);
    assert!(is_released(&cluster.told(c.conn)));
    let read = reads(&cluster.told(a.conn)).expect("everybody has reported");
    assert_eq!((&read.bytes[..], read.invalid), (&b"new"[..], false));
}

#[test]
fn what_a_dead_home_did_not_report_is_waited_for_by_no_reader() {
    let mut cluster = Cluster::of(4);
    let name = cluster.name_at(2);
    let mut a = cluster.open(1, 1);
    let held = writes(&mut cluster, &mut a, &name, b"state");
    let _without_a_home_soon = cluster.open(4, 2);
    cluster.fall_behind(4);
    cluster.move_to(&name, 3);
    assert_eq!(cluster.ask(&mut a, Op::ReadValue(held.lock)), []);
    cluster.kill(4);
    cluster.evict(4);
    let read = reads(&cluster.told(a.conn)).expect("nobody else will report");
    assert_eq!((&read.bytes[..], read.invalid), (&b"state"[..], false));
}

/// A write by session 1 at node 1 that is under way when its slot goes from node 2 to node 3, and a reader at node 3.
struct UnderWay {
    cluster: Cluster,
    writer: Client,
    reader: Client,
    beside: lockstead_types::LockId,
}

impl UnderWay {
    /// `releases`: with the release, or with a conversion down. `silent`: who is not heard, the home or the master.
    fn new(releases: bool, silent: (u16, u16)) -> UnderWay {
        let mut cluster = Cluster::of(3);
        let name = cluster.name_at(2);
        let (mut writer, mut reader) = (cluster.open(1, 1), cluster.open(3, 2));
        let beside = cluster.locked(&mut reader, &name, NL).lock;
        let lock = cluster.locked(&mut writer, &name, EX).lock;
        cluster.cut.insert(silent);
        let (flags, value) = (Flags::VALBLK, Some(&b"v"[..]));
        let release = Op::Release { release: ReleaseRequest { lock, flags, value }, one_way: false };
        let convert = Op::Convert(ConvertRequest { lock, mode: NL, wait: Wait::Never, flags, value });
        assert_eq!(cluster.ask(&mut writer, if releases { release } else { convert }), []);
        cluster.move_to(&name, 3);
        UnderWay { cluster, writer, reader, beside }
    }

    fn read(&mut self) -> Option<Value> {
        reads(&self.cluster.ask(&mut self.reader, Op::ReadValue(self.beside)))
    }
}

#[test]
fn a_write_that_is_under_way_when_its_slot_moves_is_made_once() {
    for releases in [true, false] {
        // Either the request is still on its way to the former master, or its answer.
        for silent in [(1, 2), (2, 1)] {
            let mut case = UnderWay::new(releases, silent);
            assert_eq!(case.cluster.told(case.writer.conn), [], "whether it was made nobody knows");
            case.cluster.join(silent.0, silent.1);
            case.cluster.pass(Span::from_millis(1));
            let told = case.cluster.told(case.writer.conn);
            assert!(is_released(&told) || granted(&told).is_some(), "{told:?}");
            let read = case.read().expect("all homes have reported");
            assert_eq!((&read.bytes[..], read.invalid), (&b"v"[..], false), "{releases} {silent:?}");
        }
    }
}

#[test]
fn a_former_master_that_is_not_heard_does_not_keep_its_slots() {
    for releases in [true, false] {
        let mut case = UnderWay::new(releases, (2, 1));
        case.cluster.pass(Span::from_secs(1));
        let told = case.cluster.told(case.writer.conn);
        assert!(is_released(&told) || granted(&told).is_some(), "{told:?}");
        assert!(case.read().expect("all homes have reported").invalid, "written or not");
        // What it says now comes too late.
        case.cluster.join(2, 1);
        assert_eq!(case.cluster.told(case.writer.conn), []);
    }
}

#[test]
fn a_write_whose_session_goes_elsewhere_is_in_doubt() {
    let mut case = UnderWay::new(false, (2, 1));
    case.cluster.attach(&mut case.writer, 3);
    case.cluster.say(&case.writer, ClientMessage::ReclaimDone);
    case.cluster.pass(Span::from_millis(1));
    assert!(case.read().expect("all homes have reported").invalid, "written or not");
}
