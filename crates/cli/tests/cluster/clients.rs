//! Clients that die, stop or do not listen, while others are at work at the same cluster.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use lockstead::{FenceGate, Token, types::tables::built_in};
use rustix::process::Signal;

use crate::{
    common::{LONG, Process, until},
    nodes::Cluster,
    work::Work,
};

const HOLD: &str = r#"echo "$LOCKSTEAD_TOKEN" > held; exec sleep 1000"#;

/// Takes the lock as soon as it is free, and tells its token.
fn next_token(cluster: &Cluster, name: &str) -> u64 {
    let args = ["lock", "-w", "30", name, "--", "sh", "-c", "echo $LOCKSTEAD_TOKEN"];
    let output = cluster.command(&args).output().expect("runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("a token")
}

/// F03: a holder dies by `kill -9`. Its lock is free when its lease has ended, wherever its home and its master are.
#[test]
fn f03_the_lock_of_a_killed_holder_is_free_after_its_lease() {
    let cluster = Cluster::of(3);
    let work = Work::start(&cluster.endpoints(), 3, 6);
    for node in cluster.all() {
        let _ = std::fs::remove_file(cluster.file("held"));
        // Within the network's reach alone: a Unix socket would tell the death at once.
        let endpoints = format!("tcp://{}", cluster.address(node));
        let name = format!("victim/{node}");
        let args = ["lock", "--ttl", "2", "--endpoints", &endpoints, &name, "--", "sh", "-c", HOLD];
        let mut holder = Process::spawn(cluster.command(&args).stderr(Stdio::null()));
        let before: u64 = until("it holds the lock", LONG, || cluster.read("held")?.parse().ok());
        holder.signal(Signal::KILL);
        holder.wait();
        let next = next_token(&cluster, &name);
        assert!(next > before, "{next} after {before}");
    }
    work.go_on(3);
    assert_eq!(work.finish().lost, 0);
}

/// F01: a holder is stopped beyond its lease, another gets the lock by another node, and the holder goes on. It learns that it
/// lost before it writes; what it had sent before is refused by its token.
#[test]
fn f01_a_zombie_holder_learns_that_it_lost_before_it_writes() {
    let cluster = Cluster::of(3);
    let work = Work::start(&cluster.endpoints(), 3, 6);
    let bin = std::path::Path::new(env!("CARGO_BIN_EXE_lockstead"));
    let program = bin.with_file_name("examples").join("guarded_writer");
    assert!(program.is_file(), "{} is missing: cargo build -p lockstead-cli --examples", program.display());
    let table = built_in("vms").expect("built in");
    let exclusive = table.exclusive();
    let token = |number: u64| Token::from_u64(number).expect("in range");
    for node in cluster.all() {
        let mut gate = FenceGate::new(table.clone());
        let name = format!("zombie/{node}");
        let mut command = Command::new(&program);
        command.arg(&name).env("LOCKSTEAD_ENDPOINTS", format!("tcp://{}", cluster.address(node)));
        let mut holder = Process::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
        let (mut orders, mut says) = (holder.input(), holder.lines());
        let held = says.next().expect("it says that it holds the lock");
        let old = token(held.strip_prefix("held ").and_then(|n| n.parse().ok()).expect("a token"));
        assert_eq!(gate.admit(old, exclusive), Ok(()));
        holder.signal(Signal::STOP);
        let new = token(next_token(&cluster, &name));
        assert!(new > old, "{new} after {old}");
        assert_eq!(gate.admit(new, exclusive), Ok(()));
        orders.write_all(b"go\n").expect("the pipe holds it");
        holder.signal(Signal::CONT);
        assert_eq!(says.next().as_deref(), Some("lost"), "the first thing it does after it was continued");
        assert!(gate.admit(old, exclusive).is_err(), "what it had sent before is refused");
        assert!(holder.wait_for("its end", LONG).success());
    }
    work.go_on(3);
    assert_eq!(work.finish().lost, 0);
}
