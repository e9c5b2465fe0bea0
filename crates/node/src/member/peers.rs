//! Connections to other nodes, and what comes over them.

use alloc::{string::String, vec::Vec};

use lockstead_types::{
    ConnId, NodeId, Time,
    peer::{Envelope, Incarnation, PEER_VERSION, PeerMessage},
};

use super::{
    early::Early,
    link::{Chore, Link, SILENT_FOR, Stamp},
};
use crate::{io::Output, node::Node};

/// A connection to another node.
pub(crate) struct Peer {
    /// Whom this node dialled.
    dialed: Option<NodeId>,
    /// Who it turned out to be.
    node: Option<NodeId>,
    greeted: bool,
    since: Time,
}

impl Peer {
    /// When the other side must have said who it is.
    pub(crate) fn due(&self) -> Option<Time> {
        self.node.is_none().then(|| self.since.after(SILENT_FOR))
    }
}

impl Node {
    /// Members this node should have a connection to and has none, with their addresses. Of two nodes the one with the higher
    /// number dials.
    #[must_use]
    pub fn peers_wanted(&self) -> Vec<(NodeId, String)> {
        let Some(member) = &self.member else { return Vec::new() };
        let has = |node: NodeId| {
            member.peers.values().any(|p| p.dialed == Some(node) || p.node == Some(node))
                || member.links.get(&node).is_some_and(|l| l.conn.is_some())
        };
        let wanted = super::up_nodes(&member.state).into_iter().filter(|node| *node < member.me && !has(*node));
        let address = |node| member.state.members.get(&node).map(|m| (node, m.peer_address.clone()));
        wanted.filter_map(address).collect()
    }

    pub(crate) fn on_peer_connected(&mut self, now: Time, conn: ConnId, dialed: Option<NodeId>) {
        let Some(member) = &mut self.member else { return };
        member.peers.insert(conn, Peer { dialed, node: None, greeted: false, since: now });
        if let Some(node) = dialed {
            self.greet(conn, node);
        }
    }

    pub(crate) fn on_peer_disconnected(&mut self, conn: ConnId) {
        let Some(member) = &mut self.member else { return };
        let Some(peer) = member.peers.remove(&conn) else { return };
        if let Some(link) = peer.node.and_then(|node| member.links.get_mut(&node))
            && link.conn.is_some_and(|c| c.conn == conn)
        {
            link.conn = None;
        }
    }

    fn greet(&mut self, conn: ConnId, to: NodeId) {
        let Some(member) = &mut self.member else { return };
        let Some(incarnation) = member.state.members.get(&to).map(|m| m.incarnation) else { return };
        let link = member.links.entry(to).or_insert_with(|| Link::new(incarnation));
        if let Some(peer) = member.peers.get_mut(&conn) {
            peer.greeted = true;
        }
        let message = PeerMessage::Hello {
            version: PEER_VERSION,
            node: member.me,
            incarnation: member.incarnation,
            to: (to, link.incarnation),
            received: link.received(),
        };
        let (epoch, scn) = (member.state.epoch, self.table.sequence());
        let envelope = Envelope { seq: 0, ack: link.received(), epoch, scn, message };
        self.outputs.push_back(Output::SendPeer { conn, envelope });
    }

    pub(crate) fn on_peer_message(&mut self, now: Time, conn: ConnId, envelope: Envelope) {
        let Some(member) = &mut self.member else { return };
        let Some(peer) = member.peers.get(&conn) else { return };
        if let PeerMessage::Hello { version, node, incarnation, to, received } = envelope.message {
            let welcome = version > 0 && peer.node.is_none() && to == (member.me, member.incarnation);
            if !welcome || peer.dialed.is_some_and(|dialed| dialed != node) {
                return self.close_peer(conn);
            }
            return self.on_peer_hello(now, conn, (node, incarnation), received);
        }
        let link = peer.node.and_then(|node| member.links.get_mut(&node));
        let Some(link) = link.filter(|l| l.conn.is_some_and(|c| c.conn == conn)) else { return self.close_peer(conn) };
        match link.receive(now, envelope) {
            Ok(true) => {
                let node = peer.node;
                self.send_chore(now, node, PeerMessage::Ack);
            }
            Ok(false) => {}
            Err(_broken) => self.close_peer(conn),
        }
    }

