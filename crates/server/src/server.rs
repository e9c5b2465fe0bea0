//! A server: everything put together, started and stopped.

use core::{
    fmt,
    hash::{BuildHasher, Hasher},
    mem,
    net::SocketAddr,
    num::NonZeroUsize,
};
use std::{
    collections::hash_map::RandomState,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
};

use lockstead_membership::Timing;
use lockstead_node::{Input, MemberConfig, Node, NodeConfig, ROWS_A_TURN};
use lockstead_types::{NodeId, Span};
use mio::Poll;
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::{
    admin::Admin,
    clock,
    cluster::{
        leave,
        start::Cancel,
        threads::{Came, MemberThreads},
    },
    config::{ClusterConfig, ConfigError, ServerConfig},
    data::{self, AuditLog, DataDir, DataError, Journal, Recovered},
    guarded::{Afterwards, Core},
    net::{
        event_loop::{EventLoop, WAKER},
        listener::Listener,
    },
    shared::{LoopHandle, Phase, Shared},
    sync,
};

/// The server of one node.
#[derive(Debug)]
pub struct Server;

/// A server that runs. Dropping it stops it as abruptly as a kill would, except that the threads are waited for: nothing
/// is flushed and nobody is told. [`Running::stop`] is the polite way.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    sync: Option<JoinHandle<()>>,
    admin: Option<Admin>,
    client_tcp: Option<SocketAddr>,
    client_unix: Option<PathBuf>,
    epoch: u32,
    member: Option<MemberThreads>,
    // Last, so that no other server uses the directory before every thread has ended.
    directory: Option<DataDir>,
}

/// Asks a server to stop from elsewhere, such as a signal handler's thread.
#[derive(Clone, Debug)]
pub struct Stopper {
    shared: Arc<Shared>,
}

/// Why a server did not start.
#[derive(Debug)]
pub enum StartError {
    /// The configuration does not allow it.
    Config(ConfigError),
    /// The data directory, or the folder of the socket, cannot be used.
    Data(DataError),
    /// An address cannot be listened on.
    Listen {
        /// The key of the configuration that names it.
        key: &'static str,
        /// Which.
        at: String,
        /// What the operating system said.
        error: io::Error,
    },
    /// The operating system refused threads or epoll instances.
    System(io::Error),
    /// The membership group of the cluster cannot be used.
    Group(String),
    /// The members agreed on more since this start of the node than it can be told. Started again, it takes part.
    Overtaken,
    /// It was cancelled.
    Cancelled,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Config(error) => error.fmt(f),
            StartError::Data(error) => error.fmt(f),
            StartError::Listen { key, at, error } => {
                write!(
                    f,
                    "cannot listen on {at}: {error}; `{key}` in the configuration, or --{}",
                    key.replace('_', "-")
                )
            }
            StartError::System(error) => write!(f, "cannot start: {error}"),
            StartError::Group(why) => write!(f, "the membership group: {why}"),
            StartError::Overtaken => f.write_str("the cluster went on faster than this start of the node could follow"),
            StartError::Cancelled => f.write_str("asked to stop before it was ready"),
        }
    }
}

impl core::error::Error for StartError {}

/// Why a server ended that nobody had asked to. What it granted is in its journal; it can be started again once the cause
/// is gone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failed {
    /// It cannot go on; why.
    Broken(String),
    /// The cluster has gone on without it, because it was not heard of for too long. Started again, it takes part again.
    Out,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failed::Broken(why) => f.write_str(why),
            Failed::Out => {
                f.write_str("this node was not heard of for too long, and the cluster has gone on without it")
            }
        }
    }
}

impl core::error::Error for Failed {}

impl Server {
    /// Starts a server. When this returns, clients can connect. For a member of a cluster that may take as long as no majority
    /// of the members is there.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left behind but, perhaps, an epoch that was raised without being used.
    pub fn start(config: ServerConfig) -> Result<Running, StartError> {
        Server::start_unless(config, &Cancel::default())
    }

