//! From ready sockets to a batch of inputs for the node: one read for each, then all frames that are whole.

use core::mem;
use std::os::fd::OwnedFd;

use lockstead_node::Input;
use lockstead_types::{ConnId, message::ClientMessage, mode::ModeTableSpec, request::Op, space::ModeChoice};
use lockstead_wire::{DecodeError, DecodeLimits, LINK_FRAME_BYTES, client_messages, peer_messages, split_frame};
use rustix::{
    buffer::spare_capacity,
    io::Errno,
    net::{RecvFlags, recv},
};

use super::conn::{Conn, Kind, Stage};

/// Bytes read from one connection in a turn, so that one that sends without end does not hold up the others.
pub(crate) const READ_BYTES: usize = 65_536;
/// Buffers kept for the next turn.
const POOL: usize = 16;

/// What was read from one connection in this turn.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) conn: ConnId,
    pub(crate) kind: Kind,
    bytes: Vec<u8>,
    /// Bytes of whole frames.
    pub(crate) consumed: usize,
    pub(crate) stage: Stage,
    end: End,
    /// The node has done with the connection: what comes is thrown away.
    discard: bool,
    /// What is wrong with the bytes.
    pub(crate) fault: Option<DecodeError>,
}

/// How reading stopped.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum End {
    /// Nothing more is there now.
    Drained,
    /// There may be more.
    More,
    /// The peer has closed, or the connection broke.
    Gone,
}

/// Buffers that go round, so that an idle connection has none.
#[derive(Debug, Default)]
pub(crate) struct Buffers(Vec<Vec<u8>>);

impl Buffers {
    fn take(&mut self) -> Vec<u8> {
        self.0.pop().unwrap_or_else(|| Vec::with_capacity(READ_BYTES))
    }

    fn give(&mut self, mut bytes: Vec<u8>) {
        if self.0.len() < POOL && (READ_BYTES..4 * READ_BYTES).contains(&bytes.capacity()) {
            bytes.clear();
            self.0.push(bytes);
        }
    }
}

impl Read {
    /// Reads once from a connection.
    pub(crate) fn from(conn: &mut Conn, buffers: &mut Buffers) -> Read {
        let mut bytes = mem::take(&mut conn.partial);
        if bytes.len() < READ_BYTES / 4 {
            // The rest of a frame was kept in a buffer of its own size.
            let mut wide = buffers.take();
            wide.extend_from_slice(&bytes);
            bytes = wide;
        }
        bytes.reserve(READ_BYTES / 2);
        let room = bytes.capacity() - bytes.len();
        let end = match receive(conn.outbox.fd(), &mut bytes) {
            Ok(0) => End::Gone,
            Ok(n) if n == room || conn.ending => End::More,
            Ok(_) | Err(Errno::WOULDBLOCK) => End::Drained,
            Err(_) => End::Gone,
        };
        let (id, kind, stage, discard) = (conn.outbox.conn, conn.kind, conn.stage, conn.closing);
        Read { conn: id, kind, bytes, consumed: 0, stage, end, discard, fault: None }
    }

    /// Whether the connection should be read again without waiting for an event.
    pub(crate) fn wants_more(&self) -> bool {
        self.end == End::More
    }

    /// Whether nothing more will come.
    pub(crate) fn is_gone(&self) -> bool {
        self.end == End::Gone
    }

    /// Bytes in hand.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Takes what is left to the next turn back to its connection.
    pub(crate) fn finish(mut self, conn: Option<&mut Conn>, buffers: &mut Buffers) {
        let keep = self.bytes.len().saturating_sub(self.consumed);
        if let Some(conn) = conn
            && keep > 0
            && self.fault.is_none()
            && self.end != End::Gone
        {
            if keep < READ_BYTES / 4 {
                conn.partial = self.bytes.get(self.consumed..).unwrap_or_default().to_vec();
            } else {
                self.bytes.drain(..self.consumed);
                conn.partial = self.bytes;
                return;
            }
        }
        buffers.give(self.bytes);
    }
}

/// Bounds on reading.
#[derive(Copy, Clone, Debug)]
pub(crate) struct ReadLimits<'a> {
    pub(crate) decode: &'a DecodeLimits,
    pub(crate) frame_bytes: u32,
    /// The longest frame of a client that has not asked for a session.
    pub(crate) first_frame_bytes: u32,
    pub(crate) mode_tables: &'a [ModeTableSpec],
}

