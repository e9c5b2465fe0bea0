//! Members that come and go all the time.

use core::time::Duration;

use rustix::process::Signal;

use crate::{
    common::{Chance, LONG, pass, until},
    nodes::Cluster,
    work::Work,
};

/// F32: every second one node of five dies or leaves, and is started again at once. Nobody waits for it to be back before the next
/// goes, so that moves, takeovers and changes of voters are cut short.
#[test]
fn f32_members_that_come_and_go_every_second_break_nothing() {
    let seed = 20_261_122;
    println!("seed {seed}");
    let mut chance = Chance::of(seed);
    let mut cluster = Cluster::of(5);
    let work = Work::start(&cluster.endpoints(), 4, 12);
    work.go_on(3);
    for round in 0..10 {
        let node = 1 + u16::try_from(chance.below(5)).expect("small");
        if round % 2 == 0 {
            cluster.kill(node);
        } else {
            cluster.signal(node, Signal::INT);
            cluster.wait_ended(node);
        }
        cluster.start(node);
        pass(Duration::from_secs(1));
    }
    for node in cluster.all() {
        cluster.wait_ready(node);
    }
    work.go_on(3);
    work.finish();
}

/// A node that waits for a majority says so, and that it is not ready, to whoever asks.
#[test]
fn a_node_that_waits_for_the_others_answers_that_it_is_not_ready() {
    let mut cluster = Cluster::of(3);
    for node in cluster.all() {
        cluster.kill(node);
    }
    cluster.start(1);
    let page = until("its page", LONG, || cluster.page(1, "/readyz").ok());
    assert!(page.starts_with("HTTP/1.1 503") && page.contains("majority"), "{page}");
    let page = cluster.page(1, "/livez").expect("it answers");
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    assert_eq!(cluster.figure(1, "ready"), Some(0));
    cluster.start(2);
    cluster.wait_ready(1);
    cluster.wait_figure(1, "ready", |ready| ready == 1);
}

/// Nodes that hand their slots over before they go: nobody loses anything, and no slot waits for a death to be noticed.
#[test]
fn f32_members_that_leave_in_order_disturb_nobody() {
    let mut cluster = Cluster::of(3);
    let work = Work::start(&cluster.endpoints(), 4, 12);
    for node in cluster.all() {
        work.go_on(3);
        cluster.signal(node, Signal::TERM);
        assert!(cluster.wait_ended(node).success());
        work.go_on(3);
        cluster.start(node);
        cluster.wait_ready(node);
        cluster.wait_whole(node, 3);
    }
    assert_eq!(work.finish().lost, 0);
}
