//! Interleavings in which two would hold what one may hold, or a value block says what it is not.

use lockstead_cluster::Command;
use lockstead_types::{
    Flags, Mode, NodeId, RequestId, Slot, SpaceId, Span,
    message::{ClientMessage, Reclaim, ServerMessage},
    reply::{Grant, Reply},
    request::{Claim, ConvertRequest, LockRequest, Op, OwnerRef, ReleaseRequest, Target, Wait},
};

use crate::rig::{Cluster, EX, NL, PR, STALENESS, TTL, claim_of, granted, is_queued, is_released, request};

const CW: Mode = Mode(2);

/// A name of `master`, whose slot goes to `heir` when the master is evicted.
fn inherited(cluster: &Cluster, master: u16, heir: u16) -> Vec<u8> {
    let mut after = cluster.state.clone();
    let incarnation = after.members[&NodeId(master)].incarnation;
    after.apply(&Command::Evict { node: NodeId(master), incarnation }).expect("evicted");
    let of = |state: &lockstead_cluster::State, name: &[u8]| {
        state.slots[usize::from(Slot::of(7, SpaceId(0), name).0)].master.0
    };
    (0..)
        .map(|n| format!("heir-{n}").into_bytes())
        .find(|name| of(&cluster.state, name) == master && of(&after, name) == heir)
        .expect("some name")
}

#[test]
fn f1_a_conversion_sideways_that_is_cancelled_after_recovery() {
    let mut cluster = Cluster::of(3);
    let name = cluster.name_at(2);
    let (mut a, mut b, mut c) = (cluster.open(1, 1), cluster.open(3, 2), cluster.open(3, 3));
    let one = cluster.locked(&mut a, &name, PR);
    let two = cluster.locked(&mut b, &name, PR);
    assert!(is_queued(&cluster.convert(&mut a, one.lock, CW)));
    cluster.kill(2);
    cluster.evict(2);
    let told = cluster.ask(&mut a, Op::Cancel(Target::Lock(one.lock)));
    let demoted = |m: &ServerMessage| matches!(m, ServerMessage::Reply { reply: Reply::Demoted { .. }, .. });
    cluster.release(&mut b, two.lock);
    let other = granted(&cluster.lock(&mut c, &name, CW));
    assert!(told.iter().any(demoted) || other.is_none(), "a believes in PR, c has CW: {told:?}");
}

#[test]
fn f2_a_conversion_granted_after_its_home_gave_up() {
    let mut cluster = Cluster::of(3);
    let name = cluster.name_at(2);
    let (mut a, mut b, mut c) = (cluster.open(1, 1), cluster.open(3, 2), cluster.open(3, 3));
    let one = cluster.locked(&mut a, &name, PR);
    let two = cluster.locked(&mut b, &name, PR);
    let convert = ConvertRequest {
        lock: one.lock,
        mode: EX,
        wait: Wait::For(Span::from_secs(1)),
        flags: Flags::NONE,
        value: None,
    };
    assert!(is_queued(&cluster.ask(&mut a, Op::Convert(convert))));
    cluster.cut.insert((2, 1));
    cluster.release(&mut b, two.lock);
    cluster.pass(Span::from_millis(1_600));
    assert_eq!(cluster.told(a.conn), [], "only its master ends a conversion");
    cluster.join(2, 1);
    assert!(granted(&cluster.told(a.conn)).is_some_and(|g| g.claim == Claim::Mode(EX)));
    assert_eq!(granted(&cluster.lock(&mut c, &name, EX)), None);
}

#[test]
fn f3_a_session_that_moved_between_two_deaths() {
    let mut cluster = Cluster::of(4);
    let name = inherited(&cluster, 2, 1);
    let (mut a, mut b) = (cluster.open(3, 1), cluster.open(1, 2));
    let held = cluster.locked(&mut a, &name, EX);
    for to in [1, 2, 4] {
        cluster.cut.insert((3, to));
    }
    cluster.kill(2);
    cluster.evict(2);
    cluster.attach(&mut a, 4);
    cluster.kill(3);
    cluster.evict(3);
    let told = cluster.lock(&mut b, &name, EX);
    assert!(granted(&told).is_none(), "a holds it and is about to claim it");
    assert!(cluster.claim(&a, &name, &held).is_some());
}

