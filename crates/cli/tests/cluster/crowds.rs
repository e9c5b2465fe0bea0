//! Too many at once, or one that does not listen: the others do not notice.

use core::time::Duration;
use std::{net::TcpStream, process::Stdio, time::Instant};

use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

use crate::{
    common::{LONG, Process, pass, until},
    nodes::Cluster,
    work::{Work, herd},
};

/// F37: thousands wait for one lock through all nodes, and its holder dies. Each gets it, one after another.
#[test]
fn f37_a_herd_gets_its_lock_one_by_one() {
    let cluster = Cluster::of(3);
    let work = Work::start(&cluster.endpoints(), 3, 6);
    let hold = "echo > held; exec sleep 1000";
    let endpoints = format!("tcp://{}", cluster.address(2));
    let args = ["lock", "--ttl", "2", "--endpoints", &endpoints, "herd", "--", "sh", "-c", hold];
    let mut holder = Process::spawn(cluster.command(&args).stderr(Stdio::null()));
    until("it holds the lock", LONG, || cluster.read("held"));
    let nodes: Vec<String> = cluster.all().into_iter().map(|node| cluster.address(node)).collect();
    let start = Instant::now();
    let (sessions, each) = (10, 200);
    let served = herd(&nodes, sessions, each, || {
        holder.signal(Signal::KILL);
        holder.wait();
    });
    assert_eq!(served, sessions * each);
    println!("{served} served within {:?}", start.elapsed());
    work.go_on(3);
    assert_eq!(work.finish().lost, 0);
}

/// F35: somebody watches everything and reads nothing. What is kept for it is bounded, and nobody else waits for it.
#[test]
fn f35_a_watcher_that_does_not_read_disturbs_nobody() {
    let cluster = Cluster::of(3);
    let work = Work::start(&cluster.endpoints(), 4, 6);
    let endpoints = format!("tcp://{}", cluster.address(1));
    let mut watch = cluster.command(&["watch", "--endpoints", &endpoints]);
    let mut watch = Process::spawn(watch.stdout(Stdio::piped()).stderr(Stdio::null()));
    let mut lines = watch.lines();
    lines.next().expect("it sees something");
    watch.signal(Signal::STOP);
    let before = cluster.memory(1);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        work.go_on(20);
    }
    let more = cluster.memory(1).saturating_sub(before);
    assert!(more < 64 << 20, "{more} bytes more for one that does not read");
    let tally = work.finish();
    assert_eq!(tally.lost, 0);
    assert!(tally.longest < Duration::from_secs(3), "{tally:?}");
}

/// This process holds the other ends.
fn allow_files(wanted: u64) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let enough = current.is_none_or(|current| current >= wanted);
    if !enough {
        assert!(maximum.is_none_or(|maximum| maximum >= wanted), "{wanted} files are not allowed here");
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).expect("within the limit");
    }
}

/// F36: a thousand connections to the client port, and a thousand to the peer port, of one node that say nothing.
#[test]
fn f36_silent_connections_to_both_ports_disturb_nobody() {
    let cluster = Cluster::of(3);
    let work = Work::start(&cluster.endpoints(), 4, 6);
    work.go_on(3);
    let epoch = cluster.wait_figure(1, "epoch", |_| true);
    allow_files(2_500);
    let open = |address: String| -> Vec<TcpStream> {
        (0..1_000).map(|_| until("a connection", LONG, || TcpStream::connect(&address).ok())).collect()
    };
    let flood = (open(cluster.address(1)), open(cluster.peer(1)));
    pass(Duration::from_secs(4));
    work.go_on(3);
    let status = cluster.command(&["lock", "-w", "10", "new", "--", "true"]).status().expect("runs");
    assert!(status.success(), "a new client: {status}");
    drop(flood);
    assert_eq!(cluster.wait_figure(1, "epoch", |_| true), epoch, "somebody was put out");
    assert_eq!(work.finish().lost, 0);
}
