//! From the first byte to an open session, and how sessions end.

use crate::rig::*;
use lockstead_node::{Input, Output, Principal, Record, SessionRecord};
use lockstead_types::{
    ConnId, Limits, RequestId, SessionId, Span,
    message::{Attached, ClientMessage, Rejection, ServerMessage},
    refusal::Refusal,
    reply::Reply,
    report::Meta,
    request::{Op, Query},
};

const DONE: fn(u64) -> ServerMessage = |id| ServerMessage::Reply { id: RequestId(id), reply: Reply::Done };

fn attached(seen: u64) -> ServerMessage {
    ServerMessage::Attached(Attached { ttl: TTL, seen: RequestId(seen), reclaim: false, home: 1, groups: Vec::new() })
}

#[test]
fn hello_comes_first() {
    let id = SessionId(1);
    for message in [
        open(id),
        attach(id, 0),
        ClientMessage::Renew { seq: 1 },
        ClientMessage::Ack { answers: 0 },
        ClientMessage::ReclaimDone,
        ClientMessage::Request { id: RequestId(1), op: Op::Sync },
    ] {
        let mut rig = Rig::new();
        let (conn, _) = rig.connect(true, user(1));
        assert_eq!(rig.say(conn, message), rejected(conn, Rejection::Protocol));
        assert_eq!(rig.say(conn, ClientMessage::Hello { version: 1 }), [], "nothing more of it is heard");
    }
}

#[test]
fn a_session_comes_before_requests_and_only_once() {
    let mut rig = Rig::new();
    let conn = rig.greet(true);
    assert_eq!(rig.say(conn, ClientMessage::Hello { version: 1 }), rejected(conn, Rejection::Protocol));
    let seat = rig.local(1);
    assert_eq!(rig.say(seat.conn, open(SessionId(2))), rejected(seat.conn, Rejection::Protocol));
    let conn = rig.greet(true);
    let early = ClientMessage::Request { id: RequestId(1), op: Op::Sync };
    assert_eq!(rig.say(conn, early), rejected(conn, Rejection::Protocol));
}

#[test]
fn a_version_of_none_is_turned_away_and_a_newer_one_served() {
    let mut rig = Rig::new();
    let (conn, _) = rig.connect(true, user(1));
    assert_eq!(rig.say(conn, ClientMessage::Hello { version: 0 }), rejected(conn, Rejection::Version));
    let (conn, _) = rig.connect(true, user(1));
    let out = rig.say(conn, ClientMessage::Hello { version: 9 });
    assert!(matches!(&sent(&out)[..], [ServerMessage::Welcome(w)] if w.version == 1 && w.credit == 4_096));
}

#[test]
fn an_asked_lease_is_brought_within_the_limits() {
    for (asked, granted) in [(Span::ZERO, Span::from_millis(500)), (Span::MAX, Span::from_secs(3_600)), (TTL, TTL)] {
        let mut rig = Rig::new();
        let conn = rig.greet(false);
        let out = rig.say(conn, ClientMessage::Open { session: SessionId(1), ttl: asked, meta: meta() });
        assert_eq!(sent(&out), [ServerMessage::Opened { ttl: granted }]);
    }
}

#[test]
fn a_remote_session_is_open_once_it_is_durable() {
    let mut rig = Rig::with(lockstead_node::NodeConfig { durable: true, ..config() });
    let conn = rig.greet(false);
    let record = SessionRecord { session: SessionId(5), ttl: TTL, local: false, principal: address(1).to_string() };
    let out = rig.say(conn, open(SessionId(5)));
    let opened = Record::Opened { record, durable: true };
    assert_eq!(out, [Output::Record(Record::TtlMax { ttl: TTL }), Output::Record(opened)]);
    let out = rig.handle(Input::Recorded { session: SessionId(5) });
    assert_eq!(out, [Output::Send { conn, message: ServerMessage::Opened { ttl: TTL } }]);
    assert_eq!(rig.handle(Input::Recorded { session: SessionId(5) }), []);
    // A local one waits for no disk, and the largest lease is written once.
    let conn = rig.greet(true);
    let out = rig.say(conn, open(SessionId(6)));
    assert!(matches!(
        &out[..],
        [
            Output::Record(Record::Opened { durable: false, .. }),
            Output::Send { message: ServerMessage::Opened { .. }, .. }
        ]
    ));
    let early = rig.greet(false);
    rig.say(early, open(SessionId(7)));
    let request = ClientMessage::Request { id: RequestId(1), op: Op::Sync };
    assert_eq!(rig.say(early, request), rejected(early, Rejection::Protocol), "nothing before it is open");
}

