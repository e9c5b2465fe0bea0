//! The node's clock: `CLOCK_BOOTTIME`, which goes on counting while the machine is suspended.

use lockstead_types::Time;
use rustix::time::{ClockId, clock_gettime};

/// Now.
#[must_use]
pub(crate) fn now() -> Time {
    let t = clock_gettime(ClockId::Boottime);
    let (seconds, nanos) = (u64::try_from(t.tv_sec).unwrap_or(0), u64::try_from(t.tv_nsec).unwrap_or(0));
    Time::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}