    fn on_peer_hello(&mut self, now: Time, conn: ConnId, (node, incarnation): (NodeId, Incarnation), received: u64) {
        let Some(member) = &mut self.member else { return };
        // [CLUSTER-2] Not a member under this incarnation, as far as this node knows; it may come again when this node knows more.
        if !member.state.is_up(node, incarnation) {
            return self.close_peer(conn);
        }
        let greeted = member.peers.get(&conn).is_some_and(|p| p.greeted);
        if member.links.get(&node).is_none_or(|link| link.incarnation != incarnation) {
            member.links.insert(node, Link::new(incarnation));
        }
        if let Some(older) = member.links.get_mut(&node).and_then(|link| link.conn.take()) {
            self.close_peer(older.conn);
        }
        if !greeted {
            self.greet(conn, node);
        }
        let Some(member) = &mut self.member else { return };
        if let Some(peer) = member.peers.get_mut(&conn) {
            peer.node = Some(node);
        }
        let Some(link) = member.links.get_mut(&node) else { return };
        for envelope in link.connect(now, conn, received) {
            self.outputs.push_back(Output::SendPeer { conn, envelope });
        }
    }

    pub(crate) fn close_peer(&mut self, conn: ConnId) {
        self.on_peer_disconnected(conn);
        self.outputs.push_back(Output::ClosePeer { conn });
    }

    /// Sends a message to a member, this node included. To one that is not up nothing is sent.
    pub(crate) fn send_peer(&mut self, now: Time, to: NodeId, message: PeerMessage) {
        let stamp = Stamp { epoch: 0, scn: self.table.sequence() };
        let Some(member) = &mut self.member else { return };
        if to == member.me {
            member.loopback.push_back(message);
            return;
        }
        let Some(known) = member.state.members.get(&to) else { return };
        if !member.state.is_up(to, known.incarnation) {
            return;
        }
        let stamp = Stamp { epoch: member.state.epoch, ..stamp };
        let link = member.links.entry(to).or_insert_with(|| Link::new(known.incarnation));
        if let Some((conn, envelope)) = link.send(now, stamp, message) {
            self.outputs.push_back(Output::SendPeer { conn, envelope });
        }
    }

    /// Sends what is not numbered.
    fn send_chore(&mut self, now: Time, node: Option<NodeId>, message: PeerMessage) {
        let scn = self.table.sequence();
        let Some(member) = &mut self.member else { return };
        let Some(link) = node.and_then(|node| member.links.get_mut(&node)) else { return };
        let Some(conn) = link.conn else { return };
        link.note_spoken(now);
        let envelope = Envelope { seq: 0, ack: link.received(), epoch: member.state.epoch, scn, message };
        self.outputs.push_back(Output::SendPeer { conn: conn.conn, envelope });
    }

    pub(crate) fn do_chores(&mut self, now: Time) {
        let Some(member) = &self.member else { return };
        let mute = member.peers.iter().filter(|(_, p)| p.due().is_some_and(|due| due <= now));
        let mute: Vec<ConnId> = mute.map(|(conn, _)| *conn).collect();
        mute.into_iter().for_each(|conn| self.close_peer(conn));
        let Some(member) = &self.member else { return };
        let due: Vec<(NodeId, Chore)> = member.links.iter().map(|(node, link)| (*node, link.chore(now))).collect();
        for (node, chore) in due {
            match chore {
                Chore::Nothing => {}
                Chore::Ack => self.send_chore(now, Some(node), PeerMessage::Ack),
                Chore::Alive => self.send_chore(now, Some(node), PeerMessage::Alive),
                Chore::GiveUp => {
                    let conn = self.member.as_ref().and_then(|m| m.links.get(&node)).and_then(|l| l.conn);
                    if let Some(conn) = conn {
                        self.close_peer(conn.conn);
                    }
                }
            }
        }
    }

