//! The clock of one host: it runs at a rate of its own against true time, which only the simulator knows.

use lockstead_types::Time;

/// A clock.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    /// True time of the last change of the rate, and what the clock showed then.
    since: u64,
    shown: u64,
    /// Parts per million faster than true time.
    ppm: i64,
}

impl Clock {
    pub(crate) fn new(now: u64, shown: u64, ppm: i64) -> Clock {
        Clock { since: now, shown, ppm }
    }

    /// What it shows at a true time not before the last change of its rate.
    pub(crate) fn at(&self, now: u64) -> Time {
        let gone = now - self.since;
        Time::from_nanos(self.shown + gone * self.rate() / 1_000_000)
    }

    /// The first true time at which it shows `shown` or more.
    pub(crate) fn when(&self, shown: Time) -> u64 {
        let left = u128::from(shown.as_nanos().saturating_sub(self.shown)) * 1_000_000;
        let gone = left.div_ceil(u128::from(self.rate()));
        self.since.saturating_add(u64::try_from(gone).unwrap_or(u64::MAX))
    }

    pub(crate) fn set_rate(&mut self, now: u64, ppm: i64) {
        self.shown = self.at(now).as_nanos();
        self.since = now;
        self.ppm = ppm;
    }

    fn rate(&self) -> u64 {
        1_000_000_u64.saturating_add_signed(self.ppm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_is_the_inverse_of_at() {
        for ppm in [-10_000, -1, 0, 3, 10_000] {
            let mut clock = Clock::new(1_000, 77, ppm);
            clock.set_rate(5_000, -ppm);
            for shown in [6_000_u64, 1_000_003, 999_999_999_999] {
                let when = clock.when(Time::from_nanos(shown));
                assert!(clock.at(when).as_nanos() >= shown, "{ppm} {shown}");
                assert!(clock.at(when - 1).as_nanos() < shown, "{ppm} {shown}");
            }
        }
    }
}
