//! The one type the rest of the server sees.

use core::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::TcpStream,
    path::PathBuf,
    sync::{Arc, OnceLock},
    thread::JoinHandle,
};

use lockstead_cluster::{Command, StewardConfig};
use lockstead_types::NodeId;
use openraft::SnapshotPolicy;
use openraft::async_runtime::watch::WatchReceiver;
use tokio::{io::AsyncReadExt, runtime::Runtime, sync::mpsc};

use crate::{
    book::Book,
    codec::encode_command,
    courier,
    event::{Event, Feed},
    group::{PeerNode, Raft},
    leader::Leader,
    net::{Network, serve},
    shared::Core,
    starts::{Starts, kept_group},
    store::{Disk, LogStore, Machine},
};

/// Commands that wait to be sent to the leader.
const PROPOSALS: usize = 8_192;
/// Bytes of a command.
const COMMAND_BYTES: usize = 1 << 20;
/// Connections of other nodes at once.
const CONNECTIONS: usize = 8_192;
/// Entries between two snapshots at least; a large state is written more rarely.
const COMPACT: u64 = 4_096;
/// Entries kept after a snapshot, for nodes that are a little behind.
const KEPT: u64 = 1_024;
/// How long forming may take.
const FORMING: Duration = Duration::from_secs(10);

/// How a node takes part in the group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Which node.
    pub node: NodeId,
    /// Where its data is.
    pub folder: PathBuf,
    /// Where others reach it; empty where as before.
    pub peer_address: String,
    /// Where clients reach it; empty where as before.
    pub client_address: String,
    /// Times.
    pub timing: Timing,
}

/// Times of the group. All nodes of a cluster have the same.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Timing {
    /// Between two signs of life of a leader.
    pub heartbeat: Duration,
    /// After this much silence of the leader, at least, an election begins.
    pub election_min: Duration,
    /// And at most.
    pub election_max: Duration,
    /// Between two renewals of authority.
    pub renewal: Duration,
    /// Of evictions and moves.
    pub steward: StewardConfig,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(300),
            election_max: Duration::from_millis(600),
            renewal: Duration::from_millis(500),
            steward: StewardConfig::default(),
        }
    }
}

/// How the group is, as this node knows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Status {
    /// Who leads, if anybody is known to.
    pub leader: Option<NodeId>,
    /// Of this node's vote.
    pub term: u64,
    /// Who votes.
    pub voters: BTreeSet<NodeId>,
    /// Whether another set of voters is on its way: until it is agreed on, a majority of the former set is needed as well.
    pub voters_changing: bool,
    /// How many more voters may die, whichever, and a majority is left; of those that are up as far as this node knows.
    pub spare: usize,
    /// Who follows without a vote.
    pub learners: BTreeSet<NodeId>,
    /// The last entry of this node's log.
    pub last_log: u64,
    /// The last entry that is committed and applied here.
    pub applied: u64,
    /// At the leader: how many entries each other node lacks.
    pub lag: BTreeMap<NodeId, u64>,
    /// Commands applied.
    pub version: u64,
    /// 0 before the cluster is formed, and where it is not known here yet that it is.
    pub epoch: u32,
    /// Whether this node's log has ever held anything: it has been of a group, though it may not know yet what was agreed on.
    pub begun: bool,
}

/// A node's part in the group. Ends when it is dropped.
pub struct Membership {
    core: Arc<Core>,
    /// Whether it had a log when it started.
    begun: bool,
    proposals: mpsc::Sender<Vec<u8>>,
    /// Connections of others.
    served: Arc<tokio::sync::Semaphore>,
    runtime: Option<Runtime>,
    disk: Disk,
    writer: Option<JoinHandle<()>>,
}

