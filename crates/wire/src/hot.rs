//! The records of the messages that come by the million: lock, convert, release, grant. Each is a fixed part, read in
//! place, whose `shape` says in bits what follows it. Bits without a meaning, and a mode beside permits, must be zero
//! ([WIRE-5]), so that each message has one form.

use alloc::vec::Vec;

use lockstead_types::{
    GroupId, LockId, Mode, Seal, SpaceId, Span,
    reply::{Grant, Value},
    request::{Claim, ConvertRequest, LockRequest, OwnerRef, ReleaseRequest, Wait},
};
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{U16, U32, U64},
};

use crate::{
    error::{DecodeError, EncodeError},
    field::{Field, Reader, flag_bits, flags_of, mode_number, mode_of, put_long_bytes, short_length, token_of},
};

/// Bits 0-1: 0 never waits, 1 waits for a `u64` of nanoseconds that follows, 2 for ever.
const WAIT: u8 = 0b0011;
const WAIT_NEVER: u8 = 0;
const WAIT_FOR: u8 = 1;
const WAIT_FOREVER: u8 = 2;
/// Bits 2-3 of a lock: 0 the session owns, 1 it stands alone, 2 a group owns whose `u32` follows, 3 the session's transaction.
const OWNER: u8 = 0b1100;
const OWNER_SESSION: u8 = 0;
const OWNER_ALONE: u8 = 1 << 2;
const OWNER_GROUP: u8 = 2 << 2;
const OWNER_TRANSACTION: u8 = 3 << 2;
/// Of a lock of a transaction: it is the statement's.
const STATEMENT: u8 = 1 << 5;
/// Permits, not a mode: `take` and `of`, `u32` each, follow.
const PERMITS: u8 = 1 << 4;
/// A value block follows: `u32` and bytes.
const VALUE: u8 = 1 << 5;
/// Of a release: flags follow, a `u32`.
const FLAGS: u8 = 1 << 0;
/// Of a release: no answer is wanted where it succeeds.
const ONE_WAY: u8 = 1 << 1;
/// Of a grant: the value block that follows is invalid.
const INVALID: u8 = 1 << 0;
/// Of a grant: it was demoted on the way.
const DEMOTED: u8 = 1 << 1;
/// Of a grant: the alternative mode.
const ALTERNATIVE: u8 = 1 << 2;
/// Of a grant: a seal follows, 16 bytes.
const SEAL: u8 = 1 << 6;

/// 17 bytes; then permits, wait, group, name.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct LockRecord {
    shape: u8,
    mode: u8,
    priority: i8,
    name_length: U16,
    space: U32,
    flags: U32,
    tag: U32,
}

/// 14 bytes; then wait, value.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct ConvertRecord {
    shape: u8,
    mode: u8,
    flags: U32,
    lock: U64,
}

/// 9 bytes; then flags, value.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct ReleaseRecord {
    shape: u8,
    lock: U64,
}

/// 18 bytes; then permits, value, seal.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct GrantRecord {
    shape: u8,
    mode: u8,
    lock: U64,
    token: U64,
}

