//! Modes and mode tables. A mode table is data: up to 32 modes, who is compatible with whom, how two modes join, which
//! modes write the value block.

use alloc::{
    boxed::Box,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt;

use crate::flags::Flags;

/// A mode: its place in the mode table of its lockspace, 0 to 31.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Mode(pub u8);

/// The largest number of modes in a table.
pub const MODES_MAX: usize = 32;

impl Mode {
    const fn bit(self) -> u32 {
        1u32.wrapping_shl(self.0 as u32)
    }
}

/// A set of modes of one table.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct ModeSet(pub u32);

impl ModeSet {
    /// The empty set.
    pub const EMPTY: ModeSet = ModeSet(0);

    /// Whether `mode` is in the set.
    #[must_use]
    pub const fn contains(self, mode: Mode) -> bool {
        self.0 & mode.bit() != 0
    }

    /// The set with `mode` in it.
    #[must_use]
    pub const fn with(self, mode: Mode) -> ModeSet {
        ModeSet(self.0 | mode.bit())
    }

    /// The set without `mode`.
    #[must_use]
    pub const fn without(self, mode: Mode) -> ModeSet {
        ModeSet(self.0 & !mode.bit())
    }

    /// Modes in either set.
    #[must_use]
    pub const fn union(self, other: ModeSet) -> ModeSet {
        ModeSet(self.0 | other.0)
    }

    /// Whether no mode is in both.
    #[must_use]
    pub const fn is_disjoint(self, other: ModeSet) -> bool {
        self.0 & other.0 == 0
    }

    /// Whether every mode of this set is in `other`.
    #[must_use]
    pub const fn is_subset(self, other: ModeSet) -> bool {
        self.0 & !other.0 == 0
    }

    /// Whether the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The modes of the set, lowest first.
    pub fn iter(self) -> impl Iterator<Item = Mode> {
        (0..32u8).map(Mode).filter(move |m| self.contains(*m))
    }
}

/// How a mode table is written down, by us for the built-in ones and by users in configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ModeTableSpec {
    /// Name of the table, such as `vms`.
    pub name: String,
    /// The modes, weakest first: the order decides which way a conversion moves the value block ([VALUE-1]).
    pub modes: Vec<ModeSpec>,
    /// `relation[requested][held]`: `+` compatible, `-` conflict, `!` the two cannot even be asked of one resource.
    pub relation: Vec<String>,
    /// The mode of `-s` (shared), `-u` (update) and `-x` (exclusive), by name.
    pub shortcuts: [String; 3],
}

/// One mode of a [`ModeTableSpec`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ModeSpec {
    /// Its name, unique in the table without regard to case.
    pub name: String,
    /// Other names for it, unique in the table too.
    pub aliases: Vec<String>,
    /// Whether a holder of this mode writes the value block when it converts down or releases.
    pub writes: bool,
    /// The mode in which what is above is held while something below is locked in this one, by name; `None` where it says nothing
    /// of what is above ([HIER-2]).
    pub intent: Option<String>,
}

/// A checked mode table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ModeTable {
    spec: ModeTableSpec,
    /// `conflict[requested]`: the held modes it conflicts with, illegal pairs included.
    conflict: [ModeSet; MODES_MAX],
    /// `blocks[held]`: the transpose, the requested modes that conflict with it.
    blocks: [ModeSet; MODES_MAX],
    illegal: [ModeSet; MODES_MAX],
    writes: ModeSet,
    shortcuts: [Mode; 3],
    join: Box<[Option<Mode>]>,
}

/// Why a [`ModeTableSpec`] is no mode table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ModeTableError {
    /// No modes, or more than 32.
    Count(usize),
    /// A name that is empty, over 32 bytes, not graphic ASCII, or used twice.
    Name(String),
    /// The relation has not a row for each mode.
    Rows {
        /// How many it has.
        rows: usize,
        /// How many it needs.
        modes: usize,
    },
    /// A row of the relation, counted from 1, has not a sign for each mode, or one other than `+`, `-`, `!`.
    Row(usize),
    /// A shortcut names no mode of the table.
    Shortcut(String),
    /// An intent names no mode of the table.
    Intent(String),
}

impl fmt::Display for ModeTableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ModeTableError::Count(n) => write!(f, "a mode table has 1 to {MODES_MAX} modes, not {n}"),
            ModeTableError::Name(n) => {
                write!(f, "mode name {n:?} is empty, too long, not graphic ASCII, or used twice")
            }
            ModeTableError::Rows { rows, modes } => {
                write!(f, "the relation needs a row for each of the {modes} modes, not {rows}")
            }
            ModeTableError::Row(row) => {
                write!(f, "row {row} of the relation needs one of + - ! for each mode; the first is row 1")
            }
            ModeTableError::Shortcut(n) => write!(f, "shortcut {n:?} names no mode of the table"),
            ModeTableError::Intent(n) => write!(f, "intent {n:?} names no mode of the table"),
        }
    }
}

