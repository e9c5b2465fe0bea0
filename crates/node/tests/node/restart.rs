//! After a restart: holders of before keep their locks, and nobody joins them. The named faults are those of the fault list:
//! amnesia-restart (F25), lost-reply (F30), stale-release (F31), dead-session-waiter (F07).

use lockstead_node::{Input, NodeConfig, Output, Record};
use lockstead_types::{
    Flags, LockId, Mode, RequestId, SessionId, Span, Token,
    message::{Attached, ClientMessage, Reclaim, Rejection, ServerMessage},
    refusal::Refusal,
    reply::{Grant, Notice, Reply, Revoked},
    request::{Claim, LockRequest, Op, Query, Wait},
};

use crate::rig::*;

/// A node of epoch 2 that remembers these sessions.
fn restarted(sessions: &[(u128, bool)]) -> Rig {
    let recorded = sessions.iter().map(|(id, local)| recorded(*id, *local)).collect();
    Rig::with(NodeConfig { epoch: 2, durable: true, recorded, ttl_max_recorded: TTL, ..config() })
}

fn token(sequence: u64) -> Token {
    Token::new(1, sequence).expect("in range")
}

fn come_back(rig: &mut Rig, session: u128, local: bool) -> Seat {
    let conn = rig.greet(local);
    let out = rig.say(conn, attach(SessionId(session), 17));
    let attached = Attached { ttl: TTL, seen: RequestId(0), reclaim: true, home: 2, groups: Vec::new() };
    assert_eq!(sent_to(&out, conn), [ServerMessage::Attached(attached)]);
    Seat { conn, session: SessionId(session), asked: 100 }
}

fn claim(rig: &mut Rig, seat: &Seat, claim: Reclaim<'_>) -> Result<Grant, Refusal> {
    let id = RequestId(1 << 63);
    let out = rig.say(seat.conn, ClientMessage::Reclaim { id, claim, sealed: None });
    match &replies(&out, seat.conn)[..] {
        [(same, Reply::Granted(grant))] if *same == id.0 => Ok(grant.clone()),
        [(same, Reply::Refused(why))] if *same == id.0 => Err(*why),
        other => panic!("not one answer: {other:?}"),
    }
}

#[test]
fn without_recorded_sessions_there_is_no_freeze() {
    let rig = restarted(&[]);
    assert!(rig.node.is_ready());
    assert!(!restarted(&[(1, true)]).node.is_ready());
}

#[test]
fn amnesia_restart() {
    let mut rig = restarted(&[(1, true), (2, false)]);
    let conn = rig.greet(true);
    assert!(matches!(&sent(&rig.say(conn, open(SessionId(3))))[..], [ServerMessage::Opened { .. }]));
    let mut other = Seat { conn, session: SessionId(3), asked: 0 };
    rig.queued(&mut other, lock("x", EX));
    assert_eq!(rig.refused(&mut other, Op::Lock(request("y", EX, Wait::Never))), Refusal::WouldWait);
    assert!(matches!(rig.reply(&mut other, Op::Query(Query::Status)), Reply::Report(_)), "one may look");
    let mut a = come_back(&mut rig, 1, true);
    let out = rig.say(
        a.conn,
        ClientMessage::Reclaim { id: RequestId(7), claim: reclaim("x", EX, token(5), LockId(9)), sealed: None },
    );
    let [(7, Reply::Granted(grant))] = &replies(&out, a.conn)[..] else { panic!("not granted: {out:?}") };
    assert_eq!((grant.token, grant.claim), (token(5), EX), "the lock it had, under the token it had");
    assert_eq!(notices(&out, a.conn), [Notice::Blocking { lock: grant.lock, claim: EX }], "one waits already");
    let grant = grant.clone();
    assert_eq!(rig.say(a.conn, ClientMessage::ReclaimDone), []);
    assert!(!rig.node.is_ready(), "session 2 may hold anything");
    let b = come_back(&mut rig, 2, false);
    let out = rig.say(b.conn, ClientMessage::Goodbye);
    assert!(rig.node.is_ready());
    assert_eq!(replies(&out, other.conn), [], "x is held");
    let out = rig.ask(&mut a, release(grant.lock));
    let granted = replies(&out, other.conn);
    assert!(matches!(&granted[..], [(1, Reply::Granted(g))] if g.token > grant.token), "{granted:?}");
}