#[test]
fn f4_the_end_of_claims_of_an_older_home() {
    let mut cluster = Cluster::of(4);
    let name = inherited(&cluster, 4, 1);
    let (mut a, mut b) = (cluster.open(3, 1), cluster.open(1, 2));
    let held = cluster.locked(&mut a, &name, EX);
    cluster.attach(&mut a, 2);
    let again = cluster.claim(&a, &name, &held).expect("its own");
    cluster.cut.insert((2, 1));
    cluster.say(&a, ClientMessage::ReclaimDone);
    cluster.attach(&mut a, 3);
    cluster.kill(4);
    cluster.evict(4);
    cluster.join(2, 1);
    let told = cluster.lock(&mut b, &name, EX);
    assert!(granted(&told).is_none(), "a holds it and is about to claim it");
    let grant = Grant { lock: again, ..held };
    assert!(cluster.claim(&a, &name, &grant).is_some());
}

#[test]
fn f5_a_write_with_a_release_that_was_never_sent() {
    let mut cluster = Cluster::of(4);
    let name = inherited(&cluster, 2, 3);
    let (mut a, mut b) = (cluster.open(1, 1), cluster.open(4, 2));
    let mut keeper = cluster.open(1, 3);
    cluster.locked(&mut keeper, &name, NL);
    let lock = LockRequest { flags: Flags::VALBLK, ..request(&name, EX) };
    let held = granted(&cluster.ask(&mut a, Op::Lock(lock))).expect("granted");
    cluster.kill(2);
    cluster.cut.insert((3, 1));
    cluster.evict(2);
    let release = ReleaseRequest { lock: held.lock, flags: Flags::VALBLK, value: Some(b"v") };
    let told = cluster.ask(&mut a, Op::Release { release, one_way: false });
    assert!(!is_released(&told));
    cluster.move_to(&name, 4);
    cluster.join(3, 1);
    let said = is_released(&cluster.told(a.conn));
    let read = granted(&cluster.ask(&mut b, Op::Lock(lock))).and_then(|g| g.value);
    let good = read.as_ref().is_some_and(|v| v.invalid || &v.bytes[..] == b"v");
    assert!(!said || good, "acknowledged and lost: {read:?}");
}

#[test]
fn f6_a_value_block_that_passes_a_master_in_recovery() {
    let mut cluster = Cluster::of(4);
    let name = inherited(&cluster, 2, 3);
    let (mut a, mut b) = (cluster.open(1, 1), cluster.open(4, 2));
    let mut keeper = cluster.open(1, 3);
    cluster.locked(&mut keeper, &name, NL);
    let lock = LockRequest { flags: Flags::VALBLK, ..request(&name, EX) };
    let held = granted(&cluster.ask(&mut a, Op::Lock(lock))).expect("granted");
    let write =
        ConvertRequest { lock: held.lock, mode: EX, wait: Wait::Forever, flags: Flags::VALBLK, value: Some(b"v") };
    assert!(granted(&cluster.ask(&mut a, Op::Convert(write))).is_some());
    cluster.kill(2);
    cluster.cut.insert((1, 3));
    cluster.evict(2);
    cluster.move_to(&name, 4);
    cluster.join(1, 3);
    assert!(is_released(&cluster.release(&mut a, held.lock)));
    let read = granted(&cluster.ask(&mut b, Op::Lock(lock))).and_then(|g| g.value);
    let good = read.as_ref().is_some_and(|v| v.invalid || &v.bytes[..] == b"v");
    assert!(good, "known to its holder, and lost without a word: {read:?}");
}

