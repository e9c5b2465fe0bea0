//! Persistent lockspaces: value blocks outlive every holder and every node, and nobody is told what might be forgotten.

use lockstead_cluster::{Command, EndWhy};
use lockstead_types::{
    Flags, NodeId, RequestId, Slot, SpaceId, Span,
    message::{ClientMessage, Reclaim, ServerMessage},
    reply::{Grant, Reply, Value},
    request::{Claim, ConvertRequest, LockRequest, Op, ReleaseRequest, Wait},
    space::SpaceSpec,
};

use crate::rig::{Client, Cluster, EX, PR, claim_of, granted, is_queued, is_released, refusal, request};

const NAME: &[u8] = b"disk";

fn persistent(cluster: &mut Cluster) -> SpaceId {
    let mut client = cluster.open(1, 1_000);
    let spec = SpaceSpec { persistent: true, ..SpaceSpec::named("kept") };
    let told = cluster.ask(&mut client, Op::SpaceCreate(Box::new(spec)));
    cluster.say(&client, ClientMessage::Goodbye);
    match &told[..] {
        [ServerMessage::Reply { reply: Reply::Space(info), .. }] => info.space,
        _ => panic!("{told:?}"),
    }
}

fn lock(cluster: &mut Cluster, client: &mut Client, space: SpaceId, mode: lockstead_types::Mode) -> Vec<ServerMessage> {
    cluster.ask(client, Op::Lock(LockRequest { space, flags: Flags::VALBLK, ..request(NAME, mode) }))
}

fn locked(cluster: &mut Cluster, client: &mut Client, space: SpaceId, mode: lockstead_types::Mode) -> Grant {
    let told = lock(cluster, client, space, mode);
    granted(&told).unwrap_or_else(|| panic!("{told:?}"))
}

fn leave(cluster: &mut Cluster, client: &mut Client, grant: &Grant, value: Option<&[u8]>) {
    let release = ReleaseRequest { lock: grant.lock, flags: Flags::VALBLK, value };
    assert!(is_released(&cluster.ask(client, Op::Release { release, one_way: false })));
}

fn value(text: &[u8], invalid: bool) -> Option<Value> {
    Some(Value { bytes: text.into(), invalid })
}

/// All nodes die at once, and come back.
fn all_die(cluster: &mut Cluster) {
    (1..=3).for_each(|node| cluster.kill(node));
    (1..=3).for_each(|node| cluster.start(node));
}

#[test]
fn what_may_write_is_told_once_it_is_kept() {
    let mut cluster = Cluster::of(3);
    let space = persistent(&mut cluster);
    let (mut a, mut b, mut c) = (cluster.open(1, 1), cluster.open(2, 2), cluster.open(3, 3));
    cluster.stall();
    let read = locked(&mut cluster, &mut a, space, PR);
    leave(&mut cluster, &mut a, &read, None);
    assert_eq!(lock(&mut cluster, &mut a, space, EX), [], "not before it is agreed on");
    assert!(is_queued(&lock(&mut cluster, &mut b, space, EX)));
    assert_eq!(cluster.told(a.conn), [], "nor that somebody waits for it");
    cluster.go_on();
    let told = cluster.told(a.conn);
    let held = granted(&told).expect("now");
    assert!(matches!(told.last(), Some(ServerMessage::Notice(_))), "the notice comes after it: {told:?}");
    cluster.stall();
    let release = ReleaseRequest { lock: held.lock, flags: Flags::VALBLK, value: Some(b"state") };
    assert_eq!(cluster.ask(&mut a, Op::Release { release, one_way: false }), []);
    assert_eq!(cluster.told(b.conn), [], "the next holder might read what is forgotten");
    cluster.go_on();
    assert!(is_released(&cluster.told(a.conn)));
    let next = granted(&cluster.told(b.conn)).expect("its turn");
    assert_eq!(next.value, value(b"state", false));
    // A lock elsewhere is not held up.
    cluster.stall();
    assert!(granted(&cluster.lock(&mut c, b"elsewhere", EX)).is_some());
    cluster.go_on();
}

