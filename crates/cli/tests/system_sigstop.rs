//! A holder that is stopped for longer than its lease and continued learns that it lost the lock before it does anything
//! guarded, and what it sent before is refused by its token.

mod common;

use core::time::Duration;
use std::{
    io::Write,
    process::{Command, Stdio},
};

use common::{LONG, Node, Process, pass, runs, until};
use lockstead::{FenceGate, Token, types::tables::built_in};
use rustix::process::{Pid, Signal, kill_process};

/// The program of `examples/guarded_writer.rs`, which cargo builds for tests beside the one under test.
fn guarded_writer(node: &Node, endpoints: &str) -> Process {
    let bin = std::path::Path::new(env!("CARGO_BIN_EXE_lockstead"));
    let path = bin.with_file_name("examples").join("guarded_writer");
    assert!(path.is_file(), "{} is missing: cargo build -p lockstead-cli --examples", path.display());
    let mut command = Command::new(path);
    command.arg("c").env("LOCKSTEAD_ENDPOINTS", endpoints).env("LOCKSTEAD_RUN_DIR", node.file("run"));
    Process::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()))
}

fn token_of(line: &str, word: &str) -> Token {
    let number =
        line.strip_prefix(word).and_then(|rest| rest.trim().parse().ok()).unwrap_or_else(|| panic!("{line:?}"));
    Token::from_u64(number).expect("in range")
}

/// Gets the lock, as soon as it is free, and tells its token.
fn next_token(node: &Node) -> Token {
    let mut command = node.command(&["lock", "-w", "30", "c", "--", "sh", "-c", "echo $LOCKSTEAD_TOKEN"]);
    let output = command.output().expect("runs");
    assert!(output.status.success(), "{output:?}");
    token_of(&String::from_utf8_lossy(&output.stdout), "")
}

fn stopped_and_continued(node: &Node, endpoints: &str) {
    let table = built_in("vms").expect("built in");
    let exclusive = table.exclusive();
    let mut gate = FenceGate::new(table);

    let mut holder = guarded_writer(node, endpoints);
    let (mut orders, mut says) = (holder.input(), holder.lines());
    let old = token_of(&says.next().expect("it says that it holds the lock"), "held ");
    orders.write_all(b"go\n").expect("it reads");
    assert_eq!(token_of(&says.next().expect("an answer"), "wrote "), old);
    assert_eq!(gate.admit(old, exclusive), Ok(()));

    holder.signal(Signal::STOP);
    let new = next_token(node);
    assert!(new > old, "{new} after {old}");
    assert_eq!(gate.admit(new, exclusive), Ok(()));
    orders.write_all(b"go\n").expect("the pipe holds it");
    holder.signal(Signal::CONT);

    assert_eq!(says.next().as_deref(), Some("lost"), "the first thing it does after it was continued");
    assert!(gate.admit(old, exclusive).is_err(), "what it had sent before is refused");
    assert!(holder.wait_for("its end", LONG).success());
}

#[test]
fn a_local_holder_learns_it_before_it_acts() {
    let node = Node::start();
    stopped_and_continued(&node, &node.address());
}

#[test]
fn a_remote_holder_learns_it_before_it_acts() {
    let node = Node::start();
    stopped_and_continued(&node, &node.tcp());
}

#[test]
fn a_short_stop_loses_nothing() {
    let node = Node::start();
    let mut holder = guarded_writer(&node, &node.address());
    let (mut orders, mut says) = (holder.input(), holder.lines());
    let token = token_of(&says.next().expect("it says that it holds the lock"), "held ");
    for _ in 0..5 {
        holder.signal(Signal::STOP);
        pass(Duration::from_millis(100));
        holder.signal(Signal::CONT);
        pass(Duration::from_millis(400));
    }
    orders.write_all(b"go\n").expect("it reads");
    assert_eq!(token_of(&says.next().expect("an answer"), "wrote "), token);
}

#[test]
fn a_stopped_wrapper_ends_its_command_and_says_that_it_lost() {
    let node = Node::start();
    let script = "echo $$ > inside; while :; do sleep 0.02; done";
    let mut holder =
        Process::spawn(node.command(&["lock", "--ttl", "1", "c", "--", "sh", "-c", script]).stderr(Stdio::null()));
    let child = until("the child starts", LONG, || node.read("inside").filter(|pid| !pid.is_empty()));
    let pid = child.parse().ok().and_then(Pid::from_raw).expect("a process id");
    holder.signal(Signal::STOP);
    kill_process(pid, Signal::STOP).expect("it runs");
    next_token(&node);
    holder.signal(Signal::CONT);
    let status = holder.wait_for("its end", LONG);
    assert_eq!(status.code(), Some(120), "{status}");
    until("its child ends", LONG, || (!runs(&child)).then_some(()));
}
