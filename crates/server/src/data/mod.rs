//! The data directory: what a node must not forget.
//!
//! | file | holds |
//! |---|---|
//! | `lock` | nothing; locked while a server uses the directory |
//! | `identity` | node number and epoch, raised and made durable before anything is granted |
//! | `journal` | lockspaces, the largest lease ever granted, the sessions that had not ended |
//! | `member`, `group` | of a member of a cluster, instead of `identity` and `journal`: `data/member.rs` |
//! | `audit.log` | what was done by force, a line each |
//!
//! Locks are not here: after a restart their holders bring them back, and until they did nothing else is granted
//! ([RESTART-1]).

mod crc;
mod files;
mod identity;
mod journal;
mod member;
mod record;

use core::fmt;
use std::{
    collections::BTreeMap,
    fs::File,
    io,
    path::{Path, PathBuf},
};

use lockstead_node::SessionRecord;
use lockstead_types::{SpaceId, Span, Token, space::SpaceSpec};
use rustix::fs::{FlockOperation, flock};

pub(crate) use files::AuditLog;
pub(crate) use files::create_directory;
pub(crate) use journal::Journal;
use journal::Kept;
pub(crate) use member::{MemberDir, is_member, open_member};

/// A data directory in use. Dropping it lets another server use it.
#[derive(Debug)]
pub(crate) struct DataDir {
    _lock: File,
}

/// What a data directory remembers at a start.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// The epoch of this start: above every one before, and durable.
    pub(crate) epoch: u32,
    /// Lockspaces.
    pub(crate) spaces: Vec<(SpaceId, SpaceSpec)>,
    /// Sessions that had not ended.
    pub(crate) sessions: Vec<SessionRecord>,
    /// The largest lease ever granted.
    pub(crate) ttl_max: Span,
}

impl Recovered {
    /// What a server without a data directory starts with.
    pub(crate) fn nothing(epoch: u32, wanted: &[SpaceSpec]) -> Recovered {
        let mut kept = Kept::default();
        add_spaces(&mut kept.spaces, wanted, epoch);
        Recovered::from(&kept, epoch)
    }

    fn from(kept: &Kept, epoch: u32) -> Recovered {
        Recovered {
            epoch,
            spaces: kept.spaces.iter().map(|(id, spec)| (SpaceId(*id), spec.clone())).collect(),
            sessions: kept.sessions.values().cloned().collect(),
            ttl_max: kept.ttl_max,
        }
    }
}

/// All that an opened directory gives.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) directory: DataDir,
    pub(crate) recovered: Recovered,
    pub(crate) journal: Journal,
    pub(crate) audit: AuditLog,
}

/// Why a data directory cannot be used.
#[derive(Debug)]
pub enum DataError {
    /// Another server uses it.
    InUse(PathBuf),
    /// The operating system refused something.
    Io {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// What is in it cannot be trusted.
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and what can be done.
        problem: String,
    },
    /// It belongs to another node, or its epochs are used up.
    Refused(String),
}

impl DataError {
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataError {
        let path = path.to_owned();
        move |error| DataError::Io { doing, path, error }
    }
}

impl fmt::Display for DataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DataError::InUse(path) => write!(f, "data directory {} is in use by another server", path.display()),
            DataError::Io { doing, path, error } => write!(f, "cannot {doing} {}: {error}", path.display()),
            DataError::Damaged { path, problem } => write!(f, "{} {problem}", path.display()),
            DataError::Refused(why) => f.write_str(why),
        }
    }
}

impl core::error::Error for DataError {}

