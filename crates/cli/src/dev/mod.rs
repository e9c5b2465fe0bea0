//! `lockstead dev`: a ready node or cluster on loopback, of real processes, so that one can be killed and started again.

mod node;
mod ports;

use std::{
    ffi::OsString,
    fs::Permissions,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use rustix::process::{Pid, Signal};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    child::exit_of,
    exit::{Exit, Failure, Outcome},
    output::{tell, write_out},
    runtime,
};

use node::Nodes;
use ports::Base;

const LONG: &str = "\
Run a ready node on this machine, or a ready cluster, for trying out and for tests.

Prints `node 1 pid PID client ADDRESS admin URL` for each node, the command that starts that node again should it be killed, \
then `ready`. Ctrl-C stops all. With -- CMD it runs CMD with LOCKSTEAD_ENDPOINTS set to all nodes and this program's folder \
first in PATH, and stops with CMD's status: a test suite needs nothing else. Its own lines go to standard error then.

Every node is a process of its own. When one is killed, this command says so and goes on, so that the node can be started \
again by hand; such a node is not stopped with the others. Of three nodes the other two go on serving meanwhile.";

const AFTER: &str = "\
Examples:
  lockstead dev
  lockstead dev --port auto -- cargo test
  lockstead dev -- lockstead shell stories/queues.txt
  lockstead dev --data ./data       (tokens go on rising over restarts)
  lockstead dev --nodes 3           (three members: kill one, the others take its locks over)
  lockstead dev --nodes 3 --port auto -- ./my-tests.sh";

/// Options of `lockstead dev`.
#[derive(Debug, clap::Args)]
#[command(long_about = LONG, after_long_help = AFTER)]
pub(crate) struct Args {
    /// How many nodes; more than one are the members of a cluster
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    nodes: u16,
    /// Clients of node 1 connect here, the admin page is 2 above, the next node 10 above; `auto` takes free ports
    #[arg(long, value_name = "BASE", default_value = "7600", value_parser = Base::parse)]
    port: Base,
    /// Data directory; without it a fresh one that is removed at the end, unless a node that was started again by hand uses it
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// What to run against the nodes
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Outcome {
    runtime::run(dev(args))
}

async fn dev(args: &Args) -> Outcome {
    let mut stop = Stop::listen()?;
    let fresh = if args.data.is_none() { Some(fresh_folder()?) } else { None };
    let data = match (&args.data, &fresh) {
        (Some(given), _) => std::path::absolute(given)?,
        (None, Some(fresh)) => fresh.path().to_owned(),
        (None, None) => return Err(Exit::Failed.because("no data directory")),
    };
    let mut nodes = Nodes::start(args.port, args.nodes, &data)?;
    let ready = tokio::select! {
        lines = nodes.until_ready() => lines,
        signal = stop.asked() => Err(Failure { exit: exit_of(signal), message: String::new() }),
    };
    let outcome = match ready {
        Ok(lines) => serve(args, &mut nodes, &lines, &mut stop).await,
        Err(failure) => Err(failure),
    };
    let again = nodes.stop().await;
    if let (Some(fresh), false) = (fresh, again.is_empty()) {
        keep(fresh, &again);
    }
    outcome
}

/// A data directory for nobody but us.
fn fresh_folder() -> std::io::Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix("lockstead-dev-").permissions(Permissions::from_mode(0o700)).tempdir()
}

/// A node that somebody started again by hand goes on, and needs what it has written.
fn keep(fresh: tempfile::TempDir, again: &[u16]) {
    let path = fresh.keep();
    let nodes: Vec<String> = again.iter().map(u16::to_string).collect();
    let (noun, verb) = if again.len() == 1 { ("node", "goes") } else { ("nodes", "go") };
    tell(&format!(
        "{noun} {} started again by hand {verb} on, so the data stays: stop what runs, then remove {}",
        nodes.join(", "),
        path.display()
    ));
}

async fn serve(args: &Args, nodes: &mut Nodes, lines: &str, stop: &mut Stop) -> Outcome {
    let lines = format!("{lines}ready\n");
    if args.command.is_empty() {
        write_out(&lines)?;
        nodes.watch_until(stop.asked()).await;
        return Ok(Exit::Success);
    }
    eprint!("{lines}");
    run_command(&args.command, nodes, stop).await
}

/// Runs CMD in our own process group: Ctrl-C reaches it without us.
async fn run_command(command: &[OsString], nodes: &mut Nodes, stop: &mut Stop) -> Outcome {
    let Some((program, words)) = command.split_first() else { return Ok(Exit::Success) };
    let mut child = std::process::Command::new(program);
    child.args(words).env("LOCKSTEAD_ENDPOINTS", nodes.endpoints()).stdin(Stdio::inherit());
    if let Some(path) = path_with_us() {
        child.env("PATH", path);
    }
    let mut ended = signal(SignalKind::child())?;
    let mut child = child.spawn().map_err(|error| {
        let found = error.kind() != std::io::ErrorKind::NotFound;
        let exit = if found { Exit::NotRunnable } else { Exit::NotFound };
        exit.because(format!("{}: {error}", program.to_string_lossy()))
    })?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(crate::child::exit_of_status(status));
        }
        tokio::select! {
            _ = ended.recv() => {}
            signal = stop.asked() => {
                // Typed at a terminal, SIGINT has reached CMD already.
                if let (Some(pid), true) = (pid, signal != Signal::INT) {
                    let _ = rustix::process::kill_process(pid, signal);
                }
            }
            () = nodes.watch_until(core::future::pending::<()>()) => {}
        }
    }
}

/// `PATH` with the folder of this program first, so that CMD finds `lockstead`.
fn path_with_us() -> Option<OsString> {
    let us = std::env::current_exe().ok()?.parent().map(Path::to_owned)?;
    let rest = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(core::iter::once(us).chain(std::env::split_paths(&rest))).ok()
}

/// Signals that ask this command to end.
struct Stop {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Stop {
    fn listen() -> Result<Stop, Failure> {
        Ok(Stop {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next one. Cancellation safe.
    async fn asked(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.hangup.recv() => Signal::HUP,
        }
    }
}

/// A node that died, said to the user.
fn died(node: u16, how: Exit, command_line: &str) {
    let how = match how {
        Exit::Signal(n) => format!("was killed by signal {n}"),
        other => format!("ended with status {}", other.code()),
    };
    tell(&format!("node {node} {how}; start it again with: {command_line}"));
}