#[test]
fn f11_a_write_nobody_heard_of_is_not_missed_before_the_thaw() {
    let mut cluster = Cluster::of(4);
    let name = inherited(&cluster, 2, 3);
    // This one will have no home, and keeps the slot from its thaw.
    let _homeless = cluster.open(2, 2);
    let mut a = cluster.open(1, 1);
    let lock = LockRequest { flags: Flags::VALBLK, ..request(&name, EX) };
    let held = granted(&cluster.ask(&mut a, Op::Lock(lock))).expect("granted");
    let write = |value| ConvertRequest {
        lock: held.lock,
        mode: PR,
        wait: Wait::Forever,
        flags: Flags::VALBLK,
        value: Some(value),
    };
    let first = ConvertRequest { mode: EX, ..write(b"u") };
    assert!(granted(&cluster.ask(&mut a, Op::Convert(first))).is_some());
    cluster.kill(2);
    assert_eq!(granted(&cluster.ask(&mut a, Op::Convert(write(b"w")))), None);
    cluster.evict(2);
    assert!(granted(&cluster.told(a.conn)).is_some(), "a conversion down goes on in a freeze");
    let mut b = cluster.open(1, 3);
    assert!(granted(&cluster.lock(&mut b, &name, PR)).is_none(), "it is frozen");
    let told = cluster.ask(&mut a, Op::ReadValue(held.lock));
    let [ServerMessage::Reply { reply: Reply::Value(read), .. }] = &told[..] else { panic!("{told:?}") };
    assert!(read.invalid || &read.bytes[..] == b"w", "acknowledged, and not there: {read:?}");
}

#[test]
fn f7_homes_of_a_session_are_numbered_upwards() {
    let mut cluster = Cluster::of(3);
    let mut a = cluster.open(1, 1);
    let mut newest = 0;
    for node in [3, 2, 3, 1] {
        let told = cluster.attach(&mut a, node);
        let [ServerMessage::Attached(attached), ..] = &told[..] else { panic!("{told:?}") };
        assert!(attached.home > newest, "{} after {newest}", attached.home);
        newest = attached.home;
    }
}

#[test]
fn f8_a_report_of_a_home_the_session_has_left() {
    let mut cluster = Cluster::of(4);
    let name = inherited(&cluster, 2, 1);
    let (mut a, mut b) = (cluster.open(3, 1), cluster.open(1, 2));
    let held = cluster.locked(&mut a, &name, EX);
    cluster.cut.insert((3, 1));
    cluster.kill(2);
    cluster.evict(2);
    cluster.attach(&mut a, 4);
    let again = cluster.claim(&a, &name, &held).expect("its own");
    cluster.say(&a, ClientMessage::ReclaimDone);
    cluster.release_as(&a, 7, again);
    cluster.join(3, 1);
    assert!(granted(&cluster.lock(&mut b, &name, EX)).is_some(), "nobody holds it");
}

#[test]
fn f10_a_report_of_a_home_the_session_has_left_before_it_has_claimed() {
    let mut cluster = Cluster::of(4);
    let name = inherited(&cluster, 2, 1);
    let (mut a, mut b) = (cluster.open(3, 1), cluster.open(1, 2));
    let held = cluster.locked(&mut a, &name, EX);
    let other = granted(&cluster.ask(&mut a, Op::Lock(LockRequest { tag: 1, ..request(&name, NL) })));
    let other = other.expect("granted");
    cluster.cut.insert((3, 1));
    cluster.kill(2);
    cluster.evict(2);
    // Node 1 hears of the new home by its claims, sooner than by the directory.
    cluster.fall_behind(1);
    cluster.attach(&mut a, 4);
    let (tagged, sealed) = claim_of(&name, &other);
    let tagged = Reclaim { tag: 1, ..tagged };
    let told = cluster.say(&a, ClientMessage::Reclaim { id: RequestId((1 << 63) | 1), claim: tagged, sealed });
    assert!(granted(&told).is_some(), "{told:?}");
    cluster.join(3, 1);
    let told = cluster.lock(&mut b, &name, EX);
    assert!(granted(&told).is_none(), "a holds it and is about to claim it");
    cluster.catch_up(1);
    assert!(cluster.claim(&a, &name, &held).is_some());
}

