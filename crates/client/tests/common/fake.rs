//! Nodes that do what a test tells them to: real sockets, and behind them a few lines instead of a lock manager. What several
//! of them agree on (where each session's home is) they look up in one place.

use core::net::SocketAddr;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use lockstead::{
    Query, SessionId, SpaceId, Token,
    types::{
        LockId, NodeId, RequestId,
        message::{Attached, ClientMessage, PROTOCOL_VERSION, Rejection, ServerMessage, Welcome},
        reply::{Grant, Reply, SpaceInfo},
        report::Report,
        request::Op,
        tables::built_in,
    },
};
use lockstead_wire::{DecodeLimits, FIRST_FRAME_BYTES, FrameWriter, client_messages, split_frame};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// The epoch of all nodes, all the time: the client must not depend on it.
const EPOCH: u32 = 3;

/// How a node behaves from now on.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Manner {
    /// As it should, but locks whose names start with `stuck` are not answered.
    Serves,
    /// As it should, those locks as well.
    ServesAll,
    /// It accepts connections and says nothing.
    Mute,
    /// It turns away whoever says hello or anything else.
    Rejects(Rejection),
    /// It closes the connection when a lock is claimed.
    DiesAtClaims,
    /// It knows no session.
    Forgets,
    /// It ends a session that asks whether all that it caused is done.
    EndsAtSync,
}

/// What the nodes agree on, and what they have heard.
#[derive(Default)]
struct World {
    /// Node and number of the home.
    homes: HashMap<SessionId, (u16, u32)>,
    manners: HashMap<u16, Manner>,
    sequence: u64,
}

pub(crate) struct Cluster {
    world: Arc<Mutex<World>>,
    heard: watch::Sender<Vec<String>>,
    nodes: Vec<Node>,
}

struct Node {
    address: SocketAddr,
    dead: watch::Sender<bool>,
    cuts: watch::Sender<u32>,
}

impl Cluster {
    /// Nodes 1, 2, ... of these manners.
    pub(crate) async fn of(manners: &[Manner]) -> Cluster {
        let mut cluster = Cluster { world: Arc::default(), heard: watch::Sender::new(Vec::new()), nodes: Vec::new() };
        for (number, manner) in (1u16..).zip(manners) {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("bound");
            cluster.set(number, *manner);
            let dead = watch::Sender::new(false);
            let cuts = watch::Sender::new(0);
            let (world, heard) = (Arc::clone(&cluster.world), cluster.heard.clone());
            let seat = Seat { number, world, heard, dead: dead.subscribe(), cuts: cuts.subscribe() };
            tokio::spawn(accept(listener, seat));
            cluster.nodes.push(Node { address, dead, cuts });
        }
        cluster
    }

    /// From now on node `number` behaves so.
    pub(crate) fn set(&self, number: u16, manner: Manner) {
        self.world.lock().expect("whole").manners.insert(number, manner);
    }

    /// The connections of a node end, and nobody listens any more.
    pub(crate) async fn kill(&self, number: u16) {
        let node = &self.nodes[usize::from(number) - 1];
        node.dead.send_replace(true);
        node.dead.closed().await;
    }

    /// The connections of a node break.
    pub(crate) fn cut(&self, number: u16) {
        self.nodes[usize::from(number) - 1].cuts.send_modify(|cuts| *cuts += 1);
    }

    pub(crate) fn endpoint(&self, number: u16) -> String {
        self.nodes[usize::from(number) - 1].address.to_string()
    }

    /// All of them, as one writes them.
    pub(crate) fn endpoints(&self) -> String {
        self.nodes.iter().map(|node| node.address.to_string()).collect::<Vec<_>>().join(",")
    }

    /// What the nodes heard and answered: `1 hello`, `2 claim x`.
    pub(crate) fn heard(&self) -> Vec<String> {
        self.heard.borrow().clone()
    }

    pub(crate) fn forget_heard(&self) {
        self.heard.send_modify(Vec::clear);
    }

    /// Waits until a node has heard that.
    pub(crate) async fn until(&self, what: &str) {
        self.heard.subscribe().wait_for(|heard| heard.iter().any(|line| line == what)).await.expect("nodes live");
    }
}

/// What a connection of a node needs.
#[derive(Clone)]
struct Seat {
    number: u16,
    world: Arc<Mutex<World>>,
    heard: watch::Sender<Vec<String>>,
    dead: watch::Receiver<bool>,
    cuts: watch::Receiver<u32>,
}

async fn accept(listener: TcpListener, seat: Seat) {
    let mut dead = seat.dead.clone();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted.expect("it accepts").0,
            _ = dead.wait_for(|dead| *dead) => break,
        };
        let connection = seat.clone();
        tokio::spawn(async move {
            let (mut dead, mut cuts) = (connection.dead.clone(), connection.cuts.clone());
            cuts.mark_unchanged();
            tokio::select! {
                _ = serve(stream, &connection) => {}
                _ = dead.wait_for(|dead| *dead) => {}
                _ = cuts.changed() => {}
            }
        });
    }
    // Before the seat: who waits for the end of that finds nobody listening.
    drop(listener);
}

async fn serve(mut stream: TcpStream, seat: &Seat) -> std::io::Result<()> {
    let (mut bytes, mut session) = (Vec::new(), None);
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
        let (mut out, mut writer, mut close) = (Vec::new(), FrameWriter::new(FIRST_FRAME_BYTES), false);
        while let Some((body, used)) = split_frame(&bytes, u32::MAX).expect("frames of the client") {
            for message in client_messages(body, &DecodeLimits::CEILING) {
                let message = message.expect("messages of the client");
                let answer = seat.on_message(&message, &mut session);
                close |= answer.close;
                for message in answer.messages {
                    writer.server(&mut out, &message).expect("it fits");
                }
            }
            bytes.drain(..used);
        }
        writer.finish();
        stream.write_all(&out).await?;
        if close {
            return Ok(());
        }
    }
}

