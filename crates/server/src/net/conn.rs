//! The receiving side of a connection, owned by one event loop.

use std::{os::fd::OwnedFd, sync::Arc};

use lockstead_node::Principal;
use lockstead_types::{NodeId, message::ClientMessage};
use lockstead_wire::LINK_FRAME_BYTES;

use super::outbox::Outbox;

/// The longest frame of a node that has dialled this one and has not said hello.
const FIRST_LINK_FRAME_BYTES: u32 = 256;

/// A connection that was accepted and belongs to no event loop yet.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) fd: OwnedFd,
    pub(crate) origin: Origin,
}

/// Who is at the other end of a connection.
#[derive(Debug)]
pub(crate) enum Origin {
    /// A client.
    Client {
        /// Whether it is a Unix socket: its end proves that every process that held it is gone.
        local: bool,
        /// Who the transport says it is.
        principal: Principal,
    },
    /// Another node: a link.
    Peer {
        /// Whom this node dialled; `None` where the other did.
        dialed: Option<NodeId>,
    },
}

/// What is spoken over a connection.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// The protocol of clients.
    Client,
    /// That of nodes among each other.
    Peer {
        /// The longest frame of one that has not said hello.
        first_frame: u32,
    },
}

impl Origin {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Origin::Client { .. } => Kind::Client,
            // Whoever dialled says hello and waits; an answer's hello comes in one frame with all that is said again.
            Origin::Peer { dialed: None } => Kind::Peer { first_frame: FIRST_LINK_FRAME_BYTES },
            Origin::Peer { dialed: Some(_) } => Kind::Peer { first_frame: LINK_FRAME_BYTES },
        }
    }
}

/// The receiving side of a connection.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) kind: Kind,
    /// The beginning of a frame whose end has not come.
    pub(crate) partial: Vec<u8>,
    pub(crate) stage: Stage,
    /// The node has done with it: what still comes is thrown away until the peer closes.
    pub(crate) closing: bool,
    /// Whether it is in the list of connections to read.
    pub(crate) listed: bool,
    /// Whether the peer is known to have closed its side, so that a short read is not the last one.
    pub(crate) ending: bool,
}

/// How far the other end has introduced itself.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Stage {
    /// It has said nothing.
    New,
    /// It has said hello.
    Greeted,
    /// It has asked for a session.
    Session,
}

impl Stage {
    /// The stage after a message.
    pub(crate) fn after(self, message: &ClientMessage<'_>) -> Stage {
        match message {
            ClientMessage::Open { .. } | ClientMessage::Attach { .. } => Stage::Session,
            _ => self.max(Stage::Greeted),
        }
    }
}

impl Conn {
    pub(crate) fn new(outbox: Arc<Outbox>, kind: Kind) -> Conn {
        Conn { outbox, kind, partial: Vec::new(), stage: Stage::New, closing: false, listed: false, ending: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_dialled_may_answer_with_more_than_a_hello() {
        let first = |dialed| match (Origin::Peer { dialed }).kind() {
            Kind::Peer { first_frame } => first_frame,
            Kind::Client => 0,
        };
        assert_eq!(first(Some(NodeId(2))), LINK_FRAME_BYTES);
        assert_eq!(first(None), FIRST_LINK_FRAME_BYTES);
    }
}
