//! What the process tests share: a node of their own, commands against it, waiting for a state of another process, and
//! chance from a seed that is printed.
#![allow(dead_code, reason = "each test file is a program of its own and uses some of it")]

pub(crate) mod cluster;

use core::time::Duration;
use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    time::Instant,
};

use rustix::process::{Pid, Signal, kill_process};

/// How long anything may take that should take no time, on a machine that is busy with other things.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// The program under test.
pub(crate) fn lockstead() -> Command {
    Command::new(env!("CARGO_BIN_EXE_lockstead"))
}

/// A node in a process of its own, with a folder of its own for its sockets, its data and the files of the test. It is
/// killed when dropped.
pub(crate) struct Node {
    folder: tempfile::TempDir,
    port: u16,
    process: Process,
}

impl Node {
    /// `lockstead server` with a data folder, ready.
    pub(crate) fn start() -> Node {
        let folder = tempfile::tempdir().expect("a folder");
        let mut chance = Chance::of(u64::from(std::process::id()) ^ now_nanos());
        for _ in 0..20 {
            // Below the range from which the system gives out ports by itself, so that nothing takes it while the node is
            // down.
            let port = 12_000 + u16::try_from(chance.below(18_000)).expect("small");
            if let Some(process) = start(folder.path(), port) {
                return Node { folder, port, process };
            }
        }
        panic!("no node came up at any of 20 ports");
    }

    /// Starts it again after [`Node::kill`], at the same port, with the same data.
    pub(crate) fn start_again(&mut self) {
        self.process = start(self.folder.path(), self.port).expect("the port is still ours");
    }

    /// Ends it with -9.
    pub(crate) fn kill(&mut self) {
        self.process.signal(Signal::KILL);
        self.process.wait();
    }

    /// The folder for the files of the test; commands run in it.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A file of the test.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What a file of the test holds, without the last line break; nothing while it is not there.
    pub(crate) fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.file(name)).ok().map(|text| text.trim_end().to_string())
    }

    /// The memory it has now, bytes.
    pub(crate) fn memory(&self) -> u64 {
        self.process.memory()
    }

    /// Where it listens, as users write it.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where it listens for programs without a Unix socket.
    pub(crate) fn tcp(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.port)
    }

    /// `lockstead ARGS` against this node, by its Unix socket.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = lockstead();
        command.args(args);
        self.at_home(&mut command);
        command
    }

    /// A shell script in this node's folder in which `$LOCKSTEAD` is the program.
    pub(crate) fn script(&self, text: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", text]).env("LOCKSTEAD", env!("CARGO_BIN_EXE_lockstead"));
        self.at_home(&mut command);
        command
    }

    fn at_home(&self, command: &mut Command) {
        command.current_dir(self.folder()).env("LOCKSTEAD_ENDPOINTS", self.address());
        command.env("LOCKSTEAD_RUN_DIR", self.file("run")).stdin(Stdio::null());
    }
}

/// A node at that port with the folder's data, or nothing if it did not come up: another program may have taken a port.
fn start(folder: &Path, port: u16) -> Option<Process> {
    let mut command = lockstead();
    command.args(["server", "--log", "warn", "--client-tcp", &format!("127.0.0.1:{port}"), "--data"]);
    command.arg(folder.join("data"));
    command.env("LOCKSTEAD_RUN_DIR", folder.join("run")).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut process = Process::spawn(&mut command);
    let mut lines = process.lines();
    // It says `ready` last; if it ends before, there is an end of file instead.
    while let Some(line) = lines.next() {
        if line == "ready" {
            // Its later lines have a reader for as long as it lives, so that it never waits for one.
            std::thread::spawn(move || lines.for_each(drop));
            return Some(process);
        }
    }
    process.wait();
    None
}

pub(crate) fn now_nanos() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    u64::from(since.subsec_nanos())
}

/// A process that is killed when dropped.
pub(crate) struct Process(Child);

impl Process {
    /// Starts it.
    pub(crate) fn spawn(command: &mut Command) -> Process {
        Process(command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}")))
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    /// The memory it has now, bytes.
    pub(crate) fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel says so");
        let kilobytes: u64 = line.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a number");
        kilobytes * 1024
    }

    /// Sends it a signal. It has not been waited for, so its id is its own.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it has not been waited for");
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.0.wait().expect("a child of ours")
    }

    /// Waits for its end, up to a limit; fails the test beyond it.
    pub(crate) fn wait_for(&mut self, what: &str, limit: Duration) -> ExitStatus {
        until(what, limit, || self.0.try_wait().expect("a child of ours"))
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().expect("a child of ours")
    }

    /// What it writes, line by line; its standard output must be piped.
    pub(crate) fn lines(&mut self) -> impl Iterator<Item = String> + Send + use<> {
        let output: ChildStdout = self.0.stdout.take().expect("piped");
        BufReader::new(output).lines().map_while(Result::ok)
    }

    /// Its standard error, which must be piped.
    pub(crate) fn errors(&mut self) -> std::process::ChildStderr {
        self.0.stderr.take().expect("piped")
    }

    /// Its standard input, which must be piped.
    pub(crate) fn input(&mut self) -> std::process::ChildStdin {
        self.0.stdin.take().expect("piped")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Looks until there is something to see; fails the test when `limit` has passed.
pub(crate) fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(start.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Lets time pass where the moment is the test's own choice and there is no state to wait for.
pub(crate) fn pass(time: Duration) {
    std::thread::sleep(time);
}

/// Whether a process runs: it is there, and is not merely waiting for its parent to ask how it ended.
pub(crate) fn runs(pid: &str) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}

/// Numbers that look random and are the same for the same seed (xorshift).
pub(crate) struct Chance(u64);

impl Chance {
    /// From a seed.
    pub(crate) fn of(seed: u64) -> Chance {
        Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}
