//! What the one lock of a server guards: the node, the way to each connection, the journal.
//!
//! Everything the node wants done is done in its order while the lock is held, up to the system calls that send: messages
//! go into outboxes, records into the journal. A record is written before any message that follows it can be sent, also by
//! another thread that is writing to the same connection.

use std::{os::fd::OwnedFd, sync::Arc};

use lockstead_cluster::Command;
use lockstead_node::{Input, Node, Output, Record};
use lockstead_types::{
    ConnId, RequestId, SessionId, Time,
    message::{ClientMessage, Rejection, ServerMessage},
    peer::Envelope,
    reply::Reply,
    report::Report,
};

use crate::{
    data::{AuditLog, Journal},
    net::{
        conn::Origin,
        outbox::{Appended, Appender, Outbox},
    },
    server::Failed,
};

/// Messages handled before their outputs are carried out, so that both stay in the cache.
const CARRY_OUT_EVERY: usize = 64;

/// What the lock guards.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) node: Node,
    routes: Routes,
    pub(crate) journal: Option<Journal>,
    audit: Option<AuditLog>,
    /// What whoever is turned away for want of authority is told of the members, made for this version of the state.
    last_known: Option<(u64, ServerMessage)>,
    /// Why nothing may be done any more, once something could not be written.
    halted: Option<Failed>,
}

/// What is left to do when the lock is given back.
#[derive(Debug, Default)]
pub(crate) struct Afterwards {
    /// Outboxes with something new in them.
    pub(crate) touched: Vec<Arc<Outbox>>,
    /// Connections to be closed once they are written out.
    pub(crate) closing: Vec<Arc<Outbox>>,
    /// Sessions whose records are to be made durable.
    pub(crate) opened: Vec<SessionId>,
    /// Whether the journal should be written anew.
    pub(crate) compact: bool,
    /// How many clients were cut because they did not read.
    pub(crate) slow: u64,
    /// What is to be proposed to the members.
    pub(crate) proposals: Vec<Command>,
    /// Whether a connection to another node is gone.
    pub(crate) peer_lost: bool,
}

impl Core {
    pub(crate) fn new(node: Node, journal: Option<Journal>, audit: Option<AuditLog>) -> Core {
        Core { node, routes: Routes::default(), journal, audit, last_known: None, halted: None }
    }

    /// Why the server must stop, if it must.
    pub(crate) fn halted(&self) -> Option<&Failed> {
        self.halted.as_ref()
    }

    /// Stops everything: nothing more is written or sent.
    pub(crate) fn halt(&mut self, why: Failed) {
        if self.halted.is_none() {
            tracing::error!("the server stops: {why}");
            self.halted = Some(why);
        }
    }

    /// Lets go of all connections, without a word: for the end of the server.
    pub(crate) fn forget_connections(&mut self) {
        self.routes = Routes::default();
    }

    /// Takes in a connection that was accepted. `outbox` makes its outbox once its number is known.
    pub(crate) fn connect(
        &mut self,
        now: Time,
        fd: OwnedFd,
        origin: Origin,
        outbox: impl FnOnce(ConnId, OwnedFd) -> Outbox,
    ) -> Arc<Outbox> {
        let outbox = self.routes.add(|conn| outbox(conn, fd));
        let conn = outbox.conn;
        let input = match origin {
            Origin::Client { local, principal } => Input::Connected { conn, local, principal },
            Origin::Peer { dialed } => Input::PeerConnected { conn, dialed },
        };
        self.node.handle(now, input);
        outbox
    }

