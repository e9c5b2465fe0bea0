//! A recovery is made in turns: what it must not hold up, and what must not slip through between two of them.

use lockstead_types::{
    Flags, Limits, LockId, NodeId, RequestId, Slot, SpaceId, Span, Time,
    message::{ClientMessage, ServerMessage},
    reply::{Reply, Value},
    request::{ConvertRequest, Op, Wait},
};

use crate::rig::{Client, Cluster, EX, PR, claim_of, granted, is_queued, is_released};

const INSTANT: Span = Span::from_nanos(1_000);

fn is_busy(cluster: &Cluster, node: u16) -> bool {
    cluster.nodes[&node].poll_deadline() == Some(Time::ZERO)
}

#[test]
fn what_has_not_moved_is_served_between_two_turns() {
    let mut cluster = Cluster::with(3, 1, Limits::default());
    let (moved, here) = (cluster.names_at(2, 12), cluster.name_at(1));
    let (mut a, mut b) = (cluster.open(1, 1), cluster.open(3, 2));
    let held: Vec<_> = moved.iter().map(|name| cluster.locked(&mut a, name, EX)).collect();
    assert!(is_queued(&cluster.lock(&mut b, &moved[3], PR)));
    cluster.kill(2);
    cluster.evict(2);
    assert!(is_busy(&cluster, 1));
    assert!(granted(&cluster.lock(&mut a, &here, EX)).is_some());
    // A second lock of the session on what is not reported yet: its master must hear of the first before.
    assert_eq!(cluster.lock(&mut a, &moved[11], EX), []);
    assert_eq!(cluster.release(&mut a, held[3].lock), []);
    cluster.pass(INSTANT);
    assert!(!is_busy(&cluster, 1));
    let told = cluster.told(a.conn);
    assert!(is_released(&told), "{told:?}");
    assert!(granted(&cluster.told(b.conn)).is_some_and(|g| g.token > held[3].token));
    for grant in held.iter().enumerate().filter(|(n, _)| *n != 3).map(|(_, grant)| grant) {
        let told = cluster.release(&mut a, grant.lock);
        assert!(is_released(&told), "{told:?}");
    }
}

#[test]
fn a_session_that_leaves_between_two_turns_is_reported_before_it_goes() {
    let mut cluster = Cluster::with(4, 1, Limits::default());
    let names = cluster.names_at(2, 40);
    let (mut a, mut b) = (cluster.open(1, 1), cluster.open(4, 2));
    let held: Vec<_> = names.iter().map(|name| cluster.locked(&mut a, name, EX)).collect();
    cluster.kill(2);
    cluster.evict(2);
    assert!(is_busy(&cluster, 1));
    // Node 4 does not hear that the session moves before it has the reports of its homes.
    cluster.fall_behind(4);
    cluster.attach(&mut a, 3);
    cluster.pass(INSTANT);
    let at_4 = |name: &&Vec<u8>| cluster.state.slots[usize::from(Slot::of(7, SpaceId(0), name).0)].master == NodeId(4);
    let inherited: Vec<Vec<u8>> = names.iter().filter(at_4).cloned().collect();
    assert!(inherited.len() > 3 && cluster.nodes[&4].recovering_slots().0 == 0);
    for name in &inherited {
        assert!(is_queued(&cluster.lock(&mut b, name, EX)), "granted to two");
    }
    cluster.catch_up(4);
    for (n, (name, grant)) in (0..).zip(names.iter().zip(&held)) {
        let (claim, sealed) = claim_of(name, grant);
        let told = cluster.say(&a, ClientMessage::Reclaim { id: RequestId((1 << 63) + n), claim, sealed });
        assert!(granted(&told).is_some_and(|again| again.token == grant.token), "{told:?}");
    }
}

#[test]
fn a_second_death_between_two_turns_and_nobody_loses_anything() {
    let mut cluster = Cluster::with(4, 1, Limits::default());
    let names = cluster.names_at(2, 40);
    let mut a = cluster.open(1, 1);
    let held: Vec<_> = names.iter().map(|name| cluster.locked(&mut a, name, EX)).collect();
    cluster.kill(2);
    cluster.evict(2);
    assert!(is_busy(&cluster, 1));
    cluster.kill(3);
    cluster.evict(3);
    cluster.pass(INSTANT);
    assert!(!is_busy(&cluster, 1) && !is_busy(&cluster, 4));
    for grant in held {
        let told = cluster.release(&mut a, grant.lock);
        assert!(is_released(&told), "{told:?}");
    }
}

fn write(cluster: &mut Cluster, client: &mut Client, name: &[u8], value: &[u8]) -> LockId {
    let grant = cluster.locked(client, name, EX);
    let convert =
        ConvertRequest { lock: grant.lock, mode: PR, wait: Wait::Forever, flags: Flags::VALBLK, value: Some(value) };
    granted(&cluster.ask(client, Op::Convert(convert))).expect("down").lock
}

#[test]
fn reports_are_bounded_in_bytes_too() {
    let limits = Limits { value_bytes: 65_536, name_bytes: 4_096, ..Limits::default() };
    let mut cluster = Cluster::with(3, 1_024, limits);
    let mut a = cluster.open(1, 1);
    let names = cluster.names_at(2, 300);
    let value = vec![7; 65_536];
    let locks: Vec<_> = names.iter().map(|name| write(&mut cluster, &mut a, name, &value)).collect();
    cluster.kill(2);
    cluster.evict(2);
    cluster.pass(INSTANT);
    assert!((65_536..300_000).contains(&cluster.longest_report), "{}", cluster.longest_report);
    // Some of them: answers are kept, and room for them is bounded.
    for lock in locks.into_iter().step_by(10) {
        let told = cluster.ask(&mut a, Op::ReadValue(lock));
        let read = Reply::Value(Value { bytes: value.clone().into(), invalid: false });
        let whole = told.iter().any(|m| matches!(m, ServerMessage::Reply { reply, .. } if *reply == read));
        assert!(whole, "the value is lost: {:.200}", format!("{told:?}"));
    }
}
