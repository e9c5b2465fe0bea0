//! `lockstead status`.

use lockstead_types::{Span, report::NodeStatus};

use super::{failed, last_known::connect_or_show};
use crate::{
    args::ConnectArgs,
    exit::{Exit, Outcome},
    output::{OutputArgs, json, text},
    runtime,
};

/// Options of `lockstead status`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Show what a node says of itself: its epoch, what it holds, its counters since the start. A member of a cluster says \
                 who leads, for how long it may act without hearing from that one, and how many of its slots are in recovery. One that has no \
                 majority shows the members as it last knew them, as `lockstead cluster status` does.",
    after_long_help = "With -o json an object {\"node\", \"epoch\", \"version\", \"uptime_ms\", \"frozen_for_ms\", \
                       \"sessions\", \"groups\", \"lockspaces\", \"resources\", \"granted\", \"converting\", \"waiting\", \
                       \"orphans\", \"token\", \"counters\": {NAME: NUMBER}, \"member\": null or {\"incarnation\", \"members\", \
                       \"up\", \"leader\", \"authority_ms\", \"slots\", \"recovering\", \"recovering_for_ms\"}}."
)]
pub(crate) struct Args {
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Outcome {
    runtime::run(status(args))
}

async fn status(args: &Args) -> Outcome {
    let client = connect_or_show(&args.connect, &args.output).await?;
    let status = client.status().await.map_err(failed)?;
    args.output.print(|| json::status(&status), || page(&status))?;
    Ok(Exit::Success)
}

/// `open`, or for how long it takes back only locks of before its restart.
pub(super) fn state(status: &NodeStatus) -> String {
    if status.frozen_for == Span::ZERO {
        return "open".to_owned();
    }
    format!("restarted: takes back locks of before for {} at most", text::span(status.frozen_for))
}

fn page(status: &NodeStatus) -> String {
    let mut page = String::new();
    let mut fact = |name: &str, value: &dyn core::fmt::Display| page.push_str(&format!("{name:12} {value}\n"));
    fact("node", &status.node.0);
    fact("state", &state(status));
    fact("version", &text::line(&status.version));
    fact("epoch", &status.epoch);
    if let Some(member) = &status.member {
        let leader = member.leader.map_or_else(|| "not heard of".to_owned(), |leader| leader.0.to_string());
        let recovering = match member.recovering {
            0 => "none".to_owned(),
            slots => format!("{slots}, since {}", text::span(member.recovering_for)),
        };
        fact("incarnation", &member.incarnation);
        fact("members", &format!("{} of {} up", member.up, member.members));
        fact("leader", &leader);
        fact("authority", &text::span(member.authority));
        fact("slots", &member.slots);
        fact("recovering", &recovering);
    }
    fact("uptime", &text::span(status.uptime));
    fact("sessions", &status.sessions);
    fact("groups", &status.groups);
    fact("lockspaces", &status.spaces);
    fact("resources", &status.resources);
    fact("granted", &status.granted);
    fact("converting", &status.converting);
    fact("waiting", &status.waiting);
    fact("orphans", &status.orphans);
    fact("token", &status.token);
    // Most kinds of request and refusal never come: their zeros would hide the rest.
    let counted: Vec<_> = status.counters.iter().filter(|(_, count)| *count != 0).collect();
    if !counted.is_empty() {
        page.push_str("\nsince the start, what is not 0\n");
    }
    let wide = counted.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, count) in counted {
        page.push_str(&format!("{:wide$}  {count}\n", text::line(name)));
    }
    page
}
