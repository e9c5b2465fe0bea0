//! What is sent in place of an answer that does not fit a frame: less of a look, saying what it leaves out. A file of its
//! own, since what may be left out is a matter of each report, not of frames.

use alloc::{boxed::Box, vec::Vec};

use lockstead_types::{
    LimitName, Refusal,
    message::ServerMessage,
    reply::Reply,
    report::{Deadlocks, Report, ResourceDetail, Waits, queue_shares},
};

/// A message about half as long, `None` where nothing shorter says the truth.
pub(crate) fn shorten(message: &ServerMessage) -> Option<ServerMessage> {
    // [WIRE-7] Only a look may be cut short or refused here. A grant whose answer became a refusal would be held by nobody.
    let ServerMessage::Reply { id, reply: Reply::Report(report) } = message else { return None };
    let reply = match shorter(report) {
        Some(report) => Reply::Report(Box::new(report)),
        None => Reply::Refused(Refusal::Limit(LimitName::FrameBytes)),
    };
    Some(ServerMessage::Reply { id: *id, reply })
}

/// [WIRE-8] Fewer rows, and what says so; `None` where that cannot be said, or nothing is left to leave out.
fn shorter(report: &Report) -> Option<Report> {
    match report {
        Report::Sessions { rows, .. } if rows.len() > 1 => {
            Some(Report::Sessions { rows: first_half(rows), more: true })
        }
        Report::Resource(Some(detail)) => heads_of_queues(detail).map(|d| Report::Resource(Some(Box::new(d)))),
        Report::Waits(Waits { edges, waiting, taking_over, .. }) if !edges.is_empty() => Some(Report::Waits(Waits {
            edges: first_half(edges),
            waiting: *waiting,
            more: true,
            taking_over: *taking_over,
        })),
        Report::Deadlocks(found) => newest_and_shorter(found).map(Report::Deadlocks),
        Report::Resources { .. }
        | Report::Sessions { .. }
        | Report::Resource(None)
        | Report::Waits(_)
        | Report::Status(_)
        | Report::Spaces(_)
        | Report::Members(_) => None,
    }
}

fn first_half<T: Clone>(rows: &[T]) -> Vec<T> {
    rows.iter().take(rows.len() / 2).cloned().collect()
}

fn heads_of_queues(detail: &ResourceDetail) -> Option<ResourceDetail> {
    let lengths = [detail.granted.len(), detail.converting.len(), detail.waiting.len()];
    let all = lengths.iter().fold(0usize, |sum, length| sum.saturating_add(*length));
    if all == 0 {
        return None;
    }
    let [granted, converting, waiting] = queue_shares(lengths, all / 2);
    let mut detail = detail.clone();
    cut(&mut detail.granted, granted, &mut detail.left_out.granted);
    cut(&mut detail.converting, converting, &mut detail.left_out.converting);
    cut(&mut detail.waiting, waiting, &mut detail.left_out.waiting);
    Some(detail)
}

/// Of long cycles the first half, of short ones fewer.
fn newest_and_shorter(found: &Deadlocks) -> Option<Deadlocks> {
    let longest = found.reports.iter().map(|r| r.cycle.len()).max()?;
    let mut found = found.clone();
    if longest > found.reports.len() || found.reports.len() == 1 {
        // All of them at once: one by one it would take as many attempts as there are reports.
        found.reports.iter_mut().for_each(|r| cut(&mut r.cycle, longest / 2, &mut r.left_out));
        return (longest > 0).then_some(found);
    }
    let oldest = found.reports.len().div_ceil(2);
    found.reports.drain(..oldest);
    found.left_out = found.left_out.saturating_add(as_count(oldest));
    Some(found)
}

fn cut<T>(rows: &mut Vec<T>, most: usize, left_out: &mut u32) {
    *left_out = left_out.saturating_add(as_count(rows.len().saturating_sub(most)));
    rows.truncate(most);
}

fn as_count(rows: usize) -> u32 {
    u32::try_from(rows).unwrap_or(u32::MAX)
}
