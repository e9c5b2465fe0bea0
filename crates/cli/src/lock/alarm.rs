//! A timer on the clock that leases are counted on.

use core::time::Duration;
use std::{io, os::fd::OwnedFd, sync::Arc};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::sync::Notify;

/// Rings once after a span of `CLOCK_BOOTTIME`. The runtime's own timers stand still while the machine is suspended, so
/// after it wakes they would ring as late as it slept, with CMD running in a lock that was lost meanwhile.
pub(crate) struct Alarm {
    timer: Arc<OwnedFd>,
    rung: Arc<Notify>,
}

impl Alarm {
    /// A timer that is not set, and the thread that hears it, which lives as long as the program.
    ///
    /// # Errors
    /// What the operating system says.
    pub(crate) fn new() -> io::Result<Alarm> {
        let timer = Arc::new(timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC)?);
        let rung = Arc::new(Notify::new());
        let alarm = Alarm { timer: Arc::clone(&timer), rung: Arc::clone(&rung) };
        let listen = move || {
            let mut expirations = [0; 8];
            while rustix::io::retry_on_intr(|| rustix::io::read(&timer, &mut expirations)).is_ok() {
                rung.notify_one();
            }
        };
        std::thread::Builder::new().name("alarm".into()).spawn(listen)?;
        Ok(alarm)
    }

    /// Waits so long, or shorter where an earlier call was given up just as its time came; for ever where there is no
    /// span. Cancellation safe.
    pub(crate) async fn after(&self, span: Option<Duration>) {
        match span.map(|span| self.set(span)) {
            Some(Ok(())) => self.rung.notified().await,
            // Cannot be set: rather look again at once and often than never.
            Some(Err(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
            None => core::future::pending().await,
        }
    }

    fn set(&self, span: Duration) -> io::Result<()> {
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        // A span of zero would switch the timer off.
        let nanos = i64::from(span.subsec_nanos().max(1));
        let seconds = i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
        let once = Itimerspec { it_interval: zero, it_value: Timespec { tv_sec: seconds, tv_nsec: nanos } };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }
}