    /// Handles one message of each link, if its epoch has come. `false` where none was there.
    pub(crate) fn handle_inboxes(&mut self, now: Time) -> bool {
        let Some(member) = &mut self.member else { return false };
        let epoch = member.state.epoch;
        let next: Vec<(NodeId, Envelope)> =
            member.links.iter_mut().filter_map(|(node, link)| link.next(epoch).map(|e| (*node, e))).collect();
        let any = !next.is_empty();
        for (node, envelope) in next {
            // [CLUSTER-3] The clock of grants never runs behind one that was heard of.
            self.table.raise_sequence(envelope.scn);
            self.on_peer_payload(now, node, envelope.message);
        }
        any
    }

    /// A numbered message of a member, or of this node itself.
    pub(crate) fn on_peer_payload(&mut self, now: Time, from: NodeId, message: PeerMessage) {
        match message {
            PeerMessage::Introduce { version, session, home, principal: _, meta } => {
                self.on_introduce(now, from, (session, home, version), meta);
            }
            PeerMessage::Request { session, home, id, slot, generation, op } => {
                let key = (session, home, id);
                self.on_peer_request(now, Early { from, key, place: (slot, generation), op, stood: None });
            }
            PeerMessage::Again { session, home, id, slot, generation, stood, op } => {
                let key = (session, home, id);
                self.on_peer_request(now, Early { from, key, place: (slot, generation), op, stood: Some(stood) });
            }
            PeerMessage::Aged { session, home, age } => self.on_aged(now, (session, home), age),
            PeerMessage::ReleaseMany { session, home, locks } => self.on_release_many(now, (session, home), &locks),
            PeerMessage::Wounded { session, home, age } => self.on_wounded(now, (session, home), age),
            PeerMessage::Part { session, home, lost } => self.on_part(now, session, home, lost),
            PeerMessage::Report { epoch, rows, values, returning } => {
                self.on_report(now, from, epoch, &rows, values, &returning);
            }
            PeerMessage::ReportDone { epoch, unsettled } => self.on_report_done(now, from, epoch, &unsettled),
            PeerMessage::Claim { session, home, id, slot, generation, claim } => {
                self.on_peer_claim(now, from, (session, home, id), (slot, generation), &claim);
            }
            PeerMessage::ClaimsDone { session, home } => self.on_claims_done(now, session, home),
            PeerMessage::Reply { session, home, id, generation, reply } => {
                self.on_reply(now, from, (session, home, id), generation, reply);
            }
            PeerMessage::Stale { session, home, id, generation } => {
                self.on_stale(now, (session, home, id), generation);
            }
            PeerMessage::Notice { session, home, notice } => self.on_peer_notice(now, from, session, home, notice),
            PeerMessage::Restored { epoch, fates } => self.on_restored(now, from, epoch, fates),
            PeerMessage::Claimed { session, home, id, generation, reply } => {
                self.on_claimed(now, from, (session, home, id), generation, reply);
            }
            PeerMessage::Ask { ask, query } => self.on_ask(now, from, ask, &query),
            PeerMessage::Answer { ask, report } => self.on_peer_answer(now, from, ask, report),
            PeerMessage::Order { ask, by, order } => self.on_order(now, from, ask, &by, order),
            PeerMessage::Obeyed { ask, reply } => self.on_obeyed(now, from, ask, reply),
            PeerMessage::Stuck { session, home, waits, locks } => self.on_stuck(now, (session, home), waits, locks),
            PeerMessage::Probe { origin, by, number, wait, path } => {
                self.on_probe(now, (origin, by, number), wait, &path);
            }
            PeerMessage::Cycle { edges } => self.on_cycle(now, edges),
            PeerMessage::Confirm { ask, edges } => self.on_confirm(now, from, ask, &edges),
            PeerMessage::Confirmed { ask, found } => self.on_confirmed(now, from, ask, found),
            PeerMessage::Victim { ask, wait, report } => self.on_victim(now, from, ask, wait, *report),
            PeerMessage::Resolved { ask, over } => self.on_resolved(now, from, ask, over),
            // Not numbered, so never here.
            PeerMessage::Hello { .. } | PeerMessage::Ack | PeerMessage::Alive => {}
        }
    }
}
