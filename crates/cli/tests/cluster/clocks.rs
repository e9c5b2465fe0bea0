//! Clocks that show another time of the day all of a sudden.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::{
    common::{LONG, Process, until},
    nodes::Cluster,
    work::Work,
};

const DAY: i64 = 24 * 60 * 60;

/// What is put in front of the C library: the time of the day is so many seconds off, other clocks are as they are.
const SHIM: &str = include_str!("clock_shim.txt");

/// The built library.
fn shim(cluster: &Cluster) -> PathBuf {
    let (source, library) = (cluster.file("shim.rs"), cluster.file("shim.so"));
    std::fs::write(&source, SHIM).expect("written");
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args(["--edition", "2024", "--crate-type", "cdylib", "-Cpanic=abort", "-Copt-level=2", "-o"]);
    let built = rustc.arg(&library).arg(&source).status().expect("rustc runs");
    assert!(built.success(), "{built}");
    library
}

/// F16: the time of the day of each node in turn, and of a holder, goes a day ahead, a day back, and back to what it was. No lease
/// and no authority goes by it.
#[test]
fn f16_a_jump_of_the_time_of_day_changes_nothing() {
    let mut cluster = Cluster::waiting(3);
    let library = shim(&cluster);
    let shift = |who: &str, seconds: i64, folder: &Cluster| {
        let (new, file) = (folder.file("shift.new"), folder.file(&format!("shift-{who}")));
        std::fs::write(&new, format!("{seconds}\n")).and_then(|()| std::fs::rename(new, file)).expect("written");
    };
    for node in cluster.all() {
        shift(&node.to_string(), 0, &cluster);
        let file = cluster.file(&format!("shift-{node}"));
        cluster.with_environment(node, &[("LD_PRELOAD", library.clone()), ("TEST_CLOCK_SHIFT", file)]);
        cluster.start(node);
    }
    for node in cluster.all() {
        cluster.wait_ready(node);
    }
    cluster.wait_whole(1, 3);
    let work = Work::start(&cluster.endpoints(), 3, 6);
    shift("holder", 0, &cluster);
    let hold = "echo > held; exec sleep 1000";
    let mut holder = cluster.command(&["lock", "--ttl", "2", "jumper", "--", "sh", "-c", hold]);
    holder.env("LD_PRELOAD", &library).env("TEST_CLOCK_SHIFT", cluster.file("shift-holder"));
    let mut holder = Process::spawn(holder.stderr(Stdio::null()));
    until("it holds the lock", LONG, || cluster.read("held"));
    work.go_on(3);
    let epoch = cluster.wait_figure(1, "epoch", |_| true);
    for who in ["1", "2", "3", "holder"] {
        for seconds in [DAY, -DAY, 0] {
            shift(who, seconds, &cluster);
            work.go_on(20);
        }
    }
    assert_eq!(cluster.wait_figure(1, "epoch", |_| true), epoch, "somebody was put out");
    assert_eq!(holder.ended(), None, "the holder has given up");
    let taken = cluster.command(&["lock", "-w", "0", "jumper", "--", "true"]).stderr(Stdio::null()).status();
    assert!(!taken.expect("runs").success(), "the holder's lock was given away");
    shift("1", DAY, &cluster);
    cluster.signal(1, rustix::process::Signal::TERM);
    assert!(cluster.wait_ended(1).success());
    // Its last words are of tomorrow.
    let today = Command::new("date").args(["-u", "+%F"]).output().expect("date runs");
    let today = String::from_utf8(today.stdout).expect("text");
    let last = cluster.log(1).lines().last().expect("it says that it stops").to_owned();
    assert!(last.starts_with("20") && !last.starts_with(today.trim()), "the clock was not shifted: {last}");
    work.go_on(3);
    assert_eq!(work.finish().lost, 0);
}