#[test]
fn what_changes_again_is_not_told_with_what_changed_first() {
    let mut cluster = Cluster::of(3);
    let space = persistent(&mut cluster);
    let (mut a, mut b, mut c) = (cluster.open(1, 1), cluster.open(2, 2), cluster.open(3, 3));
    let held = locked(&mut cluster, &mut a, space, EX);
    let null =
        granted(&cluster.ask(
            &mut c,
            Op::Lock(LockRequest { space, flags: Flags::VALBLK, ..request(NAME, lockstead_types::Mode(0)) }),
        ));
    let null = null.expect("beside it").lock;
    cluster.stall();
    let release = ReleaseRequest { lock: held.lock, flags: Flags::VALBLK, value: Some(b"state") };
    assert_eq!(cluster.ask(&mut a, Op::Release { release, one_way: false }), []);
    assert_eq!(cluster.ask(&mut c, Op::ReadValue(null)), [], "it may be forgotten yet");
    assert_eq!(lock(&mut cluster, &mut b, space, EX), []);
    cluster.agree_once();
    assert!(is_released(&cluster.told(a.conn)));
    let told = cluster.told(c.conn);
    assert!(
        matches!(&told[..], [ServerMessage::Reply { reply: Reply::Value(read), .. }] if &read.bytes[..] == b"state")
    );
    assert_eq!(cluster.told(b.conn), [], "that somebody may write is not agreed on");
    cluster.go_on();
    assert_eq!(granted(&cluster.told(b.conn)).expect("now").value, value(b"state", false));
}

#[test]
fn a_value_outlives_all_locks_and_all_nodes() {
    let mut cluster = Cluster::of(3);
    let space = persistent(&mut cluster);
    let (mut a, mut b) = (cluster.open(1, 1), cluster.open(2, 2));
    let held = locked(&mut cluster, &mut a, space, EX);
    assert_eq!(held.value, value(b"", false));
    leave(&mut cluster, &mut a, &held, Some(b"state"));
    let read = locked(&mut cluster, &mut b, space, PR);
    assert_eq!(read.value, value(b"state", false), "though no lock was left");
    leave(&mut cluster, &mut b, &read, None);
    cluster.say(&a, ClientMessage::Goodbye);
    cluster.say(&b, ClientMessage::Goodbye);
    all_die(&mut cluster);
    let mut c = cluster.open(3, 3);
    assert_eq!(locked(&mut cluster, &mut c, space, PR).value, value(b"state", false));
}

#[test]
fn a_lost_writer_leaves_the_value_dubious_until_it_is_written() {
    let mut cluster = Cluster::of(3);
    let space = persistent(&mut cluster);
    let mut a = cluster.open(1, 1);
    let held = locked(&mut cluster, &mut a, space, EX);
    leave(&mut cluster, &mut a, &held, Some(b"state"));
    locked(&mut cluster, &mut a, space, EX);
    // The writer and all nodes die at once.
    all_die(&mut cluster);
    let home = cluster.state.sessions[&a.session].generation;
    cluster.apply(&Command::EndSession { session: a.session, home, why: EndWhy::Expired });
    cluster.run();
    let mut b = cluster.open(2, 2);
    let read = locked(&mut cluster, &mut b, space, PR);
    assert_eq!(read.value, value(b"state", true));
    leave(&mut cluster, &mut b, &read, None);
    cluster.say(&b, ClientMessage::Goodbye);
    all_die(&mut cluster);
    let mut c = cluster.open(3, 3);
    let held = locked(&mut cluster, &mut c, space, EX);
    assert_eq!(held.value, value(b"state", true), "still, however many die");
    let down =
        ConvertRequest { lock: held.lock, mode: PR, wait: Wait::Never, flags: Flags::VALBLK, value: Some(b"checked") };
    assert!(granted(&cluster.ask(&mut c, Op::Convert(down))).is_some());
    cluster.say(&c, ClientMessage::Goodbye);
    all_die(&mut cluster);
    let mut d = cluster.open(1, 4);
    assert_eq!(locked(&mut cluster, &mut d, space, PR).value, value(b"checked", false), "who may write clears it");
}

#[test]
fn a_move_takes_what_is_kept_along() {
    let mut cluster = Cluster::of(3);
    let space = persistent(&mut cluster);
    let mut a = cluster.open(1, 1);
    let held = locked(&mut cluster, &mut a, space, EX);
    leave(&mut cluster, &mut a, &held, Some(b"state"));
    let slot = Slot::of(7, space, NAME);
    for to in [1, 2, 3, 1] {
        let entry = cluster.state.slots[usize::from(slot.0)];
        if entry.master != NodeId(to) {
            cluster.apply(&Command::Move { slots: vec![(slot, entry.generation, NodeId(to))] });
            cluster.run();
        }
        let read = locked(&mut cluster, &mut a, space, PR);
        assert_eq!(read.value, value(b"state", false));
        leave(&mut cluster, &mut a, &read, None);
    }
}

