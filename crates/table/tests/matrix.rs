//! The mode tables against the literature, written independently and in other notations: VMS as the conflicts each mode
//! has, PostgreSQL as the masks of `lock.c`, SQL Server derived from the parts of its modes, Gray's granular modes as the
//! published supremum table.
//!
//! Every pair is also asked of the lock manager itself: one holds, another asks without waiting.

use std::sync::Arc;

use lockstead_table::{Outcome, Space, Table};
use lockstead_types::{
    Flags, Limits, Mode, ModeTable, Refusal, SpaceId, Time,
    request::{Claim, LockRequest, OwnerRef, Wait},
    space::{DeadlockPolicy, QueuePolicy, VictimPolicy},
    tables::{BUILT_IN, built_in},
};

fn table(name: &str) -> ModeTable {
    built_in(name).unwrap_or_else(|| panic!("{name}"))
}

fn mode(table: &ModeTable, name: &str) -> Mode {
    table.parse(name).unwrap_or_else(|| panic!("{name}"))
}

/// Checks that of all pairs of `names` exactly those conflict of which `conflict` says so.
fn check_all(table: &ModeTable, names: &[&str], conflict: impl Fn(&str, &str) -> bool) {
    for requested in names {
        for held in names {
            let compatible = table.compatible(mode(table, requested), mode(table, held));
            assert_eq!(compatible, !conflict(requested, held), "{}: {requested} beside {held}", table.name());
        }
    }
}

#[test]
fn vms() {
    let conflicts = [
        ("NL", ""),
        ("CR", "EX"),
        ("CW", "PR PW EX"),
        ("PR", "CW PW EX"),
        ("PW", "CW PR PW EX"),
        ("EX", "CR CW PR PW EX"),
    ];
    let vms = table("vms");
    assert_eq!(vms.count(), 6);
    check_all(&vms, &["NL", "CR", "CW", "PR", "PW", "EX"], |requested, held| {
        let row = conflicts.iter().find(|(m, _)| *m == requested).expect("row").1;
        row.split(' ').any(|m| m == held)
    });
    // Oracle's names for the same modes.
    let oracle = [("NULL", "NL"), ("SS", "CR"), ("SX", "CW"), ("S", "PR"), ("SSX", "PW"), ("X", "EX")];
    for (theirs, ours) in oracle {
        assert_eq!(mode(&vms, theirs), mode(&vms, ours));
    }
    // Oracle's sixteen up-conversions: all others are down or stay.
    let up = "NULL>SS NULL>SX NULL>S NULL>SSX NULL>X SS>SX SS>S SS>SSX SS>X SX>S SX>SSX SX>X S>SX S>SSX S>X SSX>X";
    for (from, _) in oracle {
        for (to, _) in oracle {
            let is_up = up.split(' ').any(|pair| pair == format!("{from}>{to}"));
            assert_eq!(vms.is_down(mode(&vms, from), mode(&vms, to)), !is_up, "{from}>{to}");
        }
    }
}

/// Masks of PostgreSQL 15 `LockConflicts[]`: bit i is set where it conflicts with table mode i.
#[test]
fn postgres_table_modes() {
    let masks = [
        ("AccessShareLock", 0x100),
        ("RowShareLock", 0x180),
        ("RowExclusiveLock", 0x1E0),
        ("ShareUpdateExclusiveLock", 0x1F0),
        ("ShareLock", 0x1D8),
        ("ShareRowExclusiveLock", 0x1F8),
        ("ExclusiveLock", 0x1FC),
        ("AccessExclusiveLock", 0x1FE),
    ];
    let names: Vec<&str> = masks.iter().map(|(n, _)| *n).collect();
    check_all(&table("postgres"), &names, |requested, held| {
        let mask: u32 = masks.iter().find(|(m, _)| *m == requested).expect("row").1;
        let number = 1 + names.iter().position(|n| *n == held).expect("column");
        mask & (1 << number) != 0
    });
}

/// Each row mode conflicts with a number of modes counted from the strongest: 1, 2, 3, 4.
#[test]
fn postgres_row_modes() {
    let names = ["ForKeyShare", "ForShare", "ForNoKeyUpdate", "ForUpdate"];
    let at = |name: &str| names.iter().position(|n| *n == name).expect("mode");
    let postgres = table("postgres");
    check_all(&postgres, &names, |requested, held| at(requested) + at(held) >= 3);
    for row in names {
        for name in ["AccessShare", "AccessExclusive"] {
            let (row, table_mode) = (mode(&postgres, row), mode(&postgres, name));
            assert!(postgres.illegal_with(row).contains(table_mode) && postgres.illegal_with(table_mode).contains(row));
        }
    }
}

