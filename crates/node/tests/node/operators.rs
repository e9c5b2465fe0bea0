//! Lockspaces, looks, watches, and what is done by force.

use lockstead_node::{Input, NodeConfig, Output, Record};
use lockstead_types::{
    Limits, SessionId, SpaceId, Span,
    limits::LimitName,
    message::{ClientMessage, ServerMessage},
    refusal::Refusal,
    reply::{ChangeEvent, Notice, Reply, Revoked},
    report::{LeftOut, Report},
    request::{LockRequest, Op, OwnerRef, Query, Wait},
    space::{ModeChoice, SpaceSpec},
};

use crate::rig::*;

fn look(rig: &mut Rig, seat: &mut Seat, query: Query<'_>) -> Report {
    match rig.reply(seat, Op::Query(query)) {
        Reply::Report(report) => *report,
        other => panic!("no report: {other:?}"),
    }
}

fn create(rig: &mut Rig, seat: &mut Seat, name: &str) -> SpaceId {
    match rig.reply(seat, Op::SpaceCreate(SpaceSpec::named(name).into())) {
        Reply::Space(info) => info.space,
        other => panic!("not created: {other:?}"),
    }
}

#[test]
fn lockspaces_come_and_go() {
    let mut rig = Rig::with(NodeConfig { durable: true, ..config() });
    let conn = rig.greet(true);
    rig.say(conn, open(SessionId(1)));
    let mut a = Seat { conn, session: SessionId(1), asked: 0 };
    let out = rig.ask(&mut a, Op::SpaceCreate(SpaceSpec::named("jobs").into()));
    assert!(matches!(&out[0], Output::Record(Record::SpaceCreated { spec, .. }) if spec.name == "jobs"), "{out:?}");
    let Reply::Space(found) = rig.reply(&mut a, Op::SpaceOpen { name: "jobs" }) else { panic!("found") };
    assert_eq!((found.modes.name.as_str(), found.value_bytes), ("vms", 64));
    assert_ne!(found.space, SpaceId(0));
    assert_eq!(rig.refused(&mut a, Op::SpaceCreate(SpaceSpec::named("jobs").into())), Refusal::Exists);
    let kept = SpaceSpec { persistent: true, ..SpaceSpec::named("kept") };
    assert_eq!(rig.refused(&mut a, Op::SpaceCreate(kept.into())), Refusal::Invalid, "nobody else would keep it");
    assert_eq!(rig.refused(&mut a, Op::SpaceDrop { name: "default", force: true }), Refusal::Invalid);
    assert_eq!(rig.refused(&mut a, Op::SpaceDrop { name: "none", force: true }), Refusal::NoLockspace);
    let held = rig.granted(&mut a, Op::Lock(LockRequest { space: found.space, ..request("x", EX, Wait::Never) }));
    assert_eq!(rig.refused(&mut a, Op::SpaceDrop { name: "jobs", force: false }), Refusal::Busy);
    let out = rig.ask(&mut a, Op::SpaceDrop { name: "jobs", force: true });
    assert!(records(&out).contains(&Record::SpaceDropped { id: found.space }));
    assert!(audits(&out)[0].contains("jobs"));
    assert_eq!(notices(&out, conn), [Notice::Revoked { lock: held.lock, why: Revoked::SpaceDropped }]);
    assert_eq!(rig.refused(&mut a, Op::SpaceOpen { name: "jobs" }), Refusal::NoLockspace);
    assert_ne!(create(&mut rig, &mut a, "jobs"), found.space, "a number that clients may remember is not used again");
}

#[test]
fn lockspaces_are_checked() {
    let limits = Limits { spaces: 2, ..Limits::default() };
    let mut rig = Rig::with(NodeConfig { limits, ..config() });
    let mut a = rig.local(1);
    let with = |change: fn(&mut SpaceSpec)| {
        let mut spec = SpaceSpec::named("s");
        change(&mut spec);
        Op::SpaceCreate(spec.into())
    };
    assert_eq!(rig.refused(&mut a, with(|s| s.name = String::new())), Refusal::Invalid);
    assert_eq!(rig.refused(&mut a, with(|s| s.name = "a b".into())), Refusal::Invalid);
    assert_eq!(rig.refused(&mut a, with(|s| s.name = "x".repeat(65))), Refusal::TooLong);
    assert_eq!(rig.refused(&mut a, with(|s| s.modes = ModeChoice::BuiltIn("none".into()))), Refusal::BadMode);
    assert_eq!(rig.refused(&mut a, with(|s| s.value_bytes = 65_537)), Refusal::TooLong);
    create(&mut rig, &mut a, "s");
    assert_eq!(rig.refused(&mut a, Op::SpaceCreate(SpaceSpec::named("t").into())), Refusal::Limit(LimitName::Spaces));
    let Report::Spaces(spaces) = look(&mut rig, &mut a, Query::Spaces) else { panic!("spaces") };
    assert_eq!(spaces.iter().map(|(_, s)| s.name.as_str()).collect::<Vec<_>>(), ["default", "s"]);
}