#[test]
fn a_dropped_lockspace_keeps_nothing() {
    let mut cluster = Cluster::of(2);
    let space = persistent(&mut cluster);
    let mut a = cluster.open(1, 1);
    let held = locked(&mut cluster, &mut a, space, EX);
    leave(&mut cluster, &mut a, &held, Some(b"state"));
    assert_eq!(cluster.state.kept.len(), 1);
    let told = cluster.ask(&mut a, Op::SpaceDrop { name: "kept", force: false });
    assert_eq!(refusal(&told), None, "no lock is in it: {told:?}");
    assert!(cluster.state.kept.is_empty());
}

#[test]
fn a_value_longer_than_is_kept_is_refused() {
    let mut cluster = Cluster::of(2);
    let mut a = cluster.open(1, 1);
    let long = SpaceSpec { persistent: true, value_bytes: 1_025, ..SpaceSpec::named("long") };
    let told = cluster.ask(&mut a, Op::SpaceCreate(Box::new(long)));
    assert_eq!(refusal(&told), Some(lockstead_types::refusal::Refusal::TooLong));
}

#[test]
fn a_write_that_was_not_agreed_on_when_its_slot_moved_is_made_by_the_new_master() {
    let mut cluster = Cluster::of(3);
    let space = persistent(&mut cluster);
    let slot = Slot::of(7, space, NAME);
    let mut a = cluster.open(1, 1);
    let first = locked(&mut cluster, &mut a, space, EX);
    leave(&mut cluster, &mut a, &first, Some(b"old"));
    let held = locked(&mut cluster, &mut a, space, EX);
    cluster.stall();
    let release = ReleaseRequest { lock: held.lock, flags: Flags::VALBLK, value: Some(b"new") };
    assert_eq!(cluster.ask(&mut a, Op::Release { release, one_way: false }), [], "it is not agreed on");
    let entry = cluster.state.slots[usize::from(slot.0)];
    let to = if entry.master == NodeId(2) { 3 } else { 2 };
    cluster.apply(&Command::Move { slots: vec![(slot, entry.generation, NodeId(to))] });
    cluster.go_on();
    cluster.pass(Span::from_millis(1));
    let told = cluster.told(a.conn);
    assert!(is_released(&told), "asked again of the new master: {told:?}");
    let mut b = cluster.open(2, 2);
    assert_eq!(locked(&mut cluster, &mut b, space, PR).value, value(b"new", false), "nobody died");
}

#[test]
fn a_write_that_was_not_agreed_on_when_slot_and_session_moved_is_in_doubt() {
    let mut cluster = Cluster::of(3);
    let space = persistent(&mut cluster);
    let slot = Slot::of(7, space, NAME);
    let entry = cluster.state.slots[usize::from(slot.0)];
    let (from, to) = (entry.master.0, entry.master.0 % 3 + 1);
    let mut a = cluster.open(from, 1);
    let first = locked(&mut cluster, &mut a, space, EX);
    leave(&mut cluster, &mut a, &first, Some(b"old"));
    let held = locked(&mut cluster, &mut a, space, EX);
    // Its home is the master too, and hears no more of what is agreed on. The client has gone on by the time its release arrives there.
    cluster.fall_behind(from);
    let mut gone = a.clone();
    cluster.attach(&mut gone, to);
    cluster.stall();
    let release = ReleaseRequest { lock: held.lock, flags: Flags::VALBLK, value: Some(b"new") };
    cluster.ask(&mut a, Op::Release { release, one_way: false });
    cluster.apply(&Command::Move { slots: vec![(slot, entry.generation, NodeId(to))] });
    cluster.go_on();
    cluster.catch_up(from);
    // It claims nothing, since it has released all.
    cluster.say(&gone, ClientMessage::ReclaimDone);
    let mut b = cluster.open(to, 2);
    assert_eq!(locked(&mut cluster, &mut b, space, PR).value, value(b"old", true));
}

