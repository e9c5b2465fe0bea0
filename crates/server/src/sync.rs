//! The thread that makes the journal durable: many openings with one `fdatasync`, and the node goes on meanwhile.

use core::mem;
use std::sync::Arc;

use lockstead_node::Input;
use lockstead_types::SessionId;
use parking_lot::{Condvar, Mutex};

use crate::{
    shared::{Phase, Shared},
    stats::add,
};

/// What the thread has to do.
#[derive(Debug, Default)]
pub(crate) struct SyncQueue {
    jobs: Mutex<Jobs>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Jobs {
    sessions: Vec<SessionId>,
    compact: bool,
}

impl SyncQueue {
    /// Sessions whose records were written and wait for durability; whether the journal should be written anew.
    pub(crate) fn push(&self, sessions: Vec<SessionId>, compact: bool) {
        let mut jobs = self.jobs.lock();
        jobs.sessions.extend(sessions);
        jobs.compact |= compact;
        self.changed.notify_one();
    }

    /// Looks at the phase again.
    pub(crate) fn wake(&self) {
        let _jobs = self.jobs.lock();
        self.changed.notify_all();
    }
}

/// Runs until the server is halted, which a graceful stop is when its event loops have ended.
pub(crate) fn run(shared: &Arc<Shared>) {
    loop {
        let mut jobs = shared.sync.jobs.lock();
        while jobs.sessions.is_empty() && !jobs.compact && shared.phase() != Phase::Halted {
            shared.sync.changed.wait(&mut jobs);
        }
        let Jobs { sessions, compact } = mem::take(&mut *jobs);
        drop(jobs);
        if shared.phase() == Phase::Halted {
            return;
        }
        if !sessions.is_empty() {
            make_durable(shared, sessions);
        }
        if compact {
            write_anew(shared);
        }
    }
}

fn make_durable(shared: &Shared, sessions: Vec<SessionId>) {
    // The records were written before they came into the queue, and only this thread puts another file into the journal's
    // place: they are in this file.
    let Some(file) = shared.core.lock().journal.as_ref().map(|journal| journal.file()) else { return };
    if let Err(error) = file.sync_data() {
        // What the disk holds after a failed fdatasync is not known, and a second try that succeeds proves nothing.
        shared.halt(format!("the journal cannot be made durable: {error}. Check the disk, then start again"));
        return;
    }
    add(&shared.other_stats().journal_syncs, 1);
    let inputs = sessions.into_iter().map(|session| Input::Recorded { session });
    let _ = shared.turn_outside(inputs);
}

fn write_anew(shared: &Shared) {
    let begun = shared.core.lock().journal.as_mut().map(|journal| journal.begin_compaction());
    let compaction = match begun {
        None => return,
        Some(Ok(compaction)) => compaction,
        Some(Err(error)) => {
            tracing::warn!("the journal is not written anew: {error}");
            return;
        }
    };
    if let Err(error) = compaction.finish() {
        shared.halt(format!("the journal cannot be written anew: {error}. Free or repair the disk, then start again"));
        return;
    }
    let ended = shared.core.lock().journal.as_mut().map_or(Ok(()), |journal| journal.end_compaction(compaction));
    match ended {
        Ok(()) => add(&shared.other_stats().journal_compactions, 1),
        Err(error) => shared.halt(format!("the journal cannot be looked at: {error}")),
    }
}