impl Membership {
    /// Starts: opens the node's data, or makes it, and takes up its part in the group. `handler` is called on threads of
    /// its own, events of the log one after another; it must not block.
    ///
    /// # Errors
    ///
    /// The data cannot be read, or another process has it.
    pub fn start(config: &Config, handler: impl Fn(Event) + Send + Sync + 'static) -> io::Result<Membership> {
        let feed = Arc::new(Feed::new(config.node, Box::new(handler)));
        let (told, failed) = (Arc::clone(&feed), AtomicBool::new(false));
        let (disk, mut kept, writer) = Disk::open(&config.folder, move |why| {
            if !failed.swap(true, Ordering::Relaxed) {
                told.fatal(why);
            }
        })?;
        if let Some(why) = kept.outdated.take() {
            return Err(io::Error::other(why));
        }
        let kept_group = kept_group(&kept)?;
        let starts = Starts::begin(core::mem::take(&mut kept.starts), draw()?);
        feed.begin(starts.nonce());
        let log = LogStore::new(disk.clone(), &mut kept);
        let machine = Machine::new(disk.clone(), &mut kept, Arc::clone(&feed))?;
        let book = Arc::new(Book::new(config.node, kept.identity, kept_group, machine.applied()));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("membership")
            .enable_io()
            .enable_time()
            .build()?;
        let raft_config = Arc::new(raft_config(&config.timing).validate().map_err(io::Error::other)?);
        let network = Network(Arc::clone(&book));
        let raft = runtime
            .block_on(Raft::new(u64::from(config.node.0), raft_config, network, log.clone(), machine))
            .map_err(io::Error::other)?;
        let begun = runtime.block_on(raft.is_initialized()).map_err(io::Error::other)?;
        let (leader, office) = Leader::new();
        let alive = OnceLock::new();
        let core = Arc::new(Core { raft, log, disk: disk.clone(), book, feed, leader, alive });
        let (proposals, queue) = mpsc::channel(PROPOSALS);
        {
            let _inside = runtime.enter();
            office.open(&core, config.timing.steward);
            tokio::spawn(courier::carry_proposals(Arc::clone(&core), queue));
            let start = start(config, &core, starts.nonce());
            tokio::spawn(courier::propose_start(Arc::clone(&core), proposals.clone(), start, starts));
            tokio::spawn(courier::renew(Arc::clone(&core), config.timing.renewal));
            tokio::spawn(watch(Arc::clone(&core)));
        }
        let served = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS));
        Ok(Membership { core, begun, proposals, served, runtime: Some(runtime), disk, writer: Some(writer) })
    }

    /// The identity of this node's data, by which it is admitted.
    #[must_use]
    pub fn identity(&self) -> u128 {
        self.core.book.own().1
    }

    /// From now on this node's authority is renewed only while `alive` says so; it is asked before each renewal, and must not block.
    /// To be called once.
    pub fn renew_while(&self, alive: impl Fn() -> bool + Send + Sync + 'static) {
        let _ = self.core.alive.set(Box::new(alive));
    }

    /// Takes over a connection that began with [`crate::RAFT_MAGIC`]; `rest` was read after that.
    ///
    /// # Errors
    ///
    /// The connection cannot be used, or there are too many.
    pub fn accept(&self, stream: TcpStream, rest: Vec<u8>) -> io::Result<()> {
        let Some(runtime) = &self.runtime else { return Ok(()) };
        let place = Arc::clone(&self.served).try_acquire_owned().map_err(io::Error::other)?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let _inside = runtime.enter();
        let stream = tokio::net::TcpStream::from_std(stream)?;
        let core = Arc::clone(&self.core);
        tokio::spawn(async move {
            let (reader, writer) = stream.into_split();
            let reader = io::Cursor::new(rest).chain(reader);
            // Its end is the caller's affair: it calls again.
            let _ = serve(core, tokio::io::join(reader, writer)).await;
            drop(place);
        });
        Ok(())
    }

    /// Where the others of the group are, as far as this node knows; it may have been told of neither who came nor who went lately.
    #[must_use]
    pub fn others(&self) -> Vec<(NodeId, String)> {
        let metrics = self.core.raft.metrics().borrow_watched().clone();
        let named = metrics.membership_config.nodes().map(|(id, node)| (*id, node.address.clone()));
        let named = named.filter_map(|(id, address)| Some((id_of(id)?, address)));
        let mut others: BTreeMap<NodeId, String> = named.collect();
        // It may have moved since the group's configuration named it.
        self.core.book.with(|state| {
            let members = state.members.iter().filter(|(_, member)| !member.peer_address.is_empty());
            others.extend(members.map(|(node, member)| (*node, member.peer_address.clone())));
        });
        others.remove(&NodeId(self.core.book.own().0));
        others.into_iter().collect()
    }

    /// Hands a command to the leader, from any thread, without waiting. It may get lost; its fate is seen in the log.
    pub fn propose(&self, command: &Command) {
        let bytes = encode_command(command);
        if bytes.len() <= COMMAND_BYTES {
            // Full: lost, as it may be elsewhere.
            let _ = self.proposals.try_send(bytes);
        }
    }

    /// Forms the cluster with this node as its first voter: `form` is a [`Command::Form`] in which it has a seat with its own identity.
    /// The others need not be there yet. To be called on one node only, once. Not from an async context.
    ///
    /// # Errors
    ///
    /// It is no such command, or this node is in a cluster already, or no disk or quorum answered in time.
    pub fn form(&self, form: &Command) -> io::Result<()> {
        let Some(runtime) = &self.runtime else { return Ok(()) };
        let (node, identity) = self.core.book.own();
        let Command::Form { seats, .. } = form else { return Err(io::ErrorKind::InvalidInput.into()) };
        let seat = seats.iter().find(|seat| seat.node.0 == node && seat.identity == identity);
        let seat = seat.ok_or_else(|| io::Error::other("this node has no seat with its identity"))?;
        // Refused before the group exists: a group whose forming is refused could never be formed.
        lockstead_cluster::State::default().apply(form).map_err(|why| io::Error::other(format!("refused: {why:?}")))?;
        let own = PeerNode { identity, address: seat.peer_address.clone() };
        runtime.block_on(async {
            let first = BTreeMap::from([(u64::from(node), own)]);
            // A node that died while it formed the cluster goes on where it was.
            if !self.core.raft.is_initialized().await.map_err(io::Error::other)? {
                self.core.raft.initialize(first).await.map_err(io::Error::other)?;
            }
            tokio::time::timeout(FORMING, async {
                while !self.core.book.with(lockstead_cluster::State::is_formed) {
                    self.propose(form);
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            })
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))
        })
    }

    /// How the group is.
    #[must_use]
    pub fn status(&self) -> Status {
        let metrics = self.core.raft.metrics().borrow_watched().clone();
        let id = id_of;
        let last_log = metrics.last_log_index.unwrap_or(0);
        let lag = metrics
            .replication
            .iter()
            .flatten()
            .filter_map(|(node, at)| Some((id(*node)?, last_log.saturating_sub(at.map_or(0, |at| at.index)))));
        let membership = metrics.membership_config.membership();
        let up =
            |id: u64| self.core.book.with(|state| id_of(id).is_some_and(|node| state.up().any(|(up, _)| up == node)));
        let spare = |set: &BTreeSet<u64>| set.iter().filter(|id| up(**id)).count().saturating_sub(set.len() / 2 + 1);
        let agreed_on = metrics.membership_config.log_id().as_ref() <= metrics.last_applied.as_ref();
        let (version, epoch) = self.core.book.with(|state| (state.version, state.epoch));
        Status {
            leader: metrics.current_leader.and_then(id),
            term: metrics.current_term,
            voters: membership.voter_ids().filter_map(id).collect(),
            voters_changing: membership.get_joint_config().len() > 1 || !agreed_on,
            spare: membership.get_joint_config().iter().map(spare).min().unwrap_or(0),
            learners: membership.learner_ids().filter_map(id).collect(),
            last_log,
            applied: metrics.last_applied.map_or(0, |at| at.index),
            lag: lag.collect(),
            version,
            epoch,
            begun: self.begun || metrics.last_log_index.is_some(),
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            let raft = &self.core.raft;
            // Whatever it has not said by then is lost as in a crash, which it stands.
            let _ = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(2), raft.shutdown()).await });
            runtime.shutdown_timeout(Duration::from_secs(2));
        }
        self.disk.stop();
        if let Some(writer) = self.writer.take() {
            // It has nothing to say that was not said as `Event::Fatal`.
            let _ = writer.join();
        }
    }
}