#[test]
fn f9_a_timeout_of_an_answer_that_never_came_and_then_a_death() {
    let mut cluster = Cluster::of(3);
    let name = cluster.name_at(2);
    let (mut a, mut b, mut c) = (cluster.open(1, 1), cluster.open(3, 2), cluster.open(3, 3));
    let one = cluster.locked(&mut a, &name, PR);
    let two = cluster.locked(&mut b, &name, PR);
    let convert = ConvertRequest {
        lock: one.lock,
        mode: CW,
        wait: Wait::For(Span::from_secs(1)),
        flags: Flags::NONE,
        value: None,
    };
    assert!(is_queued(&cluster.ask(&mut a, Op::Convert(convert))));
    cluster.cut.insert((2, 1));
    cluster.pass(Span::from_millis(1_600));
    assert_eq!(cluster.told(a.conn), [], "only its master ends a conversion");
    cluster.kill(2);
    cluster.evict(2);
    cluster.release(&mut b, two.lock);
    // Its time was over: the heir ends it, or grants it since nothing stands against it any more.
    cluster.pass(Span::from_millis(1));
    let told = cluster.told(a.conn);
    let aware =
        |m: &ServerMessage| matches!(m, ServerMessage::Reply { reply: Reply::Demoted { .. } | Reply::Granted(_), .. });
    assert!(told.iter().any(aware), "a would believe in PR: {told:?}");
    assert!(granted(&cluster.lock(&mut c, &name, CW)).is_some());
}

#[test]
fn f15_a_writer_without_a_home_whose_slot_moves_and_who_claims_nothing() {
    let mut cluster = Cluster::of(4);
    let name = cluster.name_at(2);
    let (mut a, mut b) = (cluster.open(4, 1), cluster.open(1, 2));
    let lock = LockRequest { flags: Flags::VALBLK, ..request(&name, EX) };
    assert!(granted(&cluster.ask(&mut a, Op::Lock(lock))).is_some());
    cluster.kill(4);
    cluster.evict(4);
    cluster.move_to(&name, 3);
    assert_eq!(granted(&cluster.ask(&mut b, Op::Lock(lock))), None, "a may claim it");
    // It has released it with a value on the way, so there is nothing to claim.
    cluster.attach(&mut a, 1);
    cluster.say(&a, ClientMessage::ReclaimDone);
    let read = granted(&cluster.told(b.conn)).expect("nobody holds it").value.expect("asked for");
    assert!(read.invalid, "written or not, by one who was never asked: {read:?}");
}

#[test]
fn r12_a_master_that_applies_late_keeps_new_sessions() {
    let mut cluster = Cluster::of(3);
    let name = cluster.name_at(1);
    let mut b = cluster.open(2, 2);
    cluster.fall_behind(1);
    let mut a = cluster.open(3, 1);
    cluster.locked(&mut a, &name, EX);
    cluster.pass(Span::from_secs(9));
    assert!(granted(&cluster.lock(&mut b, &name, EX)).is_none(), "a holds it");
    cluster.catch_up(1);
    assert_eq!(cluster.told(b.conn), [], "a holds it still");
    cluster.say(&a, ClientMessage::Goodbye);
    assert!(granted(&cluster.told(b.conn)).is_some());
}

#[test]
fn r3_a_home_that_applies_late_brings_no_session_back() {
    let mut cluster = Cluster::of(3);
    let name = cluster.name_at(1);
    let mut b = cluster.open(2, 2);
    let mut a = cluster.open(3, 1);
    cluster.fall_behind(3);
    let end = Command::EndSession {
        session: a.session,
        home: cluster.state.sessions[&a.session].generation,
        why: lockstead_cluster::EndWhy::Forced,
    };
    cluster.apply(&end);
    cluster.run();
    assert_eq!(cluster.lock(&mut a, &name, EX), [], "its home does not know that it has ended");
    cluster.locked(&mut b, &name, EX);
    cluster.catch_up(3);
    assert_eq!(cluster.told(a.conn).last(), Some(&ServerMessage::Ended));
}

