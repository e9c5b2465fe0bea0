//! The clock leases are counted on.

use lockstead_types::Time;
use rustix::time::{ClockId, clock_gettime};

/// `CLOCK_BOOTTIME`: it goes on counting while the machine is suspended, unlike the clock behind `std::time::Instant`.
pub(crate) fn now() -> Time {
    read(ClockId::Boottime)
}

/// A cheaper clock for the embedded engine, which has no lease to lose: a few milliseconds coarse.
pub(crate) fn coarse() -> Time {
    read(ClockId::MonotonicCoarse)
}

fn read(clock: ClockId) -> Time {
    let t = clock_gettime(clock);
    let seconds = u64::try_from(t.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(t.tv_nsec).unwrap_or(0);
    Time::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}
