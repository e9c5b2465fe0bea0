//! Nodes whose disk is not what it was: gone, full, failing. Such a node stops or waits for an operator; the others go on.

use core::cell::RefCell;
use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
};

use crate::{
    common::{LONG, Process, until},
    nodes::Cluster,
    work::Work,
};

/// F23: a node comes back without its data under its old number. The others do not take it for the one they knew, not even the
/// seat that formed the cluster, and it says what to do.
#[test]
fn f23_a_node_that_lost_its_data_is_refused() {
    let mut cluster = Cluster::of(3);
    let work = Work::start(&cluster.endpoints(), 3, 6);
    for node in [1, 2] {
        work.go_on(3);
        cluster.kill(node);
        let folder = cluster.data(node);
        std::fs::rename(&folder, folder.with_extension("kept")).expect("there");
        cluster.start(node);
        until("it says how to let it in", LONG, || cluster.log(node).contains("lockstead cluster join").then_some(()));
        work.go_on(3);
        assert!(!cluster.is_ready(node), "node {node} takes part without what it had promised");
        cluster.kill(node);
        std::fs::remove_dir_all(&folder).expect("there");
        std::fs::rename(folder.with_extension("kept"), &folder).expect("there");
        // With its data it is known.
        cluster.start(node);
        cluster.wait_ready(node);
        cluster.wait_whole(node, 3);
    }
    work.go_on(3);
    work.finish();
}

/// The same while all are down: the seat that forms clusters must not form a second one beside what the others still have.
#[test]
fn f23_the_first_seat_without_data_founds_no_second_cluster() {
    let mut cluster = Cluster::of(3);
    let work = Work::start(&cluster.endpoints(), 3, 6);
    work.go_on(3);
    for node in cluster.all() {
        cluster.kill(node);
    }
    std::fs::remove_dir_all(cluster.data(1)).expect("there");
    for node in cluster.all() {
        cluster.start(node);
    }
    for node in [2, 3] {
        cluster.wait_ready(node);
    }
    work.go_on(3);
    assert!(!cluster.is_ready(1));
    cluster.wait_figure(2, "members_up", |up| up == 2);
    work.finish();
}

/// A file system of its own with little room, until it is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(folder: &Path) -> Option<SmallDisk> {
        std::fs::create_dir_all(folder).expect("made");
        let options = ["-t", "tmpfs", "-o", "size=16m,mode=700", "lockstead-test"];
        let mounted = Command::new("mount").args(options).arg(folder).output();
        mounted.is_ok_and(|mounted| mounted.status.success()).then(|| SmallDisk(folder.to_owned()))
    }

    /// Takes all the room there is; gives the file to remove.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("other-data");
        let mut file = std::fs::File::create(&path).expect("a file");
        while file.write_all(&[7; 512]).is_ok() {}
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Opens sessions, each of which the voters write down, until a node has stopped by itself; how it ended.
fn write_until_stopped(cluster: &mut Cluster, node: u16) -> ExitStatus {
    until(&format!("node {node} stops"), LONG, || {
        cluster.command(&["lock", "-w", "20", "writes", "--", "true"]).status().expect("runs");
        cluster.ended(node)
    })
}

/// Whether other processes may be traced here.
pub(crate) fn may_trace() -> bool {
    Command::new("strace").args(["-o", "/dev/null", "true"]).status().is_ok_and(|status| status.success())
}

pub(crate) fn skipped(why: &str) {
    // Past the test's own capture: a test that was not run must be seen.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

/// F20: the disk of a node, the leader of the group, is full. It stops rather than promise what it has not written; the others go on;
/// with room again it is taken in again.
#[test]
fn f20_a_full_disk_stops_one_node_alone() {
    let disks = RefCell::new(Vec::new());
    let mut cluster = Cluster::prepared(3, |folder| disks.borrow_mut().push(SmallDisk::mount(folder)));
    let disks: Vec<SmallDisk> = disks.into_inner().into_iter().flatten().collect();
    if disks.len() < 3 {
        skipped("a full disk needs the right to mount a tmpfs");
        return;
    }
    let work = Work::start(&cluster.endpoints(), 3, 6);
    work.go_on(3);
    let full = cluster.leader(1);
    let filler = disks[usize::from(full) - 1].fill();
    let ended = write_until_stopped(&mut cluster, full);
    assert!(!ended.success(), "{ended}");
    work.go_on(3);
    std::fs::remove_file(filler).expect("there");
    cluster.start(full);
    cluster.wait_ready(full);
    work.go_on(3);
    work.finish();
}

/// F21: a sync of the disk fails once. What was written before may be there or not, so the node stops and does not try again.
#[test]
fn f21_a_failed_sync_stops_one_node_alone() {
    let mut cluster = Cluster::of(3);
    let work = Work::start(&cluster.endpoints(), 3, 6);
    work.go_on(3);
    let failing = cluster.leader(1);
    let pid = cluster.pid(failing).as_raw_nonzero().to_string();
    let inject = ["-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO:when=1"];
    let mut strace = Command::new("strace");
    strace.args(["-f", "-o", "/dev/null"]).args(inject).args(["-p", &pid]).stdin(Stdio::null()).stderr(Stdio::null());
    if may_trace() {
        let _strace = Process::spawn(&mut strace);
        let ended = write_until_stopped(&mut cluster, failing);
        assert!(!ended.success(), "{ended}");
    } else {
        return skipped("a failing sync needs strace, and the right to trace");
    }
    work.go_on(3);
    cluster.start(failing);
    cluster.wait_ready(failing);
    work.go_on(3);
    work.finish();
}
