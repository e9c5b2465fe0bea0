//! Every field of [`Limits`] by its name in configuration: `limit:NAME` of a refusal with `_` for `-`.

use lockstead_types::{
    LimitName, Limits, Span,
    limits::{NAME_BYTES_CEILING, VALUE_BYTES_CEILING},
};

use super::{ConfigError, duration};

/// Sets one limit from its text.
///
/// # Errors
/// [`ConfigError`] for an unknown name, or a text that is no number (no duration for `ttl_min`, `ttl_max` and `deadlock_delay`).
pub(crate) fn set_limit(limits: &mut Limits, name: &str, text: &str) -> Result<(), ConfigError> {
    let key = format!("limits.{name}");
    let wanted = name.replace('_', "-");
    let Some(limit) = LimitName::ALL.iter().copied().find(|n| n.text() == wanted && !name.contains('-')) else {
        return Err(ConfigError::new(&key, format!("no such limit; there are {}", limit_keys().join(" "))));
    };
    match limit {
        LimitName::TtlMin => limits.ttl_min = duration(&key, text)?,
        LimitName::TtlMax => limits.ttl_max = duration(&key, text)?,
        LimitName::DeadlockDelay => limits.deadlock_delay = duration(&key, text)?,
        other => {
            let number = text.replace('_', "").parse::<u32>();
            let number =
                number.map_err(|_| ConfigError::new(&key, format!("{text:?} is no whole number below 2^32")))?;
            *number_field(limits, other) = number;
        }
    }
    Ok(())
}

/// The names of all limits, as keys under `[limits]`.
#[must_use]
pub fn limit_keys() -> Vec<String> {
    LimitName::ALL.iter().map(|n| n.text().replace('-', "_")).collect()
}

/// Refuses limits that cannot work.
///
/// # Errors
/// [`ConfigError`] names the limit and what it must be.
pub(crate) fn check_limits(limits: &Limits) -> Result<(), ConfigError> {
    let within = |name: &str, value: u32, least: u32, most: u32| {
        if (least..=most).contains(&value) {
            return Ok(());
        }
        Err(ConfigError::new(&format!("limits.{name}"), format!("{value} is not within {least} and {most}")))
    };
    within("name_bytes", limits.name_bytes, 1, NAME_BYTES_CEILING)?;
    within("value_bytes", limits.value_bytes, 1, VALUE_BYTES_CEILING)?;
    within("frame_bytes", limits.frame_bytes, least_frame(limits), 64 << 20)?;
    within("output_bytes", limits.output_bytes, limits.frame_bytes, u32::MAX)?;
    within("connections", limits.connections, 1, 16 << 20)?;
    within("sessions", limits.sessions, 1, u32::MAX)?;
    within("in_flight", limits.in_flight, 1, 1 << 20)?;
    within("meta_bytes", limits.meta_bytes, 0, limits.frame_bytes / 4)?;
    within("rows_per_answer", limits.rows_per_answer, 1, u32::MAX)?;
    if limits.ttl_min < Span::from_millis(100) {
        return Err(ConfigError::new("limits.ttl_min", "a lease shorter than 100ms cannot be kept"));
    }
    if limits.ttl_max < limits.ttl_min {
        return Err(ConfigError::new("limits.ttl_max", "must not be below ttl_min"));
    }
    if limits.ttl_max > Span::from_secs(7 * 86_400) {
        return Err(ConfigError::new("limits.ttl_max", "a lease longer than 7d would freeze a restart for as long"));
    }
    if !(Span::from_millis(1)..=Span::from_secs(10)).contains(&limits.deadlock_delay) {
        return Err(ConfigError::new(
            "limits.deadlock_delay",
            "from 1ms, below which every wait is looked into, to 10s",
        ));
    }
    Ok(())
}

