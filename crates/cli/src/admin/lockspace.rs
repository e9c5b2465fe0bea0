//! `lockstead lockspace create|ls|show|drop`.

use clap::{Subcommand, ValueEnum};
use core::time::Duration;
use lockstead_server::config::LEVELS_MAX;
use lockstead_types::{
    Span,
    hierarchy::{Escalate, Escalation, Hierarchy},
    mode::ModeTable,
    space::{DeadlockPolicy, Mastering, ModeChoice, QueuePolicy, SpaceSpec, VictimPolicy},
    tables::built_in,
    transaction::Discipline,
};
use serde_json::{Value, json};

use crate::{
    args::{ConnectArgs, seconds},
    connect::{About, connect, explain, space},
    exit::{Exit, Outcome},
    output::{OutputArgs, json, table::Table},
    runtime,
};

/// Options of `lockstead lockspace`.
#[derive(Debug, clap::Args)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    long_about = "Create, list, show and drop lockspaces.\n\nA lockspace is a named set of resources with its own mode table \
                  and policies. `default` exists from the start, with `vms` modes.",
    after_long_help = "Examples:\n  lockstead lockspace create tables --modes granular --policy fair\n  \
                       lockstead lock -L tables -m IX db1 -- batch\n  \
                       lockstead lockspace create rows --modes granular --hierarchy database/table/page/row --escalate table\n  lockstead lockspace show tables\n  \
                       lockstead lockspace drop tables"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Create a lockspace
    Create(CreateArgs),
    /// List lockspaces: with -o json an array of what `show` prints, without the matrix
    Ls(LsArgs),
    /// Show a lockspace with its modes and who is compatible with whom
    Show(ShowArgs),
    /// Drop a lockspace
    Drop(DropArgs),
}

#[derive(Debug, clap::Args)]
struct CreateArgs {
    /// Its name, 1 to 64 bytes
    name: String,
    /// Its modes: vms, granular, sqlserver, innodb, postgres, rw, or a table in the node's configuration
    #[arg(long, value_name = "TABLE", default_value = "vms")]
    modes: String,
    /// How queues are served
    #[arg(long, value_enum, default_value = "vms")]
    policy: PolicyArg,
    /// With `--policy fair`: grants that may pass one that waits
    #[arg(long, value_name = "N", default_value_t = 8)]
    overtakes: u16,
    /// With `--policy fair`: how much waiting one step of priority is worth
    #[arg(long, value_name = "SEC", value_parser = seconds, default_value = "1")]
    ageing: Duration,
    /// What is done about deadlocks
    #[arg(long, value_enum, default_value = "detect")]
    deadlock: DeadlockArg,
    /// Who is refused in a deadlock
    #[arg(long, value_enum, default_value = "requester")]
    victim: VictimArg,
    /// Bytes of value blocks; 0 is the node's default
    #[arg(long, value_name = "N", default_value_t = 0)]
    value_bytes: u32,
    /// In a cluster, keep names that begin with the same N components (ended by `/`) on one node; 0, where nothing is said, takes each name by itself, and a hierarchy keeps all but its two lowest levels apart
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=i64::from(LEVELS_MAX)))]
    levels: Option<u8>,
    /// Let names be of parts of a resource: a range of keys, `rows[10,20)`, or a predicate, `rows{dept=sales}`
    #[arg(long)]
    extents: bool,
    /// In a cluster, which node masters its names
    #[arg(long, value_enum, default_value = "spread")]
    mastering: MasteringArg,
    /// In a cluster, keep value blocks whoever dies: grants of writing modes, and what ends them, are told once the members have agreed on it
    #[arg(long)]
    persistent: bool,
    /// What is demanded of transactions
    #[arg(long, value_enum, default_value = "strict")]
    discipline: DisciplineArg,
    /// Its resources form a tree with levels of these names, such as database/table/page/row: `a/b` lies below `a`
    #[arg(long, value_name = "LEVELS")]
    hierarchy: Option<String>,
    /// With `--hierarchy`, where the many locks one owner has below a resource become one lock of it: off, auto (the next one above), or the name of a level
    #[arg(long, value_name = "WHERE", default_value = "off", requires = "hierarchy")]
    escalate: String,
    /// With `--escalate`: how many are many
    #[arg(long, value_name = "N", default_value_t = Escalate::AUTO.at, requires = "hierarchy")]
    escalate_at: u32,
    /// With `--escalate`: after how many more it is tried again, where it could not be done
    #[arg(long, value_name = "N", default_value_t = Escalate::AUTO.retry, requires = "hierarchy")]
    escalate_retry: u32,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Copy, Clone, Debug, ValueEnum)]