#[test]
fn a_repeated_open_is_the_same_session() {
    let mut rig = Rig::new();
    let mut first = rig.remote(1);
    let conn = rig.greet(false);
    let out = rig.say(conn, open(SessionId(1)));
    assert_eq!(sent_to(&out, first.conn), [ServerMessage::Rejected { why: Rejection::Superseded }]);
    assert_eq!(sent_to(&out, conn), [ServerMessage::Opened { ttl: TTL }]);
    assert_eq!(rig.ask(&mut first, Op::Sync), [], "the older connection is not heard any more");
    let mut second = Seat { conn, asked: 0, ..first };
    rig.ask(&mut second, Op::Sync);
    let conn = rig.greet(false);
    let out = rig.say(conn, open(SessionId(1)));
    assert_eq!(sent_to(&out, conn), [attached(1), DONE(1)], "too late to be new: told where it stands");
}

#[test]
fn an_attach_repeats_what_was_not_received() {
    let mut rig = Rig::new();
    let mut seat = rig.remote(1);
    for _ in 0..3 {
        rig.ask(&mut seat, Op::Sync);
    }
    assert_eq!(rig.say(seat.conn, ClientMessage::Ack { answers: 1 }), []);
    assert_eq!(rig.handle(Input::Disconnected { conn: seat.conn }), []);
    let conn = rig.greet(false);
    let out = rig.say(conn, attach(SessionId(1), 2));
    assert_eq!(sent(&out), [attached(3), DONE(3)]);
    let again = ClientMessage::Request { id: RequestId(2), op: Op::Sync };
    assert_eq!(rig.say(conn, again), [], "it had its effect and its answer");
    let conn = rig.greet(false);
    assert_eq!(rig.say(conn, attach(SessionId(1), 4)), rejected(conn, Rejection::Protocol), "answers never given");
}

#[test]
fn an_unknown_session_is_over_and_another_may_be_opened() {
    let mut rig = Rig::new();
    let conn = rig.greet(false);
    assert_eq!(sent(&rig.say(conn, attach(SessionId(9), 0))), [ServerMessage::Ended]);
    let late = ClientMessage::Request { id: RequestId(1), op: Op::Sync };
    assert_eq!(rig.say(conn, late), [], "it was on its way");
    assert_eq!(sent(&rig.say(conn, open(SessionId(10)))), [ServerMessage::Opened { ttl: TTL }]);
}

#[test]
fn anothers_session_is_denied() {
    let mut rig = Rig::new();
    rig.local(1);
    rig.remote(2);
    let mut try_it = |principal: Principal, session| {
        let (conn, _) = rig.connect(matches!(principal, Principal::Local { .. }), principal);
        rig.say(conn, ClientMessage::Hello { version: 1 });
        let out = rig.say(conn, attach(SessionId(session), 0));
        let answer = sent_to(&out, conn);
        matches!(&answer[..], [ServerMessage::Attached(_)]).then_some(()).ok_or(answer)
    };
    let denied = Err(vec![ServerMessage::Rejected { why: Rejection::Denied }]);
    assert_eq!(try_it(user(77), 1), denied);
    assert_eq!(try_it(address(9), 1), denied);
    assert_eq!(try_it(Principal::Address("10.0.0.8:1".into()), 2), denied);
    assert_eq!(try_it(user(1000), 2), denied);
    assert_eq!(try_it(user(1000), 1), Ok(()));
    assert_eq!(try_it(address(999), 2), Ok(()), "from another port");
    assert_eq!(try_it(user(0), 1), Ok(()), "the superuser");
}

#[test]
fn within_anothers_session_counts_for_nothing() {
    // Whether the wait of one that `principal` opens within a's session closes a cycle of b, a and it.
    let try_it = |local: bool, principal: Principal| {
        let mut rig = Rig::new();
        let (mut a, mut b) = (rig.local(1), rig.local(2));
        rig.granted(&mut a, lock("x", EX));
        rig.granted(&mut b, lock("y", EX));
        rig.queued(&mut b, lock("x", EX));
        let (conn, _) = rig.connect(local, principal);
        rig.say(conn, ClientMessage::Hello { version: 1 });
        let meta = Meta { within: Some(a.session), ..meta() };
        rig.say(conn, ClientMessage::Open { session: SessionId(3), ttl: TTL, meta });
        let mut inner = Seat { conn, session: SessionId(3), asked: 0 };
        match rig.reply(&mut inner, lock("y", EX)) {
            Reply::Queued(_) => false,
            Reply::Refused(Refusal::Deadlock) => true,
            other => panic!("{other:?}"),
        }
    };
    assert!(try_it(true, user(1000)));
    assert!(try_it(true, user(0)), "the superuser");
    assert!(!try_it(true, user(77)));
    assert!(!try_it(false, address(9)));
}

