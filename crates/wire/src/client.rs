//! Messages of a client: one byte says which, below 0x80. Requests have their number next.

use alloc::{boxed::Box, vec::Vec};

use lockstead_types::{
    RequestId, Sealed, SessionId, SpaceId, Span, Token,
    message::{ClientMessage, Reclaim},
    report::Meta,
    request::{ConvertRequest, LockRequest, Op, Query, Stood, Target},
};

use crate::{
    error::{DecodeError, EncodeError},
    field::{Field, Reader, put_head},
    hot::{get_release, put_release},
    limits::DecodeLimits,
};

/// The first byte of each message.
mod code {
    pub(super) const HELLO: u8 = 0x01;
    pub(super) const OPEN: u8 = 0x02;
    pub(super) const ATTACH: u8 = 0x03;
    pub(super) const RECLAIM: u8 = 0x04;
    pub(super) const RECLAIM_DONE: u8 = 0x05;
    pub(super) const RENEW: u8 = 0x06;
    pub(super) const ACK: u8 = 0x07;
    pub(super) const GOODBYE: u8 = 0x08;
    pub(super) const RECLAIM_SEALED: u8 = 0x09;
    pub(super) const AGAIN: u8 = 0x0A;

    pub(super) const LOCK: u8 = 0x10;
    pub(super) const LOCK_MANY: u8 = 0x11;
    pub(super) const CONVERT: u8 = 0x12;
    pub(super) const RELEASE: u8 = 0x13;
    pub(super) const CANCEL: u8 = 0x14;
    pub(super) const READ_VALUE: u8 = 0x15;
    pub(super) const SYNC: u8 = 0x16;
    pub(super) const GROUP_ATTACH: u8 = 0x17;
    pub(super) const GROUP_DETACH: u8 = 0x18;
    pub(super) const SPACE_OPEN: u8 = 0x19;
    pub(super) const SPACE_CREATE: u8 = 0x1A;
    pub(super) const SPACE_DROP: u8 = 0x1B;
    pub(super) const PURGE: u8 = 0x1C;
    pub(super) const FORCE_RELEASE: u8 = 0x1D;
    pub(super) const END_SESSION: u8 = 0x1E;
    pub(super) const QUERY: u8 = 0x1F;
    pub(super) const WATCH: u8 = 0x20;
    pub(super) const UNWATCH: u8 = 0x21;
    pub(super) const CLUSTER: u8 = 0x22;
    pub(super) const BEGIN: u8 = 0x23;
    pub(super) const RESUME: u8 = 0x24;
    pub(super) const COMMIT: u8 = 0x25;
    pub(super) const ROLLBACK: u8 = 0x26;
    pub(super) const SAVEPOINT: u8 = 0x27;
    pub(super) const END_STATEMENT: u8 = 0x28;
    pub(super) const LOCK_PATH: u8 = 0x29;
}

/// Appends one message, without a frame header.
///
/// # Errors
/// [`EncodeError`] for a message its reader would refuse; `out` is as before.
pub fn encode_client(message: &ClientMessage<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let start = out.len();
    let result = match message {
        ClientMessage::Request { id, op } => put_op(*id, op, out),
        other => put_rest(other, out),
    };
    if result.is_err() {
        out.truncate(start);
    }
    result
}

/// The messages of a frame's body, in order. It ends after the first error: what follows cannot be told apart any more.
/// Messages before the error are whole and valid.
#[must_use]
pub fn client_messages<'a>(body: &'a [u8], limits: &DecodeLimits) -> ClientMessages<'a> {
    ClientMessages(Reader::new(body, *limits))
}

/// See [`client_messages`].
#[derive(Debug)]
pub struct ClientMessages<'a>(Reader<'a>);

impl<'a> Iterator for ClientMessages<'a> {
    type Item = Result<ClientMessage<'a>, DecodeError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let message = get(&mut self.0);
        if message.is_err() {
            self.0.stop();
        }
        Some(message)
    }
}

impl core::iter::FusedIterator for ClientMessages<'_> {}

#[inline]
fn put_op(id: RequestId, op: &Op<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    put_head(op_code(op), id, out);
    match op {
        Op::Lock(request) => request.put(out),
        Op::Release { release, one_way } => put_release(release, *one_way, out),
        other => put_fields(other, out),
    }
}