#[test]
fn who_does_not_come_is_waited_for_a_full_lease() {
    let mut rig = restarted(&[(1, true)]);
    let conn = rig.greet(true);
    rig.say(conn, open(SessionId(3)));
    let mut other = Seat { conn, session: SessionId(3), asked: 0 };
    rig.queued(&mut other, lock("x", EX));
    assert_eq!(rig.node.status(rig.now).frozen_for, TTL);
    rig.advance(Span::from_secs(6));
    rig.say(conn, ClientMessage::Renew { seq: 1 });
    assert_eq!(rig.advance(Span::from_nanos(3_999_999_999)), []);
    let out = rig.advance(Span::from_nanos(1));
    assert!(out.contains(&Output::Record(Record::Ended { session: SessionId(1) })));
    assert!(matches!(&replies(&out, conn)[..], [(1, Reply::Granted(_))]));
    assert!(rig.node.is_ready());
    let conn = rig.greet(true);
    assert_eq!(sent(&rig.say(conn, attach(SessionId(1), 0))), [ServerMessage::Ended]);
}

#[test]
fn a_claim_is_repeated_safely() {
    let mut rig = restarted(&[(1, false)]);
    let a = come_back(&mut rig, 1, false);
    let first = claim(&mut rig, &a, reclaim("x", EX, token(5), LockId(9)));
    assert!(first.is_ok());
    let a = come_back(&mut rig, 1, false);
    assert_eq!(claim(&mut rig, &a, reclaim("x", EX, token(5), LockId(9))), first, "the answer was lost");
    rig.say(a.conn, ClientMessage::ReclaimDone);
    assert_eq!(claim(&mut rig, &a, reclaim("x", EX, token(5), LockId(9))), first, "also after all were claimed");
    assert_eq!(claim(&mut rig, &a, reclaim("y", EX, token(6), LockId(10))), Err(Refusal::Lost), "too late for others");
    assert_eq!(rig.node.status(rig.now).granted, 1);
}

#[test]
fn a_claim_of_nonsense_is_refused() {
    let mut rig = restarted(&[(1, false)]);
    let a = come_back(&mut rig, 1, false);
    let future = Token::new(2, 1).expect("in range");
    assert_eq!(claim(&mut rig, &a, reclaim("x", EX, future, LockId(9))), Err(Refusal::Lost), "no token of this epoch");
    assert!(claim(&mut rig, &a, reclaim("x", EX, Token::NONE, LockId(9))).is_err());
    assert!(claim(&mut rig, &a, reclaim("", EX, token(1), LockId(9))).is_err());
    assert_eq!(rig.node.status(rig.now).granted, 0);
}

#[test]
fn of_conflicting_claims_the_newer_grant_wins() {
    let mut rig = restarted(&[(1, false), (2, false), (3, false)]);
    let (a, b, c) = (come_back(&mut rig, 1, false), come_back(&mut rig, 2, false), come_back(&mut rig, 3, false));
    let old = claim(&mut rig, &a, reclaim("x", EX, token(5), LockId(9))).expect("nobody else yet");
    let newer = reclaim("x", EX, token(8), LockId(9));
    let out = rig.say(b.conn, ClientMessage::Reclaim { id: RequestId(1), claim: newer, sealed: None });
    assert_eq!(notices(&out, a.conn), [Notice::Revoked { lock: old.lock, why: Revoked::Superseded }]);
    assert_eq!(audits(&out).len(), 1, "this should not happen: somebody must be able to see that it did");
    assert_eq!(claim(&mut rig, &c, reclaim("x", EX, token(7), LockId(9))), Err(Refusal::Lost));
}

