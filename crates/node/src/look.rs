//! Looking at the state: every answer is made when it is asked for, and holds a bounded number of rows.

use alloc::{boxed::Box, vec::Vec};

use lockstead_table::{OwnerId, Seen};
use lockstead_types::{
    GroupId, RequestId, SessionId, SpaceId, Time,
    name::escape,
    refusal::Refusal,
    reply::Reply,
    report::{DeadlockReport, Holder, Meta, Report, SessionRow, Waits},
    request::Query,
};

use crate::{node::Node, owners::Whose, session::Session};

impl Node {
    /// Every lock of the table with its session, where it has one. For those who watch over a whole run.
    pub fn visit_locks(&self, mut each: impl FnMut(Option<SessionId>, Seen<'_>)) {
        self.table.visit(|seen| {
            let session = match seen.owner.map(|owner| self.owners.get(owner)) {
                Some(Whose::Session(at)) => self.session_id(at),
                Some(Whose::Guest(at)) => self.member.as_ref().and_then(|m| m.guests.get(at)).map(|g| g.session),
                Some(Whose::Ended(id)) => Some(id),
                Some(Whose::Group(_) | Whose::Nobody) | None => None,
            };
            each(session, seen);
        });
    }

    /// The name of the group that an owner of the table is. For those who watch over a whole run.
    #[must_use]
    pub fn group_named(&self, owner: OwnerId) -> Option<&[u8]> {
        match self.owners.get(owner) {
            Whose::Group(group) => Some(self.groups.name(group)),
            _ => None,
        }
    }

    /// Rises whenever [`Node::visit_locks`] may say something else than before. For those who watch over a whole run.
    #[cfg(feature = "edits")]
    #[must_use]
    pub fn edits(&self) -> u64 {
        self.table.edits() + self.owners.edits
    }

    /// The newest deadlock reports, oldest first. For those who watch over a whole run.
    pub fn deadlocks(&self) -> impl DoubleEndedIterator<Item = &DeadlockReport> {
        self.reports.iter()
    }

    pub(crate) fn on_query(&mut self, now: Time, at: u32, id: RequestId, query: Query<'_>) {
        match self.look(now, query) {
            Ok(report) => self.answer(at, id, Reply::Report(Box::new(report))),
            Err(why) => self.refuse(at, id, why),
        }
    }

    pub(crate) fn look(&self, now: Time, query: Query<'_>) -> Result<Report, Refusal> {
        let rows_max = self.config.limits.rows_per_answer as usize;
        let who = |owner: OwnerId| self.holder(owner);
        let report = match query {
            Query::Resources { space, prefix, from } => {
                self.known_space(space)?;
                let bytes_max = self.config.limits.frame_bytes as usize / 2;
                let from = u32::try_from(from).map_err(|_| Refusal::Invalid)?;
                let (rows, next) = self.table.resources(space, prefix, from, (rows_max, bytes_max));
                Report::Resources { rows, next: next.map(u64::from) }
            }
            Query::Resource { space, name } => {
                self.known_space(space)?;
                let found = self.table.resource(now, space, name, rows_max, &who);
                Report::Resource(found.map(|mut detail| {
                    detail.master = self.config.node;
                    detail.slot = self.slot_of(space, name);
                    Box::new(detail)
                }))
            }
            Query::Waits => {
                let taking_over = u32::try_from(self.recovering_slots().0).unwrap_or(u32::MAX);
                Report::Waits(Waits { taking_over, ..self.table.waits(now, rows_max, &who) })
            }
            Query::Sessions { after } => {
                let mut found = self.sessions.after(after);
                let rows: Vec<SessionRow> = found.by_ref().take(rows_max).map(|s| self.session_row(now, s)).collect();
                Report::Sessions { rows, more: found.next().is_some() }
            }
            Query::Deadlocks => Report::Deadlocks(self.reports.list(now, rows_max)),
            Query::Status => Report::Status(Box::new(self.status(now))),
            Query::Spaces => Report::Spaces(self.spaces.list()),
            Query::Members => Report::Members(self.member_rows()),
        };
        Ok(report)
    }

    /// Who an owner of the table is, for people.
    pub(crate) fn holder(&self, owner: OwnerId) -> Holder {
        match self.owners.get(owner) {
            Whose::Session(at) => match self.sessions.get(at) {
                Some(s) => {
                    let home = self.is_member().then_some(self.config.node);
                    Holder { session: Some(s.id), home, meta: s.meta.clone(), ..Holder::default() }
                }
                None => Holder::default(),
            },
            Whose::Guest(at) => match self.member.as_ref().and_then(|m| m.guests.get(at)) {
                Some(guest) => Holder {
                    session: Some(guest.session),
                    home: Some(guest.home),
                    meta: guest.meta.clone(),
                    ..Holder::default()
                },
                None => Holder::default(),
            },
            Whose::Group(group) => {
                let meta = Meta { purpose: escape(self.groups.name(group)), ..Meta::default() };
                Holder { group: Some(GroupId(group)), meta, ..Holder::default() }
            }
            Whose::Ended(id) => Holder { session: Some(id), ..Holder::default() },
            Whose::Nobody => Holder::default(),
        }
    }

    fn session_row(&self, now: Time, session: &Session) -> SessionRow {
        SessionRow {
            session: session.id,
            home: self.config.node,
            local: session.local,
            connected: session.conn.is_some(),
            ttl: session.ttl,
            left: session.lease_end().since(now),
            age: now.since(session.opened),
            locks: match &self.member {
                Some(member) => self.sessions.find(session.id).map_or(0, |at| member.copies.count_of(at) as u32),
                None => self.table.owner_locks(session.owner),
            },
            principal: alloc::format!("{}", session.principal),
            meta: session.meta.clone(),
        }
    }

    fn known_space(&self, space: SpaceId) -> Result<(), Refusal> {
        self.table.space(space).map(|_| ()).ok_or(Refusal::NoLockspace)
    }
}
