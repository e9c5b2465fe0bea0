//! The journal: appended while the node runs, written anew where it has grown beyond what it says.
//!
//! Records are written (`write(2)`) before anything that follows them is sent, so they survive a killed process; those of
//! remote sessions are also made durable before the session is open, by the thread of `crate::sync`, many at a time.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use lockstead_node::{Record, SessionRecord};
use lockstead_types::{SessionId, Span, space::SpaceSpec};

use super::{
    DataError, files,
    record::{Entry, Found, any_behind, append, read as read_record},
};

const MAGIC: &[u8] = b"lockstead journal 1\n";
/// A journal is not written anew before it has this size.
const COMPACT_FROM: u64 = 1 << 20;

/// What the journal comes to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    pub(crate) epoch: u32,
    pub(crate) ttl_max: Span,
    pub(crate) spaces: BTreeMap<u32, SpaceSpec>,
    pub(crate) sessions: HashMap<SessionId, SessionRecord>,
}

/// The journal of a running node.
#[derive(Debug)]
pub(crate) struct Journal {
    directory: PathBuf,
    file: Arc<File>,
    bytes: u64,
    /// The size at which it is written anew.
    compact_at: u64,
    /// Its successor while it is written anew: gets every record that the journal gets.
    successor: Option<Arc<File>>,
    kept: Kept,
    staged: Vec<u8>,
    /// Whether what is staged must be durable before anything that follows it is sent.
    staged_durable: bool,
    opened: Vec<SessionId>,
}

/// A journal being written anew: what is left to do without holding up the node.
#[derive(Debug)]
pub(crate) struct Compaction {
    directory: PathBuf,
    file: Arc<File>,
}

/// Creates a journal that says nothing.
pub(crate) fn create_empty(directory: &Path) -> Result<(), DataError> {
    let path = directory.join("journal");
    let mut file = files::create_file(&path)?;
    file.write_all(MAGIC).map_err(DataError::io("write", &path))?;
    file.sync_all().map_err(DataError::io("make durable", &path))?;
    files::sync_directory(directory)
}

/// Reads a journal. An end that was torn off by a crash is left out: nothing that was acknowledged is in it.
///
/// # Errors
/// [`DataError::Damaged`] where whole records stand behind something that is none.
pub(crate) fn read(path: &Path) -> Result<Kept, DataError> {
    let bytes = fs::read(path).map_err(DataError::io("read", path))?;
    let mut kept = Kept::default();
    if MAGIC.starts_with(&bytes) {
        return Ok(kept);
    }
    if !bytes.starts_with(MAGIC) {
        return Err(damaged(path, 0, kept.epoch));
    }
    let mut at = MAGIC.len();
    loop {
        match read_record(&bytes, at) {
            Found::Entry(entry, next) => {
                kept.apply(*entry);
                at = next;
            }
            Found::End => return Ok(kept),
            Found::Bad if any_behind(&bytes, at) => return Err(damaged(path, at, kept.epoch)),
            Found::Bad => {
                let (path, torn) = (path.display(), bytes.len() - at);
                tracing::warn!("{path}: the last {torn} bytes were torn off by a crash and are left out");
                return Ok(kept);
            }
        }
    }
}

fn damaged(path: &Path, at: usize, epoch: u32) -> DataError {
    let problem = format!(
        "is damaged at byte {at}, with whole records behind it: the sessions of before cannot be known. Restore the data \
         directory as a whole from a copy, with epoch_min above every epoch that was ever in use; or move it away and start \
         with an empty one, with epoch_min above {epoch}, once the longest lease has passed"
    );
    DataError::Damaged { path: path.to_owned(), problem }
}

impl Kept {
    fn apply(&mut self, entry: Entry) {
        match entry {
            Entry::Epoch(epoch) => self.epoch = self.epoch.max(epoch),
            Entry::TtlMax(ttl) => self.ttl_max = self.ttl_max.max(ttl),
            Entry::Opened(record) => {
                self.sessions.insert(record.session, record);
            }
            Entry::Ended(session) => {
                self.sessions.remove(&session);
            }
            Entry::Space(id, spec) => {
                self.spaces.insert(id, spec);
            }
            Entry::Dropped(id) => {
                self.spaces.remove(&id);
            }
        }
    }

    fn snapshot(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        append(&mut out, &Entry::Epoch(self.epoch));
        append(&mut out, &Entry::TtlMax(self.ttl_max));
        for (id, spec) in &self.spaces {
            append(&mut out, &Entry::Space(*id, spec.clone()));
        }
        for record in self.sessions.values() {
            append(&mut out, &Entry::Opened(record.clone()));
        }
        out
    }
}

