//! Messages of a node: one byte says which, 0x80 and above. Answers have the request's number next.

use alloc::{boxed::Box, vec::Vec};

use lockstead_types::{
    GroupId, Refusal, RequestId, Span,
    message::{Attached, Rejection, ServerMessage, Welcome},
    reply::{Grant, Notice, PathGrant, Queued, Reply, Value},
    request::Claim,
};

use crate::{
    error::{DecodeError, EncodeError},
    field::{Field, Reader, put_head},
    limits::DecodeLimits,
};

/// The first byte of each message.
mod code {
    pub(super) const WELCOME: u8 = 0x81;
    pub(super) const REJECTED: u8 = 0x82;
    pub(super) const OPENED: u8 = 0x83;
    pub(super) const ATTACHED: u8 = 0x84;
    pub(super) const ENDED: u8 = 0x85;
    pub(super) const RENEWED: u8 = 0x86;
    pub(super) const NOTICE: u8 = 0x87;
    pub(super) const BYE: u8 = 0x88;

    pub(super) const GRANTED: u8 = 0x90;
    pub(super) const QUEUED: u8 = 0x91;
    pub(super) const RELEASED: u8 = 0x92;
    pub(super) const REFUSED: u8 = 0x93;
    pub(super) const GRANTED_MANY: u8 = 0x94;
    pub(super) const CANCELLED: u8 = 0x95;
    pub(super) const VALUE: u8 = 0x96;
    pub(super) const DONE: u8 = 0x97;
    pub(super) const GROUP: u8 = 0x98;
    pub(super) const SPACE: u8 = 0x99;
    pub(super) const PURGED: u8 = 0x9A;
    pub(super) const REPORT: u8 = 0x9B;
    pub(super) const DEMOTED: u8 = 0x9C;
    pub(super) const BEGUN: u8 = 0x9D;
    pub(super) const SAVEPOINT: u8 = 0x9E;
    pub(super) const GRANTED_PATH: u8 = 0x9F;
}

/// Appends one message, without a frame header.
///
/// # Errors
/// [`EncodeError`] for a message its reader would refuse; `out` is as before.
pub fn encode_server(message: &ServerMessage, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let start = out.len();
    let result = match message {
        ServerMessage::Reply { id, reply } => put_reply(*id, reply, out),
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
pub fn server_messages<'a>(body: &'a [u8], limits: &DecodeLimits) -> ServerMessages<'a> {
    ServerMessages(Reader::new(body, *limits))
}

/// See [`server_messages`].
#[derive(Debug)]
pub struct ServerMessages<'a>(Reader<'a>);

impl Iterator for ServerMessages<'_> {
    type Item = Result<ServerMessage, DecodeError>;

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

impl core::iter::FusedIterator for ServerMessages<'_> {}

#[inline]
fn put_reply(id: RequestId, reply: &Reply, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    put_head(reply_code(reply), id, out);
    put_reply_fields(reply, out)
}

/// Which answer it is.
#[inline]
pub(crate) fn reply_code(reply: &Reply) -> u8 {
    match reply {
        Reply::Queued(_) => code::QUEUED,
        Reply::Granted(_) => code::GRANTED,
        Reply::GrantedMany(_) => code::GRANTED_MANY,
        Reply::GrantedPath(_) => code::GRANTED_PATH,
        Reply::Released => code::RELEASED,
        Reply::Cancelled => code::CANCELLED,
        Reply::Value(_) => code::VALUE,
        Reply::Done => code::DONE,
        Reply::Group(_) => code::GROUP,
        Reply::Space(_) => code::SPACE,
        Reply::Purged(_) => code::PURGED,
        Reply::Report(_) => code::REPORT,
        Reply::Refused(_) => code::REFUSED,
        Reply::Demoted { .. } => code::DEMOTED,
        Reply::Begun(_) => code::BEGUN,
        Reply::Savepoint(_) => code::SAVEPOINT,
    }
}

