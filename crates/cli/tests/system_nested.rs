//! Wrappers within wrappers: a deadlock of nested commands is found, one of them exits 75, and the rest goes on.

mod common;

use std::{
    io::Write as _,
    process::{Command, Output, Stdio},
};

use common::{LONG, Node, Process, until};
use serde_json::Value;

const SESSION: &str = "LOCKSTEAD_SESSION";

fn json(node: &Node, args: &[&str]) -> Value {
    let shown = node.command(args).output().unwrap_or_else(|error| panic!("{args:?}: {error}"));
    serde_json::from_slice(&shown.stdout).unwrap_or_else(|error| panic!("{args:?}: {error}: {shown:?}"))
}

/// A wrapper whose command tells that it has the lock, waits for a word, and runs another wrapper.
fn nested(node: &Node, outer: &str, inner: &str) -> Process {
    let text = format!(
        "\"$LOCKSTEAD\" lock {outer} -- sh -c 'echo in; read go; \"$LOCKSTEAD\" lock {inner} -- touch ran-{inner}; \
         code=$?; echo inner $code; exit $code'"
    );
    Process::spawn(node.script(&text).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()))
}

/// Two nested pairs in opposite order, without a bound on any wait.
#[test]
fn of_two_nested_pairs_in_opposite_order_one_inner_exits_75() {
    let node = Node::start();
    let mut pairs = [nested(&node, "a", "b"), nested(&node, "b", "a")];
    let mut lines = pairs.each_mut().map(Process::lines);
    for lines in &mut lines {
        assert_eq!(lines.next().as_deref(), Some("in"), "both outer locks are held before any inner one is asked for");
    }
    for pair in &mut pairs {
        pair.input().write_all(b"go\n").expect("it reads");
    }
    let mut said = lines.map(|mut lines| lines.next().expect("the inner one ended"));
    let mut codes = pairs.each_mut().map(|pair| pair.wait_for("a pair ends", LONG).code());
    let ran = ["b", "a"].map(|name| node.file(&format!("ran-{name}")).exists());
    assert_eq!(ran, codes.map(|code| code == Some(0)), "the command of the victim did not run: {said:?}");
    said.sort();
    codes.sort_unstable();
    assert_eq!((said, codes), (["inner 0".to_owned(), "inner 75".to_owned()], [Some(0), Some(75)]));

    let reports = &json(&node, &["deadlocks", "-o", "json"])["deadlocks"];
    assert_eq!(reports.as_array().map(Vec::len), Some(1), "{reports}");
    let cycle = &reports[0]["cycle"];
    for (edge, next) in [(0, 1), (1, 0)] {
        assert_eq!(cycle[next]["waiter"]["within"], cycle[edge]["blocker"]["session"], "{reports}");
    }
    let shown = node.command(&["deadlocks"]).output().expect("it runs").stdout;
    let shown = String::from_utf8(shown).expect("text");
    assert_eq!(shown.matches("ends only after what runs within it").count(), 2, "{shown}");
}

#[test]
fn to_wait_for_the_lock_one_runs_under_is_a_deadlock_by_itself() {
    let node = Node::start();
    let run = |outer: &[&str], inner: &[&str]| {
        let program = [env!("CARGO_BIN_EXE_lockstead"), "lock"];
        let args = [&["lock"], outer, &["a", "--"], &program, inner, &["a", "--", "true"]].concat();
        node.command(&args).stderr(Stdio::null()).status().expect("it runs").code()
    };
    assert_eq!(run(&[], &[]), Some(75));
    assert_eq!(run(&[], &["-w", "1000"]), Some(75));
    assert_eq!(run(&[], &["-n"]), Some(1), "who does not wait is no victim");
    assert_eq!(run(&["-s"], &["-s"]), Some(0));
}

#[test]
fn a_session_that_means_nothing_here_is_as_none() {
    let (node, other) = (Node::start(), Node::start());
    let free = |command: &mut Command| command.stderr(Stdio::null()).status().expect("it runs").code();
    for session in ["", "nonsense", "00112233445566778899aabbccddeeff"] {
        assert_eq!(free(node.command(&["lock", "a", "--", "true"]).env(SESSION, session)), Some(0), "{session:?}");
    }
    // Of another node: its id is unknown here.
    let text =
        format!("\"$LOCKSTEAD\" lock a -- env LOCKSTEAD_ENDPOINTS={} \"$LOCKSTEAD\" lock a -- true", other.tcp());
    assert_eq!(free(&mut node.script(&text)), Some(0));
}

#[test]
fn what_waits_within_is_drawn_with_what_it_keeps_waiting() {
    let node = Node::start();
    let wait = |count: usize| {
        let waits = || json(&node, &["tree", "-o", "json"])["edges"].as_array().map_or(0, Vec::len) == count;
        until("they wait", LONG, || waits().then_some(()));
    };
    let spawn = |text: &str| Process::spawn(node.script(text).stdout(Stdio::piped()).stderr(Stdio::null()));
    let mut holder = spawn("exec \"$LOCKSTEAD\" lock --purpose holds b -- sh -c 'echo in; exec sleep 1000'");
    assert_eq!(holder.lines().next().as_deref(), Some("in"));
    let _nested = spawn("exec \"$LOCKSTEAD\" lock --purpose outer a -- \"$LOCKSTEAD\" lock --purpose inner b -- true");
    wait(1);
    let _waiter = spawn("exec \"$LOCKSTEAD\" lock --purpose last a -- true");
    wait(2);
    let Output { stdout, .. } = node.command(&["tree"]).output().expect("it runs");
    let tree = String::from_utf8(stdout).expect("text");
    let places = ["\"holds\"", "\"inner\"", "\"outer\"", "\"last\""].map(|who| tree.find(who).expect(who));
    assert!(places.is_sorted(), "one picture, from who holds to who waits in the end:\n{tree}");
    assert_eq!(tree.lines().filter(|line| !line.starts_with(' ')).count(), 1 + 1, "one root:\n{tree}");
}