#[derive(Default)]
struct Answer {
    messages: Vec<ServerMessage>,
    close: bool,
}

impl Answer {
    fn one(message: ServerMessage) -> Answer {
        Answer { messages: vec![message], close: false }
    }

    fn to(id: RequestId, reply: Reply) -> Answer {
        Answer::one(ServerMessage::Reply { id, reply })
    }
}

impl Seat {
    fn note(&self, what: &str) {
        self.heard.send_modify(|heard| heard.push(format!("{} {what}", self.number)));
    }

    fn on_message(&self, message: &ClientMessage<'_>, session: &mut Option<SessionId>) -> Answer {
        let manner = self.world.lock().expect("whole").manners[&self.number];
        match manner {
            Manner::Mute => {
                self.note("nothing said");
                return Answer::default();
            }
            Manner::Rejects(why) => {
                self.note("turned away");
                return Answer { messages: vec![ServerMessage::Rejected { why }], close: true };
            }
            _ => {}
        }
        match message {
            ClientMessage::Hello { .. } => {
                self.note("hello");
                let (node, frame_bytes) = (NodeId(self.number), FIRST_FRAME_BYTES);
                let version = PROTOCOL_VERSION;
                Answer::one(ServerMessage::Welcome(Welcome {
                    version,
                    node,
                    epoch: EPOCH,
                    local: false,
                    credit: 64,
                    frame_bytes,
                }))
            }
            ClientMessage::Open { session: id, ttl, .. } => {
                *session = Some(*id);
                self.world.lock().expect("whole").homes.insert(*id, (self.number, 0));
                self.note("open");
                Answer::one(ServerMessage::Opened { ttl: *ttl })
            }
            ClientMessage::Attach { .. } if manner == Manner::Forgets => Answer::one(ServerMessage::Ended),
            ClientMessage::Attach { session: id, ttl, .. } => {
                *session = Some(*id);
                let mut world = self.world.lock().expect("whole");
                let (node, home) = world.homes.get(id).copied().unwrap_or_default();
                let reclaim = node != self.number;
                let home = home + u32::from(reclaim);
                world.homes.insert(*id, (self.number, home));
                drop(world);
                self.note("attach");
                let (ttl, seen) = (*ttl, RequestId(0));
                Answer::one(ServerMessage::Attached(Attached { ttl, seen, reclaim, home, groups: Vec::new() }))
            }
            ClientMessage::Reclaim { id, claim, .. } => {
                self.note(&format!("claim {}", String::from_utf8_lossy(claim.name)));
                if manner == Manner::DiesAtClaims {
                    return Answer { messages: Vec::new(), close: true };
                }
                let (claim, token, lock) = (claim.held, claim.token, self.next_lock());
                let grant = Grant { lock, claim, token, value: None, demoted: false, alternative: false, seal: None };
                Answer::to(*id, Reply::Granted(grant))
            }
            ClientMessage::Renew { seq } => Answer::one(ServerMessage::Renewed { seq: *seq }),
            ClientMessage::Request { id, op } | ClientMessage::Again { id, op, .. } => self.on_request(manner, *id, op),
            ClientMessage::Goodbye => {
                self.note("goodbye");
                Answer { messages: vec![ServerMessage::Bye], close: true }
            }
            ClientMessage::ReclaimDone | ClientMessage::Ack { .. } => Answer::default(),
        }
    }

    fn on_request(&self, manner: Manner, id: RequestId, op: &Op<'_>) -> Answer {
        match op {
            Op::Lock(lock) => {
                self.note(&format!("lock {}", String::from_utf8_lossy(lock.name)));
                if manner != Manner::ServesAll && lock.name.starts_with(b"stuck") {
                    return Answer::default();
                }
                let grant = Grant {
                    lock: self.next_lock(),
                    claim: lock.claim,
                    token: self.next_token(),
                    value: None,
                    demoted: false,
                    alternative: false,
                    seal: None,
                };
                Answer::to(id, Reply::Granted(grant))
            }
            Op::Release { release, one_way } => {
                self.note(&format!("release {}", release.lock.0));
                if *one_way { Answer::default() } else { Answer::to(id, Reply::Released) }
            }
            Op::SpaceOpen { .. } => {
                let modes = built_in("vms").expect("built in").spec().clone();
                Answer::to(
                    id,
                    Reply::Space(Box::new(SpaceInfo { space: SpaceId(0), modes, value_bytes: 32, hierarchy: None })),
                )
            }
            Op::Sync if manner == Manner::EndsAtSync => Answer::one(ServerMessage::Ended),
            Op::Query(Query::Resource { .. }) => Answer::to(id, Reply::Report(Box::new(Report::Resource(None)))),
            _ => Answer::to(id, Reply::Done),
        }
    }

    /// Of this node alone: hundreds of its number.
    fn next_lock(&self) -> LockId {
        LockId(u64::from(self.number) * 100 + self.next())
    }

    fn next_token(&self) -> Token {
        Token::new(EPOCH, self.next()).expect("in range")
    }

    fn next(&self) -> u64 {
        let mut world = self.world.lock().expect("whole");
        world.sequence += 1;
        world.sequence
    }
}
