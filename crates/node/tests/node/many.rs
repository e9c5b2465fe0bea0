//! Several locks at once, all or none.

use lockstead_types::{
    Flags, Limits, LockId, SpaceId, Span,
    limits::LimitName,
    refusal::Refusal,
    reply::{Grant, Notice, Reply},
    request::{Claim, LockRequest, Op, OwnerRef, Query, Target, Wait},
};

use crate::rig::*;

fn many<'a>(names: &[&'a str], wait: Wait) -> Op<'a> {
    Op::LockMany(names.iter().map(|name| request(name, EX, wait)).collect())
}

fn all_granted(out: &[lockstead_node::Output], seat: &Seat) -> Option<Vec<Grant>> {
    replies(out, seat.conn).into_iter().find_map(|(_, r)| if let Reply::GrantedMany(g) = r { Some(g) } else { None })
}

/// How many locks there are.
fn locks(rig: &Rig) -> u64 {
    let status = rig.node.status(rig.now);
    status.granted + status.waiting
}

#[test]
fn all_are_granted_in_the_order_asked() {
    let mut rig = Rig::new();
    let mut a = rig.local(1);
    let out = rig.ask(&mut a, many(&["z", "a", "m"], Wait::Never));
    let grants = all_granted(&out, &a).expect("granted");
    let tokens: Vec<u64> = grants.iter().map(|g| g.token.sequence()).collect();
    assert!(tokens[0] > tokens[2] && tokens[2] > tokens[1], "acquired by name, told as asked: {tokens:?}");
    for grant in grants {
        assert_eq!(rig.reply(&mut a, release(grant.lock)), Reply::Released);
    }
}

#[test]
fn nonsense_is_refused_and_leaves_nothing() {
    let limits = Limits { names_per_request: 2, ..Limits::default() };
    let mut rig = Rig::with(lockstead_node::NodeConfig { limits, ..config() });
    let mut a = rig.local(1);
    assert_eq!(rig.refused(&mut a, many(&[], Wait::Never)), Refusal::Invalid);
    assert_eq!(rig.refused(&mut a, many(&["x", "x"], Wait::Never)), Refusal::Invalid);
    let limit = Refusal::Limit(LimitName::NamesPerRequest);
    assert_eq!(rig.refused(&mut a, many(&["x", "y", "z"], Wait::Never)), limit);
    let bad = LockRequest { space: SpaceId(99), ..request("y", EX, Wait::Never) };
    let op = Op::LockMany(vec![request("x", EX, Wait::Never), bad]);
    assert_eq!(rig.refused(&mut a, op), Refusal::NoLockspace);
    let grouped = LockRequest { owner: OwnerRef::Group(lockstead_types::GroupId(1)), ..request("y", EX, Wait::Never) };
    assert_eq!(rig.refused(&mut a, Op::LockMany(vec![grouped])), Refusal::Invalid);
    assert_eq!(locks(&rig), 0);
}

#[test]
fn one_that_would_wait_releases_the_rest() {
    let mut rig = Rig::new();
    let (mut a, mut b) = (rig.local(1), rig.local(2));
    rig.granted(&mut a, lock("m", EX));
    assert_eq!(rig.refused(&mut b, many(&["a", "m", "z"], Wait::Never)), Refusal::WouldWait);
    let noqueue = LockRequest { flags: Flags::NOQUEUE, ..request("m", EX, Wait::Forever) };
    assert_eq!(rig.refused(&mut b, Op::LockMany(vec![noqueue, request("a", EX, Wait::Forever)])), Refusal::WouldWait);
    assert_eq!(locks(&rig), 1);
}

#[test]
fn it_waits_and_goes_on() {
    let mut rig = Rig::new();
    let (mut a, mut b) = (rig.local(1), rig.local(2));
    let first = rig.granted(&mut a, lock("m", EX));
    let second = rig.granted(&mut a, lock("z", EX));
    let out = rig.ask(&mut b, many(&["z", "m", "a"], Wait::Forever));
    assert_eq!(replies(&out, b.conn), [], "its client hears only the end");
    assert_eq!(notices(&out, a.conn), [Notice::Blocking { lock: first.lock, claim: EX }]);
    let out = rig.ask(&mut a, release(first.lock));
    assert_eq!(replies(&out, b.conn), []);
    assert_eq!(notices(&out, a.conn), [Notice::Blocking { lock: second.lock, claim: EX }]);
    let out = rig.ask(&mut a, release(second.lock));
    assert_eq!(all_granted(&out, &b).map(|g| g.len()), Some(3));
}

#[test]
fn its_deadline_is_one_for_all() {
    let mut rig = Rig::new();
    let (mut a, mut b) = (rig.local(1), rig.local(2));
    let first = rig.granted(&mut a, lock("a", EX));
    rig.granted(&mut a, lock("b", EX));
    rig.ask(&mut b, many(&["a", "b"], Wait::For(Span::from_secs(3))));
    rig.advance(Span::from_secs(2));
    rig.ask(&mut a, release(first.lock));
    assert_eq!(rig.advance(Span::from_millis(999)), []);
    let out = rig.advance(Span::from_millis(1));
    assert_eq!(replies(&out, b.conn), [(1, Reply::Refused(Refusal::Timeout))]);
    assert_eq!(locks(&rig), 1);
}