#[test]
fn lockspaces_survive_a_restart() {
    let spaces = vec![(SpaceId(700), SpaceSpec::named("kept")), (SpaceId(5), SpaceSpec::named("not valid"))];
    let mut rig = Rig::with(NodeConfig { epoch: 2, spaces, ..config() });
    let out = rig.handle(Input::Tick);
    assert!(audits(&out)[0].contains("left out"), "nothing is dropped silently");
    let mut a = rig.local(1);
    let Reply::Space(info) = rig.reply(&mut a, Op::SpaceOpen { name: "kept" }) else { panic!("found") };
    assert_eq!(info.space, SpaceId(700));
    assert_eq!(rig.refused(&mut a, Op::SpaceOpen { name: "not valid" }), Refusal::NoLockspace);
    assert!(create(&mut rig, &mut a, "new") > SpaceId(700));
}

#[test]
fn looks_name_the_holders() {
    let mut rig = Rig::new();
    let (mut a, mut b) = (rig.local(1), rig.remote(2));
    rig.granted(&mut a, lock("x", EX));
    rig.queued(&mut b, lock("x", PR));
    rig.now = rig.now.after(Span::from_secs(1));
    let query = Query::Resource { space: SpaceId(0), name: b"x" };
    let Report::Resource(Some(detail)) = look(&mut rig, &mut a, query) else { panic!("found") };
    assert_eq!(
        (detail.granted[0].holder.session, detail.waiting[0].holder.session),
        (Some(a.session), Some(b.session))
    );
    assert_eq!((&detail.granted[0].holder.meta, detail.granted[0].since), (&meta(), Some(Span::from_secs(1))));
    assert_eq!(detail.master, lockstead_types::NodeId(1));
    let Report::Waits(waits) = look(&mut rig, &mut a, Query::Waits) else { panic!("edges") };
    assert_eq!(waits.edges[0].waiter.holder.session, Some(b.session));
    let query = Query::Resources { space: SpaceId(0), prefix: b"", from: 0 };
    let Report::Resources { rows, next: None } = look(&mut rig, &mut a, query) else { panic!("rows") };
    assert_eq!((rows.len(), rows[0].granted, rows[0].waiting), (1, 1, 1));
    let query = Query::Resource { space: SpaceId(9), name: b"x" };
    assert_eq!(rig.refused(&mut a, Op::Query(query)), Refusal::NoLockspace);
    let Report::Sessions { rows, .. } = look(&mut rig, &mut a, Query::Sessions { after: None }) else { panic!("rows") };
    assert_eq!(rows.iter().map(|r| (r.locks, r.left)).collect::<Vec<_>>(), [(1, Span::from_secs(9)); 2]);
}

#[test]
fn looks_are_bounded_and_say_what_they_leave_out() {
    let limits = Limits { rows_per_answer: 10, ..Limits::default() };
    let mut rig = Rig::with(NodeConfig { limits, ..config() });
    let (mut a, mut b) = (rig.local(1), rig.remote(2));
    let share = |name| Op::Lock(LockRequest { owner: OwnerRef::Alone, ..request(name, PR, Wait::Forever) });
    for _ in 0..20 {
        rig.granted(&mut a, share("x"));
    }
    rig.queued(&mut b, lock("x", EX));
    let query = || Query::Resource { space: SpaceId(0), name: b"x" };
    let Report::Resource(Some(detail)) = look(&mut rig, &mut a, query()) else { panic!("found") };
    assert_eq!((detail.granted.len(), detail.waiting.len()), (9, 1), "who waits is not hidden by many holders");
    assert_eq!(detail.left_out, LeftOut { granted: 11, converting: 0, waiting: 0 });
    let Report::Waits(waits) = look(&mut rig, &mut a, Query::Waits) else { panic!("waits") };
    assert_eq!((waits.edges.len(), waits.waiting, waits.more), (10, 1, true), "of twenty edges of one");
    for _ in 0..100 {
        rig.queued(&mut a, share("x"));
        rig.say(a.conn, ClientMessage::Ack { answers: a.asked });
    }
    let Report::Resource(Some(detail)) = look(&mut rig, &mut a, query()) else { panic!("found") };
    assert_eq!((detail.granted.len(), detail.waiting.len()), (5, 5));
    assert_eq!(detail.left_out, LeftOut { granted: 15, converting: 0, waiting: 96 });
    let Report::Waits(waits) = look(&mut rig, &mut a, Query::Waits) else { panic!("waits") };
    assert_eq!((waits.edges.len(), waits.waiting, waits.more), (10, 101, true));
}