impl core::error::Error for ModeTableError {}

impl ModeTable {
    /// Checks a spec.
    ///
    /// # Errors
    /// [`ModeTableError`] names the first thing that is wrong with it.
    pub fn new(spec: ModeTableSpec) -> Result<ModeTable, ModeTableError> {
        let count = spec.modes.len();
        if count == 0 || count > MODES_MAX {
            return Err(ModeTableError::Count(count));
        }
        check_names(&spec)?;
        let mut table = ModeTable {
            conflict: [ModeSet::EMPTY; MODES_MAX],
            blocks: [ModeSet::EMPTY; MODES_MAX],
            illegal: [ModeSet::EMPTY; MODES_MAX],
            writes: ModeSet::EMPTY,
            shortcuts: [Mode(0); 3],
            join: Box::new([]),
            spec,
        };
        table.read_relation()?;
        for (i, mode) in table.spec.modes.iter().enumerate() {
            if mode.writes {
                table.writes = table.writes.with(Mode(i as u8));
            }
        }
        for i in 0..3 {
            let name = &table.spec.shortcuts[i];
            table.shortcuts[i] = table.parse(name).ok_or_else(|| ModeTableError::Shortcut(name.clone()))?;
        }
        let unknown = |name: &&String| table.parse(name).is_none();
        if let Some(name) = table.spec.modes.iter().filter_map(|m| m.intent.as_ref()).find(unknown) {
            return Err(ModeTableError::Intent(name.clone()));
        }
        table.join = table.all_joins();
        Ok(table)
    }

    fn read_relation(&mut self) -> Result<(), ModeTableError> {
        let count = self.spec.modes.len();
        if self.spec.relation.len() != count {
            return Err(ModeTableError::Rows { rows: self.spec.relation.len(), modes: count });
        }
        for (r, row) in self.spec.relation.iter().enumerate() {
            let signs: Vec<char> = row.chars().filter(|c| !c.is_whitespace()).collect();
            if signs.len() != count {
                return Err(ModeTableError::Row(r + 1));
            }
            for (h, sign) in signs.into_iter().enumerate() {
                let (requested, held) = (Mode(r as u8), Mode(h as u8));
                match sign {
                    '+' => continue,
                    '-' => {}
                    '!' => self.illegal[r] = self.illegal[r].with(held),
                    _ => return Err(ModeTableError::Row(r + 1)),
                }
                self.conflict[r] = self.conflict[r].with(held);
                self.blocks[h] = self.blocks[h].with(requested);
            }
        }
        Ok(())
    }

    /// The name of the table.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// How the table is written down.
    #[must_use]
    pub fn spec(&self) -> &ModeTableSpec {
        &self.spec
    }

    /// How many modes it has.
    #[must_use]
    pub fn count(&self) -> usize {
        self.spec.modes.len()
    }

    /// Its modes, weakest first.
    pub fn modes(&self) -> impl Iterator<Item = Mode> + use<> {
        (0..self.spec.modes.len() as u8).map(Mode)
    }

    /// Whether the number is a mode of this table.
    #[must_use]
    pub fn has(&self, mode: Mode) -> bool {
        usize::from(mode.0) < self.spec.modes.len()
    }

    /// The name of a mode, `?` for a number that is none.
    #[must_use]
    pub fn mode_name(&self, mode: Mode) -> &str {
        self.spec.modes.get(usize::from(mode.0)).map_or("?", |m| &m.name)
    }

    /// The mode of a name or alias, case ignored.
    #[must_use]
    pub fn parse(&self, name: &str) -> Option<Mode> {
        let hit =
            |m: &ModeSpec| m.name.eq_ignore_ascii_case(name) || m.aliases.iter().any(|a| a.eq_ignore_ascii_case(name));
        self.spec.modes.iter().position(hit).map(|i| Mode(i as u8))
    }

    /// Whether `requested` may be granted beside a `held` lock of another owner ([MODE-1]). Not symmetric in general.
    #[must_use]
    pub fn compatible(&self, requested: Mode, held: Mode) -> bool {
        !self.conflicts_of(requested).contains(held)
    }

    /// The held modes that `requested` conflicts with.
    #[must_use]
    pub fn conflicts_of(&self, requested: Mode) -> ModeSet {
        self.conflict[usize::from(requested.0) % MODES_MAX]
    }

    /// The requested modes that a lock `held` keeps waiting.
    #[must_use]
    pub fn blocked_by(&self, held: Mode) -> ModeSet {
        self.blocks[usize::from(held.0) % MODES_MAX]
    }

