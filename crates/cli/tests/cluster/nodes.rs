//! A cluster of real processes for tests that do it harm: each node can be killed, stopped, started again with or without its
//! data, and asked for its figures. All end with the test, also with one that fails; then their logs are printed.

use core::time::Duration;
use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
};

use rustix::process::{Pid, Signal};

use crate::{
    common::{Chance, LONG, Process, lockstead, now_nanos, until},
    net::Net,
    wires::Wires,
};

/// Ports of a node: clients, and from there its peers and its admin page.
const PEER: u16 = 1;
const ADMIN: u16 = 2;
/// Where a wire to its peer port begins.
const WIRE: u16 = 3;
/// The port of a node that has an address of its own.
const PORT: u16 = 7_600;
/// From one node to the next, as `lockstead dev` has them.
const STRIDE: u16 = 10;

/// The nodes, counted from 1, those included that do not run now.
pub(crate) struct Cluster {
    folder: tempfile::TempDir,
    place: Place,
    seats: u16,
    /// What a node's environment has besides, and its command line.
    extra: BTreeMap<u16, Extra>,
    nodes: Vec<Option<Running>>,
}

/// How a node differs from the others.
#[derive(Clone, Default)]
struct Extra {
    environment: Vec<(&'static str, PathBuf)>,
    words: Vec<&'static str>,
}

/// Where the nodes are.
enum Place {
    /// On loopback, the ports from here on.
    Loopback(u16),
    /// The same, and the ports at which they reach each other are those of wires.
    Wired(u16),
    /// Each in a network of its own.
    Apart(Net),
}

/// A node's process, and whether it has said that it is ready.
struct Running {
    process: Process,
    ready: Receiver<()>,
    is_ready: bool,
}

impl Cluster {
    /// So many nodes that have formed a cluster and are ready.
    pub(crate) fn of(count: u16) -> Cluster {
        Cluster::prepared(count, |_| ())
    }

    /// The same, each node in a network of its own; nothing where that is not possible here.
    pub(crate) fn apart(count: u16) -> Option<Cluster> {
        let net = Net::of(count)?;
        Some(Cluster::at_place(count, Place::Apart(net), |_| ()))
    }

    /// The same as [`Cluster::of`], with something done to a node's data directory before the node is started.
    pub(crate) fn prepared(count: u16, prepare: impl Fn(&Path)) -> Cluster {
        Cluster::at_place(count, Place::Loopback(free_base(count)), prepare)
    }

    /// The same as [`Cluster::of`], with wires between the nodes.
    pub(crate) fn wired(count: u16) -> (Cluster, Wires) {
        let (base, wires) = (free_base(count), Wires::default());
        for node in 0..count {
            let port = base + node * STRIDE;
            wires.lay(port + WIRE, port + PEER);
        }
        (Cluster::at_place(count, Place::Wired(base), |_| ()), wires)
    }

    /// So many nodes of which the last is a witness: it votes and masters nothing.
    pub(crate) fn with_witness(count: u16) -> Cluster {
        let mut cluster = Cluster::waiting(count);
        cluster.extra.entry(count).or_default().words = vec!["--weight", "0"];
        for node in cluster.all() {
            cluster.start(node);
        }
        for node in cluster.all() {
            cluster.wait_ready(node);
        }
        cluster.wait_figure(1, "members_up", |up| up == count.into());
        cluster
    }

    /// So many nodes that are not started yet.
    pub(crate) fn waiting(count: u16) -> Cluster {
        Cluster::at(count, Place::Loopback(free_base(count)))
    }

    fn at(count: u16, place: Place) -> Cluster {
        let folder = tempfile::tempdir().expect("a folder");
        let nodes = (0..count).map(|_| None).collect();
        Cluster { folder, place, seats: count, extra: BTreeMap::new(), nodes }
    }

