//! Several endpoints: which is tried when, and a session that goes along from node to node with all it holds.

#[path = "common/fake.rs"]
mod fake;

use core::{future::IntoFuture, time::Duration};
use std::{collections::HashSet, time::Instant};

use fake::{Cluster, Manner};
use lockstead::{Client, Error, Lease, Lost, Refusal, Trouble, types::message::Rejection};
use tokio::net::TcpListener;

const TTL: Duration = Duration::from_secs(6);
const SOON: Duration = Duration::from_secs(30);

async fn soon<F: IntoFuture>(what: F) -> F::Output {
    tokio::time::timeout(SOON, what.into_future()).await.expect("in time")
}

/// A session that begins at the first node.
async fn client(cluster: &Cluster) -> Client {
    let builder = Client::builder().endpoints(cluster.endpoints()).prefer(cluster.endpoint(1)).ttl(TTL);
    soon(builder.connect()).await.expect("a session")
}

/// An endpoint at which nobody listens.
async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    listener.local_addr().expect("bound").to_string()
}

#[tokio::test]
async fn sessions_spread_and_stay() {
    let cluster = Cluster::of(&[Manner::Serves; 3]).await;
    let mut begun = HashSet::new();
    while begun.len() < 3 {
        cluster.forget_heard();
        let client = soon(Client::connect(&cluster.endpoints())).await.expect("a session");
        for name in ["a", "b"] {
            client.lock(name).await.expect("granted").release().await.expect("released");
        }
        client.close().await.expect("closed");
        let nodes: HashSet<String> = cluster.heard().iter().map(|line| line[..1].to_owned()).collect();
        assert_eq!(nodes.len(), 1, "{:?}", cluster.heard());
        begun.extend(nodes);
    }
}

#[tokio::test]
async fn the_dead_and_the_mute_are_passed_over() {
    let cluster = Cluster::of(&[Manner::Mute, Manner::Serves]).await;
    let list = format!("{},{}", nobody().await, cluster.endpoints());
    let began = Instant::now();
    let builder = Client::builder().endpoints(&list).prefer(cluster.endpoint(1)).connect();
    let client = soon(builder).await.expect("the last one answers");
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    client.lock("a").await.expect("granted").release().await.expect("released");
    client.close().await.expect("closed");
}

#[tokio::test]
async fn who_turns_away_is_passed_over() {
    for why in [Rejection::Stopping, Rejection::NoAuthority, Rejection::Full, Rejection::Idle] {
        let cluster = Cluster::of(&[Manner::Rejects(why), Manner::Serves]).await;
        let client = client(&cluster).await;
        assert_eq!(cluster.heard()[0], "1 turned away");
        client.close().await.expect("closed");
    }
}

#[tokio::test]
async fn an_error_says_what_each_came_to() {
    let cluster = Cluster::of(&[Manner::Rejects(Rejection::NoAuthority), Manner::Mute]).await;
    let dead = nobody().await;
    let list = format!("{dead},{}", cluster.endpoints());
    let builder = Client::builder().endpoints(&list).ttl(TTL).connect_timeout(Duration::from_secs(2));
    let Err(error) = soon(builder.connect()).await else { panic!("nobody serves") };
    let Error::Connect { tried } = &error else { panic!("{error}") };
    let why = |endpoint: &str| &tried.iter().find(|tried| tried.endpoint == endpoint).expect("each is named").why;
    assert_eq!(tried.len(), 3);
    assert!(matches!(why(&dead), Trouble::Io(_)), "{error}");
    assert!(matches!(why(&cluster.endpoint(1)), Trouble::Rejected(Rejection::NoAuthority)), "{error}");
    assert!(matches!(why(&cluster.endpoint(2)), Trouble::NoAnswer), "{error}");
    assert!(error.to_string().contains(&format!("{dead}: Connection refused")), "{error}");

    // The only one there is says it better itself.
    let alone = Client::builder().endpoints(format!("tcp://{}", cluster.endpoint(1)));
    let refused = soon(alone.connect_timeout(Duration::from_millis(300)).connect()).await;
    assert!(matches!(refused, Err(Error::Rejected(Rejection::NoAuthority))));
}

#[tokio::test]
async fn a_node_dies_under_a_session() {
    let cluster = Cluster::of(&[Manner::Serves, Manner::ServesAll]).await;
    let client = client(&cluster).await;
    let held = client.lock("held").await.expect("granted");
    let token = held.token();
    let asks = tokio::spawn({
        let client = client.clone();
        async move { client.lock("stuck").await }
    });
    soon(cluster.until("1 lock stuck")).await;
    cluster.kill(1).await;

    let got = soon(asks).await.expect("no panic").expect("asked again at the other node");
    assert_eq!((held.check(), held.token(), client.state()), (Ok(()), token, Lease::Held));
    assert!(got.token() > token);
    let at_second: Vec<String> = cluster.heard().into_iter().filter(|line| line.starts_with('2')).collect();
    assert_eq!(at_second, ["2 hello", "2 attach", "2 claim held", "2 lock stuck"]);
    soon(held.release()).await.expect("under the id of the second node");
    assert!(cluster.heard().last().is_some_and(|line| line.starts_with("2 release 2")), "{:?}", cluster.heard());
}

