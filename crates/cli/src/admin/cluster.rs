//! `lockstead cluster init|status|join|leave|remove|weight|pin|unpin|force-quorum`.

use std::path::PathBuf;

use clap::Subcommand;
use lockstead::Client;
use lockstead_types::{
    NodeId, Refusal, Slot,
    request::{MemberOrder, SlotRef},
};

use super::init;
use crate::{
    args::{ConnectArgs, Name, ReasonArgs, SpaceArgs},
    connect::{About, connect, explain, space},
    exit::{Exit, Failure, Outcome},
    look::{
        last_known::connect_or_show,
        members::{self, Known},
    },
    output::OutputArgs,
    runtime,
};

/// Options of `lockstead cluster`.
#[derive(Debug, clap::Args)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    long_about = "Form a cluster, look at its members, change who they are.\n\nA cluster is formed by its first members, which are \
                  started with the same --seats; `init` prints how. Whoever is a member is agreed on by the members, so `join`, \
                  `leave` and `remove` may be asked of any of them, and need a majority.",
    after_long_help = "Examples:\n  lockstead cluster init 10.0.0.1:7600 10.0.0.2:7600 10.0.0.3:7600\n  \
                       lockstead cluster status\n  \
                       lockstead cluster leave 3 --reason 'new disks'\n  \
                       lockstead cluster remove 3 --reason 'new disks'    # once it has no slots, was stopped, and is shown down\n\n\
                       A node that stops for a while need not leave: SIGTERM hands its slots over, and it comes back by itself."
)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print how to start the first members of a new cluster; changes nothing
    Init(init::Args),
    /// Show the members, as the node that answers knows them
    Status(StatusArgs),
    /// Let a node in; the waiting node's log says with what
    Join(JoinArgs),
    /// Have a member give its slots to the others; it stays a member and serves its clients
    Leave(MemberArgs),
    /// Forget a member that is down
    Remove(MemberArgs),
    /// Give a member another share of the slots
    Weight(WeightArgs),
    /// Have a member master a slot whenever it is up
    Pin(PinArgs),
    /// Let a slot go where an even spread says again
    Unpin(UnpinArgs),
    /// Make a stopped survivor the only voter, after a majority was lost for good
    ForceQuorum(ForceArgs),
}

#[derive(Debug, clap::Args)]
#[command(
    long_about = "Show the members, as the node that answers knows them.\n\nWhere no node that answers has a majority, the members as one of \
                  them last knew them are shown, with a line that says so, and the status is 69.",
    after_long_help = "With -o json an array of {\"node\", \"state\", \"current\", \"incarnation\", \"weight\", \"slots\", \"pinned\": \
                       [SLOT, ...], \"used\", \"sessions\", \"identity\", \"peer\", \"client\"}; state is up, draining or down; current \
                       is false where no majority stands behind it; `used` counts slots that came because the node uses them."
)]
struct StatusArgs {
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, clap::Args)]
struct JoinArgs {
    /// Its number
    #[arg(value_parser = node)]
    node: NodeId,
    /// The identity of its data, as it says itself while it waits
    #[arg(long, value_name = "HEX", value_parser = identity)]
    identity: u128,
    /// Where other nodes reach it; the node there is asked who it is, where it can be reached from here
    #[arg(long, value_name = "HOST:PORT")]
    peer: String,
    /// Do not ask it: from here that address is another node's
    #[arg(long)]
    unchecked: bool,
    /// Where clients reach it
    #[arg(long, value_name = "HOST:PORT")]
    client: String,
    /// Its share of the slots against others; 0 for a witness, which votes and masters nothing
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    weight: u32,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", default_value = "join", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    reason: String,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, clap::Args)]
struct MemberArgs {
    /// Its number
    #[arg(value_parser = node)]
    node: NodeId,
    #[command(flatten)]
    why: ReasonArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, clap::Args)]
#[command(
    after_long_help = "Slots move within seconds, as few as will do; `lockstead cluster status` shows how many each has."
)]
struct WeightArgs {
    /// Its number
    #[arg(value_parser = node)]
    node: NodeId,
    /// Its share of the slots against others
    #[arg(value_name = "N", value_parser = weight)]
    weight: u32,
    #[command(flatten)]
    why: ReasonArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, clap::Args)]
#[command(
    long_about = "Have a member master a slot whenever it is up.\n\nWhile it is down others master it; it comes back with its member. \
                  A slot holds many names: whatever else falls into it moves as well. `lockstead cluster status` lists \
                  what is pinned.",
    after_long_help = "Examples:\n  lockstead cluster pin 2 orders --reason 'its writers are there'\n  \
                       lockstead cluster pin 2 --slot 1646 --reason test"
)]
struct PinArgs {
    /// The member's number
    #[arg(value_parser = node)]
    node: NodeId,
    #[command(flatten)]
    which: SlotArgs,
    #[command(flatten)]
    why: ReasonArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, clap::Args)]
