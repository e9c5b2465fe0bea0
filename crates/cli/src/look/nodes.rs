//! `lockstead nodes`.

use lockstead_types::report::NodeStatus;
use serde_json::json;

use super::{
    failed,
    last_known::connect_or_show,
    members::{self, Known},
    status::state,
};
use crate::{
    args::ConnectArgs,
    exit::{Exit, Outcome},
    output::{OutputArgs, table::Table, text},
    runtime,
};

/// Options of `lockstead nodes`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "List nodes: the members of the cluster as the node that answers knows them, or that node where it is \
                 alone. Where no node that answers has a majority, the members as one of them last knew them, with a line that says so, \
                 and status 69.",
    after_long_help = "With -o json, of a cluster, what `lockstead cluster status` prints; of a node alone an array of {\"node\", \
                       \"epoch\", \"version\", \"uptime_ms\", \"frozen_for_ms\", \"sessions\", \"resources\"}."
)]
pub(crate) struct Args {
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Outcome {
    runtime::run(nodes(args))
}

async fn nodes(args: &Args) -> Outcome {
    let client = connect_or_show(&args.connect, &args.output).await?;
    let members = client.members().await.map_err(failed)?;
    if !members.is_empty() {
        return members::print(&args.output, &members, &Known::Now);
    }
    let nodes = [client.status().await.map_err(failed)?];
    args.output.print(
        || {
            let row = |node: &NodeStatus| {
                json!({
                    "node": node.node.0, "epoch": node.epoch, "version": node.version,
                    "uptime_ms": node.uptime.as_millis(), "frozen_for_ms": node.frozen_for.as_millis(),
                    "sessions": node.sessions, "resources": node.resources,
                })
            };
            nodes.iter().map(row).collect()
        },
        || {
            let mut table = Table::new(&[">NODE", ">EPOCH", "VERSION", ">UPTIME", ">SESSIONS", ">RESOURCES", "STATE"]);
            for node in &nodes {
                table.row(vec![
                    node.node.0.to_string(),
                    node.epoch.to_string(),
                    text::line(&node.version),
                    text::span(node.uptime),
                    node.sessions.to_string(),
                    node.resources.to_string(),
                    state(node),
                ]);
            }
            table.text()
        },
    )?;
    Ok(Exit::Success)
}
