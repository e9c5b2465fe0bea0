//! A cluster of three real processes.

use core::net::SocketAddr;
use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::PathBuf,
    process::{Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{LONG, Process, lockstead, until};

/// Three nodes of `lockstead dev --nodes 3`, killed when dropped.
pub(crate) struct Cluster {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) nodes: Vec<Member>,
    again: Vec<Process>,
    dev: Process,
}

/// One of them.
pub(crate) struct Member {
    pid: Pid,
    pub(crate) client: String,
    admin: String,
    restart: String,
}

impl Cluster {
    /// Ready. Another test may take a port between the look and the start, so there are several tries.
    pub(crate) fn start() -> Cluster {
        (0..5).find_map(|_| Cluster::try_start()).expect("one of five clusters comes up")
    }

    fn try_start() -> Option<Cluster> {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = lockstead();
        command.args(["dev", "--nodes", "3", "--port", "auto", "--data"]).arg(folder.path().join("data"));
        command.env("LOCKSTEAD_RUN_DIR", folder.path().join("run")).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut dev = Process::spawn(&mut command);
        let (mut nodes, mut lines) = (Vec::new(), dev.lines());
        for line in lines.by_ref() {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["node", _, "pid", pid, "client", client, "admin", admin] => {
                    let admin = admin.strip_prefix("http://").expect("a URL").to_owned();
                    nodes.push(Member { pid: pid_of(pid), client: client.to_owned(), admin, restart: String::new() });
                }
                ["node", number, "again", "with:", ..] => {
                    let at = number.parse::<usize>().expect("a number") - 1;
                    nodes[at].restart = line.split_once("with: ").expect("a command").1.to_owned();
                }
                ["ready"] => {
                    assert_eq!(nodes.len(), 3, "three nodes were to be ready");
                    std::thread::spawn(move || lines.for_each(drop));
                    return Some(Cluster { folder, nodes, again: Vec::new(), dev });
                }
                _ => panic!("unexpected: {line}"),
            }
        }
        None
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.file(name)).ok().map(|text| text.trim_end().to_owned())
    }

    /// A command at these nodes, the first of them preferred by its place.
    pub(crate) fn at(&self, command: &mut Command, endpoints: &[usize]) {
        let endpoints: Vec<String> =
            endpoints.iter().map(|node| format!("tcp://{}", self.nodes[*node].client)).collect();
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command.env("LOCKSTEAD_ENDPOINTS", endpoints.join(",")).env("LOCKSTEAD_RUN_DIR", self.file("run"));
    }

    /// Where other nodes reach one: by custom the port after that of clients.
    pub(crate) fn peer(&self, node: usize) -> SocketAddr {
        let client: SocketAddr = self.nodes[node].client.parse().expect("an address");
        SocketAddr::new(client.ip(), client.port() + 1)
    }

    /// A number of a node's metrics.
    pub(crate) fn metric(&self, node: usize, name: &str) -> Option<u64> {
        let mut stream = TcpStream::connect(&self.nodes[node].admin).ok()?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").ok()?;
        let mut page = String::new();
        stream.read_to_string(&mut page).ok()?;
        page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }

    /// Waits until as many vote as there are nodes: from here on any one of them may die.
    pub(crate) fn until_whole(&self) {
        until("all nodes vote", LONG, || {
            let whole = |node| {
                let voters = self.metric(node, "lockstead_group_voters ");
                voters == Some(3) && self.metric(node, "lockstead_group_voters_changing ") == Some(0)
            };
            (0..3).all(whole).then_some(())
        });
    }

    pub(crate) fn kill(&self, node: usize) {
        kill_process(self.nodes[node].pid, Signal::KILL).expect("it runs");
    }

    /// Starts a node again as a user would.
    pub(crate) fn start_again(&mut self, node: usize) {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exec {}", self.nodes[node].restart)]).stdout(Stdio::piped());
        command.env("LOCKSTEAD_RUN_DIR", self.file("run")).stdin(Stdio::null());
        let mut process = Process::spawn(&mut command);
        let mut lines = process.lines();
        assert!(lines.any(|line| line == "ready"), "node {} did not come back", node + 1);
        std::thread::spawn(move || lines.for_each(drop));
        self.nodes[node].pid = process.pid();
        self.again.push(process);
    }
}

fn pid_of(text: &str) -> Pid {
    text.parse().ok().and_then(Pid::from_raw).unwrap_or_else(|| panic!("{text} is no process"))
}

/// `dev` takes its nodes with it when it is asked to end, not when it is killed.
impl Drop for Cluster {
    fn drop(&mut self) {
        self.dev.signal(Signal::TERM);
        self.dev.wait();
    }
}
