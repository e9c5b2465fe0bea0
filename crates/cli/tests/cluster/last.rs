//! Down to the last node, and up again: with a witness by itself, without one by an operator's word.

use std::time::Instant;

use crate::{common::LONG, nodes::Cluster, work::Work};

/// The nodes but these.
fn others(cluster: &Cluster, dead: &[u16]) -> Vec<u16> {
    cluster.all().into_iter().filter(|node| !dead.contains(node)).collect()
}

/// Three nodes and a witness: the nodes die one after another, each as soon as the one before is out, the leader of the group first.
/// The last one serves. Then they come back.
#[test]
fn with_a_witness_the_last_node_serves() {
    let mut cluster = Cluster::with_witness(4);
    let work = Work::start(&cluster.endpoints_of(&[1, 2, 3]), 4, 8);
    work.go_on(3);
    let leader = cluster.leader(4);
    let first = if leader == 4 { 1 } else { leader };
    let second = first % 3 + 1;
    let last = others(&cluster, &[first, second, 4])[0];
    cluster.kill(first);
    // The witness votes in its place: one more may die.
    cluster.wait_figure(last, "members_up", |up| up == 3);
    cluster.wait_figure(last, "group_spare", |spare| spare == 1);
    work.go_on(3);
    cluster.kill(second);
    work.go_on(3);
    assert_eq!(cluster.figure(last, "slots_mastered"), Some(4_096));
    cluster.wait_figure(4, "slots_mastered", |slots| slots == 0);
    for node in [second, first] {
        cluster.start(node);
        cluster.wait_ready(node);
        work.go_on(3);
    }
    cluster.wait_figure(last, "members_up", |up| up == 4);
    cluster.wait_figure(first, "group_spare", |spare| spare == 1);
    // Whole again: another may die.
    cluster.kill(last);
    work.go_on(3);
    assert_eq!(work.finish().lost, 0);
}

/// Without a witness two of three are needed. When two are gone for good, the third goes on by `force-quorum` as the manual says,
/// and so do the clients, who wait.
#[test]
fn without_a_witness_the_last_node_serves_by_force_quorum() {
    let mut cluster = Cluster::of(3);
    let work = Work::start(&cluster.endpoints(), 4, 8);
    work.go_on(3);
    let leader = cluster.leader(1);
    let (survivor, lost) = (leader % 3 + 1, [leader, (leader + 1) % 3 + 1]);
    let epoch = cluster.wait_figure(survivor, "epoch", |_| true);
    for node in lost {
        cluster.kill(node);
    }
    let start = Instant::now();
    cluster.wait_figure(survivor, "authority_ms", |left| left == 0);
    cluster.kill(survivor);
    let data = cluster.data(survivor);
    let data = data.to_str().expect("text");
    let number = survivor.to_string();
    let mut words = vec!["cluster", "force-quorum", "--data", data, "--node", &number];
    let look = cluster.command(&words).output().expect("runs");
    assert!(!look.status.success() && String::from_utf8_lossy(&look.stdout).contains("voters 1,2,3"), "{look:?}");
    words.extend(["--lost-nodes-are-fenced", "--reason", "two of three burned"]);
    assert!(cluster.command(&words).status().expect("runs").success());
    cluster.start(survivor);
    cluster.wait_ready(survivor);
    work.go_on(3);
    println!("the survivor serves {:?} after the deaths", start.elapsed());
    assert!(start.elapsed() < LONG);
    cluster.wait_figure(survivor, "epoch", |now| now > epoch + (1 << 16));
    assert!(std::fs::read_to_string(cluster.data(survivor).join("audit.log")).expect("there").contains("burned"));
    work.finish();
}
