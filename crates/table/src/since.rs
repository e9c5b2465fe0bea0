//! When a token was given, to a tenth of a second or coarser: kept beside the locks instead of a time in each.

use alloc::vec::Vec;

use lockstead_types::{Span, Time};

const MARKS: usize = 4_096;
const FINEST: Span = Span::from_millis(100);

/// Which sequence numbers were given when. Sequences and times rise together, so a mark now and then says it for all
/// between; when there are too many marks every second one goes.
#[derive(Clone, Debug)]
pub(crate) struct GrantTimes {
    marks: Vec<(u64, Time)>,
    step: Span,
}

impl GrantTimes {
    pub(crate) const fn new() -> GrantTimes {
        GrantTimes { marks: Vec::new(), step: FINEST }
    }

    pub(crate) fn note(&mut self, sequence: u64, now: Time) {
        match self.marks.last() {
            Some((_, last)) if now.since(*last) < self.step => return,
            _ => {}
        }
        if self.marks.len() >= MARKS {
            let mut keep = false;
            self.marks.retain(|_| {
                keep = !keep;
                keep
            });
            self.step = self.step.scaled(2, 1);
        }
        self.marks.push((sequence, now));
    }

    /// How long ago the token of a sequence number was given, at most.
    pub(crate) fn age(&self, sequence: u64, now: Time) -> Span {
        let after = self.marks.partition_point(|(s, _)| *s <= sequence);
        let mark = after.checked_sub(1).and_then(|i| self.marks.get(i));
        mark.map_or(Span::ZERO, |(_, time)| now.since(*time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_never_too_small_and_at_most_a_step_too_large() {
        let mut times = GrantTimes::new();
        let at = |n: u64| Time::ZERO.after(Span::from_millis(n * 7));
        for n in 1..100_000 {
            times.note(n, at(n));
        }
        assert!(times.marks.len() <= MARKS);
        let now = at(100_000);
        for n in (1..100_000).step_by(997) {
            let (said, true_age) = (times.age(n, now), now.since(at(n)));
            assert!(said >= true_age && said.less(true_age) <= times.step.scaled(2, 1), "{n}");
        }
    }
}