enum PolicyArg {
    /// As VMS: a compatible conversion overtakes whoever waits
    Vms,
    /// Bounded overtaking, priorities with ageing
    Fair,
}

#[derive(Copy, Clone, Debug, ValueEnum)]
enum DeadlockArg {
    /// Cycles are found and broken
    Detect,
    /// Waits end by their own deadline
    Timeout,
    /// What would wait is refused
    NoWait,
    /// A transaction waits for younger ones only; where it would wait for an older one it is aborted
    WaitDie,
    /// A transaction waits for older ones only; younger ones in its way are aborted
    WoundWait,
}

#[derive(Copy, Clone, Debug, ValueEnum)]
enum DisciplineArg {
    /// Locks are released at the end of the transaction, and not before
    Strict,
    /// Nothing is acquired after the first release
    TwoPhase,
    /// As strict, and in three steps: shared modes, update modes, then conversions to exclusive ones
    ThreePhase,
    /// Locks come and go as the program likes
    Free,
}

#[derive(Copy, Clone, Debug, ValueEnum)]
enum MasteringArg {
    /// Any: names are spread evenly
    Spread,
    /// The one whose clients use them most: what a node uses more than all others together moves there
    Affinity,
}

#[derive(Copy, Clone, Debug, ValueEnum)]
enum VictimArg {
    /// Whose waiting closed the cycle; where transactions are in it the youngest
    Requester,
    /// The youngest transaction, and before all those who is in none and began to wait last
    Youngest,
    /// Who has the fewest locks
    FewestLocks,
    /// Who has the lowest priority
    LowestPriority,
}

#[derive(Debug, clap::Args)]
struct LsArgs {
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, clap::Args)]
struct ShowArgs {
    /// Its name
    name: String,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, clap::Args)]