    /// Lets the node handle a batch and carries out what it wants.
    pub(crate) fn handle_all<'a>(
        &mut self,
        now: Time,
        inputs: impl Iterator<Item = Input<'a>>,
        after: &mut Afterwards,
    ) {
        let mut waiting = 0;
        for input in inputs {
            let gone = match &input {
                Input::Disconnected { conn } => Some(*conn),
                Input::PeerDisconnected { conn } => {
                    after.peer_lost = true;
                    Some(*conn)
                }
                _ => None,
            };
            match &input {
                // Most of them, handed on where they lie.
                Input::Message { conn, message: ClientMessage::Request { id, op } } => {
                    self.node.handle_request(now, *conn, *id, op);
                }
                _ => self.node.handle(now, input),
            }
            waiting += 1;
            if waiting == CARRY_OUT_EVERY || gone.is_some() {
                self.carry_out(now, after);
                waiting = 0;
            }
            if let Some(conn) = gone {
                self.routes.remove(conn);
            }
        }
        self.carry_out(now, after);
        if self.node.poll_deadline().is_some_and(|deadline| deadline <= now) {
            self.node.handle(now, Input::Tick);
            self.carry_out(now, after);
        }
        if let Some(journal) = &mut self.journal {
            after.opened = journal.take_opened();
            after.compact = journal.wants_compaction();
        }
    }

    /// Carries out everything the node wants done.
    fn carry_out(&mut self, now: Time, after: &mut Afterwards) {
        let mut next = self.node.poll_output();
        while let Some(output) = next.take() {
            if self.halted.is_some() {
                return;
            }
            next = match output {
                Output::Record(record) => {
                    self.stage(record);
                    None
                }
                Output::Close { conn } => {
                    self.write_journal();
                    if let Some(outbox) = self.routes.remove(conn) {
                        outbox.close();
                        after.closing.push(outbox);
                    }
                    None
                }
                Output::Send { conn, message } => {
                    self.write_journal();
                    self.send(now, conn, &message, after)
                }
                Output::SendPeer { conn, envelope } => self.send_peer(now, conn, &envelope, after),
                Output::ClosePeer { conn } => {
                    self.close_peer(conn, after);
                    None
                }
                Output::Propose(command) => {
                    after.proposals.push(command);
                    None
                }
            };
            if next.is_none() {
                next = self.node.poll_output();
            }
        }
        self.write_journal();
    }

    /// Appends a message, and those that follow it to the same connection, under one lock of its outbox. Gives back the
    /// first output that is none of them.
    fn send(&mut self, now: Time, conn: ConnId, message: &ServerMessage, after: &mut Afterwards) -> Option<Output> {
        if self.halted.is_some() {
            return None;
        }
        let outbox = self.routes.get(conn)?;
        let mut appender = outbox.appender();
        let mut appended = appender.append(message);
        if matches!(message, ServerMessage::Rejected { why: Rejection::NoAuthority }) && appended == Appended::Fine {
            appended = appender.append(last_known(&mut self.last_known, &self.node));
        }
        let mut next = None;
        while appended == Appended::Fine {
            match self.node.poll_output() {
                Some(Output::Send { conn: to, message }) if to == conn => appended = appender.append(&message),
                other => {
                    next = other;
                    break;
                }
            }
        }
        touch(&mut appender, outbox, &mut after.touched);
        drop(appender);
        match appended {
            Appended::Fine => {}
            Appended::Overflow => {
                after.slow += 1;
                outbox.overflow();
                self.node.handle(now, Input::Cut { conn, why: Rejection::SlowReader });
            }
            Appended::Unsendable => {
                // The client must not wait for an answer that cannot be said; it asks again over a new connection.
                outbox.overflow();
                self.node.handle(now, Input::Cut { conn, why: Rejection::FrameTooLong });
            }
        }
        next
    }

    /// As `send`, to another node.
    fn send_peer(&mut self, now: Time, conn: ConnId, envelope: &Envelope, after: &mut Afterwards) -> Option<Output> {
        let outbox = self.routes.get(conn)?;
        let mut appender = outbox.appender();
        let mut appended = appender.append_peer(envelope);
        let mut next = None;
        while appended == Appended::Fine {
            match self.node.poll_output() {
                Some(Output::SendPeer { conn: to, envelope }) if to == conn => {
                    appended = appender.append_peer(&envelope);
                }
                other => {
                    next = other;
                    break;
                }
            }
        }
        touch(&mut appender, outbox, &mut after.touched);
        drop(appender);
        if appended != Appended::Fine {
            tracing::warn!(
                conn = conn.0,
                "a link is given up: {}",
                match appended {
                    Appended::Unsendable => "a message fits no frame",
                    Appended::Overflow | Appended::Fine => "the other node does not read",
                }
            );
            outbox.overflow();
            self.close_peer(conn, after);
            self.node.handle(now, Input::PeerDisconnected { conn });
        }
        next
    }

    fn close_peer(&mut self, conn: ConnId, after: &mut Afterwards) {
        after.peer_lost = true;
        if let Some(outbox) = self.routes.remove(conn) {
            outbox.close();
            after.closing.push(outbox);
        }
    }

    fn stage(&mut self, record: Record) {
        let audit = match (&mut self.journal, record) {
            (Some(journal), record) => journal.stage(record),
            (None, Record::Audit { text }) => Some(text),
            (None, _) => None,
        };
        let Some(text) = audit else { return };
        tracing::warn!(target: "lockstead::audit", "{text}");
        if let Some(log) = &mut self.audit
            && let Err(error) = log.append(&text)
        {
            self.halt(Failed::Broken(format!("the audit log cannot be written: {error}")));
        }
    }

    fn write_journal(&mut self) {
        if let Some(journal) = &mut self.journal
            && journal.has_staged()
            && self.halted.is_none()
            && let Err(error) = journal.write()
        {
            let why = format!("the journal cannot be written: {error}. Free or repair the disk, then start again");
            self.halt(Failed::Broken(why));
        }
    }
}

