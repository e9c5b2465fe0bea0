//! The lease as the client may count on it: how long guarded work may go on, from the client's own clock alone.

use lockstead_types::{Span, Time};

/// How sure the client may be of its lease.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Lease {
    /// Renewed lately.
    Held,
    /// Renewals fail, the deadline is not reached.
    Unsure,
    /// The deadline has passed, or the node ended the session. For ever.
    Lost,
}

/// What the deadline is computed from.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Clock {
    pub(crate) rho_ppm: u32,
    pub(crate) guard: Span,
}

/// A granted lease.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Granted {
    pub(crate) ttl: Span,
    /// What follows from it, worked out once: it is asked for with every message.
    acts_for: Span,
    sure_for: Span,
    /// When the newest renewal that was acknowledged had been sent.
    renewed: Time,
}

impl Granted {
    pub(crate) fn new(ttl: Span, sent: Time, clock: Clock) -> Granted {
        let rho = u64::from(clock.rho_ppm.min(999_999));
        let discounted = ttl.scaled(1_000_000 - rho, 1_000_000 + rho);
        #[cfg(feature = "planted")]
        let discounted = if lockstead_types::planted::is(lockstead_types::planted::Bug::LateDeadline) {
            ttl.scaled(3, 2)
        } else {
            discounted
        };
        Granted { ttl, acts_for: discounted.less(clock.guard), sure_for: ttl.scaled(1, 2), renewed: sent }
    }

    /// The same lease with another length, renewed.
    pub(crate) fn regranted(self, ttl: Span, sent: Time, clock: Clock) -> Granted {
        Granted::new(ttl, self.renewed.max(sent), clock)
    }

    /// [SESS-3] Counted from when the renewal was sent, never from when its answer came: the node may have counted from
    /// any moment between. Sent at 0, received by the node at 1, answer seen at 9 with a lease of 10: counting from 9 the
    /// client would act until 19, while the node gives the lock away at 11.
    pub(crate) fn renew(&mut self, sent: Time) {
        self.renewed = self.renewed.max(sent);
    }

    /// The last instant's end at which the client may act: `T(1-rho)/(1+rho) - guard` after the renewal.
    pub(crate) fn deadline(&self) -> Time {
        self.renewed.after(self.acts_for)
    }

    /// From when on the client is unsure though connected: half a lease without an acknowledged renewal.
    pub(crate) fn unsure_from(&self) -> Time {
        self.renewed.after(self.sure_for)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deadline_is_the_discounted_lease_from_the_send() {
        let clock = Clock { rho_ppm: 10_000, guard: Span::from_millis(10) };
        let mut lease = Granted::new(Span::from_secs(10), Time::from_nanos(1_000_000_000), clock);
        // 10 s * 0.99 / 1.01 = 9.801980198 s
        assert_eq!(lease.deadline().as_nanos(), 1_000_000_000 + 9_801_980_198 - 10_000_000);
        lease.renew(Time::from_nanos(500));
        assert_eq!(lease.deadline().as_nanos(), 1_000_000_000 + 9_791_980_198, "an older renewal changes nothing");
    }
}