#[test]
fn a_write_that_was_not_agreed_on_and_whose_home_dies_before_it_asks_again_is_in_doubt() {
    let mut cluster = Cluster::of(4);
    let space = persistent(&mut cluster);
    let slot = Slot::of(7, space, NAME);
    let entry = cluster.state.slots[usize::from(slot.0)];
    let [home, to, other] = [1, 2, 3].map(|step| (entry.master.0 + step - 1) % 4 + 1);
    let mut a = cluster.open(home, 1);
    let first = locked(&mut cluster, &mut a, space, EX);
    leave(&mut cluster, &mut a, &first, Some(b"old"));
    let held = locked(&mut cluster, &mut a, space, EX);
    cluster.stall();
    let down =
        ConvertRequest { lock: held.lock, mode: PR, wait: Wait::Never, flags: Flags::VALBLK, value: Some(b"new") };
    assert_eq!(cluster.ask(&mut a, Op::Convert(down)), [], "it is not agreed on");
    // The home hears no more of what is agreed on: it could ask again, and does not.
    cluster.fall_behind(home);
    cluster.apply(&Command::Move { slots: vec![(slot, entry.generation, NodeId(to))] });
    cluster.go_on();
    cluster.kill(home);
    cluster.evict(home);
    cluster.attach(&mut a, other);
    let claim = Reclaim { space, held: Claim::Mode(PR), ..claim_of(NAME, &held).0 };
    let sealed = claim_of(NAME, &held).1;
    let told = cluster.say(&a, ClientMessage::Reclaim { id: RequestId(1 << 63), claim, sealed });
    let again = granted(&told).expect("taken back as it was lowered");
    cluster.say(&a, ClientMessage::ReclaimDone);
    let down = ConvertRequest { lock: again.lock, ..down };
    let told = cluster.ask(&mut a, Op::Convert(down));
    assert_eq!(granted(&told).expect("it writes nothing from there").value, value(b"old", true));
    let mut b = cluster.open(to, 2);
    assert_eq!(locked(&mut cluster, &mut b, space, PR).value, value(b"old", true));
}

#[test]
fn a_write_that_was_not_agreed_on_when_its_session_ended_and_its_slot_moved_is_in_doubt() {
    let mut cluster = Cluster::of(3);
    let space = persistent(&mut cluster);
    let slot = Slot::of(7, space, NAME);
    let entry = cluster.state.slots[usize::from(slot.0)];
    let [home, to] = [1, 2].map(|step| (entry.master.0 + step - 1) % 3 + 1);
    let mut a = cluster.open(home, 1);
    let first = locked(&mut cluster, &mut a, space, EX);
    leave(&mut cluster, &mut a, &first, Some(b"old"));
    let held = locked(&mut cluster, &mut a, space, EX);
    cluster.stall();
    let release = ReleaseRequest { lock: held.lock, flags: Flags::VALBLK, value: Some(b"new") };
    assert_eq!(cluster.ask(&mut a, Op::Release { release, one_way: false }), [], "it is not agreed on");
    let generation = cluster.state.sessions[&a.session].generation;
    cluster.apply(&Command::EndSession { session: a.session, home: generation, why: EndWhy::Expired });
    cluster.run();
    cluster.apply(&Command::Move { slots: vec![(slot, entry.generation, NodeId(to))] });
    cluster.go_on();
    let mut b = cluster.open(to, 2);
    assert_eq!(locked(&mut cluster, &mut b, space, PR).value, value(b"old", true), "nobody asks for it again");
}

#[test]
fn who_gave_up_its_right_to_write_and_wrote_nothing_is_not_missed() {
    let mut cluster = Cluster::of(3);
    let space = persistent(&mut cluster);
    let slot = Slot::of(7, space, NAME);
    let mut a = cluster.open(1, 1);
    let first = locked(&mut cluster, &mut a, space, EX);
    leave(&mut cluster, &mut a, &first, Some(b"old"));
    let held = locked(&mut cluster, &mut a, space, EX);
    cluster.stall();
    let release = ReleaseRequest { lock: held.lock, flags: Flags::NONE, value: None };
    cluster.ask(&mut a, Op::Release { release, one_way: true });
    let entry = cluster.state.slots[usize::from(slot.0)];
    let to = if entry.master == NodeId(2) { 3 } else { 2 };
    cluster.apply(&Command::Move { slots: vec![(slot, entry.generation, NodeId(to))] });
    cluster.go_on();
    let mut b = cluster.open(2, 2);
    assert_eq!(locked(&mut cluster, &mut b, space, PR).value, value(b"old", false), "nobody died");
}

#[test]
fn a_proposal_that_comes_twice_is_not_taken_for_news() {
    let mut cluster = Cluster::of(3);
    let space = persistent(&mut cluster);
    let mut a = cluster.open(1, 1);
    let first = locked(&mut cluster, &mut a, space, EX);
    cluster.stall();
    let release = ReleaseRequest { lock: first.lock, flags: Flags::VALBLK, value: Some(b"old") };
    cluster.ask(&mut a, Op::Release { release, one_way: false });
    let late = cluster.agree_once();
    cluster.go_on();
    let second = locked(&mut cluster, &mut a, space, EX);
    leave(&mut cluster, &mut a, &second, Some(b"new"));
    cluster.apply(&late);
    cluster.say(&a, ClientMessage::Goodbye);
    all_die(&mut cluster);
    let mut b = cluster.open(2, 2);
    assert_eq!(locked(&mut cluster, &mut b, space, PR).value, value(b"new", false));
}