/// Appends what an answer says, without its code.
#[inline]
pub(crate) fn put_reply_fields(reply: &Reply, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    match reply {
        Reply::Queued(queued) => queued.put(out),
        Reply::Granted(grant) => grant.put(out),
        Reply::GrantedMany(grants) => grants.put(out),
        Reply::GrantedPath(path) => {
            path.escalated.put(out)?;
            path.grants.put(out)
        }
        Reply::Released | Reply::Cancelled | Reply::Done => Ok(()),
        Reply::Value(value) => value.put(out),
        Reply::Group(group) => group.put(out),
        Reply::Space(info) => info.put(out),
        Reply::Purged(count) => count.put(out),
        Reply::Report(report) => report.put(out),
        Reply::Refused(refusal) => refusal.put(out),
        Reply::Begun(age) => age.put(out),
        Reply::Savepoint(savepoint) => savepoint.put(out),
        Reply::Demoted { held, why } => {
            held.put(out)?;
            why.put(out)
        }
    }
}

#[inline(never)]
fn put_rest(message: &ServerMessage, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    match message {
        ServerMessage::Welcome(welcome) => {
            out.push(code::WELCOME);
            welcome.put(out)
        }
        ServerMessage::Rejected { why } => {
            out.push(code::REJECTED);
            why.put(out)
        }
        ServerMessage::Opened { ttl } => {
            out.push(code::OPENED);
            ttl.put(out)
        }
        ServerMessage::Attached(attached) => {
            out.push(code::ATTACHED);
            attached.put(out)
        }
        ServerMessage::Ended => {
            out.push(code::ENDED);
            Ok(())
        }
        ServerMessage::Renewed { seq } => {
            out.push(code::RENEWED);
            seq.put(out)
        }
        ServerMessage::Reply { id, reply } => put_reply(*id, reply, out),
        ServerMessage::Notice(notice) => {
            out.push(code::NOTICE);
            notice.put(out)
        }
        ServerMessage::Bye => {
            out.push(code::BYE);
            Ok(())
        }
    }
}

#[inline]
fn get(r: &mut Reader<'_>) -> Result<ServerMessage, DecodeError> {
    let at = r.at();
    let code = u8::get(r)?;
    if !(code::GRANTED..=code::GRANTED_PATH).contains(&code) {
        return get_rest(code, at, r);
    }
    let id = RequestId::get(r)?;
    Ok(ServerMessage::Reply { id, reply: get_reply_fields(code, at, r)? })
}

/// Reads what an answer of this code says.
#[inline]
pub(crate) fn get_reply_fields(code: u8, at: usize, r: &mut Reader<'_>) -> Result<Reply, DecodeError> {
    Ok(match code {
        code::GRANTED => Reply::Granted(Grant::get(r)?),
        code::QUEUED => Reply::Queued(Queued::get(r)?),
        code::RELEASED => Reply::Released,
        code::REFUSED => Reply::Refused(Refusal::get(r)?),
        code::GRANTED_MANY => Reply::GrantedMany(Vec::get(r)?),
        code::GRANTED_PATH => {
            let escalated = bool::get(r)?;
            Reply::GrantedPath(PathGrant { grants: Vec::get(r)?, escalated })
        }
        code::CANCELLED => Reply::Cancelled,
        code::VALUE => Reply::Value(Value::get(r)?),
        code::DONE => Reply::Done,
        code::GROUP => Reply::Group(GroupId::get(r)?),
        code::SPACE => Reply::Space(Box::get(r)?),
        code::PURGED => Reply::Purged(u32::get(r)?),
        code::REPORT => Reply::Report(Box::get(r)?),
        code::BEGUN => Reply::Begun(Field::get(r)?),
        code::SAVEPOINT => Reply::Savepoint(Field::get(r)?),
        code::DEMOTED => Reply::Demoted { held: Claim::get(r)?, why: Option::get(r)? },
        found => return Err(DecodeError::Opcode { at, found }),
    })
}

#[inline(never)]
fn get_rest(code: u8, at: usize, r: &mut Reader<'_>) -> Result<ServerMessage, DecodeError> {
    Ok(match code {
        code::WELCOME => ServerMessage::Welcome(Welcome::get(r)?),
        code::REJECTED => ServerMessage::Rejected { why: Rejection::get(r)? },
        code::OPENED => ServerMessage::Opened { ttl: Span::get(r)? },
        code::ATTACHED => ServerMessage::Attached(Attached::get(r)?),
        code::ENDED => ServerMessage::Ended,
        code::RENEWED => ServerMessage::Renewed { seq: u64::get(r)? },
        code::NOTICE => ServerMessage::Notice(Notice::get(r)?),
        code::BYE => ServerMessage::Bye,
        // [WIRE-5] What is not known is refused: nothing says how long it is.
        found => return Err(DecodeError::Opcode { at, found }),
    })
}
