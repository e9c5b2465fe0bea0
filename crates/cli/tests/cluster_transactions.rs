//! Transactions over three nodes of `lockstead dev --nodes 3`, from the shell: committed at all masters at once, taken along when the node of their
//! session is killed, and given way to by age.

mod common;

use std::{
    io::Write,
    process::{ChildStdin, Stdio},
};

use common::{Process, cluster::Cluster, lockstead};

/// A shell that is typed into.
struct Shell {
    input: ChildStdin,
    lines: Box<dyn Iterator<Item = String> + Send>,
    _process: Process,
}

impl Shell {
    fn at(cluster: &Cluster) -> Shell {
        let mut command = lockstead();
        cluster.at(command.arg("shell"), &[0, 1, 2]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::spawn(&mut command);
        Shell { input: process.input(), lines: Box::new(process.lines()), _process: process }
    }

    /// Types a line, and reads until one that ends so.
    fn says(&mut self, line: &str, until: &str) -> Vec<String> {
        writeln!(self.input, "{line}").expect("it reads");
        let mut seen = Vec::new();
        for line in self.lines.by_ref() {
            let last = line.ends_with(until) || (until.ends_with("token=") && line.contains(until));
            seen.push(line);
            if last {
                return seen;
            }
        }
        panic!("{line:?}: no {until:?} in {seen:?}");
    }
}

#[test]
fn a_transaction_over_all_nodes_outlives_its_home() {
    let mut cluster = Cluster::start();
    cluster.until_whole();
    let mut shell = Shell::at(&cluster);
    let home = cluster.nodes[0].client.clone();
    writeln!(shell.input, "a: on {home}").expect("it reads");
    shell.says("a: begin", "transaction begun");
    let names: Vec<String> = (0..12).map(|n| format!("n{n}")).collect();
    for name in &names {
        shell.says(&format!("a: lock {name} EX"), "token=");
    }
    shell.says("a: savepoint p", "savepoint p");
    shell.says("a: lock later EX", "token=");
    cluster.kill(0);
    let seen = shell.says("a: rollback to p", "transaction rolled back to p");
    assert!(!seen.iter().any(|line| line.contains("lost")), "{seen:?}");
    let there = cluster.nodes[1].client.clone();
    writeln!(shell.input, "b: on {there}").expect("it reads");
    shell.says("b: lock later EX", "token=");
    shell.says(&format!("b: lock {} EX nowait", names[0]), "refused would-wait");
    shell.says("a: commit", "transaction committed");
    for name in &names {
        shell.says(&format!("b: lock {name} EX"), "token=");
    }
    cluster.start_again(0);
}

#[test]
fn over_nodes_the_younger_one_gives_way() {
    let cluster = Cluster::start();
    let mut create = lockstead();
    cluster.at(create.args(["lockspace", "create", "accounts", "--deadlock", "wound-wait"]), &[0]);
    assert!(create.stdout(Stdio::null()).status().expect("runs").success());
    let mut shell = Shell::at(&cluster);
    for (session, node) in [("old", 1), ("young", 2)] {
        let at = &cluster.nodes[node].client;
        writeln!(shell.input, "{session}: on {at}\n{session}: use accounts").expect("it reads");
        shell.says(&format!("{session}: begin"), "transaction begun");
        // So that the SCN has gone on before the next one begins.
        shell.says(&format!("{session}: lock {session} EX"), "token=");
    }
    shell.says("young: lock old EX", "old: old blocking EX");
    let seen = shell.says("old: lock young EX", "young: transaction aborted");
    assert!(seen.iter().any(|line| line == "old: young waiting EX"), "{seen:?}");
    shell.says("young: commit", "commit refused aborted");
    shell.says("young: rollback", "old: young granted EX token=");
    shell.says("old: commit", "transaction committed");
    shell.says("young: begin again", "transaction begun");
    shell.says("young: lock old EX", "token=");
    shell.says("young: commit", "transaction committed");
}