fn start(config: &Config, core: &Core, nonce: u64) -> Command {
    Command::Start {
        node: config.node,
        identity: core.book.own().1,
        nonce,
        after: 0,
        peer_address: config.peer_address.clone(),
        client_address: config.client_address.clone(),
    }
}

fn raft_config(timing: &Timing) -> openraft::Config {
    let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    openraft::Config {
        cluster_name: "lockstead".into(),
        heartbeat_interval: millis(timing.heartbeat),
        election_timeout_min: millis(timing.election_min),
        election_timeout_max: millis(timing.election_max),
        install_snapshot_timeout: 60_000,
        // Compaction is by the size of the state, see `watch`.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: KEPT,
        purge_batch_size: 256,
        // A node that comes back asks first whether it could win, and does not depose a leader that is well.
        enable_pre_vote: Some(true),
        // A leader sends an entry while it writes it. One whose write failed, or that was killed before it, starts without it, though the others may
        // have agreed on it; went it on as the leader of the same term, it would agree on another entry in that place, and its state would be
        // another one than theirs from then on. So it stands for election, which it loses to those who have the entry.
        enable_leader_restore: Some(false),
        // A node that was away and comes back is met again within a second.
        backoff: "50ms 100ms 200ms ...500ms".into(),
        ..openraft::Config::default()
    }
}

/// Compacts the log now and then, and tells when the group cannot go on here.
async fn watch(core: Arc<Core>) {
    let mut tick = tokio::time::interval(Duration::from_millis(500));
    loop {
        tick.tick().await;
        let (running, since) = {
            let metrics = core.raft.metrics();
            let metrics = metrics.borrow_watched();
            let at = |id: Option<crate::group::LogId>| id.map_or(0, |id| id.index);
            (metrics.running_state.clone(), at(metrics.last_applied).saturating_sub(at(metrics.snapshot)))
        };
        if let Err(why) = running {
            core.feed.fatal(&why.to_string());
            return;
        }
        let sessions = core.book.with(|state| state.sessions.len() as u64);
        if since >= COMPACT.max(sessions / 4) && core.raft.trigger().snapshot().await.is_err() {
            return;
        }
    }
}

fn id_of(id: u64) -> Option<NodeId> {
    Some(NodeId(u16::try_from(id).ok()?))
}

fn draw() -> io::Result<u32> {
    let mut bytes = [0; 4];
    io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}
