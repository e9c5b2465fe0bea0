//! Cycles of waits over several masters: found in time, one victim each, and never one that is not there.

use lockstead_types::{
    Flags, RequestId, Span,
    message::{ClientMessage, ServerMessage},
    refusal::Refusal,
    reply::Reply,
    report::VictimReason,
    request::{LockRequest, Op, OwnerRef, Target},
    space::{DeadlockPolicy, SpaceSpec, VictimPolicy},
};

use crate::rig::{Client, Cluster, EX, PR, granted, request};

/// The longest delay before a search begins.
const DELAY: Span = Span::from_millis(100);

/// Whether one of these, among notices, says that the request waits.
fn is_queued(told: &[ServerMessage]) -> bool {
    told.iter().any(|message| matches!(message, ServerMessage::Reply { reply: Reply::Queued(_), .. }))
}

fn is_granted(told: &[ServerMessage]) -> bool {
    told.iter().any(|message| matches!(message, ServerMessage::Reply { reply: Reply::Granted(_), .. }))
}

/// Owner i holds the name i and waits for the name i + 1, the last for the first.
fn ring(cluster: &mut Cluster, names: &[Vec<u8>], nodes: u16) -> Vec<Client> {
    let mut clients: Vec<Client> =
        (0..names.len()).map(|i| cluster.open(i as u16 % nodes + 1, 1 + i as u128)).collect();
    for (client, name) in clients.iter_mut().zip(names) {
        cluster.locked(client, name, EX);
    }
    for i in 0..names.len() {
        queue(cluster, &mut clients[i], &names[(i + 1) % names.len()], EX);
    }
    clients
}

/// Those that were refused, by their place.
fn victims(cluster: &mut Cluster, clients: &[Client]) -> Vec<usize> {
    let dead = |message: &ServerMessage| {
        matches!(message, ServerMessage::Reply { reply: Reply::Refused(Refusal::Deadlock), .. })
    };
    let of = |(i, client): (usize, &Client)| cluster.told(client.conn).iter().any(dead).then_some(i);
    clients.iter().enumerate().filter_map(of).collect()
}

/// Asks for a lock that is not free; what waits for longer is older.
fn queue(cluster: &mut Cluster, client: &mut Client, name: &[u8], mode: lockstead_types::Mode) {
    cluster.pass(Span::from_nanos(10_000));
    let told = cluster.lock(client, name, mode);
    assert!(is_queued(&told), "{told:?}");
}

/// A name at each node in turn.
fn names_over(cluster: &Cluster, nodes: u16, count: usize) -> Vec<Vec<u8>> {
    let of: Vec<Vec<Vec<u8>>> = (1..=nodes).map(|node| cluster.names_at(node, count)).collect();
    (0..count).map(|i| of[i % usize::from(nodes)][i / usize::from(nodes)].clone()).collect()
}

#[test]
fn a_cycle_of_any_length_over_any_nodes_has_one_victim() {
    for nodes in 2..=5 {
        for length in [2, 3, 8, 64] {
            let mut cluster = Cluster::of(nodes);
            let names = names_over(&cluster, nodes, length);
            let clients = ring(&mut cluster, &names, nodes);
            assert_eq!(
                victims(&mut cluster, &clients),
                [],
                "{length} over {nodes}: before anybody has waited for long"
            );
            cluster.pass(DELAY.scaled(2, 1));
            let first = victims(&mut cluster, &clients);
            assert_eq!(first, [length - 1], "{length} over {nodes}: the youngest");
            println!("{length} over {nodes}: {} messages", cluster.probes());
            // Its owner gives way, and all the others go on.
            cluster.say(&clients[first[0]], ClientMessage::Goodbye);
            let next = clients.get(length - 2).map(|client| is_granted(&cluster.told(client.conn)));
            assert_eq!(next, Some(true));
            cluster.pass(Span::from_secs(3));
            assert_eq!(victims(&mut cluster, &clients), [], "no second one");
        }
    }
}

#[test]
fn who_only_waits_for_long_is_no_victim() {
    let mut cluster = Cluster::of(3);
    let (x, y, z) = (cluster.name_at(1), cluster.name_at(2), cluster.name_at(3));
    let (mut a, mut b, mut c) = (cluster.open(1, 1), cluster.open(2, 2), cluster.open(3, 3));
    cluster.locked(&mut a, &x, EX);
    cluster.locked(&mut b, &y, EX);
    cluster.locked(&mut c, &z, EX);
    queue(&mut cluster, &mut a, &y, EX);
    queue(&mut cluster, &mut b, &z, EX);
    cluster.pass(Span::from_secs(5));
    assert_eq!(victims(&mut cluster, &[a, b, c]), []);
}