#[test]
fn f12_a_late_report_names_a_session_that_has_claimed_elsewhere() {
    let mut cluster = Cluster::of(4);
    let name = inherited(&cluster, 2, 3);
    let (mut a, mut b) = (cluster.open(1, 1), cluster.open(3, 2));
    cluster.attach(&mut a, 4);
    // Node 4 says that a is about to claim; before that is heard a has claimed all it has at another home.
    cluster.cut.insert((4, 3));
    cluster.kill(2);
    cluster.evict(2);
    cluster.attach(&mut a, 1);
    cluster.say(&a, ClientMessage::ReclaimDone);
    cluster.join(4, 3);
    assert!(granted(&cluster.lock(&mut b, &name, EX)).is_some(), "nobody will say again that a has claimed");
}

#[test]
fn f14_a_write_waits_until_the_former_master_says_no_more_what_was_there_before() {
    let mut cluster = Cluster::of(3);
    let name = cluster.name_at(2);
    let (mut a, mut b) = (cluster.open(1, 1), cluster.open(2, 2));
    let beside = granted(&cluster.ask(&mut b, Op::Lock(LockRequest { flags: Flags::VALBLK, ..request(&name, NL) })));
    let beside = beside.expect("granted").lock;
    let lock = LockRequest { flags: Flags::VALBLK, ..request(&name, EX) };
    let held = granted(&cluster.ask(&mut a, Op::Lock(lock))).expect("granted");
    cluster.fall_behind(2);
    cluster.move_to(&name, 3);
    let release = ReleaseRequest { lock: held.lock, flags: Flags::VALBLK, value: Some(b"v") };
    let told = cluster.ask(&mut a, Op::Release { release, one_way: false });
    let read = |told: Vec<ServerMessage>| match &told[..] {
        [ServerMessage::Reply { reply: Reply::Value(read), .. }] => read.bytes.to_vec(),
        _ => panic!("{told:?}"),
    };
    assert_eq!(read(cluster.ask(&mut b, Op::ReadValue(beside))), b"", "node 2 has not heard that it is master no more");
    assert!(!is_released(&told), "b has just read what was there before");
    cluster.catch_up(2);
    assert!(is_released(&cluster.told(a.conn)));
    assert_eq!(read(cluster.ask(&mut b, Op::ReadValue(beside))), b"v");
}

#[test]
fn f16_a_conversion_nobody_heard_of_and_then_both_its_slot_and_its_home_move() {
    let mut cluster = Cluster::of(3);
    let name = cluster.name_at(2);
    let mut a = cluster.open(1, 1);
    let lock = LockRequest { owner: OwnerRef::Alone, ..request(&name, PR) };
    let heard = granted(&cluster.ask(&mut a, Op::Lock(lock))).expect("granted");
    let unheard = granted(&cluster.convert(&mut a, heard.lock, EX)).expect("granted");
    let mut claims = |cluster: &mut Cluster, node: u16| {
        cluster.attach(&mut a, node);
        let (claim, sealed) = claim_of(&name, &heard);
        let claim = Reclaim { alone: true, ..claim };
        granted(&cluster.say(&a, ClientMessage::Reclaim { id: RequestId(1 << 63), claim, sealed }))
            .map(|grant| grant.token)
    };
    cluster.move_to(&name, 3);
    assert!(claims(&mut cluster, 2) >= Some(unheard.token), "it is the same lock");
    // Nor does it hear of that, and both move again.
    cluster.move_to(&name, 1);
    assert!(claims(&mut cluster, 3) >= Some(unheard.token), "it is still the same");
}