impl<'a> Field<'a> for LockRequest<'a> {
    const MIN: usize = size_of::<LockRecord>();

    #[inline]
    fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let LockRequest { space, name, claim, wait, flags, owner, tag, priority } = self;
        let (claim_shape, mode) = claim_parts(claim)?;
        let owner_shape = match owner {
            OwnerRef::Session => OWNER_SESSION,
            OwnerRef::Alone => OWNER_ALONE,
            OwnerRef::Group(_) => OWNER_GROUP,
            OwnerRef::Transaction => OWNER_TRANSACTION,
            OwnerRef::Statement => OWNER_TRANSACTION | STATEMENT,
        };
        let record = LockRecord {
            shape: claim_shape | wait_shape(*wait) | owner_shape,
            mode,
            priority: *priority,
            name_length: short_length(name, "name")?.into(),
            space: space.0.into(),
            flags: flag_bits(*flags)?.into(),
            tag: (*tag).into(),
        };
        out.extend_from_slice(record.as_bytes());
        put_claim_tail(claim, out)?;
        put_wait_tail(*wait, out)?;
        if let OwnerRef::Group(group) = owner {
            group.put(out)?;
        }
        out.extend_from_slice(name);
        Ok(())
    }

    #[inline]
    fn get(r: &mut Reader<'a>) -> Result<LockRequest<'a>, DecodeError> {
        let at = r.at();
        let record: &LockRecord = r.record()?;
        let shape = only(record.shape, WAIT | OWNER | PERMITS | STATEMENT, at)?;
        let claim = get_claim(shape, record.mode, at, r)?;
        let wait = get_wait(shape, at, r)?;
        let owner = match shape & (OWNER | STATEMENT) {
            OWNER_SESSION => OwnerRef::Session,
            OWNER_ALONE => OwnerRef::Alone,
            OWNER_GROUP => OwnerRef::Group(GroupId::get(r)?),
            OWNER_TRANSACTION => OwnerRef::Transaction,
            shape if shape == OWNER_TRANSACTION | STATEMENT => OwnerRef::Statement,
            _ => return Err(DecodeError::Number { at, field: "owner" }),
        };
        Ok(LockRequest {
            space: SpaceId(record.space.get()),
            claim,
            wait,
            flags: flags_of(record.flags.get(), at)?,
            owner,
            tag: record.tag.get(),
            priority: record.priority,
            name: r.take(usize::from(record.name_length.get()))?,
        })
    }
}

impl<'a> Field<'a> for ConvertRequest<'a> {
    const MIN: usize = size_of::<ConvertRecord>();

    #[inline]
    fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let ConvertRequest { lock, mode, wait, flags, value } = self;
        let record = ConvertRecord {
            shape: wait_shape(*wait) | bit(value.is_some(), VALUE),
            mode: mode_number(*mode)?,
            flags: flag_bits(*flags)?.into(),
            lock: lock.0.into(),
        };
        out.extend_from_slice(record.as_bytes());
        put_wait_tail(*wait, out)?;
        value.map_or(Ok(()), |value| put_long_bytes(value, out))
    }

    #[inline]
    fn get(r: &mut Reader<'a>) -> Result<ConvertRequest<'a>, DecodeError> {
        let at = r.at();
        let record: &ConvertRecord = r.record()?;
        let shape = only(record.shape, WAIT | VALUE, at)?;
        Ok(ConvertRequest {
            lock: LockId(record.lock.get()),
            mode: mode_of(record.mode, at)?,
            wait: get_wait(shape, at, r)?,
            flags: flags_of(record.flags.get(), at)?,
            value: get_value(shape, r)?,
        })
    }
}

/// Writes a release.
#[inline]
pub(crate) fn put_release(release: &ReleaseRequest<'_>, one_way: bool, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let ReleaseRequest { lock, flags, value } = release;
    let bits = flag_bits(*flags)?;
    let shape = bit(bits != 0, FLAGS) | bit(one_way, ONE_WAY) | bit(value.is_some(), VALUE);
    out.extend_from_slice(ReleaseRecord { shape, lock: lock.0.into() }.as_bytes());
    if bits != 0 {
        bits.put(out)?;
    }
    value.map_or(Ok(()), |value| put_long_bytes(value, out))
}

/// Reads a release, and whether it is one-way.
#[inline]
pub(crate) fn get_release<'a>(r: &mut Reader<'a>) -> Result<(ReleaseRequest<'a>, bool), DecodeError> {
    let at = r.at();
    let record: &ReleaseRecord = r.record()?;
    let shape = only(record.shape, FLAGS | ONE_WAY | VALUE, at)?;
    let bits = if shape & FLAGS == 0 { 0 } else { u32::get(r)? };
    if shape & FLAGS != 0 && bits == 0 {
        return Err(DecodeError::Number { at, field: "set of flags that is not empty" });
    }
    let flags = flags_of(bits, at)?;
    let release = ReleaseRequest { lock: LockId(record.lock.get()), flags, value: get_value(shape, r)? };
    Ok((release, shape & ONE_WAY != 0))
}

impl<'a> Field<'a> for Grant {
    const MIN: usize = size_of::<GrantRecord>();

