//! Programs whose session goes from node to node: the wrapper's command runs on, and the shell moves sessions. The nodes are made
//! by the test, so that each dies at the moment the test means.

mod common;
#[allow(dead_code, reason = "the client's own tests use all of it")]
#[path = "../../client/tests/common/fake.rs"]
mod fake;

use std::{
    io::Write as _,
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
};

use common::{LONG, Process, lockstead, until};
use fake::{Cluster, Manner};
use lockstead::types::message::Rejection;

/// `lockstead lock` of a command that runs until the file `go` is there, against all nodes of the cluster.
fn holder(folder: &Path, cluster: &Cluster, ttl: &str) -> Command {
    let script = "echo in > began; while [ ! -e go ]; do sleep 0.02; done; echo out > ended";
    let mut command = lockstead();
    command.args(["lock", "--ttl", ttl, "--endpoints", &cluster.endpoints(), "held", "--", "sh", "-c", script]);
    command.current_dir(folder).stdin(Stdio::null());
    command
}

fn wait_for_file(folder: &Path, name: &str) {
    until(name, LONG, || folder.join(name).exists().then_some(()));
}

/// The node at which the session was opened.
fn home(cluster: &Cluster) -> u16 {
    if cluster.heard().contains(&"1 open".to_owned()) { 1 } else { 2 }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_runs_on_while_its_session_goes_to_another_node() {
    let cluster = Cluster::of(&[Manner::Serves, Manner::Serves]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut process = Process::spawn(&mut holder(folder.path(), &cluster, "10"));
    wait_for_file(folder.path(), "began");
    let first = home(&cluster);
    let second = 3 - first;
    cluster.kill(first).await;
    cluster.until(&format!("{second} claim held")).await;
    assert_eq!(process.ended(), None);
    std::fs::write(folder.path().join("go"), "").expect("a file");
    let status = process.wait_for("its end", LONG);
    assert!(status.success(), "{status}");
    assert!(folder.path().join("ended").exists());
    let released = format!("{second} release {second}");
    assert!(cluster.heard().iter().any(|line| line.starts_with(&released)), "{:?}", cluster.heard());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_node_that_may_decide_the_command_is_stopped_in_time() {
    let cluster = Cluster::of(&[Manner::Serves, Manner::Serves]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut process = Process::spawn(holder(folder.path(), &cluster, "2").stderr(Stdio::null()));
    wait_for_file(folder.path(), "began");
    for node in [1, 2] {
        cluster.set(node, Manner::Rejects(Rejection::NoAuthority));
        cluster.cut(node);
    }
    let status = process.wait_for("its end", LONG);
    assert_eq!(status.code(), Some(120), "{status}");
    assert!(!folder.path().join("ended").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_each_endpoint_came_to_is_said() {
    let cluster = Cluster::of(&[Manner::Rejects(Rejection::Stopping), Manner::Mute]).await;
    let mut command = lockstead();
    command.args(["lock", "-w", "2", "--endpoints", &cluster.endpoints(), "x", "--", "true"]);
    let output = command.output().expect("runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{said}");
    assert!(said.contains(&format!("{}: turned away: the node is stopping", cluster.endpoint(1))), "{said}");
    assert!(said.contains(&format!("{}: no answer in time", cluster.endpoint(2))), "{said}");
}

/// Plays a script in `lockstead shell` against the whole cluster.
fn shell(cluster: &Cluster, script: &str) -> String {
    let mut command = lockstead();
    command.args(["shell", "--endpoints", &cluster.endpoints()]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs");
    child.stdin.take().expect("piped").write_all(script.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shell_moves_a_session() {
    let cluster = Cluster::of(&[Manner::Serves, Manner::Serves, Manner::Mute]).await;
    let [one, two, mute] = [1, 2, 3].map(|node| cluster.endpoint(node));
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let script = format!(
        "a: on {one}\na: lock x EX\na: on {two}\na: lock y EX\na: on {mute}\na: on {nobody}\na: unlock x\na: kill\na: on {one}\n"
    );
    let printed = shell(&cluster, &script);
    let lines: Vec<&str> = printed.lines().map(|line| line.split(" token=").next().unwrap_or_default()).collect();
    let expected = [
        "a: x granted EX",
        "a: y granted EX",
        &format!("a: not moved to {mute}: no answer in time"),
        &format!("a: not moved to {nobody}: nobody listens there"),
        "a: x released",
        "a: session lost",
        "a: on refused lost",
    ];
    assert_eq!(lines, expected, "{printed}");
    let heard: Vec<String> = cluster.heard().into_iter().filter(|line| line.contains("lock ")).collect();
    assert_eq!(heard, ["1 lock x", "2 lock y"]);
    assert!(cluster.heard().contains(&"2 claim x".to_owned()), "{:?}", cluster.heard());
}

/// What a session was told before it was lost is printed: a grant that nobody reads of may have been used.
#[tokio::test(flavor = "multi_thread")]
async fn the_shell_prints_what_came_before_a_session_was_lost() {
    let cluster = Cluster::of(&[Manner::EndsAtSync, Manner::EndsAtSync]).await;
    let printed = shell(&cluster, "a: lock x EX\n");
    let lines: Vec<&str> = printed.lines().map(|line| line.split(" token=").next().unwrap_or_default()).collect();
    assert_eq!(lines, ["a: x granted EX", "a: session lost"], "{printed}");
}

/// Who does not want to wait for a lock does not wait for a node either that may not grant it.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_wait_each_node_is_asked_once() {
    let cluster = Cluster::of(&[Manner::Rejects(Rejection::NoAuthority); 2]).await;
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let mut command = lockstead();
    let endpoints = format!("{},{nobody}", cluster.endpoints());
    command.args(["lock", "-n", "--endpoints", &endpoints, "x", "--", "true"]);
    let output = command.output().expect("runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{said}");
    assert!(said.contains("cut off from the cluster") && said.contains(&nobody.to_string()), "{said}");
    let asked = cluster.heard().into_iter().filter(|line| line.ends_with("turned away")).count();
    assert_eq!(asked, 2, "{said}");
}
