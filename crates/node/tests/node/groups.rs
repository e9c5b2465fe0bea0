//! Groups: members share locks without queueing.

use lockstead_node::Input;
use lockstead_types::{
    Flags, GroupId, Limits, SpaceId, Span,
    limits::LimitName,
    message::{ClientMessage, ServerMessage},
    refusal::Refusal,
    reply::{Notice, Reply, Revoked, Value},
    request::{ConvertRequest, LockRequest, Op, OwnerRef, ReleaseRequest, Target, Wait},
};

use crate::rig::*;

const NAME: &[u8] = b"team";

fn join(rig: &mut Rig, seat: &mut Seat) -> GroupId {
    match rig.reply(seat, Op::GroupAttach { name: NAME }) {
        Reply::Group(group) => group,
        other => panic!("not attached: {other:?}"),
    }
}

/// Two members and a stranger.
fn team() -> (Rig, GroupId, Seat, Seat, Seat) {
    let mut rig = Rig::new();
    let (mut a, mut b, c) = (rig.local(1), rig.local(2), rig.local(3));
    let group = join(&mut rig, &mut a);
    assert_eq!(join(&mut rig, &mut b), group);
    (rig, group, a, b, c)
}

#[test]
fn members_share_and_the_last_user_releases() {
    let (mut rig, group, mut a, mut b, mut c) = team();
    let first = rig.granted(&mut a, group_lock(group, "x", EX, Wait::Never));
    rig.queued(&mut c, lock("x", EX));
    let out = rig.ask(&mut b, group_lock(group, "x", PR, Wait::Never));
    let [(_, Reply::Granted(second))] = &replies(&out, b.conn)[..] else { panic!("{out:?}") };
    assert_eq!((second.lock, second.token, second.claim), (first.lock, first.token, EX), "past who waits");
    let Reply::Granted(again) = rig.reply(&mut b, group_lock(group, "x", EX, Wait::Never)) else { panic!("its own") };
    assert_eq!(again.lock, first.lock);
    assert_eq!(rig.reply(&mut a, release(first.lock)), Reply::Released);
    assert_eq!(rig.refused(&mut a, release(first.lock)), Refusal::NotHeld);
    assert_eq!(rig.reply(&mut b, release(first.lock)), Reply::Released);
    let out = rig.ask(&mut b, release(first.lock));
    assert!(matches!(&replies(&out, c.conn)[..], [(_, Reply::Granted(_))]), "asked twice, released twice");
}

#[test]
fn only_members_use_a_groups_locks() {
    let (mut rig, group, mut a, mut b, mut c) = team();
    let held = rig.granted(&mut a, group_lock(group, "x", EX, Wait::Never));
    assert_eq!(rig.refused(&mut c, group_lock(group, "x", EX, Wait::Never)), Refusal::NotHeld);
    assert_eq!(rig.refused(&mut c, release(held.lock)), Refusal::NotHeld);
    assert_eq!(rig.refused(&mut b, release(held.lock)), Refusal::NotHeld, "a member that does not use it");
    assert_eq!(rig.refused(&mut b, Op::ReadValue(held.lock)), Refusal::NotHeld);
    assert_eq!(rig.refused(&mut c, Op::GroupDetach(group)), Refusal::NotHeld);
    assert_eq!(join(&mut rig, &mut a), group, "attaching twice is attaching once");
}

