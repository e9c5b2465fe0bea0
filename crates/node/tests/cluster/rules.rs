//! One test for each rule of CLUSTER in `docs/semantics.md` that no story of the other files shows.

use lockstead_cluster::{Command, EndWhy};
use lockstead_node::Input;
use lockstead_types::{
    Flags, NodeId, SessionId, Slot, SpaceId, Span,
    message::{ClientMessage, ServerMessage},
    refusal::Refusal,
    reply::{Notice, Reply},
    request::{LockRequest, Op, ReleaseRequest, Wait},
};

use crate::rig::{Cluster, EX, PR, TTL, granted, is_queued, is_released, refusal, request};

fn grants(told: &[ServerMessage]) -> usize {
    let grant = |m: &&ServerMessage| matches!(m, ServerMessage::Reply { reply: Reply::Granted(_), .. });
    told.iter().filter(grant).count()
}

#[test]
fn what_a_dead_start_was_asked_is_asked_again() {
    let mut cluster = Cluster::of(2);
    let name = cluster.name_at(2);
    let mut a = cluster.open(1, 1);
    cluster.cut.insert((1, 2));
    assert_eq!(cluster.lock(&mut a, &name, EX), []);
    cluster.kill(2);
    cluster.start(2);
    // What was on its way to the start that died arrives at the new one, over a connection that is gone.
    cluster.join(1, 2);
    assert_eq!(grants(&cluster.told(a.conn)), 1);
}

#[test]
fn tokens_rise_from_master_to_master() {
    let mut cluster = Cluster::of(3);
    let (there, elsewhere) = (cluster.name_at(2), cluster.name_at(3));
    let mut a = cluster.open(1, 1);
    let mut newest = None;
    for _ in 0..10 {
        let held = cluster.locked(&mut a, &there, EX);
        assert!(is_released(&cluster.release(&mut a, held.lock)));
        newest = Some(held.token);
    }
    let held = cluster.locked(&mut a, &elsewhere, EX);
    assert!(Some(held.token) > newest, "node 1 has told node 3 what it had heard of node 2");
}

#[test]
fn a_request_that_reaches_an_old_master_does_nothing_there() {
    let mut cluster = Cluster::of(3);
    let name = cluster.name_at(2);
    let (mut a, mut b) = (cluster.open(1, 1), cluster.open(2, 2));
    cluster.cut.insert((1, 2));
    assert_eq!(cluster.lock(&mut a, &name, EX), []);
    cluster.move_to(&name, 3);
    let held = granted(&cluster.told(a.conn)).expect("asked again of node 3, and granted");
    // Now node 2 gets the request of before.
    cluster.join(1, 2);
    assert_eq!(cluster.told(a.conn), []);
    assert!(is_queued(&cluster.lock(&mut b, &name, EX)));
    assert!(is_released(&cluster.release(&mut a, held.lock)));
    assert_eq!(grants(&cluster.told(b.conn)), 1, "nothing is held twice");
}

#[test]
fn a_conversion_down_is_reported_in_what_it_leaves() {
    let mut cluster = Cluster::of(3);
    let name = cluster.name_at(2);
    let (mut a, mut b) = (cluster.open(1, 1), cluster.open(3, 2));
    let held = cluster.locked(&mut a, &name, EX);
    cluster.cut.insert((2, 1));
    assert_eq!(cluster.convert(&mut a, held.lock, PR), [], "carried out, and the answer is on its way");
    // The old master may have granted this beside it.
    let beside = cluster.locked(&mut b, &name, PR);
    cluster.kill(2);
    cluster.evict(2);
    let told = cluster.told(a.conn);
    assert!(granted(&told).is_some_and(|g| g.lock == held.lock), "asked again: {told:?}");
    assert!(is_released(&cluster.release(&mut b, beside.lock)), "nobody lost");
}

#[test]
fn what_an_old_master_says_after_the_report_is_ignored() {
    let mut cluster = Cluster::of(3);
    let name = cluster.name_at(2);
    let mut a = cluster.open(1, 1);
    cluster.cut.insert((2, 1));
    assert_eq!(cluster.lock(&mut a, &name, EX), [], "granted by node 2, which node 1 does not hear");
    cluster.move_to(&name, 3);
    let told = cluster.told(a.conn);
    let held = granted(&told).unwrap_or_else(|| panic!("asked again of node 3: {told:?}"));
    cluster.join(2, 1);
    assert_eq!(cluster.told(a.conn), []);
    assert!(is_released(&cluster.release(&mut a, held.lock)), "it is the lock of node 3");
}

