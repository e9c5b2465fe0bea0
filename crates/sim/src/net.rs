//! Connections: each direction in order, after a delay; cut in one direction or both; broken with what was on its way lost
//! from some point on, each side told in its own time or, after a loss of power, late.

use std::collections::{BTreeSet, VecDeque};

use lockstead_types::{message::ServerMessage, peer::Envelope};

use crate::{queue::Event, random::Random, world::World};

/// Who is at an end of a connection.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Node(u8),
    Client(u8),
}

/// What travels.
#[derive(Debug)]
pub(crate) enum Payload {
    /// A client's connection stands: the first that a node hears of it.
    Accept {
        client: u8,
        local: bool,
    },
    /// Of a client, as bytes.
    Client(Vec<u8>),
    Server(ServerMessage),
    Peer(Box<Envelope>),
    /// Another node's connection stands.
    PeerAccept,
    /// The other side has closed.
    End,
}

pub(crate) struct Conn {
    pub(crate) ends: [End; 2],
    /// Within one host: never cut.
    local: bool,
    /// Whether the side still has it.
    open: [bool; 2],
    /// Nothing goes in any more.
    broken: bool,
    /// What is on its way to each side.
    ways: [Way; 2],
}

#[derive(Default)]
struct Way {
    queue: VecDeque<(u64, Payload)>,
    planned: bool,
    stuck: bool,
}

/// All connections, and what lies between the hosts.
pub(crate) struct Net {
    conns: Vec<Option<Conn>>,
    hosts: usize,
    /// Until when nothing passes, by host from and host to.
    cut: Vec<u64>,
    /// Until when everything takes long.
    slow: Vec<u64>,
    /// Connections between nodes.
    peers: BTreeSet<u32>,
    random: Random,
    /// Nanoseconds a message takes, about.
    delay: u64,
}

const MS: u64 = 1_000_000;

impl Net {
    pub(crate) fn new(hosts: usize, delay: u64, random: Random) -> Net {
        let none = vec![0; hosts * hosts];
        Net { conns: vec![None], hosts, cut: none.clone(), slow: none, peers: BTreeSet::new(), random, delay }
    }

    pub(crate) fn conn(&self, conn: u32) -> Option<&Conn> {
        self.conns.get(conn as usize)?.as_ref()
    }

    fn conn_mut(&mut self, conn: u32) -> Option<&mut Conn> {
        self.conns.get_mut(conn as usize)?.as_mut()
    }

    /// A new connection; its number is never used again.
    pub(crate) fn join(&mut self, ends: [End; 2], local: bool) -> u32 {
        let conn = Conn { ends, local, open: [true; 2], broken: false, ways: <[Way; 2]>::default() };
        self.conns.push(Some(conn));
        self.conns.len() as u32 - 1
    }

    pub(crate) fn join_peers(&mut self, ends: [End; 2]) -> u32 {
        let conn = self.join(ends, false);
        self.peers.insert(conn);
        conn
    }

    pub(crate) fn is_peer(&self, conn: u32) -> bool {
        self.peers.contains(&conn)
    }

    /// Which side of an open connection an end has.
    pub(crate) fn side_of(&self, conn: u32, end: End) -> Option<usize> {
        let known = self.conn(conn)?;
        (0..2).find(|side| known.ends[*side] == end && known.open[*side])
    }

    pub(crate) fn is_cut(&self, now: u64, from: usize, to: usize) -> bool {
        from != to && self.cut[from * self.hosts + to] > now
    }

    /// Whether anything is cut or slow now.
    pub(crate) fn is_troubled(&self, now: u64) -> bool {
        self.cut.iter().chain(&self.slow).any(|until| *until > now)
    }

    pub(crate) fn cut(&mut self, from: usize, to: usize, until: u64) {
        let place = &mut self.cut[from * self.hosts + to];
        *place = (*place).max(until);
    }

    pub(crate) fn slow(&mut self, from: usize, to: usize, until: u64) {
        self.slow[from * self.hosts + to] = until;
    }

    pub(crate) fn heal(&mut self) {
        self.cut.fill(0);
        self.slow.fill(0);
    }

    /// How long a message takes between two hosts.
    pub(crate) fn latency(&mut self, now: u64, from: usize, to: usize) -> u64 {
        let delay = self.delay / 2 + self.random.around(self.delay / 2);
        if from == to {
            return delay.min(50_000);
        }
        if self.slow[from * self.hosts + to] > now { delay + self.random.below(800 * MS) } else { delay }
    }

    pub(crate) fn has(&self, conn: u32, side: usize) -> bool {
        self.conn(conn).is_some_and(|c| c.open[side])
    }

    /// The open connections of an end.
    pub(crate) fn of(&self, end: End) -> Vec<(u32, u8)> {
        let mut found = Vec::new();
        for (number, conn) in self.conns.iter().enumerate() {
            let Some(conn) = conn else { continue };
            for side in 0..2 {
                if conn.ends[side] == end && conn.open[side] {
                    found.push((number as u32, side as u8));
                }
            }
        }
        found
    }

    /// Some open connection that is not broken.
    pub(crate) fn any(&self, random: &mut Random) -> Option<u32> {
        let whole = |c: &Conn| c.open == [true; 2] && !c.broken;
        let all: Vec<u32> = (0..self.conns.len() as u32).filter(|n| self.conn(*n).is_some_and(whole)).collect();
        if all.is_empty() { None } else { Some(random.pick(&all)) }
    }
}

impl World {
    pub(crate) fn host_of(&self, end: End) -> usize {
        match end {
            End::Node(node) => usize::from(node),
            End::Client(client) => self.clients[usize::from(client)].host,
        }
    }

