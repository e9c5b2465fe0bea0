//! Instants and spans, in nanoseconds of the clock of whoever made them.
//!
//! Only shells make a [`Time`]; on Linux it is `CLOCK_BOOTTIME`, which goes on counting while the machine is suspended
//! (`CLOCK_MONOTONIC`, which `std::time::Instant` reads, does not). Two instants of different machines never meet.

/// An instant: nanoseconds since an origin that only its own machine knows.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Time(u64);

impl Time {
    /// The origin of the clock.
    pub const ZERO: Time = Time(0);

    /// The instant `nanos` nanoseconds after the clock's origin.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Time {
        Time(nanos)
    }

    /// Nanoseconds since the clock's origin.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// This instant plus `span`; the end of time where that would overflow.
    #[must_use]
    pub const fn after(self, span: Span) -> Time {
        Time(self.0.saturating_add(span.0))
    }

    /// This instant minus `span`; the origin where that would underflow.
    #[must_use]
    pub const fn before(self, span: Span) -> Time {
        Time(self.0.saturating_sub(span.0))
    }

    /// How long ago `earlier` was, zero if it is in the future.
    #[must_use]
    pub const fn since(self, earlier: Time) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

/// A length of time in nanoseconds.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Span(u64);

impl Span {
    /// No time at all.
    pub const ZERO: Span = Span(0);
    /// As long as can be said (584 years).
    pub const MAX: Span = Span(u64::MAX);

    /// `n` nanoseconds.
    #[must_use]
    pub const fn from_nanos(n: u64) -> Span {
        Span(n)
    }

    /// `n` milliseconds, [`Span::MAX`] if that is too long to say.
    #[must_use]
    pub const fn from_millis(n: u64) -> Span {
        Span(n.saturating_mul(1_000_000))
    }

    /// `n` seconds, [`Span::MAX`] if that is too long to say.
    #[must_use]
    pub const fn from_secs(n: u64) -> Span {
        Span(n.saturating_mul(1_000_000_000))
    }

    /// Nanoseconds.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whole milliseconds, rounded down.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// This span times `num / den`, computed in 128 bits, rounded down. `den` of zero counts as one.
    #[must_use]
    pub fn scaled(self, num: u64, den: u64) -> Span {
        let wide = u128::from(self.0) * u128::from(num) / u128::from(den.max(1));
        Span(u64::try_from(wide).unwrap_or(u64::MAX))
    }

    /// This span less `other`, zero at the least.
    #[must_use]
    pub const fn less(self, other: Span) -> Span {
        Span(self.0.saturating_sub(other.0))
    }
}

impl From<core::time::Duration> for Span {
    fn from(d: core::time::Duration) -> Span {
        Span(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl From<Span> for core::time::Duration {
    fn from(s: Span) -> core::time::Duration {
        core::time::Duration::from_nanos(s.0)
    }
}
