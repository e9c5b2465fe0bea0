//! Locks from every node, whoever is master.

use lockstead_types::{
    Flags, Span,
    message::ServerMessage,
    reply::Reply,
    request::{Claim, LockRequest, Op, Wait},
};

use crate::rig::{Cluster, EX, PR, blocking, granted, is_queued, is_released, refusal, request};

#[test]
fn a_lock_works_the_same_from_every_node() {
    for (home, master) in [(1, 1), (1, 2), (3, 2), (2, 3)] {
        let mut cluster = Cluster::of(3);
        let name = cluster.name_at(master);
        let (mut a, mut b) = (cluster.open(home, 1), cluster.open(3, 2));
        let first = cluster.locked(&mut a, &name, EX);
        assert!(is_queued(&cluster.lock(&mut b, &name, PR)));
        assert_eq!(blocking(&cluster.told(a.conn)), Some((first.lock, Claim::Mode(PR))));
        assert!(is_released(&cluster.release(&mut a, first.lock)));
        let second = granted(&cluster.told(b.conn)).expect("granted after the release");
        assert!(second.token > first.token);
    }
}

#[test]
fn conversions_values_and_cancels_reach_the_master() {
    let mut cluster = Cluster::of(3);
    let name = cluster.name_at(2);
    let (mut a, mut b) = (cluster.open(1, 1), cluster.open(3, 2));
    let (one, two) = (cluster.locked(&mut a, &name, PR), cluster.locked(&mut b, &name, PR));
    assert!(is_queued(&cluster.convert(&mut a, one.lock, EX)));
    assert_eq!(blocking(&cluster.told(b.conn)), Some((two.lock, Claim::Mode(EX))));
    let told = cluster.ask(&mut a, Op::Cancel(lockstead_types::request::Target::Lock(one.lock)));
    let cancelled = |m: &ServerMessage| matches!(m, ServerMessage::Reply { reply: Reply::Cancelled, .. });
    assert_eq!(told.iter().filter(|m| cancelled(m)).count(), 2, "{told:?}");
    assert!(is_queued(&cluster.convert(&mut a, one.lock, EX)));
    assert!(is_released(&cluster.release(&mut b, two.lock)));
    assert!(granted(&cluster.told(a.conn)).is_some_and(|g| g.lock == one.lock && g.claim == Claim::Mode(EX)));
}

#[test]
fn several_names_of_several_masters_come_together_or_not_at_all() {
    let mut cluster = Cluster::of(3);
    let names: Vec<Vec<u8>> = (1..=3).map(|node| cluster.name_at(node)).collect();
    let (mut a, mut b) = (cluster.open(1, 1), cluster.open(2, 2));
    let held = cluster.locked(&mut b, &names[1], EX);
    let try_all = |wait| {
        let of = |name| LockRequest { wait, ..request(name, EX) };
        Op::LockMany(names.iter().map(|name| of(name)).collect())
    };
    let told = cluster.ask(&mut a, try_all(Wait::Never));
    assert!(refusal(&told).is_some(), "{told:?}");
    let told = cluster.ask(&mut a, try_all(Wait::Forever));
    assert!(granted(&told).is_none());
    assert!(is_released(&cluster.release(&mut b, held.lock)));
    let told = cluster.told(a.conn);
    let many =
        |m: &ServerMessage| matches!(m, ServerMessage::Reply { reply: Reply::GrantedMany(g), .. } if g.len() == 3);
    assert!(told.iter().any(many), "{told:?}");
}

#[test]
fn a_goodbye_frees_locks_at_other_masters() {
    let mut cluster = Cluster::of(3);
    let name = cluster.name_at(2);
    let (mut a, mut b) = (cluster.open(1, 1), cluster.open(3, 2));
    cluster.locked(&mut a, &name, EX);
    assert!(is_queued(&cluster.lock(&mut b, &name, EX)));
    cluster.say(&a, lockstead_types::message::ClientMessage::Goodbye);
    assert!(granted(&cluster.told(b.conn)).is_some());
    assert!(!cluster.state.sessions.contains_key(&a.session));
}

#[test]
fn a_bounded_wait_ends_at_the_master() {
    let mut cluster = Cluster::of(3);
    let name = cluster.name_at(2);
    let (mut a, mut b) = (cluster.open(1, 1), cluster.open(3, 2));
    cluster.locked(&mut a, &name, EX);
    let bounded = LockRequest { wait: Wait::For(Span::from_secs(1)), flags: Flags::NONE, ..request(&name, EX) };
    assert!(is_queued(&cluster.ask(&mut b, Op::Lock(bounded))));
    cluster.pass(Span::from_millis(999));
    assert_eq!(cluster.told(b.conn), []);
    cluster.pass(Span::from_millis(2));
    assert_eq!(refusal(&cluster.told(b.conn)), Some(lockstead_types::Refusal::Timeout));
}

#[test]
fn a_cut_link_delays_and_loses_nothing() {
    let mut cluster = Cluster::of(2);
    let name = cluster.name_at(2);
    let mut a = cluster.open(1, 1);
    cluster.cut.insert((1, 2));
    assert_eq!(cluster.lock(&mut a, &name, EX), []);
    cluster.join(1, 2);
    assert!(granted(&cluster.told(a.conn)).is_some());
}
