//! Durations as written in scripts and options: `500ms`, `2s`, `1m`.

use lockstead_types::Span;

const UNITS: [(&str, u64); 5] =
    [("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000), ("m", 60_000_000_000), ("h", 3_600_000_000_000)];

/// The span of a whole number and a unit: `us`, `ms`, `s`, `m` or `h`. `None` for anything else, and for a span too long
/// to say in nanoseconds.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Span> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let (_, nanos) = UNITS.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*nanos).map(Span::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_with_a_unit() {
        assert_eq!(parse_duration("500ms"), Some(Span::from_millis(500)));
        assert_eq!(parse_duration("2s"), Some(Span::from_secs(2)));
        assert_eq!(parse_duration("1m"), Some(Span::from_secs(60)));
        assert_eq!(parse_duration("0s"), Some(Span::ZERO));
        for wrong in ["", "5", "s", "1.5s", "-1s", "+1s", "1 s", "1d", "99999999999h", "1\u{e9}"] {
            assert_eq!(parse_duration(wrong), None, "{wrong}");
        }
    }
}
