//! The locks of a report: a row for each, which has only what is not as in most.
//!
//! A file of its own because it is the one list between nodes that is long. After a death of a node a million rows are
//! written and read, so a row is small and reading it allocates nothing.

use alloc::{boxed::Box, vec::Vec};

use lockstead_types::{
    Flags, SessionId, SpaceId, Token,
    peer::WaitReport,
    reply::Value,
    request::Claim,
    rows::{GroupUse, LockReport, LockRows},
};

use crate::{
    error::{DecodeError, EncodeError},
    field::{Field, Reader, record},
};

/// What a row has, in the order of its fields; those without a bit are always there.
const SESSION: u8 = 1;
const MORE: u8 = 2;
const ALONE: u8 = 4;
const HELD: u8 = 8;
const TAG: u8 = 16;
const FLAGS: u8 = 32;
const WANTED: u8 = 64;
const VALUE: u8 = 128;

/// What the byte after it has, which is there where it is not 0: what few rows have.
const ORPHAN: u8 = 1;
const BEFORE: u8 = 2;
const GROUP: u8 = 4;

/// The fewest bytes of a row: what it has, lockspace, name, token.
const ROW_MIN: usize = 1 + 4 + 2 + 8;

/// Their count, then each: a byte or two that say what it has, and that. Whose it is it says only where that is not as of the row
/// before.
impl Field<'_> for LockRows {
    const MIN: usize = 4;

    fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let too_long = EncodeError::TooLong { field: "list", length: self.len(), max: u32::MAX as usize };
        u32::try_from(self.len()).map_err(|_| too_long)?.put(out)?;
        let mut before = None;
        for row in self.iter() {
            put_row(&row, before != Some(row.session), out)?;
            before = Some(row.session);
        }
        Ok(())
    }

    fn get(r: &mut Reader<'_>) -> Result<LockRows, DecodeError> {
        // [WIRE-4] The count is believed only as far as the bytes left could fill it.
        let count = r.count(ROW_MIN)?;
        let mut rows = LockRows::with_capacity(count);
        let mut session = None;
        for number in 0..count {
            let at = r.at();
            let has = u8::get(r)?;
            let more = if has & MORE != 0 { u8::get(r)? } else { 0 };
            let before = session;
            if has & SESSION != 0 {
                session = Option::<SessionId>::get(r)?;
            }
            let row = get_row(r, (has, more), session)?;
            // [WIRE-5] As of no row before; or what is left out where it is as in most: one message, one form.
            let says = (number == 0) || before != session;
            let idle = (has & TAG != 0 && row.tag == 0)
                || (has & FLAGS != 0 && row.flags == Flags::NONE)
                || (has & MORE != 0 && more == 0)
                || (more & BEFORE != 0 && row.before == Token::NONE);
            if says != (has & SESSION != 0) || idle || more & !(ORPHAN | BEFORE | GROUP) != 0 {
                return Err(DecodeError::Number { at, field: "row" });
            }
            rows.push(row);
        }
        Ok(rows)
    }
}

fn put_row(row: &LockReport<'_>, says_session: bool, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let LockReport { session, orphan, space, name, held, token, before, wanted, tag, alone, flags, value, group } = row;
    let bit = |has: bool, bit: u8| if has { bit } else { 0 };
    let more = bit(*orphan, ORPHAN) | bit(*before != Token::NONE, BEFORE) | bit(group.is_some(), GROUP);
    let has = bit(says_session, SESSION)
        | bit(more != 0, MORE)
        | bit(*alone, ALONE)
        | bit(held.is_some(), HELD)
        | bit(*tag != 0, TAG)
        | bit(*flags != Flags::NONE, FLAGS)
        | bit(wanted.is_some(), WANTED)
        | bit(value.is_some(), VALUE);
    out.reserve(64 + name.len());
    out.push(has);
    if more != 0 {
        out.push(more);
    }
    if says_session {
        session.put(out)?;
    }
    space.put(out)?;
    name.put(out)?;
    token.put(out)?;
    if *before != Token::NONE {
        before.put(out)?;
    }
    held.as_ref().map_or(Ok(()), |held| held.put(out))?;
    if *tag != 0 {
        tag.put(out)?;
    }
    if *flags != Flags::NONE {
        flags.put(out)?;
    }
    wanted.as_ref().map_or(Ok(()), |wanted| wanted.put(out))?;
    value.as_ref().map_or(Ok(()), |value| value.put(out))?;
    group.as_ref().map_or(Ok(()), |group| group.put(out))
}

fn get_row<'a>(
    r: &mut Reader<'a>,
    (has, more): (u8, u8),
    session: Option<SessionId>,
) -> Result<LockReport<'a>, DecodeError> {
    let (space, name, token) = (SpaceId::get(r)?, <&[u8]>::get(r)?, Token::get(r)?);
    let before = if more & BEFORE != 0 { Token::get(r)? } else { Token::NONE };
    let held = (has & HELD != 0).then(|| Claim::get(r)).transpose()?;
    let tag = if has & TAG != 0 { u32::get(r)? } else { 0 };
    let flags = if has & FLAGS != 0 { Flags::get(r)? } else { Flags::NONE };
    let wanted = (has & WANTED != 0).then(|| WaitReport::get(r)).transpose()?;
    let value = (has & VALUE != 0).then(|| Value::get(r)).transpose()?;
    let at = r.at();
    let group = (more & GROUP != 0).then(|| GroupUse::get(r)).transpose()?;
    let (orphan, alone) = (more & ORPHAN != 0, has & ALONE != 0);
    // [WIRE-5] A lock has one owner.
    if group.is_some() && (orphan || alone) {
        return Err(DecodeError::Number { at, field: "group" });
    }
    Ok(LockReport { session, orphan, space, name, held, token, before, wanted, tag, alone, flags, value, group })
}

record!(GroupUse { name: Box<[u8]>, uses: u32 });
