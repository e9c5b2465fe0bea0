//! The locks of a report, packed: what most locks have stands side by side, their names in one piece, and what few have apart.
//!
//! A file of its own because it is about room and time alone. After a death of a node a million locks go through here, and
//! one allocation for each of them is what would take longest.

use alloc::{boxed::Box, vec::Vec};

use crate::{
    flags::Flags,
    ids::{SessionId, SpaceId},
    peer::WaitReport,
    reply::Value,
    request::Claim,
    token::Token,
};

/// A lock as its home, or the master that gave its slot up, reports it to the new master.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LockReport<'a> {
    /// Whose; of an orphan, whose it was.
    pub session: Option<SessionId>,
    /// Whether its owner has gone (PERSISTENT).
    pub orphan: bool,
    /// The lockspace.
    pub space: SpaceId,
    /// The resource.
    pub name: &'a [u8],
    /// What is held, if anything: never more than its client may use.
    pub held: Option<Claim>,
    /// The token held, [`Token::NONE`] where none is.
    pub token: Token,
    /// The token it had before the conversion by which it got this one, of which its client may not have heard; [`Token::NONE`]
    /// where it has not been converted.
    pub before: Token,
    /// What is waited for, if anything.
    pub wanted: Option<WaitReport>,
    /// Its tag.
    pub tag: u32,
    /// Whether it stands alone.
    pub alone: bool,
    /// PERSISTENT, NODLCKBLK, NOBAST.
    pub flags: Flags,
    /// The value block as its holder knows it, where it has read or written it under what it holds.
    pub value: Option<Value>,
    /// The group whose lock it is.
    pub group: Option<GroupUse>,
}

/// A lock of a group, as the home of a session that uses it, or waits for it, knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupUse {
    /// The name of the group.
    pub name: Box<[u8]>,
    /// How often the session was granted it and has not released it.
    pub uses: u32,
}

/// Locks of a report, in their order, which the answer keeps.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LockRows {
    rows: Vec<Row>,
    names: Vec<u8>,
    /// Whose the rows from a number on are.
    sessions: Vec<(u32, Option<SessionId>)>,
    /// What few rows have, by their number.
    rare: Vec<(u32, Box<Rare>)>,
    rare_bytes: usize,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
struct Row {
    token: Token,
    before: Token,
    held: Option<Claim>,
    space: SpaceId,
    flags: Flags,
    tag: u32,
    /// Where its name ends.
    name_end: u32,
    orphan: bool,
    alone: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Rare {
    wanted: Option<WaitReport>,
    value: Option<Value>,
    group: Option<GroupUse>,
}

impl LockRows {
    /// None yet.
    #[must_use]
    pub const fn new() -> LockRows {
        LockRows { rows: Vec::new(), names: Vec::new(), sessions: Vec::new(), rare: Vec::new(), rare_bytes: 0 }
    }

    /// None yet, with room for so many.
    #[must_use]
    pub fn with_capacity(count: usize) -> LockRows {
        LockRows { rows: Vec::with_capacity(count), ..LockRows::new() }
    }

    /// Adds one at the end.
    pub fn push(&mut self, report: LockReport<'_>) {
        let number = self.rows.len() as u32;
        if self.sessions.last().map(|(_, session)| *session) != Some(report.session) {
            self.sessions.push((number, report.session));
        }
        self.names.extend_from_slice(report.name);
        let LockReport { space, held, token, before, tag, alone, flags, orphan, wanted, value, group, .. } = report;
        let name_end = self.names.len() as u32;
        self.rows.push(Row { token, before, held, space, flags, tag, name_end, orphan, alone });
        if wanted.is_some() || value.is_some() || group.is_some() {
            let written = wanted.as_ref().and_then(|w| w.value.as_ref()).map_or(0, |v| v.len());
            let named = group.as_ref().map_or(0, |g| g.name.len());
            self.rare_bytes += size_of::<Rare>() + written + named + value.as_ref().map_or(0, |v| v.bytes.len());
            self.rare.push((number, Box::new(Rare { wanted, value, group })));
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// About how many bytes they take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.rows.len() * size_of::<Row>() + self.names.len() + self.sessions.len() * 16 + self.rare_bytes
    }

    /// All in their order.
    pub fn iter(&self) -> impl Iterator<Item = LockReport<'_>> {
        let (mut sessions, mut rare) = (self.sessions.iter().peekable(), self.rare.iter().peekable());
        let (mut session, mut start) = (None, 0);
        (0_u32..).zip(&self.rows).map(move |(number, row)| {
            if let Some((_, whose)) = sessions.next_if(|(from, _)| *from == number) {
                session = *whose;
            }
            let name = self.names.get(start..row.name_end as usize).unwrap_or_default();
            start = row.name_end as usize;
            let Row { token, before, held, space, flags, tag, orphan, alone, .. } = *row;
            let (wanted, value, group) = match rare.next_if(|(of, _)| *of == number) {
                Some((_, more)) => (more.wanted.clone(), more.value.clone(), more.group.clone()),
                None => (None, None, None),
            };
            LockReport { session, orphan, space, name, held, token, before, wanted, tag, alone, flags, value, group }
        })
    }
}

impl<'a> FromIterator<LockReport<'a>> for LockRows {
    fn from_iter<I: IntoIterator<Item = LockReport<'a>>>(reports: I) -> LockRows {
        let mut rows = LockRows::new();
        reports.into_iter().for_each(|report| rows.push(report));
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Mode, RequestId, Span};

    #[test]
    fn what_went_in_comes_out() {
        let plain = LockReport {
            session: Some(SessionId(1)),
            orphan: false,
            space: SpaceId(0),
            name: b"a",
            held: Some(Claim::Mode(Mode(5))),
            token: Token::NONE,
            before: Token::NONE,
            wanted: None,
            tag: 0,
            alone: false,
            flags: Flags::NONE,
            value: None,
            group: None,
        };
        let wait = WaitReport {
            id: RequestId(7),
            claim: Claim::Mode(Mode(3)),
            flags: Flags::NONE,
            left: None,
            waited: Span::ZERO,
            demoted: false,
            ticket: 9,
            priority: 0,
            value: Some((*b"new").into()),
        };
        let value = Value { bytes: (*b"state").into(), invalid: true };
        let reports = [
            plain.clone(),
            LockReport { name: b"longer", wanted: Some(wait), ..plain.clone() },
            LockReport { session: None, orphan: true, name: b"", ..plain.clone() },
            LockReport { before: Token::new(1, 3).unwrap_or(Token::NONE), ..plain.clone() },
            LockReport { value: Some(value), tag: 4, ..plain.clone() },
            LockReport { group: Some(GroupUse { name: (*b"team").into(), uses: 2 }), ..plain.clone() },
            plain,
        ];
        let rows: LockRows = reports.iter().cloned().collect();
        assert_eq!(rows.iter().collect::<Vec<_>>(), reports);
        assert!(rows.len() == 7 && rows.bytes() > 6 + 9);
    }
}
