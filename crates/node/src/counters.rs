//! Counts since the start, for `status` and metrics: plain numbers, one addition each.

use alloc::{borrow::ToOwned, string::String, vec::Vec};

use lockstead_types::{Mode, Refusal, Span, request::Op};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        /// Counts since the start.
        #[derive(Default)]
        pub(crate) struct Counters {
            $($(#[$doc])* pub(crate) $name: u64,)*
            refused: [u64; REFUSALS.len()],
            pub(crate) waits: WaitTimes,
            /// How long slots waited for their holders at a new master.
            pub(crate) recovery_times: Longest,
        }

        impl Counters {
            /// All of them with their names, always in the same order.
            pub(crate) fn rows(&self, waits_in_progress: u64) -> Vec<(String, u64)> {
                let named = [$((stringify!($name), self.$name),)*];
                let mut rows: Vec<(String, u64)> = named.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
                for (why, count) in REFUSALS.iter().zip(self.refused) {
                    rows.push((String::from("refused_") + &why.word().replace('-', "_"), count));
                }
                rows.push(("waits_in_progress".to_owned(), waits_in_progress));
                rows.push(("recovery_last_ms".to_owned(), self.recovery_times.last.as_millis()));
                rows.push(("recovery_longest_ms".to_owned(), self.recovery_times.longest.as_millis()));
                self.waits.push_rows(&mut rows);
                rows
            }
        }
    };
}

counters! {
    requests_lock;
    requests_lock_many;
    requests_lock_path;
    requests_convert;
    requests_release;
    requests_cancel;
    requests_read_value;
    requests_sync;
    requests_group;
    requests_space;
    requests_force;
    requests_query;
    requests_watch;
    requests_transaction;
    /// Requests that came again and were ignored.
    requests_repeated;
    /// Locks and conversions granted, at once or after a wait.
    grants;
    /// Requests that had to wait.
    queued;
    releases;
    cancels;
    timeouts;
    /// Cycles found.
    deadlocks;
    /// Messages sent to other nodes to find and break cycles over several masters.
    probes;
    notices_blocking;
    notices_revoked;
    notices_changed;
    renewals;
    sessions_opened;
    sessions_attached;
    /// Attached again after a restart of the node.
    sessions_returned;
    sessions_expired;
    sessions_goodbye;
    /// Local ones whose connection ended.
    sessions_crashed;
    /// Ended by an operator.
    sessions_forced;
    /// Came from another home.
    sessions_arrived;
    waits_again;
    transactions_begun;
    transactions_committed;
    transactions_rolled_back;
    transactions_aborted;
    /// Times this node took over slots.
    recoveries;
    /// Slots this node offered to the members that use them.
    slots_attracted;
    /// Locks taken back at a new master.
    locks_recovered;
    /// Times many locks below a resource were tried to become one of it, became one, and could not.
    escalations_tried;
    escalations_done;
    escalations_failed;
    /// Locks that became part of one above.
    locks_escalated;
    reclaims_granted;
    reclaims_refused;
    /// Of those, claims whose seal did not prove them.
    reclaims_unproven;
    connections_accepted;
    connections_rejected;
}

impl Counters {
    pub(crate) fn on_request(&mut self, op: &Op<'_>) {
        let count = match op {
            Op::Lock(_) => &mut self.requests_lock,
            Op::LockMany(_) => &mut self.requests_lock_many,
            Op::LockPath(_) => &mut self.requests_lock_path,
            Op::Convert(_) => &mut self.requests_convert,
            Op::Release { .. } => &mut self.requests_release,
            Op::Cancel(_) => &mut self.requests_cancel,
            Op::ReadValue(_) => &mut self.requests_read_value,
            Op::Sync => &mut self.requests_sync,
            Op::GroupAttach { .. } | Op::GroupDetach(_) => &mut self.requests_group,
            Op::SpaceOpen { .. } | Op::SpaceCreate(_) | Op::SpaceDrop { .. } => &mut self.requests_space,
            Op::Purge { .. } | Op::ForceRelease { .. } | Op::EndSession { .. } | Op::Cluster(_) => {
                &mut self.requests_force
            }
            Op::Query(_) => &mut self.requests_query,
            Op::Watch { .. } | Op::Unwatch => &mut self.requests_watch,
            Op::Begin { .. } | Op::Resume(_) | Op::Commit | Op::Rollback { .. } | Op::Savepoint | Op::EndStatement => {
                &mut self.requests_transaction
            }
        };
        *count += 1;
    }

