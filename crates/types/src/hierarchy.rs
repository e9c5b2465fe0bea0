//! Trees of resources: `orders` is above `orders/page:5`, and that above `orders/page:5/row:17`. What is locked below is announced
//! above, by the *intent* of its mode. A file of its own, since it is the one place that says how names, modes and levels
//! belong together.

use alloc::{string::String, vec::Vec};
use core::fmt;

use crate::mode::{Mode, ModeSet, ModeTable};

/// Levels a tree may have at most.
pub const HIERARCHY_LEVELS_MAX: usize = 16;
/// Bytes of a level's name.
const LEVEL_NAME_BYTES: usize = 32;

/// How the resources of a lockspace lie above one another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hierarchy {
    /// What the levels are called, the root's first: `database`, `table`, `page`, `row`.
    pub levels: Vec<String>,
    /// When many locks become one.
    pub escalation: Escalation,
}

/// When the locks an owner has below a resource become one lock of that resource.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum Escalation {
    /// Never.
    #[default]
    Off,
    /// As they grow many.
    To(Escalate),
}

/// What becomes of many locks.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Escalate {
    /// Which resource is locked in their stead.
    pub level: EscalateLevel,
    /// How many locks below it are many.
    pub at: u32,
    /// After so many more it is tried again, where it could not be done.
    pub retry: u32,
}

/// A resource above another.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum EscalateLevel {
    /// The next one above.
    Parent,
    /// The one at this level; the root's is 0.
    Level(u8),
}

impl Escalate {
    /// To the next one above, at the counts of SQL Server.
    pub const AUTO: Escalate = Escalate { level: EscalateLevel::Parent, at: 5_000, retry: 1_250 };
}

/// Why there can be no such hierarchy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HierarchyError {
    /// No levels, or too many.
    Levels(usize),
    /// The name of a level is empty, too long, not graphic ASCII, has a `/`, or stands there twice.
    Level(String),
    /// The modes announce nothing above.
    NoIntents(String),
    /// Escalation to a level that is not there, or has nothing below.
    NoSuchLevel,
    /// Of counts that are 0.
    Counts,
}

impl fmt::Display for HierarchyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HierarchyError::Levels(n) => write!(f, "a hierarchy has 1 to {HIERARCHY_LEVELS_MAX} levels, not {n}"),
            HierarchyError::Level(name) => write!(
                f,
                "level {name:?} is empty, longer than {LEVEL_NAME_BYTES} bytes, not graphic ASCII, or there twice"
            ),
            HierarchyError::NoIntents(table) => write!(
                f,
                "no mode of the table {table} has an intent: a hierarchy needs vms, granular, sqlserver, or a table that says them"
            ),
            HierarchyError::NoSuchLevel => {
                f.write_str("locks escalate to a level of the hierarchy that has one below it")
            }
            HierarchyError::Counts => f.write_str("counts of escalation are 1 at least"),
        }
    }
}

impl core::error::Error for HierarchyError {}

impl Hierarchy {
    /// The levels as they are written: `database/table/page/row`.
    #[must_use]
    pub fn parse_levels(text: &str) -> Vec<String> {
        text.split('/').map(Into::into).collect()
    }

