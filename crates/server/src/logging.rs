//! A bound on how often one kind of trouble is logged: whoever can cause an error at will must not fill the disk with it.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use lockstead_types::Time;

/// Lines of one kind that are logged in a second.
const LINES_A_SECOND: u64 = 5;

/// The bound for one kind of line.
#[derive(Debug, Default)]
pub(crate) struct LogBound {
    second: AtomicU64,
    lines: AtomicU64,
}

impl LogBound {
    pub(crate) const fn new() -> LogBound {
        LogBound { second: AtomicU64::new(0), lines: AtomicU64::new(0) }
    }

    /// Whether one more line may be logged now. Threads that race may let one more through; that is as good.
    pub(crate) fn allows(&self, now: Time) -> bool {
        let second = now.as_nanos() / 1_000_000_000;
        if self.second.swap(second, Relaxed) != second {
            self.lines.store(0, Relaxed);
        }
        self.lines.fetch_add(1, Relaxed) < LINES_A_SECOND
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstead_types::Span;

    #[test]
    fn five_lines_a_second() {
        let bound = LogBound::new();
        let allowed = |now: Time| (0..100).filter(|_| bound.allows(now)).count();
        let start = Time::from_nanos(77_000_000_000);
        assert_eq!(allowed(start), 5);
        assert_eq!(allowed(start.after(Span::from_millis(999))), 0);
        assert_eq!(allowed(start.after(Span::from_secs(1))), 5);
    }
}