#[test]
fn the_directory_says_when_a_session_is_over() {
    let mut cluster = Cluster::of(3);
    let name = cluster.name_at(2);
    let (mut a, mut b) = (cluster.open(3, 1), cluster.open(1, 2));
    cluster.locked(&mut a, &name, EX);
    assert!(is_queued(&cluster.lock(&mut b, &name, EX)));
    cluster.kill(3);
    cluster.evict(3);
    let renew = |cluster: &mut Cluster| {
        for seq in 1..9 {
            cluster.pass(TTL.scaled(1, 2));
            cluster.say(&b, ClientMessage::Renew { seq });
        }
    };
    renew(&mut cluster);
    assert_eq!(cluster.told(b.conn), [], "four leases later: no node ends another's session");
    let home = cluster.state.sessions[&a.session].generation;
    cluster.apply(&Command::EndSession { session: a.session, home, why: EndWhy::Expired });
    cluster.run();
    assert_eq!(grants(&cluster.told(b.conn)), 1);
}

#[test]
fn a_home_ends_its_sessions_by_its_own_clock() {
    let mut cluster = Cluster::of(2);
    let name = cluster.name_at(2);
    let (mut a, mut b) = (cluster.open(1, 1), cluster.open(2, 2));
    cluster.locked(&mut a, &name, EX);
    cluster.pass(TTL.scaled(1, 2));
    cluster.say(&b, ClientMessage::Renew { seq: 1 });
    assert!(is_queued(&cluster.lock(&mut b, &name, EX)));
    cluster.pass(TTL.scaled(1, 2).less(Span::from_millis(1)));
    assert!(cluster.state.sessions.contains_key(&a.session));
    cluster.pass(Span::from_millis(2));
    assert!(!cluster.state.sessions.contains_key(&a.session));
    assert_eq!(grants(&cluster.told(b.conn)), 1);
}

#[test]
fn sync_waits_until_all_homes_have_heard() {
    let mut cluster = Cluster::of(3);
    let name = cluster.name_at(2);
    let (mut a, mut b) = (cluster.open(1, 1), cluster.open(3, 2));
    let held = cluster.locked(&mut a, &name, EX);
    assert!(is_queued(&cluster.lock(&mut b, &name, EX)));
    cluster.told(a.conn);
    cluster.cut.insert((2, 3));
    let release = ReleaseRequest { lock: held.lock, flags: Flags::NONE, value: None };
    cluster.ask(&mut a, Op::Release { release, one_way: true });
    assert_eq!(cluster.ask(&mut a, Op::Sync), [], "the grant is on its way to node 3");
    cluster.join(2, 3);
    assert_eq!(grants(&cluster.told(b.conn)), 1);
    let told = cluster.told(a.conn);
    assert!(matches!(told[..], [ServerMessage::Reply { reply: Reply::Done, .. }]), "{told:?}");
}

#[test]
fn requests_of_a_slot_keep_their_order() {
    let mut cluster = Cluster::of(2);
    let name = cluster.name_at(2);
    let mut a = cluster.open(1, 1);
    let held = cluster.locked(&mut a, &name, EX);
    // Node 2 has started anew and not told node 1 yet what it calls the lock.
    cluster.kill(2);
    cluster.cut.insert((2, 1));
    cluster.start(2);
    assert_eq!(cluster.release(&mut a, held.lock), []);
    assert_eq!(cluster.lock(&mut a, &name, EX), []);
    cluster.join(2, 1);
    let told = cluster.told(a.conn);
    assert!(is_released(&told), "{told:?}");
    assert_eq!((grants(&told), refusal(&told)), (1, None), "not busy: {told:?}");
}

#[test]
fn an_open_session_is_in_the_directory() {
    let mut cluster = Cluster::of(2);
    let a = cluster.open(1, 1);
    assert_eq!(cluster.state.sessions[&a.session].home, NodeId(1));
}

