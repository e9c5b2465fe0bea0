//! Commands that look, administer and explain: what they print, for people and for programs.

mod common;

use std::process::{Command, Output, Stdio};

use common::{LONG, Node, Process, until};
use serde_json::Value;

fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

fn text(node: &Node, args: &[&str]) -> String {
    String::from_utf8(output(&mut node.command(args)).stdout).expect("text")
}

fn json(node: &Node, args: &[&str]) -> Value {
    let printed = text(node, &[args, &["-o", "json"]].concat());
    serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{args:?}: {error}: {printed:?}"))
}

fn spawn(node: &Node, args: &[&str]) -> Process {
    Process::spawn(node.command(args).stdout(Stdio::null()).stderr(Stdio::null()))
}

fn wait_for(node: &Node, name: &str, queue: &str, count: usize) {
    until(queue, LONG, || (json(node, &["show", name])[queue].as_array().map(Vec::len) == Some(count)).then_some(()));
}

#[test]
fn queues_are_shown_in_every_form() {
    let node = Node::start();
    let _reader = spawn(&node, &["lock", "-s", "--purpose", "reads", "orders/7", "--", "sleep", "1000"]);
    wait_for(&node, "orders/7", "granted", 1);
    let _writer = spawn(&node, &["lock", "orders/7", "--", "sleep", "1000"]);
    wait_for(&node, "orders/7", "waiting", 1);

    let rows = json(&node, &["ls", "orders/"]);
    let row = &rows[0];
    assert_eq!((row["name"].as_str(), row["strongest"].as_str()), (Some("orders/7"), Some("PR")));
    assert_eq!((row["granted"].as_u64(), row["waiting"].as_u64()), (Some(1), Some(1)));
    assert_eq!(json(&node, &["ls", "other/"]).as_array().map(Vec::len), Some(0));
    let locks = json(&node, &["ls", "--locks"]);
    assert_eq!((locks[0]["held"].as_str(), locks[1]["wanted"].as_str()), (Some("PR"), Some("EX")));
    assert_eq!((locks[0]["queue"].as_str(), locks[1]["queue"].as_str()), (Some("granted"), Some("waiting")));

    let page = text(&node, &["show", "orders/7"]);
    assert!(page.contains("granted") && page.contains("sleep \"reads\"") && page.contains("master=1"), "{page}");
    let tree = text(&node, &["tree"]);
    let lines: Vec<&str> = tree.lines().collect();
    assert!(lines[0].ends_with("sleep \"reads\""), "{tree}");
    assert!(
        lines[1].starts_with("\u{2514}\u{2500} orders/7 PR") && lines[2].contains("\u{2514}\u{2500} wants EX"),
        "{tree}"
    );
    let edges = &json(&node, &["tree"])["edges"];
    assert_eq!((edges[0]["hard"].as_bool(), edges[0]["blocker"]["held"].as_str()), (Some(true), Some("PR")));

    let sessions = json(&node, &["sessions"]);
    assert_eq!(sessions.as_array().map(Vec::len), Some(2), "this command's own is left out");
    assert_eq!((sessions[0]["local"].as_bool(), sessions[0]["ttl_ms"].as_u64()), (Some(true), Some(10_000)));
    let status = json(&node, &["status"]);
    assert_eq!((status["granted"].as_u64(), status["waiting"].as_u64()), (Some(1), Some(1)));
    let scn = json(&node, &["scn"]);
    assert_eq!(scn["scn"], status["token"]);
    assert_eq!(json(&node, &["nodes"])[0]["node"].as_u64(), Some(1));
    assert_eq!(json(&node, &["deadlocks"])["deadlocks"].as_array().map(Vec::len), Some(0));
    for args in [&["ls"][..], &["sessions"], &["status"], &["nodes"], &["scn"], &["deadlocks"], &["lockspace", "ls"]] {
        assert!(!text(&node, args).is_empty(), "{args:?}");
    }
}

#[test]
fn nothing_on_a_resource_is_1() {
    let node = Node::start();
    let shown = output(&mut node.command(&["show", "nothing", "-o", "json"]));
    assert_eq!(shown.status.code(), Some(1));
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("JSON all the same");
    assert_eq!(shown["granted"].as_array().map(Vec::len), Some(0));
}

