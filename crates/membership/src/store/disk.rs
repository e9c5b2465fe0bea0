//! The file, and the one thread that writes it.
//!
//! Whatever waits to be written when the thread is free is written in one transaction and made durable by one sync: that is the
//! group commit. Nothing is reported as done before. After a write or sync that failed nobody knows what is on the disk, so nothing
//! is tried again: everything after it fails too, and the node is told to stop.

use std::{
    io,
    path::Path,
    sync::mpsc::{Receiver, Sender, channel},
    thread::JoinHandle,
};

use openraft::storage::IOFlushed;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::oneshot;

use crate::group::{Entry, Group, LogId, SnapshotMeta, Vote};

const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const FORMAT: &str = "format";
const IDENTITY: &str = "identity";
const VOTE: &str = "vote";
const PURGED: &str = "purged";
const SNAPSHOT_META: &str = "snapshot-meta";
const SNAPSHOT: &str = "snapshot";
const STARTS: &str = "starts";
const OUTDATED: &str = "outdated";

/// The version of the file.
const VERSION: u8 = 1;
/// The name of the file in the data directory.
const FILE: &str = "membership.redb";
/// Memory redb may use for pages: all that is read often is in memory anyway.
const CACHE_BYTES: usize = 4 << 20;
/// Jobs in one transaction.
const TOGETHER: usize = 1_024;

/// Everything a file has, read when it is opened.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) identity: u128,
    /// Nonces of starts that may be the newest that the group knows of.
    pub(crate) starts: Vec<u64>,
    /// Why it must not be used any more.
    pub(crate) outdated: Option<String>,
    pub(crate) vote: Option<Vote>,
    pub(crate) purged: Option<LogId>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) snapshot: Option<(SnapshotMeta, Vec<u8>)>,
}

/// Something to write.
pub(crate) enum Write {
    Entries(Vec<(u64, Vec<u8>)>),
    Vote(Vec<u8>),
    /// Entries from this index on go.
    Truncate(u64),
    /// Entries up to the index go; the log id says where the log now begins.
    Purge(u64, Vec<u8>),
    Snapshot(Vec<u8>, Vec<u8>),
    Starts(Vec<u8>),
    Outdated(String),
}

enum Done {
    Log(IOFlushed<Group>),
    Waiting(oneshot::Sender<io::Result<()>>),
}

enum Job {
    Write(Write, Done),
    Stop,
}

/// Where to send what is to be written.
#[derive(Clone)]
pub(crate) struct Disk {
    jobs: Sender<Job>,
}

impl Disk {
    /// Opens the file, or makes one with an identity drawn at random. `failed` is called once, with the reason, when a write
    /// fails. The thread ends when it is told to, or the last `Disk` is gone.
    pub(crate) fn open(
        folder: &Path,
        failed: impl Fn(&str) + Send + 'static,
    ) -> io::Result<(Disk, Kept, JoinHandle<()>)> {
        let (database, kept) = open(folder)?;
        let (jobs, queue) = channel();
        let thread = std::thread::Builder::new()
            .name("membership-disk".into())
            .spawn(move || write_all(&database, &queue, &failed))?;
        Ok((Disk { jobs }, kept, thread))
    }

    /// Writes, and returns once it is durable.
    pub(crate) async fn write(&self, write: Write) -> io::Result<()> {
        let (done, wait) = oneshot::channel();
        self.jobs.send(Job::Write(write, Done::Waiting(done))).map_err(|_| stopped())?;
        wait.await.map_err(|_| stopped())?
    }

    /// Ends the thread once it has written what was handed in before.
    pub(crate) fn stop(&self) {
        // It may have ended already.
        let _ = self.jobs.send(Job::Stop);
    }

    /// Writes, and says so to openraft once it is durable.
    pub(crate) fn append(&self, entries: Vec<(u64, Vec<u8>)>, done: IOFlushed<Group>) -> io::Result<()> {
        self.jobs.send(Job::Write(Write::Entries(entries), Done::Log(done))).map_err(|_| stopped())
    }
}

/// Reads all there is; for tools that change a stopped node's data. `change` gives what to write.
pub(crate) fn rewrite<T>(folder: &Path, change: impl FnOnce(Kept) -> io::Result<(Vec<Write>, T)>) -> io::Result<T> {
    if !folder.join(FILE).exists() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "there is no membership data in this directory"));
    }
    let (database, kept) = open(folder)?;
    let (writes, told) = change(kept)?;
    commit(&database, &writes).map_err(io::Error::other)?;
    Ok(told)
}

pub(crate) fn pack<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    postcard::to_stdvec(value).map_err(io::Error::other)
}

pub(crate) fn unpack<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    postcard::from_bytes(bytes).map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))
}

fn open(folder: &Path) -> io::Result<(Database, Kept)> {
    std::fs::create_dir_all(folder)?;
    let path = folder.join(FILE);
    let new = !path.exists();
    let database = Database::builder().set_cache_size(CACHE_BYTES).create(&path).map_err(io::Error::other)?;
    if new {
        create(&database).map_err(io::Error::other)?;
        // The file's name must outlive a power cut as its contents do.
        std::fs::File::open(folder)?.sync_all()?;
    }
    let kept = read(&database)?;
    Ok((database, kept))
}

fn create(database: &Database) -> Result<(), redb::Error> {
    let mut identity = [0; 16];
    io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut identity)?;
    let transaction = database.begin_write()?;
    {
        transaction.open_table(LOG)?;
        let mut meta = transaction.open_table(META)?;
        meta.insert(FORMAT, [VERSION].as_slice())?;
        meta.insert(IDENTITY, identity.as_slice())?;
    }
    transaction.commit()?;
    Ok(())
}

