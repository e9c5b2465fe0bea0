//! The transaction of a session: whether one is open, its savepoints by name, and which of the session's locks go when it ends.

use lockstead_types::{
    Age, Refusal,
    reply::Reply,
    request::{Op, OwnerRef},
    transaction::{Part, Savepoint},
};

use super::{Player, Step, answer::Intent, refused};
use crate::{
    command::{OwnerWord, TransactionVerb},
    event::{Event, TransactionEvent},
};

/// What is known of it.
#[derive(Debug, Default)]
pub(super) struct Txn {
    /// Of the one that is open.
    open: Option<Open>,
    /// The age of the newest.
    age: Option<Age>,
}

#[derive(Debug, Default)]
struct Open {
    granted: u64,
    savepoints: Vec<(String, Savepoint)>,
}

impl Txn {
    /// The answer to a grant of a lock that belongs to it.
    pub(super) fn next_part(&mut self, owner: OwnerRef) -> Option<Part> {
        let open = self.open.as_mut().filter(|_| owner.is_in_transaction())?;
        open.granted += 1;
        Some(Part { number: open.granted - 1, statement: owner == OwnerRef::Statement })
    }

    /// Who owns a lock that says nothing of it.
    pub(super) fn owner(&self, word: &OwnerWord) -> OwnerRef {
        match word {
            OwnerWord::Statement => OwnerRef::Statement,
            OwnerWord::Unsaid if self.open.is_some() => OwnerRef::Transaction,
            _ => OwnerRef::Session,
        }
    }

    /// The transaction as it can be told to a node that does not know it.
    pub(super) fn open(&self) -> Option<(Age, u64)> {
        Some((self.age?, self.open.as_ref()?.granted))
    }
}

impl Player {
    pub(super) fn plan_transaction<'a>(&'a self, verb: &'a TransactionVerb) -> Step<'a> {
        let op = match verb {
            TransactionVerb::Begin => Op::Begin { age: None },
            TransactionVerb::BeginAgain => Op::Begin { age: self.txn.age },
            TransactionVerb::Commit => Op::Commit,
            TransactionVerb::Rollback(None) => Op::Rollback { to: None },
            TransactionVerb::Rollback(Some(name)) => {
                let points = self.txn.open.as_ref().map_or(&[][..], |open| &open.savepoints);
                // Of two of one name the newer one, as in SQL.
                match points.iter().rev().find(|(known, _)| known == name) {
                    Some((_, point)) => Op::Rollback { to: Some(*point) },
                    None => return Step::Say(vec![refused(name.as_bytes(), Refusal::NotHeld)]),
                }
            }
            TransactionVerb::Savepoint(_) => Op::Savepoint,
            TransactionVerb::EndStatement => Op::EndStatement,
        };
        Step::send(op, Intent::Transaction(verb.clone()))
    }

    pub(super) fn end_transaction(&mut self, verb: &TransactionVerb, reply: &Reply) -> Event {
        match (verb, reply) {
            (TransactionVerb::Begin | TransactionVerb::BeginAgain, Reply::Begun(age)) => {
                self.txn = Txn { open: Some(Open::default()), age: Some(*age) };
                Event::Transaction(TransactionEvent::Begun)
            }
            (TransactionVerb::Savepoint(name), Reply::Savepoint(point)) => {
                if let Some(open) = &mut self.txn.open {
                    open.savepoints.push((name.clone(), *point));
                }
                Event::Transaction(TransactionEvent::Savepoint(name.clone()))
            }
            (TransactionVerb::Commit, Reply::Done) => {
                self.end_open();
                Event::Transaction(TransactionEvent::Committed)
            }
            (TransactionVerb::Rollback(None), Reply::Done) => {
                self.end_open();
                Event::Transaction(TransactionEvent::RolledBack)
            }
            (TransactionVerb::Rollback(Some(name)), Reply::Done) => {
                self.roll_back_to(name);
                Event::Transaction(TransactionEvent::RolledBackTo(name.clone()))
            }
            (TransactionVerb::EndStatement, Reply::Done) => {
                self.book.entries_mut().retain(|lock| lock.part.is_none_or(|part| !part.statement));
                Event::Transaction(TransactionEvent::StatementEnded)
            }
            (_, Reply::Refused(why)) => refused(verb.word().as_bytes(), *why),
            _ => refused(verb.word().as_bytes(), Refusal::Invalid),
        }
    }

    fn end_open(&mut self) {
        self.txn.open = None;
        self.book.entries_mut().retain(|lock| lock.part.is_none());
    }

    fn roll_back_to(&mut self, name: &str) {
        let Some(open) = &mut self.txn.open else { return };
        let Some(at) = open.savepoints.iter().rposition(|(known, _)| known == name) else { return };
        open.savepoints.truncate(at + 1);
        let Some((_, Savepoint(to))) = open.savepoints.last().cloned() else { return };
        self.book.entries_mut().retain(|lock| lock.part.is_none_or(|part| part.number < to));
    }

    /// The open transaction with its age and how many locks it has been granted.
    #[must_use]
    pub fn transaction(&self) -> Option<(Age, u64)> {
        self.txn.open()
    }
}