#[test]
fn members_claims_merge() {
    let mut rig = restarted(&[(1, false), (2, false)]);
    let (mut a, mut b) = (come_back(&mut rig, 1, false), come_back(&mut rig, 2, false));
    let of_group = |lock| Reclaim { group: Some(b"team"), part: None, ..reclaim("x", EX, token(5), LockId(lock)) };
    let first = claim(&mut rig, &a, of_group(9)).expect("granted");
    let second = claim(&mut rig, &b, of_group(9)).expect("granted");
    assert_eq!(first, second);
    rig.say(a.conn, ClientMessage::ReclaimDone);
    rig.say(b.conn, ClientMessage::ReclaimDone);
    assert_eq!(rig.reply(&mut a, release(first.lock)), Reply::Released);
    assert_eq!(rig.node.status(rig.now).granted, 1);
    assert_eq!(rig.reply(&mut b, release(first.lock)), Reply::Released);
    assert_eq!(rig.node.status(rig.now).granted, 0);
}

#[test]
fn a_members_claim_ends_what_another_converts() {
    for wanted in [Claim::Mode(Mode(2)), EX] {
        let mut rig = restarted(&[(1, false), (2, false), (3, false)]);
        let [mut a, b, _] = [1, 2, 3].map(|session| come_back(&mut rig, session, false));
        let of_group = |mode| Reclaim { group: Some(b"team"), part: None, ..reclaim("x", mode, token(5), LockId(9)) };
        let first = claim(&mut rig, &a, of_group(PR)).expect("granted");
        rig.queued(&mut a, convert(first.lock, wanted));
        // It held more when that member last heard of it, and relies on it.
        let id = RequestId(1 << 63);
        let out = rig.say(b.conn, ClientMessage::Reclaim { id, claim: of_group(PW), sealed: None });
        assert_eq!(replies(&out, a.conn), [(a.asked, Reply::Refused(Refusal::Busy))]);
        let [(_, Reply::Granted(second))] = &replies(&out, b.conn)[..] else { panic!("{out:?}") };
        assert_eq!((second.lock, second.token, second.claim), (first.lock, token(5), PW));
    }
}

#[test]
fn who_only_wanted_to_open_reports_by_it() {
    let mut rig = restarted(&[(1, false)]);
    let conn = rig.greet(false);
    assert_eq!(sent(&rig.say(conn, open(SessionId(1)))), [ServerMessage::Opened { ttl: TTL }]);
    assert!(rig.node.is_ready());
}

#[test]
fn a_slow_claimer_cannot_keep_the_freeze_up_for_ever() {
    let mut rig = restarted(&[(1, false)]);
    rig.advance(Span::from_secs(9));
    let a = come_back(&mut rig, 1, false);
    rig.advance(Span::from_millis(500));
    assert_eq!(sent(&rig.say(a.conn, ClientMessage::Renew { seq: 1 })), [ServerMessage::Renewed { seq: 1 }]);
    rig.advance(Span::from_secs(1));
    assert_eq!(rig.say(a.conn, ClientMessage::Renew { seq: 2 }), [], "its time is over: 10.5 s");
    let conn = rig.greet(false);
    assert_eq!(rig.say(conn, attach(SessionId(1), 0)), rejected(conn, Rejection::Idle));
    assert_eq!(sent(&rig.advance(Span::from_millis(8_999))), [], "but its lease of 9.5 s is kept: 19.499 s");
    assert_eq!(sent(&rig.advance(Span::from_millis(1))), [ServerMessage::Ended]);
    assert!(rig.node.is_ready());
}

#[test]
fn a_larger_lease_is_written_before_the_session_that_uses_it() {
    let mut rig = Rig::with(NodeConfig { durable: true, ttl_max_recorded: Span::from_secs(60), ..config() });
    let conn = rig.greet(false);
    assert!(matches!(&records(&rig.say(conn, open(SessionId(1))))[..], [Record::Opened { .. }]), "not larger");
    let conn = rig.greet(false);
    let ttl = Span::from_secs(61);
    let out = rig.say(conn, ClientMessage::Open { session: SessionId(2), ttl, meta: meta() });
    assert!(matches!(&records(&out)[..], [Record::TtlMax { ttl: t }, Record::Opened { .. }] if *t == ttl));
}

