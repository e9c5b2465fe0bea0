//! `lockstead scn`.

use serde_json::json;

use super::failed;
use crate::{
    args::ConnectArgs,
    connect::connect,
    exit::{Exit, Outcome},
    output::OutputArgs,
    runtime,
};

/// Options of `lockstead scn`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Print the SCN, the cluster's logical clock. It is not below any token that any member gave before this was asked, and \
                  whatever the node that answers gives from now on is above it; it never goes back, whichever node is asked. \
                  On one node it is the newest token.",
    after_long_help = "With -o json an object {\"scn\": \"NUMBER\"}."
)]
pub(crate) struct Args {
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Outcome {
    runtime::run(scn(args))
}

async fn scn(args: &Args) -> Outcome {
    let client = connect(&args.connect).await?;
    let scn = client.scn().await.map_err(failed)?;
    args.output.print(|| json!({ "scn": scn.to_string() }), || scn.to_string())?;
    Ok(Exit::Success)
}
