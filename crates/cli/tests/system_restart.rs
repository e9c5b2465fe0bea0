//! A node that is killed and started again with its data: holders go on, nobody joins them, tokens go on rising; and a
//! holder that died meanwhile is waited for until its lease is over.

mod common;

use core::time::Duration;
use std::{process::Stdio, time::Instant};

use common::{LONG, Node, Process, until};
use rustix::process::Signal;

/// Says which token it has, and stays until told to go.
const HOLD: &str =
    r#"echo "$LOCKSTEAD_TOKEN" > "held.$LOCKSTEAD_NAME"; until [ -e "go.$LOCKSTEAD_NAME" ]; do sleep 0.02; done"#;

fn hold(node: &Node, options: &[&str], name: &str) -> Process {
    let mut args = vec!["lock"];
    args.extend(options);
    args.extend([name, "--", "sh", "-c", HOLD]);
    Process::spawn(node.command(&args).stderr(Stdio::inherit()))
}

fn token(node: &Node, name: &str) -> u64 {
    until("the holder has its lock", LONG, || node.read(&format!("held.{name}"))?.parse().ok())
}

fn let_go(node: &Node, name: &str) {
    std::fs::write(node.file(&format!("go.{name}")), "").expect("written");
}

#[test]
fn holders_go_on_and_nobody_joins_them() {
    let mut node = Node::start();
    let tcp = node.tcp();
    let mut holders: Vec<(Process, &str)> = vec![
        (hold(&node, &[], "local"), "local"),
        (hold(&node, &["--endpoints", &tcp], "remote"), "remote"),
        (hold(&node, &["-s"], "shared"), "shared"),
    ];
    let before: Vec<u64> = holders.iter().map(|(_, name)| token(&node, name)).collect();
    // One that waits from before the crash, and must not be granted by it.
    let mut waiter = Process::spawn(
        node.command(&["lock", "local", "--", "sh", "-c", "echo \"$LOCKSTEAD_TOKEN\" > next"]).stderr(Stdio::inherit()),
    );
    until("somebody waits", LONG, || waits(&node, "local").then_some(()));

    node.kill();
    node.start_again();

    for (_, name) in &holders {
        let options: &[&str] = if *name == "shared" { &["lock", "-x", "-w", "0.3"] } else { &["lock", "-w", "0.3"] };
        let mut args = options.to_vec();
        args.extend([*name, "--", "true"]);
        let status = node.command(&args).status().expect("runs");
        assert_eq!(status.code(), Some(1), "{name} is still held");
    }
    assert_eq!(node.read("next"), None, "the waiter waits on");
    for ((holder, name), token) in holders.iter_mut().zip(before) {
        assert_eq!(holder.ended(), None, "the holder of {name} goes on");
        let_go(&node, name);
        let status = holder.wait_for("its release", LONG);
        assert!(status.success(), "the holder of {name} ended with {status}");
        if *name == "local" {
            let status = waiter.wait_for("its grant", LONG);
            assert!(status.success(), "the waiter ended with {status}");
            let next: u64 = node.read("next").and_then(|text| text.parse().ok()).expect("a token");
            assert!(next > token, "{next} after {token}");
            assert!(next >> 40 > token >> 40, "a restart raises the epoch: {next} after {token}");
        }
    }
}

fn waits(node: &Node, name: &str) -> bool {
    let output = node.command(&["show", name]).output().expect("runs");
    String::from_utf8_lossy(&output.stdout).contains("wait")
}

#[test]
fn a_holder_that_died_meanwhile_is_waited_for_until_its_lease_is_over() {
    let mut node = Node::start();
    let tcp = node.tcp();
    let mut holder = hold(&node, &["--endpoints", &tcp, "--ttl", "3"], "c");
    let before = token(&node, "c");
    node.kill();
    holder.signal(Signal::KILL);
    holder.wait();
    let start = Instant::now();
    node.start_again();
    let mut waiter = Process::spawn(
        node.command(&["lock", "-w", "30", "c", "--", "sh", "-c", "echo \"$LOCKSTEAD_TOKEN\" > next"])
            .stderr(Stdio::inherit()),
    );
    let status = waiter.wait_for("its grant", LONG);
    let took = start.elapsed();
    assert!(status.success(), "the waiter ended with {status}");
    println!("free after {took:?}");
    assert!(took >= Duration::from_secs(3), "before the lease could have ended: {took:?}");
    assert!(took < Duration::from_secs(13), "long after the lease ended: {took:?}");
    let next: u64 = node.read("next").and_then(|text| text.parse().ok()).expect("a token");
    assert!(next > before, "{next} after {before}");
}

#[test]
fn tokens_rise_over_many_restarts() {
    let mut node = Node::start();
    let mut last = 0;
    for round in 0..4 {
        let output =
            node.command(&["lock", "-w", "30", "c", "--", "sh", "-c", "echo $LOCKSTEAD_TOKEN"]).output().expect("runs");
        let token: u64 = String::from_utf8_lossy(&output.stdout).trim().parse().expect("a token");
        assert!(token > last, "round {round}: {token} after {last}");
        last = token;
        node.kill();
        node.start_again();
    }
}