struct UnpinArgs {
    #[command(flatten)]
    which: SlotArgs,
    #[command(flatten)]
    why: ReasonArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// A slot, by its number or by a name that falls into it.
#[derive(Debug, clap::Args)]
struct SlotArgs {
    /// A name whose slot it is; %XX is any byte
    #[arg(value_parser = crate::args::name, required_unless_present = "slot", conflicts_with = "slot")]
    name: Option<Name>,
    /// The slot's number, as `lockstead show` tells
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..4_096))]
    slot: Option<u16>,
    #[command(flatten)]
    space: SpaceArgs,
}

#[derive(Debug, clap::Args)]
#[command(
    long_about = "Make a stopped survivor the only voter, after a majority was lost for good.\n\nOnly with the lost nodes fenced: \
                  powered off, or their disks gone. Should they live and reach each other there are two clusters, and locks are \
                  held twice. What only the lost nodes had agreed on is gone. The epoch jumps by 65,536, so tokens go on \
                  rising.\n\nStop the survivors. Of several, run this at the one with the greatest term and index, which is \
                  printed before anything is asked; give the others with --survivor. Then start it again, then the others.",
    after_long_help = "Example:\n  lockstead cluster force-quorum --data /var/lib/lockstead --node 1 --survivor 2 \\\n    \
                       --lost-nodes-are-fenced --reason 'fire in hall B'\n\nWithout --lost-nodes-are-fenced it only prints what \
                       the data directory holds."
)]
struct ForceArgs {
    /// The data directory of the stopped survivor
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Its number
    #[arg(long, value_name = "N", value_parser = node)]
    node: NodeId,
    /// Another survivor, which follows it; may be given again
    #[arg(long, value_name = "N", value_parser = node)]
    survivor: Vec<NodeId>,
    /// Say that the lost nodes cannot come back
    #[arg(long, requires = "reason")]
    lost_nodes_are_fenced: bool,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    reason: Option<String>,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Outcome {
    match &args.verb {
        Verb::Init(args) => init::run(args),
        Verb::Status(args) => runtime::run(status(args)),
        Verb::Join(args) => {
            if !args.unchecked {
                check_who(args)?;
            }
            let what = MemberOrder::Admit {
                node: args.node,
                identity: args.identity,
                peer_address: args.peer.clone(),
                client_address: args.client.clone(),
                weight: args.weight,
            };
            let done = format!("node {} is a member; it starts by itself within a second", args.node.0);
            runtime::run(order(&args.connect, &about(args.node), what, &args.reason, done))
        }
        Verb::Leave(args) => {
            let done = format!(
                "node {} gives up its slots; `lockstead cluster status` shows how many it has left",
                args.node.0
            );
            runtime::run(order(&args.connect, &about(args.node), MemberOrder::Drain(args.node), &args.why.reason, done))
        }
        Verb::Remove(args) => {
            let done = format!("node {} is no member any more", args.node.0);
            runtime::run(order(
                &args.connect,
                &about(args.node),
                MemberOrder::Remove(args.node),
                &args.why.reason,
                done,
            ))
        }
        Verb::Weight(args) => {
            let what = MemberOrder::Weigh { node: args.node, weight: args.weight };
            let done = format!("node {} has the weight {}", args.node.0, args.weight);
            runtime::run(order(&args.connect, &about(args.node), what, &args.why.reason, done))
        }
        Verb::Pin(args) => runtime::run(pin(args)),
        Verb::Unpin(args) => runtime::run(unpin(args)),
        Verb::ForceQuorum(args) => force_quorum(args),
    }
}

/// Asks the node that is to be let in who it is. One that cannot be reached from here may well be by the members.
fn check_who(args: &JoinArgs) -> Result<(), Failure> {
    let Ok(who) = lockstead_server::who_is(&args.peer) else { return Ok(()) };
    if (who.node, who.identity) == (args.node, args.identity) {
        return Ok(());
    }
    Err(Exit::NotObtained(1).because(format!(
        "node {}: not let in: at {} there is node {} with --identity {:032x}\n  Copy the command from the log of the node that waits, or \
         give --unchecked where that address is another node's from here.",
        args.node.0, args.peer, who.node.0, who.identity
    )))
}

async fn status(args: &StatusArgs) -> Outcome {
    let client = connect_or_show(&args.connect, &args.output).await?;
    let members = client.members().await.map_err(|error| explain(error, &About::Service))?;
    if members.is_empty() {
        return Err(Exit::NotObtained(1).because("the node that answers is alone: it is no member of a cluster"));
    }
    members::print(&args.output, &members, &Known::Now)
}

async fn pin(args: &PinArgs) -> Outcome {
    let client = connect(&args.connect).await?;
    let what = MemberOrder::Pin { slot: slot(&client, &args.which).await?, node: args.node };
    let done = format!("{} belongs to node {}", args.which.words(), args.node.0);
    order_by(&client, &about(args.node), what, &args.why.reason, done).await
}

async fn unpin(args: &UnpinArgs) -> Outcome {
    let client = connect(&args.connect).await?;
    let what = MemberOrder::Unpin(slot(&client, &args.which).await?);
    let words = args.which.words();
    let done = format!("{words} is not pinned any more");
    order_by(&client, &words, what, &args.why.reason, done).await
}

async fn slot(client: &Client, which: &SlotArgs) -> Result<SlotRef, Failure> {
    match (&which.name, which.slot) {
        (Some(name), _) => {
            let space = space(client, &which.space.space).await?.id();
            Ok(SlotRef::Name { space, name: name.0.as_slice().into() })
        }
        (None, number) => Ok(SlotRef::Number(Slot(number.unwrap_or_default()))),
    }
}

impl SlotArgs {
    fn words(&self) -> String {
        match (&self.name, self.slot) {
            (Some(name), _) => format!("the slot of {name}"),
            (None, number) => format!("slot {}", number.unwrap_or_default()),
        }
    }
}

fn about(node: NodeId) -> String {
    format!("node {}", node.0)
}

async fn order(connect_to: &ConnectArgs, about: &str, what: MemberOrder, reason: &str, done: String) -> Outcome {
    order_by(&connect(connect_to).await?, about, what, reason, done).await
}

async fn order_by(client: &Client, about: &str, what: MemberOrder, reason: &str, done: String) -> Outcome {
    let refused = refused(&what);
    let (absent, invalid) = match &what {
        MemberOrder::Unpin(_) => ("not pinned", "there is no such slot"),
        MemberOrder::Weigh { .. } | MemberOrder::Pin { .. } => ("no member", "it is a witness"),
        _ => ("no member", "it is down"),
    };
    client.order_cluster(what, reason).await.map_err(|error| match error.refusal() {
        Some(Refusal::NotHeld) => {
            Exit::NotObtained(1).because(format!("{about} is {absent}; `lockstead cluster status` lists them"))
        }
        Some(Refusal::Exists | Refusal::Busy) => Exit::NotObtained(1).because(format!("{about}: {refused}")),
        Some(Refusal::Invalid) => Exit::NotObtained(1)
            .because(format!("{about}: refused: {invalid}, or the node that answers is no member of a cluster")),
        _ => explain(error, &About::Service),
    })?;
    crate::output::write_out(&format!("{done}\n"))?;
    Ok(Exit::Success)
}

/// What it means that an order is refused though it makes sense.
fn refused(what: &MemberOrder) -> &'static str {
    match what {
        MemberOrder::Admit { .. } => "a member of that number is up; it can be let in again only while it is down",
        MemberOrder::Drain(_) => "no other node could take its slots",
        MemberOrder::Remove(_) => {
            "it is up, or slots are still its own; stop it first, and wait until `lockstead cluster status` shows it down"
        }
        MemberOrder::Pin { .. } | MemberOrder::Unpin(_) | MemberOrder::Weigh { .. } => "it is busy",
    }
}

