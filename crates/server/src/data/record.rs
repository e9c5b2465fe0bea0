//! One record of the journal, to bytes and back.
//!
//! `marker u32 | length u32 | CRC-32C of the body u32 | body`, little endian. The marker lets a reader that met damage look
//! for whole records behind it: where there are some the middle is damaged, where there are none the end was torn off.

use lockstead_node::SessionRecord;
use lockstead_types::{
    SessionId, Span,
    space::{ModeChoice, SpaceSpec},
};
use serde::{Deserialize, Serialize};

use super::crc::crc32c;
use crate::config::{LockspaceConfig, ModeTableConfig};

const MARKER: [u8; 4] = [0xA5, b'L', b'J', 0x5A];
const HEADER: usize = 12;
/// No record is longer: a lockspace with a mode table of 32 modes and all aliases stays far below.
const BODY_MAX: usize = 1 << 20;

/// What the journal says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Entry {
    /// What follows was written in this epoch.
    Epoch(u32),
    /// The largest lease ever granted.
    TtlMax(Span),
    /// A session opened.
    Opened(SessionRecord),
    /// A session ended.
    Ended(SessionId),
    /// A lockspace was created.
    Space(u32, SpaceSpec),
    /// A lockspace was dropped.
    Dropped(u32),
}

/// What stands at a place of the journal.
#[derive(Debug)]
pub(crate) enum Found {
    /// A whole record, and where the next begins.
    Entry(Box<Entry>, usize),
    /// The end.
    End,
    /// No whole record.
    Bad,
}

#[derive(Serialize, Deserialize)]
struct SpaceText {
    space: LockspaceConfig,
    table: Option<ModeTableConfig>,
}

/// Appends a record.
pub(crate) fn append(out: &mut Vec<u8>, entry: &Entry) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER]);
    append_body(out, entry);
    let body = &out[start + HEADER..];
    let (length, check) = (body.len() as u32, crc32c(body));
    out[start..start + 4].copy_from_slice(&MARKER);
    out[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
    out[start + 8..start + HEADER].copy_from_slice(&check.to_le_bytes());
}

/// Reads what stands at `at`.
pub(crate) fn read(bytes: &[u8], at: usize) -> Found {
    let rest = bytes.get(at..).unwrap_or_default();
    if rest.is_empty() {
        return Found::End;
    }
    let Some((body, check)) = split(rest) else { return Found::Bad };
    if crc32c(body) != check {
        return Found::Bad;
    }
    match read_body(body) {
        Some(entry) => Found::Entry(Box::new(entry), at + HEADER + body.len()),
        None => Found::Bad,
    }
}

/// Whether a whole record stands anywhere behind `at`.
pub(crate) fn any_behind(bytes: &[u8], at: usize) -> bool {
    let from = at + 1;
    let candidates = bytes.get(from..).unwrap_or_default().windows(MARKER.len()).enumerate();
    let mut starts = candidates.filter(|(_, window)| *window == MARKER).map(|(i, _)| from + i);
    starts.any(|start| matches!(read(bytes, start), Found::Entry(..)))
}