    /// The same, until it is cancelled.
    ///
    /// # Errors
    /// As [`Server::start`], and [`StartError::Cancelled`].
    pub fn start_unless(config: ServerConfig, cancel: &Cancel) -> Result<Running, StartError> {
        config.check().map_err(StartError::Config)?;
        raise_file_limit();
        // Addresses before the data directory: a start that fails for a port in use costs no epoch. Nobody is let in yet.
        let tcp = config.client_tcp.map(Listener::tcp).transpose()?;
        let admin = config.admin.map(Admin::start).transpose()?;
        let client_tcp = tcp.as_ref().map(|(_, address)| *address);
        let parts = match &config.cluster {
            None => {
                tcp.iter().try_for_each(|(listener, _)| listener.listen())?;
                Parts::alone(&config)?
            }
            Some(cluster) => Parts::member(&config, cluster, client_tcp, cancel)?,
        };
        let unix = config.client_unix.as_deref().map(Listener::unix).transpose()?;
        tcp.iter().map(|(listener, _)| listener).chain(&unix).try_for_each(Listener::listen)?;
        let Parts { node, directory, journal, audit, member } = parts;
        let epoch = node.status(clock::now()).epoch;
        let core = Core::new(node, journal, audit);
        let (polls, handles) = polls(threads(config.threads)).map_err(StartError::System)?;
        let cluster = member.as_ref().map(|member| Arc::clone(&member.cluster));
        let shared = Arc::new(Shared::new(core, &config.limits, config.mode_tables, handles, cluster));
        let listeners = tcp.map(|(listener, _)| listener).into_iter().chain(unix).collect();
        let mut running = Running {
            shared,
            threads: Vec::new(),
            sync: None,
            admin,
            client_tcp,
            client_unix: config.client_unix,
            epoch,
            member,
            directory,
        };
        let spin = Span::from_nanos(u64::from(config.spin_us) * 1_000);
        running.start_threads(polls, listeners, spin).map_err(StartError::System)?;
        Ok(running)
    }
}

/// What a server is made of that differs between a node alone and a member of a cluster.
struct Parts {
    node: Node,
    directory: Option<DataDir>,
    journal: Option<Journal>,
    audit: Option<AuditLog>,
    member: Option<MemberThreads>,
}

impl Parts {
    fn alone(config: &ServerConfig) -> Result<Parts, StartError> {
        let Some(path) = &config.data else {
            let node = node(config, ephemeral(config), None);
            return Ok(Parts { node, directory: None, journal: None, audit: None, member: None });
        };
        let opened = data::open(path, config.node, config.epoch_min, &config.spaces).map_err(StartError::Data)?;
        let node = node(config, opened.recovered, None);
        let (journal, audit) = (Some(opened.journal), Some(opened.audit));
        Ok(Parts { node, directory: Some(opened.directory), journal, audit, member: None })
    }

    fn member(
        config: &ServerConfig,
        cluster: &ClusterConfig,
        client_tcp: Option<SocketAddr>,
        cancel: &Cancel,
    ) -> Result<Parts, StartError> {
        let (threads, came) = MemberThreads::start(config, cluster, client_tcp, cancel)?;
        let Came { incarnation, state, directory, audit } = came;
        let member = Some(MemberConfig {
            incarnation,
            state,
            rows_a_turn: ROWS_A_TURN,
            staleness: Timing::default().steward.t_auth,
        });
        let node = node(config, Recovered::nothing(1, &[]), member);
        Ok(Parts { node, directory: Some(directory), journal: None, audit: Some(audit), member: Some(threads) })
    }
}

impl Running {
    /// Where clients connect over TCP, with the port that was taken.
    #[must_use]
    pub fn client_tcp(&self) -> Option<SocketAddr> {
        self.client_tcp
    }

    /// The Unix socket.
    #[must_use]
    pub fn client_unix(&self) -> Option<&Path> {
        self.client_unix.as_deref()
    }

