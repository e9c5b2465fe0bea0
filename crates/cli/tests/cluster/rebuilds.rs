//! Nodes that die while they take over the slots of one that died before.

use core::time::Duration;

use crate::{common::pass, nodes::Cluster, work::Work};

/// Each way between nodes: a report and its answer take twice that, a lock whose master is elsewhere too.
const DELAY: Duration = Duration::from_millis(300);

/// F26: of five nodes one dies, and one of its heirs at each moment of the takeover: when it has heard of it, while reports are on
/// their way, when they have come and clients bring their claims, and when all is over.
#[test]
fn f26_an_heir_that_dies_at_any_moment_of_a_takeover_is_replaced() {
    let (mut cluster, wires) = Cluster::wired(5);
    let work = Work::start(&cluster.endpoints(), 4, 10);
    work.go_on(2);
    for (round, after) in [0, 150, 330, 700].into_iter().enumerate() {
        let leader = cluster.leader(1);
        let nth = |n: u16| (leader + n - 1) % 5 + 1;
        // Once the leader of the group is the heir that dies, else another.
        let (first, heir, asked) = (nth(1), if round == 2 { leader } else { nth(2) }, nth(3));
        let epoch = cluster.wait_figure(heir, "epoch", |_| true);
        wires.slow(DELAY);
        cluster.kill(first);
        cluster.wait_figure(heir, "epoch", |now| now > epoch);
        pass(Duration::from_millis(after));
        let left = cluster.figure(heir, "slots_taking_over");
        cluster.kill(heir);
        println!("node {heir} dies {after} ms after it became an heir of {first}, with {left:?} slots to take over");
        work.go_on(2);
        wires.slow(Duration::ZERO);
        for node in [first, heir] {
            cluster.start(node);
        }
        for node in [first, heir] {
            cluster.wait_ready(node);
        }
        cluster.wait_whole(asked, 5);
        work.go_on(1);
    }
    assert_eq!(work.finish().lost, 0);
}
