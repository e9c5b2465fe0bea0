//! The one clock of this crate.

use lockstead_types::Time;

/// `CLOCK_BOOTTIME`: it goes on while the machine is suspended, as leases do.
pub(crate) fn now() -> Time {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Time::from_nanos(seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0))
}
