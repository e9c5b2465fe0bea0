//! Deadlock reports: kept as things were when the cycle was found, since afterwards nobody can look.

use alloc::collections::VecDeque;

use lockstead_table::OwnerId;
use lockstead_types::{
    Time,
    report::{DeadlockReport, Deadlocks, Holder},
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

    /// The newest whose cycles have at most `max` edges together, but one always.
    pub(crate) fn list(&self, now: Time, max: usize) -> Deadlocks {
        let mut edges = 0usize;
        // [WIRE-8] The newest are what somebody asks about; those before them are counted.
        let shown = self.kept.iter().rev().take_while(|(_, report)| {
            let first = edges == 0;
            edges = edges.saturating_add(report.cycle.len());
            first || edges <= max
        });
        let from = self.kept.len() - shown.count();
        let reports = self.kept.iter().skip(from);
        let reports = reports.map(|(at, report)| DeadlockReport { ago: now.since(*at), ..report.clone() }).collect();
        Deadlocks { reports, left_out: from as u32 }
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &DeadlockReport> {
        self.kept.iter().map(|(_, report)| report)
    }

    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }
}

impl Node {
    /// Keeps a report, with what both sides of each edge say of themselves now.
    pub(crate) fn keep_report(&mut self, now: Time, mut report: DeadlockReport, owners: &[(OwnerId, OwnerId)]) {
        self.shorten(&mut report);
        for (edge, (waiter, blocker)) in report.cycle.iter_mut().zip(owners) {
            fill(&mut edge.waiter.holder, self.holder(*waiter));
            fill(&mut edge.blocker.holder, self.holder(*blocker));
        }
        self.keep(now, report);
    }

    /// The same of a cycle over several masters, who have said who each is.
    pub(crate) fn keep_cycle(&mut self, now: Time, mut report: DeadlockReport) {
        self.shorten(&mut report);
        self.keep(now, report);
    }

    /// A cycle may be as long as a search is allowed to be: what no answer would show is not kept.
    fn shorten(&self, report: &mut DeadlockReport) {
        let most = self.config.limits.rows_per_answer as usize;
        report.left_out += report.cycle.len().saturating_sub(most) as u32;
        report.cycle.truncate(most);
    }

    fn keep(&mut self, now: Time, mut report: DeadlockReport) {
        self.counters.deadlocks += 1;
        self.reports.newest += 1;
        report.number = self.reports.newest;
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
