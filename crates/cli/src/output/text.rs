//! Words for people: who, what, how long.

use core::time::Duration;

use lockstead_types::{
    ModeTable, Span,
    name::escape,
    report::{Holder, LockRow, Meta},
    request::Claim,
};

/// A span, as short as it can be said: `85ms`, `12.3s`, `4m05s`, `3h07m`, `2d4h`.
pub(crate) fn span(span: Span) -> String {
    let all = Duration::from(span);
    let seconds = all.as_secs();
    match seconds {
        0 => format!("{}ms", all.as_millis()),
        1..60 => format!("{seconds}.{}s", all.subsec_millis() / 100),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// How long a lock has been in its queue; `?` where the node took it over and does not know.
pub(crate) fn since(row: &LockRow) -> String {
    row.since.map_or_else(|| "?".to_owned(), span)
}

/// What is held or wanted: a mode's name, or `3/10` permits.
pub(crate) fn claim(claim: Claim, modes: &ModeTable) -> String {
    match claim {
        Claim::Mode(mode) => modes.mode_name(mode).to_owned(),
        Claim::Permits { take, of } => format!("{take}/{of}"),
    }
}

/// [`claim`], or `-` for none.
pub(crate) fn maybe_claim(of: Option<Claim>, modes: &ModeTable) -> String {
    of.map_or_else(|| "-".to_owned(), |of| claim(of, modes))
}

/// Who, in one phrase: `host:4711 program "purpose"`.
pub(crate) fn who(holder: &Holder) -> String {
    let mut text = process(&holder.meta);
    if holder.session.is_none() && holder.group.is_none() {
        text = format!("(orphan) {text}").trim_end().to_owned();
    }
    if let Some(group) = holder.group {
        text.push_str(&format!(" group={}", group.0));
    }
    if let Some(home) = holder.home {
        text.push_str(&format!(" home={}", home.0));
    }
    if holder.tag != 0 {
        text.push_str(&format!(" tag={}", holder.tag));
    }
    text
}

/// What a session says of itself, in one phrase.
pub(crate) fn process(meta: &Meta) -> String {
    let mut text = format!("{}:{} {}", line(&meta.host), meta.pid, line(&meta.program));
    if !meta.purpose.is_empty() {
        text.push_str(&format!(" \"{}\"", line(&meta.purpose)));
    }
    text.trim_end().to_owned()
}

/// What a lock holds and wants: `PR`, `PR->EX`, `EX [10,20)`.
pub(crate) fn held_and_wanted(row: &LockRow, modes: &ModeTable) -> String {
    let claims = match (row.held, row.wanted) {
        (Some(held), Some(wanted)) => format!("{}->{}", claim(held, modes), claim(wanted, modes)),
        (held, wanted) => maybe_claim(held.or(wanted), modes),
    };
    claims + &part(row)
}

/// The part of its resource that a lock is of, behind its mode; nothing where it is of the whole.
pub(crate) fn part(row: &LockRow) -> String {
    if row.extent.is_empty() { String::new() } else { format!(" {}", line(&row.extent)) }
}

/// A text that somebody else chose, made harmless: no control characters reach the terminal.
pub(crate) fn line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// The line after what is a part of the whole.
pub(crate) fn not_shown(count: u64, what: &str) -> String {
    format!("... {count} more {what} not shown\n")
}

/// Bytes for people: as text where they are printable, else percent-escaped.
pub(crate) fn bytes(bytes: &[u8]) -> String {
    escape(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short() {
        for (millis, text) in [
            (0, "0ms"),
            (85, "85ms"),
            (12_345, "12.3s"),
            (245_000, "4m05s"),
            (11_220_000, "3h07m"),
            (187_200_000, "2d4h"),
        ] {
            assert_eq!(span(Span::from_millis(millis)), text);
        }
    }

    #[test]
    fn no_control_character_reaches_the_terminal() {
        assert_eq!(line("a\x1b[31mb\n"), "a?[31mb?");
    }
}