#[test]
fn a_wait_whose_master_is_silent_ends_at_its_home() {
    let mut cluster = Cluster::of(3);
    let name = cluster.name_at(2);
    let (mut a, mut b, mut c) = (cluster.open(1, 1), cluster.open(3, 2), cluster.open(3, 3));
    let held = cluster.locked(&mut b, &name, EX);
    let bounded = LockRequest { wait: Wait::For(Span::from_secs(1)), ..request(&name, EX) };
    assert!(is_queued(&cluster.ask(&mut a, Op::Lock(bounded))));
    cluster.cut.insert((2, 1));
    assert!(is_released(&cluster.release(&mut b, held.lock)));
    assert!(is_queued(&cluster.lock(&mut c, &name, EX)), "granted to the one whose home does not hear of it");
    cluster.pass(Span::from_millis(1_499));
    assert_eq!(cluster.told(a.conn), []);
    cluster.pass(Span::from_millis(2));
    assert_eq!(refusal(&cluster.told(a.conn)), Some(Refusal::Timeout));
    cluster.join(2, 1);
    assert_eq!(grants(&cluster.told(a.conn)), 0);
    assert_eq!(grants(&cluster.told(c.conn)), 1, "given back");
}

#[test]
fn watchers_hear_of_all_masters_and_look_again_when_these_change() {
    let mut cluster = Cluster::of(3);
    let name = cluster.name_at(3);
    let (mut a, mut b) = (cluster.open(1, 1), cluster.open(2, 2));
    cluster.ask(&mut a, Op::Watch { space: SpaceId(0), prefix: b"" });
    cluster.locked(&mut b, &name, EX);
    let changed = |m: &ServerMessage| matches!(m, ServerMessage::Notice(Notice::Changed(_)));
    assert!(cluster.told(a.conn).iter().any(changed));
    cluster.kill(3);
    cluster.evict(3);
    assert!(cluster.told(a.conn).contains(&ServerMessage::Notice(Notice::Resync)));
}

#[test]
fn watchers_hear_of_masters_that_apply_late() {
    let mut cluster = Cluster::of(3);
    let name = cluster.name_at(3);
    let mut b = cluster.open(2, 2);
    cluster.fall_behind(3);
    let mut a = cluster.open(1, 1);
    cluster.ask(&mut a, Op::Watch { space: SpaceId(0), prefix: b"" });
    let held = cluster.locked(&mut b, &name, EX);
    let changed = |m: &ServerMessage| matches!(m, ServerMessage::Notice(Notice::Changed(_)));
    assert!(cluster.told(a.conn).iter().any(changed));
    // Its next home is told, and no longer the one before it.
    cluster.attach(&mut a, 2);
    cluster.say(&a, ClientMessage::ReclaimDone);
    cluster.ask(&mut a, Op::Watch { space: SpaceId(0), prefix: b"" });
    cluster.release(&mut b, held.lock);
    assert!(cluster.told(a.conn).iter().any(changed));
    cluster.catch_up(3);
    cluster.say(&a, ClientMessage::Goodbye);
    cluster.locked(&mut b, &name, EX);
    assert!(!cluster.told(a.conn).iter().any(changed), "nobody watches any more");
}

#[test]
fn a_member_that_does_not_know_a_session_asks_the_others_before_it_calls_it_over() {
    let mut cluster = Cluster::of(3);
    cluster.fall_behind(2);
    let mut a = cluster.open(1, 1);
    assert_eq!(cluster.attach(&mut a, 2), [], "not in its directory, which says nothing");
    cluster.catch_up(2);
    let told = cluster.told(a.conn);
    assert!(matches!(told[..], [ServerMessage::Attached(_)]), "{told:?}");
    let mut nobody = a.clone();
    nobody.session = SessionId(77);
    assert_eq!(cluster.attach(&mut nobody, 3), [ServerMessage::Ended]);
}

