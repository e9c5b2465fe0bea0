//! Counters of the shell. Each event loop has its own, so that counting moves no cache line between cores; they are added
//! up when somebody looks.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Upper bounds of the buckets of the batch size: messages handled in one turn.
pub(crate) const BATCH_BOUNDS: [u64; 10] = [1, 2, 4, 8, 16, 64, 256, 1_024, 4_096, 16_384];

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident;)*) => {
        /// Counters of one thread.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub(crate) struct Stats {
            $($(#[doc = $doc])* pub(crate) $name: AtomicU64,)*
            batch: [AtomicU64; BATCH_BOUNDS.len() + 1],
        }

        impl Stats {
            /// Name, help and sum over all threads of each counter.
            pub(crate) fn sums(all: &[Stats]) -> Vec<(&'static str, &'static str, u64)> {
                vec![$((stringify!($name), concat!($($doc),*), all.iter().map(|s| s.$name.load(Relaxed)).sum()),)*]
            }
        }
    };
}

counters! {
    /// Connections accepted.
    accepted;
    /// Connections that could not be accepted, most often for want of file descriptors.
    accept_errors;
    /// Connections turned away because there were too many.
    turned_away;
    /// Connections that ended.
    closed;
    /// Connections cut for bytes or messages that the protocol does not allow.
    cut_protocol;
    /// Connections cut because no hello or session came in time.
    cut_idle;
    /// Connections cut because the client did not read.
    cut_slow;
    /// Turns of event loops that handled something.
    turns;
    /// Turns that slept before they handled something.
    sleeps;
    /// Messages received.
    messages;
    /// Bytes received.
    bytes_received;
    /// Bytes sent.
    bytes_sent;
    /// Calls that wrote to a connection.
    writes;
    /// Writes that found the connection's buffer full.
    writes_blocked;
    /// Times the journal was made durable.
    journal_syncs;
    /// Times the journal was written anew.
    journal_compactions;
}

impl Stats {
    /// Counts a turn that handled so many messages.
    pub(crate) fn turn(&self, messages: u64) {
        add(&self.turns, 1);
        if messages > 0 {
            add(&self.messages, messages);
            let bucket = BATCH_BOUNDS.partition_point(|bound| *bound < messages);
            add(&self.batch[bucket], 1);
        }
    }

    /// How many turns handled at most so many messages, cumulative, the last without a bound.
    pub(crate) fn batches(all: &[Stats]) -> [u64; BATCH_BOUNDS.len() + 1] {
        let mut sums = [0; BATCH_BOUNDS.len() + 1];
        let mut before = 0;
        for (i, sum) in sums.iter_mut().enumerate() {
            before += all.iter().map(|s| s.batch[i].load(Relaxed)).sum::<u64>();
            *sum = before;
        }
        sums
    }
}

/// Adds to a counter that, most of the time, one thread writes.
pub(crate) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Relaxed);
}