    #[inline]
    fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let Grant { lock, claim, token, value, demoted, alternative, seal } = self;
        let (claim_shape, mode) = claim_parts(claim)?;
        let value_shape = value.as_ref().map_or(0, |value| VALUE | bit(value.invalid, INVALID));
        let news = bit(*demoted, DEMOTED) | bit(*alternative, ALTERNATIVE) | bit(seal.is_some(), SEAL);
        let record = GrantRecord {
            shape: claim_shape | value_shape | news,
            mode,
            lock: lock.0.into(),
            token: token.as_u64().into(),
        };
        out.extend_from_slice(record.as_bytes());
        put_claim_tail(claim, out)?;
        value.as_ref().map_or(Ok(()), |value| put_long_bytes(&value.bytes, out))?;
        seal.as_ref().map_or(Ok(()), |seal| seal.put(out))
    }

    #[inline]
    fn get(r: &mut Reader<'a>) -> Result<Grant, DecodeError> {
        let at = r.at();
        let record: &GrantRecord = r.record()?;
        let shape = only(record.shape, PERMITS | VALUE | INVALID | DEMOTED | ALTERNATIVE | SEAL, at)?;
        let claim = get_claim(shape, record.mode, at, r)?;
        let invalid = shape & INVALID != 0;
        let value = get_value(shape, r)?.map(|bytes| Value { bytes: bytes.into(), invalid });
        if invalid && value.is_none() {
            return Err(DecodeError::Number { at, field: "shape" });
        }
        Ok(Grant {
            lock: LockId(record.lock.get()),
            claim,
            token: token_of(record.token.get(), at)?,
            value,
            demoted: shape & DEMOTED != 0,
            alternative: shape & ALTERNATIVE != 0,
            seal: if shape & SEAL == 0 { None } else { Some(Seal::get(r)?) },
        })
    }
}

#[inline]
fn bit(set: bool, bit: u8) -> u8 {
    if set { bit } else { 0 }
}

#[inline]
fn only(shape: u8, known: u8, at: usize) -> Result<u8, DecodeError> {
    if shape & !known == 0 { Ok(shape) } else { Err(DecodeError::Number { at, field: "shape" }) }
}

#[inline]
fn claim_parts(claim: &Claim) -> Result<(u8, u8), EncodeError> {
    match claim {
        Claim::Mode(mode) => Ok((0, mode_number(*mode)?)),
        Claim::Permits { .. } => Ok((PERMITS, 0)),
    }
}

#[inline]
fn put_claim_tail(claim: &Claim, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    match claim {
        Claim::Mode(_) => Ok(()),
        Claim::Permits { take, of } => {
            take.put(out)?;
            of.put(out)
        }
    }
}

#[inline]
fn get_claim(shape: u8, mode: u8, at: usize, r: &mut Reader<'_>) -> Result<Claim, DecodeError> {
    let mode: Mode = mode_of(mode, at)?;
    if shape & PERMITS == 0 {
        return Ok(Claim::Mode(mode));
    }
    if mode != Mode(0) {
        return Err(DecodeError::Number { at, field: "mode beside permits" });
    }
    Ok(Claim::Permits { take: u32::get(r)?, of: u32::get(r)? })
}

#[inline]
fn wait_shape(wait: Wait) -> u8 {
    match wait {
        Wait::Never => WAIT_NEVER,
        Wait::For(_) => WAIT_FOR,
        Wait::Forever => WAIT_FOREVER,
    }
}

#[inline]
fn put_wait_tail(wait: Wait, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    match wait {
        Wait::Never | Wait::Forever => Ok(()),
        Wait::For(span) => span.put(out),
    }
}

#[inline]
fn get_wait(shape: u8, at: usize, r: &mut Reader<'_>) -> Result<Wait, DecodeError> {
    match shape & WAIT {
        WAIT_NEVER => Ok(Wait::Never),
        WAIT_FOR => Span::get(r).map(Wait::For),
        WAIT_FOREVER => Ok(Wait::Forever),
        _ => Err(DecodeError::Number { at, field: "wait" }),
    }
}

#[inline]
fn get_value<'a>(shape: u8, r: &mut Reader<'a>) -> Result<Option<&'a [u8]>, DecodeError> {
    if shape & VALUE == 0 { Ok(None) } else { r.long_bytes().map(Some) }
}
