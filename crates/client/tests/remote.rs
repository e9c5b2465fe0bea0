//! Sessions over real sockets, against a server in this process.

mod common;

use core::{future::IntoFuture, time::Duration};
use std::time::Instant;

use common::{Cut, TestServer};
use lockstead::{Claim, Client, Error, Lease, Lost, Refusal, SpaceId, types::message::Rejection};

const TTL: Duration = Duration::from_millis(1_500);
const SOON: Duration = Duration::from_secs(20);

async fn client(endpoint: &str) -> Client {
    Client::builder().endpoints(endpoint).ttl(TTL).connect().await.expect("a session")
}

/// What must come to pass within any patience a test has.
async fn soon<F: IntoFuture>(what: F) -> F::Output {
    tokio::time::timeout(SOON, what.into_future()).await.expect("in time")
}

#[tokio::test]
async fn locks_over_both_kinds_of_socket() {
    let server = TestServer::start();
    for endpoint in [server.tcp(), server.unix()] {
        let (a, b) = (client(&endpoint).await, client(&endpoint).await);
        let mut held = a.lock("x").value(true).await.expect("free");
        assert!(b.lock("x").shared().try_now().await.expect("asked").is_none());
        let refused = b.lock("x").wait(Duration::from_millis(30)).await.expect_err("held");
        assert_eq!(refused.refusal(), Some(Refusal::Timeout));
        let wanted = soon(held.blocking().next()).await.expect("two asked");
        assert!(matches!(wanted, Claim::Mode(_)));
        held.set_value(b"seen").await.expect("EX writes");
        held.convert("PR").await.expect("down");
        let beside = b.lock("x").shared().value(true).await.expect("compatible");
        assert!(beside.value().expect("asked for").bytes.starts_with(b"seen"));
        assert!(matches!(held.state(), Lease::Held | Lease::Unsure));
        assert!(held.deadline().expect("remote sessions have one") <= TTL);
        held.release().await.expect("released");
        drop(beside);
        soon(a.lock("x")).await.expect("a one-way release arrives").release().await.expect("released");
        assert_eq!(b.unix_socket().is_some(), endpoint.starts_with("unix:"));
        a.close().await.expect("closed");
        b.close().await.expect("closed");
    }
    server.stop();
}

#[tokio::test]
async fn many_tasks_share_a_session() {
    let server = TestServer::start();
    let client = client(&server.tcp()).await;
    let mut tasks = Vec::new();
    for task in 0..32 {
        let client = client.clone();
        tasks.push(tokio::spawn(async move {
            for round in 0..50 {
                let name = format!("n{}", (task + round) % 8);
                client.lock(&name).await.expect("granted").release().await.expect("released");
            }
        }));
    }
    for task in tasks {
        soon(task).await.expect("no panic");
    }
    assert!(client.resources(SpaceId(0), b"").await.expect("a look").is_empty());
    server.stop();
}

#[tokio::test]
async fn a_killed_remote_session_keeps_its_locks_for_its_lease() {
    let server = TestServer::start();
    let (a, b) = (client(&server.tcp()).await, client(&server.tcp()).await);
    let held = a.lock("k").await.expect("free");
    let killed = Instant::now();
    a.raw().kill();
    assert_eq!(held.check(), Err(Lost::Closed));
    assert!(b.lock("k").try_now().await.expect("asked").is_none());
    soon(b.lock("k")).await.expect("granted in the end");
    // Its last renewal may have been a third of the lease before the kill.
    assert!(killed.elapsed() >= TTL / 2, "only after {:?}", killed.elapsed());
    server.stop();
}

#[tokio::test]
async fn a_killed_local_session_is_gone_at_once() {
    let server = TestServer::start();
    let long = Client::builder().endpoints(server.unix()).ttl(Duration::from_secs(600)).connect();
    let a = long.await.expect("a session");
    let b = client(&server.unix()).await;
    let held = a.lock("k").await.expect("free");
    a.raw().kill();
    soon(b.lock("k")).await.expect("long before the lease ends");
    assert!(held.check().is_err());
    server.stop();
}

#[tokio::test]
async fn a_dropped_request_leaves_nothing_behind() {
    let server = TestServer::start();
    let (a, b) = (client(&server.unix()).await, client(&server.unix()).await);
    let held = a.lock("d").await.expect("free");
    assert!(tokio::time::timeout(Duration::from_millis(50), b.lock("d").forever()).await.is_err());
    b.sync().await.expect("the cancellation has had its effect");
    let detail = a.show(SpaceId(0), "d").await.expect("a look").expect("held");
    assert!(detail.waiting.is_empty());
    held.release().await.expect("released");
    assert!(a.show(SpaceId(0), "d").await.expect("a look").is_none());
    server.stop();
}

#[tokio::test]
async fn a_broken_connection_is_taken_up_again() {
    let server = TestServer::start();
    let cut = Cut::before(server.tcp_address()).await;
    let (a, b) = (client(&cut.endpoint()).await, client(&server.tcp()).await);
    let held = a.lock("r").await.expect("free");
    let token = held.token();
    for round in 0..5 {
        cut.now();
        // Asked without a connection, answered over the next one, once.
        let other = soon(a.lock(format!("other{round}"))).await.expect("asked again");
        soon(other.release()).await.expect("released");
        assert_eq!(held.check(), Ok(()));
        assert!(b.lock("r").try_now().await.expect("asked").is_none());
    }
    assert_eq!(held.token(), token);
    soon(held.release()).await.expect("released");
    assert!(b.lock("r").try_now().await.expect("asked").is_some());
    server.stop();
}