#[test]
fn f17_a_conversion_that_was_reported_and_granted_unheard() {
    let mut cluster = Cluster::of(4);
    let name = inherited(&cluster, 4, 3);
    let (mut a, mut b) = (cluster.open(1, 1), cluster.open(2, 2));
    let alone = |mode| LockRequest { owner: OwnerRef::Alone, ..request(&name, mode) };
    let heard = granted(&cluster.ask(&mut a, Op::Lock(alone(PR)))).expect("granted");
    let beside = cluster.locked(&mut b, &name, PR);
    assert!(is_queued(&cluster.convert(&mut a, heard.lock, EX)));
    cluster.kill(4);
    cluster.evict(4);
    cluster.release(&mut b, beside.lock);
    // Its answer is not heard: a goes to another home.
    cluster.attach(&mut a, 2);
    let (claim, sealed) = claim_of(&name, &heard);
    let claim = Reclaim { alone: true, ..claim };
    let told = cluster.say(&a, ClientMessage::Reclaim { id: RequestId(1 << 63), claim, sealed });
    assert!(granted(&told).is_some(), "it is the same lock: {told:?}");
}

#[test]
fn f18_a_session_goes_on_with_a_home_that_has_not_heard_that_it_left() {
    let mut cluster = Cluster::of(3);
    let name = cluster.name_at(2);
    let mut a = cluster.open(1, 1);
    cluster.locked(&mut a, &name, EX);
    cluster.fall_behind(1);
    // Node 3 is its home now. It did not wait for the answer, and is back at node 1, which acts for as long as it may.
    cluster.attach(&mut a.clone(), 3);
    cluster.attach(&mut a, 1);
    cluster.pass(STALENESS.less(Span::from_millis(1)));
    let renewed = cluster.say(&a, ClientMessage::Renew { seq: 1 });
    assert_eq!(renewed, [ServerMessage::Renewed { seq: 1 }], "it may act still");
    cluster.pass(TTL.scaled(1, 2));
    let mut b = cluster.open(2, 2);
    assert!(is_queued(&cluster.lock(&mut b, &name, EX)));
    cluster.pass(TTL.scaled(1, 2).less(Span::from_millis(1)));
    assert_eq!(cluster.told(b.conn), [], "a counts on its lock until now");
    cluster.pass(Span::from_millis(2));
    assert!(granted(&cluster.told(b.conn)).is_some(), "nobody comes for it");
}

#[test]
fn f19_a_writer_whose_home_dies_before_it_has_told_the_new_master() {
    let mut cluster = Cluster::of(4);
    let name = cluster.name_at(2);
    let (mut a, mut b) = (cluster.open(4, 1), cluster.open(1, 2));
    let lock = LockRequest { flags: Flags::VALBLK, ..request(&name, EX) };
    let held = granted(&cluster.ask(&mut a, Op::Lock(lock))).expect("granted");
    let write = Some(&b"old"[..]);
    let write = ConvertRequest { lock: held.lock, mode: EX, wait: Wait::Never, flags: Flags::VALBLK, value: write };
    assert!(granted(&cluster.ask(&mut a, Op::Convert(write))).is_some());
    cluster.fall_behind(4);
    cluster.move_to(&name, 3);
    assert_eq!(granted(&cluster.ask(&mut b, Op::Lock(lock))), None, "node 4 has not reported");
    cluster.kill(4);
    cluster.evict(4);
    // It has released it with a value that reached nobody, so there is nothing to claim.
    cluster.attach(&mut a, 1);
    cluster.say(&a, ClientMessage::ReclaimDone);
    let read = granted(&cluster.told(b.conn)).expect("nobody holds it").value.expect("asked for");
    assert!(read.invalid, "written or not, by one who was never asked: {read:?}");
}

