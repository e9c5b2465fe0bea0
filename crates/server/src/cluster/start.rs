//! The way in: up to the moment when the node's own `Start` is agreed on and the node can be made with the state of then.
//!
//! A cluster is formed once, by the lowest of its seats, when it has heard from every other who that is. Any other start is a
//! coming back: the members know the node by its identity, and its `Start` is proposed until it is applied. A node that nobody
//! knows waits, and says what an operator must do to let it in.

use core::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};
use std::{
    collections::BTreeSet,
    fs,
    io::Read as _,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use lockstead_cluster::{Command, Seat, State};
use lockstead_membership::{Event, Membership};
use lockstead_types::{NodeId, peer::Incarnation, space::SpaceSpec};

use super::{
    Cluster, Me,
    members::{self, Standing},
    who,
};
use crate::server::StartError;

/// Ends a start from elsewhere.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// The start gives up soon.
    pub fn cancel(&self) {
        self.0.store(true, Relaxed);
    }

    fn is_cancelled(&self) -> bool {
        self.0.load(Relaxed)
    }
}

const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Between two rounds of asking who the seats are.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// What a node waits for is said after so long.
const SAY_AFTER: Duration = Duration::from_secs(1);
/// And again after so long.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// Comes into the cluster. Gives which start of the node this is and the state in which it was agreed on; what the members
/// agree on next comes from `events`.
pub(crate) fn join(
    cluster: &Cluster,
    seats: &[(u16, String)],
    spaces: &[SpaceSpec],
    events: &Receiver<Event>,
    cancel: &Cancel,
) -> Result<(Incarnation, State), StartError> {
    let mut way = Way { cluster, seats, spaces, asked: None, standing: None, say_at: Instant::now() + SAY_AFTER };
    loop {
        match events.recv_timeout(LOOK_EVERY) {
            Ok(Event::Started { incarnation, state }) => {
                cluster.formed.store(true, Relaxed);
                return Ok((incarnation, *state));
            }
            Ok(Event::Overtaken) => return Err(StartError::Overtaken),
            Ok(Event::Fatal(why)) => return Err(StartError::Group(why)),
            // Nothing else is told before the start.
            Ok(Event::Committed(_) | Event::Snapshot(_) | Event::Authority { .. }) => {}
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(StartError::Group("it has ended".into())),
        }
        if cancel.is_cancelled() {
            return Err(StartError::Cancelled);
        }
        way.go_on()?;
    }
}

struct Way<'a> {
    cluster: &'a Cluster,
    seats: &'a [(u16, String)],
    spaces: &'a [SpaceSpec],
    asked: Option<Instant>,
    /// The question to others what this node is to them, while it is under way.
    standing: Option<JoinHandle<Option<(NodeId, Standing)>>>,
    say_at: Instant,
}