impl Journal {
    /// Writes the journal anew for a node that starts in `epoch`, durably.
    pub(crate) fn start(directory: &Path, mut kept: Kept, epoch: u32) -> Result<Journal, DataError> {
        kept.epoch = epoch;
        let path = directory.join("journal.new");
        let mut file = files::create_file(&path)?;
        let snapshot = kept.snapshot();
        file.write_all(&snapshot).map_err(DataError::io("write", &path))?;
        file.sync_all().map_err(DataError::io("make durable", &path))?;
        files::rename_durably(directory, &path, &directory.join("journal"))?;
        let bytes = snapshot.len() as u64;
        Ok(Journal {
            directory: directory.to_owned(),
            file: Arc::new(file),
            bytes,
            compact_at: compact_at(bytes),
            successor: None,
            kept,
            staged: Vec::new(),
            staged_durable: false,
            opened: Vec::new(),
        })
    }

    /// Takes a record, to be written by the next [`Journal::write`]. Gives back what belongs to the audit log.
    pub(crate) fn stage(&mut self, record: Record) -> Option<String> {
        let entry = match record {
            Record::Opened { record, durable } => {
                if durable {
                    self.opened.push(record.session);
                }
                Entry::Opened(record)
            }
            Record::Ended { session } => Entry::Ended(session),
            Record::TtlMax { ttl } => Entry::TtlMax(ttl),
            Record::SpaceCreated { id, spec } => {
                self.staged_durable = true;
                Entry::Space(id.0, spec)
            }
            Record::SpaceDropped { id } => {
                self.staged_durable = true;
                Entry::Dropped(id.0)
            }
            Record::Audit { text } => return Some(text),
        };
        append(&mut self.staged, &entry);
        self.kept.apply(entry);
        None
    }

    /// Whether something is staged.
    pub(crate) fn has_staged(&self) -> bool {
        !self.staged.is_empty()
    }

    /// Writes what is staged. Lockspaces are also made durable here and now: their creation is answered at once, it is rare,
    /// and a lock in a lockspace that a crash undid would be lost with it.
    ///
    /// # Errors
    /// What the operating system said. The node must stop: what the disk holds is not known any more.
    pub(crate) fn write(&mut self) -> io::Result<()> {
        (&*self.file).write_all(&self.staged)?;
        if self.staged_durable {
            self.file.sync_data()?;
            self.staged_durable = false;
        }
        if let Some(successor) = &self.successor {
            // It may already be in the journal's place, so a record it lacks is a record lost.
            (&**successor).write_all(&self.staged)?;
        }
        self.bytes += self.staged.len() as u64;
        self.staged.clear();
        Ok(())
    }

    /// The sessions written since the last call that wait for durability.
    pub(crate) fn take_opened(&mut self) -> Vec<SessionId> {
        core::mem::take(&mut self.opened)
    }

    /// The file to be made durable for everything written so far.
    pub(crate) fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Whether it has grown so far beyond what it says that it should be written anew.
    pub(crate) fn wants_compaction(&self) -> bool {
        self.successor.is_none() && self.bytes >= self.compact_at
    }

    /// Begins to write the journal anew. From here on every record goes to both files, until [`Journal::end_compaction`].
    ///
    /// # Errors
    /// [`DataError`]; the journal is as it was, and the next try comes when it has doubled.
    pub(crate) fn begin_compaction(&mut self) -> Result<Compaction, DataError> {
        self.compact_at = self.bytes.saturating_mul(2);
        let path = self.directory.join("journal.new");
        let mut file = files::create_file(&path)?;
        file.write_all(&self.kept.snapshot()).map_err(DataError::io("write", &path))?;
        let file = Arc::new(file);
        self.successor = Some(Arc::clone(&file));
        Ok(Compaction { directory: self.directory.clone(), file })
    }

    /// Goes over to the file that [`Compaction::finish`] has put into place.
    ///
    /// # Errors
    /// What the operating system said. The node must stop.
    pub(crate) fn end_compaction(&mut self, done: Compaction) -> io::Result<()> {
        self.successor = None;
        self.bytes = done.file.metadata()?.len();
        self.compact_at = compact_at(self.bytes);
        self.file = done.file;
        Ok(())
    }
}

impl Compaction {
    /// Makes the new file durable and puts it into the journal's place. Takes as long as the disk does; the node goes on
    /// meanwhile.
    pub(crate) fn finish(&self) -> Result<(), DataError> {
        let beside = self.directory.join("journal.new");
        self.file.sync_all().map_err(DataError::io("make durable", &beside))?;
        files::rename_durably(&self.directory, &beside, &self.directory.join("journal"))
    }
}

fn compact_at(bytes: u64) -> u64 {
    bytes.saturating_mul(4).saturating_add(COMPACT_FROM)
}