    /// Puts something on its way to a side.
    pub(crate) fn send(&mut self, conn: u32, side: usize, payload: Payload) {
        let Some(known) = self.net.conn(conn).filter(|c| !c.broken && c.open[1 - side]) else { return };
        let (from, to) = (self.host_of(known.ends[1 - side]), self.host_of(known.ends[side]));
        let due = self.now + self.net.latency(self.now, from, to);
        self.put(conn, side, due, payload);
    }

    /// Puts something where it arrives as soon as its end is awake.
    pub(crate) fn put(&mut self, conn: u32, side: usize, due: u64, payload: Payload) {
        let Some(known) = self.net.conn_mut(conn) else { return };
        let way = &mut known.ways[side];
        // In order: not before what was sent earlier.
        let due = way.queue.back().map_or(due, |(last, _)| due.max(*last));
        way.queue.push_back((due, payload));
        if !way.planned {
            way.planned = true;
            self.queue.push(due, Event::Deliver { conn, side: side as u8 });
        }
    }

    /// One side closes: what it has sent arrives, then the other hears of it.
    pub(crate) fn close(&mut self, conn: u32, side: usize) {
        if !self.net.has(conn, side) {
            return;
        }
        self.send(conn, 1 - side, Payload::End);
        self.forget(conn, side);
    }

    /// One side's host has lost power: the other hears of it late, if it does not give up before.
    pub(crate) fn vanish(&mut self, conn: u32, side: usize) {
        self.forget(conn, side);
        let late = self.net.random.between(200 * MS, 8_000 * MS);
        if let Some(known) = self.net.conn_mut(conn) {
            known.broken = true;
            known.ways[1 - side].queue.clear();
            self.queue.push(self.now + late, Event::Broken { conn, side: 1 - side as u8 });
        }
    }

    /// The connection breaks in the middle: each side gets some of what was on its way to it, then its end.
    pub(crate) fn break_conn(&mut self, conn: u32) {
        for side in 0..2 {
            let half_open = self.net.random.chance(200);
            let late = if half_open { self.net.random.below(5_000 * MS) } else { self.net.random.below(20 * MS) };
            let Some(known) = self.net.conn_mut(conn) else { return };
            known.broken = true;
            let left = known.ways[side].queue.len() as u64;
            let keep = self.net.random.below(left + 1) as usize;
            if let Some(known) = self.net.conn_mut(conn) {
                known.ways[side].queue.truncate(keep);
                self.put(conn, side, self.now + late, Payload::End);
            }
        }
    }

    fn forget(&mut self, conn: u32, side: usize) {
        let Some(known) = self.net.conn_mut(conn) else { return };
        known.open[side] = false;
        if known.open == [false; 2] {
            self.net.conns[conn as usize] = None;
        }
    }

    pub(crate) fn on_deliver(&mut self, conn: u32, side: usize) {
        let Some(known) = self.net.conn(conn) else { return };
        let (to, local) = (known.ends[side], known.local);
        let (from, host) = (self.host_of(known.ends[1 - side]), self.host_of(to));
        let paused = self.paused_until(to);
        if paused > self.now {
            return self.queue.push(self.look_again(paused), Event::Deliver { conn, side: side as u8 });
        }
        if !local && self.net.is_cut(self.now, from, host) {
            return self.on_stuck(conn, side, self.net.cut[from * self.net.hosts + host]);
        }
        loop {
            let now = self.now;
            let Some(known) = self.net.conn_mut(conn) else { return };
            let way = &mut known.ways[side];
            way.stuck = false;
            match way.queue.front() {
                None => {
                    way.planned = false;
                    return;
                }
                // Whoever got the last message may have been stopped by it.
                Some((due, _)) if *due > now => {
                    let due = *due;
                    return self.queue.push(due, Event::Deliver { conn, side: side as u8 });
                }
                Some(_) => {}
            }
            let Some((_, payload)) = way.queue.pop_front() else { return };
            if !known.open[side] {
                continue;
            }
            if matches!(payload, Payload::End) {
                self.forget(conn, side);
            }
            self.trace.mix(u64::from(conn) << 1 | side as u64);
            match to {
                End::Node(node) => self.node_hears(node, conn, payload),
                End::Client(client) => self.client_hears(client, conn, payload),
            }
        }
    }

    /// Nothing passes: the sender's patience may end before the cut does.
    fn on_stuck(&mut self, conn: u32, side: usize, until: u64) {
        let patience = self.net.random.between(1_500 * MS, 6_000 * MS);
        let Some(known) = self.net.conn_mut(conn) else { return };
        if !known.ways[side].stuck {
            known.ways[side].stuck = true;
            if until > self.now + patience {
                self.queue.push(self.now + patience, Event::Broken { conn, side: 1 - side as u8 });
            }
        }
        self.queue.push(until, Event::Deliver { conn, side: side as u8 });
    }

    /// One side learns that the connection is broken; the other hears of it when something reaches it again.
    pub(crate) fn on_broken(&mut self, conn: u32, side: usize) {
        if !self.net.has(conn, side) {
            return;
        }
        let Some(known) = self.net.conn_mut(conn) else { return };
        known.broken = true;
        let end = known.ends[side];
        let paused = self.paused_until(end);
        if paused > self.now {
            return self.queue.push(self.look_again(paused), Event::Broken { conn, side: side as u8 });
        }
        let late = self.net.random.below(3_000 * MS);
        self.put(conn, 1 - side, self.now + late, Payload::End);
        self.forget(conn, side);
        match end {
            End::Node(node) => self.node_hears(node, conn, Payload::End),
            End::Client(client) => self.client_hears(client, conn, Payload::End),
        }
    }
}
