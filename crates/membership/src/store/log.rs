//! The log as openraft sees it: in memory to read, on the disk to last. Compaction keeps it short enough for that.

use core::{fmt::Debug, ops::RangeBounds};
use std::{collections::BTreeMap, io, sync::Arc};

use openraft::{
    LogState, OptionalSend, RaftLogReader,
    storage::{IOFlushed, RaftLogStorage},
};
use parking_lot::Mutex;

use super::disk::{Disk, Kept, Write, pack};
use crate::group::{Entry, Group, LogId, Vote};

/// The log and the vote.
#[derive(Clone)]
pub(crate) struct LogStore {
    disk: Disk,
    log: Arc<Mutex<Log>>,
}

struct Log {
    entries: BTreeMap<u64, Entry>,
    vote: Option<Vote>,
    purged: Option<LogId>,
}

impl LogStore {
    /// The newest vote and the last entry there is.
    pub(crate) fn reaches(&self) -> (Option<Vote>, Option<LogId>) {
        let log = self.log.lock();
        let last = log.entries.values().next_back().map(|entry| entry.log_id);
        (log.vote, last.or(log.purged))
    }

    pub(crate) fn new(disk: Disk, kept: &mut Kept) -> LogStore {
        let entries = core::mem::take(&mut kept.entries).into_iter().map(|entry| (entry.log_id.index, entry)).collect();
        LogStore { disk, log: Arc::new(Mutex::new(Log { entries, vote: kept.vote, purged: kept.purged })) }
    }
}

impl RaftLogReader<Group> for LogStore {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> io::Result<Vec<Entry>> {
        let bounds = (range.start_bound().cloned(), range.end_bound().cloned());
        Ok(self.log.lock().entries.range(bounds).map(|(_, entry)| entry.clone()).collect())
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.log.lock().vote)
    }
}

impl RaftLogStorage<Group> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> io::Result<LogState<Group>> {
        let log = self.log.lock();
        let last = log.entries.values().next_back().map(|entry| entry.log_id);
        Ok(LogState { last_purged_log_id: log.purged, last_log_id: last.or(log.purged) })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.disk.write(Write::Vote(pack(vote)?)).await?;
        self.log.lock().vote = Some(*vote);
        Ok(())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Group>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut packed = Vec::new();
        {
            let mut log = self.log.lock();
            for entry in entries {
                packed.push((entry.log_id.index, pack(&entry)?));
                log.entries.insert(entry.log_id.index, entry);
            }
        }
        self.disk.append(packed, callback)
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let from = last.map_or(0, |last| last.index + 1);
        drop(self.log.lock().entries.split_off(&from));
        self.disk.write(Write::Truncate(from)).await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        {
            let mut log = self.log.lock();
            log.entries = log.entries.split_off(&(upto.index + 1));
            log.purged = Some(upto);
        }
        self.disk.write(Write::Purge(upto.index, pack(&upto)?)).await
    }
}