struct DropArgs {
    /// Its name
    name: String,
    /// Also if locks are held: their holders are told that they lost them
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Outcome {
    match &args.verb {
        Verb::Create(args) => runtime::run(create(args)),
        Verb::Ls(args) => runtime::run(ls(args)),
        Verb::Show(args) => runtime::run(show(args)),
        Verb::Drop(args) => runtime::run(remove(args)),
    }
}

async fn create(args: &CreateArgs) -> Outcome {
    let spec = args.spec().map_err(|why| Exit::Usage.because(why))?;
    let client = connect(&args.connect).await?;
    let created = client.create_space(spec.clone()).await;
    created.map_err(|error| explain(error, &About::Space(&args.name)))?;
    args.output.print(|| json::space(&spec), || format!("lockspace {} created", args.name))?;
    Ok(Exit::Success)
}

async fn ls(args: &LsArgs) -> Outcome {
    let client = connect(&args.connect).await?;
    let spaces = client.spaces().await.map_err(|error| explain(error, &About::Service))?;
    args.output.print(
        || spaces.iter().map(|(_, spec)| json::space(spec)).collect(),
        || {
            let mut table = Table::new(&COLUMNS);
            for (_, spec) in &spaces {
                table.row(row(spec).to_vec());
            }
            table.text()
        },
    )?;
    Ok(Exit::Success)
}

async fn show(args: &ShowArgs) -> Outcome {
    let client = connect(&args.connect).await?;
    let space = space(&client, &args.name).await?;
    let spaces = client.spaces().await.map_err(|error| explain(error, &About::Service))?;
    let Some((_, spec)) = spaces.into_iter().find(|(id, _)| *id == space.id()) else {
        return Err(Exit::Usage.because(format!("lockspace {:?} was dropped just now", args.name)));
    };
    let mut spec = spec;
    spec.value_bytes = space.value_bytes();
    args.output.print(
        || {
            let mut shown = json::space(&spec);
            shown["relation"] = relation(space.modes());
            shown
        },
        || {
            let cells = row(&spec);
            let heads = [
                "lockspace",
                "modes",
                "policy",
                "deadlock",
                "victim",
                "value bytes",
                "levels",
                "extents",
                "mastering",
                "persistent",
                "discipline",
                "hierarchy",
            ];
            let facts: String = heads.iter().zip(cells).map(|(head, cell)| format!("{head:12} {cell}\n")).collect();
            let intents = if spec.hierarchy.is_some() { intents(space.modes()) } else { String::new() };
            let matrix = matrix(space.modes());
            format!("{facts}\nMay the mode on the left be granted beside the one above?\n\n{matrix}{intents}")
        },
    )?;
    Ok(Exit::Success)
}

async fn remove(args: &DropArgs) -> Outcome {
    let client = connect(&args.connect).await?;
    let dropped = client.drop_space(&args.name, args.force).await;
    dropped.map_err(|error| explain(error, &About::Space(&args.name)))?;
    let name = &args.name;
    args.output.print(|| json!({ "lockspace": name, "dropped": true }), || format!("lockspace {name} dropped"))?;
    Ok(Exit::Success)
}

impl CreateArgs {
    fn spec(&self) -> Result<SpaceSpec, String> {
        let hierarchy = self.hierarchy.as_deref().map(|levels| self.tree(levels)).transpose()?;
        // [HIER-1]
        let levels = self.levels.unwrap_or_else(|| hierarchy.as_ref().map_or(0, Hierarchy::slot_levels));
        Ok(SpaceSpec {
            name: self.name.clone(),
            modes: ModeChoice::BuiltIn(self.modes.clone()),
            policy: match self.policy {
                PolicyArg::Vms => QueuePolicy::Vms,
                PolicyArg::Fair => QueuePolicy::Fair { overtakes: self.overtakes, ageing: Span::from(self.ageing) },
            },
            deadlock: match self.deadlock {
                DeadlockArg::Detect => DeadlockPolicy::Detect,
                DeadlockArg::Timeout => DeadlockPolicy::Timeout,
                DeadlockArg::NoWait => DeadlockPolicy::NoWait,
                DeadlockArg::WaitDie => DeadlockPolicy::WaitDie,
                DeadlockArg::WoundWait => DeadlockPolicy::WoundWait,
            },
            victim: match self.victim {
                VictimArg::Requester => VictimPolicy::Requester,
                VictimArg::Youngest => VictimPolicy::Youngest,
                VictimArg::FewestLocks => VictimPolicy::FewestLocks,
                VictimArg::LowestPriority => VictimPolicy::LowestPriority,
            },
            value_bytes: self.value_bytes,
            levels,
            extents: self.extents,
            mastering: match self.mastering {
                MasteringArg::Spread => Mastering::Spread,
                MasteringArg::Affinity => Mastering::Affinity,
            },
            persistent: self.persistent,
            discipline: match self.discipline {
                DisciplineArg::Strict => Discipline::Strict,
                DisciplineArg::TwoPhase => Discipline::TwoPhase,
                DisciplineArg::ThreePhase => Discipline::ThreePhase,
                DisciplineArg::Free => Discipline::Free,
            },
            hierarchy: hierarchy.map(Box::new),
        })
    }

