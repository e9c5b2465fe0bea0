//! How far followers hear of a command after the leader, and who is too late.

use std::{collections::BTreeMap, time::Instant};

use lockstead_types::{NodeId, Span, peer::Incarnation};

use crate::support::{Group, has_session, open};

#[test]
fn followers_hear_of_a_command_soon_after_the_leader() {
    let group = Group::formed(3, 3);
    group.wait_status(1, "three voters", |status| status.voters.len() == 3 && !status.voters_changing);
    let leader = group.leader();
    let mut whole = Vec::new();
    for session in 1..=60 {
        let begun = Instant::now();
        group.node(leader).propose(&open(session, leader, Incarnation(1)));
        group.node(leader).wait("the session", has_session(session));
        whole.push(begun.elapsed());
    }
    (1..=3).for_each(|node| group.node(node).wait("the last session", has_session(60)));
    let at = |node| group.node(node).heard(|heard| heard.at.iter().copied().collect::<BTreeMap<u64, Instant>>());
    let first = at(leader);
    let mut behind: Vec<_> = (1..=3)
        .filter(|node| *node != leader)
        .flat_map(at)
        .filter_map(|(version, when)| Some(when.saturating_duration_since(*first.get(&version)?)))
        .collect();
    behind.sort();
    whole.sort();
    let (median, worst) = (behind[behind.len() / 2], behind[behind.len() - 1]);
    println!("commit at the leader: median {:?}; followers behind it: median {median:?}, worst {worst:?}", whole[30]);
    // Without a message of its own the commit would come with the next heartbeat, 50 ms later on average.
    assert!(median.as_millis() < 40, "{median:?}");
}

#[test]
fn who_cannot_follow_is_replaced() {
    let group = Group::formed(3, 3);
    group.wait_status(1, "three voters", |status| status.voters.len() == 3 && !status.voters_changing);
    let leader = group.leader();
    let late = (1..=3).find(|node| *node != leader).unwrap();
    group.node(late).wait("authority", |heard| heard.authority.is_some());
    group.node(late).stop_its_ears(true);
    group.node(leader).propose(&open(1, leader, Incarnation(1)));
    let id = NodeId(late as u16);
    group.node(leader).wait("it is out", |heard| heard.has(|state| !state.is_up(id, Incarnation(1))));
    let newest = |node| group.node(node).heard(|heard| heard.authority).unwrap();
    let behind = newest(leader).since(newest(late));
    assert!(behind > Span::from_secs(1), "it counts on renewals from after what it does not know: {behind:?} behind");
    group.node(late).stop_its_ears(false);
    group.node(late).wait("what it missed", has_session(1));
}
