//! What a node is told and what it tells: the whole surface between the state machine and its shell.

use alloc::{boxed::Box, string::String, vec::Vec};

use lockstead_cluster::{Command, State};
use lockstead_types::{
    ConnId, Limits, NodeId, SessionId, SpaceId, Span, Time,
    message::{ClientMessage, Rejection, ServerMessage},
    peer::Envelope,
    space::SpaceSpec,
};

use crate::{member::MemberConfig, principal::Principal};

/// What a node starts with.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Its number.
    pub node: NodeId,
    /// How often it started with its data directory; part of every token, so it must never have been used before.
    pub epoch: u32,
    /// Every bound.
    pub limits: Limits,
    /// Seeds the hashes of names, so that nobody outside can choose names that collide.
    pub hash_seed: u64,
    /// Version of the program, for `status`.
    pub version: String,
    /// Lockspaces of the data directory. `default` is added as number 0 where it is absent.
    pub spaces: Vec<(SpaceId, SpaceSpec)>,
    /// Sessions of before the start that had not ended.
    pub recorded: Vec<SessionRecord>,
    /// The largest lease ever granted with this data directory.
    pub ttl_max_recorded: Span,
    /// Whether there is a data directory: then a remote session is open only after [`Input::Recorded`].
    pub durable: bool,
    /// What it needs to be a member of a cluster; `None` for a node alone. Of a member, `epoch`, `spaces`, `recorded`,
    /// `ttl_max_recorded` and `durable` are not looked at: the cluster's state says it.
    pub member: Option<MemberConfig>,
}

/// What is kept of a session beyond a crash of the node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionRecord {
    /// Its id.
    pub session: SessionId,
    /// Its lease.
    pub ttl: Span,
    /// Whether it came over a local connection.
    pub local: bool,
    /// Who opened it: the text of a [`Principal`].
    pub principal: String,
}

/// What the world tells a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input<'a> {
    /// A connection was accepted.
    Connected {
        /// Its number, never used before.
        conn: ConnId,
        /// Whether its end proves that every process that held it is gone (Unix socket, in process).
        local: bool,
        /// Who the transport says is at the other end.
        principal: Principal,
    },
    /// A message arrived. Those of a connection the node does not know (any more) are ignored.
    Message {
        /// Over which connection.
        conn: ConnId,
        /// The message.
        message: ClientMessage<'a>,
    },
    /// The peer closed the connection or it broke. The end of a local one ends its session at once; the end of a remote one
    /// proves nothing, and its session waits for a new connection until its lease ends ([SESS-7]).
    Disconnected {
        /// The connection.
        conn: ConnId,
    },
    /// The shell can not go on with the connection: undecodable bytes, a frame too long, a peer that does not read. The node
    /// answers with [`ServerMessage::Rejected`] and [`Output::Close`]. The session stays until its lease ends, also a local
    /// one: its processes are alive ([SESS-8]).
    Cut {
        /// The connection.
        conn: ConnId,
        /// Why.
        why: Rejection,
    },
    /// The journal has made the [`Record::Opened`] of this session durable.
    Recorded {
        /// The session.
        session: SessionId,
    },
    /// [`crate::Node::poll_deadline`] has come.
    Tick,
    /// The next command that the members agreed on, in order and without a gap from the state the node was made with. Members
    /// only, as all below.
    Committed {
        /// The command.
        command: &'a Command,
    },
    /// The node fell so far behind that commands are missing: the state after them.
    Snapshot {
        /// The state.
        state: Box<State>,
    },
    /// The group has confirmed that it puts no other in this node's place before `until`, by this node's clock.
    Authority {
        /// The end, exclusively. One earlier than known before changes nothing.
        until: Time,
    },
    /// Who leads the membership group, as far as the shell has heard. Only for those who look; nothing is decided by it.
    Led {
        /// Which member.
        by: NodeId,
    },
    /// A connection to another node is there.
    PeerConnected {
        /// Its number, never used before, also not for a client.
        conn: ConnId,
        /// Whom this node dialled; `None` where the other did.
        dialed: Option<NodeId>,
    },
    /// A message of another node arrived.
    PeerMessage {
        /// Over which connection.
        conn: ConnId,
        /// The message.
        envelope: Envelope,
    },
    /// A connection to another node broke or was closed.
    PeerDisconnected {
        /// The connection.
        conn: ConnId,
    },
    /// The node is about to stop: new connections and sessions are turned away with [`Rejection::Stopping`].
    Stop,
}

/// What a node wants done, in this order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Send a message.
    Send {
        /// Over which connection.
        conn: ConnId,
        /// The message.
        message: ServerMessage,
    },
    /// Close a connection, after all that was to be sent over it. The node has forgotten it already.
    Close {
        /// The connection.
        conn: ConnId,
    },
    /// Propose a command to the members. It may get lost: the node proposes it again.
    Propose(Command),
    /// Send a message to another node.
    SendPeer {
        /// Over which connection.
        conn: ConnId,
        /// The message.
        envelope: Envelope,
    },
    /// Close a connection to another node. The node has forgotten it already.
    ClosePeer {
        /// The connection.
        conn: ConnId,
    },
    /// Write to the journal.
    Record(Record),
}

/// A line of the journal. A node without a data directory may ignore all but [`Record::Audit`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Record {
    /// A session opens.
    Opened {
        /// What to keep of it.
        record: SessionRecord,
        /// Whether it must be durable: then answer with [`Input::Recorded`]. Otherwise written, without waiting for the disk,
        /// before any later output is acted on.
        durable: bool,
    },
    /// A session ended. It need not be durable: a session that is recorded though it ended only prolongs a freeze.
    Ended {
        /// The session.
        session: SessionId,
    },
    /// The largest lease ever granted rises. Must be as durable as the [`Record::Opened`] that follows, before or with it.
    TtlMax {
        /// The lease.
        ttl: Span,
    },
    /// A lockspace was created.
    SpaceCreated {
        /// Its number.
        id: SpaceId,
        /// How it is set up.
        spec: SpaceSpec,
    },
    /// A lockspace was dropped.
    SpaceDropped {
        /// Its number.
        id: SpaceId,
    },
    /// For the audit log: who did what by force, and why.
    Audit {
        /// One line.
        text: String,
    },
}