    /// Whether a lockspace with these modes can have it.
    ///
    /// # Errors
    /// [`HierarchyError`] names the first thing that is wrong.
    pub fn check(&self, modes: &ModeTable) -> Result<(), HierarchyError> {
        if self.levels.is_empty() || self.levels.len() > HIERARCHY_LEVELS_MAX {
            return Err(HierarchyError::Levels(self.levels.len()));
        }
        for (at, level) in self.levels.iter().enumerate() {
            let graphic = level.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
            let twice = self.levels.iter().take(at).any(|other| other == level);
            if level.is_empty() || level.len() > LEVEL_NAME_BYTES || !graphic || twice {
                return Err(HierarchyError::Level(level.clone()));
            }
        }
        // [HIER-1] Without intents nothing above would say what is locked below.
        if modes.modes().all(|mode| modes.intent(mode).is_none()) {
            return Err(HierarchyError::NoIntents(modes.name().into()));
        }
        let Escalation::To(escalate) = self.escalation else { return Ok(()) };
        if escalate.at == 0 || escalate.retry == 0 {
            return Err(HierarchyError::Counts);
        }
        match escalate.level {
            EscalateLevel::Level(level) if usize::from(level) + 1 >= self.levels.len() => {
                Err(HierarchyError::NoSuchLevel)
            }
            EscalateLevel::Parent if self.levels.len() < 2 => Err(HierarchyError::NoSuchLevel),
            EscalateLevel::Level(_) | EscalateLevel::Parent => Ok(()),
        }
    }

    /// By how many components of a name its slot is found where nobody says: pages and rows are with their table.
    #[must_use]
    pub fn slot_levels(&self) -> u8 {
        self.levels.len().saturating_sub(2).clamp(1, HIERARCHY_LEVELS_MAX) as u8
    }

    /// The words of `--escalate`: `off`, `auto`, or the level.
    #[must_use]
    pub fn escalate_word(&self) -> &str {
        match self.escalation {
            Escalation::Off => "off",
            Escalation::To(Escalate { level: EscalateLevel::Parent, .. }) => "auto",
            Escalation::To(Escalate { level: EscalateLevel::Level(level), .. }) => {
                self.levels.get(usize::from(level)).map_or("?", String::as_str)
            }
        }
    }

    /// The inverse of [`Hierarchy::escalate_word`], with the counts.
    ///
    /// # Errors
    /// [`HierarchyError::NoSuchLevel`].
    pub fn escalation_of(&self, word: &str, at: u32, retry: u32) -> Result<Escalation, HierarchyError> {
        let level = match word {
            "off" => return Ok(Escalation::Off),
            "auto" => EscalateLevel::Parent,
            level => {
                let found = self.levels.iter().position(|known| known == level);
                EscalateLevel::Level(found.ok_or(HierarchyError::NoSuchLevel)? as u8)
            }
        };
        Ok(Escalation::To(Escalate { level, at, retry }))
    }
}

impl ModeTable {
    /// The mode in which everything above is held while something is locked in `mode` ([HIER-2]); `None` where nothing is.
    #[must_use]
    pub fn intent(&self, mode: Mode) -> Option<Mode> {
        // [HIER-2]
        let name = self.spec().modes.get(usize::from(mode.0))?.intent.as_deref()?;
        self.parse(name)
    }

    /// Whether who holds `above` needs no lock in `mode` below it: whatever conflicts with that cannot be announced beside it
    ///. So it follows from the matrix: S covers readers, SIX does, X covers all.
    #[must_use]
    pub fn covers(&self, above: Mode, mode: Mode) -> bool {
        // What is never asked of one resource is not below together.
        let illegal = |other: Mode| self.illegal_with(mode).contains(other) || self.illegal_with(other).contains(mode);
        let excluded = |other: Mode| !self.compatible(mode, other) || !self.compatible(other, mode);
        let conflicts = |other: Mode| excluded(other) && !illegal(other);
        let kept_out = |other: Mode| {
            self.intent(other).is_none_or(|intent| !self.compatible(intent, above) && !self.compatible(above, intent))
        };
        let mut below = self.modes().filter(|other| conflicts(*other) && self.intent(*other).is_some()).peekable();
        below.peek().is_some() && below.all(kept_out)
    }

    /// The weakest mode that is at least both: what a resource is held in that was held in one and is wanted in the other.
    #[must_use]
    pub fn raised(&self, held: Mode, wanted: Mode) -> Option<Mode> {
        // Of modes that exclude the same the one asked about, not another.
        let one = [held, wanted].into_iter().find(|m| self.is_enough(*m, held) && self.is_enough(*m, wanted));
        one.or_else(|| self.weakest(|m| self.is_enough(m, held) && self.is_enough(m, wanted)))
    }

