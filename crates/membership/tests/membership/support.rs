//! A group of nodes, each with its files and its port.

use core::{
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use lockstead_cluster::{Command, Seat, State, StewardConfig};
use lockstead_membership::{Config, Event, Membership, RAFT_MAGIC, Status, Timing};
use lockstead_types::{NodeId, SessionId, Span, Time, peer::Incarnation};
use parking_lot::{Condvar, Mutex};
use std::{
    io::Read,
    net::{TcpListener, TcpStream},
    path::PathBuf,
    sync::Arc,
    thread::JoinHandle,
    time::Instant,
};
use tempfile::TempDir;

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a node has been told.
#[derive(Default)]
pub(crate) struct Heard {
    /// As a node keeps it: from `Started` on, each command applied.
    pub(crate) state: Option<State>,
    pub(crate) incarnation: Option<Incarnation>,
    /// The newest authority.
    pub(crate) authority: Option<Time>,
    pub(crate) fatal: Option<String>,
    /// When the command that made each version was heard.
    pub(crate) at: Vec<(u64, Instant)>,
    pub(crate) snapshots: u32,
}

impl Heard {
    fn hear(&mut self, event: Event) {
        match event {
            Event::Started { incarnation, state } => {
                assert!(self.state.is_none(), "started twice");
                self.incarnation = Some(incarnation);
                self.state = Some(*state);
            }
            Event::Committed(command) => {
                let state = self.state.as_mut().expect("a command before the start");
                let _ = state.apply(&command);
                self.at.push((state.version, Instant::now()));
            }
            Event::Snapshot(state) => {
                assert!(self.state.is_some(), "a snapshot before the start");
                self.state = Some(*state);
                self.snapshots += 1;
            }
            Event::Authority { sent, .. } => {
                assert!(self.authority < Some(sent), "authority goes back");
                self.authority = Some(sent);
            }
            // Its process would start anew; no test lags so far.
            Event::Overtaken => self.fatal = Some("overtaken".into()),
            Event::Fatal(why) => self.fatal = Some(why),
        }
    }

    pub(crate) fn has(&self, look: impl Fn(&State) -> bool) -> bool {
        self.state.as_ref().is_some_and(look)
    }
}

#[derive(Default)]
struct Ear {
    heard: Mutex<Heard>,
    news: Condvar,
    /// Whether it takes no command.
    deaf: Mutex<bool>,
    hears: Condvar,
}

impl Ear {
    fn hear(&self, event: Event) {
        if matches!(event, Event::Committed(_)) {
            self.hears.wait_while(&mut self.deaf.lock(), |deaf| *deaf);
        }
        self.heard.lock().hear(event);
        self.news.notify_all();
    }
}

/// A node that runs.
pub(crate) struct Node {
    pub(crate) membership: Arc<Membership>,
    ear: Arc<Ear>,
    door: Door,
}

impl Node {
    pub(crate) fn status(&self) -> Status {
        self.membership.status()
    }

    pub(crate) fn propose(&self, command: &Command) {
        self.membership.propose(command);
    }

    /// Waits until what was heard is so.
    pub(crate) fn wait(&self, what: &str, so: impl Fn(&Heard) -> bool) {
        let until = Instant::now() + PATIENCE;
        let mut heard = self.ear.heard.lock();
        while !so(&heard) {
            let late = self.ear.news.wait_until(&mut heard, until).timed_out();
            assert!(!late, "never: {what}; {:?}; fatal: {:?}", self.status(), heard.fatal);
        }
    }

    /// Whether it becomes so within a time.
    pub(crate) fn comes(&self, within: Duration, so: impl Fn(&Heard) -> bool) -> bool {
        let until = Instant::now() + within;
        let mut heard = self.ear.heard.lock();
        while !so(&heard) {
            if self.ear.news.wait_until(&mut heard, until).timed_out() {
                return so(&heard);
            }
        }
        true
    }

    /// From the next command on it takes none, until told otherwise.
    pub(crate) fn stop_its_ears(&self, deaf: bool) {
        *self.ear.deaf.lock() = deaf;
        self.ear.hears.notify_all();
    }

    pub(crate) fn heard<T>(&self, look: impl FnOnce(&Heard) -> T) -> T {
        look(&self.ear.heard.lock())
    }
}

/// Nodes 1, 2, ...; those that do not run are `None`.
pub(crate) struct Group {
    folder: TempDir,
    ports: Vec<u16>,
    timing: Timing,
    pub(crate) nodes: Vec<Option<Node>>,
}

impl Group {
    /// So many nodes that run and are not formed into a cluster.
    pub(crate) fn running(count: usize) -> Group {
        let timing = Timing {
            renewal: Duration::from_millis(200),
            steward: StewardConfig { t_auth: Span::from_millis(1_500), ..StewardConfig::default() },
            ..Timing::default()
        };
        let folder = tempfile::tempdir().unwrap();
        let listeners: Vec<TcpListener> =
            (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
        let ports = listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        drop(listeners);
        let mut group = Group { folder, ports, timing, nodes: (0..count).map(|_| None).collect() };
        (1..=count).for_each(|node| group.start(node));
        group
    }

    /// So many nodes of which the first `seats` are a cluster, all started.
    pub(crate) fn formed(count: usize, seats: usize) -> Group {
        let group = Group::running(count);
        let form = Command::Form {
            seed: 7,
            key: [1; 32],
            seats: (1..=seats).map(|node| group.seat(node)).collect(),
            spaces: Vec::new(),
        };
        group.node(1).membership.form(&form).unwrap();
        (1..=seats).for_each(|node| group.node(node).wait("its start", |heard| heard.incarnation.is_some()));
        group
    }

    pub(crate) fn node(&self, node: usize) -> &Node {
        self.nodes[node - 1].as_ref().unwrap()
    }

    pub(crate) fn folder(&self, node: usize) -> PathBuf {
        self.folder.path().join(node.to_string())
    }

    pub(crate) fn seat(&self, node: usize) -> Seat {
        Seat {
            node: NodeId(node as u16),
            identity: self.node(node).membership.identity(),
            peer_address: format!("127.0.0.1:{}", self.ports[node - 1]),
            client_address: String::new(),
            weight: 1,
        }
    }

    pub(crate) fn start(&mut self, node: usize) {
        self.try_start(node).unwrap();
    }

    pub(crate) fn try_start(&mut self, node: usize) -> std::io::Result<()> {
        let config = Config {
            node: NodeId(node as u16),
            folder: self.folder(node),
            peer_address: format!("127.0.0.1:{}", self.ports[node - 1]),
            client_address: String::new(),
            timing: self.timing,
        };
        let ear = Arc::new(Ear::default());
        let told = Arc::clone(&ear);
        let membership = Membership::start(&config, move |event| told.hear(event));
        let membership = Arc::new(membership?);
        let door = Door::open(self.ports[node - 1], Arc::clone(&membership));
        self.nodes[node - 1] = Some(Node { membership, ear, door });
        Ok(())
    }

    /// Stops a node: its connections break, its port refuses.
    pub(crate) fn stop(&mut self, node: usize) {
        let Node { membership, door, .. } = self.nodes[node - 1].take().unwrap();
        door.close();
        drop(Arc::into_inner(membership).expect("nobody else has it"));
    }

    /// Waits until a look at a node's status satisfies.
    pub(crate) fn wait_status(&self, node: usize, what: &str, so: impl Fn(&Status) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !so(&self.node(node).status()) {
            assert!(Instant::now() < until, "never: {what}; {:?}", self.node(node).status());
            std::thread::yield_now();
        }
    }

    /// The node that leads, once all that run agree on it.
    pub(crate) fn leader(&self) -> usize {
        let until = Instant::now() + PATIENCE;
        loop {
            let told: Vec<_> = self.nodes.iter().flatten().map(|node| node.status().leader).collect();
            if let Some(Some(leader)) = told.first()
                && told.iter().all(|other| *other == Some(*leader))
                && self.nodes[usize::from(leader.0) - 1].is_some()
            {
                return usize::from(leader.0);
            }
            assert!(Instant::now() < until, "no leader: {told:?}");
            std::thread::yield_now();
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for node in 1..=self.nodes.len() {
            if self.nodes[node - 1].is_some() && !std::thread::panicking() {
                self.stop(node);
            }
        }
    }
}

/// A listener, as a server has one.
struct Door {
    address: SocketAddr,
    closed: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Door {
    fn open(port: u16, membership: Arc<Membership>) -> Door {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        let address = listener.local_addr().unwrap();
        let closed = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&closed);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if seen.load(Ordering::SeqCst) {
                    return;
                }
                let mut stream = stream.unwrap();
                let mut first = [0; 8];
                if stream.read_exact(&mut first).is_ok() && first == RAFT_MAGIC {
                    membership.accept(stream, Vec::new()).unwrap();
                }
            }
        });
        Door { address, closed, thread }
    }

    fn close(self) {
        self.closed.store(true, Ordering::SeqCst);
        // It waits for a connection; nobody hears of this one.
        drop(TcpStream::connect(self.address));
        self.thread.join().unwrap();
    }
}

pub(crate) fn open(session: u128, home: usize, incarnation: Incarnation) -> Command {
    Command::OpenSession {
        session: SessionId(session),
        home: NodeId(home as u16),
        incarnation,
        ttl: Span::from_secs(600),
        principal: "someone".into(),
        local: false,
    }
}

pub(crate) fn has_session(session: u128) -> impl Fn(&Heard) -> bool {
    move |heard| heard.has(|state| state.sessions.contains_key(&SessionId(session)))
}
