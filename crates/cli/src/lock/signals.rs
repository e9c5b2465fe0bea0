//! Signals to the wrapper that are meant for CMD.

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::Failure;

/// Signals that are passed on.
const PASSED_ON: [(SignalKind, Signal); 6] = [
    (SignalKind::interrupt(), Signal::INT),
    (SignalKind::terminate(), Signal::TERM),
    (SignalKind::hangup(), Signal::HUP),
    (SignalKind::quit(), Signal::QUIT),
    (SignalKind::user_defined1(), Signal::USR1),
    (SignalKind::user_defined2(), Signal::USR2),
];

/// Receives what is to be passed on.
pub(crate) struct Signals {
    streams: Vec<(tokio::signal::unix::Signal, Signal)>,
}

impl Signals {
    /// Takes the signals over from their default action. Those that were ignored when this program started (`nohup`,
    /// background jobs of scripts) stay ignored, also for CMD.
    ///
    /// # Errors
    /// What the operating system says.
    pub(crate) fn take_over() -> Result<Signals, Failure> {
        let ignored = ignored();
        let mut streams = Vec::with_capacity(PASSED_ON.len());
        for (kind, number) in PASSED_ON {
            if ignored >> (kind.as_raw_value() - 1) & 1 == 0 {
                streams.push((signal(kind)?, number));
            }
        }
        Ok(Signals { streams })
    }

    /// The next one. Cancellation safe.
    pub(crate) async fn next(&mut self) -> Signal {
        core::future::poll_fn(|context| {
            for (stream, number) in &mut self.streams {
                if stream.poll_recv(context).is_ready() {
                    return core::task::Poll::Ready(*number);
                }
            }
            core::task::Poll::Pending
        })
        .await
    }
}

/// The signals ignored now, as a bit mask: the standard library has no way to ask.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}