#[test]
fn bounds_turn_away() {
    let limits = Limits { sessions: 1, connections: 2, meta_bytes: 16, ..Limits::default() };
    let mut rig = Rig::with(lockstead_node::NodeConfig { limits, ..config() });
    rig.local(1);
    let conn = rig.greet(true);
    assert_eq!(rig.say(conn, open(SessionId(2))), rejected(conn, Rejection::Full));
    let conn = rig.greet(true);
    let meta = Meta { purpose: "x".repeat(17), ..Meta::default() };
    let long = ClientMessage::Open { session: SessionId(3), ttl: TTL, meta };
    assert_eq!(rig.say(conn, long), rejected(conn, Rejection::Protocol));
    let (a, out) = rig.connect(true, user(1));
    assert_eq!(out, []);
    let (b, out) = rig.connect(true, user(1));
    assert_eq!(out, rejected(b, Rejection::Full));
    rig.handle(Input::Disconnected { conn: a });
    assert_eq!(rig.connect(true, user(1)).1, []);
}

#[test]
fn a_stopping_node_takes_nobody_new() {
    let mut rig = Rig::new();
    let mut seat = rig.local(1);
    let greeted = rig.greet(true);
    rig.handle(Input::Stop);
    let (conn, out) = rig.connect(true, user(1));
    assert_eq!(out, rejected(conn, Rejection::Stopping));
    assert_eq!(rig.say(greeted, open(SessionId(2))), rejected(greeted, Rejection::Stopping));
    assert_eq!(rig.reply(&mut seat, Op::Sync), Reply::Done);
}

#[test]
fn a_connection_without_session_is_idle_after_ten_seconds() {
    let mut rig = Rig::new();
    let (silent, _) = rig.connect(false, address(1));
    let greeted = rig.greet(false);
    let busy = rig.remote(1);
    assert_eq!(rig.advance(Span::from_millis(9_999)), []);
    rig.say(busy.conn, ClientMessage::Renew { seq: 1 });
    let out = rig.advance(Span::from_millis(1));
    assert_eq!(out, [rejected(silent, Rejection::Idle), rejected(greeted, Rejection::Idle)].concat());
}

#[test]
fn a_lease_ends_exactly_when_it_was_not_renewed_for_its_full_length() {
    let mut rig = Rig::new();
    let seat = rig.remote(1);
    for n in 0..5 {
        assert_eq!(rig.advance(Span::from_nanos(TTL.as_nanos() - 1)), [], "never early");
        let out = rig.say(seat.conn, ClientMessage::Renew { seq: n });
        assert_eq!(sent(&out), [ServerMessage::Renewed { seq: n }]);
    }
    assert_eq!(rig.advance(Span::from_nanos(TTL.as_nanos() - 1)), []);
    assert_eq!(sent(&rig.advance(Span::from_nanos(1))), [ServerMessage::Ended]);
    let conn = rig.greet(false);
    assert_eq!(sent(&rig.say(conn, attach(SessionId(1), 0))), [ServerMessage::Ended]);
}

#[test]
fn an_attach_renews_and_an_embedded_session_has_no_lease() {
    let mut rig = Rig::new();
    let seat = rig.remote(1);
    rig.advance(Span::from_secs(9));
    rig.handle(Input::Disconnected { conn: seat.conn });
    let conn = rig.greet(false);
    rig.say(conn, attach(SessionId(1), 0));
    assert_eq!(rig.advance(Span::from_secs(9)), []);
    let (inside, _) = rig.connect(true, Principal::Embedded);
    rig.say(inside, ClientMessage::Hello { version: 1 });
    rig.say(inside, open(SessionId(2)));
    rig.advance(Span::from_secs(100_000));
    let mut inside = Seat { conn: inside, session: SessionId(2), asked: 0 };
    assert_eq!(rig.reply(&mut inside, Op::Sync), Reply::Done);
}

#[test]
fn the_end_of_a_local_connection_ends_its_session_and_that_of_a_remote_one_does_not() {
    let mut rig = Rig::new();
    let (mut a, mut b, mut c) = (rig.local(1), rig.remote(2), rig.local(3));
    rig.granted(&mut a, lock("x", EX));
    rig.granted(&mut b, lock("y", EX));
    rig.queued(&mut c, lock("x", EX));
    rig.queued(&mut c, lock("y", EX));
    let out = rig.handle(Input::Disconnected { conn: b.conn });
    assert_eq!(out, []);
    let out = rig.handle(Input::Disconnected { conn: a.conn });
    assert!(matches!(&replies(&out, c.conn)[..], [(1, Reply::Granted(_))]));
    rig.advance(Span::from_secs(5));
    rig.say(c.conn, ClientMessage::Renew { seq: 1 });
    let out = rig.advance(Span::from_secs(5));
    assert!(matches!(&replies(&out, c.conn)[..], [(2, Reply::Granted(_))]));
}

