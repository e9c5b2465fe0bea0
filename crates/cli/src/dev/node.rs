//! The nodes of `lockstead dev`.

use core::time::Duration;
use std::{
    ffi::OsString,
    fs::File,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::Stdio,
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
    process::Signal,
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    net::unix::pipe,
    signal::unix::{SignalKind, signal},
};

use super::{
    died,
    ports::{Base, Ports},
};
use crate::{
    child::{Change, Child, Start},
    exit::{Exit, Failure},
    server,
};

/// How long nodes may take to stop.
const STOP_FOR: Duration = Duration::from_secs(10);

/// All nodes: one alone, or the members of a cluster.
pub(crate) struct Nodes {
    all: Vec<Node>,
    ended: tokio::signal::unix::Signal,
}

/// A node that was started, in a process group of its own: Ctrl-C at the terminal is not for it.
struct Node {
    number: u16,
    ports: Ports,
    command: Vec<OsString>,
    data: PathBuf,
    child: Option<Child>,
    lines: Lines<BufReader<pipe::Receiver>>,
}

impl Nodes {
    /// Starts them.
    ///
    /// # Errors
    /// Ports that are taken, or what the operating system says.
    pub(crate) fn start(base: Base, count: u16, data: &Path) -> Result<Nodes, Failure> {
        let all_ports = base.find(count)?;
        let seats: Vec<String> =
            all_ports.iter().zip(1..).map(|(ports, number): (_, u16)| format!("{number}={}", ports.peer)).collect();
        let seats = seats.join(",");
        let mut nodes = Nodes { all: Vec::new(), ended: signal(SignalKind::child())? };
        for (ports, number) in all_ports.into_iter().zip(1..) {
            let mut keys = vec![
                ("node", number.to_string()),
                ("client_tcp", ports.client.to_string()),
                ("admin", ports.admin.to_string()),
            ];
            let data = if count == 1 { data.to_owned() } else { data.join(format!("node-{number}")) };
            if count > 1 {
                keys.push(("peer_listen", ports.peer.to_string()));
                keys.push(("seats", seats.clone()));
            }
            keys.push(("data", data.display().to_string()));
            keys.push(("log", "warn".to_owned()));
            nodes.all.push(Node::start(number, ports, &keys, data)?);
        }
        Ok(nodes)
    }

    /// What they print before they are ready, each line ended.
    ///
    /// # Errors
    /// [`Exit::Unavailable`] where one ends instead.
    pub(crate) async fn until_ready(&mut self) -> Result<String, Failure> {
        let mut said = String::new();
        for node in &mut self.all {
            said.push_str(&node.until_ready().await?);
        }
        for node in &self.all {
            said.push_str(&format!("node {} again with: {}\n", node.number, node.command_line()));
        }
        Ok(said)
    }

    /// Where their clients connect, comma-separated.
    pub(crate) fn endpoints(&self) -> String {
        let all: Vec<String> = self.all.iter().map(|node| node.ports.client.to_string()).collect();
        all.join(",")
    }

    /// Waits for `stop`. A node that dies meanwhile is said to the user, who may start it again. Cancellation safe.
    pub(crate) async fn watch_until<T>(&mut self, stop: impl Future<Output = T>) {
        tokio::pin!(stop);
        loop {
            for node in &mut self.all {
                if let Some(Change::Ended(how)) = node.child.as_ref().and_then(Child::poll) {
                    node.child = None;
                    died(node.number, how, &node.command_line());
                }
            }
            tokio::select! {
                _ = &mut stop => return,
                _ = self.ended.recv() => {}
            }
        }
    }

    /// Stops them, gracefully if it can. Nobody is left to hand slots over to, so they are told not to try. Gives those that
    /// run on: nodes that died and that somebody started again.
    pub(crate) async fn stop(mut self) -> Vec<u16> {
        let dead: Vec<(u16, PathBuf)> =
            self.all.iter().filter(|node| node.child.is_none()).map(|node| (node.number, node.data.clone())).collect();
        let children: Vec<Child> = self.all.iter_mut().filter_map(|node| node.child.take()).collect();
        for child in &children {
            child.signal(Signal::INT);
        }
        let gone = async {
            while !children.iter().all(|child| matches!(child.poll(), Some(Change::Ended(_)))) {
                self.ended.recv().await;
            }
        };
        if tokio::time::timeout(STOP_FOR, gone).await.is_err() {
            for child in &children {
                child.signal(Signal::KILL);
            }
        }
        dead.into_iter().filter(|(_, data)| is_in_use(data)).map(|(number, _)| number).collect()
    }
}

/// Whether a server runs with that data directory: it holds a lock on the file `lock` in it.
fn is_in_use(data: &Path) -> bool {
    let Ok(file) = File::open(data.join("lock")) else { return false };
    flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
}

impl Node {
    fn start(number: u16, ports: Ports, keys: &[(&str, String)], data: PathBuf) -> Result<Node, Failure> {
        let program = std::env::current_exe()?;
        let command = server::command_line(&program.to_string_lossy(), keys);
        let (child, stdout) =
            Child::start(Start { command: &command, env: &[], socket: None, stdout: Stdio::piped() })?;
        child.go_on();
        let stdout = stdout.ok_or_else(|| Exit::Failed.because("no pipe to the node"))?;
        let stdout = pipe::Receiver::from_owned_fd(OwnedFd::from(stdout))?;
        Ok(Node { number, ports, command, data, child: Some(child), lines: BufReader::new(stdout).lines() })
    }

    async fn until_ready(&mut self) -> Result<String, Failure> {
        let mut said = String::new();
        while let Some(line) = self.lines.next_line().await? {
            if line == "ready" {
                return Ok(said);
            }
            said.push_str(&line);
            said.push('\n');
        }
        Err(Exit::Unavailable.because(format!("node {} ended before it was ready", self.number)))
    }

    /// The command that starts it again, as a shell reads it.
    fn command_line(&self) -> String {
        self.command.iter().map(|word| quoted(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
    }
}

/// A word as a POSIX shell reads it back.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(quoted("/a/b-1:2"), "/a/b-1:2");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