#[test]
fn soft_edges_count_over_nodes_too() {
    let mut cluster = Cluster::of(2);
    let (x, y) = (cluster.name_at(1), cluster.name_at(2));
    let (mut a, mut b, mut c) = (cluster.open(1, 1), cluster.open(2, 2), cluster.open(1, 3));
    cluster.locked(&mut a, &x, PR);
    cluster.locked(&mut b, &y, EX);
    // c waits for a; b, who would be compatible with a, waits behind c; and a waits for b.
    queue(&mut cluster, &mut c, &x, EX);
    queue(&mut cluster, &mut b, &x, PR);
    queue(&mut cluster, &mut a, &y, EX);
    cluster.pass(DELAY.scaled(2, 1));
    assert_eq!(victims(&mut cluster, &[a, b, c]), [0]);
}

#[test]
fn of_two_cycles_through_one_wait_one_victim_breaks_both_where_it_can() {
    let mut cluster = Cluster::of(3);
    let names: Vec<Vec<u8>> = (1..=3).map(|node| cluster.name_at(node)).collect();
    let (mut a, mut b, mut c) = (cluster.open(1, 1), cluster.open(2, 2), cluster.open(3, 3));
    // b and c both wait for a, which waits for what both of them hold: two cycles, and a is in both.
    cluster.locked(&mut a, &names[0], EX);
    cluster.locked(&mut a, &names[2], EX);
    cluster.locked(&mut b, &names[1], PR);
    cluster.locked(&mut c, &names[1], PR);
    queue(&mut cluster, &mut b, &names[0], EX);
    queue(&mut cluster, &mut c, &names[2], EX);
    queue(&mut cluster, &mut a, &names[1], EX);
    cluster.pass(DELAY.scaled(2, 1));
    assert_eq!(victims(&mut cluster, &[a, b, c]), [0], "the youngest of both");
}

#[test]
fn a_wait_between_two_locks_of_one_master_may_be_the_last_of_a_cycle_over_several() {
    for home in [1, 2] {
        let mut cluster = Cluster::of(2);
        let (here, there) = (cluster.names_at(1, 2), cluster.name_at(2));
        let (mut a, mut b, mut c) = (cluster.open(1, 1), cluster.open(2, 2), cluster.open(home, 3));
        cluster.locked(&mut a, &here[0], EX);
        cluster.locked(&mut b, &there, EX);
        cluster.locked(&mut c, &here[1], EX);
        // a waits for b, and b for c: their homes have said so before c waits for a.
        queue(&mut cluster, &mut a, &there, EX);
        queue(&mut cluster, &mut b, &here[1], EX);
        cluster.pass(DELAY);
        queue(&mut cluster, &mut c, &here[0], EX);
        cluster.pass(DELAY.scaled(2, 1));
        assert_eq!(victims(&mut cluster, &[a, b, c]), [2], "c at home at node {home}");
    }
}

#[test]
fn what_is_left_of_overlapping_cycles_is_found_at_once() {
    let mut cluster = Cluster::of(2);
    let (there, here) = (cluster.name_at(2), cluster.names_at(1, 4));
    let (mut a, mut b) = (cluster.open(1, 1), cluster.open(2, 2));
    let mut others: Vec<Client> = (3..=5).map(|session| cluster.open(1, session)).collect();
    // a waits for b, b for each of the others, and each of those for a: three cycles, and a probe comes along one of them.
    cluster.locked(&mut b, &there, EX);
    for (other, name) in others.iter_mut().zip(&here[1..]) {
        cluster.locked(&mut a, name, EX);
        cluster.locked(other, &here[0], PR);
    }
    queue(&mut cluster, &mut a, &there, EX);
    queue(&mut cluster, &mut b, &here[0], EX);
    for (other, name) in others.iter_mut().zip(&here[1..]) {
        queue(&mut cluster, other, name, EX);
    }
    cluster.pass(DELAY.scaled(2, 1));
    let [c, d, e] = &others[..] else { panic!("three") };
    let all = [&a, &b, c, d, e].map(Client::clone);
    assert_eq!(victims(&mut cluster, &all), [2, 3, 4], "the youngest of each");
    println!("{} messages", cluster.probes());
    cluster.pass(Span::from_secs(3));
    assert_eq!(victims(&mut cluster, &all), []);
}