    /// The weakest mode that is at least `held` and in which a resource covers locks below it in all of `below`.
    #[must_use]
    pub fn cover(&self, held: Mode, below: ModeSet) -> Option<Mode> {
        self.weakest(|m| self.is_enough(m, held) && below.iter().all(|mode| self.covers(m, mode)))
    }

    /// Whether who holds `held` has all that `wanted` gives: it excludes what that excludes. What could not even be asked beside
    /// `wanted` does not count, since it is about another kind of resource.
    #[must_use]
    pub fn is_enough(&self, held: Mode, wanted: Mode) -> bool {
        held == wanted
            || (self.excludes(wanted).is_subset(self.conflicts_of(held))
                && self.excluded_by(wanted).is_subset(self.blocked_by(held)))
    }

    fn weakest(&self, enough: impl Fn(Mode) -> bool) -> Option<Mode> {
        let candidates = self.modes().filter(|m| enough(*m)).fold(ModeSet::EMPTY, ModeSet::with);
        let weaker = |than: Mode, m: Mode| self.is_enough(than, m) && !self.is_enough(m, than);
        let weight = |m: &Mode| self.conflicts_of(*m).0.count_ones() + self.blocked_by(*m).0.count_ones();
        candidates.iter().filter(|m| candidates.iter().all(|other| !weaker(*m, other))).min_by_key(weight)
    }

    fn excludes(&self, mode: Mode) -> ModeSet {
        self.illegal_with(mode).iter().fold(self.conflicts_of(mode), ModeSet::without)
    }

    fn excluded_by(&self, mode: Mode) -> ModeSet {
        let illegal = self.modes().filter(|other| self.illegal_with(*other).contains(mode));
        illegal.fold(self.blocked_by(mode), ModeSet::without)
    }
}

/// The lengths of the names of a resource and of all above it, the root's first; `None` where a component is empty or there
/// are more than `levels`.
#[must_use]
pub fn path_ends(name: &[u8], levels: usize) -> Option<Vec<usize>> {
    let mut ends: Vec<usize> = name.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at).collect();
    ends.push(name.len());
    let mut from = 0;
    for end in &ends {
        if *end == from {
            return None;
        }
        from = end.saturating_add(1);
    }
    (ends.len() <= levels).then_some(ends)
}

/// The name of the resource above; `None` of a root.
#[must_use]
pub fn parent_of(name: &[u8]) -> Option<&[u8]> {
    let end = name.iter().rposition(|byte| *byte == b'/')?;
    name.get(..end)
}

