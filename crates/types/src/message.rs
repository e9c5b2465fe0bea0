//! What goes over a client's connection, as meaning. `lockstead-wire` maps it to bytes and back.
//!
//! A connection carries one session. The client says [`ClientMessage::Hello`], then opens a session or attaches to one it
//! has, then sends requests numbered 1, 2, 3 ... in order, many at a time. Every request is answered under its number.
//! After a broken connection the client attaches again and repeats what has no answer; a node recognises numbers it has
//! seen and gives the answer it gave before ([SESS-6]).
//!
//! Both sides count the answers of a session: every [`ServerMessage::Reply`] to a request is one, `Queued` and the final one
//! of a request that waited count as two; answers to [`ClientMessage::Reclaim`] are not counted. The node keeps those the
//! client has not acknowledged and repeats them, in order, after [`ServerMessage::Attached`]. Counting answers, not request
//! numbers, keeps one long wait from holding back the acknowledgement of all that came after it. The count starts at 0
//! with [`ServerMessage::Opened`] and again with an [`Attached`] that asks to `reclaim`.

use alloc::vec::Vec;

use crate::{
    ids::{GroupId, LockId, NodeId, RequestId, SessionId, SpaceId},
    reply::{Notice, Reply},
    report::Meta,
    request::{Claim, Op, Stood},
    seal::Sealed,
    time::Span,
    token::Token,
    transaction::Part,
};

/// The version of the protocol this code speaks.
pub const PROTOCOL_VERSION: u16 = 1;

/// From a client to a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClientMessage<'a> {
    /// First on every connection.
    Hello {
        /// The newest version the client speaks.
        version: u16,
    },
    /// Open a session. Repeating it with the same id attaches instead.
    Open {
        /// Chosen by the client from the operating system's random source.
        session: SessionId,
        /// The lease asked for.
        ttl: Span,
        /// What the client says of itself.
        meta: Meta,
    },
    /// Go on with a session after its connection broke.
    Attach {
        /// The session.
        session: SessionId,
        /// The lease it was opened with, for a node that restarted.
        ttl: Span,
        /// What the client says of itself, for a node that restarted.
        meta: Meta,
        /// How many answers the client has received; the node repeats those after them.
        answers: u64,
    },
    /// After a restart of the node, or at another one ([`Attached::reclaim`]): a lock the session holds. Answered like a request, under `id`,
    /// with `Granted` (under the lock's new id) or `Refused`. Repeating a claim (same name, old lock id and token), over a
    /// new connection, gives the same answer.
    Reclaim {
        /// The number to answer under: any the client likes.
        id: RequestId,
        /// The lock.
        claim: Reclaim<'a>,
        /// What proves it: of the newest grant of the lock, where that came with a seal. A node alone asks for none.
        sealed: Option<Sealed>,
    },
    /// At another home, after all claims were answered and before `ReclaimDone`: a request that waited at the former one. It is a
    /// request like any other, but that it goes on where it stood ([CLUSTER-24]).
    Again {
        /// Its number from here on.
        id: RequestId,
        /// Where it stood.
        stood: Stood,
        /// What is asked: a lock or a conversion.
        op: Op<'a>,
    },
    /// After [`Attached::reclaim`]: every lock has been claimed, every wait said again.
    ReclaimDone,
    /// Renew the lease. `seq` comes back with the answer; the client counts its deadline from when it sent this.
    Renew {
        /// Any number.
        seq: u64,
    },
    /// The client has received so many answers; the node may forget them.
    Ack {
        /// How many, from the first of the session on.
        answers: u64,
    },
    /// A request.
    Request {
        /// Its number.
        id: RequestId,
        /// What is asked.
        op: Op<'a>,
    },
    /// The session ends, its locks are released. Answered by [`ServerMessage::Bye`].
    Goodbye,
}