#[test]
fn whose_way_led_through_the_victim_is_looked_at_again() {
    let mut cluster = Cluster::of(2);
    let mut open = |node, session| cluster.open(node, session);
    let (mut a, mut b, mut c, mut d) = (open(2, 1), open(1, 2), open(2, 3), open(1, 4));
    let spec = SpaceSpec { victim: VictimPolicy::LowestPriority, ..SpaceSpec::named("orders") };
    let told = cluster.ask(&mut a, Op::SpaceCreate(Box::new(spec)));
    let [ServerMessage::Reply { reply: Reply::Space(info), .. }] = &told[..] else { panic!("{told:?}") };
    let space = info.space;
    let at = |node: u16| {
        let names = (0u32..).map(|i| format!("n{i}").into_bytes());
        names.into_iter().find(|name| cluster.master_of(space, name) == node).expect("some name is there")
    };
    let (x, y) = (at(1), at(2));
    let lock = |name, mode, priority| Op::Lock(LockRequest { space, priority, ..request(name, mode) });
    let held = granted(&cluster.ask(&mut c, lock(&x, PR, 0))).expect("granted");
    assert!(is_granted(&cluster.ask(&mut d, lock(&x, PR, 0))));
    assert!(is_granted(&cluster.ask(&mut a, lock(&y, EX, 0))));
    // c converts and waits for d; b waits for both of them; a, who would be compatible with both, behind b; and d for a.
    assert!(is_queued(&cluster.convert(&mut c, held.lock, EX)));
    assert!(is_queued(&cluster.ask(&mut b, lock(&x, EX, -5))));
    assert!(is_queued(&cluster.ask(&mut a, lock(&x, PR, 0))));
    cluster.pass(Span::from_millis(1));
    assert!(is_queued(&cluster.ask(&mut d, lock(&y, EX, 0))));
    cluster.pass(DELAY.scaled(2, 1));
    // b pays for the cycle through it, and then a waits behind c.
    assert_eq!(victims(&mut cluster, &[a, b, c, d]), [1, 3]);
}

#[test]
fn who_waits_at_a_slot_that_moves_is_looked_at_when_it_has_come() {
    let mut cluster = Cluster::of(3);
    let (x, y) = (cluster.name_at(1), cluster.name_at(2));
    let (mut a, mut b) = (cluster.open(1, 1), cluster.open(2, 2));
    cluster.locked(&mut b, &x, EX);
    cluster.locked(&mut a, &y, EX);
    queue(&mut cluster, &mut a, &x, EX);
    // The new master takes its time; meanwhile a has waited for long.
    cluster.fall_behind(3);
    cluster.move_to(&x, 3);
    cluster.pass(DELAY);
    cluster.catch_up(3);
    queue(&mut cluster, &mut b, &y, EX);
    cluster.pass(DELAY.scaled(2, 1));
    assert_eq!(victims(&mut cluster, &[a, b]), [1]);
}

#[test]
fn the_victim_is_chosen_by_the_lockspace() {
    for (victim, expected) in [(VictimPolicy::FewestLocks, 1), (VictimPolicy::LowestPriority, 0)] {
        let mut cluster = Cluster::of(2);
        let mut a = cluster.open(1, 1);
        let spec = SpaceSpec { victim, ..SpaceSpec::named("orders") };
        let told = cluster.ask(&mut a, Op::SpaceCreate(Box::new(spec)));
        let [ServerMessage::Reply { reply: Reply::Space(info), .. }] = &told[..] else { panic!("{told:?}") };
        let space = info.space;
        let at = |node: u16, n: u32| {
            let names = (0u32..).map(|i| format!("{n}/{i}").into_bytes());
            names.into_iter().find(|name| cluster.master_of(space, name) == node).expect("some name is there")
        };
        let (x, y, more) = (at(1, 1), at(2, 2), at(1, 3));
        let mut b = cluster.open(2, 2);
        let lock = |name, priority| Op::Lock(LockRequest { space, priority, ..request(name, EX) });
        for name in [&x, &more] {
            assert!(is_granted(&cluster.ask(&mut a, lock(name, 0))));
        }
        assert!(is_granted(&cluster.ask(&mut b, lock(&y, 0))));
        // b has fewer locks, a the lower priority; the younger wait is b's.
        assert!(is_queued(&cluster.ask(&mut a, lock(&y, -5))));
        assert!(is_queued(&cluster.ask(&mut b, lock(&x, 5))));
        cluster.pass(DELAY.scaled(2, 1));
        assert_eq!(victims(&mut cluster, &[a, b]), [expected], "{victim:?}");
    }
}