fn split(rest: &[u8]) -> Option<(&[u8], u32)> {
    let (marker, rest) = rest.split_first_chunk::<4>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (check, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    if *marker != MARKER || length > BODY_MAX {
        return None;
    }
    Some((rest.get(..length)?, u32::from_le_bytes(*check)))
}

fn append_body(out: &mut Vec<u8>, entry: &Entry) {
    match entry {
        Entry::Epoch(epoch) => {
            out.push(1);
            out.extend_from_slice(&epoch.to_le_bytes());
        }
        Entry::TtlMax(ttl) => {
            out.push(2);
            out.extend_from_slice(&ttl.as_nanos().to_le_bytes());
        }
        Entry::Opened(record) => {
            out.push(3);
            out.extend_from_slice(&record.session.0.to_le_bytes());
            out.extend_from_slice(&record.ttl.as_nanos().to_le_bytes());
            out.push(u8::from(record.local));
            out.extend_from_slice(record.principal.as_bytes());
        }
        Entry::Ended(session) => {
            out.push(4);
            out.extend_from_slice(&session.0.to_le_bytes());
        }
        Entry::Space(id, spec) => {
            out.push(5);
            out.extend_from_slice(&id.to_le_bytes());
            let table = match &spec.modes {
                ModeChoice::Custom(table) => Some(ModeTableConfig::from_spec(table)),
                ModeChoice::BuiltIn(_) => None,
            };
            let text = SpaceText { space: LockspaceConfig::from_spec(spec), table };
            // Strings, numbers and lists of them: there is nothing in it that TOML cannot say.
            out.extend_from_slice(toml::to_string(&text).unwrap_or_default().as_bytes());
        }
        Entry::Dropped(id) => {
            out.push(6);
            out.extend_from_slice(&id.to_le_bytes());
        }
    }
}

fn read_body(body: &[u8]) -> Option<Entry> {
    let (kind, rest) = body.split_first()?;
    match kind {
        1 => Some(Entry::Epoch(u32::from_le_bytes(rest.try_into().ok()?))),
        2 => Some(Entry::TtlMax(Span::from_nanos(u64::from_le_bytes(rest.try_into().ok()?)))),
        3 => {
            let (session, rest) = rest.split_first_chunk::<16>()?;
            let (ttl, rest) = rest.split_first_chunk::<8>()?;
            let (local, principal) = rest.split_first()?;
            Some(Entry::Opened(SessionRecord {
                session: SessionId(u128::from_le_bytes(*session)),
                ttl: Span::from_nanos(u64::from_le_bytes(*ttl)),
                local: *local != 0,
                principal: core::str::from_utf8(principal).ok()?.into(),
            }))
        }
        4 => Some(Entry::Ended(SessionId(u128::from_le_bytes(rest.try_into().ok()?)))),
        5 => {
            let (id, text) = rest.split_first_chunk::<4>()?;
            let text: SpaceText = toml::from_str(core::str::from_utf8(text).ok()?).ok()?;
            let tables = text.table.iter().map(ModeTableConfig::to_spec).collect::<Vec<_>>();
            Some(Entry::Space(u32::from_le_bytes(*id), text.space.to_spec(&tables).ok()?))
        }
        6 => Some(Entry::Dropped(u32::from_le_bytes(rest.try_into().ok()?))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstead_types::{
        hierarchy::{Escalate, EscalateLevel, Escalation, Hierarchy},
        space::{DeadlockPolicy, Mastering, QueuePolicy, VictimPolicy},
        tables::built_in,
    };

    fn all() -> Vec<Entry> {
        let mut own = built_in("sqlserver").expect("built in").spec().clone();
        own.name = "own".into();
        let fair = SpaceSpec {
            modes: ModeChoice::Custom(own),
            policy: QueuePolicy::Fair { overtakes: 7, ageing: Span::from_nanos(123_456_789) },
            deadlock: DeadlockPolicy::NoWait,
            victim: VictimPolicy::LowestPriority,
            value_bytes: 99,
            levels: 3,
            extents: true,
            mastering: Mastering::Affinity,
            persistent: true,
            hierarchy: Some(Box::new(Hierarchy {
                levels: vec!["table".into(), "page".into(), "row".into()],
                escalation: Escalation::To(Escalate { level: EscalateLevel::Level(0), at: 77, retry: 3 }),
            })),
            ..SpaceSpec::named("fair \"one\"\n")
        };
        let record = SessionRecord {
            session: SessionId(u128::MAX - 5),
            ttl: Span::from_millis(1_234),
            local: true,
            principal: "uid=0 gid=0 pid=7".into(),
        };
        vec![
            Entry::Epoch(7),
            Entry::TtlMax(Span::from_secs(9)),
            Entry::Opened(record),
            Entry::Ended(SessionId(3)),
            Entry::Space(0, SpaceSpec::named("default")),
            Entry::Space(4, fair),
            Entry::Dropped(4),
        ]
    }

    #[test]
    fn there_and_back() {
        let mut bytes = Vec::new();
        for entry in all() {
            append(&mut bytes, &entry);
        }
        let mut at = 0;
        for entry in all() {
            let Found::Entry(found, next) = read(&bytes, at) else { panic!("{entry:?} at {at}") };
            assert_eq!(*found, entry);
            at = next;
        }
        assert!(matches!(read(&bytes, at), Found::End));
    }

    #[test]
    fn a_flipped_bit_is_seen_and_what_follows_is_found() {
        let mut whole = Vec::new();
        append(&mut whole, &all()[2]);
        let first = whole.len();
        append(&mut whole, &all()[3]);
        for bit in 0..first * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(read(&bytes, 0), Found::Bad), "bit {bit}");
            assert!(any_behind(&bytes, 0), "bit {bit}");
            assert!(!any_behind(&bytes[..whole.len() - 1], 0), "bit {bit}, the record behind torn");
        }
    }
}
