//! Nodes and clients that are alive and do not reach each other: wholly, one way, in part, and clients whose node is gone without
//! a word.

use core::time::Duration;
use std::{
    process::Stdio,
    sync::mpsc::{Sender, channel},
    time::Instant,
};

use lockstead::{Client, Lease};

use crate::{
    common::{LONG, lockstead, pass, until},
    hostages::run,
    net::{CLIENTS, Net, enter},
    nodes::Cluster,
    work::{IMPATIENT, PATIENT, Role, Work},
};

const COUNTERS: usize = 12;
/// Enough to notice that the home is silent, and for an election before the next one may take the session.
const TTL: Duration = Duration::from_secs(6);

/// How long a node may act that hears from nobody.
const AUTHORITY: Duration = Duration::from_secs(3);

/// A client in one of the places, at these nodes.
fn role(net: &Net, place: u16, endpoints: String) -> Role {
    let path = net.path(place);
    Role { endpoints, ttl: TTL, wait: PATIENT, first: std::sync::Arc::new(move || enter(&path)) }
}

/// Takes a lock and watches its lease: since when it is unsure, and since when lost.
async fn hold_until_lost(client: &Client, held: &Sender<()>) -> (Instant, Instant) {
    let guard = client.lock("between").await.expect("granted");
    held.send(()).expect("somebody listens");
    let (mut unsure, mut look) = (None, tokio::time::interval(Duration::from_millis(10)));
    loop {
        look.tick().await;
        match client.state() {
            Lease::Held => unsure = None,
            Lease::Unsure => drop(unsure.get_or_insert_with(Instant::now)),
            Lease::Lost => {
                drop(guard);
                let now = Instant::now();
                return (unsure.unwrap_or(now), now);
            }
        }
    }
}

/// F08: the leader of the group, a master as the others are, is alone with a client. It grants nothing, its client hears so in time,
/// the others go on; afterwards all do.
#[test]
fn f08_a_minority_grants_nothing() {
    let Some(cluster) = Cluster::apart(3) else { return };
    let net = cluster.net();
    let alone = cluster.leader(1);
    let others: Vec<u16> = cluster.all().into_iter().filter(|node| *node != alone).collect();
    let with_others = role(net, CLIENTS[1], cluster.endpoints());
    let alone_too = Role { wait: IMPATIENT, ..role(net, CLIENTS[0], cluster.address(alone)) };
    let roles = [alone_too, with_others.clone(), with_others.clone(), with_others];
    let work = Work::of(&roles, COUNTERS);
    work.go_on(3);
    let (tell, held) = channel();
    let (minority, majority) = (roles[0].clone(), roles[1].clone());
    let holder = std::thread::spawn(move || run(&minority, async |client| hold_until_lost(&client, &tell).await));
    held.recv_timeout(LONG).expect("it holds its lock");
    let cut = Instant::now();
    net.cut(&[alone, CLIENTS[0]], &[others[0], others[1], CLIENTS[1]]);
    let next = std::thread::spawn(move || {
        run(&majority, async |client| {
            let _guard = client.lock("between").await.expect("granted");
            Instant::now()
        })
    });
    cluster.wait_figure(alone, "authority_ms", |left| left == 0);
    work.go_on(5);
    let (unsure, lost) = holder.join().expect("no panic");
    let granted = next.join().expect("no panic");
    let [unsure, lost, granted] = [unsure, lost, granted].map(|at| at - cut);
    println!(
        "after the cut the holder was unsure at {unsure:?}, had lost at {lost:?}, and the next one held at {granted:?}"
    );
    // Its home renewed it for as long as that had authority itself.
    assert!(unsure < lost && lost < granted && lost <= AUTHORITY + TTL, "{unsure:?} {lost:?} {granted:?}");
    net.heal();
    cluster.wait_whole(alone, 3);
    cluster.wait_figure(alone, "slots_mastered", |slots| slots > 0);
    work.go_on(5);
    let tally = work.finish();
    let said = cluster.log(alone);
    assert!(
        said.contains("no majority of the members confirms this node any more"),
        "an operator looks here first: {said}"
    );
    assert!(tally.lost <= 1, "only the client that was alone may lose: {tally:?}");
}

