//! Sessions at different nodes of a real cluster share a lock of their group in EX, and go on when a node dies.

mod common;

use core::time::Duration;

use common::cluster::Cluster;
use lockstead::Client;

const LONG: Duration = Duration::from_secs(60);

async fn client(cluster: &Cluster, nodes: &[usize]) -> Client {
    let endpoints: Vec<String> = nodes.iter().map(|node| format!("tcp://{}", cluster.nodes[*node].client)).collect();
    let client = Client::builder().endpoints(endpoints.join(",")).ttl(LONG).connect();
    tokio::time::timeout(LONG, client).await.expect("in time").expect("a session")
}

#[tokio::test(flavor = "multi_thread")]
async fn members_at_different_nodes_share_and_outlive_one_of_them() {
    let cluster = Cluster::start();
    cluster.until_whole();
    let (a, b, stranger) =
        (client(&cluster, &[0, 1]).await, client(&cluster, &[2, 0]).await, client(&cluster, &[1]).await);
    let (mine, yours) = (a.group("team").await.expect("joined"), b.group("team").await.expect("joined"));
    let mut held = Vec::new();
    // Names enough that each node masters some.
    for name in (0..12).map(|n| format!("part-{n}")) {
        let one = mine.lock(&name).await.expect("free");
        let two = yours.lock(&name).try_now().await.expect("asked").expect("shared at once");
        assert_eq!(one.token(), two.token());
        held.push((name, one, two));
    }
    for (name, ..) in &held {
        assert!(stranger.lock(name).try_now().await.expect("asked").is_none(), "{name} is the group's");
    }
    // The home of one user, and the master of some names.
    cluster.kill(2);
    for (name, one, two) in held {
        let left = tokio::time::timeout(LONG, one.release()).await.expect("in time");
        left.expect("released");
        assert!(stranger.lock(&name).try_now().await.expect("asked").is_none(), "{name} is used still");
        let left = tokio::time::timeout(LONG, two.release()).await.expect("in time");
        left.expect("released");
        let free = tokio::time::timeout(LONG, stranger.lock(&name).wait(LONG)).await.expect("in time");
        free.expect("its last user has gone").release().await.expect("released");
    }
}
