//! Members come and go as operators say: a fourth node is let in by the command it names itself, gets slots, gives them up, stops
//! and is forgotten. Where most are lost for good, the quorum is forced.

mod common;

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::Stdio,
};

use common::{LONG, Node, Process, cluster::Cluster, lockstead, until};
use rustix::process::Signal;
use serde_json::Value;

fn members(cluster: &Cluster, node: usize) -> Vec<Value> {
    let mut command = lockstead();
    cluster.at(command.args(["cluster", "status", "-o", "json"]), &[node]);
    let output = command.output().expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let all: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    all.as_array().expect("an array").clone()
}

/// The state of a member, and how many slots it has.
fn member(all: &[Value], node: u64) -> Option<(&str, u64)> {
    let found = all.iter().find(|member| member["node"] == node)?;
    Some((found["state"].as_str()?, found["slots"].as_u64()?))
}

fn until_member(cluster: &Cluster, what: &str, is: impl Fn(&str, u64) -> bool) {
    until(what, LONG, || {
        let all = members(cluster, 0);
        member(&all, 4).filter(|(state, slots)| is(state, *slots)).map(drop)
    });
}

fn run(cluster: &Cluster, args: &[&str]) -> (Option<i32>, String) {
    let mut command = lockstead();
    cluster.at(command.args(args), &[1]);
    let output = command.output().expect("runs");
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// A fourth node without seats, what it says for operators, and the command in that.
fn start_fourth(cluster: &Cluster) -> (Process, String, String) {
    let listeners: Vec<_> = (0..2).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
    let free: Vec<_> = listeners.iter().map(|listener| listener.local_addr().expect("bound").to_string()).collect();
    drop(listeners);
    let mut command = lockstead();
    command.args(["server", "--node", "4", "--log", "warn", "--client-tcp", &free[0], "--peer-listen", &free[1]]);
    command.arg("--data").arg(cluster.file("data-4")).env("LOCKSTEAD_RUN_DIR", cluster.file("run"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut fourth = Process::spawn(&mut command);
    let mut said = BufReader::new(fourth.errors()).lines().map_while(Result::ok);
    let line = said.find(|line| line.contains("run at any member: ")).expect("it says how to let it in");
    std::thread::spawn(move || said.for_each(drop));
    let command = line.split_once("run at any member: lockstead ").expect("a command").1.to_owned();
    (fourth, line, command)
}

#[test]
fn a_fourth_node_comes_and_goes() {
    let cluster = Cluster::start();
    let all = members(&cluster, 2);
    assert_eq!(all.len(), 3);
    assert_eq!((1..=3).filter_map(|node| member(&all, node)).map(|(_, slots)| slots).sum::<u64>(), 4_096);

    let (mut fourth, _, join) = start_fourth(&cluster);
    let identity =
        join.split_whitespace().skip_while(|word| *word != "--identity").nth(1).expect("it says so").to_owned();
    let wrong = join.replace(&identity, "abad1dea");
    let (code, text) = run(&cluster, &wrong.split_whitespace().collect::<Vec<_>>());
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("not let in: ") && text.contains(&format!("node 4 with --identity {identity}")), "{text}");
    let (code, text) = run(&cluster, &join.split_whitespace().collect::<Vec<_>>());
    assert_eq!(code, Some(0), "{text}");
    let mut lines = fourth.lines();
    assert!(lines.any(|line| line == "ready"), "it starts");
    std::thread::spawn(move || lines.for_each(drop));
    until_member(&cluster, "the fourth has its share", |state, slots| state == "up" && slots > 900);

    let (code, text) = run(&cluster, &["cluster", "remove", "4", "--reason", "too soon"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("stop it first"), "{text}");
    let (code, text) = run(&cluster, &["cluster", "leave", "4", "--reason", "test"]);
    assert_eq!(code, Some(0), "{text}");
    until_member(&cluster, "the fourth has no slots", |_, slots| slots == 0);
    fourth.signal(Signal::TERM);
    assert!(fourth.wait_for("the fourth stops", LONG).success());
    until_member(&cluster, "the fourth is down", |state, _| state == "down");
    let (code, text) = run(&cluster, &["cluster", "remove", "4", "--reason", "test"]);
    assert_eq!(code, Some(0), "{text}");
    until("the others know", LONG, || (members(&cluster, 0).len() == 3).then_some(()));

    // With its old data it hears from the others that it is out, and how it comes in again.
    let (mut again, said, join) = start_fourth(&cluster);
    assert!(said.contains("says that node 4 was removed"), "{said}");
    let (code, text) = run(&cluster, &join.split_whitespace().collect::<Vec<_>>());
    assert_eq!(code, Some(0), "{text}");
    assert!(again.lines().any(|line| line == "ready"), "it starts with what it had");

    let (code, text) = run(&cluster, &["cluster", "leave", "9", "--reason", "test"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("no member"), "{text}");
}

/// Whoever asks a member who it is hears that it has a cluster, so that no second one is founded with it.
#[test]
fn a_member_says_that_it_has_a_cluster() {
    let cluster = Cluster::start();
    for node in 0..3 {
        let mut stream = TcpStream::connect(cluster.peer(node)).expect("the peer port");
        stream.write_all(b"\xBDwho\0\0\0\x01").expect("asked");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("one line of text");
        assert!(answer.starts_with(&format!("lockstead node {} identity ", node + 1)), "{answer}");
        assert!(answer.contains(" formed yes "), "{answer}");
    }
}

#[test]
fn a_node_alone_is_no_cluster() {
    let node = Node::start();
    let code = |args: &[&str]| node.command(args).output().expect("runs").status.code();
    assert_eq!(code(&["cluster", "status"]), Some(1));
    assert_eq!(code(&["cluster", "leave", "1", "--reason", "test"]), Some(1));
    assert_eq!(code(&["lockspace", "create", "deep", "--levels", "17"]), Some(64));
    assert_eq!(code(&["lockspace", "create", "deep", "--levels", "16"]), Some(0));
    let data = node.file("data").display().to_string();
    assert_eq!(code(&["cluster", "force-quorum", "--node", "1", "--data", &data]), Some(70), "its data is no member's");
}

#[test]
fn init_prints_how_to_start() {
    let mut init = lockstead();
    init.args(["cluster", "init", "127.0.0.1:7600", "127.0.0.1:7610", "127.0.0.1:7620"]);
    let text = String::from_utf8(init.output().expect("runs").stdout).expect("text");
    assert!(text.contains("--seats 1=127.0.0.1:7601,2=127.0.0.1:7611,3=127.0.0.1:7621"), "{text}");
    assert!(text.contains("LOCKSTEAD_ENDPOINTS=127.0.0.1:7600,127.0.0.1:7610,127.0.0.1:7620"), "{text}");

    let mut named = lockstead();
    named.args(["cluster", "init", "db1.example:7600", "db2.example:7600", "db3.example:7600"]);
    let text = String::from_utf8(named.output().expect("runs").stdout).expect("text");
    assert!(text.contains("--seats 1=db1.example:7601,2=db2.example:7601,3=db3.example:7601"), "{text}");
    let own = "--client-tcp 0.0.0.0:7600 --client-address db2.example:7600 --peer-listen 0.0.0.0:7601 --peer-address db2.example:7601";
    assert!(text.contains(own), "{text}");
    for nowhere in ["db1", "db1:0", "db1:65535", ":7600", "db 1:7600"] {
        let mut init = lockstead();
        assert_eq!(
            init.args(["cluster", "init", nowhere]).output().expect("runs").status.code(),
            Some(64),
            "{nowhere}"
        );
    }
}

/// Two of three nodes are gone for good: the third serves alone after the quorum was forced, and tokens go on rising.
#[test]
fn a_forced_quorum_serves_again() {
    let mut cluster = Cluster::start();
    let token = |cluster: &Cluster| -> Option<u64> {
        let mut command = lockstead();
        cluster.at(command.args(["lock", "-w", "2", "x", "--", "sh", "-c", "echo $LOCKSTEAD_TOKEN"]), &[2]);
        String::from_utf8(command.output().expect("runs").stdout).expect("text").trim().parse().ok()
    };
    let before = token(&cluster).expect("all are well");
    (0..3).for_each(|node| cluster.kill(node));
    let data = cluster.file("data").join("node-3");
    let force = |args: &[&str]| {
        let mut command = lockstead();
        command.args(["cluster", "force-quorum", "--node", "3", "--data"]).arg(&data).args(args);
        command.output().expect("runs")
    };
    until("the killed node has let go of its data", LONG, || (force(&[]).status.code() == Some(64)).then_some(()));
    let forced = force(&["--lost-nodes-are-fenced", "--reason", "test"]);
    assert!(forced.status.success(), "{}", String::from_utf8_lossy(&forced.stderr));
    cluster.start_again(2);
    let after = until("it serves alone", LONG, || token(&cluster));
    assert!(after > before + (60_000 << 40), "{after} after {before}");
}