fn force_quorum(args: &ForceArgs) -> Outcome {
    use lockstead_server::rescue;

    let wrong = |error: rescue::RescueError| Exit::Failed.because(error.to_string());
    let found = rescue::look(&args.data, args.node).map_err(wrong)?;
    crate::output::write_out(&format!(
        "{}: term {} index {} voters {} followers {}\n",
        args.data.display(),
        found.term,
        found.index,
        numbers(found.voters.iter()),
        numbers(found.learners.iter()),
    ))?;
    let (true, Some(reason)) = (args.lost_nodes_are_fenced, &args.reason) else {
        return Err(Exit::Usage.because(
            "nothing was changed; with the lost nodes fenced, add --lost-nodes-are-fenced and --reason TEXT",
        ));
    };
    rescue::force_quorum(&args.data, args.node, &args.survivor, reason).map_err(wrong)?;
    crate::output::write_out(&format!("node {} is the only voter; start it, then the other survivors\n", args.node.0))?;
    Ok(Exit::Success)
}

fn numbers<'a>(nodes: impl Iterator<Item = &'a NodeId>) -> String {
    let all: Vec<String> = nodes.map(|node| node.0.to_string()).collect();
    if all.is_empty() { "-".to_owned() } else { all.join(",") }
}

fn node(text: &str) -> Result<NodeId, String> {
    text.parse().ok().filter(|n| *n > 0).map(NodeId).ok_or_else(|| "nodes are numbered from 1 to 65535".to_owned())
}

/// A weight that a member can be given while it runs.
fn weight(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(0) => {
            Err("a node of weight 0 is a witness, which it is from its start on; one that masters slots becomes none. \
                      `lockstead cluster leave` has it give its slots to the others"
                .to_owned())
        }
        Ok(weight @ 1..=1_000) => Ok(weight),
        _ => Err("weights go from 1 to 1000".to_owned()),
    }
}

fn identity(text: &str) -> Result<u128, String> {
    u128::from_str_radix(text, 16).map_err(|_| "an identity is hexadecimal, up to 32 digits".to_owned())
}