#[test]
fn lost_reply() {
    let mut rig = Rig::new();
    let (mut a, mut b) = (rig.remote(1), rig.remote(2));
    // Of an acquire: the connection breaks before the answer arrives; the request comes again.
    let grant = rig.granted(&mut a, lock("x", EX));
    rig.handle(Input::Disconnected { conn: a.conn });
    let conn = rig.greet(false);
    let out = rig.say(conn, attach(SessionId(1), 0));
    assert_eq!(replies(&out, conn), [(1, Reply::Granted(grant.clone()))]);
    let again = ClientMessage::Request { id: RequestId(1), op: lock("x", EX) };
    assert_eq!(rig.say(conn, again), []);
    assert_eq!(rig.node.status(rig.now).granted, 1, "one effect");
    // Of a release, while somebody waits: the second release must not take the lock of who got it.
    let mut a = Seat { conn, ..a };
    rig.queued(&mut b, lock("x", EX));
    rig.reply(&mut a, release(grant.lock));
    rig.handle(Input::Disconnected { conn });
    let conn = rig.greet(false);
    let out = rig.say(conn, attach(SessionId(1), 1));
    assert_eq!(replies(&out, conn), [(2, Reply::Released)]);
    assert_eq!(rig.say(conn, ClientMessage::Request { id: RequestId(2), op: release(grant.lock) }), []);
    assert_eq!(rig.node.status(rig.now).granted, 1, "b has it");
    // Of a wait: queued before the break, granted during it.
    let held = LockId(0);
    let mut a = Seat { conn, ..a };
    let waiting = rig.queued(&mut a, lock("x", EX));
    assert_ne!(waiting, held);
    rig.handle(Input::Disconnected { conn });
    rig.say(b.conn, ClientMessage::Goodbye);
    let conn = rig.greet(false);
    let out = rig.say(conn, attach(SessionId(1), 2));
    assert!(matches!(&replies(&out, conn)[..], [(3, Reply::Queued(_)), (3, Reply::Granted(_))]));
}

#[test]
fn stale_release() {
    let mut rig = Rig::new();
    let (mut a, mut b) = (rig.remote(1), rig.remote(2));
    let old = rig.granted(&mut a, lock("x", EX));
    rig.reply(&mut a, release(old.lock));
    rig.granted(&mut b, lock("x", EX));
    assert_eq!(rig.refused(&mut a, release(old.lock)), Refusal::NotHeld);
    assert_eq!(rig.ask(&mut a, one_way(old.lock)).len(), 1, "also a one-way release says that it failed");
    assert_eq!(rig.node.status(rig.now).granted, 1);
}

#[test]
fn dead_session_waiter() {
    let mut rig = Rig::new();
    let (mut a, mut b, mut c) = (rig.remote(1), rig.remote(2), rig.remote(3));
    let held = rig.granted(&mut a, lock("x", EX));
    rig.queued(&mut b, lock("x", EX));
    rig.queued(&mut c, lock("x", EX));
    rig.advance(Span::from_secs(5));
    rig.say(a.conn, ClientMessage::Renew { seq: 1 });
    rig.say(c.conn, ClientMessage::Renew { seq: 1 });
    rig.advance(Span::from_secs(5));
    let out = rig.ask(&mut a, release(held.lock));
    assert_eq!(replies(&out, b.conn), [], "its session is over, nothing is granted to it");
    assert!(matches!(&replies(&out, c.conn)[..], [(1, Reply::Granted(_))]));
}

#[test]
fn who_waited_behind_one_who_claims_nothing_is_told_that_the_value_is_dubious() {
    let mut rig = restarted(&[(1, false)]);
    let conn = rig.greet(true);
    rig.say(conn, open(SessionId(3)));
    let mut other = Seat { conn, session: SessionId(3), asked: 0 };
    let with_value = |name| Op::Lock(LockRequest { flags: Flags::VALBLK, ..request(name, PR, Wait::Forever) });
    rig.queued(&mut other, with_value("x"));
    // It has released x with a value on the way, so it claims nothing.
    let a = come_back(&mut rig, 1, false);
    let out = rig.say(a.conn, ClientMessage::ReclaimDone);
    let told = replies(&out, conn);
    let [(1, Reply::Granted(grant))] = &told[..] else { panic!("not granted: {told:?}") };
    assert!(grant.value.as_ref().is_some_and(|value| value.invalid), "{grant:?}");
    let reply = rig.reply(&mut other, with_value("y"));
    let Reply::Granted(grant) = reply else { panic!("not granted: {reply:?}") };
    assert!(grant.value.as_ref().is_some_and(|value| !value.invalid), "no lock was on it: {grant:?}");
}
