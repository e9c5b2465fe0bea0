//! What a line of a script says. Names and values are bytes already (their percent escapes are undone); modes are still
//! words, since only the lockspace in use knows what they mean.

use lockstead_types::{Flags, Span, request::Wait, space::SpaceSpec};

/// One line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Command {
    /// Which session does it. Sessions are opened on first use.
    pub session: String,
    /// What it does.
    pub verb: Verb,
    /// The line ended in ` &`: the next one follows without waiting for what this one causes.
    pub background: bool,
}

/// What a session does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verb {
    /// `lock NAME MODE ...`, `lock NAME permits=TAKE/OF ...`.
    Lock {
        /// The resource and what to have of it.
        want: Want,
        /// How.
        options: LockOptions,
    },
    /// Lock a path of a hierarchy: a resource, and the intents above it.
    LockPath {
        /// The resource.
        want: Want,
        /// How.
        options: LockOptions,
    },
    /// `lockall NAME MODE NAME MODE ...`: all of them or none.
    LockAll {
        /// The resources and what to have of each.
        wants: Vec<Want>,
        /// How, for all of them.
        options: LockOptions,
    },
    /// `convert NAME MODE ...`.
    Convert {
        /// Which lock.
        lock: LockName,
        /// The mode to have, as written.
        mode: String,
        /// How long to wait.
        wait: Wait,
        /// Flags.
        flags: Flags,
        /// What to write to the value block.
        value: Option<Vec<u8>>,
    },
    /// `unlock NAME ...`.
    Unlock {
        /// Which lock.
        lock: LockName,
        /// Flags.
        flags: Flags,
        /// What to write to the value block.
        value: Option<Vec<u8>>,
    },
    /// `cancel NAME`.
    Cancel(LockName),
    /// `value NAME`.
    Value(LockName),
    /// `show NAME`.
    Show(Vec<u8>),
    /// `use LOCKSPACE`.
    Use(String),
    /// `create LOCKSPACE ...`: and use it.
    Create(Box<SpaceSpec>),
    /// `group NAME`: attach to it, creating it if need be.
    Group(Vec<u8>),
    /// `detach NAME`: leave a group.
    Detach(Vec<u8>),
    /// `purge`: drop the orphans of the lockspace in use.
    Purge,
    /// `begin`, `commit`, `rollback` and what else is about a transaction.
    Transaction(TransactionVerb),
    /// `on HOST:PORT`: connect this session to that node; one that is open goes there with all it holds.
    On(String),
    /// `kill`: drop this session's connection without a goodbye.
    Kill,
    /// `bye`: end this session in order. The name may then open another.
    Bye,
    /// `sleep DUR`.
    Sleep(Span),
    /// `sync`.
    Sync,
}

/// A resource and what to have of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Want {
    /// The resource.
    pub name: Vec<u8>,
    /// Mode or permits.
    pub claim: WantedClaim,
}

/// What to have of a resource.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WantedClaim {
    /// A mode, as written.
    Mode(String),
    /// `permits=TAKE/OF`.
    Permits {
        /// How many.
        take: u32,
        /// Of how many.
        of: u32,
    },
}

/// How a new lock is asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LockOptions {
    /// `as=ID`.
    pub tag: u32,
    /// `nowait`, `wait=DUR`, or for as long as the session lives.
    pub wait: Wait,
    /// Flags.
    pub flags: Flags,
    /// Who is to own it.
    pub owner: OwnerWord,
    /// `priority=N`.
    pub priority: i8,
}

/// Who is to own a lock.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum OwnerWord {
    /// Nobody said: the session, for its transaction where one is open.
    #[default]
    Unsaid,
    /// `session`: the session itself, also while a transaction is open.
    Session,
    /// `statement`: the session, for a statement of its transaction.
    Statement,
    /// `alone`: the session, but the lock stands for itself in deadlock search and beside others of its name.
    Alone,
    /// `group=NAME`.
    Group(Vec<u8>),
}

/// Which lock of the session, in the lockspace in use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LockName {
    /// The resource.
    pub name: Vec<u8>,
    /// `as=ID`.
    pub tag: u32,
    /// `group=NAME`; without it the session's own lock, or else that of any group of it.
    pub group: Option<Vec<u8>>,
}

/// The verbs of transactions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TransactionVerb {
    /// `begin`.
    Begin,
    /// `begin again`: with the age of the newest one of the session.
    BeginAgain,
    /// `commit`.
    Commit,
    /// `rollback`, `rollback to SAVEPOINT`.
    Rollback(Option<String>),
    /// `savepoint NAME`.
    Savepoint(String),
    /// `end-statement`.
    EndStatement,
}

impl TransactionVerb {
    /// The word.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            TransactionVerb::Begin | TransactionVerb::BeginAgain => "begin",
            TransactionVerb::Commit => "commit",
            TransactionVerb::Rollback(_) => "rollback",
            TransactionVerb::Savepoint(_) => "savepoint",
            TransactionVerb::EndStatement => "end-statement",
        }
    }
}
