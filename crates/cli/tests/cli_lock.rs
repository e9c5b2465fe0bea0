//! `lockstead lock`: its exit statuses, what its command finds, and that the command never goes on without the lock.

mod common;

use std::process::{Command, Output, Stdio};

use common::{LONG, Node, Process, lockstead, until};
use rustix::process::Signal;
use serde_json::Value;

fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

fn status(command: &mut Command) -> Option<i32> {
    command.stderr(Stdio::null()).status().unwrap_or_else(|error| panic!("{command:?}: {error}")).code()
}

/// What is on a resource now.
fn show(node: &Node, name: &str) -> Value {
    let shown = output(&mut node.command(&["show", name, "-o", "json"]));
    serde_json::from_slice(&shown.stdout).expect("JSON")
}

fn count(node: &Node, name: &str, queue: &str) -> usize {
    show(node, name)[queue].as_array().map_or(0, Vec::len)
}

/// A lock that is held until the returned process ends.
fn holder(node: &Node, args: &[&str], name: &str) -> Process {
    let args = [&["lock"], args, &[name, "--", "sleep", "1000"]].concat();
    let process = Process::spawn(node.command(&args).stderr(Stdio::null()));
    until("the lock is held", LONG, || (count(node, name, "granted") == 1).then_some(()));
    process
}

#[test]
fn the_status_of_the_command_is_passed_on() {
    let node = Node::start();
    let run = |command: &[&str]| status(&mut node.command(&[&["lock", "a", "--"], command].concat()));
    assert_eq!(run(&["true"]), Some(0));
    assert_eq!(run(&["sh", "-c", "exit 7"]), Some(7));
    assert_eq!(run(&["sh", "-c", "kill -TERM $$"]), Some(128 + 15));
    assert_eq!(run(&["sh", "-c", "kill -KILL $$"]), Some(128 + 9));
    assert_eq!(run(&["/nonexistent/program"]), Some(127));
    assert_eq!(run(&["/etc/passwd"]), Some(126));
    assert_eq!(count(&node, "a", "granted"), 0, "released before the command ends");
}

#[test]
fn mistakes_are_64_and_an_absent_node_is_69() {
    let node = Node::start();
    for args in [
        &["lock"][..],
        &["lock", "a"],
        &["lock", "a", "true"],
        &["lock", "-s", "-x", "a", "--", "true"],
        &["lock", "-n", "-w", "1", "a", "--", "true"],
        &["lock", "-w", "-3", "a", "--", "true"],
        &["lock", "--ttl", "0", "a", "--", "true"],
        &["lock", &"a".repeat(2000), "--", "true"],
        &["lock", "50%", "--", "true"],
        &["lock", "-m", "XX", "a", "--", "true"],
        &["lock", "-L", "nowhere", "a", "--", "true"],
        &["frobnicate"],
        &["ls", "-o", "xml"],
        &["release", "a", "--token", "1", "--reason", "r"],
        &["dev", "--nodes", "0"],
        &["lockspace", "create", "x", "--discipline", "fifo"],
        &["lockspace", "create", "x", "--mastering", "chance"],
        // Nothing stands behind it: accepted, it would promise what is not kept.
        &["lockspace", "create", "x", "--cache", "read"],
    ] {
        assert_eq!(status(node.command(args).stdout(Stdio::null())), Some(64), "{args:?}");
    }
    let said = output(&mut node.command(&["lockspace", "create", "x", "--cache", "read"])).stderr;
    assert!(String::from_utf8_lossy(&said).contains("unexpected argument '--cache'"));
    for args in [&["--help"][..], &["--version"], &["lock", "--help"], &["bench", "-h"]] {
        assert_eq!(status(node.command(args).stdout(Stdio::null())), Some(0), "{args:?}");
    }
    let nobody = |args: &[&str]| status(lockstead().args(args).env("LOCKSTEAD_ENDPOINTS", "tcp://127.0.0.1:1"));
    assert_eq!(nobody(&["lock", "-w", "0.3", "a", "--", "true"]), Some(69));
    assert_eq!(nobody(&["lock", "-n", "a", "--", "true"]), Some(69));
    assert_eq!(nobody(&["ls"]), Some(69));
}

#[test]
fn unknown_lockspaces_and_modes_are_answered_with_what_there_is() {
    let node = Node::start();
    let said = |args: &[&str]| String::from_utf8(output(&mut node.command(args)).stderr).expect("text");
    assert!(said(&["lock", "-L", "nowhere", "a", "--", "true"]).contains("lockspace create nowhere"));
    assert!(said(&["lock", "-m", "XX", "a", "--", "true"]).contains("NL CR CW PR PW EX"));
}

#[test]
fn a_lock_not_obtained_is_1_or_the_chosen_code() {
    let node = Node::start();
    let _holder = holder(&node, &[], "a");
    let try_it = |args: &[&str]| status(&mut node.command(&[&["lock"], args, &["a", "--", "true"]].concat()));
    assert_eq!(try_it(&["-n"]), Some(1));
    assert_eq!(try_it(&["-n", "-E", "99"]), Some(99));
    assert_eq!(try_it(&["-w", "0.1"]), Some(1));
    assert_eq!(try_it(&["-w", "0", "-E", "0"]), Some(0));
    assert_eq!(count(&node, "a", "waiting"), 0, "nothing is left in the queue");
    let said = output(&mut node.command(&["lock", "-n", "a", "--", "true"])).stderr;
    assert!(String::from_utf8_lossy(&said).contains("`lockstead show a`"), "`tree` shows nobody where nobody waits");
}