#[tokio::test]
async fn without_a_node_the_lock_is_lost_before_the_lease_ends() {
    let server = TestServer::start();
    let cut = Cut::before(server.tcp_address()).await;
    let a = client(&cut.endpoint()).await;
    let held = a.lock("l").await.expect("free");
    let mut news = a.raw().notices();
    cut.for_good();
    let began = Instant::now();
    assert_eq!(soon(held.lost()).await, Lost::Deadline);
    assert!(began.elapsed() <= TTL, "took {:?}", began.elapsed());
    assert_eq!((held.state(), held.deadline()), (Lease::Lost, Some(Duration::ZERO)));
    assert!(matches!(a.lock("m").await, Err(Error::Lost(Lost::Deadline))));
    assert!(matches!(held.release().await, Err(Error::Lost(_))));
    let mut leases = Vec::new();
    while let Some(news) = news.next().await {
        if let lockstead::raw::News::Lease(lease) = news {
            leases.push(lease);
        }
    }
    assert_eq!(leases, [Lease::Unsure, Lease::Lost]);
    // The node waits for its own clock: another client gets the lock, after the first has lost it.
    soon(client(&server.tcp()).await.lock("l")).await.expect("granted in the end");
    server.stop();
}

#[tokio::test]
async fn locks_survive_a_restart_of_the_node() {
    let mut server = TestServer::start();
    let (a, b) = (client(&server.tcp()).await, client(&server.unix()).await);
    let group = a.group("g").await.expect("made");
    let remote = a.lock("remote").await.expect("free");
    let shared = group.lock("shared").await.expect("free");
    let local = b.lock("local").shared().await.expect("free");
    let (token, epoch) = (remote.token(), a.status().await.expect("a look").epoch);
    let waits = tokio::spawn({
        let b = b.clone();
        async move { b.lock("remote").await }
    });
    while a.waits().await.expect("a look").edges.is_empty() {
        tokio::task::yield_now().await;
    }
    server.restart();
    let c = client(&server.tcp()).await;
    assert!(c.lock("remote").wait(Duration::from_millis(300)).await.is_err(), "nobody else gets it");
    assert_eq!((remote.check(), shared.check(), local.check()), (Ok(()), Ok(()), Ok(())));
    assert_eq!(remote.token(), token);
    assert_eq!(soon(a.status()).await.expect("a look").epoch, epoch + 1);
    soon(remote.release()).await.expect("under the id the node knows now");
    let next = soon(waits).await.expect("no panic").expect("it waited through the restart");
    assert!(next.token() > token);
    soon(shared.release()).await.expect("released");
    soon(local.release()).await.expect("released");
    assert!(soon(c.lock("shared").try_now()).await.expect("asked").is_some());
    server.stop();
}

async fn is_free(client: &Client, name: &str) -> bool {
    client.lock(name).try_now().await.expect("asked").is_some()
}

#[tokio::test]
async fn a_transaction_survives_a_restart_of_the_node() {
    let mut server = TestServer::start();
    let (a, b) = (client(&server.tcp()).await, client(&server.tcp()).await);
    let t = a.begin().await.expect("none is open");
    let x = t.lock("x").await.expect("free");
    let point = t.savepoint().await.expect("it goes on");
    t.lock("y").await.expect("free");
    server.restart();
    t.lock("z").await.expect("free");
    assert_eq!(x.check(), Ok(()));
    t.rollback_to(point).await.expect("one of its own");
    assert!(is_free(&b, "y").await && is_free(&b, "z").await && !is_free(&b, "x").await);
    t.commit().await.expect("it ends");
    assert!(is_free(&b, "x").await);
    server.stop();
}

#[tokio::test]
async fn a_node_without_memory_ends_the_session() {
    let mut server = TestServer::ephemeral();
    let a = client(&server.tcp()).await;
    let held = a.lock("x").await.expect("free");
    server.restart();
    assert_eq!(soon(held.lost()).await, Lost::Ended);
    server.stop();
}

#[tokio::test]
async fn nobody_there() {
    let server = TestServer::start();
    let endpoint = server.tcp();
    server.stop();
    let builder = Client::builder().endpoints(endpoint).connect_timeout(Duration::from_millis(200));
    assert!(matches!(builder.connect().await, Err(Error::Connect { .. })));
    // A list is tried in turn.
    let server = TestServer::start();
    let list = format!("tcp://127.0.0.1:9,{}", server.tcp());
    let client = Client::connect(&list).await.expect("the second answers");
    client.close().await.expect("closed");
    assert_eq!(Rejection::Stopping.text(), "the node is stopping");
    server.stop();
}

#[tokio::test]
async fn a_lease_that_is_over_before_it_begins_is_a_mistake() {
    let refused = Client::builder().endpoints("tcp://127.0.0.1:1").ttl(Duration::ZERO).connect().await;
    assert!(matches!(refused, Err(Error::Config(_))));
}
