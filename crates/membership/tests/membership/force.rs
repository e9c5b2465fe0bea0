//! The way out without a majority.

use std::collections::BTreeSet;

use lockstead_cluster::MemberState;
use lockstead_membership::{force_quorum, inspect};
use lockstead_types::{NodeId, peer::Incarnation};

use crate::support::{Group, has_session, open};

#[test]
fn a_survivor_goes_on_alone_in_a_later_epoch() {
    let mut group = Group::formed(3, 3);
    group.wait_status(1, "three voters", |status| status.voters.len() == 3 && !status.voters_changing);
    group.node(1).propose(&open(1, 1, Incarnation(1)));
    (1..=3).for_each(|node| group.node(node).wait("the session", has_session(1)));
    let epoch = group.node(1).status().epoch;
    assert!(inspect(&group.folder(1)).is_err(), "a running node's data was opened");
    (1..=3).for_each(|node| group.stop(node));

    let seen = inspect(&group.folder(1)).unwrap();
    assert_eq!(seen.voters, [1, 2, 3].map(NodeId).into());
    assert!(force_quorum(&group.folder(1), NodeId(2), &BTreeSet::new()).is_err(), "another node's data was changed");
    force_quorum(&group.folder(1), NodeId(1), &BTreeSet::from([NodeId(1), NodeId(2)])).unwrap();

    group.start(1);
    group.node(1).wait("its start", |heard| heard.incarnation == Some(Incarnation(2)));
    assert!(group.node(1).heard(|heard| heard.has(|state| state.epoch > epoch + (1 << 16))));
    assert!(group.node(1).heard(has_session(1)));
    let gone = |heard: &crate::support::Heard| {
        heard.has(|state| [2, 3].iter().all(|node| state.members[&NodeId(*node)].state == MemberState::Down))
    };
    group.node(1).wait("the lost ones are evicted", gone);
    // The other survivor follows.
    group.start(2);
    group.node(2).wait("its start", |heard| heard.incarnation == Some(Incarnation(2)));
    assert!(group.node(2).heard(has_session(1)));
}