/// F09: nothing goes from one node to another, while all else goes, for each pair in turn.
#[test]
fn f09_one_way_cuts_between_any_two_break_nothing() {
    let Some(cluster) = Cluster::apart(3) else { return };
    let net = cluster.net();
    let work = Work::of(&vec![role(net, CLIENTS[0], cluster.endpoints()); 4], COUNTERS);
    work.go_on(2);
    for from in 1..=3 {
        for to in (1..=3).filter(|to| *to != from) {
            net.cut_one_way(from, to);
            // Longer than a link's silence is borne, shorter than an authority.
            pass(Duration::from_millis(2_500));
            net.heal();
            work.go_on(2);
        }
    }
    work.finish();
}

/// F10: two nodes do not reach each other, and both reach the third and the clients.
#[test]
fn f10_a_partial_cut_breaks_nothing() {
    let Some(cluster) = Cluster::apart(3) else { return };
    let net = cluster.net();
    let work = Work::of(&vec![role(net, CLIENTS[0], cluster.endpoints()); 4], COUNTERS);
    work.go_on(2);
    let leader = cluster.leader(1);
    let (next, last) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    for (one, other) in [(leader, next), (next, last)] {
        net.cut(&[one], &[other]);
        pass(Duration::from_secs(4));
        net.heal();
        work.go_on(2);
    }
    work.finish();
}

/// Who waits for a bounded time hears the end of it also when the lock's master cannot be reached.
#[test]
fn f10_a_bounded_wait_ends_though_the_master_is_out_of_reach() {
    let Some(cluster) = Cluster::apart(3) else { return };
    let net = cluster.net();
    let leader = cluster.leader(1);
    let (one, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    let program = lockstead();
    let endpoints = cluster.address(one);
    let try_all = || {
        let one_after_another = |counter: usize| {
            let mut command = net.command(CLIENTS[0], program.get_program());
            let name = format!("name/{counter}");
            command.args(["lock", "--endpoints", &endpoints, "-w", "0.2", &name, "--", "true"]);
            let start = Instant::now();
            let status = command.stdin(Stdio::null()).stderr(Stdio::null()).status().expect("runs");
            (status.code(), start.elapsed())
        };
        (0..COUNTERS).map(one_after_another).collect::<Vec<_>>()
    };
    let before = try_all();
    assert!(before.iter().all(|(code, _)| *code == Some(0)), "{before:?}");
    net.cut(&[one], &[other]);
    let meanwhile = try_all();
    assert!(meanwhile.iter().any(|(code, _)| *code == Some(1)), "nothing was out of reach: {meanwhile:?}");
    let long = meanwhile.iter().filter(|(_, took)| *took > Duration::from_secs(4)).count();
    assert_eq!(long, 0, "{meanwhile:?}");
    net.heal();
    until("all can be had again", LONG, || try_all().iter().all(|(code, _)| *code == Some(0)).then_some(()));
}

/// F15: clients are connected, and all at once nothing comes from their node any more, no end of the connection either. They
/// notice by themselves, go to another node, and keep their locks.
#[test]
fn f15_half_open_connections_are_left_in_time() {
    let Some(cluster) = Cluster::apart(3) else { return };
    let net = cluster.net();
    let work = Work::of(&vec![role(net, CLIENTS[0], cluster.endpoints()); 4], COUNTERS);
    work.go_on(2);
    for node in cluster.all() {
        net.cut(&[node], &[CLIENTS[0]]);
        work.go_on(3);
        net.heal();
    }
    assert_eq!(work.finish().lost, 0);
}
