//! When CMD must be stopped because the lock under it is in doubt.

use core::time::Duration;

/// What is to be done to CMD now.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Stage {
    /// Nothing.
    Run,
    /// Ask it to end (SIGTERM).
    Terminate,
    /// End it (SIGKILL).
    Kill,
}

/// The bounds of a lease within which CMD is stopped: asked to end when 40 % of the lease is left (at most 3 s), ended
/// when 15 % is left (at most 1 s). A lease that is renewed as it should never falls below 60 %.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Watchdog {
    terminate: Duration,
    kill: Duration,
}

/// What is known of the lock.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Hold {
    /// It is held for so much longer at least.
    For(Duration),
    /// It is held, and has no lease to lose.
    Unbounded,
    /// It was taken away so long ago, while the session lives: by force, or its lockspace was dropped.
    Revoked(Duration),
    /// The session is lost.
    Lost,
}

impl Watchdog {
    /// The bounds of a lease of `ttl`.
    pub(crate) fn new(ttl: Duration) -> Watchdog {
        let percent = |n: u32| ttl.saturating_mul(n) / 100;
        Watchdog { terminate: percent(40).min(Duration::from_secs(3)), kill: percent(15).min(Duration::from_secs(1)) }
    }

    /// What is to be done now, and after how long to ask again, if nothing happens before.
    pub(crate) fn stage(&self, hold: Hold) -> (Stage, Option<Duration>) {
        match hold {
            Hold::Unbounded => (Stage::Run, None),
            Hold::For(left) if left > self.terminate => (Stage::Run, Some(left - self.terminate)),
            Hold::For(left) if left > self.kill => (Stage::Terminate, Some(left - self.kill)),
            Hold::Revoked(ago) if ago < self.grace() => (Stage::Terminate, Some(self.grace() - ago)),
            Hold::For(_) | Hold::Revoked(_) | Hold::Lost => (Stage::Kill, None),
        }
    }

    /// How long a wrapper that does not even kill may be waited for, of a lock that is sure for `left`: half of what is
    /// left when it should have killed.
    pub(crate) fn until_too_late(&self, left: Duration) -> Duration {
        left.saturating_sub(self.kill / 2)
    }

    /// How long CMD has between the two signals.
    fn grace(&self) -> Duration {
        self.terminate.saturating_sub(self.kill)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_long_lease_is_stopped_by_the_absolute_bounds() {
        let dog = Watchdog::new(ms(10_000));
        assert_eq!(dog.stage(Hold::For(ms(9_000))), (Stage::Run, Some(ms(6_000))));
        assert_eq!(dog.stage(Hold::For(ms(3_000))), (Stage::Terminate, Some(ms(2_000))));
        assert_eq!(dog.stage(Hold::For(ms(1_000))), (Stage::Kill, None));
        assert_eq!(dog.stage(Hold::Lost), (Stage::Kill, None));
    }

    #[test]
    fn a_short_lease_is_stopped_by_its_shares() {
        let dog = Watchdog::new(ms(1_000));
        assert_eq!(dog.stage(Hold::For(ms(401))), (Stage::Run, Some(ms(1))));
        assert_eq!(dog.stage(Hold::For(ms(400))), (Stage::Terminate, Some(ms(250))));
        assert_eq!(dog.stage(Hold::For(ms(150))), (Stage::Kill, None));
    }

    #[test]
    fn a_revoked_lock_leaves_the_time_between_the_two_signals() {
        let dog = Watchdog::new(ms(10_000));
        assert_eq!(dog.stage(Hold::Revoked(ms(0))), (Stage::Terminate, Some(ms(2_000))));
        assert_eq!(dog.stage(Hold::Revoked(ms(2_000))), (Stage::Kill, None));
        assert_eq!(dog.stage(Hold::Unbounded), (Stage::Run, None));
    }
}