    /// The held modes that `requested` cannot even be asked beside (the `I` of SQL Server's matrix; [MODE-3]).
    #[must_use]
    pub fn illegal_with(&self, requested: Mode) -> ModeSet {
        self.illegal[usize::from(requested.0) % MODES_MAX]
    }

    /// Whether `to` demands no more than `from` already has: then a conversion is down, or stays, and is granted in
    /// place ([CONV-2]). For `vms`, PR to CW and CW to PR are neither up nor down.
    #[must_use]
    pub fn is_down(&self, from: Mode, to: Mode) -> bool {
        self.conflicts_of(to).is_subset(self.conflicts_of(from)) && self.blocked_by(to).is_subset(self.blocked_by(from))
    }

    /// The strongest mode that is down from both: what a holder has left whichever of the two it turns out to hold.
    /// `None` where the table has no such mode.
    #[must_use]
    pub fn meet(&self, a: Mode, b: Mode) -> Option<Mode> {
        // Of modes that exclude the same the one asked about, not another.
        if self.is_down(b, a) {
            return Some(a);
        }
        let below = |m: &Mode| self.is_down(a, *m) && self.is_down(b, *m);
        let weight = |m: &Mode| self.conflicts_of(*m).0.count_ones() + self.blocked_by(*m).0.count_ones();
        self.modes().filter(below).max_by_key(weight)
    }

    /// What a lock holds whatever became of a conversion that has no answer: what the old and the new mode have in common,
    /// and those that the flags may have given instead ([DEAD-2], [GRANT-9]). `None` where the table has no such mode.
    #[must_use]
    pub fn while_converting(&self, from: Mode, to: Mode, flags: Flags) -> Option<Mode> {
        // [MODE-2] Refused, whenever it arrives.
        if !self.has(to) {
            return Some(from);
        }
        let null = if flags.has(Flags::CONVDEADLK) { self.null() } else { None };
        let other = if flags.has(Flags::ALTPR) {
            self.parse("PR")
        } else if flags.has(Flags::ALTCW) {
            self.parse("CW")
        } else {
            None
        };
        [null, other].into_iter().flatten().try_fold(self.meet(from, to)?, |left, mode| self.meet(left, mode))
    }

    /// The mode that conflicts with nothing, if the table has one: NL in `vms`.
    #[must_use]
    pub fn null(&self) -> Option<Mode> {
        self.modes().find(|m| self.conflicts_of(*m).is_empty() && self.blocked_by(*m).is_empty())
    }

    /// Whether a holder of `mode` writes the value block ([VALUE-1]).
    #[must_use]
    pub fn writes(&self, mode: Mode) -> bool {
        self.writes.contains(mode)
    }

    /// The weakest mode that is at least both (supremum), `None` where no mode is: its conflicts include the conflicts of both.
    #[must_use]
    pub fn join(&self, a: Mode, b: Mode) -> Option<Mode> {
        let n = self.spec.modes.len();
        self.join.get(usize::from(a.0) * n + usize::from(b.0)).copied().flatten()
    }

    /// The mode of `-s`.
    #[must_use]
    pub fn shared(&self) -> Mode {
        self.shortcuts[0]
    }

    /// The mode of `-u`.
    #[must_use]
    pub fn update(&self) -> Mode {
        self.shortcuts[1]
    }

    /// The mode of `-x`, and of a lock command that names no mode.
    #[must_use]
    pub fn exclusive(&self) -> Mode {
        self.shortcuts[2]
    }

    fn all_joins(&self) -> Box<[Option<Mode>]> {
        let pairs = self.modes().flat_map(|a| self.modes().map(move |b| (a, b)));
        pairs.map(|(a, b)| self.least_upper(a, b)).collect()
    }

    fn least_upper(&self, a: Mode, b: Mode) -> Option<Mode> {
        if a == b {
            return Some(a);
        }
        let above = |m: &Mode| self.is_down(*m, a) && self.is_down(*m, b);
        let weight = |m: &Mode| self.conflicts_of(*m).0.count_ones() + self.blocked_by(*m).0.count_ones();
        self.modes().filter(above).min_by_key(weight)
    }
}

fn check_names(spec: &ModeTableSpec) -> Result<(), ModeTableError> {
    let mut seen: Vec<String> = Vec::new();
    for name in spec.modes.iter().flat_map(|m| core::iter::once(&m.name).chain(&m.aliases)) {
        let key = name.to_ascii_uppercase();
        let graphic = name.bytes().all(|b| b.is_ascii_graphic());
        if name.is_empty() || name.len() > 32 || !graphic || seen.contains(&key) {
            return Err(ModeTableError::Name(name.to_string()));
        }
        seen.push(key);
    }
    Ok(())
}
