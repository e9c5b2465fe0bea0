//! Deadlock reports: kept as things were when the cycle was found, since afterwards nobody can look.

use alloc::{collections::VecDeque, vec::Vec};

use lockstead_table::OwnerId;
use lockstead_types::{
    Time,
    report::{DeadlockReport, Holder},
};

use crate::node::Node;

/// The newest reports, oldest first, each with when it was made.
pub(crate) struct Reports {
    kept: VecDeque<(Time, DeadlockReport)>,
    newest: u64,
}

impl Reports {
    pub(crate) fn new() -> Reports {
        Reports { kept: VecDeque::new(), newest: 0 }
    }

    pub(crate) fn list(&self, now: Time) -> Vec<DeadlockReport> {
        self.kept.iter().map(|(at, report)| DeadlockReport { ago: now.since(*at), ..report.clone() }).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }
}

impl Node {
    /// Keeps a report, with what both sides of each edge say of themselves now.
    pub(crate) fn keep_report(&mut self, now: Time, mut report: DeadlockReport, owners: &[(OwnerId, OwnerId)]) {
        self.counters.deadlocks += 1;
        self.reports.newest += 1;
        report.number = self.reports.newest;
        for (edge, (waiter, blocker)) in report.cycle.iter_mut().zip(owners) {
            fill(&mut edge.waiter.holder, self.holder(*waiter));
            fill(&mut edge.blocker.holder, self.holder(*blocker));
        }
        let most = self.config.limits.deadlock_reports as usize;
        self.reports.kept.push_back((now, report));
        while self.reports.len() > most {
            self.reports.kept.pop_front();
        }
    }
}

/// The table knows the tag, the node who it is.
fn fill(holder: &mut Holder, known: Holder) {
    *holder = Holder { tag: holder.tag, ..known };
}