/// The members as the node knew them last: an answer that nobody asked for, since a node without authority takes no questions.
fn last_known<'a>(kept: &'a mut Option<(u64, ServerMessage)>, node: &Node) -> &'a ServerMessage {
    let version = node.cluster_state().map_or(0, |state| state.version);
    if kept.as_ref().is_some_and(|(of, _)| *of != version) {
        *kept = None;
    }
    let make = || {
        let reply = Reply::Report(Box::new(Report::Members(node.member_rows())));
        (version, ServerMessage::Reply { id: RequestId(0), reply })
    };
    &kept.get_or_insert_with(make).1
}

fn touch(appender: &mut Appender<'_>, outbox: &Arc<Outbox>, touched: &mut Vec<Arc<Outbox>>) {
    if appender.touch() {
        touched.push(Arc::clone(outbox));
    }
}

/// The way to each connection: a dense table. A number is a place in it and how often the place was used before, so it is
/// never used again.
#[derive(Debug, Default)]
struct Routes {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot {
    uses: u32,
    outbox: Option<Arc<Outbox>>,
}

impl Routes {
    fn add(&mut self, make: impl FnOnce(ConnId) -> Outbox) -> Arc<Outbox> {
        let place = self.free.pop().unwrap_or(self.slots.len() as u32);
        if usize::try_from(place).is_ok_and(|p| p == self.slots.len()) {
            self.slots.push(Slot { uses: 0, outbox: None });
        }
        let slot = &mut self.slots[place as usize];
        slot.uses = slot.uses.wrapping_add(1);
        let outbox = Arc::new(make(ConnId(u64::from(slot.uses) << 32 | u64::from(place))));
        slot.outbox = Some(Arc::clone(&outbox));
        outbox
    }

    fn get(&self, conn: ConnId) -> Option<&Arc<Outbox>> {
        let slot = self.slots.get((conn.0 & u64::from(u32::MAX)) as usize)?;
        slot.outbox.as_ref().filter(|outbox| outbox.conn == conn)
    }

    fn remove(&mut self, conn: ConnId) -> Option<Arc<Outbox>> {
        self.get(conn)?;
        let place = (conn.0 & u64::from(u32::MAX)) as u32;
        self.free.push(place);
        self.slots[place as usize].outbox.take()
    }
}
