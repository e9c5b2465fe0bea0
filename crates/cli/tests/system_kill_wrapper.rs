//! A wrapper that is killed takes its command with it before anybody else gets the lock, whatever it was doing, and its
//! lock is free at once over a Unix socket; over TCP it is free at the end of the lease, and not before.

mod common;

use core::time::Duration;
use std::{fs, process::Stdio, time::Instant};

use common::{Chance, LONG, Node, Process, pass, runs, until};
use rustix::process::Signal;

/// Says who is inside, and stays.
const STAY: &str = "echo $$ > inside; exec sleep 1000";
/// Looks whether the one that said so still runs. One killed between opening the file and writing to it has left it empty.
const LOOK: &str = r#"
pid=none
read -r pid 2>/dev/null < inside
[ "$pid" ] || pid=none
state=gone
read -r _ _ state _ 2>/dev/null < /proc/$pid/stat
case $state in gone | Z | X) echo alone ;; *) echo "beside $pid" ;; esac > seen
"#;

fn hold(node: &Node, options: &[&str]) -> Process {
    let mut args = vec!["lock"];
    args.extend(options);
    args.extend(["c", "--", "sh", "-c", STAY]);
    Process::spawn(node.command(&args).stderr(Stdio::null()))
}

fn inside(node: &Node) -> Option<String> {
    node.read("inside").filter(|pid| !pid.is_empty())
}

/// Gets the lock, waiting up to `wait` seconds, and tells how long that took.
fn get(node: &Node, wait: &str) -> Duration {
    let start = Instant::now();
    let status = node.command(&["lock", "-w", wait, "c", "--", "sh", "-c", LOOK]).status().expect("runs");
    assert!(status.success(), "not obtained within {wait} s: {status}");
    start.elapsed()
}

#[test]
fn a_dead_holders_lock_is_free_within_a_second() {
    let node = Node::start();
    let mut holder = hold(&node, &[]);
    let child = until("the child starts", LONG, || inside(&node));
    holder.signal(Signal::KILL);
    let took = get(&node, "1");
    println!("free after {took:?}");
    assert_eq!(node.read("seen").as_deref(), Some("alone"));
    assert!(!runs(&child));
    holder.wait();
}

#[test]
fn a_wrapper_killed_at_any_moment_leaves_no_child_inside() {
    let seed = 4_711;
    println!("seed {seed}");
    let mut chance = Chance::of(seed);
    let node = Node::start();
    let mut met_inside = 0;
    for _ in 0..40 {
        let _ = fs::remove_file(node.file("inside"));
        let mut holder = hold(&node, &[]);
        pass(Duration::from_micros(chance.below(60_000)));
        met_inside += u32::from(inside(&node).is_some());
        holder.signal(Signal::KILL);
        get(&node, "10");
        assert_eq!(node.read("seen").as_deref(), Some("alone"));
        holder.wait();
    }
    println!("{met_inside} of 40 were killed with their child inside");
}

#[test]
fn what_a_killed_wrappers_command_started_dies_too() {
    let node = Node::start();
    let mut args = vec!["lock", "--ttl", "60", "c", "--", "sh", "-c"];
    args.push("sleep 1000 & echo $! > inside; wait");
    let mut holder = Process::spawn(node.command(&args).stderr(Stdio::null()));
    let grandchild = until("the grandchild starts", LONG, || inside(&node));
    holder.signal(Signal::KILL);
    // PDEATHSIG reaches the command alone; what it started is the warden's to end, before the lock is free.
    get(&node, "1");
    assert_eq!(node.read("seen").as_deref(), Some("alone"));
    assert!(!runs(&grandchild));
    holder.wait();
}

#[test]
fn a_stopped_wrapper_leaves_nobody_inside() {
    let node = Node::start();
    let mut args = vec!["lock", "--ttl", "1", "c", "--", "sh", "-c"];
    args.push("sleep 1000 & echo $! > inside; wait");
    let mut holder = Process::spawn(node.command(&args).stderr(Stdio::null()));
    let grandchild = until("the grandchild starts", LONG, || inside(&node));
    holder.signal(Signal::STOP);
    get(&node, "10");
    assert_eq!(node.read("seen").as_deref(), Some("alone"));
    assert!(!runs(&grandchild));
    holder.signal(Signal::CONT);
    assert_eq!(holder.wait().code(), Some(120));
}

#[test]
fn over_tcp_a_dead_holders_lock_is_free_at_the_end_of_its_lease() {
    let node = Node::start();
    let mut holder = hold(&node, &["--endpoints", &node.tcp(), "--ttl", "2"]);
    until("the child starts", LONG, || inside(&node));
    holder.signal(Signal::KILL);
    holder.wait();
    lease_runs_out(&node);
}

#[test]
fn over_tcp_a_silent_holders_lock_is_free_at_the_end_of_its_lease() {
    let node = Node::start();
    let holder = hold(&node, &["--endpoints", &node.tcp(), "--ttl", "2"]);
    until("the child starts", LONG, || inside(&node));
    holder.signal(Signal::STOP);
    lease_runs_out(&node);
}

/// A lease of 2 s is renewed three times in its length, so between 1.33 and 2 s of it are left, and the time it takes to
/// see the lock free.
fn lease_runs_out(node: &Node) {
    let took = get(node, "10");
    println!("free after {took:?}");
    assert!(took > Duration::from_millis(1_200), "before the lease ended: {took:?}");
    assert!(took < Duration::from_millis(4_000), "long after the lease ended: {took:?}");
}