#[test]
fn waits_that_are_left_out_close_no_cycle_over_nodes() {
    let left_out = |flags| LockRequest { flags, ..request(b"", EX) };
    for (held, waits) in [(Flags::NONE, Flags::NODLCKWT), (Flags::NODLCKBLK, Flags::NONE)] {
        let mut cluster = Cluster::of(2);
        let (x, y) = (cluster.name_at(1), cluster.name_at(2));
        let (mut a, mut b) = (cluster.open(1, 1), cluster.open(2, 2));
        assert!(is_granted(&cluster.ask(&mut a, Op::Lock(LockRequest { name: &x, ..left_out(held) }))));
        cluster.locked(&mut b, &y, EX);
        assert!(is_queued(&cluster.ask(&mut a, Op::Lock(LockRequest { name: &y, ..left_out(waits) }))));
        queue(&mut cluster, &mut b, &x, EX);
        cluster.pass(Span::from_secs(5));
        assert_eq!(victims(&mut cluster, &[a, b]), []);
    }
    // Nor do locks that stand alone, nor those of a lockspace that does not detect.
    let mut cluster = Cluster::of(2);
    let (x, y) = (cluster.name_at(1), cluster.name_at(2));
    let (mut a, mut b) = (cluster.open(1, 1), cluster.open(2, 2));
    let alone = |name| LockRequest { owner: OwnerRef::Alone, ..request(name, EX) };
    assert!(is_granted(&cluster.ask(&mut a, Op::Lock(alone(&x)))));
    cluster.locked(&mut b, &y, EX);
    assert!(is_queued(&cluster.ask(&mut a, Op::Lock(alone(&y)))));
    queue(&mut cluster, &mut b, &x, EX);
    cluster.pass(Span::from_secs(5));
    assert_eq!(victims(&mut cluster, &[a, b]), []);
}

#[test]
fn a_lockspace_that_detects_nothing_is_left_alone_over_nodes_too() {
    let mut cluster = Cluster::of(2);
    let mut a = cluster.open(1, 1);
    let spec = SpaceSpec { deadlock: DeadlockPolicy::Timeout, ..SpaceSpec::named("patient") };
    let told = cluster.ask(&mut a, Op::SpaceCreate(Box::new(spec)));
    let [ServerMessage::Reply { reply: Reply::Space(info), .. }] = &told[..] else { panic!("{told:?}") };
    let space = info.space;
    let (x, y) = (cluster.name_at(1), cluster.name_at(2));
    let mut b = cluster.open(2, 2);
    cluster.locked(&mut a, &x, EX);
    assert!(is_granted(&cluster.ask(&mut b, Op::Lock(LockRequest { space, ..request(&y, EX) }))));
    assert!(is_queued(&cluster.ask(&mut a, Op::Lock(LockRequest { space, ..request(&y, EX) }))));
    queue(&mut cluster, &mut b, &x, EX);
    cluster.pass(Span::from_secs(5));
    assert_eq!(victims(&mut cluster, &[a, b]), []);
}

#[test]
fn a_cycle_that_is_gone_before_it_is_broken_has_no_victim() {
    let mut cluster = Cluster::of(3);
    let names: Vec<Vec<u8>> = (1..=2).map(|node| cluster.name_at(node)).collect();
    let (mut a, mut b) = (cluster.open(1, 1), cluster.open(2, 2));
    cluster.locked(&mut a, &names[0], EX);
    cluster.locked(&mut b, &names[1], EX);
    // The two masters do not hear each other: the cycle is known in part.
    queue(&mut cluster, &mut a, &names[1], EX);
    queue(&mut cluster, &mut b, &names[0], EX);
    cluster.cut.extend([(1, 2), (2, 1)]);
    cluster.pass(Span::from_millis(300));
    let cancel = Op::Cancel(Target::Request(RequestId(2)));
    assert_eq!(cluster.ask(&mut b, cancel), [], "its master hears nothing yet");
    cluster.join(1, 2);
    cluster.pass(Span::from_secs(3));
    assert_eq!(victims(&mut cluster, &[a, b]), [], "b has given up by itself");
}

#[test]
fn a_wait_elsewhere_is_told_of_by_whoever_is_within() {
    let mut cluster = Cluster::of(2);
    let (x, y) = (cluster.name_at(1), cluster.name_at(2));
    let (mut outer, mut other) = (cluster.open(1, 1), cluster.open(2, 3));
    cluster.locked(&mut outer, &x, EX);
    let mut inner = cluster.open_within(1, 2, Some(1));
    cluster.locked(&mut other, &y, EX);
    // The outer one gives x up when the inner one has ended, which waits for y.
    queue(&mut cluster, &mut inner, &y, EX);
    queue(&mut cluster, &mut other, &x, EX);
    cluster.pass(DELAY.scaled(2, 1));
    assert_eq!(victims(&mut cluster, &[outer, inner, other]), [2]);
}

