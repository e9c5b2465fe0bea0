//! What nodes say to each other: an envelope's fixed part, one byte for the message (0xC0 and above), its fields.
//!
//! A file of its own because nothing here is said to or by a client: the two formats change apart. Requests, answers and
//! notices have the records clients know. What is read owns its bytes, since a node keeps it.
//!
//! A link is a connection that starts with [`LINK_MAGIC`], then is a row of frames like any other, of at most
//! [`LINK_FRAME_BYTES`].

use alloc::{boxed::Box, vec::Vec};

use lockstead_types::{
    Age, Flags, LockId, NodeId, RequestId, Slot, SpaceId, Span, Token,
    chase::{Confirmation, CycleEdge, EdgeId, PeerEdge, PeerWait, WaitId},
    peer::{
        Envelope, Fates, HomeGeneration, Incarnation, OwnedClaim, PeerLock, PeerMessage, PeerOp, PeerOrder, PeerOwner,
        PeerQuery, SlotGeneration, ValueReport, WaitReport, Written,
    },
    reply::{Reply, Value},
    report::WaitEdge,
    request::{Claim, ConvertRequest, LockRequest, OwnerRef, ReleaseRequest, Target},
    slot::SLOTS,
};

use crate::{
    error::{DecodeError, EncodeError},
    field::{Field, Reader, choice, record},
    hot::{get_release, put_release},
    limits::DecodeLimits,
    server::{get_reply_fields, put_reply_fields, reply_code},
};

/// The first bytes from the side that dials: what follows are frames of envelopes. A client's first frame differs in the
/// second byte.
pub const LINK_MAGIC: [u8; 8] = *b"\xBDlink\0\0\x01";
/// The longest frame between nodes, header included.
pub const LINK_FRAME_BYTES: u32 = 16 * 1_048_576;

/// Appends one envelope, without a frame header.
///
/// # Errors
/// [`EncodeError`] for a message its reader would refuse; `out` is as before.
pub fn encode_peer(envelope: &Envelope, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let start = out.len();
    let result = envelope.put(out);
    if result.is_err() {
        out.truncate(start);
    }
    result
}

/// The envelopes of a frame's body, in order. It ends after the first error: what follows cannot be told apart any more.
/// Envelopes before the error are whole and valid.
#[must_use]
pub fn peer_messages(body: &[u8]) -> PeerMessages<'_> {
    PeerMessages(Reader::new(body, DecodeLimits::CEILING))
}

/// See [`peer_messages`].
#[derive(Debug)]
pub struct PeerMessages<'a>(Reader<'a>);

impl Iterator for PeerMessages<'_> {
    type Item = Result<Envelope, DecodeError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let envelope = Envelope::get(&mut self.0);
        if envelope.is_err() {
            self.0.stop();
        }
        Some(envelope)
    }
}

impl core::iter::FusedIterator for PeerMessages<'_> {}

record!(Envelope { seq: u64, ack: u64, epoch: u32, scn: u64, message: PeerMessage });

choice!(PeerMessage, "message between nodes" {
    0xC1 = Hello { version, node, incarnation, to, received },
    0xC2 = Ack,
    0xC3 = Alive,

    0xD0 = Introduce { version, session, home, principal, meta },
    0xD1 = Request { session, home, id, slot, generation, op },
    0xD2 = Part { session, home, lost },
    0xD3 = Report { epoch, rows, values, returning },
    0xD4 = ReportDone { epoch, unsettled },
    0xD5 = Claim { session, home, id, slot, generation, claim },
    0xD6 = ClaimsDone { session, home },
    0xD7 = Again { session, home, id, slot, generation, stood, op },
    0xD8 = Aged { session, home, age },
    0xD9 = ReleaseMany { session, home, locks },

    0xE0 = Reply { session, home, id, generation, reply },
    0xE1 = Stale { session, home, id, generation },
    0xE2 = Notice { session, home, notice },
    0xE3 = Restored { epoch, fates },
    0xE4 = Claimed { session, home, id, generation, reply },
    0xE5 = Wounded { session, home, age },

    0xF0 = Ask { ask, query },
    0xF1 = Answer { ask, report },
    0xF2 = Order { ask, by, order },
    0xF3 = Obeyed { ask, reply },

    0xF8 = Stuck { session, home, waits, locks },
    0xF9 = Probe { origin, by, number, wait, path },
    0xFA = Cycle { edges },
    0xFB = Confirm { ask, edges },
    0xFC = Confirmed { ask, found },
    0xFD = Victim { ask, wait, report },
    0xFE = Resolved { ask, over },
});