#[test]
fn users_are_told_whom_they_block() {
    let (mut rig, group, mut a, mut b, mut c) = team();
    let held = rig.granted(&mut a, group_lock(group, "x", EX, Wait::Never));
    rig.granted(&mut b, group_lock(group, "x", EX, Wait::Never));
    let mut d = rig.local(4);
    join(&mut rig, &mut d);
    let out = rig.ask(&mut c, lock("x", PR));
    let notice = Notice::Blocking { lock: held.lock, claim: PR };
    assert_eq!(notices(&out, a.conn), core::slice::from_ref(&notice));
    assert_eq!(notices(&out, b.conn), core::slice::from_ref(&notice));
    assert_eq!(notices(&out, d.conn), [], "a member that does not use it");
    rig.handle(Input::Cut { conn: b.conn, why: lockstead_types::message::Rejection::SlowReader });
    let conn = rig.greet(true);
    let out = rig.say(conn, attach(b.session, 0));
    assert!(matches!(&sent(&out)[0], ServerMessage::Attached(a) if a.groups == [group]));
    assert_eq!(notices(&out, conn), [notice]);
}

#[test]
fn members_wait_together_each_as_long_as_it_likes() {
    let (mut rig, group, mut a, mut b, mut c) = team();
    let held = rig.granted(&mut c, lock("x", EX));
    let lock = rig.queued(&mut a, group_lock(group, "x", EX, Wait::For(Span::from_secs(2))));
    assert_eq!(rig.queued(&mut b, group_lock(group, "x", PR, Wait::Forever)), lock);
    assert_eq!(rig.refused(&mut b, group_lock(group, "x", PR, Wait::Never)), Refusal::WouldWait);
    let out = rig.advance(Span::from_secs(2));
    assert_eq!(replies(&out, a.conn), [(2, Reply::Refused(Refusal::Timeout))]);
    assert_eq!(replies(&out, b.conn), [], "b waits on");
    rig.queued(&mut a, group_lock(group, "x", EX, Wait::Forever));
    let out = rig.ask(&mut c, release(held.lock));
    assert!(matches!(&replies(&out, a.conn)[..], [(3, Reply::Granted(g))] if g.lock == lock));
    assert!(matches!(&replies(&out, b.conn)[..], [(2, Reply::Granted(g))] if g.lock == lock));
}

#[test]
fn the_last_to_stop_waiting_leaves_the_queue() {
    let (mut rig, group, mut a, mut b, mut c) = team();
    let held = rig.granted(&mut c, lock("x", EX));
    let lock = rig.queued(&mut a, group_lock(group, "x", EX, Wait::For(Span::from_secs(2))));
    rig.queued(&mut b, group_lock(group, "x", EX, Wait::For(Span::from_secs(3))));
    let out = rig.ask(&mut a, cancel(2));
    assert_eq!(replies(&out, a.conn), [(2, Reply::Cancelled), (3, Reply::Cancelled)]);
    assert_eq!(rig.refused(&mut a, Op::Cancel(Target::Lock(lock))), Refusal::NotHeld);
    rig.advance(Span::from_secs(3));
    assert_eq!(rig.node.status(rig.now).waiting, 0);
    rig.queued(&mut a, group_lock(group, "x", EX, Wait::Forever));
    let lock = rig.queued(&mut b, group_lock(group, "x", EX, Wait::Forever));
    let forced = ReleaseRequest { lock, flags: Flags::FORCEUNLOCK, value: None };
    let out = rig.ask(&mut b, Op::Release { release: forced, one_way: false });
    assert_eq!(replies(&out, b.conn).last(), Some(&(4, Reply::Released)));
    let out = rig.ask(&mut a, Op::GroupDetach(group));
    assert_eq!(replies(&out, a.conn), [(6, Reply::Done), (5, Reply::Cancelled)]);
    assert_eq!(rig.node.status(rig.now).waiting, 0);
    rig.reply(&mut c, release(held.lock));
}