    pub(crate) fn on_refused(&mut self, why: Refusal) {
        if why == Refusal::Timeout {
            self.timeouts += 1;
        }
        let same = |known: &Refusal| core::mem::discriminant(known) == core::mem::discriminant(&why);
        if let Some(count) = REFUSALS.iter().position(same).and_then(|at| self.refused.get_mut(at)) {
            *count += 1;
        }
    }
}

/// One of each kind; the bound of a limit does not matter here.
const REFUSALS: [Refusal; 18] = [
    Refusal::WouldWait,
    Refusal::Timeout,
    Refusal::Deadlock,
    Refusal::NotHeld,
    Refusal::BadMode,
    Refusal::TooLong,
    Refusal::Denied,
    Refusal::Limit(lockstead_types::LimitName::Locks),
    Refusal::Lost,
    Refusal::Invalid,
    Refusal::Busy,
    Refusal::NoQuorum,
    Refusal::NoLockspace,
    Refusal::Exists,
    Refusal::Phase,
    Refusal::Intent { level: 0, mode: Mode(0) },
    Refusal::Sublocks,
    Refusal::Aborted,
];

/// The newest of some times, and the longest.
#[derive(Default)]
pub(crate) struct Longest {
    last: Span,
    longest: Span,
}

impl Longest {
    pub(crate) fn add(&mut self, time: Span) {
        self.last = time;
        self.longest = self.longest.max(time);
    }
}

/// How long requests waited until they were granted.
#[derive(Default)]
pub(crate) struct WaitTimes {
    /// Not cumulative; the last is for all that were longer.
    buckets: [u64; BOUNDS.len() + 1],
    sum_us: u64,
}

/// Upper bounds, with the name of the bucket.
const BOUNDS: [(Span, &str); 8] = [
    (Span::from_nanos(100_000), "wait_le_100us"),
    (Span::from_millis(1), "wait_le_1ms"),
    (Span::from_millis(10), "wait_le_10ms"),
    (Span::from_millis(100), "wait_le_100ms"),
    (Span::from_secs(1), "wait_le_1s"),
    (Span::from_secs(10), "wait_le_10s"),
    (Span::from_secs(100), "wait_le_100s"),
    (Span::from_secs(1_000), "wait_le_1000s"),
];

impl WaitTimes {
    pub(crate) fn add(&mut self, waited: Span) {
        let at = BOUNDS.iter().position(|(bound, _)| waited <= *bound).unwrap_or(BOUNDS.len());
        if let Some(count) = self.buckets.get_mut(at) {
            *count += 1;
        }
        self.sum_us = self.sum_us.saturating_add(waited.as_nanos() / 1_000);
    }

    /// Cumulative, as histograms of Prometheus are.
    fn push_rows(&self, rows: &mut Vec<(String, u64)>) {
        let mut so_far = 0;
        for ((_, name), count) in BOUNDS.iter().zip(self.buckets) {
            so_far += count;
            rows.push(((*name).to_owned(), so_far));
        }
        rows.push(("wait_count".to_owned(), self.buckets.iter().sum()));
        rows.push(("wait_sum_us".to_owned(), self.sum_us));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_fall_into_their_buckets() {
        let mut counters = Counters::default();
        for millis in [0, 1, 2, 5_000, 2_000_000] {
            counters.waits.add(Span::from_millis(millis));
        }
        counters.on_refused(Refusal::Limit(lockstead_types::LimitName::Groups));
        let rows = counters.rows(3);
        let get = |name: &str| rows.iter().find(|(n, _)| n == name).map(|(_, count)| *count);
        assert_eq!(get("wait_le_100us"), Some(1));
        assert_eq!(get("wait_le_1ms"), Some(2));
        assert_eq!(get("wait_le_10s"), Some(4));
        assert_eq!(get("wait_count"), Some(5));
        assert_eq!(get("refused_limit"), Some(1));
        assert_eq!(get("waits_in_progress"), Some(3));
    }
}