/// Opens a data directory, creating it where it is absent, and raises its epoch.
///
/// The order of the writes matters. An empty journal comes first, so that an identity without a journal is always a loss
/// and never a crash between the two. The epoch is durable before the new journal, so that a crash in between costs an
/// epoch and nothing else.
///
/// # Errors
/// [`DataError`]; nothing was granted and no epoch is lost that was used.
pub(crate) fn open(path: &Path, node: u16, epoch_min: u32, wanted: &[SpaceSpec]) -> Result<Opened, DataError> {
    create_directory(path)?;
    let directory = lock(path)?;
    if is_member(path) {
        let path = path.display();
        return Err(DataError::Refused(format!(
            "data directory {path} belongs to a member of a cluster, which this node is not configured to be"
        )));
    }
    let (identity_path, journal_path) = (path.join("identity"), path.join("journal"));
    let identity = identity::read(&identity_path)?;
    let exists = journal_path.try_exists().map_err(DataError::io("look for", &journal_path))?;
    if !exists {
        if identity.is_some() {
            let problem = "is missing, so the sessions of before cannot be known. Restore the directory from a whole copy, or \
                           move it away and start with an empty one, with epoch_min above the epoch in its identity file, \
                           once the longest lease has passed";
            return Err(DataError::Damaged { path: journal_path, problem: problem.into() });
        }
        journal::create_empty(path)?;
    }
    let mut kept = journal::read(&journal_path)?;
    let epoch = next_epoch(path, node, epoch_min, identity, kept.epoch)?;
    identity::write(path, identity::Identity { node, epoch })?;
    add_spaces(&mut kept.spaces, wanted, epoch);
    let recovered = Recovered::from(&kept, epoch);
    let journal = Journal::start(path, kept, epoch)?;
    let audit = AuditLog::open(&path.join("audit.log"))?;
    Ok(Opened { directory, recovered, journal, audit })
}

fn lock(path: &Path) -> Result<DataDir, DataError> {
    let lock_path = path.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&lock_path);
    let file = file.map_err(DataError::io("open", &lock_path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(DataDir { _lock: file }),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(DataError::InUse(path.to_owned())),
        Err(error) => Err(DataError::io("lock", &lock_path)(error.into())),
    }
}

/// The epoch of this start: above every one that may have been used ([RESTART-2]).
fn next_epoch(
    path: &Path,
    node: u16,
    epoch_min: u32,
    identity: Option<identity::Identity>,
    journalled: u32,
) -> Result<u32, DataError> {
    let known = match identity {
        Some(identity) if identity.node != node => {
            let (path, owner) = (path.display(), identity.node);
            return Err(DataError::Refused(format!(
                "data directory {path} belongs to node {owner}, this is node {node}"
            )));
        }
        Some(identity) if identity.epoch < journalled => {
            let problem = format!(
                "says epoch {}, but the journal was written in epoch {journalled}: it is an older copy. Restore the directory as \
                 a whole, with epoch_min above every epoch that was ever in use",
                identity.epoch
            );
            return Err(DataError::Damaged { path: path.join("identity"), problem });
        }
        Some(identity) => identity.epoch,
        None if journalled > 0 => {
            let problem =
                "is missing, though there is a journal: the epoch cannot be known. Restore the directory as a whole";
            return Err(DataError::Damaged { path: path.join("identity"), problem: problem.into() });
        }
        None => 0,
    };
    let epoch = known.saturating_add(1).max(epoch_min);
    if epoch > Token::EPOCH_MAX {
        let most = Token::EPOCH_MAX;
        return Err(DataError::Refused(format!("epoch {epoch} is beyond the last one, {most}: no token can be given")));
    }
    Ok(epoch)
}

/// Adds the lockspaces of the configuration that do not exist. One that exists keeps its settings: locks may be claimed
/// back under them. Numbers begin anew with each epoch, as the node's own do, so that the number of a lockspace that was
/// dropped does not come back while a client may remember it.
fn add_spaces(spaces: &mut BTreeMap<u32, SpaceSpec>, wanted: &[SpaceSpec], epoch: u32) {
    const EPOCH_RANGE: u32 = 1 << 8;
    const NUMBERS: u32 = 1 << 31;
    for spec in wanted {
        match spaces.values().find(|have| have.name == spec.name) {
            Some(have) if have == spec => {}
            Some(_) => {
                let name = &spec.name;
                tracing::warn!(
                    "lockspace {name} exists with other settings than configured, which it keeps; drop it first"
                );
            }
            None => {
                let newest = spaces.keys().copied().max().unwrap_or(0).max(epoch.wrapping_mul(EPOCH_RANGE) % NUMBERS);
                // 0 belongs to `default`, whether it is there yet or not.
                let id = if spec.name == "default" { 0 } else { newest.saturating_add(1) };
                spaces.insert(id, spec.clone());
            }
        }
    }
}