#[test]
fn a_local_session_survives_being_cut_off() {
    let mut rig = Rig::new();
    let (mut a, mut b) = (rig.local(1), rig.local(2));
    rig.granted(&mut a, lock("x", EX));
    rig.queued(&mut b, lock("x", EX));
    let out = rig.handle(Input::Cut { conn: a.conn, why: Rejection::SlowReader });
    assert_eq!(out, rejected(a.conn, Rejection::SlowReader));
    assert_eq!(rig.handle(Input::Disconnected { conn: a.conn }), [], "its process is alive: nothing is released");
    let conn = rig.greet(true);
    let out = rig.say(conn, attach(SessionId(1), 0));
    assert!(matches!(
        &sent_to(&out, conn)[..],
        [ServerMessage::Attached(_), ServerMessage::Reply { .. }, ServerMessage::Notice(_)]
    ));
}

#[test]
fn a_goodbye_releases_at_once() {
    let mut rig = Rig::new();
    let (mut a, mut b) = (rig.remote(1), rig.remote(2));
    rig.granted(&mut a, lock("x", EX));
    rig.queued(&mut b, lock("x", EX));
    let out = rig.say(a.conn, ClientMessage::Goodbye);
    assert_eq!(sent_to(&out, a.conn), [ServerMessage::Bye]);
    assert!(out.contains(&Output::Close { conn: a.conn }));
    assert!(matches!(&replies(&out, b.conn)[..], [(1, Reply::Granted(_))]));
    let conn = rig.greet(true);
    assert_eq!(sent(&rig.say(conn, ClientMessage::Goodbye)), [ServerMessage::Bye], "also without a session");
}

#[test]
fn messages_of_unknown_connections_are_ignored() {
    let mut rig = Rig::new();
    assert_eq!(rig.say(ConnId(99), ClientMessage::Goodbye), []);
    assert_eq!(rig.handle(Input::Disconnected { conn: ConnId(99) }), []);
    assert_eq!(rig.handle(Input::Cut { conn: ConnId(99), why: Rejection::Protocol }), []);
    assert_eq!(rig.handle(Input::Recorded { session: SessionId(99) }), []);
}

#[test]
fn credit_is_a_bound() {
    let limits = Limits { in_flight: 3, ..Limits::default() };
    let mut rig = Rig::with(lockstead_node::NodeConfig { limits, ..config() });
    let mut seat = rig.local(1);
    for _ in 0..3 {
        assert_eq!(rig.reply(&mut seat, Op::Sync), Reply::Done);
    }
    rig.say(seat.conn, ClientMessage::Ack { answers: 1 });
    assert_eq!(rig.reply(&mut seat, Op::Sync), Reply::Done);
    assert_eq!(rig.ask(&mut seat, Op::Sync), rejected(seat.conn, Rejection::Credit));
    let mut other = rig.local(2);
    rig.granted(&mut other, lock("w", EX));
    let mut waiter = rig.local(3);
    rig.queued(&mut waiter, lock("w", EX));
    rig.say(waiter.conn, ClientMessage::Ack { answers: 1 });
    for n in 2..50 {
        assert_eq!(rig.reply(&mut waiter, Op::Sync), Reply::Done, "one long wait holds nothing back");
        rig.say(waiter.conn, ClientMessage::Ack { answers: n });
    }
    assert_eq!(rig.say(waiter.conn, ClientMessage::Ack { answers: 99 }), rejected(waiter.conn, Rejection::Protocol));
}

#[test]
fn one_way_releases_use_no_credit() {
    let limits = Limits { in_flight: 2, ..Limits::default() };
    let mut rig = Rig::with(lockstead_node::NodeConfig { limits, ..config() });
    let mut seat = rig.local(1);
    for n in 1..20 {
        let grant = rig.granted(&mut seat, lock("x", EX));
        assert_eq!(rig.ask(&mut seat, one_way(grant.lock)), []);
        rig.say(seat.conn, ClientMessage::Ack { answers: n });
        if n == 10 {
            assert_eq!(rig.refused(&mut seat, one_way(grant.lock)), Refusal::NotHeld, "only success is silent");
            rig.say(seat.conn, ClientMessage::Ack { answers: 11 });
            break;
        }
    }
}

#[test]
fn sessions_are_paged_by_id() {
    let limits = Limits { rows_per_answer: 2, ..Limits::default() };
    let mut rig = Rig::with(lockstead_node::NodeConfig { limits, ..config() });
    let mut seat = rig.local(30);
    rig.remote(10);
    rig.local(20);
    let mut page = |after| match rig.reply(&mut seat, Op::Query(Query::Sessions { after })) {
        Reply::Report(report) => match *report {
            lockstead_types::report::Report::Sessions { rows, more } => {
                (rows.iter().map(|r| (r.session.0, r.local)).collect::<Vec<_>>(), more)
            }
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    assert_eq!(page(None), (vec![(10, false), (20, true)], true));
    assert_eq!(page(Some(SessionId(20))), (vec![(30, true)], false));
}