record!(WaitId { lock: LockId, ticket: u64 });
record!(EdgeId { waiter: WaitId, blocker: LockId, mark: u64, hard: bool });
record!(PeerWait { node: NodeId, wait: WaitId });
record!(PeerEdge { node: NodeId, edge: EdgeId });
record!(CycleEdge { row: WaitEdge, priority: i8, locks: u32, age: Option<Age> });
choice!(Confirmation, "what became of the edges of a cycle" { 0 = Found(edges), 1 = Gone, 2 = Busy });

/// As to a client: the code of the answer, then its fields.
impl Field<'_> for Reply {
    const MIN: usize = 1;

    #[inline]
    fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.push(reply_code(self));
        put_reply_fields(self, out)
    }

    #[inline]
    fn get(r: &mut Reader<'_>) -> Result<Reply, DecodeError> {
        let at = r.at();
        let code = u8::get(r)?;
        get_reply_fields(code, at, r)
    }
}

const LOCK: u8 = 0;
const CONVERT: u8 = 1;
const RELEASE: u8 = 2;
const CANCEL: u8 = 3;
const READ_VALUE: u8 = 4;
const GROUP_LOCK: u8 = 5;

/// One byte for the kind, then the record of a client's request.
impl Field<'_> for PeerOp {
    const MIN: usize = 1;

    #[inline]
    fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self {
            PeerOp::Lock(lock) => {
                match &lock.owner {
                    PeerOwner::Session | PeerOwner::Alone => out.push(LOCK),
                    PeerOwner::Group(name) => {
                        out.push(GROUP_LOCK);
                        name.put(out)?;
                    }
                }
                lock.request().put(out)
            }
            PeerOp::Convert { lock, mode, wait, flags, value } => {
                out.push(CONVERT);
                let (lock, mode, wait, flags) = (*lock, *mode, *wait, *flags);
                ConvertRequest { lock, mode, wait, flags, value: value.as_deref() }.put(out)
            }
            PeerOp::Release { lock, flags, value, one_way } => {
                out.push(RELEASE);
                let release = ReleaseRequest { lock: *lock, flags: *flags, value: value.as_deref() };
                put_release(&release, *one_way, out)
            }
            PeerOp::Cancel(target) => {
                out.push(CANCEL);
                target.put(out)
            }
            PeerOp::ReadValue(lock) => {
                out.push(READ_VALUE);
                lock.put(out)
            }
        }
    }

    #[inline]
    fn get(r: &mut Reader<'_>) -> Result<PeerOp, DecodeError> {
        let at = r.at();
        Ok(match u8::get(r)? {
            LOCK => PeerOp::Lock(get_lock(r)?),
            GROUP_LOCK => {
                let (group, at) = (<Box<[u8]>>::get(r)?, r.at());
                let lock = get_lock(r)?;
                // [WIRE-5] A lock has one owner.
                if lock.owner != PeerOwner::Session {
                    return Err(DecodeError::Number { at, field: "owner" });
                }
                PeerOp::Lock(PeerLock { owner: PeerOwner::Group(group), ..lock })
            }
            CONVERT => {
                let ConvertRequest { lock, mode, wait, flags, value } = ConvertRequest::get(r)?;
                PeerOp::Convert { lock, mode, wait, flags, value: value.map(Box::from) }
            }
            RELEASE => {
                let (ReleaseRequest { lock, flags, value }, one_way) = get_release(r)?;
                PeerOp::Release { lock, flags, value: value.map(Box::from), one_way }
            }
            CANCEL => PeerOp::Cancel(Target::get(r)?),
            READ_VALUE => PeerOp::ReadValue(LockId::get(r)?),
            _ => return Err(DecodeError::Number { at, field: "request between nodes" }),
        })
    }
}

