//! Lockspaces and mode tables as they are written, in configuration and in the journal, and back.

use lockstead_types::{
    ModeTable,
    hierarchy::{Escalate, Escalation, Hierarchy},
    limits::VALUE_BYTES_CEILING,
    mode::{ModeSpec, ModeTableSpec},
    space::{DeadlockPolicy, Mastering, ModeChoice, QueuePolicy, SpaceSpec, VictimPolicy},
    tables::{BUILT_IN, built_in},
    transaction::Discipline,
};
use serde::{Deserialize, Serialize};

use super::{ConfigError, duration};

/// A mode table of one's own.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModeTableConfig {
    /// Its name, none of the built-in ones.
    pub name: String,
    /// `relation[requested]`: `+`, `-` or `!` for each mode held.
    pub relation: Vec<String>,
    /// What `-s`, `-u` and `-x` mean.
    pub shortcuts: Shortcuts,
    /// The modes, weakest first.
    pub modes: Vec<ModeConfig>,
}

/// One mode.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModeConfig {
    /// Its name.
    pub name: String,
    /// Other names for it.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Whether its holder writes the value block.
    #[serde(default)]
    pub writes: bool,
    /// The mode in which what is above is held while something below is locked in this one; without it nothing is.
    pub intent: Option<String>,
}

/// Names of the modes for the short flags of commands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shortcuts {
    /// `-s`.
    pub shared: String,
    /// `-u`.
    pub update: String,
    /// `-x`.
    pub exclusive: String,
}

/// A lockspace.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockspaceConfig {
    /// Its name.
    pub name: String,
    /// A built-in mode table or one of `[[mode_table]]`; `vms` where absent.
    pub modes: Option<String>,
    /// `vms` (where absent) or `fair`.
    pub policy: Option<String>,
    /// For `fair`: grants that may pass one that waits; 8 where absent.
    pub overtakes: Option<u16>,
    /// For `fair`: how much waiting one step of priority is worth; 1s where absent.
    pub ageing: Option<String>,
    /// `detect` (where absent), `timeout`, `no-wait`, `wait-die` or `wound-wait`.
    pub deadlock: Option<String>,
    /// `requester` (where absent), `youngest`, `fewest-locks` or `lowest-priority`.
    pub victim: Option<String>,
    /// Bytes of value blocks; the limit where absent.
    pub value_bytes: Option<u32>,
    /// By how many components of a name its slot is found, so that a tree stays on one master; 0, the whole name, where absent.
    pub levels: Option<u8>,
    /// Whether a name can be of a range of keys, or a predicate, of a resource; `false` where absent.
    pub extents: Option<bool>,
    /// `spread` (where absent) or `affinity`.
    pub mastering: Option<String>,
    /// Whether value blocks outlive every holder and every node; for members of a cluster.
    pub persistent: Option<bool>,
    /// What is demanded of transactions: `strict` (where absent), `two-phase`, `three-phase` or `free`.
    pub discipline: Option<String>,
    /// Levels of a tree of resources, such as `database/table/page/row`; each resource stands for itself where absent.
    pub hierarchy: Option<String>,
    /// Where many locks below a resource become one lock of it: `off` (where absent), `auto` for the next one above, or a level.
    pub escalate: Option<String>,
    /// How many are many; 5000 where absent.
    pub escalate_at: Option<u32>,
    /// After how many more it is tried again; 1250 where absent.
    pub escalate_retry: Option<u32>,
}

/// Components of a name that may go together at most.
pub const LEVELS_MAX: u8 = 16;

const MASTERING: [(&str, Mastering); 2] = [("spread", Mastering::Spread), ("affinity", Mastering::Affinity)];

const DEADLOCK: [(&str, DeadlockPolicy); 5] = [
    ("detect", DeadlockPolicy::Detect),
    ("timeout", DeadlockPolicy::Timeout),
    ("no-wait", DeadlockPolicy::NoWait),
    ("wait-die", DeadlockPolicy::WaitDie),
    ("wound-wait", DeadlockPolicy::WoundWait),
];

const VICTIM: [(&str, VictimPolicy); 4] = [
    ("requester", VictimPolicy::Requester),
    ("youngest", VictimPolicy::Youngest),
    ("fewest-locks", VictimPolicy::FewestLocks),
    ("lowest-priority", VictimPolicy::LowestPriority),
];

/// The mode tables of a configuration, each checked.
pub(super) fn mode_tables(tables: &[ModeTableConfig]) -> Result<Vec<ModeTableSpec>, ConfigError> {
    let specs = tables.iter().map(ModeTableConfig::to_spec).collect::<Vec<_>>();
    check(&specs, &[])?;
    Ok(specs)
}

/// The lockspaces of a configuration.
pub(super) fn lockspaces(spaces: &[LockspaceConfig], tables: &[ModeTableSpec]) -> Result<Vec<SpaceSpec>, ConfigError> {
    spaces.iter().map(|space| space.to_spec(tables)).collect()
}

