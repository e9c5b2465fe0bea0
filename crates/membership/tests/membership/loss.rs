//! Nodes without a majority, and nodes whose data is gone.

use core::time::Duration;

use lockstead_cluster::{Command, MemberState};
use lockstead_types::{NodeId, Time, peer::Incarnation};

use crate::support::{Group, has_session, open};

#[test]
fn a_minority_has_no_authority_and_gets_it_back() {
    let mut group = Group::formed(3, 3);
    group.wait_status(1, "three voters", |status| status.voters.len() == 3);
    group.node(1).wait("its authority", |heard| heard.authority.is_some());
    group.stop(2);
    group.stop(3);
    let lost = now();
    // Nothing that was sent from now on is confirmed, for longer than authority lasts.
    let confirmed = group.node(1).comes(Duration::from_secs(3), |heard| heard.authority >= Some(lost));
    assert!(!confirmed, "a minority of one was confirmed");
    assert!(group.node(1).heard(|heard| heard.fatal.is_none()));
    group.start(2);
    group.node(1).wait("its authority again", |heard| heard.authority >= Some(lost));
    group.node(1).propose(&open(1, 1, Incarnation(1)));
    group.node(1).wait("a session", has_session(1));
    // It was there all the time: silence of the others was no reason to evict it.
    let up = |heard: &crate::support::Heard| heard.has(|state| state.is_up(NodeId(1), Incarnation(1)));
    assert!(group.node(1).heard(up));
}

#[test]
fn a_node_whose_data_was_wiped_stays_out_until_it_is_admitted() {
    let mut group = Group::formed(3, 3);
    group.wait_status(1, "three voters", |status| status.voters.len() == 3);
    let before = group.node(3).membership.identity();
    group.stop(3);
    std::fs::remove_dir_all(group.folder(3)).unwrap();
    group.start(3);
    let now = group.node(3).membership.identity();
    assert_ne!(before, now);
    // It asks for its place under its number, and even where it is heard it is refused.
    let claim = Command::Start {
        node: NodeId(3),
        identity: now,
        nonce: 1,
        peer_address: String::new(),
        client_address: String::new(),
    };
    group.node(1).propose(&claim);
    let down = |heard: &crate::support::Heard| heard.has(|state| state.members[&NodeId(3)].state == MemberState::Down);
    group.node(1).wait("the eviction", down);
    assert_eq!(group.node(3).heard(|heard| heard.incarnation), None);
    assert_eq!(group.node(3).status().epoch, 0);

    group.node(1).propose(&Command::Admit { seat: group.seat(3) });
    group.node(3).wait("its start", |heard| heard.incarnation == Some(Incarnation(2)));
    group.wait_status(1, "three voters", |status| status.voters.len() == 3);
    group.node(3).wait("its authority", |heard| heard.authority.is_some());
}

fn now() -> Time {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Time::from_nanos(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64)
}
