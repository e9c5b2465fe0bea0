//! A drill: nodes of three and of five are killed with -9 under load, one after another, the leader of the group among them, and started
//! again. What clients feel of it is printed: locks of slots that keep their master, and when the inherited ones are back.
//! Beside the clients that are timed others add to guarded counters, which are judged at the end as in the tests of clusters.
//!
//! `cargo bench -p lockstead-cli --bench drill -- --kills 8 --nodes 5`
#![allow(dead_code, reason = "what it shares with the tests of clusters has more than it needs")]

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/cluster/hostages.rs"]
mod hostages;
#[path = "../tests/cluster/net.rs"]
mod net;
#[path = "../tests/cluster/nodes.rs"]
mod nodes;
#[path = "../tests/cluster/wires.rs"]
mod wires;
#[path = "../tests/cluster/work.rs"]
mod work;

use core::{
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    time::Duration,
};
use std::{
    rc::Rc,
    sync::{Arc, Mutex, mpsc},
    thread::JoinHandle,
    time::Instant,
};

use lockstead::Client;
use tokio::task::LocalSet;

use crate::{
    common::{Chance, LONG, pass, until},
    nodes::Cluster,
    work::Work,
};

/// Names that are locked over and over through each node.
const NAMES: usize = 12;
/// Between two locks of a name.
const BETWEEN: Duration = Duration::from_millis(10);
/// How long it is looked at undisturbed.
const QUIET: Duration = Duration::from_secs(10);
/// How long is looked on when all slots have been taken over.
const AFTERWARDS: Duration = Duration::from_secs(1);
/// Longer than anybody has to wait in a drill that goes well.
const TTL: Duration = Duration::from_secs(10);

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let number = |name: &str| {
        let at = words.iter().position(|word| word == name)?;
        words.get(at + 1)?.parse().ok()
    };
    let kills = number("--kills").unwrap_or(4);
    let sizes = number("--nodes").map_or(vec![3, 5], |nodes| vec![nodes]);
    for nodes in sizes {
        drill(nodes, kills);
    }
}

fn drill(nodes: u16, kills: u16) {
    println!("{nodes} nodes");
    let mut cluster = Cluster::of(nodes);
    let work = Work::start(&cluster.endpoints(), 3, 8);
    work.go_on(3);
    let probes = Probes::start(&cluster);
    pass(QUIET);
    let quiet = probes.finish();
    let mut quiet: Vec<Duration> = quiet.iter().map(|sample| sample.took).collect();
    println!("  undisturbed: {}", describe(&mut quiet));
    let mut chance = Chance::of(20_261_122);
    let (mut all, mut worst_back) = (Vec::new(), Duration::ZERO);
    for round in 0..kills {
        let leader = cluster.leader(1);
        let any = 1 + u16::try_from(chance.below(nodes.into())).expect("small");
        let victim = if round % 2 == 0 { leader } else { any };
        let round = kill(&mut cluster, victim, victim == leader);
        all.extend(round.unaffected);
        worst_back = worst_back.max(round.back);
        let other = victim % nodes + 1;
        cluster.start(victim);
        cluster.wait_ready(victim);
        cluster.wait_whole(other, nodes.into());
        // Even again: no slot moves any more by itself.
        for node in cluster.all() {
            cluster.wait_figure(node, "slots_mastered", |slots| slots.abs_diff(u64::from(4_096 / nodes)) <= 1);
        }
    }
    println!("  unaffected slots over all kills: {}", describe(&mut all));
    let [before, now] = [&quiet, &all].map(|samples| at(samples, 0.999));
    println!("  their p99.9 is {:?} above the undisturbed one; goal: 50 ms", now.saturating_sub(before));
    println!("  inherited slots were back within {worst_back:?} of the detection; goal: 1 s");
    let tally = work.finish();
    println!(
        "  {} steps at guarded counters: none lost or doubled, tokens rose; {} sessions lost",
        tally.steps, tally.lost
    );
}

/// What one kill was like.
struct Round {
    unaffected: Vec<Duration>,
    back: Duration,
}