#[test]
fn modes_are_those_of_the_options() {
    let node = Node::start();
    let _reader = holder(&node, &["-s"], "a");
    assert_eq!(show(&node, "a")["granted"][0]["held"], "PR");
    let try_it = |args: &[&str]| status(&mut node.command(&[&["lock", "-n"], args, &["a", "--", "true"]].concat()));
    assert_eq!(try_it(&["-s"]), Some(0));
    assert_eq!(try_it(&["-m", "cr"]), Some(0));
    assert_eq!(try_it(&["-u"]), Some(1), "PW beside PR");
    assert_eq!(try_it(&["-x"]), Some(1));
    assert_eq!(try_it(&[]), Some(1));
}

#[test]
fn the_command_finds_name_token_and_session() {
    let node = Node::start();
    let print = "echo \"$LOCKSTEAD_NAME $LOCKSTEAD_TOKEN $LOCKSTEAD_SESSION\"; cat";
    let mut command = node.command(&["lock", "--purpose", "to look", "a%20b", "--", "sh", "-c", print]);
    let mut process = Process::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
    let line = process.lines().next().expect("a line");
    let shown = show(&node, "a%20b");
    let lock = &shown["granted"][0];
    let words = ["a%20b", lock["token"].as_str().expect("a token"), lock["session"].as_str().expect("a session")];
    assert_eq!(line.split(' ').collect::<Vec<_>>(), words);
    assert_eq!((lock["program"].as_str(), lock["purpose"].as_str()), (Some("sh"), Some("to look")));
    drop(process.input());
    assert_eq!(process.wait_for("the command ends with its input", LONG).code(), Some(0));
}

#[test]
fn who_waits_gets_the_lock_with_a_higher_token() {
    let node = Node::start();
    let mut first = holder(&node, &[], "a");
    let before = show(&node, "a")["granted"][0]["token"].as_str().and_then(|t| t.parse::<u64>().ok()).expect("a token");
    let mut command = node.command(&["lock", "a", "--", "sh", "-c", "echo $LOCKSTEAD_TOKEN"]);
    let mut second = Process::spawn(command.stdout(Stdio::piped()));
    until("the second waits", LONG, || (count(&node, "a", "waiting") == 1).then_some(()));
    first.signal(Signal::TERM);
    assert_eq!(first.wait_for("the first ends", LONG).code(), Some(128 + 15), "the signal was passed on");
    let token: u64 = second.lines().next().and_then(|line| line.parse().ok()).expect("a token");
    assert!(token > before, "{token} after {before}");
    assert_eq!(second.wait_for("the second ends", LONG).code(), Some(0));
}

#[test]
fn a_signal_ends_a_wait_and_leaves_nothing_in_the_queue() {
    let node = Node::start();
    let _holder = holder(&node, &[], "a");
    let mut waiter = Process::spawn(node.command(&["lock", "a", "--", "true"]).stderr(Stdio::null()));
    until("it waits", LONG, || (count(&node, "a", "waiting") == 1).then_some(()));
    waiter.signal(Signal::TERM);
    assert_eq!(waiter.wait_for("it ends", LONG).code(), Some(128 + 15));
    until("it waits no more", LONG, || (count(&node, "a", "waiting") == 0).then_some(()));
}

#[test]
fn a_lock_taken_by_force_stops_the_command_with_120() {
    let node = Node::start();
    let mut command =
        node.command(&["lock", "a", "--", "sh", "-c", "trap 'echo asked; exit 0' TERM; echo in; sleep 1000 & wait"]);
    let said = std::fs::File::create(node.file("said")).expect("a file");
    let mut process = Process::spawn(command.stdout(Stdio::piped()).stderr(said));
    let mut lines = process.lines();
    assert_eq!(lines.next().as_deref(), Some("in"));
    let token = show(&node, "a")["granted"][0]["token"].as_str().expect("a token").to_owned();
    let force = |token: &str| {
        let args = ["release", "--force", "a", "--token", token, "--reason", "a test", "-o", "json"];
        output(&mut node.command(&args))
    };
    assert_eq!(force("1").status.code(), Some(1), "not the token of that lock");
    let released = force(&token);
    assert_eq!(released.status.code(), Some(0));
    let released: Value = serde_json::from_slice(&released.stdout).expect("JSON");
    assert_eq!(released["token"].as_str(), Some(token.as_str()));
    assert_eq!(lines.next().as_deref(), Some("asked"));
    assert_eq!(process.wait_for("it ends", LONG).code(), Some(120), "whatever the command said");
    let said = node.read("said").expect("written");
    assert!(said.contains("the lock was lost: released by an operator"), "{said}");
}

#[test]
fn a_command_that_ignores_sigterm_is_killed_before_the_lease_ends() {
    let mut node = Node::start();
    let mut command = node.command(&[
        "lock",
        "--ttl",
        "2",
        "a",
        "--",
        "sh",
        "-c",
        "trap '' TERM; echo $$; while :; do sleep 1; done",
    ]);
    let mut process = Process::spawn(command.stdout(Stdio::piped()).stderr(Stdio::null()));
    let pid = process.lines().next().expect("its pid");
    // Nobody answers the renewals from here on.
    node.kill();
    assert_eq!(process.wait_for("it ends", LONG).code(), Some(120));
    assert!(!common::runs(&pid), "the command ended with the lock");
}