/// Refuses tables that are none, names used twice, and lockspaces that cannot be.
pub(super) fn check(tables: &[ModeTableSpec], spaces: &[SpaceSpec]) -> Result<(), ConfigError> {
    for (i, table) in tables.iter().enumerate() {
        let key = format!("mode_table.{}", table.name);
        if BUILT_IN.contains(&table.name.as_str()) || tables[..i].iter().any(|t| t.name == table.name) {
            return Err(ConfigError::new(&key, "there is a mode table of that name already"));
        }
        if table.name.is_empty() || table.name.len() > 64 {
            return Err(ConfigError::new(&key, "a name has 1 to 64 bytes"));
        }
        ModeTable::new(table.clone()).map_err(|error| ConfigError::new(&key, error.to_string()))?;
    }
    for (i, space) in spaces.iter().enumerate() {
        let key = format!("lockspace.{}", space.name);
        if space.name.is_empty() || space.name.len() > 64 {
            return Err(ConfigError::new(&key, "a name has 1 to 64 bytes"));
        }
        if spaces[..i].iter().any(|s| s.name == space.name) {
            return Err(ConfigError::new(&key, "is there twice"));
        }
        if space.value_bytes > VALUE_BYTES_CEILING {
            let most = format!("at most {VALUE_BYTES_CEILING}");
            return Err(ConfigError::new(&format!("{key}.value_bytes"), most));
        }
    }
    Ok(())
}

impl ModeTableConfig {
    pub(crate) fn to_spec(&self) -> ModeTableSpec {
        let mode = |m: &ModeConfig| ModeSpec {
            name: m.name.clone(),
            aliases: m.aliases.clone(),
            writes: m.writes,
            intent: m.intent.clone(),
        };
        let Shortcuts { shared, update, exclusive } = self.shortcuts.clone();
        ModeTableSpec {
            name: self.name.clone(),
            modes: self.modes.iter().map(mode).collect(),
            relation: self.relation.clone(),
            shortcuts: [shared, update, exclusive],
        }
    }

    pub(crate) fn from_spec(spec: &ModeTableSpec) -> ModeTableConfig {
        let mode = |m: &ModeSpec| ModeConfig {
            name: m.name.clone(),
            aliases: m.aliases.clone(),
            writes: m.writes,
            intent: m.intent.clone(),
        };
        let [shared, update, exclusive] = spec.shortcuts.clone();
        ModeTableConfig {
            name: spec.name.clone(),
            relation: spec.relation.clone(),
            shortcuts: Shortcuts { shared, update, exclusive },
            modes: spec.modes.iter().map(mode).collect(),
        }
    }
}

impl LockspaceConfig {
    /// The lockspace this describes, its modes found among the built-in tables and `tables`.
    pub(crate) fn to_spec(&self, tables: &[ModeTableSpec]) -> Result<SpaceSpec, ConfigError> {
        let key = |field: &str| format!("lockspace.{}.{field}", self.name);
        let named = self.modes.as_deref().unwrap_or("vms");
        let modes = match tables.iter().find(|t| t.name == named) {
            Some(table) => ModeChoice::Custom(table.clone()),
            None if BUILT_IN.contains(&named) => ModeChoice::BuiltIn(named.to_owned()),
            None => return Err(ConfigError::new(&key("modes"), format!("there is no mode table {named:?}"))),
        };
        let mut spec = SpaceSpec { modes, policy: self.to_policy()?, ..SpaceSpec::named(&self.name) };
        if let Some(text) = &self.deadlock {
            spec.deadlock = choose(&key("deadlock"), text, &DEADLOCK)?;
        }
        if let Some(text) = &self.victim {
            spec.victim = choose(&key("victim"), text, &VICTIM)?;
        }
        spec.value_bytes = self.value_bytes.unwrap_or(0);
        spec.levels = self.levels.unwrap_or(0);
        if spec.levels > LEVELS_MAX {
            return Err(ConfigError::new(&key("levels"), format!("at most {LEVELS_MAX}")));
        }
        spec.extents = self.extents.unwrap_or(false);
        spec.persistent = self.persistent.unwrap_or(false);
        if let Some(text) = &self.discipline {
            let words = Discipline::ALL.map(|(discipline, word)| (word, discipline));
            spec.discipline = choose(&key("discipline"), text, &words)?;
        }
        if let Some(text) = &self.mastering {
            spec.mastering = choose(&key("mastering"), text, &MASTERING)?;
        }
        spec.hierarchy = self.to_hierarchy(&spec.modes)?.map(Box::new);
        if let (Some(tree), None) = (&spec.hierarchy, self.levels) {
            // [HIER-1] What lies below one another is on one master, where nobody says otherwise.
            spec.levels = tree.slot_levels();
        }
        Ok(spec)
    }

