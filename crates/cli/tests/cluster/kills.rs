//! Nodes that die by `kill -9` under load: one, the same one again within the leases, two of five, all at once.

use crate::{common::pass, nodes::Cluster, work::Work};
use core::time::Duration;

const COUNTERS: usize = 12;

/// F04: who masters a third of the names dies, first the leader of the group, then another. Nobody loses a lock by it.
#[test]
fn f04_a_master_that_dies_is_replaced() {
    let mut cluster = Cluster::of(3);
    let work = Work::start(&cluster.endpoints(), 4, COUNTERS);
    work.go_on(5);
    let leader = cluster.leader(1);
    cluster.kill(leader);
    work.go_on(5);
    cluster.start(leader);
    cluster.wait_ready(leader);
    let other = leader % 3 + 1;
    cluster.wait_whole(other, 3);
    cluster.kill(other);
    work.go_on(5);
    assert_eq!(work.finish().lost, 0);
}

/// F25: a master is back before anybody's lease has ended. It is another start: what it gave before counts, its numbers go on.
#[test]
fn f25_a_master_that_restarts_within_the_leases_forgets_nothing() {
    let mut cluster = Cluster::of(3);
    let work = Work::start(&cluster.endpoints(), 4, COUNTERS);
    for node in cluster.all() {
        work.go_on(3);
        cluster.kill(node);
        cluster.start(node);
        cluster.wait_ready(node);
        cluster.wait_whole(node, 3);
    }
    work.go_on(3);
    assert_eq!(work.finish().lost, 0);
}

/// F27: of five nodes a master dies; then, while its slots are being taken over, the leader of the group, an heir of it; and when those two
/// do not vote any more, one of the three voters that are left.
#[test]
fn f27_three_deaths_of_five_two_of_them_within_one_recovery() {
    let mut cluster = Cluster::of(5);
    let work = Work::start(&cluster.endpoints(), 4, COUNTERS);
    work.go_on(3);
    let leader = cluster.leader(1);
    let [first, asked, third] = [1, 2, 3].map(|n| (leader + n - 1) % 5 + 1);
    let epoch = cluster.wait_figure(asked, "epoch", |_| true);
    cluster.kill(first);
    cluster.wait_figure(asked, "epoch", |now| now > epoch);
    cluster.kill(leader);
    work.go_on(3);
    cluster.wait_figure(asked, "members_up", |up| up == 3);
    cluster.wait_figure(asked, "group_spare", |spare| spare == 1);
    cluster.kill(third);
    work.go_on(3);
    assert_eq!(work.finish().lost, 0);
}

/// F28: all die at once and come back one after another. Who held a lock has it, or has lost it before another gets it.
fn all_at_once(order: [u16; 3]) {
    let mut cluster = Cluster::of(3);
    let work = Work::start(&cluster.endpoints(), 4, COUNTERS);
    work.go_on(3);
    for node in cluster.all() {
        cluster.kill(node);
    }
    for node in order {
        cluster.start(node);
        pass(Duration::from_millis(300));
    }
    for node in order {
        cluster.wait_ready(node);
    }
    work.go_on(3);
    work.finish();
}

#[test]
fn f28_all_die_and_come_back_first_to_last() {
    all_at_once([1, 2, 3]);
}

#[test]
fn f28_all_die_and_come_back_last_to_first() {
    all_at_once([3, 2, 1]);
}

#[test]
fn f28_all_die_and_come_back_the_second_first() {
    all_at_once([2, 3, 1]);
}

#[test]
fn f28_all_die_and_come_back_the_second_first_and_the_third_last() {
    all_at_once([2, 1, 3]);
}

#[test]
fn f28_all_die_and_come_back_the_second_last() {
    all_at_once([1, 3, 2]);
}

#[test]
fn f28_all_die_and_come_back_the_third_first_and_the_second_last() {
    all_at_once([3, 1, 2]);
}