/// The parts of each of SQL Server's modes: the plain ones, and the range and row parts of key-range modes.
fn parts(name: &str) -> Vec<&str> {
    match name {
        "SIU" => vec!["S", "IU"],
        "SIX" => vec!["S", "IX"],
        "UIX" => vec!["U", "IX"],
        "NL" => vec![],
        other => vec![other],
    }
}

fn plain_conflict(a: &str, b: &str) -> bool {
    let ok = "IS-IS IS-IU IS-IX IU-IU IU-IX IX-IX IS-S IS-U IU-S S-S S-U BU-BU \
              SCH-S-SCH-S SCH-S-S SCH-S-U SCH-S-X SCH-S-IS SCH-S-IU SCH-S-IX SCH-S-BU";
    let named = |x: &str, y: &str| ok.split_whitespace().any(|pair| pair == format!("{x}-{y}"));
    !named(a, b) && !named(b, a)
}

#[test]
fn sqlserver() {
    let sqlserver = table("sqlserver");
    let plain = ["NL", "SCH-S", "SCH-M", "S", "U", "X", "IS", "IU", "IX", "SIU", "SIX", "UIX", "BU"];
    let ranges = ["RS-S", "RS-U", "RI-N", "RI-S", "RI-U", "RI-X", "RX-S", "RX-U", "RX-X"];
    assert_eq!(sqlserver.count(), plain.len() + ranges.len());
    check_all(&sqlserver, &plain, |a, b| parts(a).iter().any(|a| parts(b).iter().any(|b| plain_conflict(a, b))));
    // A key-range mode: R, the range part (S, I, X), the row part (N for none, S, U, X).
    let range_of = |name: &str| name.as_bytes()[1] as char;
    let row_of = |name: &'static str| if name.ends_with('N') { "NL" } else { &name[3..] };
    let range_conflict = |a: char, b: char| !matches!((a, b), ('S', 'S') | ('I', 'I'));
    let rows = |a: &str, b: &str| parts(a).iter().any(|a| parts(b).iter().any(|b| plain_conflict(a, b)));
    for a in ranges {
        for b in ranges {
            let conflict = range_conflict(range_of(a), range_of(b)) || rows(row_of(a), row_of(b));
            assert_eq!(!sqlserver.compatible(mode(&sqlserver, a), mode(&sqlserver, b)), conflict, "{a} beside {b}");
        }
        for b in plain {
            let (range, other) = (mode(&sqlserver, a), mode(&sqlserver, b));
            if ["NL", "S", "U", "X"].contains(&b) {
                assert_eq!(!sqlserver.compatible(range, other), rows(row_of(a), b), "{a} beside {b}");
                assert_eq!(!sqlserver.compatible(other, range), rows(row_of(a), b), "{b} beside {a}");
            } else {
                // Key-range modes are of keys, these of tables and schemas: one resource is never both.
                assert!(sqlserver.illegal_with(range).contains(other), "{a} cannot meet {b}");
                assert!(sqlserver.illegal_with(other).contains(range), "{b} cannot meet {a}");
            }
        }
    }
}

/// The conversions Microsoft publishes for overlapping key locks, and what is held together.
#[test]
fn sqlserver_conversions() {
    let sqlserver = table("sqlserver");
    let published = [
        ("S", "RI-N", "RI-S"),
        ("U", "RI-N", "RI-U"),
        ("X", "RI-N", "RI-X"),
        ("RI-N", "RS-S", "RX-S"),
        ("RI-N", "RS-U", "RX-U"),
        ("S", "IX", "SIX"),
        ("S", "IU", "SIU"),
        ("U", "IX", "UIX"),
        ("S", "U", "U"),
        ("U", "X", "X"),
        ("IS", "IX", "IX"),
        ("NL", "RS-S", "RS-S"),
    ];
    for (a, b, joined) in published {
        let named = |m: Option<Mode>| m.map(|m| sqlserver.mode_name(m).to_owned());
        let (a, b) = (mode(&sqlserver, a), mode(&sqlserver, b));
        for found in [sqlserver.join(a, b), sqlserver.join(b, a)] {
            assert_eq!(
                named(found).as_deref(),
                Some(joined),
                "{} and {}",
                sqlserver.mode_name(a),
                sqlserver.mode_name(b)
            );
        }
    }
}