#[test]
fn a_lock_is_not_weakened_under_another_users_feet() {
    let (mut rig, group, mut a, mut b, mut c) = team();
    let held = rig.granted(&mut a, group_lock(group, "x", PW, Wait::Never));
    rig.granted(&mut b, group_lock(group, "x", PR, Wait::Never));
    assert_eq!(rig.refused(&mut a, convert(held.lock, PR)), Refusal::Busy);
    assert_eq!(rig.refused(&mut b, group_lock(group, "x", EX, Wait::Never)), Refusal::Busy, "convert for more");
    // A new token would come unsaid to the other user, who would be refused with the old one.
    assert_eq!(rig.refused(&mut b, convert(held.lock, EX)), Refusal::Busy);
    let same = rig.granted(&mut b, convert(held.lock, PW));
    assert_eq!(same.token, held.token);
    rig.reply(&mut b, release(held.lock));
    let stronger = rig.granted(&mut a, convert(held.lock, EX));
    assert!(stronger.token > held.token);
    let weaker = rig.granted(&mut a, convert(held.lock, PR));
    assert_eq!(weaker.token, stronger.token);
    let beside = rig.granted(&mut c, lock("x", PR));
    rig.queued(&mut a, convert(held.lock, EX));
    assert_eq!(rig.refused(&mut a, convert(held.lock, EX)), Refusal::Busy, "one conversion at a time");
    // It would be granted under the newcomer.
    assert_eq!(rig.refused(&mut b, group_lock(group, "x", PR, Wait::Never)), Refusal::Busy);
    let converting = a.asked - 1;
    let out = rig.ask(&mut a, cancel(converting));
    assert_eq!(replies(&out, a.conn).len(), 2);
    rig.reply(&mut c, release(beside.lock));
    let falling = ConvertRequest {
        lock: held.lock,
        mode: lockstead_types::Mode(5),
        wait: Wait::Forever,
        flags: Flags::CONVDEADLK,
        value: None,
    };
    assert_eq!(rig.refused(&mut a, Op::Convert(falling)), Refusal::Invalid);
}

#[test]
fn what_a_user_writes_as_it_lets_go_is_seen_by_the_others() {
    let (mut rig, group, mut a, mut b, _) = team();
    let held = rig.granted(&mut a, group_lock(group, "x", EX, Wait::Never));
    rig.granted(&mut b, group_lock(group, "x", EX, Wait::Never));
    let release = ReleaseRequest { lock: held.lock, flags: Flags::VALBLK, value: Some(b"new") };
    assert_eq!(rig.reply(&mut a, Op::Release { release, one_way: false }), Reply::Released);
    let value = Value { bytes: (*b"new").into(), invalid: false };
    assert_eq!(rig.reply(&mut b, Op::ReadValue(held.lock)), Reply::Value(value.clone()));
    let asking = LockRequest { flags: Flags::VALBLK, owner: OwnerRef::Group(group), ..request("x", PR, Wait::Never) };
    assert_eq!(rig.granted(&mut a, Op::Lock(asking)).value, Some(value));
}

#[test]
fn a_members_end_ends_its_uses_and_the_last_ends_the_group() {
    let (mut rig, group, mut a, mut b, mut c) = team();
    rig.granted(&mut a, group_lock(group, "shared", EX, Wait::Never));
    rig.granted(&mut b, group_lock(group, "shared", EX, Wait::Never));
    rig.granted(&mut a, group_lock(group, "own", EX, Wait::Never));
    rig.queued(&mut c, lock("own", EX));
    rig.queued(&mut c, lock("shared", EX));
    let out = rig.handle(Input::Disconnected { conn: a.conn });
    assert!(matches!(&replies(&out, c.conn)[..], [(1, Reply::Granted(_))]), "only what nobody else uses");
    let out = rig.ask(&mut b, Op::GroupDetach(group));
    assert_eq!(replies(&out, b.conn), [(3, Reply::Done)]);
    assert!(matches!(&replies(&out, c.conn)[..], [(2, Reply::Granted(_))]));
    assert_eq!(rig.node.status(rig.now).groups, 0);
    assert_ne!(join(&mut rig, &mut c), group, "a number is not used twice");
}