#[test]
fn lockspaces_come_and_go() {
    let node = Node::start();
    let made =
        json(&node, &["lockspace", "create", "tables", "--modes", "granular", "--policy", "fair", "--overtakes", "3"]);
    assert_eq!((made["modes"].as_str(), made["overtakes"].as_u64()), (Some("granular"), Some(3)));
    let again = output(&mut node.command(&["lockspace", "create", "tables"]));
    assert_eq!(again.status.code(), Some(1));
    let names: Vec<Value> = json(&node, &["lockspace", "ls"]).as_array().cloned().unwrap_or_default();
    assert_eq!(names.iter().filter_map(|s| s["lockspace"].as_str()).collect::<Vec<_>>(), ["default", "tables"]);
    assert_eq!(
        output(&mut node.command(&["lockspace", "create", "tree", "--modes", "granular", "--hierarchy", "a/b"]))
            .status
            .code(),
        Some(0)
    );
    let listed = text(&node, &["lockspace", "ls"]);
    let columns: Vec<Vec<&str>> =
        listed.lines().map(|line| line.split("  ").filter(|cell| !cell.is_empty()).collect()).collect();
    assert!(columns.iter().all(|row| row.len() == columns[0].len()), "a heading for each: {listed}");
    assert!(listed.lines().any(|line| line.starts_with("tree") && line.trim_end().ends_with("a/b")), "{listed}");
    let shown = json(&node, &["lockspace", "show", "tables"]);
    assert_eq!((shown["relation"]["IX"]["IS"].as_str(), shown["relation"]["X"]["IS"].as_str()), (Some("+"), Some("-")));

    let _holder = spawn(&node, &["lock", "-L", "tables", "-m", "IX", "db", "--", "sleep", "1000"]);
    let held = || json(&node, &["ls", "-L", "tables"]).as_array().map(Vec::len) == Some(1);
    until("it is held", LONG, || held().then_some(()));
    assert_eq!(output(&mut node.command(&["lockspace", "drop", "tables"])).status.code(), Some(1), "it holds locks");
    assert_eq!(json(&node, &["lockspace", "drop", "tables", "--force"])["dropped"].as_bool(), Some(true));
    assert_eq!(output(&mut node.command(&["ls", "-L", "tables"])).status.code(), Some(64));

    for (args, hint) in [
        (&["create", "x", "--modes", "nope"][..], "vms granular sqlserver innodb postgres rw"),
        (&["create", "a b"], "no spaces"),
        (&["create", "x", "--value-bytes", "70000"], "65536"),
        (&["drop", "default"], "cannot be dropped"),
    ] {
        let refused = output(&mut node.command(&[&["lockspace"], args].concat()));
        assert_eq!(refused.status.code(), Some(64), "{args:?}");
        assert!(String::from_utf8_lossy(&refused.stderr).contains(hint), "{args:?}: {refused:?}");
    }
}

#[test]
fn changes_are_told_as_they_happen() {
    let node = Node::start();
    let mut command = node.command(&["watch", "--count", "2", "a", "-o", "json"]);
    let mut watch = Process::spawn(command.stdout(Stdio::piped()));
    let lines = watch.lines();
    let reader = std::thread::spawn(move || lines.collect::<Vec<String>>());
    // When the watch is in place nobody can see: change something until it has seen enough and ends.
    until("it ends by itself", LONG, || {
        assert_eq!(node.command(&["lock", "a", "--", "true"]).status().expect("runs").code(), Some(0));
        watch.ended()
    });
    let lines = reader.join().expect("read");
    let events: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(events.len(), 2, "{lines:?}");
    assert!(events.iter().all(|event| event["name"] == "a" && event["lockspace"] == "default"), "{lines:?}");
    assert!(events.iter().any(|event| event["event"] == "granted"), "{lines:?}");
    assert!(events.iter().any(|event| event["event"] == "released"), "{lines:?}");
}

#[test]
fn a_reader_that_goes_away_is_no_mistake() {
    let node = Node::start();
    let script = "\"$LOCKSTEAD\" completions bash | head -1 >/dev/null; \"$LOCKSTEAD\" status | :";
    let seen = output(node.script(script).stdout(Stdio::piped()));
    assert_eq!(String::from_utf8_lossy(&seen.stderr), "");
}

#[test]
fn completions_know_the_commands() {
    let node = Node::start();
    for shell in ["bash", "zsh", "fish"] {
        let script = text(&node, &["completions", shell]);
        assert!(script.contains("lockspace") && script.contains("bench"), "{shell}");
        assert!(!script.contains("__child"), "{shell}: hidden");
    }
}

#[test]
fn a_short_bench_finds_no_violation() {
    let node = Node::start();
    for workload in ["W1", "W2", "W3", "W4"] {
        let args = ["bench", "--workload", workload, "--seconds", "0.3", "--warmup", "0.1"];
        let line = json(&node, &args);
        assert_eq!((line["peer"].as_str(), line["workload"].as_str()), (Some("lockstead"), Some(workload)));
        assert!(line["ops_per_s"].as_f64() > Some(0.0), "{line}");
        assert_eq!(line["failed_clients"].as_u64(), Some(0), "{line}");
        if matches!(workload, "W3" | "W4") {
            assert_eq!(line["violations"].as_u64(), Some(0), "{line}");
        }
    }
    let embedded = json(&node, &["bench", "--workload", "W2", "--embedded", "--clients", "2", "--seconds", "0.3"]);
    assert_eq!((embedded["embedded"].as_bool(), embedded["failed_clients"].as_u64()), (Some(true), Some(0)));
}
