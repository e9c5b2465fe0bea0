//! What the looking commands say in a cluster: who masters what, where sessions are, and the present epoch, whichever node is
//! asked; and that it is of before where no majority stands behind it. The SCN, which never goes back; and a deadlock over two nodes.

mod common;

use std::process::Stdio;

use common::{LONG, Process, cluster::Cluster, lockstead, until};
use serde_json::Value;

const LOCKSTEAD: &str = env!("CARGO_BIN_EXE_lockstead");

fn look(cluster: &Cluster, node: usize, args: &[&str]) -> Value {
    let mut command = lockstead();
    cluster.at(command.args(args).args(["-o", "json"]), &[node]);
    let output = command.output().expect("runs");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Holds a lock through a node until it is dropped.
fn hold(cluster: &Cluster, node: usize, name: &str) -> Process {
    let mut command = lockstead();
    cluster.at(command.args(["lock", name, "--", "sh", "-c", "echo held; exec sleep 1000"]), &[node]);
    command.stdout(Stdio::piped());
    let mut holder = Process::spawn(&mut command);
    assert_eq!(holder.lines().next().as_deref(), Some("held"));
    holder
}

#[test]
fn every_node_tells_the_master_and_the_home() {
    let cluster = Cluster::start();
    let _holder = hold(&cluster, 1, "orders");
    let seen: Vec<Value> = (0..3).map(|node| look(&cluster, node, &["show", "orders"])).collect();
    let master = seen[0]["master"].as_u64().expect("a master");
    let slot = seen[0]["slot"].as_u64().expect("a slot");
    assert!((1..=3).contains(&master) && slot < 4_096, "{}", seen[0]);
    for one in &seen {
        assert_eq!((&one["master"], &one["slot"]), (&seen[0]["master"], &seen[0]["slot"]));
        assert_eq!(one["granted"][0]["home"], 2, "{one}");
    }
    let session = &seen[0]["granted"][0]["session"];
    let sessions = look(&cluster, 0, &["sessions"]);
    let row = sessions.as_array().expect("rows").iter().find(|row| row["session"] == *session).expect("the holder's");
    assert_eq!(row["home"], 2, "{row}");

    let mut show = lockstead();
    cluster.at(show.args(["show", "orders"]), &[2]);
    let text = String::from_utf8(show.output().expect("runs").stdout).expect("text");
    assert!(text.contains(&format!("master={master} slot={slot}\n")) && text.contains("home=2"), "{text}");
}

#[test]
fn status_says_the_present_epoch_and_who_leads() {
    let cluster = Cluster::start();
    cluster.until_whole();
    let before: Vec<Value> = (0..3).map(|node| look(&cluster, node, &["status"])).collect();
    for status in &before {
        assert_eq!(status["epoch"], before[0]["epoch"], "the same everywhere, whenever each started");
        let member = &status["member"];
        assert_eq!((&member["up"], &member["members"], &member["recovering"]), (&3.into(), &3.into(), &0.into()));
        assert!(member["authority_ms"].as_u64().is_some_and(|left| left > 0 && left <= 3_000), "{member}");
        assert_eq!(member["leader"], before[0]["member"]["leader"]);
    }
    let slots: u64 = before.iter().filter_map(|status| status["member"]["slots"].as_u64()).sum();
    assert_eq!(slots, 4_096);

    cluster.kill(2);
    let after = until("the others go on", LONG, || {
        let status = look(&cluster, 0, &["status"]);
        (status["member"]["up"] == 2 && status["member"]["recovering"] == 0).then_some(status)
    });
    assert!(after["epoch"].as_u64() > before[0]["epoch"].as_u64(), "{after}");
    let mut status = lockstead();
    cluster.at(status.arg("status"), &[0]);
    let text = String::from_utf8(status.output().expect("runs").stdout).expect("text");
    assert!(text.contains("members      2 of 3 up") && text.contains("recovering   none"), "{text}");
    let nodes = look(&cluster, 1, &["nodes"]);
    let states: Vec<_> = nodes.as_array().expect("rows").iter().map(|row| row["state"].as_str()).collect();
    assert_eq!(states, [Some("up"), Some("up"), Some("down")]);
}

#[test]
fn a_node_without_a_majority_tells_who_the_members_were() {
    let cluster = Cluster::start();
    cluster.until_whole();
    let run = |args: &[&str], endpoints: &[usize]| {
        let mut command = lockstead();
        cluster.at(command.args(args), endpoints);
        let output = command.output().expect("runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let before = look(&cluster, 0, &["cluster", "status"]);
    assert!(before.as_array().expect("rows").iter().all(|row| row["current"] == true), "{before}");
    cluster.kill(1);
    cluster.kill(2);
    let alone = || run(&["cluster", "status"], &[0]);
    let (_, text, why) = until("its authority runs out", LONG, || Some(alone()).filter(|(code, ..)| *code == Some(69)));
    assert!(text.starts_with("as last agreed on, no majority now: "), "{text} {why}");
    let peers = || (0..3).map(|node| cluster.peer(node).to_string());
    assert!(peers().all(|peer| text.contains(&peer)), "{text}");
    assert!(why.contains("bring back those that are down"), "{why}");

    // Whoever names the dead ones too hears the same of the one that is there.
    for (args, endpoints) in [(&["nodes"][..], &[1, 0, 2][..]), (&["status"], &[0]), (&["nodes", "-o", "json"], &[0])] {
        let (code, text, why) = run(args, endpoints);
        assert_eq!(code, Some(69), "{args:?}: {text} {why}");
        assert!(peers().all(|peer| text.contains(&peer)), "{args:?}: {text}");
        assert_eq!(text.contains("\"current\":false"), args.len() > 1, "{args:?}: {text}");
    }
}

fn order(cluster: &Cluster, args: &[&str]) -> (Option<i32>, String) {
    let mut command = lockstead();
    cluster.at(command.arg("cluster").args(args).args(["--reason", "test"]), &[2]);
    let output = command.output().expect("runs");
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn a_slot_is_where_it_is_pinned_and_weights_count() {
    let cluster = Cluster::start();
    cluster.until_whole();
    let _holder = hold(&cluster, 0, "orders");
    let place = |node| {
        let seen = look(&cluster, node, &["show", "orders"]);
        assert_eq!(seen["granted"].as_array().map(Vec::len), Some(1), "still held: {seen}");
        (seen["master"].as_u64().expect("a master"), seen["slot"].as_u64().expect("a slot"))
    };
    let (master, slot) = place(0);
    let other = master % 3 + 1;
    let (code, text) = order(&cluster, &["pin", &other.to_string(), "orders"]);
    assert_eq!(code, Some(0), "{text}");
    until("it goes there", LONG, || (place(1).0 == other).then_some(()));
    let pinned = |row: &Value| row["pinned"].as_array().is_some_and(|slots| slots[..] == [Value::from(slot)]);
    let members = look(&cluster, 1, &["cluster", "status"]);
    let rows = members.as_array().expect("rows");
    assert!(rows.iter().any(|row| row["node"] == other && pinned(row)), "{members}");
    let mut status = lockstead();
    cluster.at(status.args(["cluster", "status"]), &[1]);
    let text = String::from_utf8(status.output().expect("runs").stdout).expect("text");
    assert!(text.contains(&format!("\npinned to node {other}: slot {slot}\n")), "{text}");
    let (code, text) = order(&cluster, &["unpin", "--slot", &slot.to_string()]);
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = order(&cluster, &["unpin", "orders"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("not pinned"), "{text}");
    assert_eq!(order(&cluster, &["pin", "9", "orders"]).0, Some(1));
    let (code, text) = order(&cluster, &["weight", "1", "0"]);
    assert!(code == Some(64) && text.contains("witness"), "{text}");

    let (code, text) = order(&cluster, &["weight", "1", "200"]);
    assert_eq!(code, Some(0), "{text}");
    until("it has half of all", LONG, || {
        let rows = look(&cluster, 2, &["nodes"]);
        rows[0]["slots"].as_u64().filter(|slots| (2_047..=2_049).contains(slots)).map(drop)
    });
}

#[test]
fn the_scn_rises_over_all_nodes() {
    let cluster = Cluster::start();
    let scn = |node| -> u64 {
        look(&cluster, node, &["scn"])["scn"].as_str().and_then(|scn| scn.parse().ok()).expect("a number")
    };
    let token = |node: usize, name: &str| -> u64 {
        let mut command = lockstead();
        cluster.at(command.args(["lock", name, "--", "sh", "-c", "echo $LOCKSTEAD_TOKEN"]), &[node]);
        let output = command.output().expect("runs");
        String::from_utf8(output.stdout).expect("text").trim().parse().expect("a token")
    };
    let mut newest = 0;
    for round in 0..3 {
        for node in 0..3 {
            let token = token(node, &format!("name-{round}-{node}"));
            // Asked where the lock was not.
            let scn = scn((node + 1) % 3);
            assert!(scn >= token && scn >= newest, "{scn} after token {token} and {newest}");
            newest = scn;
        }
    }
}

#[test]
fn of_two_nested_pairs_at_two_nodes_one_inner_exits_75() {
    let cluster = Cluster::start();
    cluster.until_whole();
    for (node, name) in [(1, "left"), (2, "right")] {
        assert_eq!(order(&cluster, &["pin", &node.to_string(), name]).0, Some(0));
        until("it is there", LONG, || {
            let mut show = lockstead();
            cluster.at(
                show.args(["lock", name, "--", "sh", "-c", "\"$0\" show \"$LOCKSTEAD_NAME\" -o json", LOCKSTEAD]),
                &[2],
            );
            let seen: Value = serde_json::from_slice(&show.output().ok()?.stdout).ok()?;
            (seen["master"] == node).then_some(())
        });
    }
    // Each holds one at its own node, by its socket, and goes for the other when both do.
    let pair = |node: usize, outer: &str, inner: &str| {
        let script = format!("echo in; until [ -e go ]; do sleep 0.01; done; exec \"$0\" lock {inner} -- echo both");
        let mut command = lockstead();
        cluster.at(command.args(["lock", outer, "--", "sh", "-c", &script, LOCKSTEAD]), &[node]);
        command.env("LOCKSTEAD_ENDPOINTS", &cluster.nodes[node].client).stdout(Stdio::piped());
        let mut process = Process::spawn(&mut command);
        let mut lines = process.lines();
        assert_eq!(lines.next().as_deref(), Some("in"));
        (process, lines)
    };
    let pairs = [pair(0, "left", "right"), pair(1, "right", "left")];
    std::fs::write(cluster.file("go"), "").expect("a file");
    let mut ends: Vec<(Option<i32>, Vec<String>)> =
        pairs.into_iter().map(|(mut process, lines)| (process.wait().code(), lines.collect())).collect();
    ends.sort();
    assert_eq!(ends, [(Some(0), vec!["both".to_owned()]), (Some(75), vec![])]);
    let seen = look(&cluster, 2, &["deadlocks"]);
    let found = seen["deadlocks"].as_array().expect("a list");
    assert_eq!((found.len(), &found[0]["order"]), (1, &serde_json::json!(["left", "right"])), "{seen}");
}
