//! Nodes that come back with an older copy of their own data: what they promised since is forgotten. They are refused until an
//! operator lets them in again.

use std::{path::Path, process::Command};

use rustix::process::Signal;

use crate::{
    common::{LONG, until},
    nodes::Cluster,
    work::Work,
};

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status().expect("cp runs");
    assert!(status.success(), "{status}");
}

/// Puts the copy in the place of what is there.
fn put_back(cluster: &Cluster, node: u16) {
    let folder = cluster.data(node);
    std::fs::remove_dir_all(&folder).expect("there");
    copy(&folder.with_extension("copy"), &folder);
}

/// The node's start ends, and says why.
fn is_refused(cluster: &mut Cluster, node: u16) {
    let before = cluster.log(node).len();
    cluster.start(node);
    let ended = cluster.wait_ended(node);
    assert!(!ended.success(), "{ended}");
    let said = cluster.log(node).split_off(before);
    assert!(said.contains("older than what this node has promised"), "{said}");
}

/// What an operator does then.
fn let_in_again(cluster: &mut Cluster, node: u16) {
    std::fs::remove_dir_all(cluster.data(node)).expect("there");
    let before = cluster.log(node).len();
    cluster.start(node);
    let order = until("it says how to let it in", LONG, || {
        let said = cluster.log(node).split_off(before);
        let line = said.lines().find_map(|line| Some(line.split_once("lockstead cluster join ")?.1.to_owned()))?;
        said.ends_with('\n').then_some(line)
    });
    let words: Vec<&str> = ["cluster", "join"].into_iter().chain(order.split(' ')).collect();
    until("it is let in", LONG, || {
        // Refused while its former self is not known to be out yet.
        cluster.command(&words).status().expect("runs").success().then_some(())
    });
    cluster.wait_ready(node);
    cluster.wait_whole(node, 3);
}

/// F24: a copy of a node's data is put back that is from before its last start, and one that was made while it ran as it did when it
/// died.
#[test]
fn f24_an_old_copy_put_back_is_refused_until_the_node_is_let_in_again() {
    let mut cluster = Cluster::of(3);
    let work = Work::start(&cluster.endpoints(), 3, 6);
    work.go_on(3);
    let leader = cluster.leader(1);
    let (before_start, while_it_ran) = (leader % 3 + 1, (leader + 1) % 3 + 1);

    cluster.kill(before_start);
    copy(&cluster.data(before_start), &cluster.data(before_start).with_extension("copy"));
    cluster.start(before_start);
    cluster.wait_ready(before_start);
    cluster.wait_whole(before_start, 3);
    work.go_on(3);
    cluster.kill(before_start);
    put_back(&cluster, before_start);
    is_refused(&mut cluster, before_start);
    // However often it is tried.
    is_refused(&mut cluster, before_start);
    work.go_on(3);
    let_in_again(&mut cluster, before_start);
    work.go_on(3);

    cluster.signal(while_it_ran, Signal::STOP);
    copy(&cluster.data(while_it_ran), &cluster.data(while_it_ran).with_extension("copy"));
    cluster.signal(while_it_ran, Signal::CONT);
    let copied = cluster.wait_figure(while_it_ran, "group_applied", |_| true);
    // Each session is written down by all voters.
    for _ in 0..3 {
        assert!(cluster.command(&["lock", "-w", "20", "more", "--", "true"]).status().expect("runs").success());
    }
    work.go_on(3);
    // What it has applied is on its disk: more than in the copy.
    cluster.wait_figure(while_it_ran, "group_applied", |applied| applied > copied);
    cluster.kill(while_it_ran);
    put_back(&cluster, while_it_ran);
    is_refused(&mut cluster, while_it_ran);
    is_refused(&mut cluster, while_it_ran);
    work.go_on(3);
    let_in_again(&mut cluster, while_it_ran);
    work.go_on(3);
    work.finish();
}