#[inline]
fn op_code(op: &Op<'_>) -> u8 {
    match op {
        Op::Lock(_) => code::LOCK,
        Op::LockMany(_) => code::LOCK_MANY,
        Op::LockPath(_) => code::LOCK_PATH,
        Op::Convert(_) => code::CONVERT,
        Op::Release { .. } => code::RELEASE,
        Op::Cancel(_) => code::CANCEL,
        Op::ReadValue(_) => code::READ_VALUE,
        Op::Sync => code::SYNC,
        Op::GroupAttach { .. } => code::GROUP_ATTACH,
        Op::GroupDetach(_) => code::GROUP_DETACH,
        Op::SpaceOpen { .. } => code::SPACE_OPEN,
        Op::SpaceCreate(_) => code::SPACE_CREATE,
        Op::SpaceDrop { .. } => code::SPACE_DROP,
        Op::Purge { .. } => code::PURGE,
        Op::ForceRelease { .. } => code::FORCE_RELEASE,
        Op::EndSession { .. } => code::END_SESSION,
        Op::Query(_) => code::QUERY,
        Op::Watch { .. } => code::WATCH,
        Op::Unwatch => code::UNWATCH,
        Op::Cluster(_) => code::CLUSTER,
        Op::Begin { .. } => code::BEGIN,
        Op::Resume(_) => code::RESUME,
        Op::Commit => code::COMMIT,
        Op::Rollback { .. } => code::ROLLBACK,
        Op::Savepoint => code::SAVEPOINT,
        Op::EndStatement => code::END_STATEMENT,
    }
}

#[inline(never)]
fn put_fields(op: &Op<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    match op {
        Op::Lock(request) => request.put(out),
        Op::LockMany(requests) => requests.put(out),
        Op::LockPath(request) => request.put(out),
        Op::Convert(request) => request.put(out),
        Op::Release { release, one_way } => put_release(release, *one_way, out),
        Op::Cancel(target) => target.put(out),
        Op::ReadValue(lock) => lock.put(out),
        Op::Sync | Op::Unwatch | Op::Commit | Op::Savepoint | Op::EndStatement => Ok(()),
        Op::Begin { age } => age.put(out),
        Op::Resume(resume) => resume.put(out),
        Op::Rollback { to } => to.put(out),
        Op::Cluster(order) => order.put(out),
        Op::GroupAttach { name } => name.put(out),
        Op::GroupDetach(group) => group.put(out),
        Op::SpaceOpen { name } => name.put(out),
        Op::SpaceCreate(spec) => spec.put(out),
        Op::SpaceDrop { name, force } => {
            name.put(out)?;
            force.put(out)
        }
        Op::Purge { space, session } => {
            space.put(out)?;
            session.put(out)
        }
        Op::ForceRelease { space, name, token, reason } => {
            space.put(out)?;
            name.put(out)?;
            token.put(out)?;
            reason.put(out)
        }
        Op::EndSession { session, reason } => {
            session.put(out)?;
            reason.put(out)
        }
        Op::Query(query) => query.put(out),
        Op::Watch { space, prefix } => {
            space.put(out)?;
            prefix.put(out)
        }
    }
}

#[inline(never)]
fn put_rest(message: &ClientMessage<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    match message {
        ClientMessage::Hello { version } => {
            out.push(code::HELLO);
            version.put(out)
        }
        ClientMessage::Open { session, ttl, meta } => {
            out.push(code::OPEN);
            session.put(out)?;
            ttl.put(out)?;
            meta.put(out)
        }
        ClientMessage::Attach { session, ttl, meta, answers } => {
            out.push(code::ATTACH);
            session.put(out)?;
            ttl.put(out)?;
            answers.put(out)?;
            meta.put(out)
        }
        ClientMessage::Reclaim { id, claim, sealed } => {
            out.push(if sealed.is_some() { code::RECLAIM_SEALED } else { code::RECLAIM });
            id.put(out)?;
            claim.put(out)?;
            sealed.as_ref().map_or(Ok(()), |sealed| sealed.put(out))
        }
        ClientMessage::Again { id, stood, op: op @ (Op::Lock(_) | Op::Convert(_)) } => {
            out.push(code::AGAIN);
            stood.put(out)?;
            put_op(*id, op, out)
        }
        // [WIRE-7] Nothing else waits at a resource.
        ClientMessage::Again { .. } => Err(EncodeError::Number { field: "request that waits" }),
        ClientMessage::ReclaimDone => {
            out.push(code::RECLAIM_DONE);
            Ok(())
        }
        ClientMessage::Renew { seq } => {
            out.push(code::RENEW);
            seq.put(out)
        }
        ClientMessage::Ack { answers } => {
            out.push(code::ACK);
            answers.put(out)
        }
        ClientMessage::Request { id, op } => put_op(*id, op, out),
        ClientMessage::Goodbye => {
            out.push(code::GOODBYE);
            Ok(())
        }
    }
}