    /// Where the admin endpoints are.
    #[must_use]
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(Admin::address)
    }

    /// The epoch of this start; 1 for a server without a data directory.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Whether tokens and sessions outlive the server: whether it has a data directory.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.directory.is_some()
    }

    /// Where other nodes connect.
    #[must_use]
    pub fn peer_tcp(&self) -> Option<SocketAddr> {
        self.member.as_ref().map(|member| member.address)
    }

    /// Something that stops this server from elsewhere.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper { shared: Arc::clone(&self.shared) }
    }

    /// Stops gracefully: no new connections and sessions, what was read is answered, at most two seconds are given to
    /// clients to take what they were sent. Sessions stay recorded: with a data directory they can be taken up after the
    /// next start.
    ///
    /// # Errors
    /// [`Failed`] where the server had ended before for another reason.
    pub fn stop(self) -> Result<(), Failed> {
        self.stopper().stop();
        self.wait()
    }

    /// Waits until the server has stopped, because it was asked to or because it cannot go on.
    ///
    /// # Errors
    /// [`Failed`] says why it cannot go on.
    pub fn wait(mut self) -> Result<(), Failed> {
        for thread in mem::take(&mut self.threads) {
            self.join(thread);
        }
        if self.member.is_some() {
            leave::go(&self.shared);
        }
        let mut core = self.shared.core.lock();
        let synced = core.journal.as_mut().map_or(Ok(()), |journal| journal.file().sync_data());
        if let Err(error) = synced {
            core.halt(Failed::Broken(format!("the journal cannot be made durable: {error}")));
        }
        let failed = core.halted().cloned();
        drop(core);
        failed.map_or(Ok(()), Err)
    }

    /// Waits for a thread. One that panicked has left the node in a state that nobody knows.
    fn join(&self, thread: JoinHandle<()>) {
        if thread.join().is_err() {
            self.shared.halt("a thread panicked".into());
        }
    }

    fn start_threads(&mut self, polls: Vec<Poll>, listeners: Vec<Listener>, spin: Span) -> io::Result<()> {
        let mut listeners = Some(listeners);
        for (index, poll) in polls.into_iter().enumerate() {
            let listeners = listeners.take().unwrap_or_default();
            let event_loop = EventLoop::new(index, Arc::clone(&self.shared), poll, listeners, spin)?;
            let shared = Arc::clone(&self.shared);
            let run = move || {
                let _halt = HaltOnPanic(shared);
                event_loop.run();
            };
            self.threads.push(thread::Builder::new().name(format!("loop-{index}")).spawn(run)?);
        }
        let shared = Arc::clone(&self.shared);
        self.sync = Some(thread::Builder::new().name("journal".into()).spawn(move || {
            let _halt = HaltOnPanic(Arc::clone(&shared));
            sync::run(&shared);
        })?);
        if let Some(admin) = &self.admin {
            admin.open(&self.shared);
        }
        if let Some(member) = &mut self.member {
            member.open(&self.shared)?;
        }
        // The first deadline, such as the end of a freeze, is known from here on.
        let _ = self.shared.turn(self.shared.loops.len(), &mut Afterwards::default(), |_, _| {}, [].into_iter());
        if let Some(first) = self.shared.loops.first() {
            first.wake();
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.advance(Phase::Halted);
        let threads = mem::take(&mut self.threads);
        for thread in threads.into_iter().chain(self.sync.take()) {
            // A panic was reported when it happened; here nobody is left to be told.
            let _ = thread.join();
        }
        self.admin = None;
        if let Some(member) = self.member.take() {
            member.stop();
        }
        // A stopper may keep the shared part alive; its connections must not stay open with it.
        for index in 0..self.shared.loops.len() {
            drop(self.shared.take_commands(index));
        }
        self.shared.core.lock().forget_connections();
    }
}

impl Stopper {
    /// Asks a member of a cluster to hand its slots over to others and then to stop gracefully; a node alone stops at once.
    /// Returns at once. [`Stopper::stop`] meanwhile cuts it short.
    pub fn leave(&self) {
        let stopper = self.clone();
        let leave = move || {
            leave::hand_over(&stopper.shared);
            stopper.stop();
        };
        if self.shared.cluster.is_none() || thread::Builder::new().name("leave".into()).spawn(leave).is_err() {
            self.stop();
        }
    }

    /// Asks the server to stop gracefully. Returns at once; [`Running::wait`] returns when it has stopped.
    pub fn stop(&self) {
        let thread = self.shared.loops.len();
        let _ = self.shared.turn(thread, &mut Afterwards::default(), |_, _| {}, [Input::Stop].into_iter());
        self.shared.advance(Phase::Stopping);
    }
}

/// A panic in one thread must end the server: the others would wait for work that never comes.
pub(crate) struct HaltOnPanic(pub(crate) Arc<Shared>);

impl Drop for HaltOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.halt("a thread panicked".into());
        }
    }
}

fn ephemeral(config: &ServerConfig) -> Recovered {
    tracing::warn!(
        "no data directory: tokens and sessions do not outlive this server, and a restart forgets every lock"
    );
    Recovered::nothing(config.epoch_min.max(1), &config.spaces)
}

fn node(config: &ServerConfig, recovered: Recovered, member: Option<MemberConfig>) -> Node {
    let node_config = NodeConfig {
        node: NodeId(config.node),
        epoch: recovered.epoch,
        limits: config.limits.clone(),
        hash_seed: RandomState::new().build_hasher().finish(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        spaces: recovered.spaces,
        recorded: recovered.sessions,
        ttl_max_recorded: recovered.ttl_max,
        durable: config.data.is_some(),
        member,
    };
    Node::new(node_config, clock::now())
}

fn threads(wanted: usize) -> usize {
    match wanted {
        0 => thread::available_parallelism().map_or(1, NonZeroUsize::get).min(4),
        n => n,
    }
}

fn polls(count: usize) -> io::Result<(Vec<Poll>, Vec<LoopHandle>)> {
    let mut made = (Vec::new(), Vec::new());
    for _ in 0..count {
        let poll = Poll::new()?;
        made.1.push(LoopHandle::new(mio::Waker::new(poll.registry(), WAKER)?));
        made.0.push(poll);
    }
    Ok(made)
}

/// As many file descriptors as the system allows this process: each connection is one.
fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!("the limit of open files cannot be raised: {error}");
        }
    }
}
