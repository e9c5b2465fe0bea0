//! The node of `lockstead dev`.

use core::time::Duration;
use std::{ffi::OsString, os::fd::OwnedFd, path::Path, process::Stdio};

use rustix::process::Signal;
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

/// How long a node may take to stop.
const STOP_FOR: Duration = Duration::from_secs(10);

/// A node that was started, in a process group of its own: Ctrl-C at the terminal is not for it.
pub(crate) struct Node {
    ports: Ports,
    command: Vec<OsString>,
    child: Option<Child>,
    lines: Lines<BufReader<pipe::Receiver>>,
    ended: tokio::signal::unix::Signal,
}

impl Node {
    /// Starts it.
    ///
    /// # Errors
    /// Ports that are taken, or what the operating system says.
    pub(crate) fn start(base: Base, data: &Path) -> Result<Node, Failure> {
        let ports = base.find()?;
        let keys = [
            ("node", "1".to_owned()),
            ("client_tcp", ports.client.to_string()),
            ("admin", ports.admin.to_string()),
            ("data", data.display().to_string()),
            ("log", "warn".to_owned()),
        ];
        let program = std::env::current_exe()?;
        let command = server::command_line(&program.to_string_lossy(), &keys);
        let ended = signal(SignalKind::child())?;
        let (child, stdout) =
            Child::start(Start { command: &command, env: &[], socket: None, stdout: Stdio::piped() })?;
        child.go_on();
        let stdout = stdout.ok_or_else(|| Exit::Failed.because("no pipe to the node"))?;
        let stdout = pipe::Receiver::from_owned_fd(OwnedFd::from(stdout))?;
        Ok(Node { ports, command, child: Some(child), lines: BufReader::new(stdout).lines(), ended })
    }

    /// What it prints before it is ready, each line ended.
    ///
    /// # Errors
    /// [`Exit::Unavailable`] where it ends instead.
    pub(crate) async fn until_ready(&mut self) -> Result<String, Failure> {
        let mut said = String::new();
        while let Some(line) = self.lines.next_line().await? {
            if line == "ready" {
                return Ok(said);
            }
            said.push_str(&line);
            said.push('\n');
        }
        Err(Exit::Unavailable.because("the node ended before it was ready"))
    }

    /// Where its clients connect.
    pub(crate) fn endpoint(&self) -> String {
        self.ports.client.to_string()
    }

    /// The command that starts it again, as a shell reads it.
    pub(crate) fn command_line(&self) -> String {
        self.command.iter().map(|word| quoted(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
    }

    /// Waits for `stop`. A node that dies meanwhile is said to the user, who may start it again. Cancellation safe.
    pub(crate) async fn watch_until<T>(&mut self, stop: impl Future<Output = T>) {
        tokio::pin!(stop);
        loop {
            if let Some(Change::Ended(how)) = self.child.as_ref().and_then(Child::poll) {
                self.child = None;
                died(how, &self.command_line());
            }
            tokio::select! {
                _ = &mut stop => return,
                _ = self.ended.recv() => {}
            }
        }
    }

    /// Stops it, gracefully if it can.
    pub(crate) async fn stop(mut self) {
        let Some(child) = self.child.take() else { return };
        child.signal(Signal::TERM);
        let gone = async {
            while !matches!(child.poll(), Some(Change::Ended(_))) {
                self.ended.recv().await;
            }
        };
        if tokio::time::timeout(STOP_FOR, gone).await.is_err() {
            child.signal(Signal::KILL);
        }
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
