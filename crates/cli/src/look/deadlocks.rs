//! `lockstead deadlocks`.

use lockstead_types::report::{DeadlockReport, VictimReason, WaitEdge};

use super::{failed, spaces::Spaces};
use crate::{
    args::ConnectArgs,
    connect::connect,
    exit::{Exit, Outcome},
    output::{OutputArgs, json, text},
    runtime,
};

/// Options of `lockstead deadlocks`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Show the deadlocks a node remembers, oldest first: the cycle, the request that was refused to break it, and \
                  why that one.",
    after_long_help = "With -o json an array of {\"number\", \"ago_ms\", \"victim\", \"why\": \"conversion\"|\"closed-cycle\"\
                       |\"youngest\"|\"fewest-locks\"|\"lowest-priority\", \"cycle\": [...]}; each edge of the cycle is \
                       {\"lockspace\", \"name\", \"hard\", \"waiter\", \"blocker\"} as in `lockstead tree`."
)]
pub(crate) struct Args {
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
    let reports = client.deadlocks().await.map_err(failed)?;
    let spaces = Spaces::load(&client).await?;
    let edge = |edge: &WaitEdge| json::edge(edge, spaces.name(edge.space), spaces.modes(edge.space));
    let one = |report: &DeadlockReport| {
        json::deadlock(report, &report.cycle.iter().map(edge).collect::<Vec<_>>(), word(report.why))
    };
    args.output.print(|| reports.iter().map(one).collect(), || pictures(&reports, &spaces))?;
    Ok(Exit::Success)
}

fn pictures(reports: &[DeadlockReport], spaces: &Spaces) -> String {
    if reports.is_empty() {
        return "no deadlock since the node started".to_owned();
    }
    reports.iter().map(|report| picture(report, spaces)).collect::<Vec<_>>().join("\n")
}

fn picture(report: &DeadlockReport, spaces: &Spaces) -> String {
    let mut picture = format!("deadlock {}, {} ago\n", report.number, text::span(report.ago));
    let next = report.cycle.iter().cycle().skip(1);
    for (edge, next) in report.cycle.iter().zip(next) {
        let modes = spaces.modes(edge.space);
        let victim = if edge.waiter.lock == report.victim { "  <- refused" } else { "" };
        picture.push_str(&format!("  {}\n", text::who(&edge.waiter.holder)));
        picture.push_str(&format!(
            "    wants {} of {}{victim}\n",
            text::held_and_wanted(&edge.waiter, modes),
            spaces.resource(edge.space, &edge.name),
        ));
        let how = if edge.hard { "held as" } else { "asked for earlier as" };
        picture.push_str(&format!(
            "    {how} {} by {}\n",
            text::maybe_claim(if edge.hard { edge.blocker.held } else { edge.blocker.wanted }, modes),
            text::who(&edge.blocker.holder),
        ));
        // The next in the cycle is whoever this one waits for: itself, or a session within it.
        if edge.blocker.holder.session != next.waiter.holder.session {
            picture.push_str("    which ends only after what runs within it\n");
        }
    }
    picture.push_str(&format!("  why that one: {}\n", reason(report.why)));
    picture
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
