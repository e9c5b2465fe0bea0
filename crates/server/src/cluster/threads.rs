//! The threads of a member, from before the node is there until after it is gone.

use core::net::SocketAddr;
use std::{
    io,
    sync::{
        Arc,
        mpsc::{self, Receiver},
    },
    thread::{self, JoinHandle},
};

use lockstead_cluster::State;
use lockstead_membership::{Config, Event, Membership, Timing};
use lockstead_types::{NodeId, peer::Incarnation};

use super::{
    Cluster, Me, dialer,
    door::Door,
    feed,
    start::{self, Cancel},
};
use crate::{
    config::{ClusterConfig, ServerConfig},
    data::{self, AuditLog, DataDir, MemberDir},
    server::{HaltOnPanic, StartError},
    shared::Shared,
};

/// The threads of a member.
#[derive(Debug)]
pub(crate) struct MemberThreads {
    pub(crate) cluster: Arc<Cluster>,
    /// Where other nodes connect.
    pub(crate) address: SocketAddr,
    events: Option<Receiver<Event>>,
    threads: Vec<JoinHandle<()>>,
}

/// What a node comes into the cluster with.
#[derive(Debug)]
pub(crate) struct Came {
    pub(crate) incarnation: Incarnation,
    pub(crate) state: State,
    pub(crate) directory: DataDir,
    pub(crate) audit: AuditLog,
}

impl MemberThreads {
    /// Opens the peer port and the membership group, and comes into the cluster.
    pub(crate) fn start(
        config: &ServerConfig,
        cluster: &ClusterConfig,
        client_tcp: Option<SocketAddr>,
        cancel: &Cancel,
    ) -> Result<(MemberThreads, Came), StartError> {
        let (door, address, waker) = Door::bind(cluster.peer_listen)?;
        let Some(path) = &config.data else { return Err(StartError::Group("it needs a data directory".into())) };
        let MemberDir { directory, audit, group } = data::open_member(path, config.node).map_err(StartError::Data)?;
        let client_address = cluster.client_address.clone().or_else(|| client_tcp.map(|address| address.to_string()));
        let group = Config {
            node: NodeId(config.node),
            folder: group,
            peer_address: cluster.peer_address.clone().unwrap_or_else(|| address.to_string()),
            client_address: client_address.unwrap_or_default(),
            timing: Timing::default(),
        };
        let (tell, events) = mpsc::channel();
        // Nobody hears the last words of a group whose server is gone.
        let membership = Membership::start(&group, move |event| drop(tell.send(event)));
        let membership = membership.map_err(|error| StartError::Group(error.to_string()))?;
        let me = Me {
            node: group.node,
            identity: membership.identity(),
            peer_address: group.peer_address,
            client_address: group.client_address,
            weight: cluster.weight,
        };
        let cluster_ = Arc::new(Cluster::new(me, membership, waker));
        let mut member = MemberThreads { cluster: cluster_, address, events: None, threads: Vec::new() };
        member.spawn("peer-port", move |cluster| door.run(cluster)).map_err(StartError::System)?;
        match start::join(&member.cluster, &cluster.seats, &config.spaces, &events, cancel) {
            Ok((incarnation, state)) => {
                member.events = Some(events);
                Ok((member, Came { incarnation, state, directory, audit }))
            }
            Err(error) => {
                member.stop();
                Err(error)
            }
        }
    }

    /// From here on the node is fed and linked.
    pub(crate) fn open(&mut self, shared: &Arc<Shared>) -> io::Result<()> {
        self.cluster.open(shared);
        if let Some(events) = self.events.take() {
            let shared = Arc::clone(shared);
            self.spawn("group-feed", move |_| {
                let _halt = HaltOnPanic(Arc::clone(&shared));
                feed::run(&shared, &events);
            })?;
        }
        self.spawn("dialer", dialer::run)
    }

    /// Ends them all.
    pub(crate) fn stop(self) {
        self.cluster.stop();
        for thread in self.threads {
            // A panic was reported when it happened.
            let _ = thread.join();
        }
        self.cluster.end_membership();
    }

    fn spawn(&mut self, name: &str, run: impl FnOnce(&Arc<Cluster>) + Send + 'static) -> io::Result<()> {
        let cluster = Arc::clone(&self.cluster);
        self.threads.push(thread::Builder::new().name(name.into()).spawn(move || run(&cluster))?);
        Ok(())
    }
}