    fn to_hierarchy(&self, modes: &ModeChoice) -> Result<Option<Hierarchy>, ConfigError> {
        let key = |field: &str| format!("lockspace.{}.{field}", self.name);
        let Some(levels) = &self.hierarchy else {
            let said = [
                ("escalate", self.escalate.is_some()),
                ("escalate_at", self.escalate_at.is_some()),
                ("escalate_retry", self.escalate_retry.is_some()),
            ];
            return match said.into_iter().find(|(_, said)| *said) {
                Some((field, _)) => Err(ConfigError::new(&key(field), "belongs to a hierarchy")),
                None => Ok(None),
            };
        };
        let mut tree = Hierarchy { levels: Hierarchy::parse_levels(levels), escalation: Escalation::Off };
        let (at, retry) =
            (self.escalate_at.unwrap_or(Escalate::AUTO.at), self.escalate_retry.unwrap_or(Escalate::AUTO.retry));
        let word = self.escalate.as_deref().unwrap_or("off");
        tree.escalation = tree
            .escalation_of(word, at, retry)
            .map_err(|error| ConfigError::new(&key("escalate"), error.to_string()))?;
        let table = match modes {
            ModeChoice::BuiltIn(name) => built_in(name),
            ModeChoice::Custom(spec) => ModeTable::new(spec.clone()).ok(),
        };
        let checked = table.map_or(Ok(()), |table| tree.check(&table));
        checked.map_err(|error| ConfigError::new(&key("hierarchy"), error.to_string()))?;
        Ok(Some(tree))
    }

    fn to_policy(&self) -> Result<QueuePolicy, ConfigError> {
        let key = |field: &str| format!("lockspace.{}.{field}", self.name);
        match self.policy.as_deref().unwrap_or("vms") {
            "vms" => match (self.overtakes, &self.ageing) {
                (None, None) => Ok(QueuePolicy::Vms),
                (Some(_), _) => Err(ConfigError::new(&key("overtakes"), "belongs to policy \"fair\"")),
                (None, Some(_)) => Err(ConfigError::new(&key("ageing"), "belongs to policy \"fair\"")),
            },
            "fair" => {
                let QueuePolicy::Fair { mut overtakes, mut ageing } = QueuePolicy::FAIR else {
                    return Ok(QueuePolicy::FAIR);
                };
                if let Some(text) = &self.ageing {
                    ageing = duration(&key("ageing"), text)?;
                }
                if let Some(n) = self.overtakes {
                    overtakes = n;
                }
                Ok(QueuePolicy::Fair { overtakes, ageing })
            }
            other => Err(ConfigError::new(&key("policy"), format!("{other:?} is none of vms fair"))),
        }
    }

    /// How a lockspace is written down; a mode table of its own goes beside it under its name.
    pub(crate) fn from_spec(spec: &SpaceSpec) -> LockspaceConfig {
        let (policy, overtakes, ageing) = match spec.policy {
            QueuePolicy::Vms => ("vms", None, None),
            QueuePolicy::Fair { overtakes, ageing } => {
                ("fair", Some(overtakes), Some(format!("{}ns", ageing.as_nanos())))
            }
        };
        let tree = spec.hierarchy.as_ref();
        let counts = tree.and_then(|tree| match tree.escalation {
            Escalation::Off => None,
            Escalation::To(escalate) => Some(escalate),
        });
        let modes = match &spec.modes {
            ModeChoice::BuiltIn(name) => name.clone(),
            ModeChoice::Custom(table) => table.name.clone(),
        };
        LockspaceConfig {
            name: spec.name.clone(),
            modes: Some(modes),
            policy: Some(policy.to_owned()),
            overtakes,
            ageing,
            deadlock: word(&DEADLOCK, &spec.deadlock),
            victim: word(&VICTIM, &spec.victim),
            value_bytes: Some(spec.value_bytes),
            levels: Some(spec.levels).filter(|levels| *levels > 0 || tree.is_some()),
            extents: spec.extents.then_some(true),
            persistent: spec.persistent.then_some(true),
            discipline: (spec.discipline != Discipline::Strict).then(|| spec.discipline.word().to_owned()),
            mastering: word(&MASTERING, &spec.mastering).filter(|_| spec.mastering != Mastering::Spread),
            hierarchy: tree.map(|tree| tree.levels.join("/")),
            escalate: counts.and(tree).map(|tree| tree.escalate_word().to_owned()),
            escalate_at: counts.map(|escalate| escalate.at),
            escalate_retry: counts.map(|escalate| escalate.retry),
        }
    }
}

fn choose<T: Copy>(key: &str, text: &str, of: &[(&str, T)]) -> Result<T, ConfigError> {
    let found = of.iter().find(|(name, _)| *name == text).map(|(_, choice)| *choice);
    let names = || of.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" ");
    found.ok_or_else(|| ConfigError::new(key, format!("{text:?} is none of {}", names())))
}

fn word<T: PartialEq>(of: &[(&str, T)], choice: &T) -> Option<String> {
    of.iter().find(|(_, c)| c == choice).map(|(name, _)| (*name).to_owned())
}