/// Decodes what was read into inputs: messages in order, then what ends the connection. `outcome` gets what the borrow of
/// the bytes does not allow to be written to the reads themselves: bytes consumed, stage, fault.
pub(crate) fn decode<'a>(
    reads: &'a [Read],
    limits: ReadLimits<'_>,
    inputs: &mut Vec<Input<'a>>,
    outcomes: &mut Vec<(usize, Stage, Option<DecodeError>)>,
) -> u64 {
    let before = inputs.len();
    for read in reads {
        let (consumed, stage, fault) = match read.kind {
            Kind::Client => decode_one(read, limits, inputs),
            Kind::Peer { first_frame } => decode_peer(read, first_frame, inputs),
        };
        outcomes.push((consumed, stage, fault));
    }
    let messages = (inputs.len() - before) as u64;
    for (read, (_, _, fault)) in reads.iter().zip(outcomes.iter()) {
        let conn = read.conn;
        if read.discard {
            continue;
        }
        match (read.kind, read.end == End::Gone, fault) {
            (Kind::Client, true, _) => inputs.push(Input::Disconnected { conn }),
            (Kind::Client, false, Some(fault)) => inputs.push(Input::Cut { conn, why: fault.rejection() }),
            // What it has said in vain it says again over the next connection.
            (Kind::Peer { .. }, true, _) | (Kind::Peer { .. }, _, Some(_)) => {
                inputs.push(Input::PeerDisconnected { conn })
            }
            (_, false, None) => {}
        }
    }
    messages
}

fn decode_one<'a>(
    read: &'a Read,
    limits: ReadLimits<'_>,
    inputs: &mut Vec<Input<'a>>,
) -> (usize, Stage, Option<DecodeError>) {
    let (conn, mut consumed, mut stage) = (read.conn, 0, read.stage);
    if read.discard {
        return (read.bytes.len(), stage, None);
    }
    loop {
        let most = if stage == Stage::Session { limits.frame_bytes } else { limits.first_frame_bytes };
        let (body, length) = match split_frame(read.bytes.get(consumed..).unwrap_or_default(), most) {
            Ok(Some(found)) => found,
            Ok(None) => return (consumed, stage, None),
            Err(fault) => return (consumed, stage, Some(fault)),
        };
        for message in client_messages(body, limits.decode) {
            match message {
                Ok(mut message) => {
                    stage = stage.after(&message);
                    name_modes(&mut message, limits.mode_tables);
                    inputs.push(Input::Message { conn, message });
                }
                Err(fault) => return (consumed, stage, Some(fault)),
            }
        }
        consumed += length;
    }
}

fn decode_peer<'a>(
    read: &'a Read,
    first_frame: u32,
    inputs: &mut Vec<Input<'a>>,
) -> (usize, Stage, Option<DecodeError>) {
    let (conn, mut consumed, mut stage) = (read.conn, 0, read.stage);
    if read.discard {
        return (read.bytes.len(), stage, None);
    }
    loop {
        let most = if stage == Stage::New { first_frame } else { LINK_FRAME_BYTES };
        let (body, length) = match split_frame(read.bytes.get(consumed..).unwrap_or_default(), most) {
            Ok(Some(found)) => found,
            Ok(None) => return (consumed, stage, None),
            Err(fault) => return (consumed, stage, Some(fault)),
        };
        for envelope in peer_messages(body) {
            match envelope {
                Ok(envelope) => inputs.push(Input::PeerMessage { conn, envelope }),
                Err(fault) => return (consumed, stage, Some(fault)),
            }
        }
        stage = stage.max(Stage::Greeted);
        consumed += length;
    }
}

/// Gives a lockspace that is to be created with a mode table of the configuration that table.
fn name_modes(message: &mut ClientMessage<'_>, tables: &[ModeTableSpec]) {
    if let ClientMessage::Request { op: Op::SpaceCreate(spec), .. } = message
        && let ModeChoice::BuiltIn(name) = &spec.modes
        && let Some(table) = tables.iter().find(|table| table.name == *name)
    {
        spec.modes = ModeChoice::Custom(table.clone());
    }
}

fn receive(fd: &OwnedFd, bytes: &mut Vec<u8>) -> Result<usize, Errno> {
    loop {
        match recv(fd, spare_capacity(bytes), RecvFlags::DONTWAIT) {
            Ok((n, _)) => return Ok(n),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// An empty list for inputs that borrow from another turn's bytes, with the memory of `used`.
#[expect(clippy::unnecessary_filter_map, reason = "a filter would not change the type")]
pub(crate) fn recycle<'b>(mut used: Vec<Input<'_>>) -> Vec<Input<'b>> {
    used.clear();
    // The standard library collects in place here, since both types have the same layout.
    used.into_iter().filter_map(|_| None).collect()
}