/// Gray, Lorie, Putzolu, Traiger: rows and columns IS IX S SIX X.
#[test]
fn granular() {
    let granular = table("granular");
    let names = ["IS", "IX", "S", "SIX", "X"];
    let compatible = ["IS IX S SIX", "IS IX", "IS S", "IS", ""];
    check_all(&granular, &names, |requested, held| {
        let row = compatible[names.iter().position(|n| *n == requested).expect("row")];
        !row.split(' ').any(|m| m == held)
    });
    let supremum = [
        ["IS", "IX", "S", "SIX", "X"],
        ["IX", "IX", "SIX", "SIX", "X"],
        ["S", "SIX", "S", "SIX", "X"],
        ["SIX", "SIX", "SIX", "SIX", "X"],
        ["X", "X", "X", "X", "X"],
    ];
    for (a, row) in names.iter().zip(supremum) {
        for (b, joined) in names.iter().zip(row) {
            let found = granular.join(mode(&granular, a), mode(&granular, b));
            assert_eq!(found.map(|m| granular.mode_name(m)), Some(joined), "{a} and {b}");
        }
    }
    // SQL Server's U: one at a time, beside S and the intents to read.
    check_all(&granular, &["U", "S"], |a, b| a == "U" && b == "U");
    for (name, conflict) in [("IS", false), ("IX", true), ("SIX", true), ("X", true)] {
        check_all(&granular, &["U", name], |a, b| a == b && (a == "U" || a == "SIX" || a == "X") || a != b && conflict);
    }
}

#[test]
fn rw() {
    check_all(&table("rw"), &["read", "write"], |a, b| a == "write" || b == "write");
}

/// The join of two modes is at least both, and no weaker mode is.
#[test]
fn joins_are_least_upper_bounds() {
    for name in BUILT_IN {
        let table = table(name);
        for a in table.modes() {
            for b in table.modes() {
                let above = |m: Mode| table.is_down(m, a) && table.is_down(m, b);
                let join = table.join(a, b);
                assert_eq!(join, table.join(b, a));
                let Some(join) = join else {
                    assert!(!table.modes().any(above), "{name}: {a:?} and {b:?}");
                    continue;
                };
                assert!(above(join) || a == b, "{name}: {a:?} and {b:?}");
                let weaker = |m: &Mode| above(*m) && table.is_down(join, *m) && !table.is_down(*m, join);
                assert_eq!(table.modes().find(weaker), None, "{name}: {a:?} and {b:?}");
            }
        }
    }
}

/// What the lock manager grants is what the tables say, for every pair of every table.
#[test]
fn every_pair_as_the_lock_manager_grants_it() {
    for name in BUILT_IN {
        let modes = Arc::new(table(name));
        let mut table = Table::new(Limits::default(), 1, 3);
        let space = Space {
            modes: Arc::clone(&modes),
            policy: QueuePolicy::Vms,
            deadlock: DeadlockPolicy::Detect,
            victim: VictimPolicy::Requester,
            value_bytes: 0,
            levels: 0,
            extents: false,
            persistent: false,
        };
        table.add_space(SpaceId(4), space);
        let (a, b) = (table.add_owner(), table.add_owner());
        for held in modes.modes() {
            for requested in modes.modes() {
                let resource = [held.0, requested.0];
                let req = |mode| LockRequest {
                    space: SpaceId(4),
                    name: &resource,
                    claim: Claim::Mode(mode),
                    wait: Wait::Never,
                    flags: Flags::NONE,
                    owner: OwnerRef::Session,
                    tag: 0,
                    priority: 0,
                };
                let first = table.lock(Time::ZERO, a, 0, &req(held), &mut Vec::new());
                assert!(matches!(first, Ok(Outcome::Granted(_))));
                let second = table.lock(Time::ZERO, b, 0, &req(requested), &mut Vec::new());
                let expected = if modes.illegal_with(requested).contains(held) {
                    Some(Refusal::BadMode)
                } else if modes.compatible(requested, held) {
                    None
                } else {
                    Some(Refusal::WouldWait)
                };
                assert_eq!(second.err(), expected, "{name}: {requested:?} beside {held:?}");
            }
        }
        table.check().expect("sound");
    }
}
