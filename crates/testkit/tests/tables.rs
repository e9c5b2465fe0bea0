//! Every pair of modes of the other built-in tables, as requests to a node. What must come of each is derived from the
//! published matrices in a form of their own (masks, parts), not from the tables in the code.

use lockstead_script::{Command, parse_line};
use lockstead_testkit::{Directive, World};

/// What a request beside a held lock of another session comes to.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Beside {
    Granted,
    WouldWait,
    BadMode,
}

/// Asks every pair of a table, each on a resource of its own.
fn check(table: &str, modes: &[&str], expected: impl Fn(usize, usize) -> Beside) {
    let mut world = World::default();
    let create = Directive::parse(&format!("space s modes={table}")).unwrap_or_else(|e| panic!("{e}"));
    world.direct(&create).unwrap_or_else(|e| panic!("{e}"));
    let mut play = |line: String| -> Vec<String> {
        let command: Command = parse_line(&line).ok().flatten().unwrap_or_else(|| panic!("{line}"));
        world.play(&command).unwrap_or_else(|e| panic!("{line}: {e}"));
        world.print(&command.session)
    };
    play("a: use s".into());
    play("b: use s".into());
    for (h, held) in modes.iter().enumerate() {
        for (r, asked) in modes.iter().enumerate() {
            let first = play(format!("a: lock {h}/{r} {held}"));
            assert!(first[0].contains(&format!(" granted {held} ")), "{table}: {held}: {first:?}");
            let seen = play(format!("b: lock {h}/{r} {asked} nowait")).join("\n");
            let came_to = match seen.rsplit(' ').next() {
                Some("would-wait") => Beside::WouldWait,
                Some("bad-mode") => Beside::BadMode,
                _ => Beside::Granted,
            };
            assert_eq!(came_to, expected(h, r), "{table}: {asked} beside {held}: {seen}");
        }
    }
}

fn granted_if(compatible: bool) -> Beside {
    if compatible { Beside::Granted } else { Beside::WouldWait }
}

/// PostgreSQL writes its table as masks: bit n is set where it conflicts with mode n (`LockConflicts` in `lock.c`); the
/// four row modes in the same notation. A table mode and a row mode are never asked of one thing.
#[test]
fn postgres_as_its_masks_say() {
    const TABLE: [u32; 8] = [0x100, 0x180, 0x1E0, 0x1F0, 0x1D8, 0x1F8, 0x1FC, 0x1FE];
    const ROW: [u32; 4] = [0b1_0000, 0b1_1000, 0b1_1100, 0b1_1110];
    let modes = [
        "AccessShare",
        "RowShare",
        "RowExclusive",
        "ShareUpdateExclusive",
        "Share",
        "ShareRowExclusive",
        "Exclusive",
        "AccessExclusive",
        "ForKeyShare",
        "ForShare",
        "ForNoKeyUpdate",
        "ForUpdate",
    ];
    check("postgres", &modes, |held, asked| match (held.checked_sub(8), asked.checked_sub(8)) {
        (None, None) => granted_if(TABLE[asked] & (1 << (held + 1)) == 0),
        (Some(held), Some(asked)) => granted_if(ROW[asked] & (1 << (held + 1)) == 0),
        _ => Beside::BadMode,
    });
}

/// Gray, Lorie, Putzolu and Traiger 1975, with the update mode: one U at a time, beside readers, never beside writers.
#[test]
fn granular_as_published() {
    // Per mode those it is compatible with.
    let compatible =
        [("IS", "IS IX S U SIX"), ("IX", "IS IX"), ("S", "IS S U"), ("U", "IS S"), ("SIX", "IS"), ("X", "")];
    let modes = compatible.map(|(mode, _)| mode);
    check("granular", &modes, |held, asked| {
        granted_if(compatible[asked].1.split(' ').any(|m| m == compatible[held].0))
    });
}

#[test]
fn rw_as_anybody_would_say() {
    check("rw", &["R", "W"], |held, asked| granted_if(held == 0 && asked == 0));
}