#[test]
fn status_counts() {
    let mut rig = Rig::new();
    let (mut a, mut b) = (rig.local(1), rig.local(2));
    let held = rig.granted(&mut a, lock("x", EX));
    rig.queued(&mut b, lock("x", EX));
    rig.refused(&mut b, Op::Lock(request("x", PR, Wait::Never)));
    let count = |rig: &Rig, name: &str| {
        let counters = rig.node.status(rig.now).counters;
        counters.iter().find(|(n, _)| n == name).map(|(_, count)| *count)
    };
    assert_eq!(count(&rig, "waits_in_progress"), Some(1), "waits are seen while they last");
    rig.now = rig.now.after(Span::from_secs(5));
    rig.reply(&mut a, release(held.lock));
    for (name, expected) in [
        ("requests_lock", 3),
        ("grants", 2),
        ("queued", 1),
        ("waits_in_progress", 0),
        ("wait_le_1s", 0),
        ("wait_le_10s", 1),
        ("wait_count", 1),
        ("wait_sum_us", 5_000_000),
        ("notices_blocking", 1),
        ("sessions_opened", 2),
    ] {
        assert_eq!(count(&rig, name), Some(expected), "{name}");
    }
}

#[test]
fn deadlocks_are_kept_as_they_were() {
    let limits = Limits { deadlock_reports: 2, ..Limits::default() };
    let mut rig = Rig::with(NodeConfig { limits, ..config() });
    let (mut a, mut b) = (rig.local(1), rig.local(2));
    rig.granted(&mut a, lock("x", EX));
    rig.granted(&mut b, lock("y", EX));
    rig.queued(&mut a, lock("y", EX));
    for _ in 0..3 {
        assert_eq!(rig.refused(&mut b, lock("x", EX)), Refusal::Deadlock);
    }
    rig.now = rig.now.after(Span::from_secs(3));
    rig.handle(Input::Disconnected { conn: a.conn });
    let Report::Deadlocks(found) = look(&mut rig, &mut b, Query::Deadlocks) else { panic!("reports") };
    let reports = found.reports;
    assert_eq!(reports.iter().map(|r| r.number).collect::<Vec<_>>(), [2, 3], "the oldest is dropped");
    assert_eq!(reports[0].ago, Span::from_secs(3));
    let ends: Vec<_> = reports[0].cycle.iter().map(|e| (e.waiter.holder.session, e.blocker.holder.session)).collect();
    assert_eq!(ends.len(), 2);
    assert!(ends.contains(&(Some(a.session), Some(b.session))) && ends.contains(&(Some(b.session), Some(a.session))));
    assert!(reports[0].cycle.iter().all(|e| e.waiter.holder.meta == meta()));
}

#[test]
fn long_cycles_and_many_of_them_are_cut_and_counted() {
    let limits = Limits { rows_per_answer: 30, ..Limits::default() };
    let mut rig = Rig::with(NodeConfig { limits, ..config() });
    let mut seats: Vec<Seat> = (1..=40).map(|n| rig.local(n)).collect();
    let names: Vec<String> = (0..seats.len()).map(|n| format!("x{n}")).collect();
    for (seat, name) in seats.iter_mut().zip(&names) {
        rig.granted(seat, lock(name, EX));
    }
    for (seat, next) in seats.iter_mut().zip(&names[1..]) {
        rig.queued(seat, lock(next, EX));
    }
    let last = seats.last_mut().expect("forty");
    assert_eq!(rig.refused(last, lock("x0", EX)), Refusal::Deadlock);
    let Report::Deadlocks(found) = look(&mut rig, last, Query::Deadlocks) else { panic!("reports") };
    assert_eq!((found.reports.len(), found.left_out), (1, 0));
    assert_eq!((found.reports[0].cycle.len(), found.reports[0].left_out), (30, 10));
    for _ in 0..3 {
        assert_eq!(rig.refused(last, lock("x0", EX)), Refusal::Deadlock);
    }
    let Report::Deadlocks(found) = look(&mut rig, last, Query::Deadlocks) else { panic!("reports") };
    assert_eq!(found.reports.iter().map(|r| r.number).collect::<Vec<_>>(), [4], "the newest");
    assert_eq!(found.left_out, 3);
}