    /// A node has this in its environment from its next start on.
    pub(crate) fn with_environment(&mut self, node: u16, environment: &[(&'static str, PathBuf)]) {
        self.extra.entry(node).or_default().environment = environment.to_vec();
    }

    fn at_place(count: u16, place: Place, prepare: impl Fn(&Path)) -> Cluster {
        let mut cluster = Cluster::at(count, place);
        for node in 1..=count {
            prepare(&cluster.data(node));
            cluster.start(node);
        }
        for node in 1..=count {
            cluster.wait_ready(node);
        }
        cluster.wait_whole(count, count.into());
        cluster
    }

    /// The network between the nodes, where each has one of its own.
    pub(crate) fn net(&self) -> &Net {
        match &self.place {
            Place::Apart(net) => net,
            Place::Loopback(_) | Place::Wired(_) => panic!("they share loopback"),
        }
    }

    /// The numbers of all nodes.
    pub(crate) fn all(&self) -> Vec<u16> {
        (1..).take(self.nodes.len()).collect()
    }

    /// Starts a node that does not run, and does not wait for it.
    pub(crate) fn start(&mut self, node: u16) {
        let seats: Vec<String> = (1..=self.seats).map(|n| format!("{n}={}", self.peer(n))).collect();
        self.start_with(node, &["--seats", &seats.join(",")]);
    }

    /// Starts a node with these words of its command line besides the usual ones.
    pub(crate) fn start_with(&mut self, node: u16, words: &[&str]) {
        let mut command = match &self.place {
            Place::Loopback(_) | Place::Wired(_) => lockstead(),
            Place::Apart(net) => net.command(node, lockstead().get_program()),
        };
        command.args(["server", "--insecure-plaintext", "--log", "info", "--node", &node.to_string()]).args(words);
        command.args(["--client-tcp", &self.address(node), "--admin", &self.admin(node)]);
        command.args(["--peer-listen", &self.at_port(node, PEER), "--data"]).arg(self.data(node));
        if let Place::Wired(_) = self.place {
            command.args(["--peer-address", &self.peer(node)]);
        }
        if let Some(extra) = self.extra.get(&node) {
            command.args(&extra.words).envs(extra.environment.iter().cloned());
        }
        let log = OpenOptions::new().create(true).append(true).open(self.log_file(node)).expect("a log");
        command.env("LOCKSTEAD_RUN_DIR", self.file(&format!("run-{node}"))).stdin(Stdio::null());
        let mut process = Process::spawn(command.stdout(Stdio::piped()).stderr(log));
        let (tell, ready) = channel();
        let lines = process.lines();
        std::thread::spawn(move || {
            lines.filter(|line| line == "ready").for_each(|_| tell.send(()).unwrap_or_default())
        });
        self.nodes[index(node)] = Some(Running { process, ready, is_ready: false });
    }

    /// Waits until it serves clients.
    pub(crate) fn wait_ready(&mut self, node: u16) {
        until(&format!("node {node} is ready"), LONG, || {
            assert_eq!(self.running(node).process.ended(), None, "node {node} has ended:\n{}", self.log(node));
            self.is_ready(node).then_some(())
        });
    }

    /// Whether it has said that it serves clients.
    pub(crate) fn is_ready(&mut self, node: u16) -> bool {
        let running = self.running(node);
        running.is_ready |= running.ready.try_recv().is_ok();
        running.is_ready
    }

    /// Ends it with -9.
    pub(crate) fn kill(&mut self, node: u16) {
        self.nodes[index(node)] = None;
    }

    /// Sends it a signal.
    pub(crate) fn signal(&mut self, node: u16, signal: Signal) {
        self.running(node).process.signal(signal);
    }

    /// How it ended by itself, if it has.
    pub(crate) fn ended(&mut self, node: u16) -> Option<ExitStatus> {
        self.running(node).process.ended()
    }
    /// Its process id.
    pub(crate) fn pid(&mut self, node: u16) -> Pid {
        self.running(node).process.pid()
    }

    /// The id of the thread of this name.
    pub(crate) fn thread(&mut self, node: u16, name: &str) -> String {
        let tasks = format!("/proc/{}/task", self.pid(node).as_raw_nonzero());
        let tasks = fs::read_dir(tasks).expect("it runs").map_while(Result::ok);
        let named =
            |task: &fs::DirEntry| fs::read_to_string(task.path().join("comm")).is_ok_and(|is| is.trim() == name);
        let task = tasks.into_iter().find(named).unwrap_or_else(|| panic!("no thread {name}"));
        task.file_name().into_string().expect("a number")
    }

    /// The memory it has now, bytes.
    pub(crate) fn memory(&self, node: u16) -> u64 {
        self.nodes[index(node)].as_ref().map_or(0, |running| running.process.memory())
    }

    /// Waits for its end.
    pub(crate) fn wait_ended(&mut self, node: u16) -> ExitStatus {
        self.running(node).process.wait_for("its end", LONG)
    }

    /// A figure of its admin page; nothing where it does not answer.
    pub(crate) fn figure(&self, node: u16, name: &str) -> Option<u64> {
        value_of(&self.page(node, "/metrics").ok()?, name)
    }

    /// Waits until a figure is as wanted.
    pub(crate) fn wait_figure(&self, node: u16, name: &str, wanted: impl Fn(u64) -> bool) -> u64 {
        until(&format!("{name} of node {node}"), LONG, || self.figure(node, name).filter(|value| wanted(*value)))
    }

    /// Waits until a node sees so many members up, all of them voting: then one may die.
    pub(crate) fn wait_whole(&self, node: u16, members: u64) {
        self.wait_figure(node, "members_up", |up| up == members);
        until(&format!("node {node} sees all vote"), LONG, || {
            let page = self.page(node, "/metrics").ok()?;
            let [voters, changing] = ["group_voters", "group_voters_changing"].map(|name| value_of(&page, name));
            (voters == Some(members) && changing == Some(0)).then_some(())
        });
    }

    /// The node that leads the membership group, by what another says.
    pub(crate) fn leader(&self, asked: u16) -> u16 {
        let leader = self.wait_figure(asked, "group_leader", |leader| leader > 0);
        u16::try_from(leader).expect("a node")
    }

    /// Where clients reach it.
    pub(crate) fn address(&self, node: u16) -> String {
        self.at_port(node, 0)
    }

    /// Where other nodes reach it.
    pub(crate) fn peer(&self, node: u16) -> String {
        self.at_port(node, if let Place::Wired(_) = self.place { WIRE } else { PEER })
    }

    fn admin(&self, node: u16) -> String {
        self.at_port(node, ADMIN)
    }

    fn at_port(&self, node: u16, offset: u16) -> String {
        match &self.place {
            Place::Loopback(base) | Place::Wired(base) => format!("127.0.0.1:{}", base + (node - 1) * STRIDE + offset),
            Place::Apart(net) => format!("{}:{}", net.address(node), PORT + offset),
        }
    }

    /// Where clients reach all of them.
    pub(crate) fn endpoints(&self) -> String {
        self.endpoints_of(&self.all())
    }

    /// Where clients reach some of them.
    pub(crate) fn endpoints_of(&self, nodes: &[u16]) -> String {
        nodes.iter().map(|node| self.address(*node)).collect::<Vec<_>>().join(",")
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

    /// A node's data directory.
    pub(crate) fn data(&self, node: u16) -> PathBuf {
        self.file(&format!("node-{node}"))
    }

    fn log_file(&self, node: u16) -> PathBuf {
        self.file(&format!("node-{node}.log"))
    }

    /// What a node has said over all its starts.
    pub(crate) fn log(&self, node: u16) -> String {
        fs::read_to_string(self.log_file(node)).unwrap_or_default()
    }

    /// `lockstead ARGS` against all nodes.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = lockstead();
        command.args(args).current_dir(self.folder()).stdin(Stdio::null());
        command.env("LOCKSTEAD_ENDPOINTS", self.endpoints()).env("LOCKSTEAD_RUN_DIR", self.file("run"));
        command
    }

    fn running(&mut self, node: u16) -> &mut Running {
        self.nodes[index(node)].as_mut().unwrap_or_else(|| panic!("node {node} does not run"))
    }

    /// A page of its admin port.
    pub(crate) fn page(&self, node: u16, path: &str) -> std::io::Result<String> {
        let address = self.admin(node).parse().expect("an address");
        let connect = || TcpStream::connect_timeout(&address, Duration::from_secs(1));
        let mut stream = match &self.place {
            Place::Loopback(_) | Place::Wired(_) => connect()?,
            // A node's own network is always there.
            Place::Apart(net) => net.within(node, connect)?,
        };
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")?;
        let mut page = String::new();
        stream.read_to_string(&mut page)?;
        Ok(page)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let figures = if std::thread::panicking() { self.figures() } else { String::new() };
        // All at once, so that none takes another's end for a fault.
        self.nodes.clear();
        if std::thread::panicking() {
            println!("{figures}");
            for node in self.all_with_logs() {
                let log = self.log(node);
                let lines: Vec<&str> = log.lines().collect();
                println!("--- node {node}:\n{}", lines[lines.len().saturating_sub(30)..].join("\n"));
            }
        }
    }
}

/// What is worth knowing of a node when a test has failed.
const FIGURES: [&str; 13] = [
    "epoch",
    "group_leader",
    "members_up",
    "group_voters",
    "group_voters_changing",
    "group_spare",
    "slots_mastered",
    "slots_taking_over",
    "taking_over_ms",
    "links_missing",
    "directory_sessions",
    "sessions",
    "authority_ms",
];

impl Cluster {
    fn figures(&self) -> String {
        let of_node = |node: u16| {
            let page = self.page(node, "/metrics").unwrap_or_default();
            let figure = |name: &&str| Some(format!(" {name} {}", value_of(&page, name)?));
            format!("node {node}:{}", FIGURES.iter().filter_map(figure).collect::<String>())
        };
        self.all().into_iter().map(of_node).collect::<Vec<_>>().join("\n")
    }

    fn all_with_logs(&self) -> Vec<u16> {
        (1..=64).filter(|node| self.log_file(*node).exists()).collect()
    }
}

fn value_of(page: &str, name: &str) -> Option<u64> {
    let line = page.lines().find_map(|line| line.strip_prefix(&format!("lockstead_{name} ")))?;
    line.trim().parse().ok()
}

fn index(node: u16) -> usize {
    usize::from(node) - 1
}

/// A port from which on all nodes' ports are free, below those the system gives out by itself.
fn free_base(count: u16) -> u16 {
    let mut chance = Chance::of(u64::from(std::process::id()) ^ now_nanos());
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    // Room for some that join.
    let ports = |base: u16| {
        (0..count + 4).flat_map(move |node| [0, PEER, ADMIN, WIRE].map(|offset| base + node * STRIDE + offset))
    };
    (0..50)
        .map(|_| 12_000 + u16::try_from(chance.below(18_000)).expect("small"))
        .find(|base| ports(*base).all(free))
        .expect("no free ports")
}