/// What every single answer and notice fits in, whatever lockspaces there are: a value block at the ceiling, a name at the
/// ceiling, the metadata of two sessions, the groups of one session. A report that fits no frame is cut short or refused, an
/// answer that grants something cannot be.
fn least_frame(limits: &Limits) -> u32 {
    const HEADERS: u32 = 4_096;
    let groups = limits.groups.saturating_mul(4);
    let largest = (VALUE_BYTES_CEILING + NAME_BYTES_CEILING).max(groups).max(limits.meta_bytes.saturating_mul(2));
    largest.saturating_add(HEADERS)
}

/// The field of a limit that is a number. The spans never come here ([`set_limit`]).
fn number_field(limits: &mut Limits, name: LimitName) -> &mut u32 {
    match name {
        LimitName::NameBytes => &mut limits.name_bytes,
        LimitName::ValueBytes => &mut limits.value_bytes,
        LimitName::Resources => &mut limits.resources,
        LimitName::Locks => &mut limits.locks,
        LimitName::LocksPerSession => &mut limits.locks_per_session,
        LimitName::WaitersPerResource => &mut limits.waiters_per_resource,
        LimitName::Permits => &mut limits.permits,
        LimitName::NamesPerRequest => &mut limits.names_per_request,
        LimitName::Sessions => &mut limits.sessions,
        LimitName::Groups => &mut limits.groups,
        LimitName::MembersPerGroup => &mut limits.members_per_group,
        LimitName::Spaces => &mut limits.spaces,
        LimitName::Orphans => &mut limits.orphans,
        LimitName::DeadlockReports => &mut limits.deadlock_reports,
        LimitName::DeadlockEdges => &mut limits.deadlock_edges,
        LimitName::InFlight => &mut limits.in_flight,
        LimitName::Watches => &mut limits.watches,
        LimitName::RowsPerAnswer => &mut limits.rows_per_answer,
        LimitName::MetaBytes => &mut limits.meta_bytes,
        LimitName::Connections => &mut limits.connections,
        LimitName::FrameBytes => &mut limits.frame_bytes,
        LimitName::OutputBytes | LimitName::TtlMin | LimitName::TtlMax | LimitName::DeadlockDelay => {
            &mut limits.output_bytes
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_set_by_its_own_name_and_moves_no_other() {
        for name in LimitName::ALL {
            let key = name.text().replace('-', "_");
            let text = if key.starts_with("ttl") || key.ends_with("delay") { "7s" } else { "77777" };
            let (mut one, plain) = (Limits::default(), Limits::default());
            set_limit(&mut one, &key, text).expect(&key);
            let (one, plain) = (format!("{one:?}"), format!("{plain:?}"));
            let differing = one.split(", ").zip(plain.split(", ")).filter(|(a, b)| a != b).collect::<Vec<_>>();
            assert_eq!(differing.len(), 1, "{key}: {differing:?}");
            assert!(differing[0].0.contains(&format!("{key}:")), "{key}: {differing:?}");
        }
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        let refused = |key: &str, text: &str| {
            let mut limits = Limits::default();
            let set = set_limit(&mut limits, key, text);
            set.and_then(|()| check_limits(&limits)).expect_err(key).to_string()
        };
        assert!(refused("nonsense", "1").contains("limits.nonsense"));
        assert!(refused("name-bytes", "1").contains("no such limit"));
        assert!(refused("locks", "many").contains("limits.locks"));
        assert!(refused("name_bytes", "4097").contains("limits.name_bytes"));
        assert!(refused("ttl_min", "1ms").contains("limits.ttl_min"));
        assert!(refused("ttl_max", "100ms").contains("limits.ttl_max"));
        assert!(refused("deadlock_delay", "1m").contains("limits.deadlock_delay"));
        assert!(refused("frame_bytes", "65536").contains("limits.frame_bytes"), "no value block at the ceiling fits");
        assert!(refused("groups", "1_000_000").contains("limits.frame_bytes"), "the groups of a session fit no frame");
        check_limits(&Limits::default()).expect("the defaults are sound");
    }
}
