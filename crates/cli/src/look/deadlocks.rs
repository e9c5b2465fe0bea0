//! `lockstead deadlocks`.

use std::collections::BTreeSet;

use lockstead_types::report::{DeadlockReport, Deadlocks, VictimReason, WaitEdge};
use serde_json::json;

use super::{failed, spaces::Spaces};
use crate::{
    args::ConnectArgs,
    connect::connect,
    exit::{Exit, Outcome},
    output::{self, OutputArgs, json, text},
    runtime,
};

/// Options of `lockstead deadlocks`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Show the deadlocks a node remembers, oldest first: the cycle, the request that was refused to break it, and \
                  why that one.",
    after_long_help = "With -o json an object {\"deadlocks\": [...], \"left_out\": how many older ones an answer has no room \
                       for}. A deadlock is {\"number\", \"ago_ms\", \"victim\", \"why\": \"conversion\"|\"closed-cycle\"|\
                       \"youngest\"|\"fewest-locks\"|\"lowest-priority\", \"cycle\": [...], \"left_out\": how many more \
                       edges the cycle has, \"order\": names to be locked in this order by all, for there to be none}; an edge is {\"lockspace\", \"name\", \"hard\", \"waiter\", \"blocker\"} as in \
                       `lockstead tree`."
)]
pub(crate) struct Args {
    /// Draw them for Graphviz: `lockstead deadlocks --dot | dot -Tsvg`
    #[arg(long, conflicts_with = "output")]
    dot: bool,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Outcome {
    runtime::run(deadlocks(args))
}

async fn deadlocks(args: &Args) -> Outcome {
    let client = connect(&args.connect).await?;
    let found = client.deadlocks().await.map_err(failed)?;
    let spaces = Spaces::load(&client).await?;
    if args.dot {
        output::write_out(&dot(&found, &spaces))?;
        return Ok(Exit::Success);
    }
    let edge = |edge: &WaitEdge| json::edge(edge, spaces.name(edge.space), spaces.modes(edge.space));
    let one = |report: &DeadlockReport| {
        let edges = report.cycle.iter().map(edge).collect::<Vec<_>>();
        json::deadlock(report, &edges, word(report.why), &order(report, &spaces))
    };
    let json = || json!({ "deadlocks": found.reports.iter().map(one).collect::<Vec<_>>(), "left_out": found.left_out });
    args.output.print(json, || pictures(&found, &spaces))?;
    Ok(Exit::Success)
}

fn pictures(found: &Deadlocks, spaces: &Spaces) -> String {
    if found.reports.is_empty() {
        return "no deadlock since the node started".to_owned();
    }
    // They would stand before the first one shown.
    let older = (found.left_out > 0).then(|| text::not_shown(found.left_out.into(), "before these"));
    let pictures = found.reports.iter().map(|report| picture(report, spaces));
    older.into_iter().chain(pictures).collect::<Vec<_>>().join("\n")
}

fn picture(report: &DeadlockReport, spaces: &Spaces) -> String {
    let mut picture = format!("deadlock {}, {} ago\n", report.number, text::span(report.ago));
    let next = report.cycle.iter().cycle().skip(1);
    for ((at, edge), next) in report.cycle.iter().enumerate().zip(next) {
        let modes = spaces.modes(edge.space);
        let victim = if victim_of(report) == Some(at) { "  <- refused" } else { "" };
        picture.push_str(&format!("  {}\n", text::who(&edge.waiter.holder)));
        picture.push_str(&format!(
            "    wants {} of {}{victim}\n",
            text::held_and_wanted(&edge.waiter, modes),
            spaces.resource(edge.space, &edge.name),
        ));
        let how = if edge.hard { "held as" } else { "asked for earlier as" };
        picture.push_str(&format!(
            "    {how} {}{} by {}\n",
            text::maybe_claim(if edge.hard { edge.blocker.held } else { edge.blocker.wanted }, modes),
            text::part(&edge.blocker),
            text::who(&edge.blocker.holder),
        ));
        // The next in the cycle is whoever this one waits for: itself, or a session within it.
        if edge.blocker.holder.session != next.waiter.holder.session {
            picture.push_str("    which ends only after what runs within it\n");
        }
    }
    if report.left_out > 0 {
        picture.push_str(&format!("  {}", text::not_shown(report.left_out.into(), "edges of the cycle")));
    }
    picture.push_str(&format!("  why that one: {}\n", reason(report.why)));
    let order = order(report, spaces);
    if order.len() > 1 {
        picture.push_str(&format!("  not if all lock in one order, as: {}\n", order.join(", ")));
    }
    picture
}

/// The edge that was broken. Locks of other nodes may have the same id: such a report begins with its victim.
fn victim_of(report: &DeadlockReport) -> Option<usize> {
    report.cycle.iter().position(|edge| edge.waiter.lock == report.victim)
}

/// The names of a cycle in an order: had all locked them so, there would have been none. Any order does; this is the one that needs no
/// agreement.
fn order(report: &DeadlockReport, spaces: &Spaces) -> Vec<String> {
    let names = report.cycle.iter().map(|edge| (spaces.name(edge.space), &edge.name)).collect::<BTreeSet<_>>();
    let names = names.into_iter().filter_map(|(_, name)| report.cycle.iter().find(|edge| edge.name == *name));
    names.map(|edge| spaces.resource(edge.space, &edge.name)).collect()
}

/// The cycles as a graph: who waits for whom, and for what.
fn dot(found: &Deadlocks, spaces: &Spaces) -> String {
    let mut graph = String::from("digraph deadlocks {\n  node [shape=box];\n");
    for report in &found.reports {
        graph.push_str(&format!("  subgraph cluster_{0} {{\n    label=\"deadlock {0}\";\n", report.number));
        for (at, edge) in report.cycle.iter().enumerate() {
            let owner = |n: usize| format!("d{}_{}", report.number, n % report.cycle.len());
            let refused = victim_of(report) == Some(at);
            let wants = text::held_and_wanted(&edge.waiter, spaces.modes(edge.space));
            let label = format!("{wants} of {}", spaces.resource(edge.space, &edge.name));
            let style = if edge.hard { "solid" } else { "dashed" };
            let colour = if refused { ", color=red" } else { "" };
            graph.push_str(&format!(
                "    {} [label={}{colour}];\n",
                owner(at),
                quoted(&text::who(&edge.waiter.holder))
            ));
            graph.push_str(&format!(
                "    {} -> {} [label={}, style={style}{colour}];\n",
                owner(at),
                owner(at + 1),
                quoted(&label)
            ));
        }
        graph.push_str("  }\n");
    }
    graph.push_str("}\n");
    graph
}

/// A text as Graphviz takes it.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn word(why: VictimReason) -> &'static str {
    match why {
        VictimReason::Conversion => "conversion",
        VictimReason::ClosedCycle => "closed-cycle",
        VictimReason::Youngest => "youngest",
        VictimReason::FewestLocks => "fewest-locks",
        VictimReason::LowestPriority => "lowest-priority",
    }
}

fn reason(why: VictimReason) -> &'static str {
    match why {
        VictimReason::Conversion => "two conversions of one resource wait for each other, and it came last",
        VictimReason::ClosedCycle => "its waiting closed the cycle",
        VictimReason::Youngest => "it began to wait last",
        VictimReason::FewestLocks => "its owner had the fewest locks",
        VictimReason::LowestPriority => "it had the lowest priority",
    }
}