impl Way<'_> {
    fn go_on(&mut self) -> Result<(), StartError> {
        let me = &self.cluster.me;
        let Some(group) = self.cluster.with_membership(|group| group.status()) else { return Ok(()) };
        // What a node's log holds may be agreed on or not: it learns that from the others, and until then tells them that there
        // is a cluster. Otherwise one of them that has lost its data would form a second one.
        self.cluster.formed.store(group.begun, Relaxed);
        let forming = group.epoch == 0 && group.voters.iter().all(|voter| *voter == me.node);
        if group.begun && !forming {
            self.say_what_it_is_to_others(&group.voters);
        } else if self.founds() {
            self.form()?;
        } else if self.seats.is_empty() {
            self.say(&let_in(me, "this node belongs to no cluster yet"));
        } else {
            let lost =
                let_in(me, "If it is formed already and this node has lost its data, the others take it for another");
            self.say(&format!("waiting for the cluster to be formed. {lost}"));
        }
        Ok(())
    }

    /// Waits for a majority, which may be there and have removed this node. Asking takes a while where others are dead, and this
    /// thread is the one that hears of the start.
    fn say_what_it_is_to_others(&mut self, voters: &BTreeSet<NodeId>) {
        if Instant::now() < self.say_at {
            return;
        }
        match self.standing.take() {
            None => {
                let me = self.cluster.me.clone();
                let others = self.cluster.with_membership(Membership::others).unwrap_or_default();
                let asked = move || members::standing(&me, &others);
                self.standing = thread::Builder::new().name("asker".into()).spawn(asked).ok();
            }
            Some(asked) if !asked.is_finished() => self.standing = Some(asked),
            Some(asked) => {
                let what = waiting(&self.cluster.me, voters, asked.join().unwrap_or_default());
                self.say(&what);
            }
        }
    }

    /// Whether this node is the one to form the cluster.
    fn founds(&self) -> bool {
        self.seats.iter().map(|(node, _)| *node).min() == Some(self.cluster.me.node.0)
    }

    /// Forms the cluster, if every seat says who it is.
    fn form(&mut self) -> Result<(), StartError> {
        if self.asked.is_some_and(|asked| asked.elapsed() < ASK_EVERY) {
            return Ok(());
        }
        self.asked = Some(Instant::now());
        let me = &self.cluster.me;
        let mut seats = vec![seat(me)];
        for (node, address) in self.seats.iter().filter(|(node, _)| NodeId(*node) != me.node) {
            match who::ask(address) {
                Ok(who) if who.node != NodeId(*node) => {
                    let found = who.node.0;
                    self.say(&format!("seats: node {found} answers at {address}, which is said to be node {node}"));
                    return Ok(());
                }
                Ok(who) if who.formed => {
                    self.say(&let_in(me, &format!("node {node} is a member of a cluster already")));
                    return Ok(());
                }
                Ok(who) => seats.push(Seat {
                    node: who.node,
                    identity: who.identity,
                    peer_address: address.clone(),
                    client_address: who.client_address,
                    weight: who.weight,
                }),
                Err(error) => {
                    self.say(&format!("waiting for node {node} at {address} before the cluster is formed: {error}"));
                    return Ok(());
                }
            }
        }
        let seed = u64::from_le_bytes(random()?);
        let form = Command::Form { seed, key: random()?, seats, spaces: self.spaces.to_vec() };
        let formed = self.cluster.with_membership(|group| group.form(&form)).unwrap_or(Ok(()));
        formed.map_err(|error| StartError::Group(format!("the cluster cannot be formed: {error}")))
    }

    fn say(&mut self, what: &str) {
        if Instant::now() >= self.say_at {
            self.say_at = Instant::now() + SAY_EVERY;
            tracing::warn!("{what}");
        }
    }
}

fn seat(me: &Me) -> Seat {
    Seat {
        node: me.node,
        identity: me.identity,
        peer_address: me.peer_address.clone(),
        client_address: me.client_address.clone(),
        weight: me.weight,
    }
}

/// What a node waits for that has been of a cluster.
fn waiting(me: &Me, voters: &BTreeSet<NodeId>, standing: Option<(NodeId, Standing)>) -> String {
    let n = me.node.0;
    match standing {
        Some((by, Standing::Removed)) => {
            let why = format!(
                "node {} says that node {n} was removed: it is no member any more. If that was meant, stop it and move its data \
                 directory away",
                by.0
            );
            let_in(me, &why)
        }
        Some((by, Standing::Replaced)) => format!(
            "node {} says that other data was let in as node {n} since: this node is no member any more. Stop it, and start it with \
             an empty data directory and a number of its own, or not at all",
            by.0
        ),
        Some((_, Standing::Member)) | None => {
            let voters: Vec<String> = voters.iter().map(|voter| voter.0.to_string()).collect();
            let of = if voters.is_empty() { String::new() } else { format!(" (nodes {} vote)", voters.join(", ")) };
            format!("waiting for a majority of the members{of} to agree that this node starts")
        }
    }
}

/// What an operator does to let a node in.
fn let_in(me: &Me, why: &str) -> String {
    let Me { node, identity, peer_address, client_address, weight } = me;
    format!(
        "{why}. To let it in, run at any member: lockstead cluster join {} --identity {identity:032x} --peer {peer_address} \
         --client {client_address} --weight {weight}",
        node.0
    )
}

fn random<const N: usize>() -> Result<[u8; N], StartError> {
    let mut bytes = [0; N];
    let read = fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.map(|()| bytes).map_err(StartError::System)
}