/// A lock that a client holds, told to a node that does not know of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reclaim<'a> {
    /// The lockspace.
    pub space: SpaceId,
    /// The resource.
    pub name: &'a [u8],
    /// What is held.
    pub held: Claim,
    /// The token of the grant.
    pub token: Token,
    /// The id the lock had.
    pub lock: LockId,
    /// Its tag.
    pub tag: u32,
    /// Whether it stands alone ([`crate::request::OwnerRef::Alone`]).
    pub alone: bool,
    /// The group that owns it, by name, where one does.
    pub group: Option<&'a [u8]>,
    /// Which lock of the session's transaction it is, where it is one.
    pub part: Option<Part>,
    /// Whether it is PERSISTENT, NODLCKBLK, NOBAST.
    pub flags: crate::flags::Flags,
}

/// From a node to a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ServerMessage {
    /// Answers a hello.
    Welcome(Welcome),
    /// The hello or the bytes were not understood, or the connection is not wanted; it is closed after this.
    Rejected {
        /// Which.
        why: Rejection,
    },
    /// The session is open.
    Opened {
        /// The lease granted: the one asked for, brought within the node's limits.
        ttl: Span,
    },
    /// The session goes on.
    Attached(Attached),
    /// The session is not known: it was ended, or its lease ran out. Its locks are lost.
    Ended,
    /// The lease was renewed.
    Renewed {
        /// The number of the renewal.
        seq: u64,
    },
    /// An answer.
    Reply {
        /// To which request.
        id: RequestId,
        /// The answer.
        reply: Reply,
    },
    /// News.
    Notice(Notice),
    /// Answers a goodbye; the connection is closed after it.
    Bye,
}

/// What a node says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Welcome {
    /// The version both speak from here on.
    pub version: u16,
    /// Which node.
    pub node: NodeId,
    /// Its epoch: of a node alone, how often it started; of a cluster, its numbered membership.
    pub epoch: u32,
    /// Whether it takes this connection for a local one: its end ends the session.
    pub local: bool,
    /// How many requests may be unanswered, or answered and not acknowledged, at once (back-pressure).
    pub credit: u32,
    /// The longest frame it reads, bytes.
    pub frame_bytes: u32,
}

/// How a session goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attached {
    /// The lease granted.
    pub ttl: Span,
    /// The newest request this node saw of the session. The client repeats those above it, in order; after a restart the
    /// numbers go on rising from where they were, so they need not be consecutive. Answers that the client had not
    /// received follow.
    pub seen: RequestId,
    /// The node has no locks of this session, since it restarted or the session comes from another node: claim them, then
    /// say `ReclaimDone`.
    pub reclaim: bool,
    /// Numbers the homes of this session: it rises when the session comes to another node, and when its node restarts. What
    /// was claimed under one number is known under that number only, and a lower one than was heard before is that of a node
    /// that has not heard yet that the session left it ([HOME-2]).
    pub home: u32,
    /// The groups the session is attached to, which a restart or another home forgets.
    pub groups: Vec<GroupId>,
}

/// Why a connection was turned away.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Rejection {
    /// No common version.
    Version,
    /// Bytes that are no frame of this protocol, or a message out of its order.
    Protocol,
    /// A frame longer than allowed.
    FrameTooLong,
    /// More requests than the credit allows.
    Credit,
    /// Too many connections or sessions.
    Full,
    /// The client did not read what was sent to it.
    SlowReader,
    /// The client did not say hello, or open a session, in time.
    Idle,
    /// The node is stopping.
    Stopping,
    /// The same session attached over another connection.
    Superseded,
    /// The principal may not use this session.
    Denied,
    /// The node has no authority to decide now: it is cut off from the others. Another node may have, and the session may go
    /// on there.
    NoAuthority,
}

impl Rejection {
    /// In words, for people.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Rejection::Version => "no common protocol version",
            Rejection::Protocol => "bytes or a message the protocol does not allow",
            Rejection::FrameTooLong => "a frame longer than the limit",
            Rejection::Credit => "more requests in flight than the credit allows",
            Rejection::Full => "too many connections or sessions",
            Rejection::SlowReader => "the client does not read what it is sent",
            Rejection::Idle => "no hello or session in time",
            Rejection::Stopping => "the node is stopping",
            Rejection::Superseded => "the session attached over another connection",
            Rejection::Denied => "the session belongs to another principal",
            Rejection::NoAuthority => "the node may not decide now: it is cut off from the cluster",
        }
    }
}
