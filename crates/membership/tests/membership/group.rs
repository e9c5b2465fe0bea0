//! A group that is well: forming, proposing, leaders that go, nodes that come back.

use core::time::Duration;
use std::time::Instant;

use lockstead_cluster::Command;
use lockstead_types::{NodeId, peer::Incarnation};

use crate::support::{Group, has_session, open};

#[test]
fn three_nodes_form_and_apply_the_same_log() {
    let group = Group::formed(3, 3);
    group.wait_status(1, "three voters", |status| status.voters.len() == 3 && !status.voters_changing);
    for node in 1..=3 {
        group.node(node).propose(&open(node as u128, node, Incarnation(1)));
    }
    for node in 1..=3 {
        (1..=3).for_each(|session| group.node(node).wait("all sessions", has_session(session)));
        group.node(node).wait("its authority", |heard| heard.authority.is_some());
    }
    // One more, behind all that the steward may have had to say.
    group.node(2).propose(&open(9, 2, Incarnation(1)));
    (1..=3).for_each(|node| group.node(node).wait("the last session", has_session(9)));
    let states: Vec<_> = (1..=3).map(|node| group.node(node).heard(|heard| heard.state.clone().unwrap())).collect();
    assert!(states.iter().all(|state| *state == states[0]));
    assert_eq!(states[0].check(), Ok(()));
}

#[test]
fn a_leader_that_stops_is_replaced_and_comes_back_from_its_disk() {
    let mut group = Group::formed(3, 3);
    group.wait_status(1, "three voters", |status| status.voters.len() == 3 && !status.voters_changing);
    group.node(1).propose(&open(1, 1, Incarnation(1)));
    (1..=3).for_each(|node| group.node(node).wait("the session", has_session(1)));

    let leader = group.leader();
    let other = if leader == 1 { 2 } else { 1 };
    group.stop(leader);
    let stopped = Instant::now();
    while !group.node(other).comes(Duration::from_millis(50), has_session(2)) {
        group.node(other).propose(&open(2, other, Incarnation(1)));
        assert!(stopped.elapsed() < Duration::from_secs(30), "no leader: {:?}", group.node(other).status());
    }
    let took = stopped.elapsed();
    println!("a write was committed {took:?} after the leader stopped");
    assert!(took < Duration::from_secs(2), "{took:?}");

    group.start(leader);
    group.node(leader).wait("its next start", |heard| heard.incarnation == Some(Incarnation(2)));
    group.node(leader).wait("what it missed", has_session(2));
    assert!(group.node(leader).heard(has_session(1)));
}

#[test]
fn all_stop_and_all_come_back() {
    let mut group = Group::formed(3, 3);
    group.wait_status(1, "three voters", |status| status.voters.len() == 3 && !status.voters_changing);
    group.node(3).propose(&open(1, 3, Incarnation(1)));
    (1..=3).for_each(|node| group.node(node).wait("the session", has_session(1)));
    let epoch = group.node(1).status().epoch;
    (1..=3).for_each(|node| group.stop(node));
    (1..=3).for_each(|node| group.start(node));
    for node in 1..=3 {
        group.node(node).wait("its next start", |heard| heard.incarnation == Some(Incarnation(2)));
        group.node(node).wait("the session", has_session(1));
        group.node(node).wait("its authority", |heard| heard.authority.is_some());
        assert!(group.node(node).status().epoch > epoch);
    }
}

#[test]
fn a_node_that_is_admitted_late_gets_a_snapshot_and_its_share() {
    let group = Group::formed(2, 1);
    let many = 6_000;
    for session in 0..many {
        // A queue has an end: those that are lost come again.
        while !group.node(1).comes(Duration::ZERO, has_session(session)) {
            group.node(1).propose(&open(session, 1, Incarnation(1)));
            if session % 500 != 499 || group.node(1).comes(Duration::from_secs(1), has_session(session)) {
                break;
            }
        }
    }
    group.node(1).propose(&Command::Admit { seat: group.seat(2) });
    group.node(2).wait("its start", |heard| heard.incarnation == Some(Incarnation(1)));
    group.node(2).wait("the last session", has_session(many - 1));
    group.node(2).wait("its slots", |heard| heard.has(|state| state.spread().get(&NodeId(2)) >= Some(&2_000)));
}
