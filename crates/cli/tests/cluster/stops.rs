//! Nodes that do not die and yet do nothing for a while, and nodes that are slow: they must notice themselves that they are
//! out.

use core::time::Duration;
use std::{
    process::{Command, Stdio},
    sync::Arc,
    time::Instant,
};

use rustix::process::Signal;

use crate::{
    common::{LONG, Process, pass, until},
    disks::{may_trace, skipped},
    nodes::Cluster,
    work::{IMPATIENT, PATIENT, Role, Work},
};

const COUNTERS: usize = 12;
const TTL: Duration = Duration::from_secs(3);

/// F05, F06: a node is stopped for three leases, the leader of the group at that, and goes on. Clients that know the stopped node
/// alone are among those at work: none of them is inside while another is, and nothing the old master says counts.
#[test]
fn f05_f06_a_deposed_master_that_wakes_up_gives_nothing() {
    let mut cluster = Cluster::of(3);
    let stopped = cluster.leader(1);
    let mut roles = vec![Role { endpoints: cluster.endpoints(), ttl: TTL, wait: PATIENT, first: Arc::new(|| ()) }; 3];
    roles.push(Role { endpoints: cluster.address(stopped), wait: IMPATIENT, ..roles[0].clone() });
    let work = Work::of(&roles, COUNTERS);
    work.go_on(3);
    cluster.signal(stopped, Signal::STOP);
    let start = Instant::now();
    work.go_on(3);
    // The others have taken over; the stopped one still thinks that it is the moment before.
    while start.elapsed() < 3 * TTL {
        work.go_on(1);
    }
    cluster.signal(stopped, Signal::CONT);
    let other = stopped % 3 + 1;
    cluster.wait_whole(other, 3);
    cluster.wait_figure(stopped, "slots_mastered", |slots| slots > 0);
    work.go_on(3);
    work.finish();
}

/// A node that stops for less than it may changes nothing.
#[test]
fn f05_a_short_stop_of_every_node_changes_nothing() {
    let mut cluster = Cluster::of(3);
    let work = Work::start(&cluster.endpoints(), 3, COUNTERS);
    work.go_on(3);
    let epoch = cluster.wait_figure(1, "epoch", |_| true);
    for node in cluster.all() {
        cluster.signal(node, Signal::STOP);
        pass(Duration::from_millis(700));
        cluster.signal(node, Signal::CONT);
        work.go_on(3);
    }
    assert_eq!(cluster.wait_figure(1, "epoch", |_| true), epoch, "somebody was put out");
    assert_eq!(work.finish().lost, 0);
}

/// F34: a node that gets a twentieth of its time: it lags, or is put out and comes back, and nothing is lost.
#[test]
fn f34_a_slow_node_breaks_nothing() {
    let mut cluster = Cluster::of(3);
    let work = Work::start(&cluster.endpoints(), 4, COUNTERS);
    work.go_on(3);
    let slow = cluster.leader(1);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(6) {
        cluster.signal(slow, Signal::STOP);
        pass(Duration::from_millis(95));
        cluster.signal(slow, Signal::CONT);
        pass(Duration::from_millis(5));
    }
    let other = slow % 3 + 1;
    cluster.wait_whole(other, 3);
    work.go_on(3);
    work.finish();
}

/// F34: each sync of a node's disk takes 0.2 s, of the leader of the group at that.
#[test]
fn f34_a_slow_disk_breaks_nothing() {
    let mut cluster = Cluster::of(3);
    if !may_trace() {
        return skipped("a slow disk needs strace, and the right to trace");
    }
    let work = Work::start(&cluster.endpoints(), 4, COUNTERS);
    work.go_on(3);
    let slow = cluster.leader(1);
    let pid = cluster.pid(slow).as_raw_nonzero().to_string();
    let log = cluster.data(slow).with_extension("strace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-o"]).arg(&log).args(["-e", "trace=fsync,fdatasync", "-e"]);
    strace.arg("inject=fsync,fdatasync:delay_enter=200000").args(["-p", &pid]);
    let tracer = Process::spawn(strace.stdin(Stdio::null()).stderr(Stdio::null()));
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        // Each opens a session, which the voters write down.
        assert!(cluster.command(&["lock", "-w", "20", "writes", "--", "true"]).status().expect("runs").success());
        work.go_on(2);
    }
    drop(tracer);
    assert!(std::fs::read_to_string(log).expect("what was traced").contains("DELAYED"), "no sync was slow");
    cluster.wait_whole(slow % 3 + 1, 3);
    work.go_on(3);
    assert_eq!(work.finish().lost, 0);
}

/// A node whose process runs and one of whose event loops hangs: it must not keep its slots. It comes back when the loop goes on.
#[test]
fn f05_a_node_with_a_stuck_event_loop_is_replaced() {
    let mut cluster = Cluster::of(3);
    if !may_trace() {
        return skipped("a thread that hangs needs strace, and the right to trace");
    }
    let work = Work::start(&cluster.endpoints(), 4, COUNTERS);
    work.go_on(3);
    let stuck = cluster.leader(1) % 3 + 1;
    let other = stuck % 3 + 1;
    let thread = cluster.thread(stuck, "loop-0");
    // 12 s in each look for events.
    let mut strace = Command::new("strace");
    strace.args(["-o", "/dev/null", "-e", "trace=epoll_wait,epoll_pwait,epoll_pwait2", "-e"]);
    strace.arg("inject=epoll_wait,epoll_pwait,epoll_pwait2:delay_enter=12000000").args(["-p", &thread]);
    let tracer = Process::spawn(strace.stdin(Stdio::null()).stderr(Stdio::null()));
    cluster.wait_figure(other, "members_up", |up| up == 2);
    work.go_on(3);
    assert!(cluster.log(stuck).contains("is stuck"), "it must say so");
    drop(tracer);
    cluster.wait_whole(other, 3);
    cluster.wait_figure(stuck, "slots_mastered", |slots| slots > 0);
    work.go_on(3);
    work.finish();
}

/// With the majority stopped the third grants nothing, and its clients hear that they are unsure before their lease is over.
#[test]
fn f05_a_node_without_the_others_grants_nothing_and_goes_on_with_them() {
    let mut cluster = Cluster::of(3);
    let leader = cluster.leader(1);
    let role = Role { endpoints: cluster.endpoints(), ttl: TTL, wait: IMPATIENT, first: Arc::new(|| ()) };
    let at_leader = Role { endpoints: cluster.address(leader), ..role.clone() };
    // Few counters, so that each is tried in the time in which none may be had.
    let work = Work::of(&[at_leader.clone(), role, at_leader], 6);
    work.go_on(3);
    let others: Vec<u16> = cluster.all().into_iter().filter(|node| *node != leader).collect();
    for node in &others {
        cluster.signal(*node, Signal::STOP);
    }
    cluster.wait_figure(leader, "authority_ms", |left| left == 0);
    let before = work.steps();
    pass(Duration::from_secs(3));
    assert_eq!(work.steps(), before, "a node alone has given locks");
    for node in &others {
        cluster.signal(*node, Signal::CONT);
    }
    work.go_on(3);
    until("all are up again", LONG, || (cluster.figure(leader, "members_up") == Some(3)).then_some(()));
    work.finish();
}