/// InnoDB asks which part of record and gap two locks are of, if one of them is exclusive: does the one asked for wait? The rows of its
/// documentation are what is asked for, the columns what is held.
#[test]
fn innodb_as_its_table_says() {
    let kinds = ["REC_NOT_GAP", "GAP", "NEXT-KEY", "INSERT_INTENTION"];
    let waits = [
        [true, false, true, false],
        [false, false, false, false],
        [true, false, true, false],
        [false, true, true, false],
    ];
    let modes = ["INSERT_INTENTION", "S-GAP", "X-GAP", "S-REC", "X-REC", "S", "X"];
    let of = |mode: &'static str| match mode.split_once('-') {
        Some((_, "GAP")) => "GAP",
        Some(_) => "REC_NOT_GAP",
        None if mode == "INSERT_INTENTION" => mode,
        None => "NEXT-KEY",
    };
    let kind = |mode: &'static str| kinds.iter().position(|kind| *kind == of(mode)).expect("one of them");
    check("innodb", &modes, |held, asked| {
        let shared = |mode: &str| mode.starts_with("S");
        let both_shared = shared(modes[held]) && shared(modes[asked]);
        granted_if(both_shared || !waits[kind(modes[asked])][kind(modes[held])])
    });
}

/// A mode of SQL Server is made of parts, and two modes are compatible where all their parts are.
struct Parts {
    name: &'static str,
    /// Intents and the lock on the thing itself.
    own: &'static [&'static str],
    /// The lock on the gap before a key: `S`, `I` (insert), `X`.
    gap: Option<char>,
}

const fn parts(name: &'static str, own: &'static [&'static str], gap: Option<char>) -> Parts {
    Parts { name, own, gap }
}

const SQLSERVER: [Parts; 22] = [
    parts("NL", &[], None),
    parts("SCH-S", &["SCH-S"], None),
    parts("SCH-M", &["SCH-M"], None),
    parts("S", &["S"], None),
    parts("U", &["U"], None),
    parts("X", &["X"], None),
    parts("IS", &["IS"], None),
    parts("IU", &["IU"], None),
    parts("IX", &["IX"], None),
    parts("SIU", &["S", "IU"], None),
    parts("SIX", &["S", "IX"], None),
    parts("UIX", &["U", "IX"], None),
    parts("BU", &["BU"], None),
    parts("RS-S", &["S"], Some('S')),
    parts("RS-U", &["U"], Some('S')),
    parts("RI-N", &[], Some('I')),
    parts("RI-S", &["S"], Some('I')),
    parts("RI-U", &["U"], Some('I')),
    parts("RI-X", &["X"], Some('I')),
    parts("RX-S", &["S"], Some('X')),
    parts("RX-U", &["U"], Some('X')),
    parts("RX-X", &["X"], Some('X')),
];

/// Pairs of parts that may stand together, in either order.
const TOGETHER: [(&str, &str); 11] = [
    ("S", "S"),
    ("S", "U"),
    ("IS", "IS"),
    ("IS", "IU"),
    ("IS", "IX"),
    ("IU", "IU"),
    ("IU", "IX"),
    ("IX", "IX"),
    ("IS", "S"),
    ("IS", "U"),
    ("IU", "S"),
];

fn part_fits(a: &str, b: &str) -> bool {
    // The schema lock of those who read it stands beside all but the one of who changes it; bulk loads beside each other.
    match (a, b) {
        ("SCH-M", _) | (_, "SCH-M") => false,
        ("SCH-S", _) | (_, "SCH-S") | ("BU", "BU") => true,
        _ => TOGETHER.contains(&(a, b)) || TOGETHER.contains(&(b, a)),
    }
}

#[test]
fn sqlserver_as_its_parts_say() {
    let modes = SQLSERVER.map(|m| m.name);
    check("sqlserver", &modes, |held, asked| {
        let (a, b) = (&SQLSERVER[held], &SQLSERVER[asked]);
        // Key-range modes are of keys, on which there are neither intents nor schema locks.
        let of_keys = |m: &Parts| m.gap.is_some() || matches!(m.name, "NL" | "S" | "U" | "X");
        if (a.gap.is_some() && !of_keys(b)) || (b.gap.is_some() && !of_keys(a)) {
            return Beside::BadMode;
        }
        let gaps = match (a.gap, b.gap) {
            (Some(x), Some(y)) => x == y && x != 'X',
            _ => true,
        };
        granted_if(gaps && a.own.iter().all(|x| b.own.iter().all(|y| part_fits(x, y))))
    });
}