#[tokio::test]
async fn the_second_home_dies_during_the_claims() {
    let cluster = Cluster::of(&[Manner::Serves, Manner::DiesAtClaims, Manner::Serves]).await;
    let client = client(&cluster).await;
    let held = client.lock("held").await.expect("granted");
    cluster.kill(1).await;
    soon(cluster.until("3 claim held")).await;
    soon(client.sync()).await.expect("at the third");
    assert_eq!((held.check(), client.state()), (Ok(()), Lease::Held));
    let claims: Vec<String> = cluster.heard().into_iter().filter(|line| line.contains("claim")).collect();
    assert_eq!(claims, ["2 claim held", "3 claim held"]);
}

#[tokio::test]
async fn a_home_without_authority_is_left() {
    let cluster = Cluster::of(&[Manner::Serves, Manner::Serves]).await;
    let client = client(&cluster).await;
    let held = client.lock("held").await.expect("granted");
    cluster.set(1, Manner::Rejects(Rejection::NoAuthority));
    soon(client.lock("other")).await.expect("granted by the second");
    assert_eq!(held.check(), Ok(()));
    assert!(cluster.heard().contains(&"2 claim held".to_owned()), "{:?}", cluster.heard());
    // It came back, and is nobody's home: nothing draws the session there.
    cluster.set(1, Manner::Serves);
    cluster.forget_heard();
    soon(client.sync()).await.expect("still at the second");
    assert!(cluster.heard().iter().all(|line| line.starts_with('2')), "{:?}", cluster.heard());
}

#[tokio::test]
async fn what_worked_is_tried_again_first() {
    let cluster = Cluster::of(&[Manner::Serves, Manner::Serves]).await;
    let client = client(&cluster).await;
    let held = client.lock("held").await.expect("granted");
    cluster.forget_heard();
    cluster.cut(1);
    soon(cluster.until("1 attach")).await;
    soon(client.sync()).await.expect("at the first");
    assert_eq!(held.check(), Ok(()));
    // It still is the home: nothing is claimed.
    assert_eq!(cluster.heard(), ["1 hello", "1 attach"]);
}

#[tokio::test]
async fn a_home_that_falls_silent_is_left_within_the_lease() {
    let cluster = Cluster::of(&[Manner::Serves, Manner::Serves]).await;
    let client = client(&cluster).await;
    let held = client.lock("held").await.expect("granted");
    cluster.set(1, Manner::Mute);
    soon(cluster.until("2 claim held")).await;
    soon(client.sync()).await.expect("at the second");
    assert_eq!((held.check(), client.state()), (Ok(()), Lease::Held));
}

#[tokio::test]
async fn ended_is_lost() {
    let cluster = Cluster::of(&[Manner::Serves, Manner::Forgets]).await;
    let client = client(&cluster).await;
    let held = client.lock("held").await.expect("granted");
    cluster.kill(1).await;
    assert_eq!(soon(held.lost()).await, Lost::Ended);
}

#[tokio::test]
async fn without_authority_anywhere_it_is_lost_by_its_own_clock() {
    let cluster = Cluster::of(&[Manner::Serves, Manner::Serves]).await;
    let ttl = Duration::from_millis(1_500);
    let builder = Client::builder().endpoints(cluster.endpoints()).ttl(ttl).connect();
    let client = soon(builder).await.expect("a session");
    let held = client.lock("held").await.expect("granted");
    let asked = Instant::now();
    cluster.set(1, Manner::Rejects(Rejection::NoAuthority));
    cluster.set(2, Manner::Rejects(Rejection::NoAuthority));
    client.raw().post(lockstead::types::request::Op::Sync);
    let mut news = client.raw().notices();
    assert_eq!(soon(held.lost()).await, Lost::Deadline);
    assert!(asked.elapsed() <= ttl, "{:?}", asked.elapsed());
    let mut leases = Vec::new();
    while let Some(news) = news.next().await {
        if let lockstead::raw::News::Lease(lease) = news {
            leases.push(lease);
        }
    }
    assert_eq!(leases.last(), Some(&Lease::Lost));
}

#[tokio::test]
async fn a_session_goes_where_it_is_told() {
    let cluster = Cluster::of(&[Manner::Serves, Manner::Serves, Manner::Mute]).await;
    let client = client(&cluster).await;
    let held = client.lock("held").await.expect("granted");
    soon(client.move_to(&cluster.endpoint(2))).await.expect("it is there");
    assert!(cluster.heard().contains(&"2 claim held".to_owned()), "{:?}", cluster.heard());
    assert_eq!(held.check(), Ok(()));
    // Where nobody answers it does not stay.
    let Err(Error::Connect { tried }) = soon(client.move_to(&cluster.endpoint(3))).await else { panic!("it is mute") };
    assert!(tried.iter().any(|t| t.endpoint == cluster.endpoint(3) && matches!(t.why, Trouble::NoAnswer)));
    assert_eq!((held.check(), client.state()), (Ok(()), Lease::Held));
    assert!(matches!(client.move_to("unix:/x").await, Err(Error::Config(_))));
    let engine = lockstead::Engine::embedded();
    let stays = engine.client().move_to(&cluster.endpoint(1)).await.expect_err("in process");
    assert_eq!(stays.refusal(), Some(Refusal::Busy));
}
