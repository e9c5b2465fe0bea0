//! Looks at more than an answer holds: thousands wait, hundreds of deadlocks were found. Each command shows a part and says
//! how much it leaves out.

mod common;

use core::time::Duration;
use std::process::Command;

use common::{LONG, Node, until};
use lockstead::{Client, Error, Refusal};
use serde_json::Value;

/// As long as a program says of itself what it is and what for: a thousand edges between such fit no frame.
const WORD: usize = 256;
const CLIENTS: usize = 4;
const WAITERS: usize = 8_000;

fn text(mut command: Command) -> String {
    let seen = command.output().expect("runs");
    assert!(seen.status.success(), "{command:?}: {seen:?}");
    String::from_utf8(seen.stdout).expect("text")
}

fn json(node: &Node, args: &[&str]) -> Value {
    serde_json::from_str(&text(node.command(&[args, &["-o", "json"]].concat()))).expect("JSON")
}

fn rows(of: &Value) -> u64 {
    of.as_array().expect("an array").len() as u64
}

async fn client(node: &Node) -> Client {
    let word = || "w".repeat(WORD);
    let builder = Client::builder().endpoints(node.tcp()).purpose(word()).program(word()).ttl(LONG);
    builder.connect().await.expect("connects")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

#[test]
fn thousands_of_waiters_are_counted_where_they_are_not_shown() {
    let (node, runtime) = (Node::start(), runtime());
    let clients: Vec<Client> = (0..CLIENTS).map(|_| runtime.block_on(client(&node))).collect();
    let holder = runtime.block_on(async { clients[0].lock("orders").await }).expect("granted");
    for client in clients {
        runtime.spawn(async move {
            let waits = (0..WAITERS / CLIENTS).map(|_| client.lock("orders").wait(Duration::from_secs(1_000)));
            futures_of(waits.map(IntoFuture::into_future)).await;
        });
    }
    let waiting = || json(&node, &["status"])["waiting"].as_u64() == Some(WAITERS as u64);
    until("all wait", LONG, || waiting().then_some(()));

    let shown = json(&node, &["show", "orders"]);
    let (here, rest) = (rows(&shown["waiting"]), shown["left_out"]["waiting"].as_u64().expect("a number"));
    assert_eq!((rows(&shown["granted"]), here + rest), (1, WAITERS as u64), "the holder is never left out");
    assert_eq!(here, 999, "rows_per_answer and no more");
    assert_eq!(shown["left_out"]["granted"].as_u64(), Some(0));
    let last = format!("... {rest} more waiting not shown");
    assert_eq!(text(node.command(&["show", "orders"])).lines().last(), Some(last.as_str()));

    let locks = json(&node, &["ls", "--locks"]);
    let note = locks.as_array().and_then(|rows| rows.last()).expect("some");
    assert_eq!((note["name"].as_str(), note["queue"].as_str()), (Some("orders"), Some("waiting")));
    assert_eq!(note["left_out"].as_u64(), Some(rest));
    let last = format!("... {rest} more waiting at orders not shown");
    assert_eq!(text(node.command(&["ls", "--locks"])).lines().last(), Some(last.as_str()));

    let tree = json(&node, &["tree"]);
    assert_eq!((tree["waiting"].as_u64(), tree["more"].as_bool()), (Some(WAITERS as u64), Some(true)));
    assert!((1..1_000).contains(&rows(&tree["edges"])), "{} fit a frame", rows(&tree["edges"]));
    let picture = text(node.command(&["tree"]));
    let waiters = picture.lines().filter(|line| line.contains("wants EX")).count();
    let last = format!("... {} more waiters not shown", WAITERS - waiters);
    assert_eq!(picture.lines().last(), Some(last.as_str()), "{waiters} shown");

    let script = node.file("show.txt");
    std::fs::write(&script, "a: show orders\n").expect("written");
    let shell = text(node.command(&["shell", "show.txt"]));
    assert_eq!(shell.lines().last(), Some(format!("a:   ... {rest} more waiting not shown").as_str()));
    drop(holder);
}

/// All of them at once.
async fn futures_of<F: Future>(all: impl Iterator<Item = F>) {
    let mut all: Vec<_> = all.map(Box::pin).collect();
    core::future::poll_fn(|context| {
        all.retain_mut(|one| one.as_mut().poll(context).is_pending());
        if all.is_empty() { core::task::Poll::Ready(()) } else { core::task::Poll::Pending }
    })
    .await;
}

#[test]
fn hundreds_of_deadlocks_are_counted_where_they_are_not_shown() {
    const KEPT: u64 = 256;
    let (node, runtime) = (Node::start(), runtime());
    let (x, y) = ("x".repeat(1_024), "y".repeat(1_024));
    runtime.block_on(async {
        let (a, b) = (client(&node).await, client(&node).await);
        let _x = a.lock(&x).owned_by_session().await.expect("granted");
        let _y = b.lock(&y).owned_by_session().await.expect("granted");
        let waiting = a.lock(&y).owned_by_session().wait(Duration::from_secs(1_000)).into_future();
        let closing = async {
            while b.waits().await.expect("a look").waiting == 0 {}
            for _ in 0..KEPT {
                let refused = b.lock(&x).owned_by_session().await.expect_err("closes the cycle");
                assert!(matches!(refused, Error::Refused(Refusal::Deadlock)), "{refused}");
            }
        };
        tokio::select! {
            _ = waiting => panic!("nobody let go"),
            () = closing => {}
        }
    });
    let found = json(&node, &["deadlocks"]);
    let (here, rest) = (rows(&found["deadlocks"]), found["left_out"].as_u64().expect("a number"));
    assert_eq!(here + rest, KEPT);
    assert!((1..KEPT).contains(&here), "{here} fit a frame");
    assert_eq!(found["deadlocks"][0]["number"].as_u64(), Some(rest + 1), "the newest are shown");
    assert_eq!(found["deadlocks"][0]["left_out"].as_u64(), Some(0));
    let first = format!("... {rest} more before these not shown");
    assert_eq!(text(node.command(&["deadlocks"])).lines().next(), Some(first.as_str()));
}