#[test]
fn force_is_guarded_and_audited() {
    let mut rig = Rig::new();
    let (mut a, mut b) = (rig.local(1), rig.remote(2));
    let held = rig.granted(&mut b, lock("x", EX));
    let force = |token, reason| Op::ForceRelease { space: SpaceId(0), name: b"x", token, reason };
    assert_eq!(rig.refused(&mut a, force(held.token, " ")), Refusal::Invalid);
    assert_eq!(rig.refused(&mut a, force(lockstead_types::Token::NONE, "stuck")), Refusal::NotHeld);
    let out = rig.ask(&mut a, force(held.token, "stuck\nsince noon"));
    assert_eq!(replies(&out, a.conn), [(3, Reply::Released)]);
    assert_eq!(notices(&out, b.conn), [Notice::Revoked { lock: held.lock, why: Revoked::Forced }]);
    let line = &audits(&out)[0];
    for part in [" x ", &held.token.to_string(), "uid=1000", "stuck since noon"] {
        assert!(line.contains(part), "{part} in {line}");
    }
    assert!(!line.contains('\n'));
}

#[test]
fn sessions_are_ended_by_force_with_all_they_hold() {
    let mut rig = Rig::new();
    let (mut a, mut b) = (rig.local(1), rig.remote(2));
    rig.granted(&mut b, lock("x", EX));
    rig.queued(&mut a, lock("x", EX));
    let end = |session, reason| Op::EndSession { session, reason };
    assert_eq!(rig.refused(&mut a, end(SessionId(9), "gone")), Refusal::NotHeld);
    assert_eq!(rig.refused(&mut a, end(b.session, "")), Refusal::Invalid);
    let out = rig.ask(&mut a, end(b.session, "gone"));
    assert!(matches!(&replies(&out, a.conn)[..], [(4, Reply::Done), (1, Reply::Granted(_))]));
    assert_eq!(sent_to(&out, b.conn), [ServerMessage::Ended]);
    assert!(audits(&out)[0].contains(&b.session.to_string()));
    let own = a.session;
    let out = rig.ask(&mut a, end(own, "myself"));
    assert_eq!(sent_to(&out, a.conn).len(), 2, "answered, then told");
}

#[test]
fn orphans_are_purged() {
    let mut rig = Rig::new();
    let (mut a, mut b) = (rig.local(1), rig.local(2));
    let persistent = LockRequest { flags: lockstead_types::Flags::PERSISTENT, ..request("x", EX, Wait::Never) };
    rig.granted(&mut a, Op::Lock(persistent));
    rig.handle(Input::Disconnected { conn: a.conn });
    assert_eq!(rig.node.status(rig.now).orphans, 1);
    rig.queued(&mut b, lock("x", PR));
    let purge = |session| Op::Purge { space: SpaceId(0), session };
    assert_eq!(rig.reply(&mut b, purge(Some(SessionId(7)))), Reply::Purged(0));
    let out = rig.ask(&mut b, purge(Some(SessionId(1))));
    assert!(matches!(&replies(&out, b.conn)[..], [(3, Reply::Purged(1)), (1, Reply::Granted(_))]));
    assert_eq!(rig.refused(&mut b, Op::Purge { space: SpaceId(9), session: None }), Refusal::NoLockspace);
}

#[test]
fn watchers_see_changes_under_their_prefix() {
    let limits = Limits { watches: 2, ..Limits::default() };
    let mut rig = Rig::with(NodeConfig { limits, ..config() });
    let (mut a, mut b) = (rig.local(1), rig.remote(2));
    let watch = |prefix| Op::Watch { space: SpaceId(0), prefix };
    assert_eq!(rig.reply(&mut b, watch(b"jobs/")), Reply::Done);
    assert_eq!(rig.reply(&mut b, watch(b"jobs/1")), Reply::Done);
    assert_eq!(rig.refused(&mut b, watch(b"x")), Refusal::Limit(LimitName::Watches));
    assert_eq!(rig.refused(&mut b, Op::Watch { space: SpaceId(8), prefix: b"" }), Refusal::NoLockspace);
    let out = rig.ask(&mut a, lock("jobs/1", EX));
    let changes = notices(&out, b.conn);
    assert!(
        matches!(&changes[..], [Notice::Changed(c)] if c.event == ChangeEvent::Granted && c.session == Some(a.session)),
        "once, though two prefixes match: {changes:?}"
    );
    assert_eq!(notices(&rig.ask(&mut a, lock("other", EX)), b.conn), []);
    let out = rig.handle(Input::Disconnected { conn: a.conn });
    assert!(
        matches!(&notices(&out, b.conn)[..], [Notice::Changed(c)] if c.event == ChangeEvent::Released
            && c.session == Some(a.session)),
        "its session is named though it is over"
    );
    rig.handle(Input::Disconnected { conn: b.conn });
    let conn = rig.greet(false);
    assert_eq!(notices(&rig.say(conn, attach(b.session, 4)), conn), [Notice::Resync], "changes were missed");
    let mut b = Seat { conn, ..b };
    assert_eq!(rig.reply(&mut b, Op::Unwatch), Reply::Done);
    let mut c = rig.local(3);
    assert_eq!(notices(&rig.ask(&mut c, lock("jobs/1", EX)), b.conn), []);
}