    fn tree(&self, levels: &str) -> Result<Hierarchy, String> {
        let mut tree = Hierarchy { levels: Hierarchy::parse_levels(levels), escalation: Escalation::Off };
        let escalation = tree.escalation_of(&self.escalate, self.escalate_at, self.escalate_retry);
        tree.escalation = escalation.map_err(|error| format!("--escalate {}: {error}", self.escalate))?;
        // Of a table in the node's configuration the node says it.
        let checked = built_in(&self.modes).map_or(Ok(()), |modes| tree.check(&modes));
        checked.map_err(|error| format!("--hierarchy {levels}: {error}"))?;
        Ok(tree)
    }
}

/// The columns of `lockspace ls`; `>`: numbers.
const COLUMNS: [&str; 12] = [
    "LOCKSPACE",
    "MODES",
    "POLICY",
    "DEADLOCK",
    "VICTIM",
    ">VALUE BYTES",
    ">LEVELS",
    "EXTENTS",
    "MASTERING",
    "PERSISTENT",
    "DISCIPLINE",
    "HIERARCHY",
];

fn row(spec: &SpaceSpec) -> [String; COLUMNS.len()] {
    let policy = match spec.policy {
        QueuePolicy::Vms => "vms".to_owned(),
        QueuePolicy::Fair { overtakes, ageing } => {
            format!("fair overtakes={overtakes} ageing={}", crate::output::text::span(ageing))
        }
    };
    let value_bytes = if spec.value_bytes == 0 { "node's".to_owned() } else { spec.value_bytes.to_string() };
    [
        spec.name.clone(),
        json::modes_name(&spec.modes).to_owned(),
        policy,
        json::deadlock_policy(spec.deadlock).to_owned(),
        json::victim_policy(spec.victim).to_owned(),
        value_bytes,
        spec.levels.to_string(),
        if spec.extents { "yes" } else { "no" }.to_owned(),
        json::mastering(spec.mastering).to_owned(),
        if spec.persistent { "yes" } else { "no" }.to_owned(),
        spec.discipline.word().to_owned(),
        spec.hierarchy.as_ref().map_or_else(|| "-".to_owned(), |tree| tree_text(tree)),
    ]
}

fn tree_text(tree: &Hierarchy) -> String {
    let levels = tree.levels.join("/");
    match tree.escalation {
        Escalation::Off => levels,
        Escalation::To(Escalate { at, retry, .. }) => {
            format!("{levels} escalate={} at={at} retry={retry}", tree.escalate_word())
        }
    }
}

/// `{"EX": {"PR": "-", ...}, ...}`: requested, then held.
fn relation(modes: &ModeTable) -> Value {
    let sign = |requested, held| sign(modes, requested, held);
    let row = |requested| {
        let cells = modes.modes().map(|held| (modes.mode_name(held).to_owned(), sign(requested, held).into()));
        Value::Object(cells.collect())
    };
    Value::Object(modes.modes().map(|requested| (modes.mode_name(requested).to_owned(), row(requested))).collect())
}

fn matrix(modes: &ModeTable) -> String {
    let names: Vec<&str> = modes.modes().map(|mode| modes.mode_name(mode)).collect();
    let wide = names.iter().map(|name| name.len()).max().unwrap_or(0);
    let mut text = format!("{:wide$}", "");
    for name in &names {
        text.push_str(&format!("  {name}"));
    }
    text.push('\n');
    for requested in modes.modes() {
        text.push_str(&format!("{:wide$}", modes.mode_name(requested)));
        for (held, name) in modes.modes().zip(&names) {
            text.push_str(&format!("  {:width$}", sign(modes, requested, held), width = name.len()));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

/// What is held above while something is locked below, a line for each intent.
fn intents(modes: &ModeTable) -> String {
    let name = |mode| modes.mode_name(mode);
    let mut text =
        "\nWhat is above is held in the mode on the left while something below is locked in one of these:\n\n"
            .to_owned();
    for above in modes.modes() {
        let below: Vec<&str> = modes.modes().filter(|mode| modes.intent(*mode) == Some(above)).map(name).collect();
        if !below.is_empty() {
            text.push_str(&format!("{}  {}\n", name(above), below.join(" ")));
        }
    }
    text
}

fn sign(modes: &ModeTable, requested: lockstead::Mode, held: lockstead::Mode) -> &'static str {
    if modes.illegal_with(requested).contains(held) {
        "!"
    } else if modes.compatible(requested, held) {
        "+"
    } else {
        "-"
    }
}