fn read(database: &Database) -> io::Result<Kept> {
    let transaction = database.begin_read().map_err(io::Error::other)?;
    let meta = transaction.open_table(META).map_err(io::Error::other)?;
    let get = |key: &str| -> io::Result<Option<Vec<u8>>> {
        Ok(meta.get(key).map_err(io::Error::other)?.map(|value| value.value().to_vec()))
    };
    if get(FORMAT)?.as_deref() != Some(&[VERSION]) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "membership data of another version"));
    }
    let identity = get(IDENTITY)?.and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
    let identity = identity.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it has no identity"))?;
    let log = transaction.open_table(LOG).map_err(io::Error::other)?;
    let mut entries = Vec::new();
    for row in log.iter().map_err(io::Error::other)? {
        let (_, bytes) = row.map_err(io::Error::other)?;
        entries.push(unpack(bytes.value())?);
    }
    let snapshot = match (get(SNAPSHOT_META)?, get(SNAPSHOT)?) {
        (Some(meta), Some(bytes)) => Some((unpack(&meta)?, bytes)),
        _ => None,
    };
    Ok(Kept {
        identity: u128::from_le_bytes(identity),
        starts: get(STARTS)?.map_or(Ok(Vec::new()), |bytes| unpack(&bytes))?,
        outdated: get(OUTDATED)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
        vote: get(VOTE)?.map(|bytes| unpack(&bytes)).transpose()?,
        purged: get(PURGED)?.map(|bytes| unpack(&bytes)).transpose()?,
        entries,
        snapshot,
    })
}

fn write_all(database: &Database, queue: &Receiver<Job>, failed: &dyn Fn(&str)) {
    let mut broken: Option<String> = None;
    let mut stopping = false;
    while !stopping && let Ok(first) = queue.recv() {
        let (mut writes, mut done) = (Vec::new(), Vec::new());
        for job in core::iter::once(first).chain(queue.try_iter().take(TOGETHER - 1)) {
            match job {
                Job::Write(write, whose) if !stopping => {
                    writes.push(write);
                    done.push(whose);
                }
                Job::Write(..) | Job::Stop => stopping = true,
            }
        }
        if writes.is_empty() {
            continue;
        }
        if broken.is_none()
            && let Err(why) = commit(database, &writes)
        {
            let why = format!("membership data could not be made durable: {why}");
            failed(&why);
            broken = Some(why);
        }
        for one in done {
            let fate = broken.as_ref().map_or(Ok(()), |why| Err(io::Error::other(why.clone())));
            match one {
                Done::Log(flushed) => flushed.io_completed(fate),
                Done::Waiting(waiting) => drop(waiting.send(fate)),
            }
        }
    }
}

fn commit(database: &Database, writes: &[Write]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut log = transaction.open_table(LOG)?;
        let mut meta = transaction.open_table(META)?;
        for write in writes {
            match write {
                Write::Entries(entries) => {
                    for (index, bytes) in entries {
                        log.insert(index, bytes.as_slice())?;
                    }
                }
                Write::Vote(bytes) => drop(meta.insert(VOTE, bytes.as_slice())?),
                Write::Truncate(from) => log.retain_in::<u64, _>(*from.., |_, _| false)?,
                Write::Purge(upto, bytes) => {
                    log.retain_in::<u64, _>(..=*upto, |_, _| false)?;
                    meta.insert(PURGED, bytes.as_slice())?;
                }
                Write::Snapshot(about, bytes) => {
                    meta.insert(SNAPSHOT_META, about.as_slice())?;
                    meta.insert(SNAPSHOT, bytes.as_slice())?;
                }
                Write::Starts(bytes) => drop(meta.insert(STARTS, bytes.as_slice())?),
                Write::Outdated(why) => drop(meta.insert(OUTDATED, why.as_bytes())?),
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

fn stopped() -> io::Error {
    io::Error::other("the thread that writes membership data has ended")
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use std::sync::Arc;

    use redb::{StorageBackend, backends::InMemoryBackend};

    use super::*;

    /// A disk whose syncs fail from some point on, and then work again, as disks do.
    #[derive(Debug, Default)]
    struct Faulty {
        memory: InMemoryBackend,
        fails: Arc<AtomicBool>,
    }

    impl StorageBackend for Faulty {
        fn len(&self) -> io::Result<u64> {
            self.memory.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.memory.read(offset, out)
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.memory.set_len(len)
        }

        fn sync_data(&self) -> io::Result<()> {
            if self.fails.swap(false, Ordering::SeqCst) { Err(io::Error::other("EIO")) } else { Ok(()) }
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.memory.write(offset, data)
        }
    }

    #[tokio::test]
    async fn after_a_failed_sync_nothing_is_acknowledged_any_more() {
        let faulty = Faulty::default();
        let fails = Arc::clone(&faulty.fails);
        let database = Database::builder().create_with_backend(faulty).unwrap();
        create(&database).unwrap();
        let (jobs, queue) = channel();
        let told = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&told);
        let thread = std::thread::spawn(move || {
            write_all(&database, &queue, &|why| {
                assert!(why.contains("could not be made durable"), "{why}");
                count.fetch_add(1, Ordering::SeqCst);
            });
        });
        let disk = Disk { jobs };
        disk.write(Write::Vote(vec![1])).await.unwrap();
        fails.store(true, Ordering::SeqCst);
        assert!(disk.write(Write::Vote(vec![2])).await.is_err());
        // The next sync would succeed: it is not tried.
        assert!(disk.write(Write::Vote(vec![3])).await.is_err());
        assert_eq!(told.load(Ordering::SeqCst), 1);
        disk.stop();
        thread.join().unwrap();
    }
}
