//! Paths of a hierarchy: one answer names several locks, of which some were there before.

use lockstead_types::{
    Mode,
    hierarchy::{is_below, path_ends},
    reply::{PathGrant, Reply},
    request::OwnerRef,
    transaction::Part,
};

use super::{
    Player,
    answer::{granted, without_grant},
    book::LockKey,
};
use crate::event::{Event, LockEvent};

impl Player {
    /// The levels that are new or in another mode, and then the path itself.
    pub(super) fn end_path(&mut self, key: &LockKey, reply: Reply) -> Vec<Event> {
        let Reply::GrantedPath(PathGrant { grants, escalated }) = reply else {
            return vec![key.says(without_grant(&reply))];
        };
        let ends = path_ends(&key.name, usize::MAX).unwrap_or_default();
        let (levels, count) = (ends.len(), grants.len());
        let (mut events, mut by) = (Vec::new(), None);
        for (level, (grant, end)) in (1..).zip(grants.into_iter().zip(ends)) {
            let key = LockKey { name: key.name[..end].into(), ..key.clone() };
            let known = self.book.by_id(grant.lock).map(|entry| (entry.held, entry.part));
            let part = match known {
                Some((_, part)) => part.map(|part| kept(part, key.owner)),
                None => self.txn.next_part(key.owner),
            };
            self.book.put(grant.lock, &key, Some(grant.claim), grant.token, part);
            if level == levels || known.and_then(|(held, _)| held) != Some(grant.claim) {
                events.push(key.says(granted(key.text(grant.claim), grant)));
            }
            if level == count && escalated {
                events.push(key.says(LockEvent::TookIn));
                let below = |name: &[u8]| is_below(name, &key.name);
                self.book.entries_mut().retain(|entry| entry.space.id != key.space.id || !below(&entry.name));
            }
            by = Some(key.name);
        }
        if let Some(by) = by.filter(|_| count < levels) {
            events.push(key.says(LockEvent::Covered { by }));
        }
        events
    }
}

/// What a statement had is needed until the end once the transaction itself asks for it.
fn kept(part: Part, owner: OwnerRef) -> Part {
    Part { statement: part.statement && owner != OwnerRef::Transaction, ..part }
}

/// What is missing above a lock.
pub(super) fn not_announced(key: &LockKey, level: u8, mode: Mode) -> LockEvent {
    let end = path_ends(&key.name, usize::MAX).and_then(|ends| ends.get(usize::from(level)).copied());
    let above = key.name.get(..end.unwrap_or(key.name.len())).unwrap_or_default();
    LockEvent::NotAnnounced { above: above.into(), mode: key.space.modes.mode_name(mode).to_owned() }
}