#[test]
fn the_report_says_who_where_and_why() {
    let mut cluster = Cluster::of(3);
    let names = names_over(&cluster, 3, 3);
    let clients = ring(&mut cluster, &names, 3);
    cluster.pass(DELAY.scaled(2, 1));
    assert_eq!(victims(&mut cluster, &clients), [2]);
    let reports = cluster.deadlocks();
    let [report] = &reports[..] else { panic!("{reports:?}") };
    assert_eq!(
        (report.why, report.cycle.len(), report.cycle[0].waiter.lock),
        (VictimReason::Youngest, 3, report.victim)
    );
    let waiters: Vec<_> = report.cycle.iter().map(|edge| edge.waiter.holder.session.map(|s| s.0)).collect();
    assert_eq!(waiters, [Some(3), Some(1), Some(2)], "from the victim on, each behind the one it waits for");
    let blockers: Vec<_> = report.cycle.iter().map(|edge| edge.blocker.holder.session.map(|s| s.0)).collect();
    assert_eq!(blockers, [Some(1), Some(2), Some(3)]);
    assert!(report.cycle.iter().all(|edge| edge.hard && names.contains(&edge.name.to_vec())));
}

#[test]
fn a_cycle_is_found_when_a_master_dies_meanwhile() {
    let mut cluster = Cluster::of(4);
    let (x, y) = (cluster.name_at(1), cluster.name_at(4));
    let (mut a, mut b) = (cluster.open(2, 1), cluster.open(3, 2));
    cluster.locked(&mut a, &x, EX);
    cluster.locked(&mut b, &y, EX);
    queue(&mut cluster, &mut a, &y, EX);
    queue(&mut cluster, &mut b, &x, EX);
    cluster.kill(4);
    cluster.pass(Span::from_millis(500));
    assert_eq!(victims(&mut cluster, &[a.clone(), b.clone()]), []);
    cluster.evict(4);
    cluster.pass(Span::from_secs(2));
    assert_eq!(victims(&mut cluster, &[a, b]), [1], "its heir knows the waits");
}

#[test]
fn those_for_whom_nobody_waits_send_no_probe() {
    let mut cluster = Cluster::of(2);
    let hot = cluster.name_at(1);
    let others = cluster.names_at(2, 101);
    let mut holder = cluster.open(1, 1);
    cluster.locked(&mut holder, &hot, EX);
    for (i, name) in others.iter().skip(1).enumerate() {
        let mut client = cluster.open(1 + (i as u16 % 2), 100 + i as u128);
        cluster.locked(&mut client, name, EX);
        queue(&mut cluster, &mut client, &hot, EX);
    }
    cluster.pass(DELAY.scaled(2, 1));
    assert_eq!(cluster.probes(), 100, "each tells its masters that it is stuck, of which its home is one");
    // Behind all of them it is as quick as before.
    let mut last = cluster.open(2, 7);
    cluster.locked(&mut last, &others[0], EX);
    queue(&mut cluster, &mut last, &hot, EX);
    queue(&mut cluster, &mut holder, &others[0], EX);
    cluster.pass(DELAY.scaled(2, 1));
    assert_eq!(victims(&mut cluster, &[holder, last]), [0]);
}

#[test]
fn the_delay_grows_where_waits_end_by_themselves() {
    let mut cluster = Cluster::of(2);
    let (x, y) = (cluster.name_at(1), cluster.name_at(2));
    let (mut a, mut b) = (cluster.open(1, 1), cluster.open(1, 2));
    cluster.locked(&mut a, &x, EX);
    for delay in [10_000_000, 12_500_000, 15_625_000] {
        let held = cluster.locked(&mut b, &y, EX);
        queue(&mut cluster, &mut a, &y, EX);
        let before = cluster.probes();
        cluster.pass(Span::from_nanos(delay - 1));
        assert_eq!(cluster.probes(), before, "nobody is told before {delay} ns");
        cluster.pass(Span::from_nanos(1));
        assert_eq!(cluster.probes(), before + 1);
        cluster.release(&mut b, held.lock);
        let granted = cluster.told(a.conn).iter().find_map(|m| granted(core::slice::from_ref(m)));
        cluster.release(&mut a, granted.expect("b has released it").lock);
        cluster.pass(Span::from_secs(1));
        cluster.say(&a, ClientMessage::Renew { seq: 1 });
        cluster.say(&b, ClientMessage::Renew { seq: 1 });
    }
}