#[test]
fn a_home_that_has_not_heard_that_a_session_left_does_not_doubt_its_count() {
    let mut cluster = Cluster::of(3);
    let name = cluster.name_at(3);
    let mut a = cluster.open(1, 1);
    let first = cluster.locked(&mut a, &name, EX);
    cluster.fall_behind(1);
    assert!(matches!(cluster.attach(&mut a, 2)[..], [ServerMessage::Attached(_)]));
    assert!(cluster.claim(&a, &name, &first).is_some());
    cluster.say(&a, ClientMessage::ReclaimDone);
    cluster.locked(&mut a, b"more", EX);
    cluster.locked(&mut a, b"and more", EX);
    // Back at node 1, which gave one answer, and believes that it is its home still.
    let told = cluster.attach_with(&mut a, 1, 3);
    assert_eq!(told, [], "not a breach of the protocol: it asks the others");
    cluster.catch_up(1);
    let told = cluster.told(a.conn);
    assert!(matches!(told[..], [ServerMessage::Attached(_)]), "{told:?}");
}

#[test]
fn a_home_that_holds_a_session_to_be_over_hears_first_where_it_is() {
    let mut cluster = Cluster::of(3);
    let mut a = cluster.open(1, 1);
    cluster.fall_behind(1);
    cluster.pass(TTL.scaled(1, 2));
    assert!(matches!(cluster.attach(&mut a, 2)[..], [ServerMessage::Attached(_)]));
    // Node 1 has not heard of it, and ends the session by its own clock.
    cluster.pass(TTL.scaled(3, 4));
    assert_eq!(cluster.attach(&mut a, 1), []);
    cluster.catch_up(1);
    cluster.pass(Span::from_millis(1_100));
    let told = cluster.told(a.conn);
    assert!(matches!(told[..], [ServerMessage::Attached(_)]), "{told:?}");
}

#[test]
fn an_end_that_was_refused_to_an_earlier_home_stops_no_other() {
    let mut cluster = Cluster::of(3);
    let mut a = cluster.open(1, 1);
    let session = a.session;
    let earlier = cluster.state.sessions[&session].generation;
    cluster.attach(&mut a, 2);
    cluster.losing = true;
    cluster.pass(TTL.scaled(3, 2));
    cluster.apply(&Command::EndSession { session, home: earlier, why: EndWhy::Expired });
    cluster.losing = false;
    cluster.pass(Span::from_millis(1_100));
    assert!(!cluster.state.sessions.contains_key(&session), "its home has proposed it again");
}

#[test]
fn nobody_is_brought_here_who_has_given_up_coming() {
    let mut cluster = Cluster::of(3);
    let mut a = cluster.open(1, 1);
    let before = a.clone();
    cluster.losing = true;
    assert_eq!(cluster.attach(&mut a, 2), []);
    cluster.handle(2, Input::Disconnected { conn: a.conn });
    cluster.losing = false;
    cluster.pass(Span::from_millis(1_100));
    assert_eq!(cluster.told(before.conn), [], "its client is still at node 1");
}

#[test]
fn who_comes_while_its_session_ends_may_have_opened_it_anew() {
    let mut cluster = Cluster::of(3);
    let mut a = cluster.open(3, 1);
    cluster.fall_behind(3);
    cluster.pass(TTL.scaled(3, 2));
    assert!(cluster.state.sessions.is_empty(), "node 3 has ended it, and not heard that it is so");
    cluster.open(2, 1);
    assert_eq!(cluster.attach(&mut a, 3), [], "it hears first");
    cluster.catch_up(3);
    let told = cluster.told(a.conn);
    assert!(matches!(&told[..], [ServerMessage::Attached(attached), ..] if attached.reclaim), "{told:?}");
}

#[test]
fn nothing_of_a_session_that_said_goodbye_is_reported() {
    let mut cluster = Cluster::of(3);
    let name = cluster.name_at(2);
    let (mut a, mut b) = (cluster.open(1, 1), cluster.open(3, 2));
    // The grant is on its way when a says goodbye, which is not agreed on for now.
    cluster.cut.extend([(1, 2), (2, 1)]);
    assert_eq!(cluster.lock(&mut a, &name, EX), []);
    cluster.stall();
    cluster.say(&a, ClientMessage::Goodbye);
    cluster.join(1, 2);
    let later = cluster.locked(&mut b, &name, EX);
    cluster.release(&mut b, later.lock);
    let slot = Slot::of(7, SpaceId(0), &name);
    let entry = cluster.state.slots[usize::from(slot.0)];
    cluster.apply(&Command::Move { slots: vec![(slot, entry.generation, NodeId(3))] });
    assert!(granted(&cluster.lock(&mut b, &name, EX)).is_some(), "nobody else has it");
}