#[test]
fn a_lost_writer_is_remembered_when_its_slot_moves_before_that_is_agreed_on() {
    let mut cluster = Cluster::of(3);
    let space = persistent(&mut cluster);
    let slot = Slot::of(7, space, NAME);
    let mut a = cluster.open(1, 1);
    let first = locked(&mut cluster, &mut a, space, EX);
    leave(&mut cluster, &mut a, &first, Some(b"old"));
    locked(&mut cluster, &mut a, space, EX);
    // It releases it with a value on the way, and claims nothing when it comes back.
    all_die(&mut cluster);
    let mut b = cluster.open(2, 2);
    cluster.attach(&mut a, 3);
    cluster.stall();
    lock(&mut cluster, &mut b, space, EX);
    cluster.say(&a, ClientMessage::ReclaimDone);
    assert_eq!(cluster.told(b.conn), [], "that the value is dubious is not agreed on");
    let entry = cluster.state.slots[usize::from(slot.0)];
    cluster.apply(&Command::Move { slots: vec![(slot, entry.generation, NodeId(entry.master.0 % 3 + 1))] });
    cluster.go_on();
    assert_eq!(granted(&cluster.told(b.conn)).expect("nobody holds it").value, value(b"old", true));
}

#[test]
fn a_writer_that_ends_before_that_is_agreed_on_is_not_missed_by_who_waited_behind_it() {
    let mut cluster = Cluster::of(3);
    let space = persistent(&mut cluster);
    let slot = Slot::of(7, space, NAME);
    let (mut a, mut b) = (cluster.open(1, 1), cluster.open(2, 2));
    let first = locked(&mut cluster, &mut a, space, EX);
    leave(&mut cluster, &mut a, &first, Some(b"old"));
    locked(&mut cluster, &mut a, space, EX);
    assert!(is_queued(&lock(&mut cluster, &mut b, space, EX)));
    cluster.stall();
    let home = cluster.state.sessions[&a.session].generation;
    cluster.apply(&Command::EndSession { session: a.session, home, why: EndWhy::Expired });
    cluster.run();
    assert_eq!(cluster.told(b.conn), [], "that the value is dubious is not agreed on");
    let entry = cluster.state.slots[usize::from(slot.0)];
    cluster.apply(&Command::Move { slots: vec![(slot, entry.generation, NodeId(entry.master.0 % 3 + 1))] });
    cluster.go_on();
    assert_eq!(granted(&cluster.told(b.conn)).expect("nobody holds it").value, value(b"old", true));
}

#[test]
fn what_is_written_before_the_thaw_is_told_once_it_is_kept() {
    let mut cluster = Cluster::of(4);
    let space = persistent(&mut cluster);
    let slot = Slot::of(7, space, NAME);
    let master = cluster.state.slots[usize::from(slot.0)].master.0;
    let home = master % 4 + 1;
    // This one has no home, and keeps the slot from its thaw.
    let homeless = cluster.open(master, 2);
    let mut a = cluster.open(home, 1);
    let held = locked(&mut cluster, &mut a, space, EX);
    cluster.kill(master);
    cluster.evict(master);
    cluster.stall();
    let down =
        ConvertRequest { lock: held.lock, mode: PR, wait: Wait::Never, flags: Flags::VALBLK, value: Some(b"new") };
    assert_eq!(cluster.ask(&mut a, Op::Convert(down)), [], "it may be forgotten yet");
    let entry = cluster.state.slots[usize::from(slot.0)];
    let to = (1..=4).find(|node| ![master, entry.master.0].contains(node)).expect("four nodes");
    cluster.apply(&Command::Move { slots: vec![(slot, entry.generation, NodeId(to))] });
    cluster.go_on();
    cluster.pass(Span::from_millis(1));
    assert!(granted(&cluster.told(a.conn)).is_some(), "asked again of the new master");
    let kept = &cluster.state.kept[&space][NAME];
    assert_eq!((&kept.value[..], kept.dubious), (&b"new"[..], false), "in the freeze, too");
    assert!(kept.written, "who has no home may hold it");
    let generation = cluster.state.sessions[&homeless.session].generation;
    cluster.apply(&Command::EndSession { session: homeless.session, home: generation, why: EndWhy::Expired });
    cluster.run();
    assert!(!cluster.state.kept[&space][NAME].written, "nobody does");
    let mut b = cluster.open(to, 3);
    assert_eq!(locked(&mut cluster, &mut b, space, PR).value, value(b"new", false));
}
