//! The agreed state, as openraft drives it: committed entries are applied here in order, snapshots are made and taken in.
//!
//! The state is only in memory. After a start it is the snapshot's, and openraft applies the log again.

use std::{io, sync::Arc};

use futures_util::{Stream, TryStreamExt};
use lockstead_cluster::State;
use openraft::{
    EntryPayload, OptionalSend, RaftSnapshotBuilder,
    storage::{EntryResponder, RaftStateMachine},
};
use parking_lot::Mutex;

use super::disk::{Disk, Kept, Write, pack};
use crate::{
    codec::{decode_command, decode_state, encode_state},
    event::Feed,
    group::{Group, LogId, Snapshot, SnapshotMeta, StoredMembership},
};

/// A state in the form of [`crate::codec`].
pub(crate) type SnapshotData = Arc<Vec<u8>>;

/// What has been applied so far, for all who look at it.
#[derive(Default)]
pub(crate) struct Applied {
    pub(crate) state: Arc<State>,
    last: Option<LogId>,
    membership: StoredMembership,
    /// The newest snapshot that is on the disk.
    snapshot: Option<(SnapshotMeta, SnapshotData)>,
}

/// See the head of this file.
pub(crate) struct Machine {
    disk: Disk,
    applied: Arc<Mutex<Applied>>,
    feed: Arc<Feed>,
}

impl Machine {
    pub(crate) fn new(disk: Disk, kept: &mut Kept, feed: Arc<Feed>) -> io::Result<Machine> {
        let mut applied = Applied::default();
        if let Some((meta, bytes)) = kept.snapshot.take() {
            applied.state = Arc::new(decode_state(&bytes)?);
            applied.last = meta.last_log_id;
            applied.membership = meta.last_membership.clone();
            applied.snapshot = Some((meta, Arc::new(bytes)));
            feed.snapshot(&applied.state);
        }
        Ok(Machine { disk, applied: Arc::new(Mutex::new(applied)), feed })
    }

    pub(crate) fn applied(&self) -> Arc<Mutex<Applied>> {
        Arc::clone(&self.applied)
    }

    fn builder(&self) -> Builder {
        let applied = self.applied.lock();
        let meta = SnapshotMeta { last_log_id: applied.last, last_membership: applied.membership.clone() };
        Builder { meta, state: Arc::clone(&applied.state), disk: self.disk.clone(), applied: Arc::clone(&self.applied) }
    }
}

impl RaftStateMachine<Group> for Machine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let applied = self.applied.lock();
        Ok((applied.last, applied.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = Result<EntryResponder<Group>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let command = match &entry.payload {
                EntryPayload::Normal(bytes) => Some(decode_command(&bytes.0)?),
                EntryPayload::Blank | EntryPayload::Membership(_) => None,
            };
            {
                let mut applied = self.applied.lock();
                applied.last = Some(entry.log_id);
                if let EntryPayload::Membership(membership) = entry.payload {
                    applied.membership = StoredMembership::new(Some(entry.log_id), membership);
                }
                if let Some(command) = &command {
                    // Copied only while a snapshot is being made of it.
                    let _ = Arc::make_mut(&mut applied.state).apply(command);
                }
            }
            if let Some(command) = command {
                let state = Arc::clone(&self.applied.lock().state);
                self.feed.committed(command, &state);
            }
            if let Some(responder) = responder {
                responder.send(());
            }
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<Builder> {
        Some(self.builder())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        self.builder()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotData) -> io::Result<()> {
        let state = Arc::new(decode_state(&snapshot)?);
        self.disk.write(Write::Snapshot(pack(meta)?, snapshot.to_vec())).await?;
        {
            let mut applied = self.applied.lock();
            applied.state = Arc::clone(&state);
            applied.last = meta.last_log_id;
            applied.membership = meta.last_membership.clone();
            applied.snapshot = Some((meta.clone(), snapshot));
        }
        self.feed.snapshot(&state);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let snapshot = self.applied.lock().snapshot.clone();
        Ok(snapshot.map(|(meta, snapshot)| Snapshot { meta, snapshot }))
    }
}

/// Makes a snapshot of the state as it was when this was made.
pub(crate) struct Builder {
    meta: SnapshotMeta,
    state: Arc<State>,
    disk: Disk,
    applied: Arc<Mutex<Applied>>,
}

impl RaftSnapshotBuilder<Group> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let bytes = encode_state(&self.state);
        self.disk.write(Write::Snapshot(pack(&self.meta)?, bytes.clone())).await?;
        let snapshot = Arc::new(bytes);
        self.applied.lock().snapshot = Some((self.meta.clone(), Arc::clone(&snapshot)));
        Ok(Snapshot { meta: self.meta.clone(), snapshot })
    }
}