#[inline]
fn get_lock(r: &mut Reader<'_>) -> Result<PeerLock, DecodeError> {
    let at = r.at();
    let LockRequest { space, name, claim, wait, flags, owner, tag, priority } = LockRequest::get(r)?;
    let owner = match owner {
        OwnerRef::Session => PeerOwner::Session,
        OwnerRef::Alone => PeerOwner::Alone,
        // [WIRE-5] A group's number and a transaction are its home's own, so a record that has one has no meaning here.
        OwnerRef::Group(_) | OwnerRef::Transaction | OwnerRef::Statement => {
            return Err(DecodeError::Number { at, field: "owner" });
        }
    };
    Ok(PeerLock { space, name: name.into(), claim, wait, flags, owner, tag, priority })
}

record!(WaitReport {
    id: RequestId,
    claim: Claim,
    flags: Flags,
    left: Option<Span>,
    waited: Span,
    demoted: bool,
    ticket: u64,
    priority: i8,
    value: Option<Box<[u8]>>,
});
choice!(Written, "whether a value block may have been written" {
    0 = No,
    1 = Perhaps,
    2 = UnlessTold(node),
});
record!(ValueReport { space: SpaceId, name: Box<[u8]>, value: Value, written: Written });
record!(OwnedClaim {
    space: SpaceId,
    name: Box<[u8]>,
    held: Claim,
    token: Token,
    lock: LockId,
    tag: u32,
    owner: PeerOwner,
    flags: Flags,
});
choice!(PeerOwner, "owner at a master" { 0 = Session, 1 = Alone, 2 = Group(name) });

choice!(Fates, "fate of a reported lock" {
    0 = Restored { first, count },
    1 = Refused { why, count },
    2 = Passed { count },
});
choice!(PeerQuery, "question between nodes" {
    0 = Resources { space, prefix, from },
    1 = Resource { space, name },
    2 = Waits,
    3 = Sessions { after },
    4 = Deadlocks,
    5 = Status,
    6 = Sync,
    7 = Flush,
});
choice!(PeerOrder, "order between nodes" {
    0 = ForceRelease { space, name, token, reason },
    1 = Purge { space, session },
    2 = Watch { session, space, prefix },
    3 = Unwatch { session },
});

impl Field<'_> for Slot {
    const MIN: usize = 2;

    #[inline]
    fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if usize::from(self.0) < SLOTS { self.0.put(out) } else { Err(EncodeError::Number { field: "slot" }) }
    }

    /// [WIRE-5] Slot maps are 4,096 long, so a larger number must not get in.
    #[inline]
    fn get(r: &mut Reader<'_>) -> Result<Slot, DecodeError> {
        let at = r.at();
        let number = u16::get(r)?;
        if usize::from(number) < SLOTS { Ok(Slot(number)) } else { Err(DecodeError::Number { at, field: "slot" }) }
    }
}

macro_rules! counts {
    ($($type:ident),*) => {$(
        impl Field<'_> for $type {
            const MIN: usize = 4;

            #[inline]
            fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
                self.0.put(out)
            }

            #[inline]
            fn get(r: &mut Reader<'_>) -> Result<$type, DecodeError> {
                u32::get(r).map($type)
            }
        }
    )*};
}

counts!(Incarnation, HomeGeneration, SlotGeneration);
