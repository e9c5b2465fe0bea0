//! Nodes without a majority, and nodes whose data is gone.

use core::time::Duration;
use std::path::Path;

use lockstead_cluster::{Command, MemberState};
use lockstead_types::{NodeId, Time, peer::Incarnation};

use crate::support::{Group, has_session, open};

#[test]
fn a_minority_has_no_authority_and_gets_it_back() {
    let mut group = Group::formed(3, 3);
    group.wait_status(1, "three voters", |status| status.voters.len() == 3 && !status.voters_changing);
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
    group.wait_status(1, "three voters", |status| status.voters.len() == 3 && !status.voters_changing);
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
        after: 0,
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
    group.wait_status(1, "three voters", |status| status.voters.len() == 3 && !status.voters_changing);
    group.node(3).wait("its authority", |heard| heard.authority.is_some());
}

/// A seat that lost its data has founded another group, in which the nodes of this one have seats: its leader has their right
/// identities, and must not reach them.
#[test]
fn another_group_reaches_nobody_of_this_one() {
    let mut group = Group::formed(3, 3);
    group.wait_status(1, "three voters", |status| status.voters.len() == 3 && !status.voters_changing);
    (1..=3).for_each(|node| group.stop(node));
    std::fs::remove_dir_all(group.folder(1)).unwrap();
    (1..=3).for_each(|node| group.start(node));
    let seats = (1..=3).map(|node| group.seat(node)).collect();
    group.node(1).membership.form(&Command::Form { seed: 8, key: [2; 32], seats, spaces: Vec::new() }).unwrap();
    group.node(1).wait("its start in the other", |heard| heard.incarnation == Some(Incarnation(1)));
    // The true one goes on, though the first node was in it.
    group.node(2).wait("its start", |heard| heard.incarnation == Some(Incarnation(2)));
    group.node(3).wait("its start", |heard| heard.incarnation == Some(Incarnation(2)));
    group.node(3).propose(&open(1, 3, Incarnation(2)));
    group.node(2).wait("a session", has_session(1));
    assert!(group.node(2).heard(|heard| heard.has(|state| state.seed == 7) && heard.fatal.is_none()));
    assert!(group.node(1).heard(|heard| heard.has(|state| state.seed == 8 && state.sessions.is_empty())));
    assert_eq!(group.node(1).status().voters, [NodeId(1)].into());
}

fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

/// A copy from before the newest start: whoever leads now, and although nobody remembers what the node said then.
#[test]
fn a_copy_from_before_the_newest_start_is_of_no_use() {
    let mut group = Group::formed(3, 3);
    group.wait_status(1, "three voters", |status| status.voters.len() == 3 && !status.voters_changing);
    let kept = group.folder(3).with_extension("kept");
    group.stop(3);
    copy(&group.folder(3), &kept);
    group.start(3);
    group.node(3).wait("its start", |heard| heard.incarnation == Some(Incarnation(2)));
    (1..=3).for_each(|node| group.stop(node));
    copy(&kept, &group.folder(3));
    (1..=3).for_each(|node| group.start(node));
    let outdated = |heard: &crate::support::Heard| {
        heard.fatal.as_ref().is_some_and(|why| why.contains("older than what this node has promised"))
    };
    group.node(3).wait("that it is told so", outdated);
    assert_eq!(group.node(3).heard(|heard| heard.incarnation), None);
    group.stop(3);
    assert!(group.try_start(3).is_err_and(|why| why.to_string().contains("older")), "it must know that by itself now");
}

/// A copy from within the newest start: the leader remembers what it was told.
#[test]
fn a_copy_that_has_less_than_it_said_is_of_no_use() {
    let mut group = Group::formed(3, 3);
    group.wait_status(1, "three voters", |status| status.voters.len() == 3 && !status.voters_changing);
    let leader = group.leader();
    let (node, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    group.stop(node);
    let kept = group.folder(node).with_extension("kept");
    copy(&group.folder(node), &kept);
    // Started once more for what it says, and then not: its start does not come to be agreed on.
    group.start(node);
    group.node(node).wait("its start", |heard| heard.incarnation == Some(Incarnation(2)));
    group.stop(node);
    copy(&kept, &group.folder(node));
    group.node(leader).propose(&open(1, leader, Incarnation(1)));
    group.node(other).wait("a session", has_session(1));
    group.start(node);
    group.node(node).wait("that it is told so", |heard| heard.fatal.is_some());
    assert!(group.node(leader).heard(|heard| heard.fatal.is_none()), "the leader bears it");
}

fn now() -> Time {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Time::from_nanos(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64)
}