fn kill(cluster: &mut Cluster, victim: u16, leads: bool) -> Round {
    let probes = Probes::start(cluster);
    let other = if victim == 1 { 2 } else { 1 };
    let up = cluster.wait_figure(other, "members_up", |_| true);
    let start = Instant::now();
    cluster.kill(victim);
    cluster.wait_figure(other, "members_up", |now| now < up);
    let detected = Instant::now();
    for node in cluster.all().into_iter().filter(|node| *node != victim) {
        cluster.wait_figure(node, "slots_taking_over", |slots| slots == 0);
    }
    pass(AFTERWARDS);
    let end = Instant::now();
    let masters = probes.masters();
    let samples = probes.finish();
    let inherited: Vec<usize> = (0..masters.len()).filter(|name| masters[*name] == victim).collect();
    let first = |name: usize| {
        let grants = samples.iter().filter(|sample| sample.name == name).map(|sample| sample.began + sample.took);
        grants.filter(|granted| *granted > start + Duration::from_millis(100)).min()
    };
    // One whose home died too waits for its client to come to another node as well.
    let back = inherited.iter().map(|name| first(*name).unwrap_or(end).saturating_duration_since(detected));
    let back = back.max().unwrap_or_default();
    let concerned = |sample: &&Sample| {
        let home = 1 + sample.name / NAMES;
        let ended = sample.began + sample.took;
        masters[sample.name] != victim && home != usize::from(victim) && ended > start && sample.began < end
    };
    let mut unaffected: Vec<Duration> = samples.iter().filter(concerned).map(|sample| sample.took).collect();
    println!(
        "  node {victim} dies{}: noticed after {:?}, the last of {} inherited names granted again {back:?} later; unaffected: {}",
        if leads { ", the leader" } else { "" },
        detected - start,
        inherited.len(),
        describe(&mut unaffected)
    );
    Round { unaffected, back }
}

/// A lock that was granted.
struct Sample {
    name: usize,
    began: Instant,
    took: Duration,
}

/// Clients that are timed, one at each node, until they are ended.
struct Probes {
    stop: Arc<AtomicBool>,
    masters: Arc<Mutex<Vec<u16>>>,
    threads: Vec<JoinHandle<Vec<Sample>>>,
}

impl Probes {
    /// Ready when each knows who masters its names.
    fn start(cluster: &Cluster) -> Probes {
        let nodes = cluster.all();
        let stop = Arc::new(AtomicBool::new(false));
        let masters = Arc::new(Mutex::new(vec![0; nodes.len() * NAMES]));
        let (tell, ready) = mpsc::channel();
        let probe = |node: &u16| {
            let (endpoints, own) = (cluster.endpoints(), cluster.address(*node));
            let (stop, masters, tell) = (Arc::clone(&stop), Arc::clone(&masters), tell.clone());
            let first = (usize::from(*node) - 1) * NAMES;
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                LocalSet::new().block_on(&runtime, async {
                    let client = Client::builder().endpoints(endpoints).prefer(own).ttl(TTL).connect().await;
                    let client = Rc::new(client.expect("connects"));
                    for name in first..first + NAMES {
                        let master = master_of(&client, name).await;
                        masters.lock().expect("no panic")[name] = master;
                    }
                    let _ = tell.send(());
                    let one = |name: usize| tokio::task::spawn_local(time(Rc::clone(&client), name, Arc::clone(&stop)));
                    let all: Vec<_> = (first..first + NAMES).map(one).collect();
                    let mut samples = Vec::new();
                    for one in all {
                        samples.extend(one.await.expect("no panic"));
                    }
                    samples
                })
            })
        };
        let threads = nodes.iter().map(probe).collect();
        for _ in &nodes {
            ready.recv_timeout(LONG).expect("a client that knows its masters");
        }
        // What comes first is the noise of the beginning.
        pass(Duration::from_millis(500));
        Probes { stop, masters, threads }
    }

    fn masters(&self) -> Vec<u16> {
        self.masters.lock().expect("no panic").clone()
    }

    fn finish(self) -> Vec<Sample> {
        self.stop.store(true, SeqCst);
        let mut samples = Vec::new();
        for thread in self.threads {
            until("a client ends", LONG, || thread.is_finished().then_some(()));
            samples.extend(thread.join().expect("no panic"));
        }
        samples
    }
}

fn name(number: usize) -> String {
    format!("drill/{number}")
}

/// Who masters a name, which has to be there for that.
async fn master_of(client: &Client, number: usize) -> u16 {
    let guard = client.lock(name(number)).await.expect("granted");
    let detail = client.show(lockstead::types::SpaceId(0), name(number).as_bytes()).await.expect("an answer");
    let master = detail.expect("it is locked").master.0;
    guard.release().await.expect("released");
    master
}

/// Locks a name over and over.
async fn time(client: Rc<Client>, number: usize, stop: Arc<AtomicBool>) -> Vec<Sample> {
    let mut samples = Vec::new();
    while !stop.load(SeqCst) {
        let began = Instant::now();
        let guard = client.lock(name(number)).await.expect("granted: its client lives");
        samples.push(Sample { name: number, began, took: began.elapsed() });
        guard.release().await.expect("released");
        let _ = tokio::time::timeout(BETWEEN, core::future::pending::<()>()).await;
    }
    samples
}

/// Of samples in their order.
fn at(samples: &[Duration], share: f64) -> Duration {
    let last = samples.len().saturating_sub(1);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a few thousand"
    )]
    let index = (last as f64 * share).round() as usize;
    samples.get(index).copied().unwrap_or_default()
}

fn describe(samples: &mut [Duration]) -> String {
    samples.sort_unstable();
    let [half, most, nearly, all] = [0.5, 0.99, 0.999, 1.0].map(|share| at(samples, share));
    format!("{} locks, p50 {half:?} p99 {most:?} p99.9 {nearly:?} max {all:?}", samples.len())
}