#[test]
fn it_can_be_cancelled() {
    let mut rig = Rig::new();
    let (mut a, mut b) = (rig.local(1), rig.local(2));
    rig.granted(&mut a, lock("b", EX));
    rig.ask(&mut b, many(&["a", "b"], Wait::Forever));
    let out = rig.ask(&mut b, cancel(1));
    assert_eq!(replies(&out, b.conn), [(2, Reply::Cancelled), (1, Reply::Cancelled)]);
    assert_eq!(locks(&rig), 1);
    assert_eq!(rig.refused(&mut b, cancel(1)), Refusal::NotHeld);
}

#[test]
fn partial_locks_are_not_the_clients_yet() {
    let mut rig = Rig::new();
    let (mut a, mut b, mut c) = (rig.local(1), rig.local(2), rig.local(3));
    let held = rig.granted(&mut a, lock("b", EX));
    rig.ask(&mut b, many(&["a", "b"], Wait::Forever));
    let out = rig.ask(&mut c, lock("a", PR));
    assert_eq!(notices(&out, b.conn), [], "its client could do nothing");
    let partial = lock_on(&mut rig, &mut c, "a");
    assert_eq!(rig.refused(&mut b, release(partial)), Refusal::NotHeld);
    assert_eq!(rig.refused(&mut b, Op::ReadValue(partial)), Refusal::NotHeld);
    assert_eq!(rig.refused(&mut b, Op::Cancel(Target::Lock(partial))), Refusal::NotHeld);
    let out = rig.ask(&mut a, release(held.lock));
    assert_eq!(all_granted(&out, &b).map(|g| g[0].lock), Some(partial));
    assert_eq!(notices(&out, b.conn), [Notice::Blocking { lock: partial, claim: PR }], "now it can");
}

fn lock_on(rig: &mut Rig, seat: &mut Seat, name: &str) -> LockId {
    let query = Op::Query(Query::Resource { space: SpaceId(0), name: name.as_bytes() });
    match rig.reply(seat, query) {
        Reply::Report(report) => match *report {
            lockstead_types::report::Report::Resource(Some(detail)) => detail.granted[0].lock,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn losing_a_partial_lock_fails_the_whole() {
    let mut rig = Rig::new();
    let (mut a, mut b) = (rig.local(1), rig.local(2));
    rig.granted(&mut a, lock("b", EX));
    rig.ask(&mut b, many(&["a", "b"], Wait::Forever));
    let token = rig.node.status(rig.now).token;
    let op = Op::ForceRelease { space: SpaceId(0), name: b"a", token, reason: "test" };
    let out = rig.ask(&mut a, op);
    assert_eq!(replies(&out, a.conn), [(2, Reply::Released)]);
    assert_eq!(replies(&out, b.conn), [(1, Reply::Refused(Refusal::Lost))]);
    assert_eq!(notices(&out, b.conn), [], "of a lock it never knew");
    assert_eq!(locks(&rig), 1);
}

#[test]
fn the_end_of_its_session_leaves_nothing() {
    let mut rig = Rig::new();
    let (mut a, mut b) = (rig.local(1), rig.local(2));
    rig.granted(&mut a, lock("b", EX));
    rig.ask(&mut b, many(&["a", "b"], Wait::Forever));
    rig.handle(lockstead_node::Input::Disconnected { conn: b.conn });
    assert_eq!(locks(&rig), 1);
    let permits = Claim::Permits { take: 2, of: 3 };
    let mut c = rig.local(3);
    let op = Op::LockMany(vec![request("pool", permits, Wait::Never), request("a", EX, Wait::Never)]);
    let out = rig.ask(&mut c, op);
    assert_eq!(all_granted(&out, &c).map(|g| g[0].claim), Some(permits));
}

#[test]
fn an_answer_longer_than_a_frame_is_refused_before_it_grants() {
    let limits = Limits { frame_bytes: 200_000, value_bytes: 60_000, ..Limits::default() };
    let mut rig = Rig::with(lockstead_node::NodeConfig { limits, ..config() });
    let mut a = rig.local(1);
    let reading = |names: &[&'static str]| {
        let flags = Flags::VALBLK;
        Op::LockMany(names.iter().map(|name| LockRequest { flags, ..request(name, EX, Wait::Never) }).collect())
    };
    let limit = Refusal::Limit(LimitName::FrameBytes);
    assert_eq!(rig.refused(&mut a, reading(&["a", "b", "c", "d"])), limit);
    assert_eq!(locks(&rig), 0);
    assert!(matches!(rig.reply(&mut a, reading(&["a", "b", "c"])), Reply::GrantedMany(_)));
    assert!(matches!(rig.reply(&mut a, many(&["d", "e", "f", "g"], Wait::Never)), Reply::GrantedMany(_)));
}