#[inline]
fn get<'a>(r: &mut Reader<'a>) -> Result<ClientMessage<'a>, DecodeError> {
    let at = r.at();
    let code = u8::get(r)?;
    // The request's number stands at one place for all, so the hot ones are told apart after it.
    if (code::LOCK..=code::LOCK_PATH).contains(&code) {
        let id = RequestId::get(r)?;
        let op = match code {
            code::LOCK => Op::Lock(LockRequest::get(r)?),
            code::RELEASE => {
                let (release, one_way) = get_release(r)?;
                Op::Release { release, one_way }
            }
            code::CONVERT => Op::Convert(ConvertRequest::get(r)?),
            cold => get_cold(cold, at, r)?,
        };
        return Ok(ClientMessage::Request { id, op });
    }
    get_rest(code, at, r)
}

#[inline(never)]
fn get_cold<'a>(code: u8, at: usize, r: &mut Reader<'a>) -> Result<Op<'a>, DecodeError> {
    Ok(match code {
        code::LOCK_MANY => Op::LockMany(Vec::get(r)?),
        code::LOCK_PATH => Op::LockPath(LockRequest::get(r)?),
        code::CANCEL => Op::Cancel(Target::get(r)?),
        code::READ_VALUE => Op::ReadValue(Field::get(r)?),
        code::SYNC => Op::Sync,
        code::GROUP_ATTACH => Op::GroupAttach { name: Field::get(r)? },
        code::GROUP_DETACH => Op::GroupDetach(Field::get(r)?),
        code::SPACE_OPEN => Op::SpaceOpen { name: Field::get(r)? },
        code::SPACE_CREATE => Op::SpaceCreate(Box::get(r)?),
        code::SPACE_DROP => Op::SpaceDrop { name: Field::get(r)?, force: bool::get(r)? },
        code::PURGE => Op::Purge { space: SpaceId::get(r)?, session: Field::get(r)? },
        code::FORCE_RELEASE => Op::ForceRelease {
            space: SpaceId::get(r)?,
            name: Field::get(r)?,
            token: Token::get(r)?,
            reason: Field::get(r)?,
        },
        code::END_SESSION => Op::EndSession { session: SessionId::get(r)?, reason: Field::get(r)? },
        code::QUERY => Op::Query(Query::get(r)?),
        code::WATCH => Op::Watch { space: SpaceId::get(r)?, prefix: Field::get(r)? },
        code::UNWATCH => Op::Unwatch,
        code::CLUSTER => Op::Cluster(Field::get(r)?),
        code::BEGIN => Op::Begin { age: Field::get(r)? },
        code::RESUME => Op::Resume(Field::get(r)?),
        code::COMMIT => Op::Commit,
        code::ROLLBACK => Op::Rollback { to: Field::get(r)? },
        code::SAVEPOINT => Op::Savepoint,
        code::END_STATEMENT => Op::EndStatement,
        found => return Err(DecodeError::Opcode { at, found }),
    })
}

#[inline(never)]
fn get_rest<'a>(code: u8, at: usize, r: &mut Reader<'a>) -> Result<ClientMessage<'a>, DecodeError> {
    Ok(match code {
        code::HELLO => ClientMessage::Hello { version: u16::get(r)? },
        code::OPEN => ClientMessage::Open { session: SessionId::get(r)?, ttl: Span::get(r)?, meta: Meta::get(r)? },
        code::ATTACH => {
            let (session, ttl) = (SessionId::get(r)?, Span::get(r)?);
            ClientMessage::Attach { session, ttl, answers: u64::get(r)?, meta: Meta::get(r)? }
        }
        code::RECLAIM | code::RECLAIM_SEALED => {
            let (id, claim) = (RequestId::get(r)?, Reclaim::get(r)?);
            let sealed = if code == code::RECLAIM { None } else { Some(Sealed::get(r)?) };
            ClientMessage::Reclaim { id, claim, sealed }
        }
        code::AGAIN => get_again(r)?,
        code::RECLAIM_DONE => ClientMessage::ReclaimDone,
        code::RENEW => ClientMessage::Renew { seq: u64::get(r)? },
        code::ACK => ClientMessage::Ack { answers: u64::get(r)? },
        code::GOODBYE => ClientMessage::Goodbye,
        // [WIRE-5] What is not known is refused: nothing says how long it is.
        found => return Err(DecodeError::Opcode { at, found }),
    })
}

fn get_again<'a>(r: &mut Reader<'a>) -> Result<ClientMessage<'a>, DecodeError> {
    let stood = Stood::get(r)?;
    let (at, code) = (r.at(), u8::get(r)?);
    let id = RequestId::get(r)?;
    let op = match code {
        code::LOCK => Op::Lock(LockRequest::get(r)?),
        code::CONVERT => Op::Convert(ConvertRequest::get(r)?),
        found => return Err(DecodeError::Opcode { at, found }),
    };
    Ok(ClientMessage::Again { id, stood, op })
}
