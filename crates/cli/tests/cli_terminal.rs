//! `lockstead lock` at a terminal: its command is in the foreground, reads what is typed and gets Ctrl-C.

mod common;

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    os::fd::OwnedFd,
    process::{Command, Stdio},
};

use common::{LONG, Node, Process};
use rustix::{
    fs::{Mode, OFlags},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
};

/// Both ends of a new terminal.
fn terminal() -> (File, OwnedFd) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
    grantpt(&ours).expect("granted");
    unlockpt(&ours).expect("unlocked");
    let name = ptsname(&ours, Vec::new()).expect("its name");
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let theirs = rustix::fs::open(name, flags, Mode::empty()).expect("the other end");
    (File::from(ours), theirs)
}

/// `lockstead lock a -- CMD` as the foreground job of a terminal of its own.
fn at_terminal(node: &Node, command: &[&str]) -> (File, Process) {
    let (ours, theirs) = terminal();
    let here = node.command(&[]);
    // A caller of the tests may have SIGINT ignored, as background jobs of scripts do; a terminal's job has not.
    let mut there = Command::new("env");
    there
        .args([
            "--default-signal=INT",
            "setsid",
            "--ctty",
            "--wait",
            env!("CARGO_BIN_EXE_lockstead"),
            "lock",
            "a",
            "--",
        ])
        .args(command);
    there.envs(here.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let end = || Stdio::from(theirs.try_clone().expect("another descriptor"));
    let process = Process::spawn(there.stdin(end()).stdout(end()).stderr(Stdio::null()));
    (ours, process)
}

#[test]
fn the_command_reads_the_terminal_and_gets_ctrl_c() {
    let node = Node::start();
    let script = "read -r word; echo \"got $word\"; exec sleep 1000";
    let (mut terminal, mut process) = at_terminal(&node, &["sh", "-c", script]);
    let mut seen = BufReader::new(terminal.try_clone().expect("another descriptor")).lines().map_while(Result::ok);
    terminal.write_all(b"hello\n").expect("typed");
    // The terminal itself shows what was typed, too.
    assert!(seen.any(|line| line.trim_end() == "got hello"));
    terminal.write_all(b"\x03").expect("typed");
    assert_eq!(process.wait_for("Ctrl-C ends the command", LONG).code(), Some(128 + 2));
}