#[test]
fn f20_a_lock_has_the_token_that_another_one_had() {
    let mut cluster = Cluster::of(3);
    let (x, y) = (cluster.name_at(2), cluster.name_at(3));
    let mut a = cluster.open(1, 1);
    let alone = |name| LockRequest { owner: OwnerRef::Alone, ..request(name, PR) };
    // Asked of both masters at once: each numbers for itself.
    let told = cluster.ask_at_once(&mut a, [Op::Lock(alone(&x)), Op::Lock(alone(&y))]);
    let told: Vec<Grant> = told.iter().filter_map(|m| granted(core::slice::from_ref(m))).collect();
    let [held_x, held_y] = &told[..] else { panic!("{told:?}") };
    assert_eq!(held_x.token, held_y.token);
    assert!(granted(&cluster.convert(&mut a, held_x.lock, EX)).is_some());
    cluster.move_to(&y, 2);
    cluster.attach(&mut a, 3);
    let (claim, sealed) = claim_of(&y, held_y);
    let claim = Reclaim { alone: true, ..claim };
    let told = cluster.say(&a, ClientMessage::Reclaim { id: RequestId(1 << 63), claim, sealed });
    assert_eq!(granted(&told).map(|grant| grant.token), Some(held_y.token), "{told:?}");
}

#[test]
fn f21_a_home_tells_late_of_a_writer_that_has_gone_on() {
    let mut cluster = Cluster::of(4);
    let name = cluster.name_at(2);
    let (mut a, mut b) = (cluster.open(4, 1), cluster.open(1, 2));
    let lock = LockRequest { flags: Flags::VALBLK, ..request(&name, EX) };
    let held = granted(&cluster.ask(&mut a, Op::Lock(lock))).expect("granted");
    let (lock, wait, flags) = (held.lock, Wait::Never, Flags::VALBLK);
    let write = ConvertRequest { lock, mode: EX, wait, flags, value: Some(b"old") };
    assert!(granted(&cluster.ask(&mut a, Op::Convert(write))).is_some());
    cluster.fall_behind(4);
    cluster.move_to(&name, 3);
    // It gives up its right to write, with a value, by a message that is lost, and goes to another home. So it claims what is left.
    cluster.attach(&mut a, 1);
    let (claim, sealed) = claim_of(&name, &held);
    let claim = Reclaim { held: Claim::Mode(PR), ..claim };
    assert!(granted(&cluster.say(&a, ClientMessage::Reclaim { id: RequestId(1 << 63), claim, sealed })).is_some());
    cluster.say(&a, ClientMessage::ReclaimDone);
    cluster.catch_up(4);
    let read = LockRequest { flags: Flags::VALBLK, ..request(&name, PR) };
    let read = granted(&cluster.ask(&mut b, Op::Lock(read))).expect("beside a").value.expect("asked for");
    assert!(read.invalid, "written or not: {read:?}");
}

#[test]
fn f22_a_writer_that_claims_nothing_and_somebody_who_waits_behind_it() {
    let mut cluster = Cluster::of(4);
    let name = inherited(&cluster, 2, 3);
    let (mut a, mut b) = (cluster.open(2, 1), cluster.open(1, 2));
    let lock = LockRequest { flags: Flags::VALBLK, ..request(&name, EX) };
    assert!(granted(&cluster.ask(&mut a, Op::Lock(lock))).is_some());
    // Its home is the master: both die at once.
    cluster.kill(2);
    cluster.evict(2);
    assert_eq!(granted(&cluster.ask(&mut b, Op::Lock(lock))), None, "a may claim it");
    // It has released it with a value on the way, so there is nothing to claim.
    cluster.attach(&mut a, 1);
    cluster.say(&a, ClientMessage::ReclaimDone);
    let read = granted(&cluster.told(b.conn)).expect("nobody holds it").value.expect("asked for");
    assert!(read.invalid, "written or not, by one who was never asked: {read:?}");
    let mut c = cluster.open(3, 3);
    let fresh = LockRequest { flags: Flags::VALBLK, ..request(b"fresh", EX) };
    let read = granted(&cluster.ask(&mut c, Op::Lock(fresh))).expect("granted").value.expect("asked for");
    assert!(!read.invalid, "who comes after the thaw finds no lock there: {read:?}");
}