#[test]
fn a_member_that_dies_as_the_only_user_leaves_the_value_in_doubt() {
    let (mut rig, group, mut a, mut b, mut c) = team();
    rig.granted(&mut c, lock("x", NL));
    rig.granted(&mut a, group_lock(group, "x", EX, Wait::Never));
    rig.handle(Input::Disconnected { conn: a.conn });
    let held = rig.granted(&mut b, group_lock(group, "x", PR, Wait::Never));
    assert!(matches!(rig.reply(&mut b, Op::ReadValue(held.lock)), Reply::Value(v) if v.invalid));
}

#[test]
fn all_users_hear_of_a_revoked_lock_also_those_away() {
    let (mut rig, group, mut a, mut b, mut c) = team();
    let held = rig.granted(&mut a, group_lock(group, "x", EX, Wait::Never));
    rig.granted(&mut b, group_lock(group, "x", EX, Wait::Never));
    rig.handle(Input::Cut { conn: b.conn, why: lockstead_types::message::Rejection::SlowReader });
    let op = Op::ForceRelease { space: SpaceId(0), name: b"x", token: held.token, reason: "stuck" };
    let out = rig.ask(&mut c, op);
    let notice = Notice::Revoked { lock: held.lock, why: Revoked::Forced };
    assert_eq!(notices(&out, a.conn), core::slice::from_ref(&notice));
    let conn = rig.greet(true);
    assert_eq!(notices(&rig.say(conn, attach(b.session, 2)), conn), core::slice::from_ref(&notice));
    let conn = rig.greet(true);
    assert_eq!(notices(&rig.say(conn, attach(b.session, 2)), conn), [notice], "until it must have arrived");
    let mut b = Seat { conn, ..b };
    rig.reply(&mut b, Op::Sync);
    rig.say(conn, ClientMessage::Ack { answers: 3 });
    let conn = rig.greet(true);
    assert_eq!(notices(&rig.say(conn, attach(b.session, 3)), conn), []);
}

#[test]
fn groups_are_bounded() {
    let limits = Limits { groups: 1, members_per_group: 1, name_bytes: 8, ..Limits::default() };
    let mut rig = Rig::with(lockstead_node::NodeConfig { limits, ..config() });
    let (mut a, mut b) = (rig.local(1), rig.local(2));
    join(&mut rig, &mut a);
    assert_eq!(rig.refused(&mut b, Op::GroupAttach { name: NAME }), Refusal::Limit(LimitName::MembersPerGroup));
    assert_eq!(rig.refused(&mut b, Op::GroupAttach { name: b"other" }), Refusal::Limit(LimitName::Groups));
    assert_eq!(rig.refused(&mut b, Op::GroupAttach { name: b"" }), Refusal::Invalid);
    assert_eq!(rig.refused(&mut b, Op::GroupAttach { name: &[b'x'; 9] }), Refusal::TooLong);
}

#[test]
fn who_joins_in_past_a_waiter_is_told() {
    let (mut rig, group, mut a, mut b, mut c) = team();
    let held = rig.granted(&mut a, group_lock(group, "x", EX, Wait::Never));
    rig.queued(&mut c, lock("x", PR));
    let out = rig.ask(&mut b, group_lock(group, "x", EX, Wait::Never));
    assert_eq!(notices(&out, b.conn), [Notice::Blocking { lock: held.lock, claim: PR }]);
    assert_eq!(notices(&out, a.conn), [], "it was told");
}

#[test]
fn who_joined_in_between_two_waiters_is_told_of_the_second() {
    let (mut rig, group, mut a, mut b, mut c) = team();
    let held = rig.granted(&mut a, group_lock(group, "x", EX, Wait::Never));
    rig.queued(&mut c, lock("x", PR));
    rig.ask(&mut c, cancel(1));
    rig.granted(&mut b, group_lock(group, "x", EX, Wait::Never));
    let out = rig.ask(&mut c, lock("x", PR));
    assert_eq!(notices(&out, b.conn), [Notice::Blocking { lock: held.lock, claim: PR }], "a was told of such a one");
}