/// Whether a resource is below another.
#[must_use]
pub fn is_below(name: &[u8], above: &[u8]) -> bool {
    name.strip_prefix(above).is_some_and(|rest| rest.first() == Some(&b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::built_in;

    fn mode(modes: &ModeTable, name: &str) -> Mode {
        modes.parse(name).unwrap_or_else(|| panic!("{name}"))
    }

    #[test]
    fn paths_have_components() {
        assert_eq!(path_ends(b"a/bc/d", 3), Some(alloc::vec![1, 4, 6]));
        assert_eq!(path_ends(b"a", 1), Some(alloc::vec![1]));
        for wrong in [&b""[..], b"/", b"a//b", b"a/", b"/a", b"a/b/c/d"] {
            assert_eq!(path_ends(wrong, 3), None, "{wrong:?}");
        }
        assert_eq!((parent_of(b"a/b/c"), parent_of(b"a")), (Some(&b"a/b"[..]), None));
        assert!(is_below(b"a/b", b"a") && !is_below(b"ab", b"a") && !is_below(b"a", b"a"));
    }

    /// Gray's rules, which nobody wrote down here: they follow from the matrix and the intents.
    #[test]
    fn what_covers_what_follows_from_the_matrix() {
        for (table, [is, ix, s, six, x]) in [
            ("granular", ["IS", "IX", "S", "SIX", "X"]),
            ("vms", ["CR", "CW", "PR", "PW", "EX"]),
            ("sqlserver", ["IS", "IX", "S", "SIX", "X"]),
        ] {
            let modes = built_in(table).expect("built in");
            let [is, ix, s, six, x] = [is, ix, s, six, x].map(|name| mode(&modes, name));
            let covers = |above, below| modes.covers(above, below);
            assert!(covers(x, x) && covers(x, s) && covers(x, ix) && covers(x, six) && covers(x, is), "{table}");
            assert!(covers(s, s) && covers(s, is) && covers(six, s) && covers(six, is), "{table}");
            assert!(!covers(s, x) && !covers(s, ix) && !covers(six, x) && !covers(six, ix), "{table}");
            for below in [is, ix, s, six, x] {
                assert!(!covers(is, below), "{table}");
            }
            assert!(!covers(ix, s) && !covers(ix, x), "{table}");
            assert_eq!([s, is, x, ix, six].map(|m| modes.intent(m)), [is, is, ix, ix, ix].map(Some), "{table}");
            let set = |of: &[Mode]| of.iter().fold(ModeSet::EMPTY, |set, m| set.with(*m));
            assert_eq!(modes.raised(s, ix), Some(six), "{table}");
            assert_eq!(
                [modes.raised(is, s), modes.raised(is, ix), modes.raised(six, x)],
                [s, ix, x].map(Some),
                "{table}"
            );
            assert!(modes.is_enough(six, s) && modes.is_enough(s, is) && !modes.is_enough(s, ix), "{table}");
            assert_eq!(modes.cover(is, set(&[s])), Some(s), "{table}");
            assert_eq!(modes.cover(ix, set(&[x])), Some(x), "{table}");
            assert_eq!(modes.cover(ix, set(&[s])), Some(six), "{table}");
            assert_eq!(modes.cover(ix, set(&[s, x])), Some(x), "{table}");
        }
    }

    #[test]
    fn not_every_table_has_intents() {
        let hierarchy = |levels: &str, escalation| Hierarchy { levels: Hierarchy::parse_levels(levels), escalation };
        let check = |table: &str, levels| hierarchy(levels, Escalation::Off).check(&built_in(table).expect("built in"));
        assert_eq!(check("granular", "file/page"), Ok(()));
        for table in ["rw", "postgres"] {
            assert_eq!(check(table, "file/page"), Err(HierarchyError::NoIntents(table.into())));
        }
        assert_eq!(check("vms", "file//page"), Err(HierarchyError::Level("".into())));
        assert_eq!(check("vms", "a/a"), Err(HierarchyError::Level("a".into())));
        let deep = ["x"; 17].join("/");
        assert_eq!(check("vms", &deep), Err(HierarchyError::Levels(17)));
    }

    #[test]
    fn locks_escalate_to_a_level_with_something_below() {
        let mut tree = Hierarchy { levels: Hierarchy::parse_levels("db/table/row"), escalation: Escalation::Off };
        assert_eq!((tree.slot_levels(), tree.escalate_word()), (1, "off"));
        let modes = built_in("vms").expect("built in");
        for (word, right) in [("auto", true), ("table", true), ("db", true), ("row", false)] {
            tree.escalation = tree.escalation_of(word, 10, 5).expect("a level");
            assert_eq!((tree.escalate_word(), tree.check(&modes).is_ok()), (word, right));
        }
        assert_eq!(tree.escalation_of("page", 10, 5), Err(HierarchyError::NoSuchLevel));
        tree.escalation = Escalation::To(Escalate { at: 0, ..Escalate::AUTO });
        assert_eq!(tree.check(&modes), Err(HierarchyError::Counts));
    }
}
